//! The stages in their order: what each reads, what decides its output, and the call into its crate.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;

use artifact::{Context, Digest, Outcome, Recipe, Sealed, Unsealed};
use clap::ValueEnum;
use data_ingest::{Inventory, LockChange, Resolved};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::import::Init;

/// A stage of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Raw data to corpus.
    Collect,
    /// Corpus to tokens.
    Preprocess,
    /// Tokens to checkpoint.
    Train,
    /// Checkpoint to bundle.
    Optimize,
    /// Everything so far to report.
    Evaluate,
    /// Bundle to samples.
    Generate,
    /// Bundle to service.
    Serve,
}

/// Why a stage did not end well.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Somebody asked to stop.
    #[error("{0}")]
    Interrupted(String),
    /// The stage says what is wrong.
    #[error(transparent)]
    Failed(Box<dyn StdError + Send + Sync>),
}

// Every stage crate has its own error with an `Interrupted` in it; a trait for that alone would have to live in a crate
// below them all.
macro_rules! told_apart {
    ($stage:ident, $result:expr) => {
        told_apart!($stage, $result, $stage::Error::Interrupted)
    };
    ($stage:ident, $result:expr, $interrupted:pat) => {
        $result.map_err(|error| match error {
            $interrupted => StageError::Interrupted(error.to_string()),
            other => StageError::Failed(Box::new(other)),
        })
    };
}

/// What a run reads from outside the store, listed and hashed.
#[derive(Debug)]
pub struct RawData {
    /// The model to start from, where there is one and it was looked for.
    pub init: Option<Init>,
    inventory: Inventory,
    digests: BTreeMap<Stage, BTreeMap<String, Digest>>,
}

impl RawData {
    /// Returns how many sources the corpus is collected from.
    pub fn sources(&self) -> usize {
        self.digests.get(&Stage::Collect).map_or(0, BTreeMap::len)
    }
}

/// Lists and hashes everything that a run reads from outside the store, beside the model to start from.
///
/// # Errors
/// When something is missing or unreadable, or somebody asked to stop.
pub fn raw_data(
    config: &Config,
    init: Option<Init>,
    dataset: &Resolved,
    context: &Context,
) -> Result<RawData, StageError> {
    let inventory = told_apart!(data_ingest, data_ingest::inventory(dataset, context))?;
    let prompts = told_apart!(generate, generate::inputs(&config.generate, context))?;
    let tokenizer = told_apart!(preprocess, preprocess::inputs(&config.preprocess, context))?;
    let digests = BTreeMap::from([
        (Stage::Collect, inventory.inputs()),
        (Stage::Preprocess, tokenizer),
        (Stage::Generate, prompts),
    ]);
    Ok(RawData { init, inventory, digests })
}

/// Reads the dataset and its lock.
///
/// # Errors
/// Returns an error if one of them cannot be read or parsed.
pub fn resolve(config: &Config, context: &Context) -> Result<Resolved, StageError> {
    told_apart!(data_ingest, data_ingest::resolve(&config.collect, context))
}

/// Fetches what is on other machines and in no lock yet, and returns what was added to the lock.
///
/// # Errors
/// When something cannot be fetched, differs from the lock, or somebody asked to stop.
pub fn lock(dataset: &mut Resolved, context: &Context) -> Result<Vec<LockChange>, StageError> {
    told_apart!(data_ingest, data_ingest::lock(dataset, context))
}

/// The sealed artifacts of a run so far.
pub type Made = BTreeMap<Stage, Sealed>;

impl Stage {
    /// Every stage, in the order of a run.
    pub const ALL: [Self; 7] =
        [Self::Collect, Self::Preprocess, Self::Train, Self::Optimize, Self::Evaluate, Self::Generate, Self::Serve];

