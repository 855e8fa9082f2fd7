//! The metrics of tasks, each as lm-evaluation-harness computes it.

use std::collections::BTreeSet;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::definition::{Definition, MetricOptions, OutputType};
use super::execution::pass_at_k;
use super::prompt::{Prompt, Target};
use super::template::compile;

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// The fraction of items whose likeliest choice is right, or whose answer greedy decoding writes.
    Acc,
    /// As `Acc`, with the log-likelihood of a choice divided by its number of characters.
    AccNorm,
    /// As `Acc`, with the log-likelihood of a choice divided by its number of bytes.
    AccBytes,
    /// As `Acc`, with the log-likelihood of the choice alone subtracted.
    AccMutualInfo,
    /// The fraction of items whose answer is written exactly.
    ExactMatch,
    /// Of choices, the F1 score of choice 1; of texts, the mean F1 score of their words (`SQuAD`: 100,000+ Questions
    /// for Machine Comprehension of Text, 2016).
    F1,
    /// Matthews' correlation coefficient of choices 0 and 1.
    Mcc,
    /// The mean squared distance of the choices' probabilities from those of the right answer.
    BrierScore,
    /// exp of the mean negative log-likelihood of the answers.
    Perplexity,
    /// The probability that one of k generated programs passes the tests (Chen et al., 2021).
    PassAtK,
}

/// How the scores of items become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregation {
    Mean,
    Perplexity,
    F1,
    MatthewsCorrcoef,
}

/// The score of an item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Score {
    /// A number.
    Number(f64),
    /// The right choice and that of the model.
    Choices([usize; 2]),
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::AccBytes => "acc_bytes",
            Self::AccMutualInfo => "acc_mutual_info",
            Self::ExactMatch => "exact_match",
            Self::F1 => "f1",
            Self::Mcc => "mcc",
            Self::BrierScore => "brier_score",
            Self::Perplexity => "perplexity",
            Self::PassAtK => "pass_at_k",
        }
    }

    pub(super) fn higher_is_better(self) -> bool {
        !matches!(self, Self::BrierScore | Self::Perplexity)
    }

    fn fits(self, output_type: OutputType) -> bool {
        match output_type {
            OutputType::MultipleChoice => !matches!(self, Self::Perplexity | Self::PassAtK),
            OutputType::Loglikelihood => matches!(self, Self::Acc | Self::Perplexity),
            OutputType::GenerateUntil => matches!(self, Self::ExactMatch | Self::F1 | Self::PassAtK),
        }
    }

    pub(super) fn aggregation(self, output_type: OutputType) -> Aggregation {
        match self {
            Self::Perplexity => Aggregation::Perplexity,
            Self::F1 if output_type == OutputType::MultipleChoice => Aggregation::F1,
            Self::Mcc => Aggregation::MatthewsCorrcoef,
            _ => Aggregation::Mean,
        }
    }
}

impl Aggregation {
    /// Returns true if definitions call it by this name.
    fn accepts(self, name: &str) -> bool {
        match self {
            Self::Mean => matches!(name, "mean" | "brier_score"),
            Self::Perplexity => name == "perplexity",
            Self::F1 => name == "f1",
            Self::MatthewsCorrcoef => name == "matthews_corrcoef",
        }
    }

    /// Returns the score of items by their sums, of [`Score::sums`].
    pub(super) fn of_sums(self, sums: &[f64; 5]) -> f64 {
        let [numbers, both, only_chosen, only_right, items] = *sums;
        match self {
            Self::Mean => numbers / items,
            Self::Perplexity => (-numbers / items).exp(),
            Self::F1 if both == 0.0 => 0.0,
            Self::F1 => 2.0 * both / (2.0 * both + only_chosen + only_right),
            Self::MatthewsCorrcoef => {
                let neither = items - both - only_chosen - only_right;
                let (chosen, right) = (both + only_chosen, both + only_right);
                let squared = chosen * right * (items - chosen) * (items - right);
                if squared == 0.0 { 0.0 } else { (both * neither - only_chosen * only_right) / squared.sqrt() }
            }
        }
    }

