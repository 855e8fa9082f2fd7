//! The mixture of sources in the train split, and the order of its documents.
//!
//! *Epochs* limit how often a source is seen: 1 by default; 2.5 means every document twice and half of them a third
//! time. Repeating up to four times costs little (Muennighoff et al., "Scaling Data-Constrained Language Models",
//! 2023). *Weights* set the fractions of bytes of the sources. With weights, the total is the largest that gives every
//! source its fraction without exceeding its epochs: `min over sources of epochs · bytes / fraction`. The source with
//! the minimum is used with all its epochs, the others less.
//!
//! A source with rate `r` repeats each document `⌊r⌋` times, and once more if a hash of the seed and the document's
//! digest, as a number from 0 to 1, is below `r - ⌊r⌋`. So bytes differ from the plan only by chance, which is small
//! for many documents; and the copies of a document depend on other documents only through `r`: if it grows, copies are
//! added and none is removed. The weight of a conversation multiplies the rate of its source after the plan is made.
//!
//! The order is that of a hash of seed, digest and copy ([`order_key`]): the same for any number of threads and
//! machines, and adding a document moves no other.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use settings::suggest;

/// The table `[preprocess.mix]`.
///
/// Keys are names of sources; `*` stands for any characters, and a name without it has precedence.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The relative number of bytes of a source, or of all sources of a pattern together: `{ books = 3, "web-*" = 1 }`.
    /// Every source must have one; 0 excludes it. Default: none, each source is used with its epochs.
    pub weights: BTreeMap<String, f64>,
    /// The largest number of passes over a source, possibly fractional. Default: 1 each.
    pub epochs: BTreeMap<String, f64>,
}

/// The size of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAmount {
    /// The source's name.
    pub name: String,
    /// Its documents.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How often the documents of each source are repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    rates: BTreeMap<String, f64>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value is invalid.
    #[error("{0}")]
    Value(String),
    /// A key matches no source.
    #[error("{table}.{key} fits no source{suggestion}")]
    UnknownSource {
        /// `weights` or `epochs`.
        table: &'static str,
        /// The key.
        key: String,
        /// The nearest name, or all.
        suggestion: String,
    },
    /// Two patterns match one source.
    #[error("{table}: both `{first}` and `{second}` fit source `{name}`; name it by itself")]
    Ambiguous {
        /// `weights` or `epochs`.
        table: &'static str,
        /// A pattern.
        first: String,
        /// Another.
        second: String,
        /// The source.
        name: String,
    },
    /// A source has no weight although others have.
    #[error("weights: source `{name}` has none; give it one, or 0 to leave it out")]
    NoWeight {
        /// The source.
        name: String,
    },
    /// A weight is given for a source without documents.
    #[error("weights.{key} cannot be given: there are no bytes to take, by documents or by epochs")]
    Empty {
        /// The key.
        key: String,
    },
}

/// The most passes over a source. Heuristic: more is likely a typing error.
const MAX_EPOCHS: f64 = 1000.0;

const NOTHING_LEFT: &str = "weights are all 0: nothing would be left";

impl Config {
    /// Validates the values by themselves; [`plan`] checks them against the sources.
    ///
    /// # Errors
    /// Returns the key and what is wrong with its value.
    pub fn validate(&self) -> Result<(), String> {
        for (key, epochs) in &self.epochs {
            if !(0.0..=MAX_EPOCHS).contains(epochs) {
                return Err(format!("epochs.{key} is {epochs}, and must lie between 0 and {MAX_EPOCHS}"));
            }
        }
        for (key, weight) in &self.weights {
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(format!("weights.{key} is {weight}, and must be a number that is not negative"));
            }
        }
        if !self.weights.is_empty() && self.weights.values().all(|weight| *weight == 0.0) {
            return Err(NOTHING_LEFT.to_owned());
        }
        Ok(())
    }
}

impl SourceAmount {
    /// Returns a source without documents.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), documents: 0, bytes: 0 }
    }

    /// Adds a document.
    pub fn add(&mut self, bytes: u64) {
        self.documents += 1;
        self.bytes += bytes;
    }
}