    /// Returns the stage's name, which its table and its folder of artifacts have too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Collect => data_ingest::NAME,
            Self::Preprocess => preprocess::NAME,
            Self::Train => train::NAME,
            Self::Optimize => optimize::NAME,
            Self::Evaluate => evaluate::NAME,
            Self::Generate => generate::NAME,
            Self::Serve => serve::NAME,
        }
    }

    /// Returns what the stage makes.
    pub fn artifact(self) -> &'static str {
        match self {
            Self::Collect => "corpus",
            Self::Preprocess => "tokens",
            Self::Train => "checkpoint",
            Self::Optimize => "bundle",
            Self::Evaluate => "report",
            Self::Generate => "samples",
            Self::Serve => "service",
        }
    }

    /// Returns the stages whose artifacts this one reads.
    pub fn inputs(self) -> &'static [Self] {
        match self {
            Self::Collect => &[],
            Self::Preprocess => &[Self::Collect],
            Self::Train => &[Self::Preprocess],
            Self::Optimize => &[Self::Train, Self::Preprocess],
            Self::Evaluate => &[Self::Collect, Self::Preprocess, Self::Train, Self::Optimize],
            Self::Generate | Self::Serve => &[Self::Optimize],
        }
    }

    /// Tells whether the stage uses the device, so that another class of device may give another output.
    pub fn computes(self) -> bool {
        !matches!(self, Self::Collect | Self::Preprocess)
    }

    /// Returns everything that decides the stage's output, where all its inputs are made.
    ///
    /// # Errors
    /// The stages whose artifacts are missing.
    pub fn recipe(
        self,
        config: &Config,
        raw_data: &RawData,
        made: &Made,
        device_class: &str,
    ) -> Result<Recipe, Vec<Self>> {
        let missing: Vec<Self> = self.inputs().iter().copied().filter(|input| !made.contains_key(input)).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let mut inputs = raw_data.digests.get(&self).cloned().unwrap_or_default();
        inputs.extend(self.inputs().iter().map(|input| (input.artifact().to_owned(), made[input].digest())));
        match (&raw_data.init, self) {
            (Some(init), Self::Preprocess) if config.preprocess.tokenizer.from_init => {
                inputs.insert("tokenizer of train.init".to_owned(), init.tokenizer);
            }
            (Some(init), Self::Train) => {
                inputs.insert("train.init".to_owned(), init.digest);
            }
            _ => {}
        }
        let (stage_version, config_value) = self.version_and_config(config);
        Ok(Recipe {
            stage: self.name().to_owned(),
            stage_version,
            config: config_value,
            inputs,
            seed: config.seed,
            device_class: self.computes().then(|| device_class.to_owned()),
        })
    }

    /// Does part of stage preprocess in `out`, for [`Stage::run`] to go on from; the corpus is in `made`.
    ///
    /// # Errors
    /// What the stage says.
    pub fn preprocess_part(
        config: &Config,
        made: &Made,
        out: &Unsealed,
        part: (usize, usize),
        context: &Context,
    ) -> Result<(), StageError> {
        told_apart!(preprocess, preprocess::part(&config.preprocess, &made[&Self::Collect], out, part, context))
    }

    fn version_and_config(self, config: &Config) -> (u32, Value) {
        match self {
            Self::Collect => (data_ingest::VERSION, config.collect.fingerprint_value()),
            Self::Preprocess => (preprocess::VERSION, config.preprocess.fingerprint_value()),
            Self::Train => (train::VERSION, config.train.fingerprint_value()),
            Self::Optimize => (optimize::VERSION, config.optimize.fingerprint_value()),
            Self::Evaluate => (evaluate::VERSION, config.evaluate.fingerprint_value()),
            Self::Generate => (generate::VERSION, config.generate.fingerprint_value()),
            Self::Serve => (serve::VERSION, config.serve.fingerprint_value()),
        }
    }

    /// Does the stage's work in `out`. All its inputs are in `made`.
    ///
    /// # Errors
    /// What the stage says.
    pub fn run(
        self,
        config: &Config,
        raw_data: &RawData,
        made: &Made,
        out: &Unsealed,
        context: &Context,
    ) -> Result<Outcome, StageError> {
        let init = raw_data.init.as_ref().and_then(|init| init.sealed.as_ref());
        let outcome = match self {
            Self::Collect => {
                told_apart!(data_ingest, data_ingest::run(&config.collect, &raw_data.inventory, out, context))
            }
            Self::Preprocess => {
                let mut config = config.preprocess.clone();
                config.tokenizer.init_file = init.map(|init| init.folder().join("tokenizer.json"));
                told_apart!(preprocess, preprocess::run(&config, &made[&Self::Collect], out, context))
            }
            Self::Train => told_apart!(
                train,
                train::run(&config.train, init, &made[&Self::Preprocess], out, context),
                train::Error::Interrupted | train::Error::InterruptedAt { .. }
            ),
            Self::Optimize => told_apart!(
                optimize,
                optimize::run(&config.optimize, &made[&Self::Train], &made[&Self::Preprocess], out, context)
            ),
            Self::Evaluate => {
                let inputs = evaluate::Inputs {
                    corpus: &made[&Self::Collect],
                    tokens: &made[&Self::Preprocess],
                    checkpoint: &made[&Self::Train],
                    bundle: &made[&Self::Optimize],
                };
                told_apart!(evaluate, evaluate::run(&config.evaluate, &inputs, out, context))
            }
            Self::Generate => {
                told_apart!(generate, generate::run(&config.generate, &made[&Self::Optimize], out, context))
            }
            Self::Serve => told_apart!(serve, serve::run(&config.serve, &made[&Self::Optimize], out, context)),
        }?;
        // Collect compares each file itself; the others read their file long after it was hashed.
        let now = match self {
            Self::Preprocess => told_apart!(preprocess, preprocess::inputs(&config.preprocess, context))?,
            Self::Generate => told_apart!(generate, generate::inputs(&config.generate, context))?,
            _ => return Ok(outcome),
        };
        let then = raw_data.digests.get(&self);
        match now.into_iter().find(|(name, digest)| then.and_then(|then| then.get(name)) != Some(digest)) {
            Some((name, _)) => {
                let text = format!("{name} changed while the run was under way; run the same command again");
                Err(StageError::Failed(text.into()))
            }
            None => Ok(outcome),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