    /// Returns the standard error of the score of some items where it has a formula: that of a mean, and of a function
    /// of a mean by its derivative.
    pub(super) fn standard_error(self, scores: &[Score]) -> Option<f64> {
        let numbers: Vec<f64> = scores.iter().filter_map(|score| score.number()).collect();
        let n = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / n;
        let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        let of_mean = (numbers.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt());
        match self {
            Self::Mean => of_mean,
            Self::Perplexity => of_mean.map(|error| error * (-mean).exp()),
            Self::F1 | Self::MatthewsCorrcoef => None,
        }
    }
}

impl Score {
    pub(super) fn number(self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Choices(_) => None,
        }
    }

    /// Returns true if the item counts as right, where a higher score is a better one.
    pub(super) fn is_right(self) -> bool {
        match self {
            Self::Number(number) => number >= 0.5,
            Self::Choices([right, chosen]) => right == chosen,
        }
    }

    /// Returns what is summed over items: a number, whether choice 1 is both right and chosen, only chosen, and only
    /// right, and the items.
    pub(super) fn sums(self) -> [f64; 5] {
        match self {
            Self::Number(number) => [number, 0.0, 0.0, 0.0, 1.0],
            Self::Choices([1, 1]) => [0.0, 1.0, 0.0, 0.0, 1.0],
            Self::Choices([_, 1]) => [0.0, 0.0, 1.0, 0.0, 1.0],
            Self::Choices([1, _]) => [0.0, 0.0, 0.0, 1.0, 1.0],
            Self::Choices(_) => [0.0, 0.0, 0.0, 0.0, 1.0],
        }
    }
}

/// The metrics of a task, ready to be computed.
pub(super) struct Metrics {
    list: Vec<(Metric, Options)>,
    output_type: OutputType,
}

/// What is ignored when texts are compared, and the number of programs of `pass_at_k`.
#[derive(Debug, Clone, Default)]
struct Options {
    k: usize,
    case: bool,
    punctuation: bool,
    numbers: bool,
    regexes: Vec<Regex>,
}

impl Metrics {
    /// Returns the metrics of a definition; without any, those that lm-evaluation-harness has for the output type.
    ///
    /// # Errors
    /// Returns the problem if one does not fit the output type, or has options that are not supported.
    pub(super) fn of(definition: &Definition) -> Result<Self, String> {
        let output_type = definition.output_type;
        let defaults = || -> Vec<MetricOptions> {
            let metrics: &[Metric] = match output_type {
                OutputType::MultipleChoice => &[Metric::Acc, Metric::AccNorm],
                OutputType::Loglikelihood => &[Metric::Perplexity, Metric::Acc],
                OutputType::GenerateUntil if definition.code.is_some() => &[Metric::PassAtK],
                OutputType::GenerateUntil => &[Metric::ExactMatch],
            };
            metrics.iter().map(|metric| MetricOptions::of(*metric)).collect()
        };
        let given = definition.metric_list.clone().unwrap_or_else(defaults);
        let list = given.into_iter().map(|options| prepared(options, output_type)).collect::<Result<Vec<_>, _>>()?;
        let list: Vec<(Metric, Options)> = list.into_iter().flatten().collect();
        let runs_code = definition.code.is_some();
        if list.iter().any(|(metric, _)| (*metric == Metric::PassAtK) != runs_code) {
            let (needs, has_no_other) = ("needs `code = { language = \"python\" }`", "is all that `code` is for");
            return Err(format!("the metric `pass_at_k` {}", if runs_code { has_no_other } else { needs }));
        }
        match list.iter().map(|(_, options)| options.k).find(|k| *k > definition.repeats) {
            Some(k) => Err(format!("`pass_at_k` with k = {k} needs `repeats = {k}` or more")),
            None => Ok(Self { list, output_type }),
        }
    }

