//! `sweep.toml`: the parameters and how to search them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use settings::ConfigSource;
use toml::Value;

use crate::config::{self, ConfigError};
use crate::run::stage::Stage;

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

/// The most trials: heuristic, a sweep of more is a mistake in a grid.
const MAX_TRIALS: usize = 10_000;

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

/// The values of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// These.
    Choice(Vec<Value>),
    /// Those between two ends.
    Range {
        /// The lower end.
        min: f64,
        /// The upper end.
        max: f64,
        /// Whether factors count instead of differences.
        is_log: bool,
        /// Whether only whole numbers are meant.
        is_whole: bool,
        /// How many of them a grid has.
        points: Option<usize>,
    },
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
        let in_parameters = |key: &str, message: String| wrong(&format!("parameters.{key}"), message);
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let base = artifact::file::tidy(&folder.join(&config.base));
        let loaded = config::load(&base, &[])?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let parameters = parameters(&config.parameters).map_err(|(key, message)| in_parameters(&key, message))?;
        if parameters.is_empty() {
            return Err(wrong("parameters", "`parameters` names no key to vary".to_owned()));
        }
        let is_grid = config.method == Method::Grid;
        let refused = [("trials", config.trials.is_some()), ("seed", config.seed.is_some())];
        if let Some((key, _)) = refused.into_iter().find(|(_, given)| is_grid && *given) {
            return Err(wrong(key, format!("`{key}` has no effect with method = \"grid\"")));
        }
        if config.trials == Some(0) || (!is_grid && config.trials.is_none()) {
            return Err(wrong("trials", "`trials` must say how many combinations to draw".to_owned()));
        }
        let mut n_trials = config.trials.unwrap_or(1);
        for (key, values) in parameters.iter().filter(|_| is_grid) {
            let Some(values) = values.grid() else {
                return Err(in_parameters(key, format!("`{key}` needs `points`, the number of its values in a grid")));
            };
            n_trials = n_trials.saturating_mul(values.len());
        }
        let has_points = |values: &Values| matches!(values, Values::Range { points: Some(_), .. });
        if let Some((key, _)) = parameters.iter().find(|(_, values)| !is_grid && has_points(values)) {
            return Err(in_parameters(key, format!("`points` of `{key}` has an effect only in a grid")));
        }
        if n_trials > MAX_TRIALS {
            return Err(wrong("parameters", format!("the sweep has {n_trials} trials, more than {MAX_TRIALS}")));
        }
        check_halving(&config, &wrong)?;
        if config.seeds == 0 || seeds == Some(0) {
            return Err(wrong("seeds", "`seeds` must be at least 1".to_owned()));
        }
        let default_metric =
            if config.until < Stage::Evaluate { "validation_loss" } else { "checkpoint_validation_bits_per_byte" };
        if config.until < Stage::Train {
            return Err(wrong(
                "until",
                format!("`until` is {}: a trial needs a trained model to be compared", config.until),
            ));
        }
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
            n_seeds: seeds.unwrap_or(config.seeds),
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

fn check_halving(config: &Config, wrong: &impl Fn(&str, String) -> ConfigError) -> Result<(), ConfigError> {
    let error = match (&config.halving, config.method) {
        (None, Method::Halving) => ("method", "`method` is \"halving\", which needs a table [halving]".to_owned()),
        (Some(_), Method::Grid | Method::Random) => {
            ("halving", "`halving` has no effect without method = \"halving\"".to_owned())
        }
        (Some(halving), Method::Halving) if halving.levels.len() < 2 => {
            ("halving.levels", "`halving.levels` needs at least two values".to_owned())
        }
        (Some(halving), Method::Halving) if halving.factor < 2 => {
            ("halving.factor", "`halving.factor` must be at least 2".to_owned())
        }
        _ => return Ok(()),
    };
    Err(wrong(error.0, error.1))
}

impl Values {
    /// Returns the values of a grid; none if the number of points is not given.
    pub fn grid(&self) -> Option<Vec<Value>> {
        match self {
            Self::Choice(values) => Some(values.clone()),
            Self::Range { points, .. } => {
                let points = (*points)?;
                let last = points.saturating_sub(1).max(1) as f64;
                let mut values: Vec<Value> = (0..points).map(|i| self.at(i as f64 / last)).collect();
                values.dedup();
                Some(values)
            }
        }
    }

