//! `MinHash` signatures and their bands, in which similar documents collide.
//!
//! Of each of many random orders of all shingles, a signature keeps the smallest shingle of a document: two documents
//! agree in it with a probability that is their Jaccard similarity (Broder, "On the resemblance and containment of
//! documents", 1997). Signatures are cut into bands; documents that agree in a whole band are candidates. A pair of
//! similarity s becomes one with probability 1 − (1 − s^rows)^bands, an S-curve that is steepest near
//! (1/bands)^(1/rows). With the defaults that is 0.72, and the curve passes through
//!
//! | similarity  | 0.5  | 0.6  | 0.7  | 0.75 | 0.8  | 0.85 | 0.9   | 0.95  |
//! |-------------|------|------|------|------|------|------|-------|-------|
//! | probability | .053 | .211 | .565 | .772 | .924 | .988 | .9996 | 1.000 |
//!
//! `FineWeb` uses these numbers, with 5 words per shingle, to find documents "at least 75 % similar" (Penedo et al.,
//! 2024) and treats every candidate as a duplicate. Lee et al. ("Deduplicating training data makes language models
//! better", 2022), with 20 bands of 450 rows, check candidates for a similarity above 0.8. This checks them too, in
//! [`super::near`], against 0.7 by default: pairs in the range of `FineWeb` are then found as often, and chance
//! collisions far below it are not dropped.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::shingles::{self, mix};
use super::{Shard, records};
use crate::Error;

/// Parameters of near-duplicate detection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Words in a shingle. Documents with fewer words are never near duplicates, as in datatrove. Default 5.
    pub words_per_shingle: usize,
    /// Bands, from 1 to 256. More find less similar pairs and take 12 bytes of disk for each document. Default 14.
    pub bands: usize,
    /// Hashes in a band. More miss less similar pairs. Default 8.
    pub rows: usize,
    /// The lowest Jaccard similarity of the shingles of two duplicates, from 0 to 1. With 0 every candidate is a
    /// duplicate without being read, as in datatrove. Default 0.7, just below where the curve is steepest.
    pub similarity: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { words_per_shingle: 5, bands: 14, rows: 8, similarity: 0.7 }
    }
}

/// The most bands: their number takes eight bits of a key.
const MAX_BANDS: usize = 256;

/// The most hashes in a signature, seven times those of Lee et al. Heuristic: more is likely a typing error.
const MAX_HASHES: usize = 1 << 16;

impl Config {
    /// Validates every value.
    ///
    /// # Errors
    /// Returns an error that names the first invalid one.
    pub fn validate(&self) -> Result<(), Error> {
        if !(1..=1000).contains(&self.words_per_shingle) {
            return Err(Error::config("preprocess.near_duplicates.words_per_shingle", "must be from 1 to 1000"));
        }
        if !(1..=MAX_BANDS).contains(&self.bands) {
            return Err(Error::config("preprocess.near_duplicates.bands", format!("must be from 1 to {MAX_BANDS}")));
        }
        if self.rows == 0 || self.rows.saturating_mul(self.bands) > MAX_HASHES {
            let problem = format!("must be at least 1, and bands times rows at most {MAX_HASHES}");
            return Err(Error::config("preprocess.near_duplicates.rows", problem));
        }
        if !(0.0..=1.0).contains(&self.similarity) {
            return Err(Error::config("preprocess.near_duplicates.similarity", "must be from 0 to 1"));
        }
        Ok(())
    }

    /// Returns the probability that a pair of documents of this similarity becomes a candidate.
    pub fn candidate_probability(&self, similarity: f64) -> f64 {
        let band = similarity.powi(i32::try_from(self.rows).unwrap_or(i32::MAX));
        1.0 - (1.0 - band).powi(i32::try_from(self.bands).unwrap_or(i32::MAX))
    }
}

