//! Tasks: questions with known answers, scored as lm-evaluation-harness scores them.
//!
//! A task is a definition (`definition`), a TOML file or a YAML file of lm-evaluation-harness, and items (`data`).
//! `template` and `prompt` make texts of an item, with examples drawn by `python_random`; a `scorer` answers
//! them through the `cache`; `execution` runs generated code; `filters` and `metrics` make scores of the answers, and
//! `results` holds them, divided by `contamination`, for the `comparison` with another run.
//!
//! For the same files and the same model, prompts, log-likelihoods and scores are those of lm-evaluation-harness 0.4.13
//! (A framework for few-shot language model evaluation, 2021): `evaluate/tests/beside_lm_eval.py` compares them.

mod builtin;
mod cache;
mod comparison;
mod contamination;
mod data;
mod definition;
mod execution;
mod filters;
mod metrics;
mod prompt;
mod python_random;
mod results;
mod scorer;
mod template;
mod yaml;

pub use cache::ResponseCache;
pub(crate) use comparison::{TaskComparison, compare};
pub use data::{DataFile, FindDataset, HubDataset};
pub use results::{ItemResult, PartialScore, TaskResult, TaskScore, lines};
pub(crate) use scorer::TextScore;
pub use scorer::{HttpModel, LocalModel, Scorer, TaskRequest, TaskResponse, TaskSampling, TextLoss};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use artifact::{Context, Digest};
use serde_json::json;
use trace::Index;

use self::data::Splits;
use self::definition::{Definition, GenerationOptions, OutputType, Until};
use self::execution::Execution;
use self::filters::Filters;
use self::metrics::Metrics;
use self::prompt::{Prompt, Prompter};
use self::template::Item;
use crate::Error;

/// The file of a report with the answer to each item of each task, one per line.
pub(crate) const ANSWERS: &str = "tasks.jsonl";

/// The tokens that a model writes at most if a definition does not say it: those of lm-evaluation-harness.
const MAX_TOKENS: usize = 256;

/// What changes all tasks of an evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// The number of examples before a question; None for each task's own, else 0. A task that has 0 keeps it.
    pub num_fewshot: Option<usize>,
    /// The maximum number of items of a task, from the first; 0 for all.
    pub limit: usize,
    /// Whether code that a model writes may be run.
    pub allow_code_execution: bool,
}

impl TaskOptions {
    fn num_fewshot_of(&self, definition: &Definition) -> usize {
        match (definition.num_fewshot, self.num_fewshot) {
            (Some(0), _) => 0,
            (own, given) => given.or(own).unwrap_or(0),
        }
    }
}

/// A task whose prompts are made.
pub struct Task {
    name: String,
    digest: Digest,
    output_type: OutputType,
    num_fewshot: usize,
    prompts: Vec<Prompt>,
    metrics: Metrics,
    filters: Vec<Filters>,
    target_delimiter: String,
    generation: Generation,
    repeats: usize,
    /// What runs the generated code, if it is code.
    execution: Option<Execution>,
}

/// How texts are generated.
struct Generation {
    until: Vec<String>,
    max_tokens: usize,
    /// Temperature and top-p; None for the most likely tokens.
    sampling: Option<[f32; 2]>,
}

impl Task {
    /// Loads the task that comes with this program under a name, else the one in a file, relative to `base`.
    ///
    /// # Errors
    /// Names the task, and what is missing, not supported or does not fit in its files.
    pub fn load(name: &str, base: &Path, options: &TaskOptions) -> Result<Self, Error> {
        Self::load_with(name, base, options, &no_dataset)
    }

    /// As [`Task::load`], with datasets of the Hub, whose files `find` returns.
    ///
    /// # Errors
    /// As [`Task::load`], and those of `find`.
    pub fn load_with(name: &str, base: &Path, options: &TaskOptions, find: &FindDataset<'_>) -> Result<Self, Error> {
        let files = TaskFiles::read(name, base, options, find)?;
        let num_fewshot = options.num_fewshot_of(&files.definition);
        Self::of(files.name(), files.digest, &files.definition, &files.splits, num_fewshot, options.limit)
            .map_err(|problem| definition::problem(&files.path, problem))
    }

