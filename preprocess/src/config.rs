//! The table `[preprocess]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use artifact::{Context, Digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokenizer::{Kind, MIN_VOCAB_SIZE};

use crate::dedup::minhash;
use crate::output::mixture;
use crate::steps::decontaminate;
use crate::steps::language;
use crate::steps::quality::{c4, code, fineweb, gopher_quality, gopher_repetition};
use crate::steps::redact;
use crate::steps::repair;
use crate::{Error, dedup::repeated};

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

/// A step applied to documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Repairs encodings and line ends, and normalizes Unicode.
    Repair,
    /// Drops documents that are too short or too long, or cuts long ones.
    Length,
    /// Keeps documents in the configured languages.
    Language,
    /// The quality rules of Gopher.
    GopherQuality,
    /// The repetition rules of Gopher.
    GopherRepetition,
    /// The line and document rules of C4.
    C4,
    /// The custom rules of `FineWeb`.
    Fineweb,
    /// Rules for source code.
    Code,
    /// Replaces personal data and secrets with placeholders.
    Redact,
    /// Drops documents that overlap with evaluation sets.
    Decontaminate,
    /// Removes lines and paragraphs that occur in several documents.
    Repeated,
    /// Exact deduplication.
    ExactDuplicates,
    /// Near deduplication.
    NearDuplicates,
    /// Drops conversations that the chat template refuses. It is not in the list of steps: it always comes last, where
    /// documents are encoded.
    #[serde(skip)]
    ChatTemplate,
}

/// A named list of steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Text repair, length limits and exact deduplication only.
    #[default]
    None,
    /// Web pages: the filters of `FineWeb` (Penedo et al., 2024), then redaction and deduplication.
    Web,
    /// Source code.
    Code,
    /// Conversations.
    Chat,
}

/// The table `[preprocess.length]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LengthConfig {
    /// Documents shorter than this are dropped; bytes. Default 64.
    pub min_bytes: u64,
    /// Documents longer than this are dropped or cut; bytes. Default 262144 (256 KiB): longer files in a source tree
    /// are usually generated.
    pub max_bytes: u64,
    /// What to do with longer documents: `"drop"`, or `"cut"` them at line ends into pieces of at most `max_bytes`,
    /// each a separate document, for example if one file contains a whole book. A conversation is never cut. Default
    /// `"drop"`.
    pub long: LongDocuments,
}

/// What to do with a document longer than `max_bytes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LongDocuments {
    /// It is dropped.
    #[default]
    Drop,
    /// It is cut into pieces at line ends.
    Cut,
}

/// The table `[preprocess.tokenizer]`: train a tokenizer, or use a given one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// A `tokenizer.json` to use instead of training one, relative to `pipeline.toml`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Whether to use the tokenizer of `train.init` instead of training one. Default: true if `train.init` is set and
    /// this table has no other key, else false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub from_init: bool,
    /// The path of the tokenizer of `train.init`. Not a key of the file.
    #[serde(skip)]
    pub init_file: Option<PathBuf>,
    /// The chat template of `train.chat_template`: a name, or a file relative to `pipeline.toml`. Not a key of the
    /// table.
    #[serde(skip)]
    pub chat_template: Option<String>,
    /// The model to train: `"bpe"` (byte-level), `"unigram"`, `"wordpiece"` or `"character"`. Default `"bpe"`.
    pub kind: Kind,
    /// Size of the trained vocabulary, special tokens included. Default 4096.
    pub vocab_size: usize,
    /// The pre-tokenization pattern: `"qwen2"`, `"gpt2"` or `"smollm"`; llama.cpp supports all of them. Default
    /// `"qwen2"`.
    pub pattern: tokenizer::Pattern,
    /// Special tokens beside `<|endoftext|>`, `<|im_start|>` and `<|im_end|>`. Default: none.
    pub special_tokens: Vec<String>,
    /// Maximum size of the sample of the train split, chosen by content hash, that the tokenizer is trained on; bytes.
    /// Default 33554432 (32 MiB): more hardly changes a vocabulary of a few thousand tokens.
    pub train_bytes: u64,
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

