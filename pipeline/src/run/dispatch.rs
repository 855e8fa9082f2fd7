//! The calls into the stage crates: what each reads, what decides its output, and its run.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};

use artifact::{Context, Digest, Outcome, Recipe, Unsealed};
use data_ingest::{Inventory, LockChange, Resolved};
use serde_json::json;

use super::baseline::Baselines;
use super::input_model::{InputModels, Role};
use super::stage::{Artifacts, Stage};
use crate::config::Config;

/// Why a stage did not finish.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It was interrupted.
    #[error("{0}")]
    Interrupted(String),
    /// It failed.
    #[error(transparent)]
    Failed(Box<dyn StdError + Send + Sync>),
}

// Every stage crate has its own error with an `Interrupted` in it; a trait for that alone would have to live in a crate
// below them all.
macro_rules! stage_result {
    ($stage:ident, $result:expr) => {
        stage_result!($stage, $result, $stage::Error::Interrupted)
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
    /// The models that selected stages read.
    pub models: InputModels,
    /// The reports that stage evaluate may compare with.
    pub baselines: Baselines,
    /// The values of the configuration, for the report.
    pub settings: Vec<evaluate::Setting>,
    inventory: Inventory,
    digests: BTreeMap<Stage, BTreeMap<String, Digest>>,
}

impl RawData {
    /// Returns the number of sources that the corpus is collected from.
    pub fn sources(&self) -> usize {
        self.digests.get(&Stage::Collect).map_or(0, BTreeMap::len)
    }
}

/// The sources as a session listed and hashed them. Sessions that share it, as the trials of a sweep do, hash the same
/// sources once; stage collect compares each file that it reads with them.
#[derive(Debug, Clone, Default)]
pub struct Listing(Arc<Mutex<Option<(Digest, Inventory)>>>);

impl Listing {
    fn of(&self, config: &Config, dataset: &Resolved, context: &Context) -> Result<Inventory, StageError> {
        let key = Digest::of_json(&json!([config.collect, context.base]));
        // After a panic while the lock was held, there is what there was before.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, inventory)) = known.as_ref().filter(|(found, _)| *found == key) {
            return Ok(inventory.clone());
        }
        let inventory = stage_result!(data_ingest, data_ingest::inventory(dataset, context))?;
        *known = Some((key, inventory.clone()));
        Ok(inventory)
    }
}

/// Lists and hashes everything that a run reads from outside the store, except the models that stages read and the
/// sources that `listing` has.
///
/// # Errors
/// Returns an error if something is missing or cannot be read, or on interruption.
pub fn raw_data(
    config: &Config,
    models: InputModels,
    dataset: &Resolved,
    listing: &Listing,
    context: &Context,
) -> Result<RawData, StageError> {
    let inventory = listing.of(config, dataset, context)?;
    let prompts = stage_result!(generate, generate::inputs(&config.generate, context))?;
    let tokenizer = stage_result!(preprocess, preprocess::inputs(&config.preprocess, context))?;
    let evaluated = stage_result!(evaluate, evaluate::inputs(&config.evaluate, context))?;
    let digests = BTreeMap::from([
        (Stage::Collect, inventory.inputs()),
        (Stage::Preprocess, tokenizer),
        (Stage::Evaluate, evaluated),
        (Stage::Generate, prompts),
    ]);
    Ok(RawData { models, baselines: Baselines::default(), settings: Vec::new(), inventory, digests })
}

/// Reads the dataset and its lock.
///
/// # Errors
/// Returns an error if one of them cannot be read or parsed.
pub fn resolve(config: &Config, context: &Context) -> Result<Resolved, StageError> {
    stage_result!(data_ingest, data_ingest::resolve(&config.collect, context))
}

/// Fetches remote sources that are in no lock yet, and returns what was added to the lock.
///
/// # Errors
/// Returns an error if a source cannot be fetched or differs from the lock, or on interruption.
pub fn lock(dataset: &mut Resolved, context: &Context) -> Result<Vec<LockChange>, StageError> {
    stage_result!(data_ingest, data_ingest::lock(dataset, context))
}

impl Stage {
    /// Returns everything that decides the stage's output.
    ///
    /// # Errors
    /// Returns the stages whose artifacts are missing in `made`.
    pub fn recipe(
        self,
        config: &Config,
        raw_data: &RawData,
        made: &Artifacts,
        device_class: &str,
    ) -> Result<Recipe, Vec<Self>> {
        let missing: Vec<Self> = self.inputs().iter().copied().filter(|input| !made.contains_key(input)).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let mut inputs = raw_data.digests.get(&self).cloned().unwrap_or_default();
        inputs.extend(self.inputs().iter().map(|input| (input.artifact().to_owned(), made[input].digest())));
        let InputModels { init, teacher, reference, classifier } = &raw_data.models;
        match (init, self) {
            (Some(init), Self::Preprocess) if config.preprocess.tokenizer.from_init => {
                inputs.insert("tokenizer of train.init".to_owned(), init.tokenizer);
            }
            (_, Self::Train) => {
                for (role, model) in [(Role::Init, init), (Role::Teacher, teacher)] {
                    inputs.extend(model.iter().map(|model| (role.key().to_owned(), model.digest)));
                }
            }
            (_, Self::Evaluate) => {
                let baseline = raw_data.baselines.for_model(made);
                inputs.extend(baseline.map(|run| (run.input(), run.report.digest())));
                for (role, model) in [(Role::Reference, reference), (Role::Classifier, classifier)] {
                    inputs.extend(model.iter().map(|model| (role.key().to_owned(), model.digest)));
                }
            }
            _ => {}
        }
        let spec = self.spec();
        Ok(Recipe {
            stage: spec.name.to_owned(),
            stage_version: spec.version,
            config: (spec.fingerprint_value)(config),
            inputs,
            seed: config.seed,
            device_class: self.computes().then(|| device_class.to_owned()),
        })
    }