    /// Returns the value at `place`, from 0 to 1: of a range, evenly in differences or factors; of a choice, in their
    /// order. Real numbers have four significant digits, as people would write them.
    pub fn at(&self, place: f64) -> Value {
        match self {
            Self::Choice(values) => {
                let i = (place * values.len() as f64) as usize;
                values[i.min(values.len() - 1)].clone()
            }
            Self::Range { min, max, is_log, is_whole, .. } => {
                let value = if *is_log { min * (max / min).powf(place) } else { min + (max - min) * place };
                if *is_whole {
                    return Value::Integer(value.round().clamp(*min, *max) as i64);
                }
                let rounded = format!("{value:.3e}").parse().unwrap_or(value);
                Value::Float(f64::clamp(rounded, *min, *max))
            }
        }
    }
}

/// Returns the parameters of `[parameters]`, whose keys may be dotted or nested.
fn parameters(table: &toml::Table) -> Result<Vec<(String, Values)>, (String, String)> {
    fn walk(prefix: &str, table: &toml::Table, out: &mut Vec<(String, Values)>) -> Result<(), (String, String)> {
        for (name, value) in table {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                Value::Table(table) if table.contains_key("min") || table.contains_key("max") => {
                    let range = range(table).map_err(|message| (path.clone(), format!("`{path}`: {message}")))?;
                    out.push((path, range));
                }
                Value::Table(table) => walk(&path, table, out)?,
                Value::Array(values) if !values.is_empty() => out.push((path, Values::Choice(values.clone()))),
                _ => {
                    let message = format!("`{path}` must be a list of values, or a table with min and max");
                    return Err((path, message));
                }
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    walk("", table, &mut out)?;
    Ok(out)
}

fn range(table: &toml::Table) -> Result<Values, String> {
    if let Some(key) = table.keys().find(|key| !["min", "max", "scale", "points"].contains(&key.as_str())) {
        return Err(format!("unknown key `{key}`; a range has min, max, scale and points"));
    }
    let end = |name: &str| match table.get(name) {
        Some(Value::Integer(whole)) => Ok((*whole as f64, true)),
        Some(Value::Float(real)) if real.is_finite() => Ok((*real, false)),
        _ => Err(format!("{name} must be a number")),
    };
    let ((min, min_is_whole), (max, max_is_whole)) = (end("min")?, end("max")?);
    let is_log = match table.get("scale").map(|scale| scale.as_str()) {
        None | Some(Some("linear")) => false,
        Some(Some("log")) => true,
        Some(_) => return Err("scale must be \"linear\" or \"log\"".to_owned()),
    };
    let points = match table.get("points") {
        None => None,
        Some(Value::Integer(points)) if *points >= 2 => Some(*points as usize),
        Some(_) => return Err("points must be at least 2".to_owned()),
    };
    if min >= max {
        return Err(format!("min is {min}, which is not below max, {max}"));
    }
    if is_log && min <= 0.0 {
        return Err(format!("scale = \"log\" needs a min above 0, not {min}"));
    }
    Ok(Values::Range { min, max, is_log, is_whole: min_is_whole && max_is_whole, points })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn load(text: &str) -> Result<Sweep, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pipeline.toml"), "seed = 5\n[collect]\ndataset = \"d\"\n").unwrap();
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
            &format!("method = \"halving\"\ntrials = 3\n{grid}"),
            "DIR/lr.toml:1: `method` is \"halving\", which needs a table [halving]",
        );
        check(
            &format!("until = \"collect\"\n{grid}"),
            "DIR/lr.toml:1: `until` is collect: a trial needs a trained model to be compared",
        );
    }

    #[test]
    fn ranges_are_divided_evenly() {
        let check = |values: Values, expected: &[&str]| {
            let found: Vec<String> = values.grid().unwrap().iter().map(Value::to_string).collect();
            assert_eq!(found, expected);
        };
        let range =
            |min, max, is_log, is_whole, points| Values::Range { min, max, is_log, is_whole, points: Some(points) };
        check(range(1e-4, 1e-2, true, false, 3), &["0.0001", "0.001", "0.01"]);
        check(range(0.0, 1.0, false, false, 5), &["0.0", "0.25", "0.5", "0.75", "1.0"]);
        check(range(2.0, 32.0, true, true, 5), &["2", "4", "8", "16", "32"]);
        check(range(1.0, 2.0, false, true, 9), &["1", "2"]);
        assert_eq!(Values::Choice(vec![1.into(), 2.into(), 3.into()]).at(0.999), 3.into());
    }
}
