//! Documents as text, divided into what counts towards the loss and what does not.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;

use super::Split;
use crate::{Error, Tokenizer};

/// The text of a document, divided by its loss mask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MaskedDocument {
    /// Its index in the split, from 0.
    pub index: usize,
    /// Which answer of a preference pair it has; `None` if documents are not pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// The number of its tokens, the end-of-text token included.
    pub tokens: usize,
    /// The number of them that count towards the loss.
    pub learned_tokens: usize,
    /// Its text, in order.
    pub segments: Vec<Segment>,
}

/// An answer of a preference pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The preferred one.
    Chosen,
    /// The other one.
    Rejected,
}

impl Answer {
    /// Returns `chosen` or `rejected`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::Rejected => "rejected",
        }
    }
}

/// Consecutive tokens of a document that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Segment {
    /// What they are.
    pub kind: SegmentKind,
    /// The tokens, counted from the start of the document.
    pub range: Range<usize>,
    /// The number of them that count towards the loss: all or none, except if they are omitted.
    pub learned_tokens: usize,
    /// The text, or the name of a special token; empty if the tokens are omitted. A character whose bytes are divided
    /// between two segments is in the second.
    pub text: String,
}

/// What the tokens of a [`Segment`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SegmentKind {
    /// Text.
    Text,
    /// One special token.
    Special,
    /// Tokens left out by the limit.
    Omitted,
}

impl Segment {
    /// Returns true if all tokens count towards the loss.
    pub fn is_learned(&self) -> bool {
        self.learned_tokens == self.range.len()
    }
}

impl Split {
    /// Returns the number of examples: preference pairs, else documents.
    pub fn n_examples(&self) -> usize {
        self.n_pairs().unwrap_or_else(|| self.n_documents())
    }

    /// Returns an example as text: a document, or the two of a preference pair. At most `max_tokens` tokens of each
    /// document are decoded: of consecutive alike tokens that are more than half of that, only the two ends.
    ///
    /// # Errors
    /// Returns an error if the tokens are not those of `tokenizer`.
    ///
    /// # Panics
    /// If there is no example of that index.
    pub fn example(
        &self,
        index: usize,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<Vec<MaskedDocument>, Error> {
        if self.n_pairs().is_none() {
            return Ok(vec![self.masked_document(index, None, tokenizer, max_tokens)?]);
        }
        let answers = [(2 * index, Answer::Chosen), (2 * index + 1, Answer::Rejected)];
        answers
            .map(|(index, answer)| self.masked_document(index, Some(answer), tokenizer, max_tokens))
            .into_iter()
            .collect()
    }

    fn masked_document(
        &self,
        index: usize,
        answer: Option<Answer>,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<MaskedDocument, Error> {
        let ids = self.document(index);
        let mut mask = vec![false; ids.len()];
        self.copy_mask(self.document_range(index).start, &mut mask);
        Ok(MaskedDocument {
            index,
            answer,
            tokens: ids.len(),
            learned_tokens: count(&mask),
            segments: segments(tokenizer, &ids, &mask, max_tokens)?,
        })
    }
}

fn count(mask: &[bool]) -> usize {
    mask.iter().filter(|is_learned| **is_learned).count()
}

fn segments(tokenizer: &Tokenizer, ids: &[u32], mask: &[bool], max_tokens: usize) -> Result<Vec<Segment>, Error> {
    tokenizer.check_ids(ids)?;
    let names: Vec<Option<String>> = ids.iter().map(|id| tokenizer.special_token(*id)).collect();
    let mut parts = shorten(alike(&names, mask), max_tokens);
    let shown = parts.iter().rposition(|(kind, _)| *kind != SegmentKind::Omitted).map_or(0, |last| last + 1);
    let mut stream = tokenizer.decode_stream();
    let mut segments = Vec::with_capacity(parts.len());
    let rest = parts.split_off(shown);
    for (kind, range) in parts {
        let mut text = String::new();
        for id in &ids[range.clone()] {
            text += &stream.push(*id)?;
        }
        text += &stream.flush();
        match kind {
            SegmentKind::Text => {}
            SegmentKind::Special => text = names[range.start].clone().unwrap_or_default(),
            SegmentKind::Omitted => text.clear(),
        }
        segments.push(Segment { kind, learned_tokens: count(&mask[range.clone()]), range, text });
    }
    if rest.is_empty()
        && let Some(last) = segments.iter_mut().rfind(|segment| segment.kind == SegmentKind::Text)
    {
        // Bytes that no token completes.
        last.text += &stream.finish();
    }
    for (kind, range) in rest {
        segments.push(Segment { kind, learned_tokens: count(&mask[range.clone()]), range, text: String::new() });
    }
    Ok(segments)
}

/// Divides tokens into runs of text with one value of the mask, and special tokens.
fn alike(names: &[Option<String>], mask: &[bool]) -> Vec<(SegmentKind, Range<usize>)> {
    let mut parts: Vec<(SegmentKind, Range<usize>)> = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let kind = if name.is_some() { SegmentKind::Special } else { SegmentKind::Text };
        match parts.last_mut() {
            Some((SegmentKind::Text, range)) if kind == SegmentKind::Text && mask[range.start] == mask[at] => {
                range.end = at + 1;
            }
            _ => parts.push((kind, at..at + 1)),
        }
    }
    parts
}

/// Leaves out the middle of each part of more than half of `max_tokens`, and everything after `max_tokens`.
fn shorten(parts: Vec<(SegmentKind, Range<usize>)>, max_tokens: usize) -> Vec<(SegmentKind, Range<usize>)> {
    let end = parts.last().map_or(0, |(_, range)| range.end);
    let end_tokens = (max_tokens / 4).max(1);
    let ends = |(kind, range): (SegmentKind, Range<usize>)| {
        if range.len() <= (max_tokens / 2).max(2) {
            return vec![(kind, range)];
        }
        let omitted = range.start + end_tokens..range.end - end_tokens;
        vec![
            (kind, range.start..omitted.start),
            (SegmentKind::Omitted, omitted.clone()),
            (kind, omitted.end..range.end),
        ]
    };
    let mut left = max_tokens;
    let mut shortened: Vec<(SegmentKind, Range<usize>)> = Vec::new();
    for (kind, range) in parts.into_iter().flat_map(ends) {
        if kind == SegmentKind::Omitted || range.len() <= left {
            left -= if kind == SegmentKind::Omitted { 0 } else { range.len() };
            shortened.push((kind, range));
            continue;
        }
        let cut = range.start + left;
        if left > 0 {
            shortened.push((kind, range.start..cut));
        }
        match shortened.last_mut() {
            Some((SegmentKind::Omitted, omitted)) => omitted.end = end,
            _ => shortened.push((SegmentKind::Omitted, cut..end)),
        }
        break;
    }
    shortened
}
