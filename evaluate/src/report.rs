//! The report: every figure of the stage, as `report.json` holds it.

use artifact::{Digest, Sealed, Unsealed};
use model::ModelConfig;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::baselines::Baselines;
use crate::curves::Summary;
use crate::funnel::Funnel;
use crate::held_out::Figures;
use crate::samples::Samples;

/// The layout of `report.json`.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// Every figure of the stage. It holds no times and nothing of the machine: equal runs have equal reports.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema_version: u32,
    pub(crate) model: ModelFacts,
    pub(crate) validation: SplitFigures,
    pub(crate) test: SplitFigures,
    /// What the bundle's `parity.json` says.
    pub(crate) parity: Value,
    pub(crate) training: Summary,
    pub(crate) samples: Samples,
    pub(crate) data: Funnel,
    /// The artifacts that the figures are of, from the corpus to this stage.
    pub(crate) artifacts: Vec<ArtifactFacts>,
}

/// The shape of the model.
#[derive(Debug, Serialize)]
pub(crate) struct ModelFacts {
    #[serde(flatten)]
    pub(crate) config: ModelConfig,
    pub(crate) parameters: u64,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) bundle_bytes: u64,
}

/// What was measured on one split.
#[derive(Debug, Serialize)]
pub(crate) struct SplitFigures {
    /// UTF-8 bytes of the text that was scored and compressed.
    pub(crate) bytes: u64,
    pub(crate) checkpoint: Figures,
    /// None on the validation split, where `parity` compares the two.
    pub(crate) bundle: Option<Figures>,
    pub(crate) baselines: Baselines,
}

/// Where an artifact came from.
#[derive(Debug, Serialize)]
pub(crate) struct ArtifactFacts {
    pub(crate) stage: String,
    pub(crate) fingerprint: Digest,
    /// None for the report itself, which is not sealed yet.
    pub(crate) digest: Option<Digest>,
    pub(crate) seed: u64,
    pub(crate) device_class: Option<String>,
    pub(crate) config: Value,
}

impl ArtifactFacts {
    pub(crate) fn of(sealed: &Sealed) -> Self {
        let manifest = sealed.manifest();
        Self {
            stage: manifest.recipe.stage.clone(),
            fingerprint: manifest.fingerprint,
            digest: Some(manifest.digest),
            seed: manifest.recipe.seed,
            device_class: manifest.recipe.device_class.clone(),
            config: manifest.recipe.config.clone(),
        }
    }

    pub(crate) fn of_this(out: &Unsealed) -> Self {
        let recipe = out.recipe();
        Self {
            stage: recipe.stage.clone(),
            fingerprint: recipe.fingerprint(),
            digest: None,
            seed: recipe.seed,
            device_class: recipe.device_class.clone(),
            config: recipe.config.clone(),
        }
    }
}

impl Report {
    /// Returns the figure that the summary of a run shows.
    pub(crate) fn headline(&self) -> String {
        let Baselines { gzip_9_bits_per_byte, zstd_19_bits_per_byte } = self.validation.baselines;
        format!(
            "validation bits per byte {:.2} (zstd -19 {zstd_19_bits_per_byte:.2}, gzip -9 {gzip_9_bits_per_byte:.2})",
            self.validation.checkpoint.bits_per_byte
        )
    }

    /// Returns the figures for the manifest, flat, each with its split and its model in the name.
    pub(crate) fn counts(&self) -> Map<String, Value> {
        let mut counts = Map::new();
        for (split, figures) in [("validation", &self.validation), ("test", &self.test)] {
            let models = [("checkpoint", Some(figures.checkpoint)), ("bundle", figures.bundle)];
            for (model, figures) in models.into_iter().filter_map(|(model, figures)| Some((model, figures?))) {
                let named = [
                    ("bits_per_byte", figures.bits_per_byte),
                    ("loss_nats", figures.loss_nats),
                    ("perplexity", figures.perplexity),
                    ("top_1_accuracy", figures.top_1_accuracy),
                    ("top_5_accuracy", figures.top_5_accuracy),
                ];
                for (name, value) in named {
                    counts.insert(format!("{model}_{split}_{name}"), value.into());
                }
            }
            counts.insert(format!("gzip_9_{split}_bits_per_byte"), figures.baselines.gzip_9_bits_per_byte.into());
            counts.insert(format!("zstd_19_{split}_bits_per_byte"), figures.baselines.zstd_19_bits_per_byte.into());
            counts.insert(format!("{split}_bytes"), figures.bytes.into());
            counts.insert(format!("{split}_tokens"), figures.checkpoint.tokens.into());
        }
        let samples = &self.samples;
        let rest = json!({
            "samples": samples.items.len(),
            "distinct_1": samples.diversity.distinct_1,
            "distinct_2": samples.diversity.distinct_2,
            "distinct_3": samples.diversity.distinct_3,
            "repetition_4": samples.diversity.repetition_4,
            "parses_share": samples.parses_share,
            "parses_whole_share": samples.parses_whole_share,
        });
        counts.extend(rest.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        counts
    }
}
