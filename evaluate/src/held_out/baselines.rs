//! Baselines on the same text: general-purpose compressors, and a model of n-grams.
//!
//! A language model's loss is the code length of the text under an ideal coder, so the two are comparable (Language
//! Modeling Is Compression, 2024). The comparison does not clearly favour either: the model was trained on similar
//! text; a compressor starts from nothing but has the whole preceding text as context.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;
use tokenizer::shard::Split;

use crate::held_out::Excerpt;
use crate::held_out::ngram::{MAX_TEXT_TOKENS, NGramModel, ORDER};

/// Compression ratios of a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Baselines {
    /// Bits of `gzip -9` output per byte of text.
    pub(crate) gzip_9_bits_per_byte: f64,
    /// Bits of `zstd -19` output per byte of text.
    pub(crate) zstd_19_bits_per_byte: f64,
    /// A model of n-grams; none if it is turned off or the text is too long for it.
    pub(crate) n_gram: Option<NGram>,
}

/// A model of the n-grams of the train split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct NGram {
    /// The highest order.
    pub(crate) order: usize,
    /// The tokens of the train split that were counted.
    pub(crate) training_tokens: u64,
    /// The code length of the scored tokens in bits, per byte of text.
    pub(crate) bits_per_byte: f64,
}

impl Baselines {
    /// Compresses `text`, which must not be empty; there is no n-gram model yet.
    ///
    /// # Errors
    /// Returns an error if zstd cannot allocate memory.
    pub(crate) fn of(text: &str) -> io::Result<Self> {
        let bits_per_byte = |compressed: usize| 8.0 * compressed as f64 / text.len() as f64;
        Ok(Self {
            gzip_9_bits_per_byte: bits_per_byte(gzip_9_bytes(text.as_bytes())?),
            zstd_19_bits_per_byte: bits_per_byte(zstd_19_bytes(text.as_bytes())?),
            n_gram: None,
        })
    }
}

impl NGram {
    /// Counts the n-grams of the first `max_tokens` tokens of the train split and scores excerpts with them.
    pub(crate) fn of<const N: usize>(train: &Split, max_tokens: u64, excerpts: [&Excerpt; N]) -> [Option<Self>; N] {
        if max_tokens == 0 || excerpts.iter().any(|excerpt| excerpt.ids.len() > MAX_TEXT_TOKENS) {
            return [None; N];
        }
        let model = NGramModel::train(train, max_tokens, &excerpts.map(|excerpt| &excerpt.ids[..]));
        excerpts.map(|excerpt| {
            let mut scored = vec![false; excerpt.ids.len() - 1];
            excerpt.split.copy_scored(1, &mut scored);
            let scored = (1..excerpt.ids.len()).zip(scored).filter(|(_, is_scored)| *is_scored);
            let loss = |(at, _): (usize, bool)| model.loss_nats(&excerpt.ids[(at + 1).saturating_sub(ORDER)..=at]);
            let bits = scored.map(loss).sum::<f64>() / std::f64::consts::LN_2;
            Some(Self {
                order: ORDER,
                training_tokens: max_tokens.min(train.len() as u64),
                bits_per_byte: bits / excerpt.text.len() as f64,
            })
        })
    }
}

/// Returns the length of `gzip -9`'s output to within a percent: flate2's encoder is not GNU's.
fn gzip_9_bytes(text: &[u8]) -> io::Result<usize> {
    let mut encoder = flate2::write::GzEncoder::new(Counter(0), flate2::Compression::best());
    encoder.write_all(text)?;
    Ok(encoder.finish()?.0)
}

/// Returns the length of `zstd -19`'s output: the same library, with the content size and checksum that the command
/// writes.
fn zstd_19_bytes(text: &[u8]) -> io::Result<usize> {
    let mut encoder = zstd::Encoder::new(Counter(0), 19)?;
    encoder.set_pledged_src_size(Some(text.len() as u64))?;
    encoder.include_contentsize(true)?;
    encoder.include_checksum(true)?;
    encoder.write_all(text)?;
    Ok(encoder.finish()?.0)
}

/// Counts the bytes written to it.
struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Returns pseudo-random words of a small vocabulary, the same on every platform.
    fn sentences(words: usize) -> String {
        let vocabulary = ["let", "mut", "x", "=", "Vec::new();\n", "for", "in", "0..n", "{", "}\n", "self.push(", ")"];
        let mut state: u32 = 1;
        let mut text = String::new();
        for _ in 0..words {
            // The generator of Numerical Recipes; only its top bits are random enough.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text += vocabulary[(state >> 16) as usize % vocabulary.len()];
            text.push(' ');
        }
        text
    }

    #[test]
    fn sizes_match_the_commands() {
        // Measured with the text of `sentences(20_000)` in a file:
        //     gzip -9 < text | wc -c        (GNU gzip 1.12)
        //     zstd -19 -q -c text | wc -c   (zstd 1.5.4)
        let text = sentences(20_000);
        let (gzip, zstd) = (15_068, 14_005);
        let found = gzip_9_bytes(text.as_bytes()).unwrap();
        assert!(found.abs_diff(gzip) * 100 < gzip, "{found} is more than a percent from {gzip}");
        let found = zstd_19_bytes(text.as_bytes()).unwrap();
        assert!(found.abs_diff(zstd) * 1000 < zstd, "{found} is more than a thousandth from {zstd}");
        let baselines = Baselines::of(&text).unwrap();
        let expected = 8.0 * found as f64 / text.len() as f64;
        assert!((baselines.zstd_19_bits_per_byte - expected).abs() < 1e-12);
    }

    #[test]
    fn counted_bytes_are_a_valid_file() {
        let text = sentences(1000);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text.as_bytes()).unwrap();
        let file = encoder.finish().unwrap();
        assert_eq!(file.len(), gzip_9_bytes(text.as_bytes()).unwrap());
        let mut read = String::new();
        flate2::read::GzDecoder::new(&file[..]).read_to_string(&mut read).unwrap();
        assert_eq!(read, text);
        // The same frame without the four bytes of the checksum.
        let frame = zstd::bulk::compress(text.as_bytes(), 19).unwrap();
        assert_eq!(frame.len() + 4, zstd_19_bytes(text.as_bytes()).unwrap());
    }
}
