//! A reference model: how it predicts the same texts as the bundle.
//!
//! The two may have different tokenizers, so their bits per byte are compared, not their losses per token. Each
//! held-out document stands alone, as it does for a model that never saw how the split joins documents; the headline
//! figures of the report are of the split as it is, which also has the ends of documents to predict.

use artifact::{Context, Digest, Sealed};
use model::{Family, checkpoint, hub_layout};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Error;
use crate::held_out::Excerpt;
use crate::intervals::{self, Interval};
use crate::samples::Samples;
use crate::tasks::{LocalModel, TextScore};

/// A model to compare with.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceModel<'a> {
    /// Its name in the configuration.
    pub name: &'a str,
    /// Its files, in Hugging Face layout.
    pub sealed: &'a Sealed,
}

/// The bundle beside a reference model.
#[allow(clippy::struct_field_names, reason = "the two models have the names of their roles")]
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Reference {
    /// The reference model's name in the configuration.
    pub(crate) name: String,
    /// The digest of its files.
    #[schemars(with = "String")]
    pub(crate) digest: Digest,
    pub(crate) family: Family,
    pub(crate) parameters: u64,
    pub(crate) vocab_size: usize,
    pub(crate) bundle: Losses,
    pub(crate) reference: Losses,
    /// The bundle's bits per byte of held-out text minus those of the reference model.
    pub(crate) difference: Option<Difference>,
}

/// A model's losses on three kinds of text; none of those that this run does not have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Losses {
    /// The test split, document by document; none for chats, whose templates differ.
    pub(crate) held_out: Option<Loss>,
    /// The bundle's samples, each after its prompt.
    pub(crate) samples: Option<Loss>,
    /// Held-out texts of the same length, each after its opening.
    pub(crate) continuations: Option<Loss>,
}

/// A model's loss on texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Loss {
    /// The sum of the tokens' losses in bits, per byte of text.
    pub(crate) bits_per_byte: f64,
    /// The 95 % bootstrap interval over texts; null for a single text.
    pub(crate) interval: Option<Interval>,
    /// Perplexity per token of this model.
    pub(crate) perplexity: f64,
    pub(crate) tokens: u64,
    /// UTF-8 bytes of the texts.
    pub(crate) bytes: u64,
}

/// A difference with its interval over documents, which both models scored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Difference {
    pub(crate) value: f64,
    pub(crate) interval: Option<Interval>,
}

/// The texts that both models predict, each after a context that may be empty.
struct Texts<'a> {
    held_out: Vec<(&'a str, &'a str)>,
    samples: Vec<(&'a str, &'a str)>,
    continuations: Vec<(&'a str, &'a str)>,
}

/// A model's scores of [`Texts`]: nats, tokens and bytes of each.
struct Scores {
    held_out: Vec<[f64; 3]>,
    samples: Vec<[f64; 3]>,
    continuations: Vec<[f64; 3]>,
}

impl Reference {
    /// Scores the test split and the bundle's samples with the bundle and the reference model.
    ///
    /// # Errors
    /// Returns an error if a model differs from its manifest or cannot be loaded, or its logits are not finite;
    /// [`Error::Interrupted`] if cancelled.
    pub(crate) fn measure(
        reference: &ReferenceModel<'_>,
        bundle: &Sealed,
        test: &Excerpt,
        samples: &Samples,
        context: &Context,
    ) -> Result<Self, Error> {
        let texts = Texts::of(test, samples);
        let of_bundle = texts.score("the bundle", bundle, context)?;
        let of_reference = texts.score(reference.name, reference.sealed, context)?;
        let shape = checkpoint::load_config(reference.sealed.folder())?;
        Ok(Self {
            name: reference.name.to_owned(),
            digest: reference.sealed.digest(),
            family: shape.family,
            parameters: shape.parameters(),
            vocab_size: shape.vocab_size,
            difference: Difference::of(&of_bundle.held_out, &of_reference.held_out),
            bundle: of_bundle.losses(),
            reference: of_reference.losses(),
        })
    }
}

impl<'a> Texts<'a> {
    fn of(test: &'a Excerpt, samples: &'a Samples) -> Self {
        let samples_of = samples.items.iter().map(|sample| (sample.prompt.as_str(), sample.text.as_str()));
        let continuations = samples.held_out.iter().map(|text| (text.opening.as_str(), text.following.as_str()));
        let held_out =
            if test.split.has_loss_mask() { Vec::new() } else { test.texts().map(|text| ("", text)).collect() };
        let filled = |texts: Vec<(&'a str, &'a str)>| texts.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        Self {
            held_out: filled(held_out),
            samples: filled(samples_of.collect()),
            continuations: filled(continuations.collect()),
        }
    }