    /// Does one part of stage preprocess in `out`, which [`Stage::run`] continues; the corpus is in `made`.
    ///
    /// # Errors
    /// Returns the stage's error.
    pub fn preprocess_part(
        config: &Config,
        made: &Artifacts,
        out: &Unsealed,
        part: (usize, usize),
        context: &Context,
    ) -> Result<(), StageError> {
        stage_result!(preprocess, preprocess::part(&config.preprocess, &made[&Self::Collect], out, part, context))
    }

    /// Runs the stage in `out`. All its inputs are in `made`.
    ///
    /// # Errors
    /// Returns the stage's error.
    pub fn run(
        self,
        config: &Config,
        raw_data: &RawData,
        made: &Artifacts,
        out: &Unsealed,
        context: &Context,
    ) -> Result<Outcome, StageError> {
        let init = raw_data.models.init.as_ref().and_then(|model| model.sealed.as_ref());
        let teacher = raw_data.models.teacher.as_ref().and_then(|model| model.sealed.as_ref());
        let outcome = match self {
            Self::Collect => {
                stage_result!(data_ingest, data_ingest::run(&config.collect, &raw_data.inventory, out, context))
            }
            Self::Preprocess => {
                let mut config = config.preprocess.clone();
                config.tokenizer.init_file = init.map(|init| init.folder().join("tokenizer.json"));
                stage_result!(preprocess, preprocess::run(&config, &made[&Self::Collect], out, context))
            }
            Self::Train => {
                let inputs = train::Inputs { tokens: &made[&Self::Preprocess], init, teacher };
                stage_result!(
                    train,
                    train::run(&config.train, &inputs, out, context),
                    train::Error::Interrupted | train::Error::InterruptedAt { .. }
                )
            }
            Self::Optimize => stage_result!(
                optimize,
                optimize::run(&config.optimize, &made[&Self::Train], &made[&Self::Preprocess], out, context)
            ),
            Self::Index => stage_result!(trace, trace::run(&config.index, &made[&Self::Preprocess], out, context)),
            Self::Evaluate => {
                let baseline = raw_data.baselines.for_model(made);
                let reference = raw_data.models.reference.as_ref().and_then(|model| model.sealed.as_ref());
                let named = config.evaluate.reference_model.as_deref().zip(reference);
                let inputs = evaluate::Inputs {
                    corpus: &made[&Self::Collect],
                    tokens: &made[&Self::Preprocess],
                    checkpoint: &made[&Self::Train],
                    bundle: &made[&Self::Optimize],
                    index: &made[&Self::Index],
                    classifier: raw_data.models.classifier.as_ref().and_then(|model| model.sealed.as_ref()),
                    reference: named.map(|(name, sealed)| evaluate::ReferenceModel { name, sealed }),
                    baseline: baseline.map(|run| evaluate::Baseline { run: &run.name, report: &run.report }),
                    settings: &raw_data.settings,
                };
                stage_result!(evaluate, evaluate::run(&config.evaluate, &inputs, out, context))
            }
            Self::Generate => {
                stage_result!(generate, generate::run(&config.generate, &made[&Self::Optimize], out, context))
            }
            Self::Serve => {
                let mut config = config.serve.clone();
                config.draft_model = config.draft_model.map(|folder| context.base.join(folder).display().to_string());
                config.applications = config.applications.map(|folder| context.base.join(folder));
                stage_result!(serve, serve::run(&config, &made[&Self::Optimize], out, context))
            }
        }?;
        // Collect compares each file itself; the others read their file long after it was hashed.
        let now = match self {
            Self::Preprocess => stage_result!(preprocess, preprocess::inputs(&config.preprocess, context))?,
            Self::Evaluate => stage_result!(evaluate, evaluate::inputs(&config.evaluate, context))?,
            Self::Generate => stage_result!(generate, generate::inputs(&config.generate, context))?,
            _ => return Ok(outcome),
        };
        let then = raw_data.digests.get(&self);
        match now.into_iter().find(|(name, digest)| then.and_then(|then| then.get(name)) != Some(digest)) {
            Some((name, _)) => {
                let text = format!("{name} changed during the run; run the same command again");
                Err(StageError::Failed(text.into()))
            }
            None => Ok(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_hashed_once_in_a_listing() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(folder.path().join("a.txt"), text).unwrap();
        let config = |licence: &str| -> Config {
            toml::from_str(&format!("[[collect.sources]]\npath = \"a.txt\"\nlicence = \"{licence}\"\n")).unwrap()
        };
        let context = Context { base: folder.path().to_owned(), ..Context::quiet(1) };
        let inputs = |listing: &Listing, licence: &str| {
            let config = config(licence);
            let dataset = resolve(&config, &context).unwrap();
            listing.of(&config, &dataset, &context).unwrap().inputs()
        };
        write("one");
        let listing = Listing::default();
        let first = inputs(&listing, "MIT");
        write("two");
        assert_eq!(inputs(&listing.clone(), "MIT"), first);
        assert_ne!(inputs(&Listing::default(), "MIT"), first);
        assert_ne!(inputs(&listing, "CC0-1.0"), first, "another configuration is listed again");
    }
}