/// Returns how often each of `sources` is repeated.
///
/// # Errors
/// Returns an error if a value is invalid, or does not match the sources.
pub fn plan(config: &Config, sources: &[SourceAmount]) -> Result<Plan, Error> {
    config.validate().map_err(Error::Value)?;
    let epoch_keys = keys_of("epochs", &config.epochs, sources)?;
    let max_epochs = |at: usize| epoch_keys[at].map_or(1.0, |key| config.epochs[key]);
    let mut rates: Vec<f64> = (0..sources.len()).map(max_epochs).collect();
    if !config.weights.is_empty() {
        let weight_keys = keys_of("weights", &config.weights, sources)?;
        let mut bytes_of_key: BTreeMap<&str, f64> = BTreeMap::new();
        for (at, source) in sources.iter().enumerate() {
            let Some(key) = weight_keys[at] else { return Err(Error::NoWeight { name: source.name.clone() }) };
            *bytes_of_key.entry(key).or_default() += rates[at] * source.bytes as f64;
        }
        let mut total = f64::INFINITY;
        for (key, bytes) in &bytes_of_key {
            let weight = config.weights[*key];
            if weight > 0.0 && *bytes == 0.0 {
                return Err(Error::Empty { key: (*key).to_owned() });
            }
            if weight > 0.0 {
                total = total.min(bytes / weight);
            }
        }
        // A weighted key may match only sources that another key matches better.
        if total.is_infinite() {
            return Err(Error::Value(NOTHING_LEFT.to_owned()));
        }
        for (rate, key) in rates.iter_mut().zip(weight_keys.into_iter().flatten()) {
            // At most 1, but for rounding.
            let part = if config.weights[key] == 0.0 { 0.0 } else { total * config.weights[key] / bytes_of_key[key] };
            *rate *= part.min(1.0);
        }
    }
    Ok(Plan { rates: sources.iter().map(|source| source.name.clone()).zip(rates).collect() })
}

/// Returns the key of each source: its name, or the one pattern that matches it.
fn keys_of<'c>(
    table: &'static str,
    values: &'c BTreeMap<String, f64>,
    sources: &[SourceAmount],
) -> Result<Vec<Option<&'c str>>, Error> {
    if let Some(key) = values.keys().find(|key| !sources.iter().any(|source| fits(key, &source.name))) {
        let names = || sources.iter().map(|source| source.name.as_str());
        let suggestion = match suggest(key, names()) {
            Some(name) => format!("; did you mean `{name}`?"),
            None => format!("; there are {}", names().collect::<Vec<_>>().join(", ")),
        };
        return Err(Error::UnknownSource { table, key: key.clone(), suggestion });
    }
    let key_of = |source: &SourceAmount| {
        if let Some((key, _)) = values.get_key_value(&source.name) {
            return Ok(Some(key.as_str()));
        }
        let mut fitting = values.keys().filter(|key| fits(key, &source.name));
        match (fitting.next(), fitting.next()) {
            (Some(first), Some(second)) => {
                Err(Error::Ambiguous { table, first: first.clone(), second: second.clone(), name: source.name.clone() })
            }
            (first, _) => Ok(first.map(String::as_str)),
        }
    };
    sources.iter().map(key_of).collect()
}

/// Returns true if `name` matches `pattern`, in which `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(end)
}

impl Plan {
    /// Returns how often each source is repeated, on average over its documents.
    pub fn rates(&self) -> &BTreeMap<String, f64> {
        &self.rates
    }

    /// Returns how often documents of a source are repeated; never if the source is unknown.
    pub fn rate(&self, source: &str) -> f64 {
        self.rates.get(source).copied().unwrap_or(0.0)
    }
}

/// Returns how often the document with the content's SHA-256 `digest` is repeated at `rate`.
pub fn copies(rate: f64, seed: u64, digest: &[u8; 32]) -> u32 {
    let draw = xxh3_64_with_seed(digest, seed) as f64 / (u64::MAX as f64 + 1.0);
    rate.floor() as u32 + u32::from(draw < rate.fract())
}

