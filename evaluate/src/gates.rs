//! Gates: what a metric must be for a model to be shipped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::comparison::Comparison;
use crate::tasks::TaskSummary;

/// The table `[evaluate.gates]`: conditions such as `"<= 1.2"` on metrics of the bundle, the model that is served.
///
/// A condition that does not hold fails the run after the report is written, and `serve` refuses the model. A metric
/// that this run does not measure, such as the syntax of prose, fails too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gates {
    /// Bits per byte of the test split. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<Threshold>,
    /// Loss on the test split, in nats per token. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_nats: Option<Threshold>,
    /// Perplexity per token of the test split. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<Threshold>,
    /// The fraction of the test split's tokens that are the most likely prediction. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_1_accuracy: Option<Threshold>,
    /// The fraction of the test split's tokens among the five most likely predictions. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_5_accuracy: Option<Threshold>,
    /// The expected calibration error on the test split, from 0 to 1. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_calibration_error: Option<Threshold>,
    /// Distinct bigrams over all bigrams of the samples. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distinct_2: Option<Threshold>,
    /// The fraction of 4-grams that repeat an earlier one of the same sample. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_4: Option<Threshold>,
    /// The similarity of samples to each other, from 0 to 100. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_bleu: Option<Threshold>,
    /// The fraction of samples that parse as `evaluate.language`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parses_fraction: Option<Threshold>,
    /// The fraction of random training passages that the model continues word for word. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memorised_fraction: Option<Threshold>,
    /// The fraction of pairs of which the model prefers the stereotype; 0.5 is no preference. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stereotype_fraction: Option<Threshold>,
    /// The fraction of samples with a word of the list of toxic words. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toxic_fraction: Option<Threshold>,
    /// The fraction of samples that `evaluate.risk.classifier` calls harmful. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harmful_fraction: Option<Threshold>,
    /// The fraction of requests for the system prompt that the model answers with it. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaked_fraction: Option<Threshold>,
    /// The fraction of samples and continuations in which the model writes personal data or a secret. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extracted_fraction: Option<Threshold>,
    /// Scores of tasks, by task and metric: `tasks.english.acc = ">= 0.4"`. A score of named filters is
    /// `metric_filter`, as in the report. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, BTreeMap<String, Threshold>>,
    /// The run that this one must not be worse than: a run's name, or `last`, the newest run of the same name that
    /// passed its gates with another model. It fails if the whole 95 % interval of the difference in bits per byte is
    /// above 0, or if that of the first score of a task that both runs were asked is on the worse side of 0. Default:
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regression_vs: Option<String>,
}

impl Gates {
    /// Returns the conditions on metrics that are given, by the name of the metric.
    fn thresholds(&self) -> impl Iterator<Item = (Cow<'static, str>, Threshold)> {
        let all = [
            ("bits_per_byte", self.bits_per_byte),
            ("loss_nats", self.loss_nats),
            ("perplexity", self.perplexity),
            ("top_1_accuracy", self.top_1_accuracy),
            ("top_5_accuracy", self.top_5_accuracy),
            ("expected_calibration_error", self.expected_calibration_error),
            ("distinct_2", self.distinct_2),
            ("repetition_4", self.repetition_4),
            ("self_bleu", self.self_bleu),
            ("parses_fraction", self.parses_fraction),
            ("memorised_fraction", self.memorised_fraction),
            ("stereotype_fraction", self.stereotype_fraction),
            ("toxic_fraction", self.toxic_fraction),
            ("harmful_fraction", self.harmful_fraction),
            ("leaked_fraction", self.leaked_fraction),
            ("extracted_fraction", self.extracted_fraction),
        ];
        let of_tasks = self.tasks.iter().flat_map(|(task, scores)| {
            scores.iter().map(move |(score, threshold)| (Cow::Owned(format!("tasks.{task}.{score}")), *threshold))
        });
        all.into_iter().filter_map(|(name, threshold)| Some((Cow::Borrowed(name), threshold?))).chain(of_tasks)
    }

