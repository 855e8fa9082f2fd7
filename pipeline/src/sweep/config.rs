//! `sweep.toml`: the parameters and how to search them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use settings::ConfigSource;
use toml::Value;

use crate::config::{self, ConfigError};
use crate::run::baseline::LAST;
use crate::run::stage::Stage;

use super::parameters::{self, MAX_TRIALS, Values, Wrong};

/// The keys of a sweep, for suggestions.
const KEYS: [&str; 14] = [
    "base",
    "name",
    "until",
    "metric",
    "goal",
    "method",
    "trials",
    "seed",
    "seeds",
    "parameters",
    "halving",
    "halving.key",
    "halving.levels",
    "halving.factor",
];

/// The key that names the run that reports are compared with.
const REGRESSION_VS: &str = "evaluate.gates.regression_vs";

/// The content of `sweep.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The configuration whose keys are varied, relative to the sweep's folder. Default: `pipeline.toml`.
    base: PathBuf,
    /// The name of the sweep and its runs. Default: the file's name without its extension.
    name: Option<String>,
    /// The last stage of each trial. Default: `evaluate`.
    until: Stage,
    /// The figure that trials are compared by. Default: `checkpoint_validation_bits_per_byte` of stage evaluate, else
    /// `validation_loss` of stage train.
    metric: Option<String>,
    /// Whether a lower or a higher figure is better: `minimize` or `maximize`. Default: `minimize`.
    goal: Goal,
    /// `grid`: every combination; `random`: `trials` of them at random; `halving`: as random, and after each level only
    /// the best continue. Default: `grid`.
    method: Method,
    /// The number of combinations to draw; for `random` and `halving`.
    trials: Option<usize>,
    /// The seed of the draws, for `random` and `halving`. Default: 0.
    seed: Option<u64>,
    /// How many seeds each trial is repeated with, from the configuration's on. Default: 1.
    seeds: u32,
    /// The keys to vary: each a list of values, or a table with `min` and `max`.
    parameters: toml::Table,
    /// The levels of successive halving.
    halving: Option<Halving>,
}

/// Successive halving (Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization,
/// 2016): all trials at the first level, the best of them at the next one, and so on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halving {
    /// The key that grows from level to level: `train.steps` or `train.budget`.
    key: String,
    /// Its values, the smallest first.
    levels: Vec<Value>,
    /// One in this many trials continues to the next level. Default: 3.
    #[serde(default = "three")]
    factor: usize,
}

fn three() -> usize {
    3
}

/// Whether a lower or a higher figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// A lower figure is better.
    Minimize,
    /// A higher figure is better.
    Maximize,
}

/// How combinations are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Every combination.
    Grid,
    /// Random ones.
    Random,
    /// Random ones, of which the best continue.
    Halving,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base: PathBuf::from(config::FILE_NAME),
            name: None,
            until: Stage::Evaluate,
            metric: None,
            goal: Goal::Minimize,
            method: Method::Grid,
            trials: None,
            seed: None,
            seeds: 1,
            parameters: toml::Table::new(),
            halving: None,
        }
    }
}

/// A valid sweep.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// Its file.
    pub path: PathBuf,
    /// The base configuration.
    pub base: PathBuf,
    /// The seed of the base configuration.
    pub base_seed: u64,
    /// The name of the sweep and its runs.
    pub name: String,
    /// The last stage of each trial.
    pub until: Stage,
    /// The figure that trials are compared by.
    pub metric: String,
    /// Whether a lower or a higher figure is better.
    pub goal: Goal,
    /// How combinations are chosen.
    pub method: Method,
    /// The number of combinations to draw.
    pub trials: usize,
    /// The seed of the draws.
    pub seed: u64,
    /// How many seeds each trial is repeated with.
    pub n_seeds: u32,
    /// The parameters by their keys, in the order of the file.
    pub parameters: Vec<(String, Values)>,
    /// The levels of successive halving.
    pub(super) halving: Option<Halving>,
}

