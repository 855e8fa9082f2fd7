//! Tests for random values, which distinguish tokens from words and placeholders.

use super::services::Alphabet;

/// Parts of a value, in lower case, that make it a placeholder.
const PLACEHOLDERS: &[&str] = &[
    "example",
    "xxxx",
    "your",
    "placeholder",
    "redacted",
    "changeme",
    "change-me",
    "change_me",
    "insert",
    "replace",
    "dummy",
    "fake",
    "sample",
    "notreal",
    "not-real",
    "goes-here",
    "goeshere",
    "foobar",
    "test-token",
    "testtoken",
    "deadbeef",
    "lorem",
];

/// Returns the characters of `alphabet` from `start` on, at most `most`.
pub(super) fn span(text: &str, start: usize, alphabet: Alphabet, most: usize) -> &str {
    let length = text.as_bytes()[start..].iter().take(most).take_while(|byte| alphabet.has(**byte)).count();
    &text[start..start + length]
}

/// Returns true if `body` looks random rather than like a placeholder: enough different characters, no long run of
/// consecutive or equal characters, none of [`PLACEHOLDERS`]. The limits are heuristic; the cases of `tests/cases`
/// measure their precision and recall.
pub(super) fn is_random(body: &str) -> bool {
    let lower = body.to_ascii_lowercase();
    let bytes = lower.as_bytes();
    let stretch = |step: u8| {
        let (mut now, mut longest) = (1, 1);
        for pair in bytes.windows(2) {
            now = if pair[1] == pair[0].wrapping_add(step) { now + 1 } else { 1 };
            longest = longest.max(now);
        }
        longest
    };
    let mut seen = [false; 256];
    for byte in bytes {
        seen[usize::from(*byte)] = true;
    }
    let different = seen.iter().filter(|seen| **seen).count();
    different >= 8
        && stretch(0) < 5
        && stretch(1) < 7
        && !PLACEHOLDERS.iter().any(|placeholder| lower.contains(placeholder))
}
