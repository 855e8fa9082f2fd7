//! The table `[preprocess]`.

mod inputs;
mod length;
mod step;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::dedup::minhash;
use crate::mixture;
use crate::steps::decontaminate;
use crate::steps::language;
use crate::steps::quality::{c4, code, fineweb, gopher_quality, gopher_repetition};
use crate::steps::repair;
use crate::{Error, dedup::repeated};

pub use self::tokenizer::TokenizerConfig;
pub use inputs::inputs;
pub use length::{LengthConfig, LongDocuments};
pub use step::{Preset, Step};

/// Renamed keys below `[preprocess]`: the old path and the new one. The old one is accepted for one release.
pub const RENAMED_KEYS: &[(&str, &str)] = &[
    ("gopher_quality.max_bullet_line_share", "gopher_quality.max_bullet_line_fraction"),
    ("gopher_quality.max_ellipsis_line_share", "gopher_quality.max_ellipsis_line_fraction"),
    ("gopher_quality.min_letter_word_share", "gopher_quality.min_letter_word_fraction"),
    ("gopher_repetition.max_duplicate_paragraph_share", "gopher_repetition.max_duplicate_paragraph_fraction"),
    ("gopher_repetition.max_duplicate_paragraph_char_share", "gopher_repetition.max_duplicate_paragraph_char_fraction"),
    ("gopher_repetition.max_duplicate_line_share", "gopher_repetition.max_duplicate_line_fraction"),
    ("gopher_repetition.max_duplicate_line_char_share", "gopher_repetition.max_duplicate_line_char_fraction"),
    ("gopher_repetition.max_top_2_gram_share", "gopher_repetition.max_top_2_gram_fraction"),
    ("gopher_repetition.max_top_3_gram_share", "gopher_repetition.max_top_3_gram_fraction"),
    ("gopher_repetition.max_top_4_gram_share", "gopher_repetition.max_top_4_gram_fraction"),
    ("gopher_repetition.max_duplicate_5_gram_share", "gopher_repetition.max_duplicate_5_gram_fraction"),
    ("gopher_repetition.max_duplicate_6_gram_share", "gopher_repetition.max_duplicate_6_gram_fraction"),
    ("gopher_repetition.max_duplicate_7_gram_share", "gopher_repetition.max_duplicate_7_gram_fraction"),
    ("gopher_repetition.max_duplicate_8_gram_share", "gopher_repetition.max_duplicate_8_gram_fraction"),
    ("gopher_repetition.max_duplicate_9_gram_share", "gopher_repetition.max_duplicate_9_gram_fraction"),
    ("gopher_repetition.max_duplicate_10_gram_share", "gopher_repetition.max_duplicate_10_gram_fraction"),
    ("fineweb.min_punctuated_line_share", "fineweb.min_punctuated_line_fraction"),
    ("fineweb.max_short_line_share", "fineweb.max_short_line_fraction"),
    ("fineweb.max_duplicate_line_char_share", "fineweb.max_duplicate_line_char_fraction"),
    ("code.min_alphanumeric_share", "code.min_alphanumeric_fraction"),
    ("decontaminate.max_share", "decontaminate.max_fraction"),
];