    /// Returns the metrics with their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (String, Metric, Aggregation)> {
        self.list.iter().map(|(metric, options)| {
            let name = match metric {
                Metric::PassAtK => format!("pass@{}", options.k),
                metric => metric.name().to_owned(),
            };
            (name, *metric, metric.aggregation(self.output_type))
        })
    }

    /// Returns the scores of an item by which of its programs pass.
    pub(super) fn of_programs(&self, passed: &[bool]) -> Vec<Score> {
        let count = passed.iter().filter(|passed| **passed).count();
        self.list.iter().map(|(_, options)| Score::Number(pass_at_k(passed.len(), count, options.k))).collect()
    }

    /// Returns true if the choices alone are scored too.
    pub(super) fn needs_choices_alone(&self) -> bool {
        self.list.iter().any(|(metric, _)| *metric == Metric::AccMutualInfo)
    }

    /// Returns the scores of an item by its choices' log-likelihoods and whether greedy decoding writes each; those of
    /// the choices alone follow, if they are needed.
    pub(super) fn of_choices(&self, prompt: &Prompt, likelihoods: &[(f64, bool)]) -> Vec<Score> {
        let (own, alone) = likelihoods.split_at(prompt.choices.len());
        let best_by = |divisor: &dyn Fn(&str) -> f64| {
            let pairs = own.iter().zip(&prompt.choices);
            argmax(pairs.map(|((likelihood, _), choice)| likelihood / divisor(choice)))
        };
        let best = best_by(&|_| 1.0);
        let right: Vec<Option<usize>> = match &prompt.target {
            Target::Choice(choice) => vec![*choice],
            Target::Choices(choices) => choices.clone(),
            Target::Text(_) | Target::Texts(_) => Vec::new(),
        };
        let is_right = |choice: usize| Score::Number(f64::from(u8::from(right.contains(&Some(choice)))));
        let score = |metric: Metric| match metric {
            Metric::Acc | Metric::Perplexity | Metric::PassAtK => is_right(best),
            Metric::AccNorm => is_right(best_by(&|choice| choice.chars().count() as f64)),
            Metric::AccBytes => is_right(best_by(&|choice| choice.len() as f64)),
            Metric::AccMutualInfo => is_right(argmax(own.iter().zip(alone).map(|((own, _), (alone, _))| own - alone))),
            Metric::ExactMatch => {
                let is_written = right.iter().flatten().any(|choice| own[*choice].1);
                Score::Number(f64::from(u8::from(is_written)))
            }
            Metric::F1 | Metric::Mcc => Score::Choices([right.first().copied().flatten().unwrap_or(usize::MAX), best]),
            Metric::BrierScore => Score::Number(brier(own, right.first().copied().flatten())),
        };
        self.list.iter().map(|(metric, _)| score(*metric)).collect()
    }

    /// Returns the scores of an item by the log-likelihood of its answer.
    pub(super) fn of_answer(&self, likelihood: f64, is_greedy: bool) -> Vec<Score> {
        let score = |(metric, _): &(Metric, Options)| match metric {
            Metric::Perplexity => Score::Number(likelihood),
            _ => Score::Number(f64::from(u8::from(is_greedy))),
        };
        self.list.iter().map(score).collect()
    }

    /// Returns the scores of an item by the text that was written.
    pub(super) fn of_text(&self, text: &str, target: &Target) -> Vec<Score> {
        let targets: &[String] = match target {
            Target::Text(text) => std::slice::from_ref(text),
            Target::Texts(texts) => texts,
            Target::Choice(_) | Target::Choices(_) => &[],
        };
        let exact_match = |options: &Options| {
            let text = options.normalised(text);
            f64::from(u8::from(targets.iter().any(|target| options.normalised(target) == text)))
        };
        let word_f1 = || targets.iter().map(|target| word_f1(text, target)).fold(0.0, f64::max);
        let score = |(metric, options): &(Metric, Options)| match metric {
            Metric::F1 => Score::Number(word_f1()),
            _ => Score::Number(exact_match(options)),
        };
        self.list.iter().map(score).collect()
    }
}