impl Default for LengthConfig {
    fn default() -> Self {
        Self { min_bytes: 64, max_bytes: 256 << 10, long: LongDocuments::default() }
    }
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            file: None,
            from_init: false,
            init_file: None,
            chat_template: None,
            kind: Kind::default(),
            vocab_size: 4096,
            pattern: tokenizer::Pattern::default(),
            special_tokens: Vec::new(),
            train_bytes: 32 << 20,
        }
    }
}

impl Step {
    /// Every step that can be configured, in a sensible order.
    pub const ALL: [Self; 13] = [
        Self::Repair,
        Self::Length,
        Self::Language,
        Self::GopherRepetition,
        Self::GopherQuality,
        Self::C4,
        Self::Fineweb,
        Self::Code,
        Self::Redact,
        Self::Decontaminate,
        Self::Repeated,
        Self::ExactDuplicates,
        Self::NearDuplicates,
    ];

    /// Returns the name used in the configuration, in counts and in signals.
    pub fn name(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Length => "length",
            Self::Language => "language",
            Self::GopherQuality => "gopher_quality",
            Self::GopherRepetition => "gopher_repetition",
            Self::C4 => "c4",
            Self::Fineweb => "fineweb",
            Self::Code => "code",
            Self::Redact => "redact",
            Self::Decontaminate => "decontaminate",
            Self::Repeated => "repeated",
            Self::ExactDuplicates => "exact_duplicates",
            Self::NearDuplicates => "near_duplicates",
            Self::ChatTemplate => "chat_template",
        }
    }

    /// Returns advice on how to keep the documents that this step dropped.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Repair => "set preprocess.repair.invalid_utf8 = \"repair\"",
            Self::Length => "see preprocess.length.min_bytes, max_bytes and long = \"cut\"",
            Self::ExactDuplicates | Self::NearDuplicates => "collect other documents",
            Self::Language => "see preprocess.language.keep and threshold",
            Self::Decontaminate => "see preprocess.decontaminate.sets",
            Self::ChatTemplate => "remove them from the data, or use a template that takes them: train.chat_template",
            _ => "see its thresholds, or remove it from preprocess.steps",
        }
    }
}

impl Preset {
    /// Returns the steps of the preset.
    pub fn steps(self) -> Vec<Step> {
        use Step::{
            C4, Code, ExactDuplicates, Fineweb, GopherQuality, GopherRepetition, Length, NearDuplicates, Redact, Repair,
        };
        match self {
            Self::None => vec![Repair, Length, ExactDuplicates],
            Self::Web => vec![
                Repair,
                Length,
                GopherRepetition,
                GopherQuality,
                C4,
                Fineweb,
                Redact,
                ExactDuplicates,
                NearDuplicates,
            ],
            Self::Code => vec![Repair, Length, Code, Redact, ExactDuplicates, NearDuplicates],
            Self::Chat => vec![Repair, Redact, ExactDuplicates],
        }
    }
}

/// The tokenizer's trainer counts pairs in 32 bits; up to this many bytes no count overflows.
const MAX_TRAIN_BYTES: u64 = 1 << 30;

/// The largest vocabularies in use have about 260 000 tokens; a larger number than this is a typing error.
const MAX_VOCAB_SIZE: usize = 1 << 20;

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

