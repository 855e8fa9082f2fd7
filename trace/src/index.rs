//! The index: which spans of tokens occur in the training data.

use std::fmt;
use std::fs;
use std::ops::Range;

use artifact::Sealed;
use tokenizer::Tokenizer;

use crate::block::Block;
use crate::stage::{BLOCK, SUMMARY, Summary, TOKENIZER};
use crate::{Document, Error};

/// The most places of a block that are looked at: one document may have many.
const MAX_LOOKED_AT: usize = 1 << 10;

/// The index of a run's training data.
pub struct Index {
    blocks: Vec<Block>,
    tokenizer: Tokenizer,
    tokens: u64,
}

/// Tokens that occur in the training data, one after the other within a document.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSpan {
    /// The tokens, by their place in the query.
    pub range: Range<usize>,
    /// How often they occur there; overlapping places count each. A document that training repeats counts each time.
    pub count: u64,
    /// The natural logarithm of the probability of such tokens if each were drawn by itself, by its frequency in the
    /// training data: the lower, the less likely they are to occur there by chance (`OLMoTrace`, 2025).
    pub log_probability: f64,
}

/// A place of tokens in the training data.
pub(crate) struct Place {
    pub document: Document,
    /// The tokens before, those found, and the tokens after.
    pub tokens: [Vec<u32>; 3],
    /// The tokens of the document before those found.
    pub position: usize,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the artifact of stage index after validating every file.
    ///
    /// # Errors
    /// Returns [`Error::NotBuilt`] if the training data was too large, and an error that names the file if one differs
    /// from its manifest or is invalid.
    pub fn open(sealed: &Sealed) -> Result<Self, Error> {
        let path = sealed.verified(SUMMARY)?;
        let text = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
        let summary: Summary = serde_json::from_slice(&text).map_err(|e| Error::invalid(&path, e.to_string()))?;
        let names = sealed.files(BLOCK);
        if names.len() != summary.blocks {
            let problem = format!("it names {} blocks, and there are {}", summary.blocks, names.len());
            return Err(Error::invalid(&path, problem));
        }
        if names.is_empty() {
            return Err(Error::NotBuilt { tokens: summary.tokens, max_tokens: summary.max_tokens });
        }
        let blocks =
            names.iter().map(|name| Block::open(&sealed.verified(name)?)).collect::<Result<Vec<_>, Error>>()?;
        let tokens = blocks.iter().map(|block| block.tokens() as u64).sum();
        Ok(Self { blocks, tokenizer: Tokenizer::from_file(&sealed.verified(TOKENIZER)?)?, tokens })
    }

    /// Returns the tokenizer of the training data.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns the number of tokens of the training data, without those that end documents.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Returns the number of documents of the training data.
    pub fn n_documents(&self) -> usize {
        self.blocks.iter().map(Block::n_documents).sum()
    }

    /// Returns how often `ids` occur in the training data, one after the other within a document; of no ids, 0.
    pub fn count(&self, ids: &[u32]) -> u64 {
        if ids.is_empty() { 0 } else { self.blocks.iter().map(|block| block.range(ids).len() as u64).sum() }
    }

    /// Returns the number of first tokens of `ids` that occur somewhere in the training data, one after the other
    /// within a document.
    pub fn longest_prefix(&self, ids: &[u32]) -> usize {
        self.blocks.iter().map(|block| block.longest_prefix(ids)).max().unwrap_or(0)
    }

    /// Returns the spans of at least `min_tokens` tokens, and of one, that occur in the training data and are in no
    /// longer one that does, in the order of `ids`.
    pub fn spans(&self, ids: &[u32], min_tokens: usize) -> Vec<TokenSpan> {
        let min_tokens = min_tokens.max(1);
        let mut ranges: Vec<Range<usize>> = Vec::new();
        // The next span starts at `first` or later, and has the token `last`.
        let (mut first, mut last) = (0, min_tokens - 1);
        while last < ids.len() {
            let newest = last + 1 - min_tokens;
            let occurs = |start: usize| self.longest_prefix(&ids[start..=last]) > last - start;
            if !occurs(newest) {
                (first, last) = (newest + 1, last + 1);
                continue;
            }
            // Every part of what occurs there does too, so an exponential search finds the first start. To look at each
            // start would take quadratic time for a long text of the training data.
            let (mut low, mut high, mut step) = (first, newest, 1);
            while low < high {
                let middle = low + (step - 1).min((high - low) / 2);
                if occurs(middle) {
                    high = middle;
                } else {
                    (low, step) = (middle + 1, 2 * step);
                }
            }
            let end = high + self.longest_prefix(&ids[high..]);
            ranges.push(high..end);
            (first, last) = (high + 1, end);
        }
        let log_probabilities: Vec<f64> = ids.iter().map(|id| self.log_probability(*id)).collect();
        let span = |range: Range<usize>| TokenSpan {
            count: self.count(&ids[range.clone()]),
            log_probability: log_probabilities[range.clone()].iter().sum(),
            range,
        };
        ranges.into_iter().map(span).collect()
    }

    /// Returns the natural logarithm of a token's frequency.
    fn log_probability(&self, id: u32) -> f64 {
        (self.count(&[id]) as f64 / self.tokens as f64).ln()
    }

    /// Returns a place of `ids` in each of up to `max_documents` documents, with up to `context_tokens` tokens on both
    /// sides.
    pub(crate) fn places(&self, ids: &[u32], max_documents: usize, context_tokens: usize) -> Result<Vec<Place>, Error> {
        let mut places: Vec<Place> = Vec::new();
        for block in &self.blocks {
            let mut seen = Vec::new();
            for suffix in block.range(ids).take(MAX_LOOKED_AT) {
                if places.len() >= max_documents {
                    break;
                }
                let position = block.suffix(suffix);
                let (index, tokens) = block.document_at(position);
                if seen.contains(&index) {
                    continue;
                }
                seen.push(index);
                let document = block.document(index)?;
                // Training may repeat a document.
                if places.iter().all(|place| place.document != document) {
                    let end = position + ids.len();
                    let before = position.saturating_sub(context_tokens).max(tokens.start)..position;
                    let after = end..end.saturating_add(context_tokens).min(tokens.end);
                    let tokens_of = [before, position..end, after].map(|range| block.ids(range));
                    places.push(Place { document, tokens: tokens_of, position: position - tokens.start });
                }
            }
        }
        Ok(places)
    }
}