/// Returns a metric with its options, once for each number of programs.
fn prepared(options: MetricOptions, output_type: OutputType) -> Result<Vec<(Metric, Options)>, String> {
    let (metric, name) = (options.metric, options.metric.name());
    if !metric.fits(output_type) {
        return Err(format!("the metric `{name}` is not one of its output type"));
    }
    if options.hf_evaluate {
        return Err(format!("`hf_evaluate` of the metric `{name}` is not supported"));
    }
    if let Some(other) = options.aggregation.filter(|other| !metric.aggregation(output_type).accepts(other)) {
        return Err(format!("the aggregation `{other}` of the metric `{name}` is not supported"));
    }
    if metric != Metric::PassAtK && !options.k.is_empty() {
        return Err(format!("the metric `{name}` has no `k`"));
    }
    let text_options = Options {
        k: 0,
        case: options.ignore_case,
        punctuation: options.ignore_punctuation,
        numbers: options.ignore_numbers,
        regexes: options.regexes_to_ignore.iter().map(|regex| compile(regex)).collect::<Result<_, _>>()?,
    };
    let has_options = text_options.case || text_options.punctuation || text_options.numbers;
    if (has_options || !text_options.regexes.is_empty())
        && (metric, output_type) != (Metric::ExactMatch, OutputType::GenerateUntil)
    {
        return Err(format!("the metric `{name}` compares no texts, so it has nothing to ignore"));
    }
    if metric != Metric::PassAtK {
        return Ok(vec![(metric, text_options)]);
    }
    let numbers = if options.k.is_empty() { vec![1] } else { options.k };
    if numbers.contains(&0) {
        return Err("`k` of `pass_at_k` must be at least 1".to_owned());
    }
    Ok(numbers.into_iter().map(|k| (metric, Options { k, ..Options::default() })).collect())
}

impl Options {
    fn normalised(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for regex in &self.regexes {
            text = regex.replace_all(&text, "").into_owned();
        }
        if self.case {
            text = text.to_lowercase();
        }
        text.retain(|c| !(self.punctuation && c.is_ascii_punctuation() || self.numbers && c.is_ascii_digit()));
        text
    }
}

/// Returns the index of the largest number, the first among equals.
fn argmax(numbers: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, number) in numbers.enumerate() {
        if number > best.1 {
            best = (index, number);
        }
    }
    best.0
}

