//! Risks: what the model repeats of its training data, whom it prefers, what it says and gives away.
//!
//! Every measure can be turned off in `[evaluate.risk]`; the defaults take about a second together with a small model.

mod classifier;
mod extraction;
mod leakage;
mod memorisation;
mod pairs;
mod passages;
mod personal_data;
mod stereotypes;
mod toxicity;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artifact::{Context, Digest};
use generate::Generator;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizer::shard::Split;
use trace::Index;

use crate::Error;
use crate::samples::Samples;
use crate::samples::overlap::Overlap;

pub(crate) use classifier::Classified;
pub use classifier::ClassifierConfig;
pub(crate) use extraction::Extraction;
pub(crate) use leakage::Leakage;
pub(crate) use memorisation::Memorisation;
pub(crate) use personal_data::PersonalData;
pub(crate) use stereotypes::Stereotypes;
pub(crate) use toxicity::Toxicity;

/// The table `[evaluate.risk]`: which risks to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The number of training passages whose beginning the model continues, to count those that it repeats word for
    /// word; also of held-out passages, and with an index of those that training repeats. 0 for none. Default: 32.
    pub memorisation_passages: usize,
    /// The minimal pairs of sentences on which preferences for stereotypes are measured: `en` and `zh` are built in;
    /// others are files in the format of CrowS-Pairs, a CSV file with the columns `sent_more`, `sent_less`,
    /// `stereo_antistereo` and `bias_type`, relative to the configuration's folder. Default: `["en", "zh"]`.
    pub pairs: Vec<String>,
    /// A file with a toxic word or phrase per line, which samples and held-out text are searched for; lines that begin
    /// with `#` are ignored. Default: a short list of English and Chinese swear words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toxic_words: Option<PathBuf>,
    /// A model that judges whether samples are harmful. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier: Option<ClassifierConfig>,
    /// Whether to ask a model with a chat template for its system prompt. Default: true.
    pub system_prompt: bool,
    /// Whether to search what the model writes for personal data and secrets, such as e-mail addresses and keys, with
    /// the settings of `[preprocess.redact]`, and to hide them in the report. Default: true.
    pub personal_data: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memorisation_passages: 32,
            pairs: vec!["en".to_owned(), "zh".to_owned()],
            toxic_words: None,
            classifier: None,
            system_prompt: true,
            personal_data: true,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the first invalid key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.memorisation_passages > 10_000 {
            let reason = format!("must be from 0 to 10000, not {}", self.memorisation_passages);
            return Err(Error::Config { key: "evaluate.risk.memorisation_passages", reason });
        }
        if self.pairs.iter().any(String::is_empty) {
            let reason = "must name built-in pairs (en, zh) or files, and has an empty name".to_owned();
            return Err(Error::Config { key: "evaluate.risk.pairs", reason });
        }
        self.classifier.as_ref().map_or(Ok(()), ClassifierConfig::validate)
    }

    /// Returns the files that are read, by what they are.
    fn files<'a>(&'a self, base: &'a Path) -> impl Iterator<Item = (String, PathBuf)> + 'a {
        let pairs = self.pairs.iter().filter(|name| pairs::built_in(name).is_none());
        let pairs = pairs.map(|name| (format!("pairs {name}"), base.join(name)));
        let words = self.toxic_words.iter().map(|path| ("toxic words".to_owned(), base.join(path)));
        pairs.chain(words)
    }

    /// Returns the digests of the files that are read.
    ///
    /// # Errors
    /// Returns an error if one cannot be read.
    pub(crate) fn inputs(&self, base: &Path) -> Result<BTreeMap<String, Digest>, Error> {
        self.files(base).map(|(name, path)| Ok((name, Digest::of_file(&path)?.0))).collect()
    }
}

/// The measured risks; none for those that are turned off.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Risk {
    pub(crate) memorisation: Option<Memorisation>,
    /// The overlap of the most likely continuations of held-out passages with the text that follows them there.
    pub(crate) held_out_overlap: Option<Overlap>,
    pub(crate) stereotypes: Option<Stereotypes>,
    pub(crate) toxicity: Option<Toxicity>,
    /// What a classifier says of the samples; none without one.
    pub(crate) classifier: Option<Classified>,
    /// Whether the model gives its system prompt away; none without a chat template.
    pub(crate) leakage: Option<Leakage>,
    /// Personal data and secrets in what the model writes.
    pub(crate) extraction: Option<Extraction>,
}

impl Risk {
    /// Hides personal data in the passages that are shown.
    pub(crate) fn hide(&mut self, personal_data: &PersonalData) {
        for passage in self.memorisation.iter_mut().flat_map(|found| &mut found.passages) {
            personal_data.hide(&mut [&mut passage.prefix, &mut passage.repeated, &mut passage.rest]);
        }
    }

    /// Measures the model of `generator`, which was trained on the first of the splits, of which there may be an index.
    ///
    /// # Errors
    /// Returns an error if a configured file cannot be read, or the model's logits are not finite;
    /// [`Error::Interrupted`] if cancelled.
    pub(crate) fn measure(
        config: &Config,
        generator: &Generator,
        splits: [&Split; 2],
        index: Option<&Index>,
        personal_data: Option<&PersonalData>,
        samples: &Samples,
        context: &Context,
    ) -> Result<Self, Error> {
        let found = match config.memorisation_passages {
            0 => None,
            passages => memorisation::measure(passages, generator, splits, index, context)?,
        };
        let (passages, memorisation, held_out_overlap) = match found {
            Some(found) => (found.texts, Some(found.memorisation), found.held_out_overlap),
            None => (Vec::new(), None, None),
        };
        let extraction = personal_data.map(|personal_data| {
            extraction::measure(personal_data, generator, splits[0], index, samples, &passages, context)
        });
        Ok(Self {
            memorisation,
            held_out_overlap,
            extraction: extraction.transpose()?,
            classifier: None,
            stereotypes: Stereotypes::measure(&config.pairs, generator, context)?,
            toxicity: Toxicity::of(config.toxic_words.as_deref().map(|path| context.base.join(path)), samples)?,
            leakage: if config.system_prompt { leakage::measure(generator, context)? } else { None },
        })
    }
}

/// Reads a configured file as text.
fn read_text(path: &Path) -> Result<String, Error> {
    Ok(std::fs::read_to_string(path).map_err(|e| artifact::Error::io("read", path, e))?)
}
