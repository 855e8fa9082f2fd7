//! The results of tasks.

use std::collections::HashSet;

use artifact::{Context, Digest};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use trace::Index;

use super::cache::ResponseCache;
use super::definition::OutputType;
use super::filters::Filters;
use super::metrics::{Aggregation, Metrics, Score};
use super::prompt::{Prompt, Target};
use super::scorer::TaskResponse;
use super::{Task, contamination};
use crate::Error;
use crate::intervals::{self, Interval};

/// The results of a model on a task.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TaskResult {
    /// The task's name.
    pub name: String,
    /// The digest of its definition and its data.
    #[schemars(with = "String")]
    pub digest: Digest,
    /// The number of examples before a question.
    pub num_fewshot: usize,
    /// The number of items.
    pub items: usize,
    /// The scores, one for each metric and list of filters.
    pub scores: Vec<TaskScore>,
    /// The answer to each item and its scores.
    #[serde(skip)]
    pub answers: Vec<ItemResult>,
}

/// A score over all items.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TaskScore {
    /// The name of the metric.
    pub metric: String,
    /// The name of the list of filters; `none` without filters.
    pub filter: String,
    /// The score.
    pub value: f64,
    /// Its standard error; none where it has no formula, or for one item.
    pub standard_error: Option<f64>,
    /// The interval that covers the score over all items of the kind with a probability of about 95 %; none for one
    /// item.
    pub(crate) interval: Option<Interval>,
    /// Whether a higher score is a better one.
    pub higher_is_better: bool,
    /// The score over the items that do not stand in the training data; none without an index, or without any.
    pub clean: Option<PartialScore>,
    /// The score over the items that overlap with the training data; none without an index, or without any.
    pub overlapping: Option<PartialScore>,
}

/// A score over a part of the items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct PartialScore {
    /// The number of items.
    pub items: usize,
    /// The score.
    pub value: f64,
    /// Its 95 % interval; none for one item.
    pub(crate) interval: Option<Interval>,
}

/// The answer to an item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemResult {
    /// Its index in the task's data, from 0.
    pub item: usize,
    /// The right answer, or the index of the right choice.
    pub target: serde_json::Value,
    /// The model's answers: for each choice how likely it is, or the text that was written.
    pub responses: Vec<TaskResponse>,
    /// Whether it overlaps with the training data; none without an index.
    pub overlaps: Option<bool>,
    /// The scores, in the order of the task's; of F1 and Matthews' coefficient over choices, the right and the chosen
    /// one.
    pub(super) scores: Vec<Score>,
}

/// Returns the answer to each item of each task as JSON lines.
pub fn lines(results: &[TaskResult]) -> String {
    let line = |task: &TaskResult, answer: &ItemResult| {
        let ItemResult { item, target, responses, overlaps, scores } = answer;
        let names = task.scores.iter().map(TaskScore::key);
        let scores: serde_json::Map<String, serde_json::Value> =
            names.zip(scores.iter().map(|score| json!(score))).collect();
        let line = json!({
            "task": task.name, "item": item, "target": target, "responses": responses, "overlaps": overlaps,
            "scores": scores,
        });
        format!("{line}\n")
    };
    results.iter().flat_map(|task| task.answers.iter().map(move |answer| line(task, answer))).collect()
}

impl TaskScore {
    /// Returns the name of the score among those of all tasks, `task_metric` or `task_metric_filter`.
    pub fn name(&self, task: &str) -> String {
        format!("{task}_{}", self.key())
    }

    /// Returns the name of the score among those of its task, `metric` or `metric_filter`.
    pub fn key(&self) -> String {
        key(&self.metric, &self.filter)
    }

    /// Returns the scores over the clean and over the overlapping items.
    pub fn parts(&self) -> [Option<PartialScore>; 2] {
        [self.clean, self.overlapping]
    }

    /// Returns the ends of the 95 % interval.
    pub fn ends(&self) -> Option<[f64; 2]> {
        self.interval.map(|interval| [interval.low, interval.high])
    }
}