    fn of(
        name: String,
        digest: Digest,
        definition: &Definition,
        splits: &Splits,
        num_fewshot: usize,
        limit: usize,
    ) -> Result<Self, String> {
        let generation = generation(definition)?;
        match (definition.repeats, &definition.code, generation.sampling) {
            (1, None | Some(_), None) | (1.., Some(_), Some(_)) => {}
            (0, ..) => return Err("`repeats` must be at least 1".to_owned()),
            (n, None, None) => return Err(format!("`repeats` = {n} is not supported without `code`")),
            (_, None, Some(_)) => {
                let only = "only `do_sample: false`, except for a task with `code`";
                return Err(format!("sampling in `generation_kwargs` is not supported, {only}"));
            }
            (n, Some(_), None) => {
                let text = "makes the same text each time: add `do_sample = true` to `generation_kwargs`";
                return Err(format!("`repeats` = {n} without sampling {text}"));
            }
        }
        let split = definition.item_split().ok_or("it has neither `test_split` nor `validation_split`")?;
        let items = splits.get(split)?;
        let examples = if num_fewshot == 0 { Vec::new() } else { examples(definition, splits)? };
        let columns = data::columns(items);
        let mut prompter = Prompter::new(definition, &items[0], &columns, examples, num_fewshot)?;
        let limit = if limit == 0 { items.len() } else { limit };
        let prompt =
            |(i, item): (usize, &Item)| prompter.prompt(item).map_err(|problem| format!("item {}: {problem}", i + 1));
        let prompts = items.iter().take(limit).enumerate().map(prompt).collect::<Result<_, _>>()?;
        Ok(Self {
            name,
            digest,
            output_type: definition.output_type,
            num_fewshot,
            prompts,
            metrics: Metrics::of(definition)?,
            filters: Filters::of(definition)?,
            target_delimiter: definition.target_delimiter.clone(),
            generation,
            repeats: definition.repeats,
            execution: definition.code.as_ref().map(Execution::new).transpose()?,
        })
    }

    /// Returns the task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the digest of its definition and its data.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the requests of an item, in the order in which their answers are scored.
    fn requests(&self, item: usize) -> Vec<TaskRequest> {
        let prompt = &self.prompts[item];
        let likelihood =
            |context: &str, continuation: String| TaskRequest::Likelihood { context: context.to_owned(), continuation };
        let context = prompt.contexts.first().map_or("", String::as_str);
        match self.output_type {
            OutputType::Loglikelihood => match &prompt.target {
                prompt::Target::Text(text) => vec![likelihood(context, text.clone())],
                _ => Vec::new(),
            },
            OutputType::GenerateUntil => (0..self.repeats)
                .map(|sample| TaskRequest::Generate {
                    context: context.to_owned(),
                    until: self.generation.until.clone(),
                    max_tokens: self.generation.max_tokens,
                    sampling: self.generation.sampling.map(|[temperature, top_p]| TaskSampling {
                        temperature,
                        top_p,
                        seed: (item * self.repeats + sample) as u64,
                    }),
                })
                .collect(),
            OutputType::MultipleChoice => {
                let delimited = |choice: &String| self.target_delimiter.clone() + choice;
                let mut requests: Vec<TaskRequest> = match &prompt.continuation {
                    Some(continuation) => {
                        prompt.contexts.iter().map(|context| likelihood(context, continuation.clone())).collect()
                    }
                    None => prompt.choices.iter().map(|choice| likelihood(context, delimited(choice))).collect(),
                };
                if self.metrics.needs_choices_alone() {
                    requests.extend(prompt.choices.iter().map(|choice| likelihood("", delimited(choice))));
                }
                requests
            }
        }
    }
}

/// The files of a task.
struct TaskFiles {
    path: PathBuf,
    definition: Definition,
    splits: Splits,
    digest: Digest,
}

impl TaskFiles {
    fn read(name: &str, base: &Path, options: &TaskOptions, find: &FindDataset<'_>) -> Result<Self, Error> {
        let (path, (mut definition, json)) = if let Some((path, text)) = builtin::definition(name) {
            (path.clone(), definition::of_toml(&path, text)?)
        } else {
            let path = base.join(name);
            if !path.exists() && path.extension().is_none() {
                let known = builtin::names().collect::<Vec<_>>().join(", ");
                let problem = format!("there is no such task; name a .toml or .yaml file, or one of {known}");
                return Err(Error::Task { task: name.to_owned(), problem });
            }
            (path.clone(), definition::read(&path)?)
        };
        if definition.code.is_some() && !options.allow_code_execution {
            let text = "it runs code that the model writes: set `allow_code_execution = true` in [evaluate], or give \
                        `pipeline evaluate` the option --allow-code-execution";
            return Err(definition::problem(&path, text.to_owned()));
        }
        let has_examples = options.num_fewshot_of(&definition) > 0;
        let splits = Splits::read(&path, &mut definition, has_examples, find)?;
        let digests: Vec<_> = splits.digests.iter().map(|(split, digest)| json!([split, digest])).collect();
        let digest = Digest::of_json(&json!([json, digests]));
        Ok(Self { path, definition, splits, digest })
    }

