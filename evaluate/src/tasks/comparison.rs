//! The tasks of two runs, item by item.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use artifact::{Digest, Sealed};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::metrics::{Aggregation, Score};
use super::prompt::{Prompt, Target};
use super::results::{ItemResult, TaskResult, TaskScore};
use super::scorer::TaskResponse;
use super::{ANSWERS, Task};
use crate::Error;
use crate::intervals::{self, Interval};

/// The items of each kind that a report shows.
const MAX_SHOWN: usize = 20;

/// The characters of a text that a report shows.
const MAX_CHARACTERS: usize = 200;

/// A task of two runs.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct TaskComparison {
    /// The task's name.
    pub(crate) name: String,
    /// The items that both runs were asked.
    pub(crate) items: usize,
    /// The scores on these items. The first one counts for `regression_vs`.
    pub(crate) scores: Vec<ScoreComparison>,
    /// The items that were right by the first score that says so, and are not any more.
    pub(crate) lost: Flips,
    /// The items that are right now, and were not.
    pub(crate) won: Flips,
}

/// A score of two runs.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ScoreComparison {
    /// The metric, with the name of the filters if there are any.
    pub(crate) metric: String,
    /// Whether a higher score is a better one.
    pub(crate) higher_is_better: bool,
    /// The score of the earlier run.
    pub(crate) before: f64,
    /// The score of this run.
    pub(crate) now: f64,
    /// `now - before`.
    pub(crate) difference: f64,
    /// Its 95 % interval over items, each of which both runs answered; null for fewer than two items.
    pub(crate) interval: Option<Interval>,
    /// Whether the whole interval is on the worse side of 0.
    pub(crate) is_worse: bool,
}

/// Items whose answers were right in one run only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Flips {
    /// Their number.
    pub(crate) count: usize,
    /// The first of them.
    pub(crate) items: Vec<Flip>,
}

/// An item whose answer was right in one run only.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Flip {
    /// Its index in the task's data, from 0.
    pub(crate) item: usize,
    /// The end of its question.
    pub(crate) question: String,
    /// The right answer; of code, the tests.
    pub(crate) target: String,
    /// The answer of the earlier run.
    pub(crate) before: String,
    /// The answer of this run.
    pub(crate) now: String,
}

/// What is read of an earlier `report.json`.
#[derive(Deserialize)]
struct EarlierReport {
    #[serde(default)]
    tasks: Vec<EarlierTask>,
}

#[derive(Deserialize)]
struct EarlierTask {
    name: String,
    digest: Digest,
    num_fewshot: usize,
}

/// A line of an earlier [`ANSWERS`].
#[derive(Deserialize)]
struct Answer {
    task: String,
    item: usize,
    responses: Vec<TaskResponse>,
    scores: BTreeMap<String, Score>,
}