impl Sweep {
    /// Reads the sweep in `path`; `seeds` overrides its number of seeds.
    ///
    /// # Errors
    /// Returns a [`ConfigError`] that names the file and the line, also if the base configuration is invalid.
    pub fn load(path: &Path, seeds: Option<u32>) -> Result<Self, ConfigError> {
        let source = ConfigSource::read(path, &[]).map_err(|error| match error {
            settings::Error::Missing { path } => settings::Error::At {
                place: path.display().to_string(),
                message:
                    "there is no such file; `pipeline help sweep` and the book's page on experiments have examples"
                        .to_owned(),
            },
            other => other,
        })?;
        let config: Config = source.parse(&KEYS.map(str::to_owned), &[])?.value;
        let wrong = |key: &str, message: String| ConfigError::from(source.error_at(key, message));
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let base = artifact::file::tidy(&folder.join(&config.base));
        let loaded = config::load(&base, &[])?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let n_seeds = seeds.unwrap_or(config.seeds);
        let parameters = parameters::parse(&config.parameters);
        let parameters = parameters.map_err(|(key, message)| wrong(&format!("parameters.{key}"), message))?;
        let checked = check_search(&config, &parameters).and_then(|()| check_keys(&config, &parameters, n_seeds));
        checked.map_err(|(key, message)| wrong(&key, message))?;
        let is_last = loaded.config.evaluate.gates.regression_vs.as_deref() == Some(LAST);
        if is_last && config.until >= Stage::Evaluate && !parameters.iter().any(|(key, _)| key == REGRESSION_VS) {
            let base = base.display();
            let message = format!(
                "`{REGRESSION_VS}` is \"{LAST}\" in {base}: each trial would be compared with the one before, and \
                 evaluated again when the sweep continues; name a run"
            );
            return Err(wrong("base", message));
        }
        let default_metric =
            if config.until < Stage::Evaluate { "validation_loss" } else { "checkpoint_validation_bits_per_byte" };
        Ok(Self {
            path: path.to_owned(),
            base,
            base_seed: loaded.config.seed,
            name: config.name.or(stem).unwrap_or_else(|| "sweep".to_owned()),
            until: config.until,
            metric: config.metric.unwrap_or_else(|| default_metric.to_owned()),
            goal: config.goal,
            method: config.method,
            trials: config.trials.unwrap_or(0),
            seed: config.seed.unwrap_or(0),
            n_seeds,
            parameters,
            halving: config.halving,
        })
    }

    /// Returns the assignments of the levels of successive halving; one without an assignment for other methods.
    pub fn levels(&self) -> Vec<Option<(String, Value)>> {
        match &self.halving {
            Some(halving) => halving.levels.iter().map(|value| Some((halving.key.clone(), value.clone()))).collect(),
            None => vec![None],
        }
    }

    /// Returns in how many trials one continues to the next level.
    pub fn factor(&self) -> usize {
        self.halving.as_ref().map_or(1, |halving| halving.factor)
    }

    /// Returns the seeds of each trial.
    pub fn seeds(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.base_seed;
        (0..u64::from(self.n_seeds)).map(move |i| first.wrapping_add(i))
    }

    /// Returns all overrides of a trial's configuration.
    pub fn overrides(&self, of_trial: &[String], seed: u64) -> Vec<String> {
        let own = [format!("name={}", self.name), format!("seed={seed}")];
        own.into_iter().chain(of_trial.iter().cloned()).collect()
    }
}

/// Checks what decides the number of trials and runs.
fn check_search(config: &Config, parameters: &[(String, Values)]) -> Result<(), Wrong> {
    let wrong = |key: &str, message: String| Err((key.to_owned(), message));
    if parameters.is_empty() {
        return wrong("parameters", "`parameters` names no key to vary".to_owned());
    }
    let is_grid = config.method == Method::Grid;
    let refused = [("trials", config.trials.is_some()), ("seed", config.seed.is_some())];
    if let Some((key, _)) = refused.into_iter().find(|(_, given)| is_grid && *given) {
        return wrong(key, format!("`{key}` has no effect with method = \"grid\""));
    }
    if config.trials == Some(0) || (!is_grid && config.trials.is_none()) {
        return wrong("trials", "`trials` must say how many combinations to draw".to_owned());
    }
    let mut n_trials = config.trials.unwrap_or(1);
    for (key, values) in parameters {
        let at = format!("parameters.{key}");
        if is_grid {
            let Some(values) = values.grid() else {
                return wrong(&at, format!("`{key}` needs `points`, the number of its values in a grid"));
            };
            n_trials = n_trials.saturating_mul(values.len());
        } else if matches!(values, Values::Range { points: Some(_), .. }) {
            return wrong(&at, format!("`points` of `{key}` has an effect only in a grid"));
        }
    }
    if n_trials > MAX_TRIALS {
        return wrong("parameters", format!("the sweep has {n_trials} trials, more than {MAX_TRIALS}"));
    }
    if config.until < Stage::Train {
        return wrong("until", format!("`until` is {}: a trial needs a trained model to be compared", config.until));
    }
    match (&config.halving, config.method) {
        (None, Method::Halving) => wrong("method", "`method` is \"halving\", which needs a table [halving]".to_owned()),
        (Some(_), Method::Grid | Method::Random) => {
            wrong("halving", "`halving` has no effect without method = \"halving\"".to_owned())
        }
        (Some(halving), Method::Halving) if halving.levels.len() < 2 => {
            wrong("halving.levels", "`halving.levels` needs at least two values".to_owned())
        }
        (Some(halving), Method::Halving) if halving.factor < 2 => {
            wrong("halving.factor", "`halving.factor` must be at least 2".to_owned())
        }
        _ => Ok(()),
    }
}

