//! The combinations of values that a sweep tries.

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use toml::Value;

use super::config::{Method, Sweep};

/// A combination of values.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Its number, from 1.
    pub number: usize,
    /// The values by their keys.
    pub values: Vec<(String, Value)>,
}

impl Trial {
    /// Returns the overrides of the configuration, with those of a level.
    pub fn overrides(&self, level: Option<&(String, Value)>) -> Vec<String> {
        self.values.iter().chain(level).map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// Returns the values in one line.
    pub fn text(&self, level: Option<&(String, Value)>) -> String {
        self.overrides(level).join(", ")
    }
}

/// Returns the trials of a sweep. Random ones do not depend on their number: a sweep with more trials has those of one
/// with fewer.
pub fn trials(sweep: &Sweep) -> Vec<Trial> {
    let combinations = if sweep.method == Method::Grid { grid(sweep) } else { random(sweep) };
    let keys = || sweep.parameters.iter().map(|(key, _)| key.clone());
    let numbered = combinations.into_iter().enumerate();
    numbered.map(|(i, values)| Trial { number: i + 1, values: keys().zip(values).collect() }).collect()
}

/// Returns every combination, the last key changing fastest.
fn grid(sweep: &Sweep) -> Vec<Vec<Value>> {
    let mut combinations: Vec<Vec<Value>> = vec![Vec::new()];
    for (_, values) in &sweep.parameters {
        let values = values.grid().unwrap_or_default();
        combinations = combinations
            .iter()
            .flat_map(|start| values.iter().map(|value| start.iter().cloned().chain([value.clone()]).collect()))
            .collect();
    }
    combinations
}

/// Returns random combinations, without those that were drawn before.
fn random(sweep: &Sweep) -> Vec<Vec<Value>> {
    let mut random = ChaCha8Rng::seed_from_u64(sweep.seed);
    let mut combinations: Vec<Vec<Value>> = Vec::new();
    for _ in 0..sweep.trials {
        let values: Vec<Value> = sweep.parameters.iter().map(|(_, values)| values.at(random.random::<f64>())).collect();
        if !combinations.contains(&values) {
            combinations.push(values);
        }
    }
    combinations
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::run::stage::Stage;
    use crate::sweep::config::Goal;
    use crate::sweep::parameters::Values;

    fn sweep(method: Method, trials: usize, parameters: Vec<(&str, Values)>) -> Sweep {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pipeline.toml"), "[collect]\ndataset = \"d\"\n").unwrap();
        let path = folder.path().join("sweep.toml");
        std::fs::write(&path, "[parameters]\nseed = [1]\n").unwrap();
        let base = Sweep::load(&path, None).unwrap();
        let parameters = parameters.into_iter().map(|(key, values)| (key.to_owned(), values)).collect();
        Sweep { method, trials, parameters, path: PathBuf::new(), goal: Goal::Minimize, until: Stage::Train, ..base }
    }

    fn texts(sweep: &Sweep) -> Vec<String> {
        trials(sweep).iter().map(|trial| trial.text(None)).collect()
    }

    fn whole(values: &[i64]) -> Values {
        Values::Choice(values.iter().map(|value| Value::Integer(*value)).collect())
    }

    #[test]
    fn a_grid_has_every_combination() {
        let found = texts(&sweep(Method::Grid, 0, vec![("a", whole(&[1, 2])), ("b.c", whole(&[3, 4, 5]))]));
        assert_eq!(found, ["a=1, b.c=3", "a=1, b.c=4", "a=1, b.c=5", "a=2, b.c=3", "a=2, b.c=4", "a=2, b.c=5"]);
    }

    #[test]
    fn more_random_trials_begin_with_the_fewer() {
        let range = || Values::Range { min: 1e-4, max: 1e-1, is_log: true, is_whole: false, points: None };
        let of = |trials| texts(&sweep(Method::Random, trials, vec![("a", range()), ("b", whole(&[1, 2]))]));
        assert_eq!(of(4), of(9)[..4]);
        assert_eq!(of(9).len(), 9);
        let other = Sweep { seed: 1, ..sweep(Method::Random, 4, vec![("a", range()), ("b", whole(&[1, 2]))]) };
        assert_ne!(texts(&other), of(4));
        // Two thirds of the values on a logarithmic scale from 1e-4 to 1e-1 are below 1e-2.
        let values = trials(&sweep(Method::Random, 3000, vec![("a", range())]));
        let below = values.iter().filter(|trial| trial.values[0].1.as_float().unwrap() < 1e-2).count();
        assert!((below as f64 / values.len() as f64 - 2.0 / 3.0).abs() < 0.04, "{below} of {}", values.len());
    }

    #[test]
    fn nothing_is_tried_twice() {
        assert_eq!(texts(&sweep(Method::Random, 50, vec![("a", whole(&[1, 2, 3]))])).len(), 3);
    }
}