/// Returns the key by which copy `copy` (from 0) of the document with this digest is sorted: equivalent to a shuffle
/// with `seed`; two keys are equal with a probability of 2^-128.
pub fn order_key(seed: u64, digest: &[u8; 32], copy: u32) -> [u8; 16] {
    let mut input = [0; 36];
    input[..32].copy_from_slice(digest);
    input[32..].copy_from_slice(&copy.to_le_bytes());
    xxh3_128_with_seed(&input, seed).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn table(values: &[(&str, f64)]) -> BTreeMap<String, f64> {
        values.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
    }

    fn amounts(sources: &[(&str, u64)]) -> Vec<SourceAmount> {
        let amount =
            |(name, bytes): &(&str, u64)| SourceAmount { name: (*name).to_owned(), documents: 10, bytes: *bytes };
        sources.iter().map(amount).collect()
    }

    fn digest(number: u32) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_le_bytes());
        digest
    }

    const SOURCES: [(&str, u64); 4] = [("books", 100), ("code", 400), ("web-a", 300), ("web-b", 100)];

    #[test]
    fn rates_follow_weights_and_epochs() {
        let check = |weights: &[(&str, f64)], epochs: &[(&str, f64)], expected: [f64; 4]| {
            let config = Config { weights: table(weights), epochs: table(epochs) };
            let plan = plan(&config, &amounts(&SOURCES)).unwrap();
            for ((name, _), expected) in SOURCES.iter().zip(expected) {
                assert!((plan.rates()[*name] - expected).abs() < 1e-12, "{config:?}: {plan:?}");
            }
        };
        check(&[], &[], [1.0, 1.0, 1.0, 1.0]);
        check(&[], &[("books", 2.5), ("web-*", 0.5), ("web-b", 0.0)], [2.5, 1.0, 0.5, 0.0]);
        // Books are the limit: 100 bytes are a quarter of 400.
        check(&[("books", 1.0), ("code", 1.0), ("web-*", 2.0)], &[], [1.0, 0.25, 0.5, 0.5]);
        // Seen four times, they are not: code is.
        check(&[("books", 1.0), ("code", 2.0), ("web-*", 1.0)], &[("books", 4.0)], [2.0, 1.0, 0.5, 0.5]);
        check(&[("books", 0.5), ("*", 0.5)], &[], [1.0, 0.125, 0.125, 0.125]);
        check(&[("books", 0.0), ("code", 0.0), ("*", 7.0)], &[], [0.0, 0.0, 1.0, 1.0]);
        check(&[("books", 8.0), ("*", 1.0)], &[("*", 1000.0)], [1000.0, 15.625, 15.625, 15.625]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let check = |weights: &[(&str, f64)], epochs: &[(&str, f64)], expected: &str| {
            let config = Config { weights: table(weights), epochs: table(epochs) };
            assert_eq!(plan(&config, &amounts(&SOURCES)).unwrap_err().to_string(), expected);
        };
        check(&[("book", 1.0)], &[], "weights.book fits no source; did you mean `books`?");
        check(&[], &[("news", 1.0)], "epochs.news fits no source; there are books, code, web-a, web-b");
        check(&[("webb-*", 1.0)], &[], "weights.webb-* fits no source; did you mean `web-a`?");
        check(&[("books", 1.0)], &[], "weights: source `code` has none; give it one, or 0 to leave it out");
        check(&[("books", -1.0)], &[], "weights.books is -1, and must be a number that is not negative");
        check(&[("books", f64::NAN)], &[], "weights.books is NaN, and must be a number that is not negative");
        check(&[("books", 0.0), ("*", 0.0)], &[], "weights are all 0: nothing would be left");
        let zeros = [("books", 0.0), ("code", 0.0), ("web-a", 0.0), ("web-b", 0.0), ("web-*", 1.0)];
        check(&zeros, &[], "weights are all 0: nothing would be left");
        check(&[], &[("books", -0.5)], "epochs.books is -0.5, and must lie between 0 and 1000");
        check(&[], &[("books", 1001.0)], "epochs.books is 1001, and must lie between 0 and 1000");
        check(
            &[("books", 1.0), ("*", 1.0)],
            &[("books", 0.0)],
            "weights.books cannot be given: there are no bytes to take, by documents or by epochs",
        );
        check(
            &[],
            &[("web-*", 1.0), ("*-a", 1.0)],
            "epochs: both `*-a` and `web-*` fit source `web-a`; name it by itself",
        );
    }

    #[test]
    fn patterns_fit_names() {
        let check = |pattern, name, expected| assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        check("books", "books", true);
        check("books", "book", false);
        check("*", "", true);
        check("*", "books", true);
        check("b*s", "books", true);
        check("b*s", "bs", true);
        check("bs*s", "bs", false);
        check("*o*k*", "books", true);
        check("*k*o*", "books", false);
        check("a*a", "a", false);
        check("**", "x", true);
    }

    #[test]
    fn keys_are_the_published_hash() {
        // xxhash.xxh3_128_hexdigest((7).to_bytes(4, "little") + bytes(28) + (1).to_bytes(4, "little"), seed=42) in
        // Python.
        assert_eq!(u128::from_be_bytes(order_key(42, &digest(7), 1)), 0x8f60_302c_5b7e_cddb_1f66_1d76_0128_bf24);
    }

    proptest! {
        #[test]
        fn copies_come_as_planned(rate in 0.0_f64..5.0, seed in any::<u64>()) {
            let documents = 4000;
            let copies: Vec<u32> = (0..documents).map(|number| copies(rate, seed, &digest(number))).collect();
            let min = rate.floor() as u32;
            prop_assert!(copies.iter().all(|copies| (min..=min + 1).contains(copies)));
            let mean = f64::from(copies.iter().sum::<u32>()) / f64::from(documents);
            // Six standard deviations of a fraction of 4000 draws.
            prop_assert!((mean - rate).abs() < 6.0 * (0.25 / f64::from(documents)).sqrt(), "{} for {}", mean, rate);
        }

        #[test]
        fn shares_are_the_weights(
            sources in proptest::collection::vec((1_u64..1_000_000, 0.01_f64..100.0, 0.1_f64..8.0), 1..8),
        ) {
            let name = |i: usize| format!("source-{i}");
            let amounts: Vec<SourceAmount> = sources.iter().enumerate()
                .map(|(i, (bytes, ..))| SourceAmount { name: name(i), documents: 1, bytes: *bytes }).collect();
            let config = Config {
                weights: sources.iter().enumerate().map(|(i, (_, weight, _))| (name(i), *weight)).collect(),
                epochs: sources.iter().enumerate().map(|(i, (.., epochs))| (name(i), *epochs)).collect(),
            };
            let plan = plan(&config, &amounts).unwrap();
            let taken: Vec<f64> = (0..sources.len()).map(|i| plan.rates()[&name(i)] * sources[i].0 as f64).collect();
            let total = taken.iter().sum::<f64>();
            let weights = sources.iter().map(|(_, weight, _)| weight).sum::<f64>();
            for (taken, (_, weight, _)) in taken.iter().zip(&sources) {
                prop_assert!((taken / total - weight / weights).abs() < 1e-9);
            }
            // One source is used up, and none is exceeded.
            let used: Vec<f64> = (0..sources.len()).map(|i| plan.rates()[&name(i)] / sources[i].2).collect();
            prop_assert!(used.iter().all(|used| *used <= 1.0));
            prop_assert!(used.iter().any(|used| *used > 1.0 - 1e-9));
        }

        #[test]
        fn more_epochs_keep_what_fewer_gave(low in 0.0_f64..3.0, more in 0.0_f64..3.0, number in any::<u32>()) {
            prop_assert!(copies(low, 42, &digest(number)) <= copies(low + more, 42, &digest(number)));
        }

        #[test]
        fn added_documents_move_no_other(
            numbers in proptest::collection::btree_set(any::<u32>(), 0..60),
            added in any::<u32>(),
        ) {
            let shuffled = |numbers: &BTreeSet<u32>| {
                let mut order: Vec<(u32, u32)> =
                    numbers.iter().flat_map(|number| [(*number, 0), (*number, 1)]).collect();
                order.sort_by_key(|(number, copy)| order_key(7, &digest(*number), *copy));
                order
            };
            let before = shuffled(&numbers);
            // A permutation: each copy once.
            prop_assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 2 * numbers.len());
            let mut more = numbers.clone();
            more.insert(added);
            let mut after = shuffled(&more);
            after.retain(|(number, _)| numbers.contains(number));
            prop_assert_eq!(after, before);
        }
    }
}