/// The table `[preprocess]`: the steps applied to documents, in order, then the splits and the tokenizer.
///
/// The parameters of a step are in the table of its name: `[preprocess.gopher_quality]` for the step
/// `"gopher_quality"`. The table of a step that is not in the list has no effect, and the stage says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A named list of steps, used if `steps` is not given: `"none"`, `"web"`, `"code"` or `"chat"`; see
    /// [`Preset::steps`]. Default `"none"`.
    pub preset: Preset,
    /// The steps, in order, each at most once. Default: those of `preset`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<Step>>,
    /// Parameters of the step `repair`.
    pub repair: repair::Config,
    /// Parameters of the step `length`.
    pub length: LengthConfig,
    /// Parameters of the step `language`.
    pub language: language::Config,
    /// Parameters of the step `gopher_quality`.
    pub gopher_quality: gopher_quality::Config,
    /// Parameters of the step `gopher_repetition`.
    pub gopher_repetition: gopher_repetition::Config,
    /// Parameters of the step `c4`.
    pub c4: c4::Config,
    /// Parameters of the step `fineweb`.
    pub fineweb: fineweb::Config,
    /// Parameters of the step `code`.
    pub code: code::Config,
    /// Parameters of the step `redact`.
    pub redact: redact::Config,
    /// Parameters of the step `decontaminate`.
    pub decontaminate: decontaminate::Config,
    /// Parameters of the step `repeated`.
    pub repeated: repeated::Config,
    /// Parameters of the step `near_duplicates`.
    pub near_duplicates: minhash::Config,
    /// The mixture of sources in the train split.
    pub mix: mixture::Config,
    /// Fraction of the documents held out for validation during training, between 0 and 1. Default 0.02.
    pub validation: f64,
    /// Fraction of the documents held out for evaluation, between 0 and 1. Default 0.02.
    pub test: f64,
    /// Size of a shard's tokens, in bytes, at which the next shard begins. Default 67108864 (64 MiB).
    pub shard_bytes: u64,
    /// The table `[preprocess.tokenizer]`.
    pub tokenizer: TokenizerConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            preset: Preset::default(),
            steps: None,
            repair: repair::Config::default(),
            length: LengthConfig::default(),
            language: language::Config::default(),
            gopher_quality: gopher_quality::Config::default(),
            gopher_repetition: gopher_repetition::Config::default(),
            c4: c4::Config::default(),
            fineweb: fineweb::Config::default(),
            code: code::Config::default(),
            redact: redact::Config::default(),
            decontaminate: decontaminate::Config::default(),
            repeated: repeated::Config::default(),
            near_duplicates: minhash::Config::default(),
            mix: mixture::Config::default(),
            validation: 0.02,
            test: 0.02,
            shard_bytes: 64 << 20,
            tokenizer: TokenizerConfig::default(),
        }
    }
}

impl Config {
    /// Reads the configuration that a manifest records. That of the release before may have the old names of
    /// [`RENAMED_KEYS`].
    ///
    /// # Errors
    /// Returns an error if a key is unknown or has a value of another type.
    pub(crate) fn of_manifest(mut recorded: Value) -> Result<Self, serde_json::Error> {
        for (old, new) in RENAMED_KEYS {
            let pointer = |key: &str| format!("/{}", key.replace('.', "/"));
            let Some((old_table, old_key)) = old.rsplit_once('.') else { continue };
            let Some((new_table, new_key)) = new.rsplit_once('.') else { continue };
            let table = recorded.pointer_mut(&pointer(old_table)).and_then(Value::as_object_mut);
            let Some(value) = table.and_then(|table| table.remove(old_key)) else { continue };
            if let Some(table) = recorded.pointer_mut(&pointer(new_table)).and_then(Value::as_object_mut) {
                table.insert(new_key.to_owned(), value);
            }
        }
        // It is a key of another table in the file.
        let tokenizer = recorded.get_mut("tokenizer").and_then(Value::as_object_mut);
        let chat_template = tokenizer.and_then(|table| table.shift_remove("chat_template"));
        let mut config: Self = serde_json::from_value(recorded)?;
        config.tokenizer.chat_template = chat_template.and_then(|name| name.as_str().map(str::to_owned));
        Ok(config)
    }