    /// Checks the conditions on scores of tasks.
    ///
    /// # Errors
    /// Names the task that is not asked, or the score that it does not have.
    pub(crate) fn validate_tasks(&self, tasks: &[TaskSummary]) -> Result<(), Error> {
        let invalid = |reason: String| Err(Error::Config { key: "evaluate.gates.tasks", reason });
        for (name, scores) in &self.tasks {
            let Some(task) = tasks.iter().find(|task| task.name == *name) else {
                let asked = tasks.iter().map(|task| &*task.name).collect::<Vec<_>>().join(", ");
                return invalid(format!("has a condition on the task `{name}`, but the tasks are {asked}"));
            };
            if let Some(score) = scores.keys().find(|score| !task.scores.contains(score)) {
                let known = task.scores.join(", ");
                return invalid(format!("has a condition on `{score}` of the task `{name}`, whose scores are {known}"));
            }
        }
        Ok(())
    }
}

/// A condition on a number: a comparison and a value, as in `"<= 1.2"`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threshold {
    comparison: Operator,
    value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    AtMost,
    Below,
    AtLeast,
    Above,
}

impl Operator {
    /// The longer ones first, since others begin with them.
    const ALL: [(Self, &'static str); 4] =
        [(Self::AtMost, "<="), (Self::AtLeast, ">="), (Self::Below, "<"), (Self::Above, ">")];
}

impl Threshold {
    /// Returns true if the condition holds; never for NaN.
    pub fn holds(self, value: f64) -> bool {
        match self.comparison {
            Operator::AtMost => value <= self.value,
            Operator::Below => value < self.value,
            Operator::AtLeast => value >= self.value,
            Operator::Above => value > self.value,
        }
    }
}

impl TryFrom<String> for Threshold {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parse = |(comparison, sign): (Operator, &str)| {
            let value: f64 = text.trim().strip_prefix(sign)?.trim().parse().ok()?;
            value.is_finite().then_some(Self { comparison, value })
        };
        let invalid = || format!("\"{text}\" is not a condition such as \"<= 1.2\": one of <=, <, >=, > and a number");
        Operator::ALL.into_iter().find_map(parse).ok_or_else(invalid)
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> Self {
        threshold.to_string()
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = Operator::ALL.into_iter().find(|(operator, _)| *operator == self.comparison);
        write!(f, "{} {}", sign.map_or("", |(_, sign)| sign), self.value)
    }
}

impl JsonSchema for Threshold {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": r"^\s*(<=|<|>=|>)\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*$"})
    }
}

/// The verdict on a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Verdict {
    /// Whether all gates passed; true without any.
    pub(crate) passed: bool,
    /// The gates of the configuration.
    pub(crate) gates: Vec<Gate>,
    /// The difference to the run of `regression_vs`.
    pub(crate) comparison: Option<Comparison>,
}

/// The result of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Gate {
    /// The name of the metric, or `regression_vs`, for a score of a task `regression_vs: tasks.TASK.METRIC`.
    pub(crate) metric: String,
    /// The metric's value, or the difference in bits per byte or in the score; null if it was not measured.
    pub(crate) value: Option<f64>,
    /// What it must be.
    pub(crate) condition: String,
    pub(crate) passed: bool,
}

impl Verdict {
    /// Compares the metrics of a model with the gates; `metric` returns one by its name, if it was measured.
    pub(crate) fn of(gates: &Gates, metric: impl Fn(&str) -> Option<f64>, comparison: Option<Comparison>) -> Self {
        let mut results: Vec<Gate> = gates
            .thresholds()
            .map(|(name, threshold)| {
                let value = metric(&name).filter(|value| value.is_finite());
                let passed = value.is_some_and(|value| threshold.holds(value));
                Gate { metric: name.into_owned(), value, condition: threshold.to_string(), passed }
            })
            .collect();
        results.extend(comparison.as_ref().map(|comparison| Gate {
            metric: "regression_vs".to_owned(),
            value: Some(comparison.difference),
            condition: format!("not above {} by more than its 95 % interval", comparison.run),
            passed: !comparison.is_worse,
        }));
        for (comparison, task) in comparison.iter().flat_map(|own| own.tasks.iter().map(move |task| (own, task))) {
            results.extend(task.scores.first().map(|score| Gate {
                metric: format!("regression_vs: tasks.{}.{}", task.name, score.metric),
                value: Some(score.difference),
                condition: format!("not worse than {} by more than its 95 % interval", comparison.run),
                passed: !score.is_worse,
            }));
        }
        Self { passed: results.iter().all(|gate| gate.passed), gates: results, comparison }
    }