impl LengthConfig {
    /// Returns the key by which a document of this length is dropped, if it is.
    pub(crate) fn failed(&self, bytes: u64) -> Option<&'static str> {
        match bytes {
            _ if bytes < self.min_bytes => Some("min_bytes"),
            _ if bytes > self.max_bytes => Some("max_bytes"),
            _ => None,
        }
    }

    fn validate(&self) -> Result<(), Error> {
        let fail = |key: &str, problem: String| Err(Error::config(key, problem));
        if self.min_bytes == 0 {
            let problem = "is 0; an empty document has no tokens, so the minimum is 1".to_owned();
            return fail("preprocess.length.min_bytes", problem);
        }
        if self.max_bytes < self.min_bytes {
            let problem = format!("is {}, less than preprocess.length.min_bytes = {}", self.max_bytes, self.min_bytes);
            return fail("preprocess.length.max_bytes", problem);
        }
        Ok(())
    }
}

impl TokenizerConfig {
    /// Returns the file of the chat template, if it is not one with a name.
    pub(crate) fn template_file(&self) -> Option<PathBuf> {
        self.chat_template.as_ref().filter(|name| tokenizer::builtin(name).is_none()).map(PathBuf::from)
    }

    fn validate(&self) -> Result<(), Error> {
        let fail = |key: &str, problem: String| Err(Error::config(key, problem));
        if self.from_init && self.file.is_some() {
            let problem = "is given together with preprocess.tokenizer.from_init = true; remove one of them".to_owned();
            return fail("preprocess.tokenizer.file", problem);
        }
        if self.from_init || self.file.is_some() {
            return Ok(());
        }
        // The minimum of the other kinds depends on the text.
        let min = if self.kind == Kind::Bpe { MIN_VOCAB_SIZE + self.special_tokens.len() } else { 1 };
        let vocab_size = self.vocab_size;
        if !(min..=MAX_VOCAB_SIZE).contains(&vocab_size) {
            let problem = format!(
                "is {vocab_size}, but must be between {min} (the minimum that can encode any text, special tokens \
                 included) and {MAX_VOCAB_SIZE}"
            );
            return fail("preprocess.tokenizer.vocab_size", problem);
        }
        let train_bytes = self.train_bytes;
        if !(1..=MAX_TRAIN_BYTES).contains(&train_bytes) {
            let problem = format!("is {train_bytes}, but must be between 1 and {MAX_TRAIN_BYTES}");
            return fail("preprocess.tokenizer.train_bytes", problem);
        }
        Ok(())
    }
}

/// Returns the error for a problem in a table; the text of `problem` begins with the key within the table.
fn in_table(table: &str, problem: &str) -> Error {
    let (key, problem) = problem.split_once([' ', ':']).unwrap_or((problem, ""));
    Error::Config { key: format!("preprocess.{table}.{key}"), problem: problem.trim_start_matches(' ').to_owned() }
}

/// Returns the digests of the files that this stage reads in addition to the corpus, by name: a given `tokenizer.json`
/// and the evaluation sets to decontaminate against.
///
/// # Errors
/// Returns an error if one cannot be read.
pub fn inputs(config: &Config, context: &Context) -> Result<BTreeMap<String, Digest>, Error> {
    let mut inputs = BTreeMap::new();
    let mut add = |what: &str, file: &PathBuf| {
        let (digest, _) = Digest::of_file(&context.base.join(file))?;
        inputs.insert(format!("{what} {}", file.display()), digest);
        Ok::<(), Error>(())
    };
    if let Some(file) = &config.tokenizer.file {
        add("tokenizer", file)?;
        tokenizer::files_beside(&context.base.join(file)).iter().try_for_each(|file| add("tokenizer", file))?;
    }
    if let Some(file) = config.tokenizer.template_file() {
        if !context.base.join(&file).is_file() {
            let names: Vec<&str> = tokenizer::BUILTIN.iter().map(|template| template.name).collect();
            let problem = format!("`{}` is neither one of {} nor a file", file.display(), names.join(", "));
            return Err(Error::config("train.chat_template", problem));
        }
        add("chat template", &file)?;
    }
    if config.steps().contains(&Step::Decontaminate) {
        config.decontaminate.sets.iter().try_for_each(|file| add("evaluation set", file))?;
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests;
