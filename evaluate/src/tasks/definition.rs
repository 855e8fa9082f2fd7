//! The definition of a task: a TOML file of this program, or a YAML file of lm-evaluation-harness.
//!
//! Both have the same keys, those of lm-evaluation-harness; TOML adds `data` and `fewshot_data` for files beside it. A
//! key without an effect on scores is accepted, one that is not supported is an error.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::execution::CodeOptions;
use super::metrics::Metric;
use super::yaml;
use crate::Error;

/// What a task asks of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputType {
    /// Which of several continuations is the most likely.
    MultipleChoice,
    /// How likely one continuation is.
    Loglikelihood,
    /// What it writes.
    GenerateUntil,
}

/// A task's settings, by the names of lm-evaluation-harness.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Definition {
    pub(super) task: Option<String>,
    pub(super) output_type: OutputType,
    /// A file of items, relative to the definition.
    pub(super) data: Option<PathBuf>,
    /// A file of examples, relative to the definition.
    pub(super) fewshot_data: Option<PathBuf>,
    pub(super) dataset_path: Option<String>,
    pub(super) dataset_name: Option<String>,
    pub(super) dataset_kwargs: Option<DatasetOptions>,
    pub(super) training_split: Option<String>,
    pub(super) validation_split: Option<String>,
    pub(super) test_split: Option<String>,
    pub(super) fewshot_split: Option<String>,
    pub(super) fewshot_config: FewshotConfig,
    pub(super) num_fewshot: Option<usize>,
    pub(super) doc_to_text: Option<Value>,
    pub(super) doc_to_target: Option<Value>,
    pub(super) doc_to_choice: Option<Value>,
    pub(super) description: String,
    pub(super) target_delimiter: String,
    pub(super) fewshot_delimiter: String,
    pub(super) generation_kwargs: Option<GenerationOptions>,
    pub(super) metric_list: Option<Vec<MetricOptions>>,
    pub(super) filter_list: Option<Vec<FilterList>>,
    /// The number of texts that are generated for an item.
    pub(super) repeats: usize,
    /// How generated code is run, for pass@k.
    pub(super) code: Option<CodeOptions>,
}

impl Default for Definition {
    fn default() -> Self {
        Self {
            task: None,
            output_type: OutputType::GenerateUntil,
            data: None,
            fewshot_data: None,
            dataset_path: None,
            dataset_name: None,
            dataset_kwargs: None,
            training_split: None,
            validation_split: None,
            test_split: None,
            fewshot_split: None,
            fewshot_config: FewshotConfig::default(),
            num_fewshot: None,
            doc_to_text: None,
            doc_to_target: None,
            doc_to_choice: None,
            description: String::new(),
            target_delimiter: " ".to_owned(),
            fewshot_delimiter: "\n\n".to_owned(),
            generation_kwargs: None,
            metric_list: None,
            filter_list: None,
            repeats: 1,
            code: None,
        }
    }
}

impl Definition {
    /// Returns the split of the items.
    pub(super) fn item_split(&self) -> Option<&String> {
        self.test_split.as_ref().or(self.validation_split.as_ref())
    }

    /// Returns the split of the examples; none if they are in the definition.
    pub(super) fn example_split(&self) -> Option<&String> {
        let named = self.fewshot_config.split.as_ref().or(self.fewshot_split.as_ref());
        if named.is_some() || self.fewshot_config.samples.is_some() {
            return named;
        }
        [&self.training_split, &self.validation_split, &self.test_split].into_iter().find_map(Option::as_ref)
    }
}

/// Where the loaders of `dataset_path` find their files.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DatasetOptions {
    pub(super) data_files: Option<DataFiles>,
    #[serde(rename = "trust_remote_code")]
    _trust_remote_code: Option<bool>,
}

/// Files by split.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum DataFiles {
    /// Of the split `train`.
    One(PathBuf),
    /// Of the split `train`.
    Many(Vec<PathBuf>),
    /// Of several splits.
    Splits(BTreeMap<String, SplitFiles>),
}

/// The files of a split.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum SplitFiles {
    /// One.
    One(PathBuf),
    /// Several, in their order.
    Many(Vec<PathBuf>),
}