    /// Returns the task's name.
    fn name(&self) -> String {
        let stem = || self.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        self.definition.task.clone().unwrap_or_else(stem)
    }
}

/// Returns the names of the tasks that come with this program; of those that run code only if that is allowed.
pub fn names(allow_code_execution: bool) -> impl Iterator<Item = &'static str> {
    builtin::names().filter(move |name| allow_code_execution || *name != builtin::RUNS_CODE)
}

/// What is known of a task before its prompts are made.
pub(crate) struct TaskSummary {
    /// Its name.
    pub(crate) name: String,
    /// The digest of its definition and its data.
    pub(crate) digest: Digest,
    /// The names of its scores, `metric` or `metric_filter`.
    pub(crate) scores: Vec<String>,
}

impl TaskSummary {
    /// Reads the files of a task.
    ///
    /// # Errors
    /// As [`Task::load`].
    pub(crate) fn read(name: &str, base: &Path, options: &TaskOptions) -> Result<Self, Error> {
        let files = TaskFiles::read(name, base, options, &no_dataset)?;
        let metrics = Metrics::of(&files.definition).map_err(|problem| definition::problem(&files.path, problem))?;
        let filters = Filters::of(&files.definition).map_err(|problem| definition::problem(&files.path, problem))?;
        Ok(Self { name: files.name(), digest: files.digest, scores: results::keys(&metrics, &filters) })
    }
}

/// The files of datasets in a run: none, since a run fetches only what is locked.
fn no_dataset(dataset: &HubDataset) -> Result<BTreeMap<String, Vec<DataFile>>, Error> {
    let problem = "it is a dataset of the Hub, which only `pipeline evaluate` fetches: save it as JSON Lines, and name \
                   the file with `data` or `data_files`";
    Err(Error::Task { task: dataset.path.clone(), problem: problem.to_owned() })
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("name", &self.name).field("items", &self.prompts.len()).finish_non_exhaustive()
    }
}

/// Scores a model on tasks. What it has answered before is in the cache, which belongs to this model; an index of its
/// training data tells which items stand there.
///
/// # Errors
/// Returns an error if the model fails, or the cache cannot be written; [`Error::Interrupted`] if cancelled.
pub fn evaluate(
    tasks: &[Task],
    scorer: &mut dyn Scorer,
    cache: &mut ResponseCache,
    index: Option<&Index>,
    context: &Context,
) -> Result<Vec<TaskResult>, Error> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<TaskRequest> = Vec::new();
    for task in tasks {
        for request in (0..task.prompts.len()).flat_map(|item| task.requests(item)) {
            if cache.get(&request).is_none() && seen.insert(request.digest()) {
                open.push(request);
            }
        }
    }
    context.progress.begin("answering tasks", open.len() as u64, "answers");
    let (mut done, mut failure) = (0, None);
    let answered = scorer.answer(&open, &mut |index, response| {
        done += 1;
        context.progress.position(done);
        failure = cache.put(&open[index], response).err();
        failure.is_none() && !context.cancel.is_requested()
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    answered?;
    tasks.iter().map(|task| results::of(task, cache, index, context)).collect()
}

/// Returns the items from which a task's examples are taken.
fn examples(definition: &Definition, splits: &Splits) -> Result<Vec<Item>, String> {
    match (definition.example_split(), &definition.fewshot_config.samples) {
        (Some(split), _) => Ok(splits.get(split)?.to_vec()),
        (None, Some(samples)) => Ok(samples.clone()),
        (None, None) => Err("it has no split of examples".to_owned()),
    }
}

/// Returns how a definition's texts are generated.
fn generation(definition: &Definition) -> Result<Generation, String> {
    let given = definition.generation_kwargs.clone().unwrap_or_default();
    let GenerationOptions { until, max_gen_toks, do_sample, temperature, top_p } = given;
    let (temperature, top_p, is_given) = (temperature.unwrap_or(1.0), top_p.unwrap_or(1.0), temperature.is_some());
    let is_sampling = do_sample.unwrap_or(is_given && temperature > 0.0);
    if is_sampling && !(temperature > 0.0 && temperature.is_finite() && top_p > 0.0 && top_p <= 1.0) {
        return Err(
            "sampling in `generation_kwargs` needs a `temperature` above 0 and a `top_p` above 0 and at most 1"
                .to_owned(),
        );
    }
    let until = match until {
        None => vec![definition.fewshot_delimiter.clone()],
        Some(Until::One(text)) => vec![text],
        Some(Until::Many(texts)) => texts,
    };
    let sampling = is_sampling.then_some([temperature, top_p]);
    Ok(Generation { until, max_tokens: max_gen_toks.unwrap_or(MAX_TOKENS), sampling })
}
