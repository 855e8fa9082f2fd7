//! The configuration: one file with one table per stage.

mod constraints;
mod origins;
pub mod reference;

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};

use artifact::StoreLayout;
use artifact::file::tidy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::{ConfigSource, Parsed};

pub use constraints::strip;
pub use origins::values;

/// The default file name of the configuration.
pub const FILE_NAME: &str = "pipeline.toml";

/// The configuration of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
    /// The folder that relative paths start from, itself relative to the configuration's. Default: the configuration's
    /// own folder. Written by `run` into the configuration that it keeps with the run, so that this one works from
    /// there.
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
    /// Tokens become an index of the training data, in which texts are traced.
    pub index: trace::Config,
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
            index: trace::Config::default(),
            evaluate: evaluate::Config::default(),
            generate: generate::Config::default(),
            serve: serve::Config::default(),
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not exist.
    #[error(
        "there is no {}: `pipeline init` writes one for your own files, or name another: pipeline run <CONFIG>",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read, or a line or an override is not valid.
    #[error(transparent)]
    Settings(settings::Error),
    /// A value has the right type and is invalid.
    #[error("{place}: invalid value")]
    Invalid {
        /// `pipeline.toml:12`, `--set train.steps=0`, or the file alone if the key is not in it.
        place: String,
        /// What the stage says about it.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl From<settings::Error> for ConfigError {
    fn from(error: settings::Error) -> Self {
        match error {
            settings::Error::Missing { path } => Self::Missing { path },
            other => Self::Settings(other),
        }
    }
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
    /// Where each key was given: a line of the file, or an override. Keys with their defaults are not in it.
    pub origins: BTreeMap<String, String>,
    /// Lines to show: keys that were renamed.
    pub notices: Vec<String>,
}

impl Loaded {
    /// Returns the paths of the store.
    pub fn layout(&self) -> StoreLayout {
        StoreLayout::new(tidy(&self.base.join(&self.config.store)))
    }

    /// Returns the configuration for commands that generate and serve: paths in it start from the current folder.
    pub fn into_config(self) -> Config {
        let Self { mut config, base, .. } = self;
        let serve = &mut config.serve;
        let paths = [&mut serve.keys, &mut serve.tls_cert, &mut serve.tls_key, &mut serve.applications];
        for path in paths.into_iter().flatten() {
            *path = tidy(&base.join(&*path));
        }
        if let Some(file) = &mut config.generate.prompts_file {
            *file = tidy(&base.join(&*file)).display().to_string();
        }
        let drafts = serve.draft_model.iter_mut().chain(&mut config.generate.draft_model);
        for model in drafts.chain(serve.models.iter_mut().map(|entry| &mut entry.model)) {
            // A run and an imported model have names.
            let path = base.join(&*model);
            if path.exists() {
                *model = tidy(&path).display().to_string();
            }
        }
        config
    }
}

/// Reads the configuration in `path` and applies `overrides` (`key=value`) in their order.
///
/// # Errors
/// Returns a [`ConfigError`] that names the file and the line, or the override.
pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, ConfigError> {
    read(path, overrides, true)
}

/// Reads the configuration in `path` for a command that needs no data: that of a server may have no `[collect]`.
///
/// # Errors
/// As [`load`].
pub fn load_without_data(path: &Path) -> Result<Loaded, ConfigError> {
    read(path, &[], false)
}

fn read(path: &Path, overrides: &[String], needs_data: bool) -> Result<Loaded, ConfigError> {
    let source = ConfigSource::read(path, overrides)?;
    let known: Vec<String> = reference::keys().into_iter().map(|key| key.path).collect();
    let parsed = source.parse(&known, &renamed_keys())?;
    let Parsed { value: mut config, document, notices } = parsed;
    constraints::complete(&mut config, &document, &source)?;
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let base = match &config.base {
        Some(base) => folder.join(base),
        None => folder.to_owned(),
    };
    validate(&config, needs_data)
        .map_err(|error| ConfigError::Invalid { place: source.place(&error.to_string()), source: error })?;
    Ok(Loaded { config, path: path.to_owned(), base, origins: source.origins(), notices })
}

/// Returns the renamed keys of all stages: the old dotted path and the new one.
fn renamed_keys() -> Vec<(String, String)> {
    let tables = [
        ("preprocess", preprocess::RENAMED_KEYS),
        ("train", train::RENAMED_KEYS),
        ("optimize", optimize::RENAMED_KEYS),
    ];
    let dotted = |table: &str, (old, new): &(&str, &str)| (format!("{table}.{old}"), format!("{table}.{new}"));
    tables.iter().flat_map(|(table, keys)| keys.iter().map(move |pair| dotted(table, pair))).collect()
}

fn validate(config: &Config, needs_data: bool) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if config.name.is_empty() || config.name.starts_with('.') || !config.name.chars().all(named) {
        return Err(
            format!("name is \"{}\"; it names folders: use letters, digits, `.`, `_` and `-`", config.name).into()
        );
    }
    let has_data = config.collect.dataset.is_some() || !config.collect.sources.is_empty();
    if needs_data || has_data {
        config.collect.validate()?;
    }
    config.preprocess.validate()?;
    config.train.validate()?;
    config.optimize.validate()?;
    if config.train.init.is_none() {
        config.optimize.check_family(config.train.model.family)?;
    }
    config.index.validate()?;
    config.evaluate.validate()?;
    config.generate.validate()?;
    config.serve.validate()?;
    Ok(())
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
    fn values_and_overrides_are_read() {
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
            "DIR/pipeline.toml:1: `seed`: invalid type: string \"many\", expected an integer of at least 0",
        );
        check(
            "seed = -1",
            &[],
            "DIR/pipeline.toml:1: `seed`: invalid value: integer `-1`, expected an integer of at least 0",
        );
        check("seed = 1\nseed = 2", &[], "DIR/pipeline.toml:2: duplicate key");
        check("name = ", &[], "DIR/pipeline.toml:1: string values must be quoted, expected literal string");
        check(
            "name = \"a/b\"",
            &[],
            "DIR/pipeline.toml:1: invalid value: name is \"a/b\"; it names folders: \
             use letters, digits, `.`, `_` and `-`",
        );
    }

    #[test]
    fn errors_name_the_override() {
        check("", &["sede=8"], "--set sede=8: unknown key `sede`; did you mean `seed`?");
        check("", &["seed"], "--set seed: expected key=value");
        check("", &["seed.x=1"], "--set seed.x=1: `seed`: invalid type: map, expected an integer of at least 0");
        check(
            "",
            &["name=a/b"],
            "--set name=a/b: invalid value: name is \"a/b\"; it names folders: use letters, digits, `.`, `_` and `-`",
        );
        check("seed = 1", &["seed.x=1"], "--set seed.x=1: `seed` is not a table");
        check("", &["seed=x"], "--set seed=x: `seed`: invalid type: string \"x\", expected an integer of at least 0");
    }

    #[test]
    fn every_recipe_is_valid() {
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
        assert_ne!(count, 0, "recipes are in experiments");
    }

    #[test]
    fn a_resolved_configuration_reads_back_as_itself() {
        let text = toml::to_string_pretty(&Config::default()).unwrap();
        let back: Config = toml::from_str(&text).unwrap();
        assert_eq!(toml::to_string_pretty(&back).unwrap(), text);
    }
}