impl ItemResult {
    /// Returns the scores that are numbers, in the order of the task's; none for the others.
    pub fn scores(&self) -> impl Iterator<Item = Option<f64>> {
        self.scores.iter().map(|score| score.number())
    }
}

/// Returns the name of a score among those of its task.
fn key(metric: &str, filter: &str) -> String {
    if filter == "none" { metric.to_owned() } else { format!("{metric}_{filter}") }
}

/// Returns the names of scores among those of their task, in their order.
pub(super) fn keys(metrics: &Metrics, filters: &[Filters]) -> Vec<String> {
    score_names(metrics, filters).map(|name| key(&name.metric, &name.filter)).collect()
}

/// Returns the results of a task whose answers are all in the cache.
///
/// # Errors
/// Returns an error if one is missing: the scorer did not answer; if generated code cannot be run, or the index is
/// invalid.
pub(super) fn of(
    task: &Task,
    cache: &ResponseCache,
    index: Option<&Index>,
    context: &Context,
) -> Result<TaskResult, Error> {
    let responses: Vec<Vec<TaskResponse>> = responses(task, cache)?;
    let passing = passing(task, &responses, context)?;
    let answers: Vec<ItemResult> = task
        .prompts
        .iter()
        .zip(responses)
        .enumerate()
        .map(|(item, (prompt, responses))| {
            let overlaps = index.map(|index| contamination::overlaps(index, &whole(task, prompt))).transpose()?;
            let scores = scores(task, prompt, &responses, &passing);
            Ok(ItemResult { item, target: target(&prompt.target), responses, overlaps, scores })
        })
        .collect::<Result<_, Error>>()?;
    let scores =
        score_names(&task.metrics, &task.filters).enumerate().map(|(i, name)| score(i, name, &answers)).collect();
    let (name, items) = (task.name.clone(), answers.len());
    Ok(TaskResult { name, digest: task.digest, num_fewshot: task.num_fewshot, items, scores, answers })
}

/// Returns the responses to each item.
fn responses(task: &Task, cache: &ResponseCache) -> Result<Vec<Vec<TaskResponse>>, Error> {
    let of_item = |item: usize| {
        let responses: Option<_> = task.requests(item).iter().map(|request| cache.get(request).cloned()).collect();
        responses.ok_or_else(|| Error::Task {
            task: task.name.clone(),
            problem: format!("the model did not answer item {}", item + 1),
        })
    };
    (0..task.prompts.len()).map(of_item).collect()
}

/// Returns the programs of a task that pass; none if it runs no code.
fn passing(task: &Task, responses: &[Vec<TaskResponse>], context: &Context) -> Result<HashSet<String>, Error> {
    let Some(execution) = &task.execution else { return Ok(HashSet::new()) };
    let programs = task.prompts.iter().zip(responses).flat_map(|(prompt, responses)| {
        task.filters.iter().flat_map(move |filters| programs(prompt, filters, responses))
    });
    execution.passing(&task.name, programs.collect(), context)
}

/// Returns the programs that filters make of responses: the text before, the generated one, and the tests.
fn programs(prompt: &Prompt, filters: &Filters, responses: &[TaskResponse]) -> Vec<String> {
    let tests = match &prompt.target {
        Target::Text(tests) => tests.clone(),
        Target::Texts(tests) => tests.join("\n"),
        Target::Choice(_) | Target::Choices(_) => String::new(),
    };
    let texts = responses.iter().filter_map(|response| match response {
        TaskResponse::Text { text } => Some(filters.apply(text)),
        TaskResponse::Likelihood { .. } => None,
    });
    texts.map(|text| format!("{}{text}\n{tests}", prompt.prefix)).collect()
}

/// Returns the question of an item with its right answer; of code, without the tests.
fn whole(task: &Task, prompt: &Prompt) -> String {
    let choice = |choice: &Option<usize>| choice.and_then(|choice| prompt.choices.get(choice)).cloned();
    let answer = match &prompt.target {
        _ if task.execution.is_some() => None,
        _ if prompt.continuation.is_some() => prompt.continuation.clone(),
        Target::Choice(index) => choice(index).map(|choice| task.target_delimiter.clone() + &choice),
        Target::Choices(indices) => {
            indices.iter().find_map(choice).map(|choice| task.target_delimiter.clone() + &choice)
        }
        Target::Text(text) => Some(task.target_delimiter.clone() + text),
        Target::Texts(texts) => texts.first().map(|text| task.target_delimiter.clone() + text),
    };
    prompt.question.clone() + &answer.unwrap_or_default()
}

