//! Quality rules: published heuristics that decide from a document alone whether a language model should be trained on
//! it.
//!
//! A rule first measures signals, which do not depend on any threshold, and then compares them with its thresholds.
//! Other thresholds can therefore be evaluated later without the text. C4's rules also drop lines; later steps see the
//! remaining text.

pub mod c4;
pub mod code;
mod counts;
pub mod fineweb;
pub mod gopher_quality;
pub mod gopher_repetition;
mod inapplicable;
mod ngrams;
mod orthography;
mod policy_phrases;
mod scratch;
mod sentences;
mod stop_words;
#[cfg(test)]
mod tests;
mod threshold;

pub use inapplicable::Inapplicable;
pub use orthography::Orthography;
pub use scratch::Scratch;
pub use threshold::{Criterion, Failure, Threshold};

use crate::text::words::Text;

/// A rule and its thresholds.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Gopher's quality rules.
    GopherQuality(gopher_quality::Config),
    /// Gopher's repetition rules.
    GopherRepetition(gopher_repetition::Config),
    /// C4's rules.
    C4(c4::Config),
    /// The rules introduced by `FineWeb`.
    FineWeb(fineweb::Config),
    /// Rules for source code.
    Code(code::Config),
}

impl Rule {
    /// Returns the name of the rule and of its table in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::GopherQuality(_) => "gopher_quality",
            Self::GopherRepetition(_) => "gopher_repetition",
            Self::C4(_) => "c4",
            Self::FineWeb(_) => "fineweb",
            Self::Code(_) => "code",
        }
    }

    /// Returns the names of the signals.
    pub fn signals(&self) -> &'static [&'static str] {
        match self {
            Self::GopherQuality(_) => &gopher_quality::SIGNALS,
            Self::GopherRepetition(_) => &gopher_repetition::SIGNALS,
            Self::C4(_) => &c4::SIGNALS,
            Self::FineWeb(_) => &fineweb::SIGNALS,
            Self::Code(_) => &code::SIGNALS,
        }
    }

    /// Returns true if the signals depend on how the language is written.
    pub fn depends_on_language(&self) -> bool {
        !matches!(self, Self::Code(_))
    }

    /// Returns the signals that some languages have not, and the keys that then do not apply.
    pub fn inapplicable(&self) -> Vec<Inapplicable> {
        match self {
            Self::GopherQuality(config) => config.inapplicable().into(),
            Self::C4(config) => config.inapplicable().into(),
            Self::FineWeb(config) => config.inapplicable().into(),
            Self::GopherRepetition(_) | Self::Code(_) => Vec::new(),
        }
    }

    /// Appends the signals of `text`, whose language is written as `orthography` says, to `signals`.
    pub fn measure(&self, text: &Text<'_>, orthography: Orthography, scratch: &mut Scratch, signals: &mut Vec<f64>) {
        match self {
            Self::GopherQuality(config) => signals.extend(gopher_quality::measure(config, text, orthography)),
            Self::GopherRepetition(_) => signals.extend(gopher_repetition::measure(text, orthography, scratch)),
            Self::C4(config) => signals.extend(c4::measure(config, text, orthography, scratch)),
            Self::FineWeb(config) => signals.extend(fineweb::measure(config, text, orthography, scratch)),
            Self::Code(config) => signals.extend(code::measure(config, text)),
        }
    }

    /// Returns the criteria, in the order in which they are checked.
    pub fn criteria(&self) -> Vec<Criterion> {
        match self {
            Self::GopherQuality(config) => config.criteria().into(),
            Self::GopherRepetition(config) => config.criteria().into(),
            Self::C4(config) => config.criteria().into(),
            Self::FineWeb(config) => config.criteria().into(),
            Self::Code(config) => config.criteria().into(),
        }
    }

    /// Returns the first criterion that a document with these signals does not meet.
    ///
    /// # Panics
    /// Panics if `signals` are not those of this rule.
    pub fn first_failure(&self, signals: &[f64]) -> Option<Failure> {
        match self {
            Self::GopherQuality(config) => gopher_quality::first_failure(config, signals),
            Self::GopherRepetition(config) => gopher_repetition::first_failure(config, signals),
            Self::C4(config) => c4::first_failure(config, signals),
            Self::FineWeb(config) => fineweb::first_failure(config, signals),
            Self::Code(config) => code::first_failure(config, signals),
        }
    }

    /// Checks the thresholds.
    ///
    /// # Errors
    /// Returns the key and what is wrong with its value.
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
