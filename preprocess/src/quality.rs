//! Quality rules: published heuristics that say of one document whether a language model should learn from it.
//!
//! A rule first measures signals, figures that do not depend on any threshold, and then judges them. What was measured
//! once can therefore be judged again with other thresholds, without the text. C4's rules also drop lines; what they
//! leave is the text that later steps see.

pub mod c4;
pub mod characters;
pub mod code;
mod counts;
pub mod fineweb;
pub mod gopher_quality;
pub mod gopher_repetition;
mod sentences;
#[cfg(test)]
mod tests;
mod threshold;

pub use threshold::{Criterion, Failure, Threshold};

use crate::words::{Buffers, Text};
use counts::Counts;

/// A rule and its thresholds.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Gopher's quality rules.
    GopherQuality(gopher_quality::Config),
    /// Gopher's repetition rules.
    GopherRepetition(gopher_repetition::Config),
    /// C4's rules.
    C4(c4::Config),
    /// The rules that `FineWeb` added.
    FineWeb(fineweb::Config),
    /// Rules for source code.
    Code(code::Config),
}

/// Room for what rules count in one text, used again for the next.
#[derive(Debug, Default)]
pub struct Scratch {
    counts: Counts,
    line: Buffers,
    ngrams: gopher_repetition::Ngrams,
}

impl Rule {
    /// Returns the name, which is that of the rule's table in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::GopherQuality(_) => "gopher_quality",
            Self::GopherRepetition(_) => "gopher_repetition",
            Self::C4(_) => "c4",
            Self::FineWeb(_) => "fineweb",
            Self::Code(_) => "code",
        }
    }

    /// Returns the names of what is measured.
    pub fn signals(&self) -> &'static [&'static str] {
        match self {
            Self::GopherQuality(_) => &gopher_quality::SIGNALS,
            Self::GopherRepetition(_) => &gopher_repetition::SIGNALS,
            Self::C4(_) => &c4::SIGNALS,
            Self::FineWeb(_) => &fineweb::SIGNALS,
            Self::Code(_) => &code::SIGNALS,
        }
    }

    /// Appends the signals of `text` to `signals`.
    pub fn measure(&self, text: &Text<'_>, scratch: &mut Scratch, signals: &mut Vec<f64>) {
        match self {
            Self::GopherQuality(config) => signals.extend(gopher_quality::measure(config, text)),
            Self::GopherRepetition(_) => signals.extend(gopher_repetition::measure(text, scratch)),
            Self::C4(config) => signals.extend(c4::measure(config, text, scratch)),
            Self::FineWeb(config) => signals.extend(fineweb::measure(config, text, scratch)),
            Self::Code(config) => signals.extend(code::measure(config, text)),
        }
    }

    /// Returns the criteria, in the order in which they are judged.
    pub fn criteria(&self) -> Vec<Criterion> {
        match self {
            Self::GopherQuality(config) => config.criteria().into(),
            Self::GopherRepetition(config) => config.criteria().into(),
            Self::C4(config) => config.criteria().into(),
            Self::FineWeb(config) => config.criteria().into(),
            Self::Code(config) => config.criteria().into(),
        }
    }

    /// Returns the first criterion that a document with these signals fails.
    ///
    /// # Panics
    /// When these are not the signals of this rule.
    pub fn judge(&self, signals: &[f64]) -> Option<Failure> {
        match self {
            Self::GopherQuality(config) => gopher_quality::judge(config, signals),
            Self::GopherRepetition(config) => gopher_repetition::judge(config, signals),
            Self::C4(config) => c4::judge(config, signals),
            Self::FineWeb(config) => fineweb::judge(config, signals),
            Self::Code(config) => code::judge(config, signals),
        }
    }

    /// Checks the thresholds.
    ///
    /// # Errors
    /// The key and what is wrong with its value.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            Self::GopherQuality(config) => config.validate(),
            Self::GopherRepetition(config) => config.validate(),
            Self::C4(config) => config.validate(),
            Self::FineWeb(config) => config.validate(),
            Self::Code(config) => config.validate(),
        }
    }
}

/// Returns `part / whole`, and 0 of nothing.
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