/// The name of a score, and how it is computed.
struct ScoreName {
    metric: String,
    filter: String,
    higher_is_better: bool,
    aggregation: Aggregation,
}

fn score_names(metrics: &Metrics, filters: &[Filters]) -> impl Iterator<Item = ScoreName> {
    filters.iter().flat_map(|filters| {
        metrics.iter().map(|(metric, kind, aggregation)| ScoreName {
            metric,
            filter: filters.name.clone(),
            higher_is_better: kind.higher_is_better(),
            aggregation,
        })
    })
}

/// Returns the score with index `i`, over all items and over its parts.
fn score(i: usize, name: ScoreName, answers: &[ItemResult]) -> TaskScore {
    let ScoreName { metric, filter, higher_is_better, aggregation } = name;
    let of = |is_in: &dyn Fn(&ItemResult) -> bool| -> Vec<Score> {
        answers.iter().filter(|answer| is_in(answer)).map(|answer| answer.scores[i]).collect()
    };
    let partial = |overlaps: bool| {
        let scores = of(&|answer| answer.overlaps == Some(overlaps));
        let (value, interval) = aggregated(aggregation, &scores);
        (!scores.is_empty()).then_some(PartialScore { items: scores.len(), value, interval })
    };
    let scores = of(&|_| true);
    let (value, interval) = aggregated(aggregation, &scores);
    let (clean, overlapping) = (partial(false), partial(true));
    let standard_error = aggregation.standard_error(&scores);
    TaskScore { metric, filter, value, standard_error, interval, higher_is_better, clean, overlapping }
}

/// Returns a score over some items, and its interval.
fn aggregated(aggregation: Aggregation, scores: &[Score]) -> (f64, Option<Interval>) {
    let sums: Vec<[f64; 5]> = scores.iter().map(|score| score.sums()).collect();
    let mut total = [0.0; 5];
    for sums in &sums {
        total.iter_mut().zip(sums).for_each(|(total, own)| *total += own);
    }
    let interval = intervals::of_sums(&sums, |sums| [aggregation.of_sums(sums)]);
    (aggregation.of_sums(&total), interval.map(|[interval]| interval))
}

/// Returns the scores of an item, of all metrics for each list of filters.
fn scores(task: &Task, prompt: &Prompt, responses: &[TaskResponse], passing: &HashSet<String>) -> Vec<Score> {
    let passed = |filters: &Filters| -> Vec<bool> {
        programs(prompt, filters, responses).iter().map(|program| passing.contains(program)).collect()
    };
    let likelihoods: Vec<(f64, bool)> = responses
        .iter()
        .filter_map(|response| match response {
            TaskResponse::Likelihood { log_likelihood, is_greedy } => Some((*log_likelihood, *is_greedy)),
            TaskResponse::Text { .. } => None,
        })
        .collect();
    let of_filters = |filters: &Filters| match (task.output_type, responses) {
        _ if task.execution.is_some() => task.metrics.of_programs(&passed(filters)),
        (OutputType::MultipleChoice, _) => task.metrics.of_choices(prompt, &likelihoods),
        (OutputType::Loglikelihood, [TaskResponse::Likelihood { log_likelihood, is_greedy }]) => {
            task.metrics.of_answer(*log_likelihood, *is_greedy)
        }
        (_, [TaskResponse::Text { text }]) => task.metrics.of_text(&filters.apply(text), &prompt.target),
        _ => Vec::new(),
    };
    task.filters.iter().flat_map(of_filters).collect()
}

fn target(target: &Target) -> serde_json::Value {
    match target {
        Target::Choice(choice) => (*choice).into(),
        Target::Choices(choices) => choices.clone().into(),
        Target::Text(text) => text.clone().into(),
        Target::Texts(texts) => texts.clone().into(),
    }
}