    fn score(&self, name: &str, model: &Sealed, context: &Context) -> Result<Scores, Error> {
        hub_layout::verify(model)?;
        let model = LocalModel::open(model.folder(), &context.device)?;
        let all = [&self.held_out[..], &self.samples, &self.continuations].concat();
        let bytes: usize = all.iter().map(|(_, text)| text.len()).sum();
        context.progress.begin(&format!("scoring texts with {name}"), bytes as u64, "bytes");
        let scores = model.scores(&all, &mut |bytes| {
            context.progress.position(bytes);
            !context.cancel.is_requested()
        })?;
        let sums = |(TextScore { loss_nats, tokens }, (_, text)): (&TextScore, &(&str, &str))| {
            [*loss_nats, *tokens as f64, text.len() as f64]
        };
        let mut sums = scores.iter().zip(&all).map(sums);
        Ok(Scores {
            held_out: sums.by_ref().take(self.held_out.len()).collect(),
            samples: sums.by_ref().take(self.samples.len()).collect(),
            continuations: sums.collect(),
        })
    }
}

impl Scores {
    fn losses(&self) -> Losses {
        Losses {
            held_out: Loss::of(&self.held_out),
            samples: Loss::of(&self.samples),
            continuations: Loss::of(&self.continuations),
        }
    }
}

impl Loss {
    fn of(texts: &[[f64; 3]]) -> Option<Self> {
        let [loss_nats, tokens, bytes] = total(texts);
        let bits = |[loss_nats, _, bytes]: &[f64; 3]| [bits_per_byte(*loss_nats, *bytes)];
        (!texts.is_empty()).then(|| Self {
            bits_per_byte: bits_per_byte(loss_nats, bytes),
            interval: intervals::of_sums(texts, bits).map(|[interval]| interval),
            perplexity: (loss_nats / tokens).exp(),
            tokens: tokens as u64,
            bytes: bytes as u64,
        })
    }
}

impl Difference {
    /// Returns the difference between two models' bits per byte of the same texts.
    fn of(own: &[[f64; 3]], other: &[[f64; 3]]) -> Option<Self> {
        let pairs = own.iter().zip(other);
        let pairs: Vec<[f64; 3]> = pairs.map(|(own, other)| [own[0] - other[0], 0.0, own[2]]).collect();
        let difference = |[nats, _, bytes]: &[f64; 3]| [bits_per_byte(*nats, *bytes)];
        let [value] = difference(&total(&pairs));
        let interval = intervals::of_sums(&pairs, difference).map(|[interval]| interval);
        (!pairs.is_empty()).then_some(Self { value, interval })
    }
}

fn bits_per_byte(loss_nats: f64, bytes: f64) -> f64 {
    loss_nats / std::f64::consts::LN_2 / bytes
}

fn total(texts: &[[f64; 3]]) -> [f64; 3] {
    texts.iter().fold([0.0; 3], |sum, text| std::array::from_fn(|i| sum[i] + text[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_those_of_all_texts_together() {
        let (first, second) = ([8.0 * 2f64.ln(), 4.0, 4.0], [0.0, 4.0, 12.0]);
        let loss = Loss::of(&[first, second]).unwrap();
        assert!((loss.bits_per_byte - 0.5).abs() < 1e-12 && (loss.perplexity - 2.0).abs() < 1e-12);
        assert_eq!((loss.tokens, loss.bytes), (8, 16));
        assert!(loss.interval.is_some() && Loss::of(&[first]).unwrap().interval.is_none());
        assert_eq!(Loss::of(&[]), None);
    }

    #[test]
    fn differences_are_paired() {
        // Documents of very different difficulty, of which one model needs a bit per byte more, whatever the document.
        let document = |bytes: f64, bits: f64| [bytes * bits * 2f64.ln(), bytes, bytes];
        let own: Vec<_> = (1..20).map(|i| document(f64::from(i), f64::from(i % 7) + 1.0)).collect();
        let other: Vec<_> = (1..20).map(|i| document(f64::from(i), f64::from(i % 7))).collect();
        let Difference { value, interval } = Difference::of(&own, &other).unwrap();
        let Interval { low, high } = interval.unwrap();
        assert!([value, low, high].iter().all(|bits| (bits - 1.0).abs() < 1e-9), "{value} {low} {high}");
        assert_eq!(Difference::of(&[], &[]), None);
    }
}
