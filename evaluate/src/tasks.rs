//! Tasks: questions with known answers, scored as lm-evaluation-harness scores them.
//!
//! A task is a definition (`definition`), a TOML file or a YAML file of lm-evaluation-harness, and items (`data`).
//! `template` and `prompt` make texts of an item, with examples drawn by `python_random`; a `scorer` answers
//! them through the `cache`; `filters` and `metrics` make scores of the answers, and `results` holds them.
//!
//! For the same files and the same model, prompts, log-likelihoods and scores are those of lm-evaluation-harness 0.4.13
//! (A framework for few-shot language model evaluation, 2021): `evaluate/tests/beside_lm_eval.py` compares them.

mod builtin;
mod cache;
mod data;
mod definition;
mod filters;
mod metrics;
mod prompt;
mod python_random;
mod results;
mod scorer;
mod template;
mod yaml;

pub use cache::ResponseCache;
pub use data::{DataFile, FindDataset, HubDataset};
pub use results::{ItemResult, TaskResult, TaskScore, lines};
pub use scorer::{HttpModel, LocalModel, Scorer, TaskRequest, TaskResponse, TextLoss};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use artifact::{Context, Digest};
use serde_json::json;

use self::data::Splits;
use self::definition::{Definition, GenerationOptions, OutputType, Until};
use self::filters::Filters;
use self::metrics::Metrics;
use self::prompt::{Prompt, Prompter};
use self::template::Item;
use crate::Error;

/// The tokens that a model writes at most if a definition does not say it: those of lm-evaluation-harness.
const MAX_TOKENS: usize = 256;

/// What changes all tasks of an evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// The number of examples before a question; None for each task's own, else 0. A task that has 0 keeps it.
    pub num_fewshot: Option<usize>,
    /// The maximum number of items of a task, from the first; 0 for all.
    pub limit: usize,
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
    until: Vec<String>,
    max_tokens: usize,
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
        let stem = files.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let name = files.definition.task.clone().unwrap_or(stem);
        let num_fewshot = options.num_fewshot_of(&files.definition);
        Self::of(name, files.digest, &files.definition, &files.splits, num_fewshot, options.limit)
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
        if definition.repeats != 1 {
            return Err(format!("`repeats` = {} is not supported", definition.repeats));
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
        let (until, max_tokens) = generation(definition)?;
        Ok(Self {
            name,
            digest,
            output_type: definition.output_type,
            num_fewshot,
            prompts,
            metrics: Metrics::of(definition)?,
            filters: Filters::of(definition)?,
            target_delimiter: definition.target_delimiter.clone(),
            until,
            max_tokens,
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
    fn requests(&self, prompt: &Prompt) -> Vec<TaskRequest> {
        let likelihood =
            |context: &str, continuation: String| TaskRequest::Likelihood { context: context.to_owned(), continuation };
        let context = prompt.contexts.first().map_or("", String::as_str);
        match self.output_type {
            OutputType::Loglikelihood => match &prompt.target {
                prompt::Target::Text(text) => vec![likelihood(context, text.clone())],
                _ => Vec::new(),
            },
            OutputType::GenerateUntil => vec![TaskRequest::Generate {
                context: context.to_owned(),
                until: self.until.clone(),
                max_tokens: self.max_tokens,
            }],
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
        let has_examples = options.num_fewshot_of(&definition) > 0;
        let splits = Splits::read(&path, &mut definition, has_examples, find)?;
        let digests: Vec<_> = splits.digests.iter().map(|(split, digest)| json!([split, digest])).collect();
        let digest = Digest::of_json(&json!([json, digests]));
        Ok(Self { path, definition, splits, digest })
    }
}

/// Returns the names of the tasks that come with this program.
pub fn names() -> impl Iterator<Item = &'static str> {
    builtin::names()
}

/// Returns the digest of a task's definition and data, without making prompts.
///
/// # Errors
/// As [`Task::load`].
pub fn digest(name: &str, base: &Path, options: &TaskOptions) -> Result<Digest, Error> {
    Ok(TaskFiles::read(name, base, options, &no_dataset)?.digest)
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

/// Scores a model on tasks. What it has answered before is in the cache, which belongs to this model.
///
/// # Errors
/// Returns an error if the model fails, or the cache cannot be written; [`Error::Interrupted`] if cancelled.
pub fn evaluate(
    tasks: &[Task],
    scorer: &mut dyn Scorer,
    cache: &mut ResponseCache,
    context: &Context,
) -> Result<Vec<TaskResult>, Error> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<TaskRequest> = Vec::new();
    for task in tasks {
        for request in task.prompts.iter().flat_map(|prompt| task.requests(prompt)) {
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
    tasks.iter().map(|task| results::of(task, cache)).collect()
}

/// Returns the items from which a task's examples are taken.
fn examples(definition: &Definition, splits: &Splits) -> Result<Vec<Item>, String> {
    match (definition.example_split(), &definition.fewshot_config.samples) {
        (Some(split), _) => Ok(splits.get(split)?.to_vec()),
        (None, Some(samples)) => Ok(samples.clone()),
        (None, None) => Err("it has no split of examples".to_owned()),
    }
}

/// Returns the texts that end a generated one, and its maximum number of tokens.
fn generation(definition: &Definition) -> Result<(Vec<String>, usize), String> {
    let given = definition.generation_kwargs.clone().unwrap_or_default();
    let GenerationOptions { until, max_gen_toks, do_sample, temperature } = given;
    if do_sample == Some(true) || do_sample.is_none() && temperature.is_some_and(|temperature| temperature > 0.0) {
        return Err("sampling in `generation_kwargs` is not supported, only `do_sample: false`".to_owned());
    }
    let until = match until {
        None => vec![definition.fewshot_delimiter.clone()],
        Some(Until::One(text)) => vec![text],
        Some(Until::Many(texts)) => texts,
    };
    Ok((until, max_gen_toks.unwrap_or(MAX_TOKENS)))
}
