//! The results of a sweep: `sweep.json`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::config::{Goal, Sweep};
use super::search::Trial;

/// The version of the layout of `sweep.json`.
const SCHEMA_VERSION: u32 = 1;

/// The 97.5 % quantiles of Student's t distribution for 1 to 30 degrees of freedom (Fisher and Yates, Statistical
/// Tables, 1938).
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The results of a sweep so far.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// The version of this layout.
    schema_version: u32,
    /// The sweep's name.
    pub sweep: String,
    /// The figure that trials are compared by.
    pub metric: String,
    /// Whether a lower figure is better.
    pub lower_is_better: bool,
    /// The trials in the order in which they ran; one for each level.
    pub trials: Vec<TrialResult>,
}

/// A trial that ran with all its seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialResult {
    /// The trial's number, from 1.
    pub number: usize,
    /// The values by their keys, with that of the level.
    pub values: Map<String, Value>,
    /// The level of successive halving, from 0.
    pub level: usize,
    /// The mean of the metric over the seeds; none if one of them has none.
    pub mean: Option<f64>,
    /// Half the width of its 95 % interval, from two seeds on.
    pub half_width: Option<f64>,
    /// The result with each seed.
    pub seeds: Vec<SeedResult>,
}

/// A trial with one seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeedResult {
    /// The seed.
    pub seed: u64,
    /// The run; none if it failed.
    pub run: Option<String>,
    /// The metric; none if the run failed or it is not finite.
    pub value: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
}

impl TrialResult {
    /// Returns the result of a trial at a level with the assignment `setting`.
    pub fn new(trial: &Trial, level: usize, setting: Option<(String, toml::Value)>, seeds: Vec<SeedResult>) -> Self {
        let values = trial.values.iter().cloned().chain(setting);
        let values = values.map(|(key, value)| (key, serde_json::to_value(value).unwrap_or_default())).collect();
        let found: Option<Vec<f64>> = seeds.iter().map(|seed| seed.value).collect();
        let (mean, half_width) = match found.as_deref() {
            None | Some([]) => (None, None),
            Some(found) => (Some(mean(found)), half_width(found)),
        };
        Self { number: trial.number, values, level, mean, half_width, seeds }
    }
}

impl Results {
    /// Returns the results of a sweep before its first trial.
    pub fn new(sweep: &Sweep) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            sweep: sweep.name.clone(),
            metric: sweep.metric.clone(),
            lower_is_better: sweep.goal == Goal::Minimize,
            trials: Vec::new(),
        }
    }

    /// Returns each trial at its last level: those of a higher level first, then the better ones.
    pub fn ranked(&self) -> Vec<&TrialResult> {
        // Of a trial, a higher level ran later.
        let last: BTreeMap<usize, &TrialResult> = self.trials.iter().map(|trial| (trial.number, trial)).collect();
        let mut ranked: Vec<&TrialResult> = last.into_values().collect();
        ranked.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| self.order(a, b)));
        ranked
    }

    /// Returns the numbers of the best `count` trials of a level.
    pub fn best_of(&self, level: usize, count: usize) -> Vec<usize> {
        let mut of_level: Vec<&TrialResult> =
            self.trials.iter().filter(|trial| trial.level == level && trial.mean.is_some()).collect();
        of_level.sort_by(|a, b| self.order(a, b));
        of_level.into_iter().take(count).map(|trial| trial.number).collect()
    }

    /// Returns true if `a` is better than `b`.
    pub fn is_better(&self, a: f64, b: f64) -> bool {
        if self.lower_is_better { a < b } else { a > b }
    }

    /// Orders the better trial first, those without a figure last, and equal ones by their number.
    fn order(&self, a: &TrialResult, b: &TrialResult) -> Ordering {
        let by_mean = match (a.mean, b.mean) {
            (Some(a), Some(b)) if self.lower_is_better => a.total_cmp(&b),
            (Some(a), Some(b)) => b.total_cmp(&a),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        by_mean.then(a.number.cmp(&b.number))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Returns half the width of the 95 % interval of the mean by Student's t distribution; none for a single value.
fn half_width(values: &[f64]) -> Option<f64> {
    let degrees = values.len().checked_sub(1).filter(|degrees| *degrees > 0)?;
    // Above 30, within 0.1 % of the quantile.
    let t = T.get(degrees - 1).copied().unwrap_or(1.96 + 2.4 / degrees as f64);
    let mean = mean(values);
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / degrees as f64;
    Some(t * (variance / values.len() as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(number: usize, level: usize, values: &[Option<f64>]) -> TrialResult {
        let seeds =
            values.iter().zip(0..).map(|(value, seed)| SeedResult { seed, run: None, value: *value, error: None });
        TrialResult::new(&Trial { number, values: Vec::new() }, level, None, seeds.collect())
    }

    fn results(lower_is_better: bool, trials: Vec<TrialResult>) -> Results {
        Results { schema_version: 1, sweep: "s".to_owned(), metric: "m".to_owned(), lower_is_better, trials }
    }

    #[test]
    fn intervals_are_those_of_student() {
        // Student (1908), The probable error of a mean: the differences of the two drugs.
        let sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4];
        let found = result(1, 0, &sleep.map(Some));
        assert!((found.mean.unwrap() - 1.58).abs() < 1e-12);
        // t.test(sleep) of R: 0.7001142 to 2.4598858.
        assert!((found.half_width.unwrap() - 0.879_885_8).abs() < 1e-4, "{found:?}");
        assert_eq!(result(1, 0, &[Some(2.0)]).half_width, None);
        assert_eq!(result(1, 0, &[Some(2.0), None]).mean, None);
    }

    #[test]
    fn trials_are_ranked_by_level_and_figure() {
        let trials = vec![
            result(1, 0, &[Some(3.0)]),
            result(2, 0, &[None]),
            result(3, 0, &[Some(1.0)]),
            result(4, 0, &[Some(2.0)]),
            result(3, 1, &[Some(0.5)]),
            result(4, 1, &[Some(0.4)]),
        ];
        let numbers = |results: &Results| results.ranked().iter().map(|trial| trial.number).collect::<Vec<_>>();
        let lower = results(true, trials.clone());
        assert_eq!(numbers(&lower), [4, 3, 1, 2]);
        assert_eq!(lower.best_of(0, 2), [3, 4]);
        assert_eq!(lower.best_of(0, 9), [3, 4, 1], "one without a figure never continues");
        let higher = results(false, trials);
        assert_eq!(numbers(&higher), [3, 4, 1, 2]);
        assert_eq!(higher.best_of(0, 1), [1]);
    }
}