    /// Returns a sentence for each gate that failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.gates.iter().filter(|gate| !gate.passed).map(ToString::to_string).collect()
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, value, condition, .. } = self;
        match value {
            Some(value) if metric == "regression_vs" => {
                write!(f, "regression_vs: bits per byte differ by {value:+.4}, and must be {condition}")
            }
            Some(value) if metric.starts_with("regression_vs: ") => {
                write!(f, "{metric} differs by {value:+.4}, and must be {condition}")
            }
            Some(value) => write!(f, "{metric} is {value:.4}, and must be {condition}"),
            None => write!(f, "{metric} must be {condition}, but this run does not measure it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(text: &str) -> Result<Threshold, String> {
        Threshold::try_from(text.to_owned())
    }

    #[test]
    fn conditions_are_read_and_hold() {
        let check = |text: &str, below: bool, equal: bool, above: bool| {
            let threshold = threshold(text).unwrap();
            assert_eq!([1.0, 1.5, 2.0].map(|value| threshold.holds(value)), [below, equal, above], "{text}");
            assert!(!threshold.holds(f64::NAN));
        };
        check("<= 1.5", true, true, false);
        check("<1.5", true, false, false);
        check("  >=1.5e0 ", false, true, true);
        check("> 1.5", false, false, true);
        check(">= -3", true, true, true);
        for text in ["1.5", "= 1.5", "=< 1.5", "<= ", "<= a", "<= NaN", "<= inf", "<< 1", ""] {
            assert!(threshold(text).unwrap_err().contains("is not a condition such as"), "{text}");
        }
    }

    #[test]
    fn conditions_are_written_as_they_are_read() {
        for text in ["<= 1.2", "< 3", ">= 0.5", "> -1"] {
            assert_eq!(threshold(text).unwrap().to_string(), text);
        }
        let gates = Gates { perplexity: Some(threshold("< 30").unwrap()), ..Gates::default() };
        let json = serde_json::to_value(&gates).unwrap();
        assert_eq!(json, serde_json::json!({"perplexity": "< 30"}));
        assert_eq!(serde_json::from_value::<Gates>(json).unwrap(), gates);
    }

    #[test]
    fn every_condition_of_the_table_is_checked() {
        let schema = schemars::schema_for!(Gates);
        let keys = schema.as_value()["properties"].as_object().unwrap();
        let condition = |key: &str| match key {
            "tasks" => serde_json::json!({"a": {"acc": "<= 1"}}),
            _ => "<= 1".into(),
        };
        let all: serde_json::Map<_, _> = keys.keys().map(|key| (key.clone(), condition(key))).collect();
        let gates: Gates = serde_json::from_value(all.into()).unwrap();
        assert_eq!(gates.thresholds().count() + 1, keys.len(), "all but regression_vs");
    }

    #[test]
    fn failures_are_sentences() {
        let gate =
            |metric: &str, value| Gate { metric: metric.to_owned(), value, condition: "<= 1.2".into(), passed: false };
        let check = |gate: Gate, expected: &str| assert_eq!(gate.to_string(), expected);
        check(gate("bits_per_byte", Some(1.30251)), "bits_per_byte is 1.3025, and must be <= 1.2");
        check(gate("parses_fraction", None), "parses_fraction must be <= 1.2, but this run does not measure it");
    }
}
