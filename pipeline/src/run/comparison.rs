//! Two runs side by side: configuration, data, figures, samples, and a verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use artifact::{Digest, Sealed};
use evaluate::{Baseline, Interval, PairedDifferences};
use serde::Serialize;
use serde_json::Value;

use crate::config;

use super::record::Run;
use super::stage::Stage;
use super::values::{self, number_text, signed};

/// The figures of quality, the best one first; a lower one is better.
const QUALITY: [(Stage, &str, &str); 4] = [
    (Stage::Evaluate, "bundle_test_bits_per_byte", "bits per byte of the bundle on the test split"),
    (Stage::Evaluate, "checkpoint_test_bits_per_byte", "bits per byte of the checkpoint on the test split"),
    (Stage::Evaluate, "checkpoint_validation_bits_per_byte", "bits per byte of the checkpoint on the validation split"),
    (Stage::Train, "validation_loss", "validation loss"),
];

/// Keys of the configuration that say where a run is, not what it does.
const PLACE_KEYS: [&str; 3] = ["base", "name", "store"];

/// Two runs side by side.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The name of the first run.
    pub a: String,
    /// The name of the second run.
    pub b: String,
    /// Which is better, in one line.
    pub verdict: String,
    /// The keys of the resolved configuration that differ.
    pub config: Vec<Changed>,
    /// What differs of the program and the machine.
    pub environment: Vec<Changed>,
    /// The artifacts of the stages that at least one of them has.
    pub artifacts: Vec<ArtifactPair>,
    /// The figures of the stages.
    pub figures: Vec<Figure>,
    /// Samples of the same prompt.
    pub samples: Vec<SamplePair>,
}

/// A value that differs.
#[derive(Debug, PartialEq, Serialize)]
pub struct Changed {
    /// Its dotted key.
    pub key: String,
    /// The value in the first run, if it has one.
    pub a: Option<Value>,
    /// The value in the second run, if it has one.
    pub b: Option<Value>,
}

/// The artifact of a stage in both runs.
#[derive(Debug, Serialize)]
pub struct ArtifactPair {
    /// The stage.
    pub stage: Stage,
    /// The digest of the first run's content.
    pub a: Option<Digest>,
    /// The digest of the second run's content.
    pub b: Option<Digest>,
}

/// A figure of both runs.
#[derive(Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The stage.
    pub stage: Stage,
    /// The name, with its unit.
    pub name: String,
    /// The first run's.
    pub a: Option<f64>,
    /// The second run's.
    pub b: Option<f64>,
    /// `b - a`, over `documents` if there are any.
    pub difference: Option<f64>,
    /// The 95 % interval of the difference, if both reports have intervals.
    pub interval: Option<Interval>,
    /// The number of documents that both were scored on, if the difference and its interval are over these, document
    /// by document; otherwise, the runs are measured independently of each other.
    pub documents: Option<u64>,
}

/// Samples of both runs.
#[derive(Debug, PartialEq, Serialize)]
pub struct SamplePair {
    /// The prompt.
    pub prompt: String,
    /// The first run's text.
    pub a: Option<String>,
    /// The second run's text.
    pub b: Option<String>,
}

impl Comparison {
    /// Compares two runs.
    pub fn of(a: &Run, b: &Run) -> Self {
        let sealed = [a, b].map(|run| run.artifact(Stage::Evaluate).ok());
        let reports = sealed.each_ref().map(|sealed| sealed.as_ref().map_or(Value::Null, report));
        let paired = paired([a, b], &sealed);
        let figures = figures(a, b, &reports, paired.as_ref());
        let artifacts: Vec<ArtifactPair> = Stage::ALL
            .into_iter()
            .map(|stage| ArtifactPair { stage, a: digest(a, stage), b: digest(b, stage) })
            .filter(|pair| pair.a.is_some() || pair.b.is_some())
            .collect();
        Self {
            a: a.record.name.clone(),
            b: b.record.name.clone(),
            verdict: verdict(a, b, &artifacts, &figures),
            config: changed(&config(a), &config(b)),
            environment: changed(&environment(a), &environment(b)),
            artifacts,
            figures,
            samples: samples(&reports),
        }
    }
}

fn digest(run: &Run, stage: Stage) -> Option<Digest> {
    run.stage(stage).map(|record| record.digest)
}

/// Returns the resolved configuration by dotted keys.
fn config(run: &Run) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(run.folder.join(config::FILE_NAME)).unwrap_or_default();
    let table: toml::Table = toml::from_str(&text).unwrap_or_default();
    let mut keys = values::flat(&serde_json::to_value(table).unwrap_or_default());
    keys.retain(|key, _| !PLACE_KEYS.contains(&key.as_str()));
    keys
}

