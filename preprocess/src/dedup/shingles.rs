//! Shingles: the set of runs of a few words of a text, by which two texts are compared.
//!
//! Broder ("On the resemblance and containment of documents", 1997) calls the fraction of common shingles the
//! resemblance of two documents; it is the Jaccard similarity of the two sets.

use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_64;

use super::words;

/// Buffers that are reused between texts.
#[derive(Debug, Default)]
pub struct Scratch {
    words: words::Scratch,
    hashes: Vec<u64>,
}

/// The shingles of a text, each as a hash of 64 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shingles {
    /// In ascending order, each once.
    hashes: Box<[u64]>,
}

impl Shingles {
    /// Returns the shingles of `words_per_shingle` words in `text`; none if it has fewer words.
    ///
    /// Two different shingles have the same hash with a probability of about 2⁻⁶⁰.
    pub fn new(text: &str, words_per_shingle: usize, scratch: &mut Scratch) -> Self {
        let mut hashes = Vec::new();
        sequence(text, words_per_shingle, scratch, &mut hashes);
        hashes.sort_unstable();
        hashes.dedup();
        Self { hashes: hashes.into_boxed_slice() }
    }

    /// Returns their number.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// Returns the Jaccard similarity of two sets, from 0 to 1: the number of common members over the number of all; 0 if
/// both are empty.
pub fn jaccard(a: &Shingles, b: &Shingles) -> f64 {
    let (mut rest_a, mut rest_b) = (&*a.hashes, &*b.hashes);
    let mut common = 0;
    while let ([first_a, after_a @ ..], [first_b, after_b @ ..]) = (rest_a, rest_b) {
        match first_a.cmp(first_b) {
            Ordering::Less => rest_a = after_a,
            Ordering::Greater => rest_b = after_b,
            Ordering::Equal => {
                common += 1;
                (rest_a, rest_b) = (after_a, after_b);
            }
        }
    }
    let all = a.len() + b.len() - common;
    if all == 0 { 0.0 } else { common as f64 / all as f64 }
}

/// Writes the hash of every run of `words_per_shingle` words to `hashes`, in the order of the text.
pub(super) fn sequence(text: &str, words_per_shingle: usize, scratch: &mut Scratch, hashes: &mut Vec<u64>) {
    let Scratch { words, hashes: word_hashes } = scratch;
    word_hashes.clear();
    words::for_each(text, words, |word| word_hashes.push(xxh3_64(word)));
    roll(word_hashes, words_per_shingle, hashes);
}

/// The base of the polynomial that words are the coefficients of. An arbitrary odd number; 3 modulo 8, so that
/// exchanging two words, which changes the sum by a multiple of a power of it less 1, loses few bits.
const BASE: u64 = 0xd6e8_feb8_6659_fd93;

/// Writes the hash of every window of `length` words to `hashes`: Karp and Rabin's rolling polynomial ("Efficient
/// randomized pattern-matching algorithms", 1987) modulo 2⁶⁴ over hashes of words, mixed so that sums of shingles that
/// share words have no structure left.
fn roll(words: &[u64], length: usize, hashes: &mut Vec<u64>) {
    hashes.clear();
    if words.len() < length {
        return;
    }
    hashes.reserve(words.len() + 1 - length);
    let leaving = (0..length).fold(1_u64, |power, _| power.wrapping_mul(BASE));
    let push = |sum: u64, word: &u64| sum.wrapping_mul(BASE).wrapping_add(*word);
    let mut sum = words[..length].iter().fold(0, push);
    hashes.push(mix(sum));
    for (word, left) in words[length..].iter().zip(words) {
        sum = push(sum, word).wrapping_sub(left.wrapping_mul(leaving));
        hashes.push(mix(sum));
    }
}

/// A permutation of the 64-bit words after which every bit depends on every other: the last step of `SplitMix64`
/// (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
pub(super) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn shingles(text: &str, words_per_shingle: usize) -> Shingles {
        Shingles::new(text, words_per_shingle, &mut Scratch::default())
    }

    #[test]
    fn jaccard_is_the_share_of_common_shingles() {
        let check = |a: &str, b: &str, expected: f64| {
            let similarity = jaccard(&shingles(a, 2), &shingles(b, 2));
            assert!((similarity - expected).abs() < 1e-12, "{a:?} {b:?}: {similarity}");
        };
        check("", "", 0.0);
        check("one", "one", 0.0);
        check("one two", "", 0.0);
        check("one two", "ONE, two!", 1.0);
        check("one two", "two one", 0.0);
        check("a b c d", "a b c e", 0.5);
        check("a b a b a b", "a b a", 1.0);
        check("a b c d e", "c d e f g", 2.0 / 6.0);
    }

    #[test]
    fn similar_words_have_different_shingles() {
        let texts = ["a b c d e", "b a c d e", "a b c e d", "a b c d f", "e d c b a", "a a b c d", "abc d e f g"];
        let distinct: HashSet<_> = texts.iter().map(|text| shingles(text, 5).hashes).collect();
        assert_eq!(distinct.len(), texts.len());
    }

    proptest! {
        #[test]
        fn rolling_is_hashing_every_window(words in prop::collection::vec(any::<u64>(), 0..40), length in 1_usize..8) {
            let mut hashes = Vec::new();
            roll(&words, length, &mut hashes);
            let of_window = |window: &[u64]| {
                mix(window.iter().fold(0_u64, |sum, word| sum.wrapping_mul(BASE).wrapping_add(*word)))
            };
            let expected: Vec<u64> = words.windows(length).map(of_window).collect();
            prop_assert_eq!(hashes, expected);
        }

        #[test]
        fn jaccard_is_that_of_sets_of_words(a in "[a-d ]{0,60}", b in "[a-d ]{0,60}") {
            let grams = |text: &str| -> HashSet<Vec<String>> {
                let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
                words.windows(2).map(<[String]>::to_vec).collect()
            };
            let (grams_a, grams_b) = (grams(&a), grams(&b));
            let all = grams_a.union(&grams_b).count();
            let expected = if all == 0 { 0.0 } else { grams_a.intersection(&grams_b).count() as f64 / all as f64 };
            prop_assert!((jaccard(&shingles(&a, 2), &shingles(&b, 2)) - expected).abs() < 1e-12);
        }
    }
}
