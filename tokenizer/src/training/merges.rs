//! Byte-pair encoding: the merges.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ahash::AHashMap;

/// The words to merge in, as tokens.
#[derive(Default)]
pub(super) struct WordTokens {
    /// The tokens of all words, concatenated.
    tokens: Vec<u32>,
    /// The position in `tokens` and the length of each word.
    spans: Vec<(usize, usize)>,
    /// The count of each word.
    counts: Vec<u64>,
}

/// Limits of merging.
pub(super) struct Limits<'a> {
    /// The final number of tokens.
    pub vocab_size: usize,
    /// The minimum count of a pair that is merged.
    pub min_frequency: u64,
    /// The prefix that the second token of a pair loses when it is merged: `##` in `WordPiece`.
    pub continuing_prefix: &'a str,
    /// Tokens that must not result from a merge.
    pub reserved: &'a [String],
}

type Pair = (u32, u32);

/// The occurrences of a pair.
#[derive(Default)]
struct Occurrences {
    count: u64,
    /// The index in [`Merger::occurrence_lists`] of the last list of the pair, and the round that made it.
    list: usize,
    round: usize,
}

/// A candidate for the next merge, by priority: the count of the pair, then the smallest ids, then the oldest list.
type Candidate = (u64, Reverse<Pair>, Reverse<usize>);

#[derive(Default)]
struct Merger {
    pairs: AHashMap<Pair, Occurrences>,
    /// Lists of the words in which a round added occurrences of a pair.
    occurrence_lists: Vec<Vec<u32>>,
    queue: BinaryHeap<Candidate>,
    /// The pairs to which the current round added occurrences, with their lists.
    changed: Vec<(Pair, usize)>,
    round: usize,
}

/// Merges the most frequent pair of neighbours repeatedly (Sennrich et al., "Neural Machine Translation of Rare Words
/// with Subword Units", 2016); of equally frequent pairs, the one with the smallest ids. Adds the merged tokens to
/// `vocabulary` and returns the pairs in the order of their merges; if a pair occurs twice, its last position counts.
///
/// The result depends on the counts of the words only. It is that of Hugging Face's `BpeTrainer`, including its
/// bookkeeping: a merged pair keeps its count, which matters where two pairs make the same token, as `a` `bc` and `ab`
/// `c`, and the pair is queued again.
pub(super) fn merge(vocabulary: &mut Vec<String>, mut words: WordTokens, limits: &Limits<'_>) -> Vec<Pair> {
    let mut ids: AHashMap<String, u32> = AHashMap::new();
    ids.extend(vocabulary.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)));
    let mut merger = Merger::new(&words);
    let mut merges = Vec::new();
    while vocabulary.len() < limits.vocab_size
        && let Some((pair, list)) = merger.next(limits.min_frequency)
    {
        let [first, second] = [pair.0, pair.1].map(|id| vocabulary[id as usize].as_str());
        let token = format!("{first}{}", second.strip_prefix(limits.continuing_prefix).unwrap_or(second));
        if limits.reserved.contains(&token) {
            continue;
        }
        merges.push(pair);
        let merged = *ids.entry(token).or_insert_with_key(|token| {
            vocabulary.push(token.clone());
            vocabulary.len() as u32 - 1
        });
        merger.merge(&mut words, pair, list, merged);
    }
    merges
}

impl Merger {
    fn new(words: &WordTokens) -> Self {
        let mut merger = Self { round: 1, ..Self::default() };
        for (word, ((start, length), count)) in words.spans.iter().zip(&words.counts).enumerate() {
            for neighbours in words.tokens[*start..start + length].windows(2) {
                merger.add((neighbours[0], neighbours[1]), word as u32, *count);
            }
        }
        merger.queue_changed();
        merger
    }

    /// Returns the pair to merge next, if one is frequent enough, and its list.
    fn next(&mut self, min_frequency: u64) -> Option<(Pair, usize)> {
        while let Some((count, Reverse(pair), Reverse(list))) = self.queue.pop() {
            let now = self.pairs[&pair].count;
            if now == count {
                return (count >= min_frequency.max(1)).then_some((pair, list));
            }
            // Merges of other pairs have reduced the count of this one.
            self.queue.push((now, Reverse(pair), Reverse(list)));
        }
        None
    }

    fn merge(&mut self, words: &mut WordTokens, pair: Pair, list: usize, merged: u32) {
        self.round += 1;
        for word in std::mem::take(&mut self.occurrence_lists[list]) {
            let count = words.counts[word as usize];
            words.merge_in(word as usize, pair, merged, |pair, is_new| {
                if is_new {
                    self.add(pair, word, count);
                } else if let Some(occurrences) = self.pairs.get_mut(&pair) {
                    occurrences.count -= count;
                }
            });
        }
        self.queue_changed();
    }

    fn add(&mut self, pair: Pair, word: u32, count: u64) {
        let occurrences = self.pairs.entry(pair).or_default();
        occurrences.count += count;
        if occurrences.round != self.round {
            occurrences.round = self.round;
            occurrences.list = self.occurrence_lists.len();
            self.occurrence_lists.push(Vec::new());
            self.changed.push((pair, occurrences.list));
        }
        let words = &mut self.occurrence_lists[occurrences.list];
        if words.last() != Some(&word) {
            words.push(word);
        }
    }

    fn queue_changed(&mut self) {
        for (pair, list) in self.changed.drain(..) {
            self.queue.push((self.pairs[&pair].count, Reverse(pair), Reverse(list)));
        }
    }
}

impl WordTokens {
    /// Adds a word with its count.
    pub(super) fn push(&mut self, tokens: impl IntoIterator<Item = u32>, count: u64) {
        let start = self.tokens.len();
        self.tokens.extend(tokens);
        self.spans.push((start, self.tokens.len() - start));
        self.counts.push(count);
    }

    /// Replaces `pair` by `merged` in one word, and calls `change` for each other pair of neighbours that is removed
    /// (false) or added (true).
    fn merge_in(&mut self, word: usize, pair: Pair, merged: u32, mut change: impl FnMut(Pair, bool)) {
        let (start, length) = self.spans[word];
        let tokens = &mut self.tokens[start..start + length];
        let (mut read, mut written) = (0, 0);
        while read < length {
            let is_pair = read + 1 < length && (tokens[read], tokens[read + 1]) == pair;
            if is_pair {
                if written > 0 {
                    change((tokens[written - 1], pair.0), false);
                    change((tokens[written - 1], merged), true);
                }
                if read + 2 < length {
                    change((pair.1, tokens[read + 2]), false);
                    change((merged, tokens[read + 2]), true);
                }
            }
            tokens[written] = if is_pair { merged } else { tokens[read] };
            read += 1 + usize::from(is_pair);
            written += 1;
        }
        self.spans[word].1 = written;
    }
}