/// Buffers that are reused between documents.
#[derive(Debug, Default)]
pub struct Scratch {
    shingles: shingles::Scratch,
    hashes: Vec<u64>,
    signature: Vec<u64>,
    bytes: Vec<u8>,
}

/// Orders that are computed together, so that the compiler uses vector registers.
const LANES: usize = 16;

/// The seed of the orders; changing it changes every signature. The fraction of the golden ratio, an arbitrary choice.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Computes signatures.
///
/// The order number i compares a·x + b modulo 2⁶⁴ as signed numbers, with an odd a and any b of its own, x being the
/// shingle's hash. That is a permutation of the 64-bit words, so two shingles never tie, and is the multiply-shift
/// family of Dietzfelbinger et al. ("A reliable randomized algorithm for the closest-pair problem", 1997), universal in
/// the high bits that decide a comparison. The usual (a·x + b) mod 2⁶¹ − 1 needs products of 122 bits, which no vector
/// unit has; where it is computed in 64 bits, as by datatrove with numpy, it is this family before a useless remainder.
/// That x is already mixed is what makes a linear order good enough: the tests compare its bias and its S-curve with
/// theory.
#[derive(Debug, Clone)]
pub struct Signer {
    config: Config,
    orders: Vec<Orders>,
}

/// Some of the orders.
#[derive(Debug, Clone)]
struct Orders {
    factors: [u64; LANES],
    offsets: [u64; LANES],
}

impl Signer {
    /// Returns the signer of a valid configuration.
    pub fn new(config: &Config) -> Self {
        let mut state = SEED;
        let mut draw = || {
            state = state.wrapping_add(SEED);
            mix(state)
        };
        let hashes = config.bands * config.rows;
        let orders = (0..hashes.div_ceil(LANES))
            .map(|_| Orders { factors: [(); LANES].map(|()| draw() | 1), offsets: [(); LANES].map(|()| draw()) })
            .collect();
        Self { config: config.clone(), orders }
    }

    /// Returns the key of each band of `text`; none if it has fewer words than a shingle.
    ///
    /// The first eight bits of a key are the band's number, the others a hash of its rows. Two unequal bands have the
    /// same key with a probability of 2⁻⁵⁶, about once among ten million documents, and then the similarity is checked.
    pub fn bands(&self, text: &str, scratch: &mut Scratch) -> Option<Vec<u64>> {
        self.signature(text, scratch)?;
        let Scratch { signature, bytes, .. } = scratch;
        let key = |(band, rows): (usize, &[u64])| {
            bytes.clear();
            bytes.extend(rows.iter().flat_map(|row| row.to_le_bytes()));
            (band as u64) << 56 | xxh3_64(bytes) >> 8
        };
        Some(signature.chunks_exact(self.config.rows).enumerate().map(key).collect())
    }

    /// Returns the signature of `text`, bands times rows hashes; none if it has fewer words than a shingle.
    fn signature<'a>(&self, text: &str, scratch: &'a mut Scratch) -> Option<&'a [u64]> {
        let Scratch { shingles, hashes, signature, .. } = scratch;
        shingles::sequence(text, self.config.words_per_shingle, shingles, hashes);
        if hashes.is_empty() {
            return None;
        }
        signature.clear();
        for orders in &self.orders {
            signature.extend(orders.minima(hashes).map(i64::cast_unsigned));
        }
        signature.truncate(self.config.bands * self.config.rows);
        Some(signature)
    }
}

impl Orders {
    /// Returns the smallest of `shingles` in each order. A repeated shingle does not change a minimum, and
    /// removing it would take longer than reading it.
    fn minima(&self, shingles: &[u64]) -> [i64; LANES] {
        let mut minima = [i64::MAX; LANES];
        for shingle in shingles {
            for (lane, minimum) in minima.iter_mut().enumerate() {
                let place = shingle.wrapping_mul(self.factors[lane]).wrapping_add(self.offsets[lane]);
                *minimum = (*minimum).min(place.cast_signed());
            }
        }
        minima
    }
}

