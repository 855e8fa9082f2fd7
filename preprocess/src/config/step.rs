//! The steps and the named lists of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A step applied to documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Repairs encodings and line ends, and normalizes Unicode.
    Repair,
    /// Drops documents that are too short or too long, or cuts long ones.
    Length,
    /// Keeps documents in the configured languages.
    Language,
    /// The quality rules of Gopher.
    GopherQuality,
    /// The repetition rules of Gopher.
    GopherRepetition,
    /// The line and document rules of C4.
    C4,
    /// The custom rules of `FineWeb`.
    Fineweb,
    /// Rules for source code.
    Code,
    /// Replaces personal data and secrets with placeholders.
    Redact,
    /// Drops documents that overlap with evaluation sets.
    Decontaminate,
    /// Removes lines and paragraphs that occur in several documents.
    Repeated,
    /// Exact deduplication.
    ExactDuplicates,
    /// Near deduplication.
    NearDuplicates,
    /// Drops conversations that the chat template refuses. It is not in the list of steps: it always comes last, where
    /// documents are encoded.
    #[serde(skip)]
    ChatTemplate,
}

/// A named list of steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Text repair, length limits and exact deduplication only.
    #[default]
    None,
    /// Web pages: the filters of `FineWeb` (Penedo et al., 2024), then redaction and deduplication.
    Web,
    /// Source code.
    Code,
    /// Conversations.
    Chat,
}

impl Step {
    /// Every step that can be configured, in a sensible order.
    pub const ALL: [Self; 13] = [
        Self::Repair,
        Self::Length,
        Self::Language,
        Self::GopherRepetition,
        Self::GopherQuality,
        Self::C4,
        Self::Fineweb,
        Self::Code,
        Self::Redact,
        Self::Decontaminate,
        Self::Repeated,
        Self::ExactDuplicates,
        Self::NearDuplicates,
    ];

    /// Returns the name used in the configuration, in counts and in signals.
    pub fn name(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Length => "length",
            Self::Language => "language",
            Self::GopherQuality => "gopher_quality",
            Self::GopherRepetition => "gopher_repetition",
            Self::C4 => "c4",
            Self::Fineweb => "fineweb",
            Self::Code => "code",
            Self::Redact => "redact",
            Self::Decontaminate => "decontaminate",
            Self::Repeated => "repeated",
            Self::ExactDuplicates => "exact_duplicates",
            Self::NearDuplicates => "near_duplicates",
            Self::ChatTemplate => "chat_template",
        }
    }

    /// Returns advice on how to keep the documents that this step dropped.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Repair => "set preprocess.repair.invalid_utf8 = \"repair\"",
            Self::Length => "see preprocess.length.min_bytes, max_bytes and long = \"cut\"",
            Self::ExactDuplicates | Self::NearDuplicates => "collect other documents",
            Self::Language => "see preprocess.language.keep and threshold",
            Self::Decontaminate => "see preprocess.decontaminate.sets",
            Self::ChatTemplate => "remove them from the data, or use a template that takes them: train.chat_template",
            _ => "see its thresholds, or remove it from preprocess.steps",
        }
    }
}

impl Preset {
    /// Returns the steps of the preset.
    pub fn steps(self) -> Vec<Step> {
        use Step::{
            C4, Code, ExactDuplicates, Fineweb, GopherQuality, GopherRepetition, Length, NearDuplicates, Redact, Repair,
        };
        match self {
            Self::None => vec![Repair, Length, ExactDuplicates],
            Self::Web => vec![
                Repair,
                Length,
                GopherRepetition,
                GopherQuality,
                C4,
                Fineweb,
                Redact,
                ExactDuplicates,
                NearDuplicates,
            ],
            Self::Code => vec![Repair, Length, Code, Redact, ExactDuplicates, NearDuplicates],
            Self::Chat => vec![Repair, Redact, ExactDuplicates],
        }
    }
}
