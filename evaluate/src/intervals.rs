//! Confidence intervals: the percentile bootstrap over documents.
//!
//! A metric is a function of sums over documents. A resample draws as many documents as there are, with replacement,
//! and computes the metric; the interval is that of the 2.5 % and 97.5 % quantiles over all resamples (Efron, Bootstrap
//! Methods: Another Look at the Jackknife, 1979). Documents are drawn whole, since the tokens of one depend on each
//! other. Documents that depend on each other, such as the files of one project, make intervals too narrow.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

/// The nominal coverage of all intervals.
pub(crate) const COVERAGE: f64 = 0.95;

/// The number of resamples: Efron and Tibshirani (An Introduction to the Bootstrap, 1993) ask for at least 1,000 for
/// percentiles.
pub(crate) const RESAMPLES: usize = 1000;

/// The seed of the resamples. It is fixed, so that an interval depends on the documents alone.
const SEED: u64 = 1979;

/// An interval that covers the value over all documents of the kind with a probability of about 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Returns true if the interval of a difference leaves out 0: it is more than chance.
    pub fn excludes_zero(self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// Returns the intervals of `M` metrics, which are functions of `N` sums over the documents; none for fewer than two
/// documents.
///
/// The same documents in the same order have the same intervals on every machine.
pub(crate) fn of_sums<const N: usize, const M: usize>(
    documents: &[[f64; N]],
    metrics: impl Fn(&[f64; N]) -> [f64; M] + Sync,
) -> Option<[Interval; M]> {
    if documents.len() < 2 {
        return None;
    }
    let resamples: Vec<[f64; M]> =
        (0..RESAMPLES).into_par_iter().map(|number| metrics(&resampled(documents, number))).collect();
    Some(std::array::from_fn(|metric| quantiles(resamples.iter().map(|metrics| metrics[metric]).collect())))
}

/// Returns the interval of a metric's difference between two sets of documents that do not depend on each other; none
/// if one has fewer than two.
pub(crate) fn of_difference<const N: usize>(
    [first, second]: [&[[f64; N]]; 2],
    metric: impl Fn(&[f64; N]) -> f64 + Sync,
) -> Option<Interval> {
    if first.len() < 2 || second.len() < 2 {
        return None;
    }
    let difference = |number| {
        // The odd streams are those of the second set, so that equal sets are not drawn equally.
        metric(&resampled(first, 2 * number)) - metric(&resampled(second, 2 * number + 1))
    };
    Some(quantiles((0..RESAMPLES).into_par_iter().map(difference).collect()))
}

/// Returns the sums over as many documents as there are, drawn with replacement.
fn resampled<const N: usize>(documents: &[[f64; N]], number: usize) -> [f64; N] {
    let mut sums = [0.0; N];
    for index in drawn(documents.len(), number) {
        for (sum, value) in sums.iter_mut().zip(&documents[index]) {
            *sum += value;
        }
    }
    sums
}

/// Returns as many indices as there are items, drawn with replacement, of resample `number`.
pub(crate) fn drawn(count: usize, number: usize) -> impl Iterator<Item = usize> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    random.set_stream(number as u64);
    // Uniform to within 2^-64 times the number of items.
    (0..count).map(move |_| ((u128::from(random.next_u64()) * count as u128) >> 64) as usize)
}

/// Returns the interval between the quantiles, each interpolated between two values.
pub(crate) fn quantiles(mut values: Vec<f64>) -> Interval {
    values.sort_unstable_by(f64::total_cmp);
    let quantile = |fraction: f64| {
        let place = fraction * (values.len() - 1) as f64;
        let (below, weight) = (place.floor() as usize, place.fract());
        values[below] + weight * (values[(below + 1).min(values.len() - 1)] - values[below])
    };
    let tail = (1.0 - COVERAGE) / 2.0;
    Interval { low: quantile(tail), high: quantile(1.0 - tail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns documents of a population in which the loss of a byte and the length vary between documents: sums of
    /// losses and of bytes. The mean loss of a byte over the population is 1.
    fn documents(seed: u64, count: usize) -> Vec<[f64; 2]> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut uniform = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        (0..count)
            .map(|_| {
                // Lengths are exponential, as those of texts are skewed.
                let bytes = -1000.0 * (1.0 - uniform()).ln();
                [bytes * (0.4 + 1.2 * uniform()), bytes]
            })
            .collect()
    }

    fn ratio(sums: &[f64; 2]) -> [f64; 1] {
        [sums[0] / sums[1]]
    }

    #[test]
    fn intervals_cover_the_value_of_the_population() {
        let covers = |seed| {
            let [interval] = of_sums(&documents(seed, 150), ratio).unwrap();
            interval.low <= 1.0 && 1.0 <= interval.high
        };
        let covered = (0..200).filter(|seed| covers(*seed)).count();
        assert!((184..=196).contains(&covered), "{covered} of 200, and 92 to 98 % are expected of 95 %");
    }

    #[test]
    fn intervals_of_differences_cover_none() {
        let covers = |seed| {
            let (first, second) = (documents(seed, 150), documents(seed + 1000, 90));
            let interval = of_difference([&first[..], &second[..]], |sums| ratio(sums)[0]).unwrap();
            interval.low <= 0.0 && 0.0 <= interval.high
        };
        let covered = (0..200).filter(|seed| covers(*seed)).count();
        assert!((184..=196).contains(&covered), "{covered} of 200");
    }

    #[test]
    fn intervals_depend_on_the_documents_alone() {
        let all = documents(7, 40);
        assert_eq!(of_sums(&all, ratio), of_sums(&all, ratio));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(pool.install(|| of_sums(&all, ratio)), of_sums(&all, ratio));
        assert_ne!(of_sums(&all, ratio), of_sums(&all[1..], ratio));
        assert!(of_sums(&all[..1], ratio).is_none() && of_difference([&all[..], &all[..1]], |sums| sums[0]).is_none());
    }

    #[test]
    fn equal_documents_leave_nothing_to_chance() {
        let [interval] = of_sums(&[[3.0, 2.0]; 5], ratio).unwrap();
        assert_eq!(interval, Interval { low: 1.5, high: 1.5 });
        assert!(interval.excludes_zero() && Interval { low: -2.0, high: -0.1 }.excludes_zero());
        assert!(!Interval { low: -2.0, high: 0.1 }.excludes_zero());
        // Quantiles of 0, 1, …, 100.
        let Interval { low, high } = quantiles((0..=100).rev().map(f64::from).collect());
        assert!((low - 2.5).abs() < 1e-9 && (high - 97.5).abs() < 1e-9, "{low} {high}");
    }
}
