//! The report: all metrics of the stage, as in `report.json`.

use artifact::{Digest, Sealed, Unsealed};
use model::ModelConfig;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::baselines::Baselines;
use crate::curves::Summary;
use crate::examples::SplitExamples;
use crate::funnel::Funnel;
use crate::held_out::Metrics;
use crate::samples::Samples;

/// The version of `report.json`'s fields.
pub(crate) const SCHEMA_VERSION: u32 = 3;

/// All metrics of the stage. It holds no times and no host facts, so that equal runs have equal reports.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema_version: u32,
    pub(crate) model: ModelInfo,
    pub(crate) validation: SplitMetrics,
    pub(crate) test: SplitMetrics,
    /// The bundle's `parity.json`.
    pub(crate) parity: Value,
    pub(crate) training: Summary,
    pub(crate) samples: Samples,
    pub(crate) data: Funnel,
    pub(crate) examples: Vec<SplitExamples>,
    /// The artifacts that the metrics are based on, from the corpus to this stage.
    pub(crate) artifacts: Vec<ArtifactInfo>,
}

/// The model's configuration and size.
#[derive(Debug, Serialize)]
pub(crate) struct ModelInfo {
    #[serde(flatten)]
    pub(crate) config: ModelConfig,
    pub(crate) parameters: u64,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) bundle_bytes: u64,
}

/// The metrics on one split.
#[derive(Debug, Serialize)]
pub(crate) struct SplitMetrics {
    /// UTF-8 bytes of the scored and compressed text.
    pub(crate) bytes: u64,
    pub(crate) checkpoint: Metrics,
    /// None on the validation split, where `parity` compares both models.
    pub(crate) bundle: Option<Metrics>,
    pub(crate) baselines: Baselines,
}

/// The provenance of an artifact.
#[derive(Debug, Serialize)]
pub(crate) struct ArtifactInfo {
    pub(crate) stage: String,
    pub(crate) fingerprint: Digest,
    /// None for the report itself, which is not sealed yet.
    pub(crate) digest: Option<Digest>,
    pub(crate) seed: u64,
    pub(crate) device_class: Option<String>,
    pub(crate) config: Value,
}

impl ArtifactInfo {
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
    /// Returns the headline for the summary of a run.
    pub(crate) fn headline(&self) -> String {
        let Baselines { gzip_9_bits_per_byte, zstd_19_bits_per_byte } = self.validation.baselines;
        format!(
            "validation bits per byte {:.2} (zstd -19 {zstd_19_bits_per_byte:.2}, gzip -9 {gzip_9_bits_per_byte:.2})",
            self.validation.checkpoint.bits_per_byte
        )
    }

    /// Returns the metrics for the manifest, as a flat map whose keys hold the split and the model.
    pub(crate) fn counts(&self) -> Map<String, Value> {
        let mut counts = Map::new();
        for (split, of_split) in [("validation", &self.validation), ("test", &self.test)] {
            let models = [("checkpoint", Some(of_split.checkpoint)), ("bundle", of_split.bundle)];
            for (model, metrics) in models.into_iter().filter_map(|(model, metrics)| Some((model, metrics?))) {
                let named = [
                    ("bits_per_byte", metrics.bits_per_byte),
                    ("loss_nats", metrics.loss_nats),
                    ("perplexity", metrics.perplexity),
                    ("top_1_accuracy", metrics.top_1_accuracy),
                    ("top_5_accuracy", metrics.top_5_accuracy),
                ];
                for (name, value) in named {
                    counts.insert(format!("{model}_{split}_{name}"), value.into());
                }
            }
            counts.insert(format!("gzip_9_{split}_bits_per_byte"), of_split.baselines.gzip_9_bits_per_byte.into());
            counts.insert(format!("zstd_19_{split}_bits_per_byte"), of_split.baselines.zstd_19_bits_per_byte.into());
            counts.insert(format!("{split}_bytes"), of_split.bytes.into());
            counts.insert(format!("{split}_tokens"), of_split.checkpoint.tokens.into());
        }
        let samples = &self.samples;
        let of_samples = json!({
            "samples": samples.items.len(),
            "distinct_1": samples.diversity.distinct_1,
            "distinct_2": samples.diversity.distinct_2,
            "distinct_3": samples.diversity.distinct_3,
            "repetition_4": samples.diversity.repetition_4,
            "parses_fraction": samples.parses_fraction,
            "parses_uncut_fraction": samples.parses_uncut_fraction,
        });
        counts.extend(of_samples.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        counts
    }
}
