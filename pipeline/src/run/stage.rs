//! The stages in their order, as one table.

use std::collections::BTreeMap;
use std::fmt;

use artifact::Sealed;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;

/// A stage of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Raw data to corpus.
    Collect,
    /// Corpus to tokens.
    Preprocess,
    /// Tokens to checkpoint.
    Train,
    /// Checkpoint to bundle.
    Optimize,
    /// Tokens to index.
    Index,
    /// Everything so far to report.
    Evaluate,
    /// Bundle to samples.
    Generate,
    /// Bundle to service.
    Serve,
}

/// The sealed artifacts of a run so far.
pub type Artifacts = BTreeMap<Stage, Sealed>;

/// What the runner knows of a stage.
pub(super) struct StageSpec {
    /// The stage's name, also of its configuration table and its folder of artifacts.
    pub(super) name: &'static str,
    /// Raised when the output changes.
    pub(super) version: u32,
    /// The name of its artifact.
    pub(super) artifact: &'static str,
    /// The stages whose artifacts it reads.
    pub(super) inputs: &'static [Stage],
    /// Whether it computes on the device.
    pub(super) computes: bool,
    /// Its table, without the keys that cannot change the output.
    pub(super) fingerprint_value: fn(&Config) -> Value,
}

/// The stages, in the order of [`Stage`]. A new stage is a variant, a row here, and its call in `dispatch.rs`.
static SPECS: [StageSpec; 8] = [
    StageSpec {
        name: data_ingest::NAME,
        version: data_ingest::VERSION,
        artifact: "corpus",
        inputs: &[],
        computes: false,
        fingerprint_value: |config| config.collect.fingerprint_value(),
    },
    StageSpec {
        name: preprocess::NAME,
        version: preprocess::VERSION,
        artifact: "tokens",
        inputs: &[Stage::Collect],
        computes: false,
        fingerprint_value: |config| config.preprocess.fingerprint_value(),
    },
    StageSpec {
        name: train::NAME,
        version: train::VERSION,
        artifact: "checkpoint",
        inputs: &[Stage::Preprocess],
        computes: true,
        fingerprint_value: |config| config.train.fingerprint_value(),
    },
    StageSpec {
        name: optimize::NAME,
        version: optimize::VERSION,
        artifact: "bundle",
        inputs: &[Stage::Train, Stage::Preprocess],
        computes: true,
        fingerprint_value: |config| config.optimize.fingerprint_value(),
    },
    StageSpec {
        name: trace::NAME,
        version: trace::VERSION,
        artifact: "index",
        inputs: &[Stage::Preprocess],
        computes: false,
        fingerprint_value: |config| config.index.fingerprint_value(),
    },
    StageSpec {
        name: evaluate::NAME,
        version: evaluate::VERSION,
        artifact: "report",
        inputs: &[Stage::Collect, Stage::Preprocess, Stage::Train, Stage::Optimize, Stage::Index],
        computes: true,
        fingerprint_value: |config| config.evaluate.fingerprint_value(),
    },
    StageSpec {
        name: generate::NAME,
        version: generate::VERSION,
        artifact: "samples",
        inputs: &[Stage::Optimize],
        computes: true,
        fingerprint_value: |config| config.generate.fingerprint_value(),
    },
    StageSpec {
        name: serve::NAME,
        version: serve::VERSION,
        artifact: "service",
        inputs: &[Stage::Optimize],
        computes: true,
        fingerprint_value: |config| config.serve.fingerprint_value(),
    },
];

impl Stage {
    /// Every stage, in the order of a run.
    pub const ALL: [Self; 8] = [
        Self::Collect,
        Self::Preprocess,
        Self::Train,
        Self::Optimize,
        Self::Index,
        Self::Evaluate,
        Self::Generate,
        Self::Serve,
    ];

    /// Returns the stage's row of the table.
    pub(super) fn spec(self) -> &'static StageSpec {
        &SPECS[self as usize]
    }

    /// Returns the stage's name, which its configuration table and its folder of artifacts have too.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Returns the name of the stage's artifact.
    pub fn artifact(self) -> &'static str {
        self.spec().artifact
    }

    /// Returns the stages whose artifacts this one reads.
    pub fn inputs(self) -> &'static [Self] {
        self.spec().inputs
    }

    /// Returns true if the stage computes on the device, so that another class of device may give another output.
    pub fn computes(self) -> bool {
        self.spec().computes
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
