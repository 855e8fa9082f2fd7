//! The results of tasks.

use artifact::Digest;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::Task;
use super::cache::ResponseCache;
use super::definition::OutputType;
use super::metrics::{Aggregation, Metric, Score};
use super::prompt::{Prompt, Target};
use super::scorer::TaskResponse;
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
    /// The scores, in the order of the task's; of F1 and Matthews' coefficient over choices, the right and the chosen
    /// one.
    scores: Vec<Score>,
}

/// Returns the answer to each item of each task as JSON lines.
pub fn lines(results: &[TaskResult]) -> String {
    let line = |task: &TaskResult, answer: &ItemResult| {
        let ItemResult { item, target, responses, scores } = answer;
        let names = task.scores.iter().map(|score| score.name("").trim_start_matches('_').to_owned());
        let scores: serde_json::Map<String, serde_json::Value> =
            names.zip(scores.iter().map(|score| json!(score))).collect();
        let line = json!({"task": task.name, "item": item, "target": target, "responses": responses, "scores": scores});
        format!("{line}\n")
    };
    results.iter().flat_map(|task| task.answers.iter().map(move |answer| line(task, answer))).collect()
}

impl TaskScore {
    /// Returns the name of the score among those of all tasks, `task_metric` or `task_metric_filter`.
    pub fn name(&self, task: &str) -> String {
        let filter = if self.filter == "none" { String::new() } else { format!("_{}", self.filter) };
        format!("{task}_{}{filter}", self.metric)
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

/// Returns the results of a task whose answers are all in the cache.
///
/// # Errors
/// Returns an error if one is missing: the scorer did not answer.
pub(super) fn of(task: &Task, cache: &ResponseCache) -> Result<TaskResult, Error> {
    let answers: Vec<ItemResult> = task
        .prompts
        .iter()
        .enumerate()
        .map(|(item, prompt)| {
            let responses = task.requests(prompt).iter().map(|request| cache.get(request).cloned()).collect();
            let responses: Option<Vec<TaskResponse>> = responses;
            let responses = responses.ok_or_else(|| Error::Task {
                task: task.name.clone(),
                problem: format!("the model did not answer item {}", item + 1),
            })?;
            let scores = scores(task, prompt, &responses);
            Ok(ItemResult { item, target: target(&prompt.target), responses, scores })
        })
        .collect::<Result<_, Error>>()?;
    let names = task.filters.iter().flat_map(|filters| task.metrics.iter().map(move |metric| (filters, metric)));
    let score = |(i, (filters, (metric, aggregation))): (usize, (&super::Filters, (Metric, Aggregation)))| {
        let scores: Vec<Score> = answers.iter().map(|answer| answer.scores[i]).collect();
        let sums: Vec<[f64; 5]> = scores.iter().map(|score| score.sums()).collect();
        let mut total = [0.0; 5];
        for sums in &sums {
            total.iter_mut().zip(sums).for_each(|(total, own)| *total += own);
        }
        let interval = intervals::of_sums(&sums, |sums| [aggregation.of_sums(sums)]);
        TaskScore {
            metric: metric.name().to_owned(),
            filter: filters.name.clone(),
            value: aggregation.of_sums(&total),
            standard_error: aggregation.standard_error(&scores),
            interval: interval.map(|[interval]| interval),
            higher_is_better: metric.higher_is_better(),
        }
    };
    let scores = names.enumerate().map(score).collect();
    let (name, items) = (task.name.clone(), answers.len());
    Ok(TaskResult { name, digest: task.digest, num_fewshot: task.num_fewshot, items, scores, answers })
}

/// Returns the scores of an item, of all metrics for each list of filters.
fn scores(task: &Task, prompt: &Prompt, responses: &[TaskResponse]) -> Vec<Score> {
    let likelihoods: Vec<(f64, bool)> = responses
        .iter()
        .filter_map(|response| match response {
            TaskResponse::Likelihood { log_likelihood, is_greedy } => Some((*log_likelihood, *is_greedy)),
            TaskResponse::Text { .. } => None,
        })
        .collect();
    let of_filters = |filters: &super::Filters| match (task.output_type, responses) {
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
