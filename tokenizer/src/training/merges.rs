//! Byte-pair encoding: which pairs of tokens become one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ahash::AHashMap;

/// What to merge.
#[derive(Default)]
pub(super) struct Words {
    /// The tokens of all words, one word after the other.
    tokens: Vec<u32>,
    /// Where each word begins in `tokens`, and how many it has.
    places: Vec<(usize, usize)>,
    /// How often each word occurs.
    counts: Vec<u64>,
}

/// When to stop, and what to keep free.
pub(super) struct Limits<'a> {
    /// How many tokens to have in the end.
    pub vocab_size: usize,
    /// How often a pair must occur to be merged.
    pub min_frequency: u64,
    /// What the second token of a pair begins with where it is not joined as it is: `##` in `WordPiece`.
    pub continuing_prefix: &'a str,
    /// What no token may become.
    pub reserved: &'a [String],
}

type Pair = (u32, u32);

/// How often a pair occurs.
#[derive(Default)]
struct Occurrences {
    count: u64,
    /// The last finding of the pair, a place in [`Merger::findings`], and the merge that made it.
    finding: usize,
    round: usize,
}

/// A pair that waits to be merged: how often it occurs, then the smallest ids, then the oldest finding.
type Waiting = (u64, Reverse<Pair>, Reverse<usize>);

#[derive(Default)]
struct Merger {
    pairs: AHashMap<Pair, Occurrences>,
    /// The words in which a merge made a pair more frequent.
    findings: Vec<Vec<u32>>,
    queue: BinaryHeap<Waiting>,
    /// What the current merge found.
    found: Vec<(Pair, usize)>,
    round: usize,
}

/// Merges the most frequent pair of neighbours again and again (Sennrich et al., "Neural Machine Translation of Rare
/// Words with Subword Units", 2016), of equally frequent ones that of the smallest ids. Adds the tokens so made to
/// `vocabulary` and returns the pairs in the order of their merges; where a pair comes twice, its last place counts.
///
/// The result depends on nothing but how often each word occurs. It is what Hugging Face's `BpeTrainer` gives, down to
/// its bookkeeping: a merged pair keeps its count, which is seen again where two pairs make the same token, as `a` `bc`
/// and `ab` `c`, and so bring the pair back.
pub(super) fn merge(vocabulary: &mut Vec<String>, mut words: Words, limits: &Limits<'_>) -> Vec<Pair> {
    let mut ids: AHashMap<String, u32> = AHashMap::new();
    ids.extend(vocabulary.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)));
    let mut merger = Merger::new(&words);
    let mut merges = Vec::new();
    while vocabulary.len() < limits.vocab_size
        && let Some((pair, finding)) = merger.next(limits.min_frequency)
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
        merger.merge(&mut words, pair, finding, merged);
    }
    merges
}

impl Merger {
    fn new(words: &Words) -> Self {
        let mut merger = Self { round: 1, ..Self::default() };
        for (word, ((start, length), count)) in words.places.iter().zip(&words.counts).enumerate() {
            for neighbours in words.tokens[*start..start + length].windows(2) {
                merger.add((neighbours[0], neighbours[1]), word as u32, *count);
            }
        }
        merger.queue_found();
        merger
    }

    /// Returns the pair to merge next, if one is frequent enough, and where it was found.
    fn next(&mut self, min_frequency: u64) -> Option<(Pair, usize)> {
        while let Some((count, Reverse(pair), Reverse(finding))) = self.queue.pop() {
            let now = self.pairs[&pair].count;
            if now == count {
                return (count >= min_frequency.max(1)).then_some((pair, finding));
            }
            // Merges of other pairs left fewer of this one.
            self.queue.push((now, Reverse(pair), Reverse(finding)));
        }
        None
    }

    fn merge(&mut self, words: &mut Words, pair: Pair, finding: usize, merged: u32) {
        self.round += 1;
        for word in std::mem::take(&mut self.findings[finding]) {
            let count = words.counts[word as usize];
            words.merge_in(word as usize, pair, merged, |pair, is_new| {
                if is_new {
                    self.add(pair, word, count);
                } else if let Some(occurrences) = self.pairs.get_mut(&pair) {
                    occurrences.count -= count;
                }
            });
        }
        self.queue_found();
    }

    fn add(&mut self, pair: Pair, word: u32, count: u64) {
        let occurrences = self.pairs.entry(pair).or_default();
        occurrences.count += count;
        if occurrences.round != self.round {
            occurrences.round = self.round;
            occurrences.finding = self.findings.len();
            self.findings.push(Vec::new());
            self.found.push((pair, occurrences.finding));
        }
        let words = &mut self.findings[occurrences.finding];
        if words.last() != Some(&word) {
            words.push(word);
        }
    }

    fn queue_found(&mut self) {
        for (pair, finding) in self.found.drain(..) {
            self.queue.push((self.pairs[&pair].count, Reverse(pair), Reverse(finding)));
        }
    }
}

impl Words {
    /// Adds a word that occurs `count` times.
    pub(super) fn push(&mut self, tokens: impl IntoIterator<Item = u32>, count: u64) {
        let start = self.tokens.len();
        self.tokens.extend(tokens);
        self.places.push((start, self.tokens.len() - start));
        self.counts.push(count);
    }

    /// Replaces `pair` by `merged` in one word, and tells `change` of each other pair of neighbours that is gone or new.
    fn merge_in(&mut self, word: usize, pair: Pair, merged: u32, mut change: impl FnMut(Pair, bool)) {
        let (start, length) = self.places[word];
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
        self.places[word].1 = written;
    }
}