impl DataFiles {
    /// Returns the files of each split.
    pub(super) fn by_split(&self) -> BTreeMap<String, Vec<PathBuf>> {
        match self {
            Self::One(file) => BTreeMap::from([("train".to_owned(), vec![file.clone()])]),
            Self::Many(files) => BTreeMap::from([("train".to_owned(), files.clone())]),
            Self::Splits(splits) => splits
                .iter()
                .map(|(name, files)| match files {
                    SplitFiles::One(file) => (name.clone(), vec![file.clone()]),
                    SplitFiles::Many(files) => (name.clone(), files.clone()),
                })
                .collect(),
        }
    }
}

/// How examples are chosen and written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FewshotConfig {
    pub(super) sampler: SamplerName,
    pub(super) split: Option<String>,
    pub(super) samples: Option<Vec<Map<String, Value>>>,
    pub(super) fewshot_indices: Option<Value>,
    pub(super) doc_to_text: Option<Value>,
    pub(super) doc_to_target: Option<Value>,
    pub(super) doc_to_choice: Option<Value>,
    pub(super) target_delimiter: Option<String>,
    pub(super) fewshot_delimiter: Option<String>,
}

/// Which examples an item gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum SamplerName {
    /// Random ones, other ones for each item.
    #[default]
    #[serde(rename = "default")]
    Random,
    /// The first ones.
    #[serde(rename = "first_n")]
    First,
}

/// How texts are generated.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GenerationOptions {
    pub(super) until: Option<Until>,
    #[serde(alias = "max_new_tokens", alias = "max_tokens", alias = "max_completion_tokens")]
    pub(super) max_gen_toks: Option<usize>,
    pub(super) do_sample: Option<bool>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
}

/// Texts that end a generated one.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Until {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// A metric with its options.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "the keys are those of lm-evaluation-harness")]
pub(super) struct MetricOptions {
    pub(super) metric: Metric,
    pub(super) aggregation: Option<String>,
    #[serde(rename = "higher_is_better")]
    _higher_is_better: Option<bool>,
    #[serde(default)]
    pub(super) hf_evaluate: bool,
    #[serde(default)]
    pub(super) ignore_case: bool,
    #[serde(default)]
    pub(super) ignore_punctuation: bool,
    #[serde(default)]
    pub(super) ignore_numbers: bool,
    #[serde(default)]
    pub(super) regexes_to_ignore: Vec<String>,
    /// The numbers of samples of `pass_at_k`.
    #[serde(default)]
    pub(super) k: Vec<usize>,
}

impl MetricOptions {
    pub(super) fn of(metric: Metric) -> Self {
        Self {
            metric,
            aggregation: None,
            _higher_is_better: None,
            hf_evaluate: false,
            ignore_case: false,
            ignore_punctuation: false,
            ignore_numbers: false,
            regexes_to_ignore: Vec::new(),
            k: Vec::new(),
        }
    }
}

/// A named sequence of filters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilterList {
    pub(super) name: String,
    pub(super) filter: Vec<FilterOptions>,
}

/// A filter of generated texts.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "function", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum FilterOptions {
    Regex { regex_pattern: Option<String>, group_select: Option<i64>, fallback: Option<String> },
    TakeFirst,
    RemoveWhitespace,
    Lowercase,
    Uppercase,
    Map { mapping_dict: BTreeMap<String, String>, default_value: Option<String> },
}

/// Keys of lm-evaluation-harness that have no effect on scores.
const WITHOUT_EFFECT: [&str; 6] =
    ["task_alias", "tag", "group", "metadata", "should_decontaminate", "doc_to_decontamination_query"];

/// Keys of lm-evaluation-harness that are not supported.
const UNSUPPORTED: [&str; 11] = [
    "custom_dataset",
    "process_docs",
    "process_results",
    "doc_to_image",
    "doc_to_audio",
    "unsafe_code",
    "use_prompt",
    "gen_prefix",
    "class",
    "function",
    "task_list",
];