/// Compares the results of tasks with those of an earlier report, as far as that has the same tasks with as many
/// examples.
///
/// # Errors
/// Returns an error if that report cannot be read.
pub(crate) fn compare(
    tasks: &[Task],
    results: &[TaskResult],
    report_name: &str,
    earlier: &Sealed,
) -> Result<Vec<TaskComparison>, Error> {
    if earlier.files(ANSWERS).is_empty() {
        return Ok(Vec::new());
    }
    let path = earlier.verified(report_name)?;
    let text = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    let report: EarlierReport = serde_json::from_slice(&text).map_err(|source| Error::Json { path, source })?;
    let path = earlier.verified(ANSWERS)?;
    let text = fs::read_to_string(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    let parse = |line| serde_json::from_str(line).map_err(|source| Error::Json { path: path.clone(), source });
    let answers: Vec<Answer> = text.lines().map(parse).collect::<Result<_, _>>()?;
    let compared = tasks.iter().zip(results).filter_map(|(task, result)| {
        let is_same = |other: &&EarlierTask| {
            (&other.name, other.digest, other.num_fewshot) == (&result.name, result.digest, result.num_fewshot)
        };
        report.tasks.iter().find(is_same)?;
        let of_task = answers.iter().filter(|answer| answer.task == result.name);
        compare_task(task, result, &of_task.map(|answer| (answer.item, answer)).collect())
    });
    Ok(compared.collect())
}

/// Returns None without an item that both runs were asked.
fn compare_task(task: &Task, result: &TaskResult, earlier: &HashMap<usize, &Answer>) -> Option<TaskComparison> {
    let both: Vec<(&ItemResult, &Answer)> =
        result.answers.iter().filter_map(|now| Some((now, *earlier.get(&now.item)?))).collect();
    if both.is_empty() {
        return None;
    }
    let aggregations = task.filters.iter().flat_map(|_| task.metrics.iter().map(|(.., aggregation)| aggregation));
    let compared = result.scores.iter().zip(aggregations).enumerate();
    let scores = compared.filter_map(|(i, (score, aggregation))| compare_score(i, score, aggregation, &both)).collect();
    let mut comparison = TaskComparison {
        name: result.name.clone(),
        items: both.len(),
        scores,
        lost: Flips::default(),
        won: Flips::default(),
    };
    let Some(deciding) = result.scores.iter().position(|score| score.higher_is_better) else { return Some(comparison) };
    let key = result.scores[deciding].key();
    for (now, before) in both {
        let was_right = before.scores.get(&key).is_some_and(|score| score.is_right());
        let flips = match (was_right, now.scores[deciding].is_right()) {
            (true, false) => &mut comparison.lost,
            (false, true) => &mut comparison.won,
            _ => continue,
        };
        flips.count += 1;
        if flips.items.len() < MAX_SHOWN {
            let prompt = &task.prompts[now.item];
            flips.items.push(Flip {
                item: now.item,
                question: ending(&prompt.question),
                target: ending(&target(prompt)),
                before: ending(&answer(prompt, &before.responses)),
                now: ending(&answer(prompt, &now.responses)),
            });
        }
    }
    Some(comparison)
}

/// Returns None if the earlier run has no such score.
fn compare_score(
    i: usize,
    score: &TaskScore,
    aggregation: Aggregation,
    both: &[(&ItemResult, &Answer)],
) -> Option<ScoreComparison> {
    let key = score.key();
    let sums: Vec<[f64; 10]> = both
        .iter()
        .map(|(now, before)| {
            let (before, now) = (before.scores.get(&key)?.sums(), now.scores[i].sums());
            Some(std::array::from_fn(|column| if column < 5 { before[column] } else { now[column - 5] }))
        })
        .collect::<Option<_>>()?;
    let values = |sums: &[f64; 10]| {
        let half = |start: usize| aggregation.of_sums(&std::array::from_fn(|column| sums[start + column]));
        [half(0), half(5)]
    };
    let difference = |sums: &[f64; 10]| {
        let [before, now] = values(sums);
        [now - before]
    };
    let mut total = [0.0; 10];
    for sums in &sums {
        total.iter_mut().zip(sums).for_each(|(total, own)| *total += own);
    }
    let [before, now] = values(&total);
    let interval = intervals::of_sums(&sums, difference).map(|[interval]| interval);
    let higher_is_better = score.higher_is_better;
    let is_below = |interval: Interval| if higher_is_better { interval.high < 0.0 } else { interval.low > 0.0 };
    Some(ScoreComparison {
        metric: key,
        higher_is_better,
        before,
        now,
        difference: now - before,
        interval,
        is_worse: interval.is_some_and(is_below),
    })
}

/// Returns the right answer of an item.
fn target(prompt: &Prompt) -> String {
    let choice = |choice: &Option<usize>| choice.and_then(|choice| prompt.choices.get(choice)).cloned();
    match &prompt.target {
        Target::Choice(index) => choice(index).unwrap_or_default(),
        Target::Choices(indices) => indices.iter().filter_map(choice).collect::<Vec<_>>().join(" / "),
        Target::Text(text) => text.clone(),
        Target::Texts(texts) => texts.join(" / "),
    }
}

/// Returns what a model answered: the likeliest choice, or the first text that it wrote.
fn answer(prompt: &Prompt, responses: &[TaskResponse]) -> String {
    let likelihood = |response: &TaskResponse| match response {
        TaskResponse::Likelihood { log_likelihood, .. } => *log_likelihood,
        TaskResponse::Text { .. } => f64::NEG_INFINITY,
    };
    match responses {
        [TaskResponse::Text { text }, ..] => text.clone(),
        [TaskResponse::Likelihood { is_greedy: true, .. }] => target(prompt),
        [TaskResponse::Likelihood { .. }] => "another text".to_owned(),
        several => {
            let choices = prompt.choices.iter().zip(several);
            let best = choices.max_by(|a, b| likelihood(a.1).total_cmp(&likelihood(b.1)));
            best.map(|(choice, _)| choice.clone()).unwrap_or_default()
        }
    }
}

/// Returns the end of a text.
fn ending(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().rev().nth(MAX_CHARACTERS) {
        Some((start, first)) => format!("…{}", &text[start + first.len_utf8()..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_keep_their_end() {
        assert_eq!(ending(" short\n"), "short");
        let text = "é".repeat(MAX_CHARACTERS);
        assert_eq!(ending(&text), text);
        assert_eq!(ending(&format!("ab{text}")), format!("…{text}"));
    }
}
