//! The thresholds of steps, and their evaluation on signals that an earlier run wrote.

use arrow_array::{Array, Float64Array};

use crate::config::{LengthConfig, LongDocuments, Step};
use crate::engine::parquet::Table;
use crate::steps::decontaminate;
use crate::steps::language;
use crate::steps::quality::Rule;
use crate::{Config, Error};

/// The thresholds of a step, evaluated on signals without reading texts.
pub(crate) enum Thresholds {
    Length(LengthConfig),
    Language(language::Config),
    Decontaminate(decontaminate::Config),
    Rule(Rule),
}

impl Thresholds {
    /// Returns the thresholds of each step that has any.
    pub fn all(config: &Config) -> Vec<(Step, Self)> {
        let thresholds = |step| match step {
            Step::Length => Some(Self::Length(config.length.clone())),
            Step::Language => Some(Self::Language(config.language.clone())),
            Step::Decontaminate => Some(Self::Decontaminate(config.decontaminate.clone())),
            step => rule(config, step).map(Self::Rule),
        };
        Step::ALL.into_iter().filter_map(|step| Some((step, thresholds(step)?))).collect()
    }

    /// Returns whether the effect of a key, such as `gopher_quality.min_words`, can be computed from signals alone.
    pub fn can_evaluate(config: &Config, step: Step, key: &str) -> bool {
        let name = key.split_once('.').map_or("", |(_, name)| name);
        match step {
            // Cutting gives other documents.
            Step::Length => config.length.long == LongDocuments::Drop && ["min_bytes", "max_bytes"].contains(&name),
            Step::Language => ["keep", "threshold"].contains(&name),
            Step::Decontaminate => ["max_matches", "max_fraction"].contains(&name),
            step => {
                rule(config, step).is_some_and(|rule| rule.criteria().iter().any(|criterion| criterion.key == name))
            }
        }
    }

    /// Returns, for each row of the signals, whether the step would drop the document.
    pub fn failed(&self, signals: &Table) -> Result<Vec<bool>, Error> {
        let column = |step: Step, signal: &str| signals.numbers(&format!("{}.{signal}", step.name()));
        let or_0 = |value: Option<f64>| value.unwrap_or(0.0);
        Ok(match self {
            Self::Length(length) => {
                let bytes = column(Step::Length, "bytes")?;
                bytes.iter().map(|bytes| length.failed(or_0(bytes) as u64).is_some()).collect()
            }
            Self::Language(config) => {
                let languages = signals.texts("language.language")?;
                let confidences = column(Step::Language, "confidence")?;
                let pairs = languages.iter().zip(&confidences);
                pairs.map(|(language, confidence)| config.failed(language, or_0(confidence)).is_some()).collect()
            }
            Self::Decontaminate(config) => {
                let matches = column(Step::Decontaminate, "matches")?;
                let fractions = column(Step::Decontaminate, "share")?;
                let pairs = matches.iter().zip(&fractions);
                pairs.map(|(matches, fraction)| config.failed(or_0(matches) as u64, or_0(fraction)).is_some()).collect()
            }
            Self::Rule(rule) => {
                let column = |signal: &&str| signals.numbers(&format!("{}.{signal}", rule.name()));
                let columns = rule.signals().iter().map(column).collect::<Result<Vec<_>, Error>>()?;
                let value = |column: &Float64Array, at: usize| if column.is_null(at) { 0.0 } else { column.value(at) };
                let row = |at: usize| columns.iter().map(|column| value(column, at)).collect::<Vec<f64>>();
                (0..signals.len()).map(|at| rule.first_failure(&row(at)).is_some()).collect()
            }
        })
    }
}

/// Returns the quality rule of a step, with its thresholds.
pub(crate) fn rule(config: &Config, step: Step) -> Option<Rule> {
    match step {
        Step::GopherQuality => Some(Rule::GopherQuality(config.gopher_quality.clone())),
        Step::GopherRepetition => Some(Rule::GopherRepetition(config.gopher_repetition.clone())),
        Step::C4 => Some(Rule::C4(config.c4())),
        Step::Fineweb => Some(Rule::FineWeb(config.fineweb.clone())),
        Step::Code => Some(Rule::Code(config.code.clone())),
        _ => None,
    }
}