/// Reads the definition in a file, with those that it includes, and returns it with its JSON.
///
/// # Errors
/// Names the file, and the key that is not supported or has a wrong value.
pub(super) fn read(path: &Path) -> Result<(Definition, Value), Error> {
    let fields = merged(path, &mut Vec::new())?;
    of_fields(path, fields)
}

/// Returns the definition in the text of a TOML file.
///
/// # Errors
/// As [`read`].
pub(super) fn of_toml(path: &Path, text: &str) -> Result<(Definition, Value), Error> {
    of_fields(path, toml_fields(path, text)?)
}

fn of_fields(path: &Path, mut fields: Map<String, Value>) -> Result<(Definition, Value), Error> {
    fields.retain(|key, _| !WITHOUT_EFFECT.contains(&key.as_str()));
    if let Some(key) = UNSUPPORTED.iter().find(|key| fields.get(**key).is_some_and(|value| !value.is_null())) {
        return Err(problem(path, format!("`{key}` is not supported")));
    }
    let json = Value::Object(fields);
    let definition: Definition = serde_json::from_value(json.clone()).map_err(|e| problem(path, e.to_string()))?;
    Ok((definition, json))
}

/// Returns the keys of a file over those of the files that it includes.
fn merged(path: &Path, seen: &mut Vec<PathBuf>) -> Result<Map<String, Value>, Error> {
    if seen.iter().any(|other| other == path) {
        return Err(problem(path, "it includes itself".to_owned()));
    }
    seen.push(path.to_owned());
    let text = fs::read_to_string(path).map_err(|source| artifact::Error::io("read the task", path, source))?;
    if path.extension().is_some_and(|extension| extension == "toml") {
        return toml_fields(path, &text);
    }
    let Value::Object(mut own) = yaml::parse(&text).map_err(|text| problem(path, text))? else {
        return Err(problem(path, "it is not a table of keys".to_owned()));
    };
    let included: Vec<String> = match own.remove("include") {
        None => Vec::new(),
        Some(Value::String(file)) => vec![file],
        Some(other) => serde_json::from_value(other).map_err(|e| problem(path, format!("`include`: {e}")))?,
    };
    let mut fields = Map::new();
    for file in included {
        fields.extend(merged(&path.parent().unwrap_or(Path::new(".")).join(file), seen)?);
    }
    fields.extend(own);
    Ok(fields)
}

fn toml_fields(path: &Path, text: &str) -> Result<Map<String, Value>, Error> {
    toml::from_str(text).map_err(|error| problem(path, error.to_string().trim_end().to_owned()))
}

/// Returns the error of a definition.
pub(super) fn problem(path: &Path, problem: String) -> Error {
    Error::Task { task: path.display().to_string(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task.yaml");
        let check = |text: &str, expected: &str| {
            fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("task: x\nprocess_docs: !function utils.f\n", "`!function` needs Python");
        check("task: x\nprocess_docs: utils.f\n", "`process_docs` is not supported");
        check("task: x\nnum_fewshots: 1\n", "unknown field `num_fewshots`");
        check("output_type: loglikelihood_rolling\n", "unknown variant `loglikelihood_rolling`");
        check("metric_list: [{metric: bleu}]\n", "unknown variant `bleu`");
        check("metric_list: [{metric: acc, weight: 2}]\n", "unknown field `weight`");
        check("filter_list: [{name: x, filter: [{function: majority_vote}]}]\n", "unknown variant `majority_vote`");
        check("fewshot_config: {sampler: balanced}\n", "unknown variant `balanced`");
        check("include: task.yaml\n", "it includes itself");
        check("- a\n", "it is not a table of keys");
    }

    #[test]
    fn included_keys_are_overridden() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("base"), "task: base\noutput_type: multiple_choice\nnum_fewshot: 2\n").unwrap();
        let path = folder.path().join("task.yml");
        fs::write(&path, "include: base\ntask: own\nmetadata: {version: 1.0}\n").unwrap();
        let (definition, json) = read(&path).unwrap();
        assert_eq!((definition.task.as_deref(), definition.num_fewshot), (Some("own"), Some(2)));
        assert_eq!(definition.output_type, OutputType::MultipleChoice);
        assert_eq!(json.as_object().unwrap().len(), 3);
    }
}