/// Writes the bands of a shard's documents.
#[derive(Debug)]
pub struct Writer {
    records: records::Writer,
}

impl Writer {
    /// Creates the file in `folder`, which must exist.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn create(folder: &Path) -> Result<Self, Error> {
        Ok(Self { records: records::Writer::create(folder.join(FILE))? })
    }

    /// Adds what [`Signer::bands`] returned for the document with this number within the shard.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn push(&mut self, document: u32, bands: &[u64]) -> Result<(), Error> {
        bands.iter().try_for_each(|band| self.records.push(*band, document))
    }

    /// Finishes the file, which then gets its final name.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn finish(self) -> Result<(), Error> {
        self.records.finish()
    }
}

const FILE: &str = "bands";

/// Returns the file of a shard's bands.
pub(super) fn file(shard: &Shard) -> PathBuf {
    shard.folder.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::shingles::{Shingles, jaccard};
    use proptest::prelude::*;

    /// Returns two texts that share `common` words and have `own` more each, none of which occur in another pair.
    fn pair(number: usize, common: usize, own: usize) -> [String; 2] {
        let word = |name, i| format!("{name}{}", letters(number * 10_000 + i));
        let words = |name, count| (0..count).map(|i| word(name, i)).collect::<Vec<_>>().join(" ");
        let common = words("c", common);
        ["a", "b"].map(|name| format!("{common} {}", words(name, own)))
    }

    /// Writes a number in letters, since digits are not compared.
    fn letters(number: usize) -> String {
        number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
    }

    fn signatures(signer: &Signer, texts: &[String; 2]) -> [Vec<u64>; 2] {
        texts.each_ref().map(|text| signer.signature(text, &mut Scratch::default()).unwrap_or_default().to_vec())
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        let check = |change: fn(&mut Config), expected: Option<&str>| {
            let mut config = Config::default();
            change(&mut config);
            let error = config.validate().err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected);
        };
        check(|_| {}, None);
        check(|config| config.similarity = 0.0, None);
        check(|config| config.bands = 256, None);
        check(
            |config| config.words_per_shingle = 0,
            Some("preprocess.near_duplicates.words_per_shingle must be from 1 to 1000"),
        );
        check(|config| config.bands = 0, Some("preprocess.near_duplicates.bands must be from 1 to 256"));
        check(|config| config.bands = 257, Some("preprocess.near_duplicates.bands must be from 1 to 256"));
        let problem = "preprocess.near_duplicates.rows must be at least 1, and bands times rows at most 65536";
        check(|config| config.rows = 0, Some(problem));
        check(|config| config.rows = usize::MAX, Some(problem));
        check(|config| config.similarity = f64::NAN, Some("preprocess.near_duplicates.similarity must be from 0 to 1"));
        check(|config| config.similarity = 1.01, Some("preprocess.near_duplicates.similarity must be from 0 to 1"));
    }

    #[test]
    fn a_table_is_read() {
        let config: Config = serde_json::from_str(r#"{"bands": 20}"#).unwrap();
        assert_eq!(config, Config { bands: 20, ..Config::default() });
        assert!(serde_json::from_str::<Config>(r#"{"band": 20}"#).is_err());
    }

    #[test]
    fn the_curve_is_that_of_the_table() {
        let curve = [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95].map(|s| Config::default().candidate_probability(s));
        let table = [0.053, 0.211, 0.565, 0.772, 0.924, 0.988, 0.9996, 1.0];
        for (probability, expected) in curve.iter().zip(table) {
            assert!((probability - expected).abs() < 6e-4, "{curve:?}");
        }
    }

    #[test]
    fn texts_that_are_compared_alike_have_the_same_bands() {
        let bands = |text: &str| Signer::new(&Config::default()).bands(text, &mut Scratch::default());
        let all = bands("One two, three four: five six").unwrap();
        assert_eq!(all.len(), 14);
        assert_eq!(all.iter().map(|key| key >> 56).collect::<Vec<_>>(), (0..14).collect::<Vec<_>>());
        assert_eq!(bands("one TWO three\nfour \"five\" six"), Some(all.clone()));
        assert!(bands("one two three four five seven").unwrap().iter().zip(&all).any(|(a, b)| a != b));
        assert_eq!(bands("only four words here"), None);
        assert!(bands("now five words stand here").is_some());
        assert_eq!(bands(""), None);
    }

    /// Of many pairs of one similarity, the mean of the estimates, their variance and the fraction of pairs that
    /// collide in a band equal those of independent random orders.
    #[test]
    fn estimates_are_unbiased_and_bands_follow_the_curve() {
        let config = Config { words_per_shingle: 1, ..Config::default() };
        let signer = Signer::new(&config);
        // 400 pairs: a standard error of 0.0024 for the mean at 0.5, and at most 0.025 for the fraction.
        let pairs = 400;
        for (common, own) in [(4, 2), (40, 20), (400, 200), (240, 40), (270, 15), (30, 5)] {
            let similarity = f64::from(common as u32) / f64::from((common + 2 * own) as u32);
            let estimates: Vec<(f64, bool)> = (0..pairs)
                .map(|number| {
                    let [a, b] = signatures(&signer, &pair(number, common, own));
                    let equal = a.iter().zip(&b).filter(|(a, b)| a == b).count();
                    let meet = a.chunks(config.rows).zip(b.chunks(config.rows)).any(|(a, b)| a == b);
                    (equal as f64 / a.len() as f64, meet)
                })
                .collect();
            let mean = estimates.iter().map(|(estimate, _)| estimate).sum::<f64>() / pairs as f64;
            let spread = |(estimate, _): &(f64, bool)| (estimate - similarity).powi(2);
            let variance = estimates.iter().map(spread).sum::<f64>() / pairs as f64;
            let share = estimates.iter().filter(|(_, meet)| *meet).count() as f64 / pairs as f64;
            let expected_variance = similarity * (1.0 - similarity) / 112.0;
            let expected_share = config.candidate_probability(similarity);
            let figures =
                format!("{similarity}: {mean}, {variance} of {expected_variance}, {share} of {expected_share}");
            assert!((mean - similarity).abs() < 0.01, "{figures}");
            assert!((0.7..1.4).contains(&(variance / expected_variance)), "{figures}");
            assert!((share - expected_share).abs() < 0.08, "{figures}");
        }
    }

    proptest! {
        #[test]
        fn an_estimate_is_near_the_similarity(number in 0_usize..1000, common in 1_usize..60, own in 0_usize..60) {
            let config = Config { words_per_shingle: 1, bands: 32, rows: 32, ..Config::default() };
            let texts = pair(number, common, own);
            let [a, b] = signatures(&Signer::new(&config), &texts);
            let estimate = a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / 1024.0;
            let [a, b] = texts.each_ref().map(|text| Shingles::new(text, 1, &mut shingles::Scratch::default()));
            // The standard error is at most 1/64; six of them happen once in 500 million.
            prop_assert!((estimate - jaccard(&a, &b)).abs() < 6.0 / 64.0);
        }

        #[test]
        fn a_minimum_is_that_of_every_order(shingles in prop::collection::vec(any::<u64>(), 1..50)) {
            let Signer { orders, .. } = Signer::new(&Config::default());
            for orders in &orders {
                let expected: Vec<i64> = orders
                    .factors
                    .iter()
                    .zip(&orders.offsets)
                    .map(|(a, b)| {
                        let place = |x: &u64| (i128::from(*a) * i128::from(*x) + i128::from(*b)) as u64 as i64;
                        shingles.iter().map(place).min().unwrap()
                    })
                    .collect();
                prop_assert_eq!(orders.minima(&shingles).to_vec(), expected);
            }
        }
    }
}