/// Checks that no parameter is a key that the sweep itself sets.
fn check_keys(config: &Config, parameters: &[(String, Values)], n_seeds: u32) -> Result<(), Wrong> {
    if n_seeds == 0 {
        return Err(("seeds".to_owned(), "`seeds` must be at least 1".to_owned()));
    }
    let of_level = config.halving.as_ref().map(|halving| halving.key.as_str());
    for (key, _) in parameters {
        let set_by = match key.as_str() {
            "name" => "`name`, above [parameters]",
            "seed" if n_seeds > 1 => "`seeds`",
            key if of_level == Some(key) => "[halving]",
            _ => continue,
        };
        return Err((format!("parameters.{key}"), format!("`{key}` cannot be varied, since {set_by} sets it")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn load(text: &str) -> Result<Sweep, String> {
        load_with("", text)
    }

    /// Loads a sweep of a configuration with some more lines.
    fn load_with(base: &str, text: &str) -> Result<Sweep, String> {
        let folder = tempfile::tempdir().unwrap();
        let base = format!("seed = 5\n[collect]\ndataset = \"d\"\n{base}");
        std::fs::write(folder.path().join("pipeline.toml"), base).unwrap();
        let path = folder.path().join("lr.toml");
        std::fs::write(&path, text).unwrap();
        Sweep::load(&path, None).map_err(|error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}").replace(&folder.path().display().to_string(), "DIR")
        })
    }

    #[test]
    fn keys_are_dotted_or_nested() {
        let text = "[parameters]\n\"train.steps\" = [1, 2]\ntrain.dropout = { min = 0.0, max = 0.5, points = 3 }\n";
        let sweep = load(text).unwrap();
        let keys: Vec<&str> = sweep.parameters.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["train.steps", "train.dropout"]);
        assert_eq!((sweep.name.as_str(), sweep.base_seed), ("lr", 5));
        assert_eq!(sweep.metric, "checkpoint_validation_bits_per_byte");
    }

    #[test]
    fn errors_name_the_line_and_what_to_do() {
        let check = |text: &str, expected: &str| assert_eq!(load(text).unwrap_err(), expected, "{text}");
        let grid = "[parameters]\ntrain.steps = [1, 2]\n";
        check("", "DIR/lr.toml: `parameters` names no key to vary");
        check("metrik = \"a\"", "DIR/lr.toml:1: unknown key `metrik`; did you mean `metric`?");
        check(&format!("trials = 3\n{grid}"), "DIR/lr.toml:1: `trials` has no effect with method = \"grid\"");
        check(&format!("method = \"random\"\n{grid}"), "DIR/lr.toml: `trials` must say how many combinations to draw");
        check(
            "[parameters]\ntrain.dropout = { min = 0.0, max = 0.5 }\n",
            "DIR/lr.toml:2: `train.dropout` needs `points`, the number of its values in a grid",
        );
        check(
            "[parameters]\ntrain.dropout = { min = 0.5, max = 0.5 }\n",
            "DIR/lr.toml:2: `train.dropout`: min is 0.5, which is not below max, 0.5",
        );
        check(
            "[parameters]\ntrain.learning_rate = { min = 0, max = 1, scale = \"log\" }\n",
            "DIR/lr.toml:2: `train.learning_rate`: scale = \"log\" needs a min above 0, not 0",
        );
        check(
            "[parameters]\ntrain.steps = 3\n",
            "DIR/lr.toml:2: `train.steps` must be a list of values, or a table with min and max",
        );
        check(
            "[parameters]\ntrain.dropout = { min = 0.0, max = 0.5, points = 10_000_000_000 }\n",
            "DIR/lr.toml:2: `train.dropout`: points must be from 2 to 10000",
        );
        check(
            "seeds = 2\n[parameters]\nseed = [1, 2]\n",
            "DIR/lr.toml:3: `seed` cannot be varied, since `seeds` sets it",
        );
        check(
            "method = \"halving\"\ntrials = 3\nhalving = { key = \"train.steps\", levels = [1, 2] }\n[parameters]\n\
             train.steps = [1, 2]\n",
            "DIR/lr.toml:5: `train.steps` cannot be varied, since [halving] sets it",
        );
        check(
            &format!("method = \"halving\"\ntrials = 3\n{grid}"),
            "DIR/lr.toml:1: `method` is \"halving\", which needs a table [halving]",
        );
        check(
            &format!("until = \"collect\"\n{grid}"),
            "DIR/lr.toml:1: `until` is collect: a trial needs a trained model to be compared",
        );
    }

    #[test]
    fn trials_are_not_compared_with_each_other() {
        let check = |run: &str, text: &str, expected: bool| {
            let base = format!("[evaluate.gates]\nregression_vs = \"{run}\"\n");
            let found = load_with(&base, text);
            assert_eq!(found.is_ok(), expected, "{found:?}");
            if let Err(error) = found {
                assert!(error.contains("is \"last\" in DIR/pipeline.toml") && error.ends_with("name a run"), "{error}");
            }
        };
        let steps = "[parameters]\ntrain.steps = [1, 2]\n";
        check("last", steps, false);
        check("code-001", steps, true);
        check("last", &format!("until = \"optimize\"\n{steps}"), true);
        check("last", "[parameters]\nevaluate.gates.regression_vs = [\"code-001\"]\n", true);
    }
}