/// The probabilities are the softmax of the log-likelihoods.
fn brier(likelihoods: &[(f64, bool)], right: Option<usize>) -> f64 {
    let largest = likelihoods.iter().map(|(likelihood, _)| *likelihood).fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = likelihoods.iter().map(|(likelihood, _)| (likelihood - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let distance = |(i, weight): (usize, &f64)| (weight / sum - f64::from(u8::from(Some(i) == right))).powi(2);
    weights.iter().enumerate().map(distance).sum()
}

/// Returns the F1 score of the words of two texts, without case, punctuation and articles, as in the evaluation of
/// `SQuAD`.
fn word_f1(text: &str, target: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
        let words = text.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
        words.map(str::to_owned).collect()
    };
    let (found, expected) = (words(text), words(target));
    if found.is_empty() || expected.is_empty() {
        return f64::from(u8::from(found == expected));
    }
    let count = |words: &[String], word: &String| words.iter().filter(|other| *other == word).count();
    let different: BTreeSet<&String> = found.iter().collect();
    let common: usize = different.into_iter().map(|word| count(&found, word).min(count(&expected, word))).sum();
    2.0 * common as f64 / (found.len() + expected.len()) as f64
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn metrics(output_type: &str, list: &Value) -> Result<Metrics, String> {
        let definition = json!({"output_type": output_type, "metric_list": list});
        Metrics::of(&serde_json::from_value(definition).unwrap())
    }

    fn numbers(scores: &[Score]) -> Vec<f64> {
        scores.iter().filter_map(|score| score.number()).collect()
    }

    #[test]
    fn choices_are_compared_by_likelihood_length_and_bytes() {
        let list = json!([
            {"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "acc_bytes"}, {"metric": "acc_mutual_info"},
            {"metric": "exact_match"},
        ]);
        let metrics = metrics("multiple_choice", &list).unwrap();
        let prompt = |target| Prompt {
            contexts: vec!["Q".to_owned()],
            choices: ["aa", "bbbb", "é"].map(str::to_owned).to_vec(),
            continuation: None,
            target,
            question: String::new(),
            prefix: String::new(),
        };
        // By character -2, -1.75 and -5; by byte -2, -1.75 and -2.5; beside the choice alone -1, -6 and 0.
        let likelihoods = [(-4.0, false), (-7.0, true), (-5.0, false), (-3.0, true), (-1.0, false), (-5.0, false)];
        let check = |target, expected: [f64; 5]| {
            assert_eq!(numbers(&metrics.of_choices(&prompt(target), &likelihoods)), expected);
        };
        check(Target::Choice(Some(0)), [1.0, 0.0, 0.0, 0.0, 0.0]);
        check(Target::Choice(Some(1)), [0.0, 1.0, 1.0, 0.0, 1.0]);
        check(Target::Choice(Some(2)), [0.0, 0.0, 0.0, 1.0, 0.0]);
        check(Target::Choice(None), [0.0; 5]);
        check(Target::Choices(vec![Some(0), Some(1)]), [1.0, 1.0, 1.0, 0.0, 1.0]);
        // Equal choices: the first.
        let equal = [(-1.0, false); 6];
        assert!(numbers(&metrics.of_choices(&prompt(Target::Choice(Some(0))), &equal))[0] > 0.5);
    }

    #[test]
    fn texts_are_compared_as_exact_match_does() {
        let check = |options: Value, text: &str, expected: f64| {
            let metrics = metrics("generate_until", &json!([options])).unwrap();
            assert_eq!(
                numbers(&metrics.of_text(text, &Target::Text("The answer: 42".to_owned()))),
                [expected],
                "{text}"
            );
        };
        check(json!({"metric": "exact_match"}), "The answer: 42", 1.0);
        check(json!({"metric": "exact_match"}), "the answer: 42", 0.0);
        check(json!({"metric": "exact_match", "ignore_case": true, "ignore_punctuation": true}), "the ANSWER 42", 1.0);
        check(json!({"metric": "exact_match", "ignore_numbers": true}), "The answer: 17", 1.0);
        check(json!({"metric": "exact_match", "regexes_to_ignore": ["^The ", ":.*"]}), "answer", 1.0);
        check(json!({"metric": "f1"}), "an answer", 2.0 / 3.0);
        check(json!({"metric": "f1"}), "", 0.0);
    }

    /// The expected numbers are those of scikit-learn 1.9.1 (`f1_score`, `matthews_corrcoef`) and `NumPy`.
    #[test]
    fn aggregations_are_those_of_scikit_learn() {
        let pairs = [[1, 1], [1, 0], [0, 0], [0, 1], [1, 1], [0, 0], [1, 1]].map(Score::Choices);
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
        let value = |aggregation: Aggregation, scores: &[Score]| {
            let mut sums = [0.0; 5];
            for score in scores {
                sums.iter_mut().zip(score.sums()).for_each(|(sum, own)| *sum += own);
            }
            aggregation.of_sums(&sums)
        };
        close(value(Aggregation::F1, &pairs), 0.75);
        close(value(Aggregation::MatthewsCorrcoef, &pairs), 0.416_666_666_666_666_7);
        let numbers = [-1.0, -2.0, -4.0].map(Score::Number);
        close(value(Aggregation::Perplexity, &numbers), (7.0_f64 / 3.0).exp());
        let error = Aggregation::Perplexity.standard_error(&numbers).unwrap();
        close(error, (7.0_f64 / 3.0).exp() * (7.0_f64 / 9.0).sqrt());
        assert_eq!(Aggregation::Mean.standard_error(&[Score::Number(1.0)]), None);
        close(brier(&[(0.0, false), (0.0, false)], Some(0)), 0.5);
    }

    #[test]
    fn wrong_options_are_named() {
        let check = |output_type: &str, options: Value, expected: &str| {
            assert_eq!(metrics(output_type, &json!([options])).err().unwrap(), expected);
        };
        check("generate_until", json!({"metric": "acc"}), "the metric `acc` is not one of its output type");
        check(
            "multiple_choice",
            json!({"metric": "acc", "aggregation": "median"}),
            "the aggregation `median` of the metric `acc` is not supported",
        );
        check(
            "multiple_choice",
            json!({"metric": "acc", "ignore_case": true}),
            "the metric `acc` compares no texts, so it has nothing to ignore",
        );
    }
}
