//! Drafts for speculative decoding, looked up in the sequence itself (Prompt Lookup Decoding, Saxena, 2023).

/// How many of the latest tokens must have occurred before, tried from the first to the last. Heuristic, not measured:
/// because they are the lengths that transformers and vLLM document.
const NGRAM_TOKENS: [usize; 3] = [3, 2, 1];

/// Returns up to `max_tokens` tokens that may come after `tokens`: those that followed the latest occurrence of its
/// last few tokens. Near the end, where fewer followed, the draft repeats what lies between the two occurrences.
pub(super) fn lookup(tokens: &[u32], max_tokens: usize) -> Vec<u32> {
    let repetition = || NGRAM_TOKENS.iter().find_map(|n| repetition_distance(tokens, *n));
    let Some(distance) = (max_tokens > 0).then(repetition).flatten() else { return Vec::new() };
    let mut continued = tokens[tokens.len() - distance..].to_vec();
    for i in 0..max_tokens.saturating_sub(distance) {
        continued.push(continued[i]);
    }
    continued.truncate(max_tokens);
    continued
}

/// Returns how far before the end the last `n` tokens have last occurred.
fn repetition_distance(tokens: &[u32], n: usize) -> Option<usize> {
    let earlier = tokens.len().checked_sub(n + 1)?;
    let last = &tokens[earlier + 1..];
    (0..=earlier).rev().find(|start| tokens[*start..].starts_with(last)).map(|start| earlier + 1 - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tokens: &[u32], max_tokens: usize, expected: &[u32]) {
        assert_eq!(lookup(tokens, max_tokens), expected, "{tokens:?}");
    }

    #[test]
    fn draft_is_what_followed_the_latest_occurrence() {
        check(&[], 4, &[]);
        check(&[1], 4, &[]);
        check(&[1, 2, 3], 4, &[]);
        check(&[1, 2, 3, 4, 5, 1, 2, 3], 2, &[4, 5]);
        check(&[1, 2, 7, 9, 1, 2, 8, 9, 1, 2], 1, &[8]);
        // Three tokens come before two, wherever they are.
        check(&[5, 1, 2, 7, 9, 1, 2, 8, 5, 1, 2], 1, &[7]);
        check(&[1, 2, 3, 1], 0, &[]);
    }

    #[test]
    fn draft_continues_a_period() {
        check(&[4, 4], 3, &[4, 4, 4]);
        check(&[1, 2, 1], 5, &[2, 1, 2, 1, 2]);
        check(&[7, 1, 2, 3, 1, 2, 3], 4, &[1, 2, 3, 1]);
    }
}