fn environment(run: &Run) -> BTreeMap<String, Value> {
    let host = &run.record.host;
    let parts = [
        ("device", &host.device),
        ("platform", &host.platform),
        ("version", &host.version),
        ("git_revision", &host.git_revision),
    ];
    parts.into_iter().map(|(key, value)| (key.to_owned(), value.as_str().into())).collect()
}

fn changed(a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) -> Vec<Changed> {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differing = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
    differing.map(|key| Changed { key: key.clone(), a: a.get(key).cloned(), b: b.get(key).cloned() }).collect()
}

/// Returns `report.json` of a report, null if it cannot be read.
fn report(sealed: &Sealed) -> Value {
    let text = fs::read(sealed.folder().join("report.json")).ok();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Returns the differences over the documents that both runs were scored on, if there are enough.
fn paired(runs: [&Run; 2], reports: &[Option<Sealed>; 2]) -> Option<PairedDifferences> {
    let [Some(a), Some(b)] = reports else { return None };
    let [a, b] = [(runs[0], a), (runs[1], b)].map(|(run, report)| Baseline { run: &run.record.name, report });
    // Without the documents, as after a deletion, the intervals are those of the reports.
    PairedDifferences::of(&a, &b).ok().flatten()
}

fn figures(a: &Run, b: &Run, reports: &[Value; 2], paired: Option<&PairedDifferences>) -> Vec<Figure> {
    let (a, b) = (values::figures(a), values::figures(b));
    let keys: BTreeSet<&(Stage, &str)> = a.keys().chain(b.keys()).collect();
    let figure = |(stage, name): &(Stage, &str)| {
        let key = (*stage, *name);
        let (a, b) = (a.get(&key).copied(), b.get(&key).copied());
        let own =
            Figure { stage: *stage, name: (*name).to_owned(), a, b, difference: None, interval: None, documents: None };
        let Some(difference) = a.zip(b).map(|(a, b)| b - a) else { return own };
        let found = paired.filter(|_| *stage == Stage::Evaluate);
        if let Some((paired, (_, found))) =
            found.and_then(|paired| Some((paired, paired.figures.iter().find(|(figure, _)| figure == name)?)))
        {
            let (difference, interval) = (Some(found.difference), Some(found.interval));
            return Figure { difference, interval, documents: Some(paired.documents), ..own };
        }
        let [of_a, of_b] = reports.each_ref().map(|report| interval_in(report, name));
        let interval = of_a.zip(of_b).map(|(a, b)| of_difference(difference, a, b));
        Figure { difference: Some(difference), interval, ..own }
    };
    keys.into_iter().map(figure).collect()
}

/// Returns the interval that a report has for the figure `<model>_<split>_<metric>`.
fn interval_in(report: &Value, name: &str) -> Option<Interval> {
    let (model, rest) = name.split_once('_')?;
    let (split, metric) = rest.split_once('_')?;
    let interval = &report[split][model]["intervals"][metric];
    Some(Interval { low: interval["low"].as_f64()?, high: interval["high"].as_f64()? })
}

/// Returns the interval of the difference between two values that are measured independently of each other: the
/// variances add up.
fn of_difference(difference: f64, a: Interval, b: Interval) -> Interval {
    let half = ((a.high - a.low).powi(2) + (b.high - b.low).powi(2)).sqrt() / 2.0;
    Interval { low: difference - half, high: difference + half }
}

fn samples(reports: &[Value; 2]) -> Vec<SamplePair> {
    // The prompts of a report repeat: the first samples of a prompt are a pair, the second ones, ….
    let mut pairs: Vec<((String, usize), SamplePair)> = Vec::new();
    for (i, report) in reports.iter().enumerate() {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for item in report["samples"]["items"].as_array().into_iter().flatten() {
            let (Some(prompt), Some(text)) = (item["prompt"].as_str(), item["text"].as_str()) else { continue };
            let number = seen.entry(prompt).or_default();
            let key = (prompt.to_owned(), *number);
            *number += 1;
            let at = pairs.iter().position(|(found, _)| *found == key).unwrap_or_else(|| {
                pairs.push((key, SamplePair { prompt: prompt.to_owned(), a: None, b: None }));
                pairs.len() - 1
            });
            let pair = &mut pairs[at].1;
            *(if i == 0 { &mut pair.a } else { &mut pair.b }) = Some(text.to_owned());
        }
    }
    pairs.into_iter().map(|(_, pair)| pair).collect()
}

fn verdict(a: &Run, b: &Run, artifacts: &[ArtifactPair], figures: &[Figure]) -> String {
    let (name_a, name_b) = (&a.record.name, &b.record.name);
    if !artifacts.is_empty() && artifacts.iter().all(|pair| pair.a == pair.b) {
        return format!("{name_a} and {name_b} are the same: every artifact has the same digest");
    }
    let of = |(stage, name, words): (Stage, &str, &'static str)| {
        let figure = figures.iter().find(|figure| figure.stage == stage && figure.name == name)?;
        Some((stage, words, figure, figure.a?, figure.b?, figure.difference?))
    };
    let Some((stage, words, figure, value_a, value_b, difference)) = QUALITY.into_iter().find_map(of) else {
        return format!("{name_a} and {name_b} have no figure of quality in common");
    };
    let values = format!("{words} {} and {}", number_text(value_a), number_text(value_b));
    if !is_same_text(a, b, stage) {
        return format!("{name_a} and {name_b} do not compare, since they were measured on different text: {values}");
    }
    let better = if difference < 0.0 { name_b } else { name_a };
    let percent = 100.0 * difference.abs() / value_a.abs().max(value_b.abs()).max(f64::MIN_POSITIVE);
    let over = figure.documents.map(|documents| format!(" over the {documents} documents of both")).unwrap_or_default();
    let interval = |interval: Interval| {
        format!("95 % interval of the difference {} to {}{over}", signed(interval.low), signed(interval.high))
    };
    match figure.interval {
        _ if difference == 0.0 => format!("neither is better: {values}"),
        Some(found) if found.excludes_zero() => {
            format!("{better} is better by {percent:.1} %, more than chance: {values}; {}", interval(found))
        }
        Some(found) => format!("neither is better beyond chance: {values}; {}", interval(found)),
        None => format!("{better} is better by {percent:.1} %: {values}; the reports do not say how much is chance"),
    }
}

/// Returns true if the quality of both runs was measured on the same text.
fn is_same_text(a: &Run, b: &Run, stage: Stage) -> bool {
    let is_same = |stage| digest(a, stage).is_some() && digest(a, stage) == digest(b, stage);
    if is_same(Stage::Preprocess) {
        return true;
    }
    // Bits per byte do not depend on the tokenizer: the same documents, split by the same seed and cut alike.
    let alike = ["seed", "preprocess.validation", "preprocess.test", "validation_bytes", "test_bytes"];
    let is_alike = |key: &&str| values::value(a, key) == values::value(b, key);
    stage == Stage::Evaluate && is_same(Stage::Collect) && alike.iter().all(is_alike)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variances_of_independent_values_add_up() {
        let of = |difference, half_a: f64, half_b: f64| {
            let found = of_difference(
                difference,
                Interval { low: 1.0 - half_a, high: 1.0 + half_a },
                Interval { low: 2.0 - half_b, high: 2.0 + half_b },
            );
            (found.high - found.low) / 2.0
        };
        assert!((of(1.0, 0.3, 0.4) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn intervals_are_read_from_reports() {
        let report = json!({"test": {"bundle": {"intervals": {"bits_per_byte": {"low": 1.0, "high": 2.0}}}}});
        assert_eq!(interval_in(&report, "bundle_test_bits_per_byte"), Some(Interval { low: 1.0, high: 2.0 }));
        for other in ["bundle_test_loss_nats", "samples", "checkpoint_test_bits_per_byte"] {
            assert_eq!(interval_in(&report, other), None);
        }
        assert_eq!(interval_in(&Value::Null, "bundle_test_bits_per_byte"), None);
    }

    #[test]
    fn samples_of_one_prompt_are_paired_in_their_order() {
        let report = |items: &[(&str, &str)]| {
            let items: Vec<Value> =
                items.iter().map(|(prompt, text)| json!({"prompt": prompt, "text": text})).collect();
            json!({"samples": {"items": items}})
        };
        let found = samples(&[report(&[("p", "1"), ("q", "2"), ("p", "3")]), report(&[("p", "4"), ("r", "5")])]);
        let found: Vec<String> =
            found.iter().map(|pair| format!("{} {:?} {:?}", pair.prompt, pair.a, pair.b)).collect();
        let expected = ["p Some(\"1\") Some(\"4\")", "q Some(\"2\") None", "p Some(\"3\") None", "r None Some(\"5\")"];
        assert_eq!(found, expected);
    }

    #[test]
    fn only_differing_keys_are_listed() {
        let keys = |value: Value| values::flat(&value);
        let found = changed(&keys(json!({"a": 1, "b": {"c": 2}})), &keys(json!({"a": 1, "b": {"d": 3}})));
        let found: Vec<&str> = found.iter().map(|changed| changed.key.as_str()).collect();
        assert_eq!(found, ["b.c", "b.d"]);
    }
}
