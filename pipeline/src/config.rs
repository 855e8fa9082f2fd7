//! The configuration: one file, one table a stage, each key known by name.

mod explain;
mod given;
mod set;

use std::error::Error as StdError;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use explain::nearest;
pub use given::strip;

/// The configuration's file name where none is given.
pub const FILE_NAME: &str = "pipeline.toml";

/// Everything a run is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The name that runs are numbered under: letters, digits, `.`, `_` and `-`. Default: `pipeline`.
    pub name: String,
    /// The seed of everything random. Default: 1337.
    pub seed: u64,
    /// Where to compute: `auto`, `cpu`, `wgpu`, or the name of a cargo feature that was built in. Default: `auto`.
    pub device: String,
    /// The folder of artifacts and runs. Default: `experiments`.
    pub store: PathBuf,
    /// The folder that relative paths start from, itself relative to the configuration's. Default: the configuration's own
    /// folder. Written by `run` into the configuration that it keeps with the run, so that this one works from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// Files, folders and addresses become a corpus.
    pub collect: data_ingest::Config,
    /// The corpus becomes tokens.
    pub preprocess: preprocess::Config,
    /// Tokens become a checkpoint.
    pub train: train::Config,
    /// The checkpoint becomes a bundle.
    pub optimize: optimize::Config,
    /// The held-out part, the samples and the baselines become a report.
    pub evaluate: evaluate::Config,
    /// Prompts become samples.
    pub generate: generate::Config,
    /// The bundle becomes a service.
    pub serve: serve::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "pipeline".to_owned(),
            seed: 1337,
            device: "auto".to_owned(),
            store: PathBuf::from("experiments"),
            base: None,
            collect: data_ingest::Config::default(),
            preprocess: preprocess::Config::default(),
            train: train::Config::default(),
            optimize: optimize::Config::default(),
            evaluate: evaluate::Config::default(),
            generate: generate::Config::default(),
            serve: serve::Config::default(),
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error(
        "there is no {}: `pipeline init` writes one for your own files, or name another: pipeline run <CONFIG>",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A line of the file, or an override, is not understood.
    #[error("{place}: {message}")]
    NotUnderstood {
        /// `pipeline.toml:12`, or `--set train.steps=many`.
        place: String,
        /// What is wrong, with the nearest right name where there is one.
        message: String,
    },
    /// A value is of the right type and cannot be used.
    #[error("{place}: a value that cannot be used")]
    Invalid {
        /// `pipeline.toml:12`, `--set train.steps=0`, or the file alone where the key is not in it.
        place: String,
        /// What the stage says about it.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// A configuration, and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration with every default and override filled in.
    pub config: Config,
    /// The file it was read from.
    pub path: PathBuf,
    /// The folder that relative paths start from.
    pub base: PathBuf,
}

impl Loaded {
    /// Returns the folder of artifacts and runs.
    pub fn store(&self) -> PathBuf {
        tidy(&self.base.join(&self.config.store))
    }
}

/// Reads the configuration in `path` and applies `overrides` (`key=value`) in their order.
///
/// # Errors
/// [`ConfigError`] that names the file and the line, or the override.
pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
        _ => ConfigError::Read { path: path.to_owned(), source },
    })?;
    // A byte order mark is invisible in every editor, and TOML does not know it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let (mut config, document) = set::apply(parse(path, text)?, path, text, overrides)?;
    given::complete(&mut config, &document, path, text, overrides)?;
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let base = match &config.base {
        Some(base) => folder.join(base),
        None => folder.to_owned(),
    };
    let loaded = Loaded { config, path: path.to_owned(), base };
    validate(&loaded.config).map_err(|source| ConfigError::Invalid {
        place: explain::place_of_value(path, text, overrides, &source.to_string()),
        source,
    })?;
    Ok(loaded)
}

fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::NotUnderstood {
        place: explain::place(path, text, error.span()),
        message: explain::message(text, &error),
    })
}

fn validate(config: &Config) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if config.name.is_empty() || config.name.starts_with('.') || !config.name.chars().all(named) {
        return Err(
            format!("name is \"{}\"; it names folders: use letters, digits, `.`, `_` and `-`", config.name).into()
        );
    }
    config.collect.validate()?;
    config.preprocess.validate()?;
    config.train.validate()?;
    config.optimize.validate()?;
    config.evaluate.validate()?;
    config.generate.validate()?;
    config.serve.validate()?;
    Ok(())
}

