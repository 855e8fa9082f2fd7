//! Passages of a text that occur in the training data.

use std::ops::Range;

use serde::Serialize;
use tokenizer::Tokenizer;

use crate::index::Place;
use crate::{Document, Error, Index, TokenSpan};

/// Which passages to return, and how much of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The fewest tokens of a passage.
    pub min_tokens: usize,
    /// The most passages.
    pub max_passages: usize,
    /// The most documents that are listed for each.
    pub max_occurrences: usize,
    /// The tokens that are shown before and after each occurrence.
    pub context_tokens: usize,
}

impl Default for Options {
    /// Returns options for a person to read. Heuristic, not measured: because eight tokens are about the shortest
    /// phrase, or half a line of code, that two authors rarely write alike, and three documents fit on a screen.
    fn default() -> Self {
        Self { min_tokens: 8, max_passages: 20, max_occurrences: 3, context_tokens: 24 }
    }
}

/// A passage of a text that occurs verbatim in the training data, as whole tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Passage {
    /// Its bytes in the text.
    pub bytes: Range<usize>,
    /// Its characters in the text: Unicode code points, as in Python.
    pub characters: Range<usize>,
    /// The passage.
    pub text: String,
    /// The number of its tokens.
    pub tokens: usize,
    /// How often it occurs there; a document that training repeats counts each time.
    pub count: u64,
    /// See [`TokenSpan::log_probability`].
    pub log_probability: f64,
    /// Where it occurs: one place in each of some documents.
    pub occurrences: Vec<Occurrence>,
}

/// Where a passage occurs in the training data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Occurrence {
    /// The document.
    #[serde(flatten)]
    pub document: Document,
    /// The tokens of the document before the passage.
    pub position: usize,
    /// The text before the passage.
    pub before: String,
    /// The text after it.
    pub after: String,
}

/// A span of the tokens of a text.
struct Found {
    ids: Vec<u32>,
    bytes: Range<usize>,
    span: TokenSpan,
}

impl Index {
    /// Returns the passages of `text` that occur verbatim in the training data and are in no longer one that does, the
    /// least likely by chance first, which are the longest and rarest (`OLMoTrace`, 2025). That of `OLMoTrace` looks
    /// only at whole words within a sentence; here a passage begins and ends at any token, since code has no sentences.
    ///
    /// Special tokens in the text are ordinary text. A text is mostly a part of a larger one, in which its first word
    /// would follow a space: it is looked up with and without one.
    ///
    /// # Errors
    /// Returns an error if the text cannot be encoded, or a file of the index is invalid.
    pub fn trace(&self, text: &str, options: &Options) -> Result<Vec<Passage>, Error> {
        let mut found = self.found(text, 0, options.min_tokens)?;
        if text.starts_with(|first: char| !first.is_whitespace()) {
            found.extend(self.found(&format!(" {text}"), 1, options.min_tokens)?);
        }
        found.sort_by(|a, b| {
            let key = |found: &Found| (found.bytes.start, usize::MAX - found.bytes.end, u64::MAX - found.span.count);
            key(a).cmp(&key(b))
        });
        let mut end = 0;
        // A passage that ends no later than one before it is a part of that one; one without text has only a part of a
        // character.
        found.retain(|found| {
            !found.bytes.is_empty() && found.bytes.end > end && {
                end = found.bytes.end;
                true
            }
        });
        found.sort_by(|a, b| a.span.log_probability.total_cmp(&b.span.log_probability));
        found.truncate(options.max_passages);
        found.into_iter().map(|found| self.passage(text, found, options)).collect()
    }

    /// Returns the maximal spans of a text's tokens, by the bytes that they have after the first `skipped` of it.
    fn found(&self, text: &str, skipped: usize, min_tokens: usize) -> Result<Vec<Found>, Error> {
        let tokens = self.tokenizer().encode_with_offsets(text)?;
        let ids: Vec<u32> = tokens.iter().map(|(id, _)| *id).collect();
        let found = |span: TokenSpan| {
            let bytes = bytes_of(&tokens, &span.range);
            let bytes = bytes.start.saturating_sub(skipped)..bytes.end.saturating_sub(skipped);
            Found { ids: ids[span.range.clone()].to_vec(), bytes, span }
        };
        Ok(self.spans(&ids, min_tokens).into_iter().map(found).collect())
    }

    fn passage(&self, text: &str, found: Found, options: &Options) -> Result<Passage, Error> {
        let Found { ids, bytes, span } = found;
        let places = self.places(&ids, options.max_occurrences, options.context_tokens)?;
        let occurrence = |place| occurrence(self.tokenizer(), place);
        let start = text[..bytes.start].chars().count();
        let passage = &text[bytes.clone()];
        Ok(Passage {
            characters: start..start + passage.chars().count(),
            text: passage.to_owned(),
            tokens: ids.len(),
            count: span.count,
            log_probability: span.log_probability,
            occurrences: places.into_iter().map(occurrence).collect::<Result<_, Error>>()?,
            bytes,
        })
    }
}

/// Returns the bytes of tokens, without characters that are only in part theirs.
fn bytes_of(tokens: &[(u32, Range<usize>)], span: &Range<usize>) -> Range<usize> {
    let (first, last) = (&tokens[span.start].1, &tokens[span.end - 1].1);
    let before = span.start.checked_sub(1).map_or(0, |before| tokens[before].1.end);
    let after = tokens.get(span.end).map_or(usize::MAX, |(_, bytes)| bytes.start);
    let start = first.start.max(before);
    start..last.end.min(after).max(start)
}

fn occurrence(tokenizer: &Tokenizer, place: Place) -> Result<Occurrence, Error> {
    let Place { document, tokens, position } = place;
    let mut stream = tokenizer.decode_stream();
    let mut texts = [const { String::new() }; 3];
    for (text, ids) in texts.iter_mut().zip(&tokens) {
        for id in ids {
            *text += &stream.push(*id)?;
        }
        *text += &stream.flush();
    }
    let [before, _, mut after] = texts;
    after += &stream.finish();
    Ok(Occurrence { document, position, before, after })
}
