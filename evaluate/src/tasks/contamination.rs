//! Which items stand in the training data.
//!
//! The measure is that of Llama 2 (Open Foundation and Fine-Tuned Chat Models, Touvron et al., 2023, appendix A.6): a
//! token is contaminated if it is in a passage of more than ten tokens that the training data has too, and an item
//! overlaps with the training data if a fifth of it is contaminated. Two deviations: passages are verbatim, without
//! tokens that may differ, and parts are measured in bytes. An item of fewer than eleven tokens overlaps if all of it
//! stands there.

use std::ops::Range;

use trace::{Index, Options};

use crate::Error;

/// The fewest tokens of a passage.
const MIN_TOKENS: usize = 11;

/// The part of an item from which it overlaps.
const MIN_FRACTION: f64 = 0.2;

/// Returns true if a text overlaps with the training data of an index.
///
/// # Errors
/// Returns an error if the text cannot be encoded, or the index is invalid.
pub(super) fn overlaps(index: &Index, text: &str) -> Result<bool, Error> {
    let tokens = index.tokenizer().encode(text)?.len();
    let options =
        Options { min_tokens: MIN_TOKENS.min(tokens), max_passages: usize::MAX, max_occurrences: 0, context_tokens: 0 };
    let passages = index.trace(text, &options)?.into_iter().map(|passage| passage.bytes).collect();
    Ok(!text.is_empty() && covered(passages) as f64 >= MIN_FRACTION * text.len() as f64)
}

/// Returns the number of bytes in any of some ranges.
fn covered(mut ranges: Vec<Range<usize>>) -> usize {
    ranges.sort_by_key(|range| range.start);
    let mut end = 0;
    ranges.into_iter().fold(0, |sum, range| {
        let new = range.end.saturating_sub(range.start.max(end));
        end = end.max(range.end);
        sum + new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_passages_count_once() {
        let check = |ranges: &[Range<usize>], expected: usize| assert_eq!(covered(ranges.to_vec()), expected);
        check(&[], 0);
        check(&[5..9, 0..3], 7);
        check(&[0..5, 3..9, 4..6], 9);
        check(&[0..5, 5..6], 6);
    }
}