/// Returns `path` without its `.` parts, for people to read and copy.
pub fn tidy(path: &Path) -> PathBuf {
    let tidied: PathBuf = path.components().filter(|part| *part != std::path::Component::CurDir).collect();
    if tidied.as_os_str().is_empty() { PathBuf::from(".") } else { tidied }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, overrides: &[&str], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipeline.toml");
        // A run needs data; its table comes last, so that it moves no line.
        let text = format!("{text}\n[collect]\ndataset = \"d\"\n");
        std::fs::write(&path, &text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        let found = match load(&path, &overrides) {
            Ok(loaded) => format!("name {}, seed {}, store {}", loaded.config.name, loaded.config.seed, {
                loaded.config.store.display()
            }),
            Err(error) => {
                let cause = error.source().map(|s| format!(": {s}")).unwrap_or_default();
                format!("{error}{cause}").replace(&folder.path().display().to_string(), "DIR")
            }
        };
        assert_eq!(found, expected, "{text} {overrides:?}");
    }

    #[test]
    fn values_and_overrides_are_taken() {
        check("", &[], "name pipeline, seed 1337, store experiments");
        check("name = \"a\"\nseed = 7", &[], "name a, seed 7, store experiments");
        check("seed = 7", &["seed=8", "name=b", "store=s"], "name b, seed 8, store s");
        check("", &["name=12"], "name 12, seed 1337, store experiments");
        check("\u{feff}seed = 3", &[], "name pipeline, seed 3, store experiments");
    }

    #[test]
    fn errors_name_the_line_and_the_nearest_key() {
        check("name = \"a\"\n\nsede = 7", &[], "DIR/pipeline.toml:3: unknown key `sede`; did you mean `seed`?");
        check("seed = 1\n[trian]\n", &[], "DIR/pipeline.toml:2: unknown key `trian`; did you mean `train`?");
        check(
            "seed = \"many\"",
            &[],
            "DIR/pipeline.toml:1: `seed` is the string \"many\"; expected a whole number, 0 or more",
        );
        check("seed = -1", &[], "DIR/pipeline.toml:1: `seed` is the number -1; expected a whole number, 0 or more");
        check("seed = 1\nseed = 2", &[], "DIR/pipeline.toml:2: duplicate key");
        check("name = ", &[], "DIR/pipeline.toml:1: string values must be quoted, expected literal string");
        check(
            "name = \"a/b\"",
            &[],
            "DIR/pipeline.toml:1: a value that cannot be used: name is \"a/b\"; it names folders: use letters, digits, `.`, `_` and `-`",
        );
    }

    #[test]
    fn errors_name_the_override() {
        check("", &["sede=8"], "--set sede=8: unknown key `sede`; did you mean `seed`?");
        check("", &["seed"], "--set seed: expected key=value");
        check("", &["seed.x=1"], "--set seed.x=1: `seed` is a table; expected a whole number, 0 or more");
        check(
            "",
            &["name=a/b"],
            "--set name=a/b: a value that cannot be used: name is \"a/b\"; it names folders: use letters, digits, `.`, `_` and `-`",
        );
        check("seed = 1", &["seed.x=1"], "--set seed.x=1: `seed` is no table");
        check("", &["seed=x"], "--set seed=x: `seed` is the string \"x\"; expected a whole number, 0 or more");
    }

    #[test]
    fn every_recipe_is_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let entries = std::fs::read_dir(root.join("experiments")).unwrap();
        let recipes =
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "toml"));
        let mut count = 0;
        for path in recipes {
            let loaded = load(&path, &[]).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert_eq!(loaded.config.name, name);
            if let Some(dataset) = &loaded.config.collect.dataset {
                assert!(loaded.base.join(dataset).join("dataset.toml").exists(), "{name}: {dataset}");
            }
            count += 1;
        }
        assert_eq!(count, 8);
    }

    #[test]
    fn a_resolved_configuration_reads_back_as_itself() {
        let text = toml::to_string_pretty(&Config::default()).unwrap();
        let back: Config = toml::from_str(&text).unwrap();
        assert_eq!(toml::to_string_pretty(&back).unwrap(), text);
    }
}