    /// Returns the steps, in order.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.clone().unwrap_or_else(|| self.preset.steps())
    }

    /// Returns the rules of C4, with the preset's values for keys that are not given.
    pub(crate) fn c4(&self) -> c4::Config {
        let by_preset = self.preset != Preset::Web;
        let drop_unterminated_lines = self.c4.drop_unterminated_lines.or(Some(by_preset));
        c4::Config { drop_unterminated_lines, ..self.c4.clone() }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Returns [`Error::Config`] with the key of the first invalid value.
    pub fn validate(&self) -> Result<(), Error> {
        let fail = |key: &str, problem: String| Err(Error::config(key, problem));
        let mut seen = BTreeSet::new();
        let steps = self.steps();
        if let Some(twice) = steps.iter().find(|step| !seen.insert(**step)) {
            return fail("preprocess.steps", format!("contains `{}` twice; a step runs only once", twice.name()));
        }
        let compares = |step: &Step| matches!(step, Step::Repeated | Step::ExactDuplicates | Step::NearDuplicates);
        let position = |wanted: &dyn Fn(&Step) -> bool| steps.iter().position(wanted);
        if self.length.long == LongDocuments::Cut
            && let (Some(length), Some(comparing)) = (position(&|step| *step == Step::Length), position(&compares))
            && comparing < length
        {
            let problem =
                format!("has `length`, which cuts documents, after `{}`: put it first", steps[comparing].name());
            return fail("preprocess.steps", problem);
        }
        for step in &steps {
            self.validate_step(*step)?;
        }
        for (key, fraction) in [("preprocess.validation", self.validation), ("preprocess.test", self.test)] {
            if !(fraction > 0.0 && fraction < 1.0) {
                return fail(key, format!("is {fraction}, but must be between 0 and 1, a fraction of the documents"));
            }
        }
        if self.validation + self.test >= 1.0 {
            let problem =
                format!("= {} and preprocess.test = {} leave no documents for training", self.validation, self.test);
            return fail("preprocess.validation", problem);
        }
        if self.shard_bytes == 0 {
            return fail("preprocess.shard_bytes", "is 0".to_owned());
        }
        self.mix.validate().map_err(|e| in_table("mix", &e))?;
        self.tokenizer.validate()
    }

    fn validate_step(&self, step: Step) -> Result<(), Error> {
        let checked = match step {
            Step::Length => return self.length.validate(),
            Step::Repair | Step::ExactDuplicates | Step::ChatTemplate => Ok(()),
            Step::Language => self.language.validate(),
            Step::GopherQuality => self.gopher_quality.validate(),
            Step::GopherRepetition => self.gopher_repetition.validate(),
            Step::C4 => self.c4.validate(),
            Step::Fineweb => self.fineweb.validate(),
            Step::Code => self.code.validate(),
            Step::Redact => self.redact.validate(),
            Step::Decontaminate if self.decontaminate.sets.is_empty() => {
                Err("sets: missing: name the files of the evaluation sets".to_owned())
            }
            Step::Decontaminate => self.decontaminate.validate(),
            Step::Repeated => return self.repeated.validate(),
            Step::NearDuplicates => return self.near_duplicates.validate(),
        };
        checked.map_err(|problem| in_table(step.name(), &problem))
    }

    /// Returns the steps that are not run, although their tables have other values than the defaults.
    pub(crate) fn idle_tables(&self) -> Vec<&'static str> {
        let (value, default, steps) = (json!(self), json!(Self::default()), self.steps());
        let idle = Step::ALL.into_iter().filter(|step| !steps.contains(step)).map(Step::name);
        idle.filter(|name| value.get(name) != default.get(name)).collect()
    }

    /// Returns the configuration as JSON, without the values that cannot change the output: parameters of steps that
    /// are not run, and of the training of a tokenizer if one is given.
    pub fn fingerprint_value(&self) -> Value {
        let mut value = json!(self);
        let steps = self.steps();
        if let Some(table) = value.as_object_mut() {
            let idle = Step::ALL.iter().filter(|step| !steps.contains(step));
            idle.for_each(|step| drop(table.shift_remove(step.name())));
            if steps.contains(&Step::C4) {
                table.insert(Step::C4.name().to_owned(), json!(self.c4()));
            }
            table.shift_remove("preset");
            table.insert("steps".to_owned(), json!(steps));
            if self.mix == mixture::Config::default() {
                table.shift_remove("mix");
            }
        }
        if self.tokenizer.from_init {
            value["tokenizer"] = json!({ "from_init": true });
        } else if let Some(file) = &self.tokenizer.file {
            value["tokenizer"] = json!({ "file": file });
        }
        if let Some(template) = &self.tokenizer.chat_template {
            value["tokenizer"]["chat_template"] = json!(template);
        }
        value
    }

    /// Returns the configuration with the values of `overrides`, such as `("gopher_quality.min_words", 30)`.
    ///
    /// # Errors
    /// Returns [`Error::Config`] if a key does not exist or a value has the wrong type.
    pub fn with(&self, overrides: &[(String, Value)]) -> Result<Self, Error> {
        let mut value = json!(self);
        for (key, new) in overrides {
            let problem =
                |problem: &str| Error::Config { key: format!("preprocess.{key}"), problem: problem.to_owned() };
            let mut at = &mut value;
            for part in key.split('.') {
                at = at
                    .as_object_mut()
                    .and_then(|table: &mut Map<String, Value>| table.get_mut(part))
                    .ok_or_else(|| problem("is not a key"))?;
            }
            *at = new.clone();
        }
        serde_json::from_value(value).map_err(|e| Error::Config {
            key: "preprocess".to_owned(),
            problem: format!("cannot be set to the new value: {e}"),
        })
    }
}

/// Returns the error for a problem in a table; the text of `problem` begins with the key within the table.
fn in_table(table: &str, problem: &str) -> Error {
    let (key, problem) = problem.split_once([' ', ':']).unwrap_or((problem, ""));
    Error::Config { key: format!("preprocess.{table}.{key}"), problem: problem.trim_start_matches(' ').to_owned() }
}
