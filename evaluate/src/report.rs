//! The report: all metrics of the stage, as in `report.json`.

pub(crate) mod examples;
pub(crate) mod funnel;

use artifact::{Digest, Recipe, Sealed, Unsealed};
use model::ModelConfig;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::curves::Summary;
use crate::gates::Verdict;
use crate::held_out::baselines::Baselines;
use crate::held_out::details::Details;
use crate::held_out::{Intervals, Metrics};
use crate::intervals::Interval;
use crate::reference::Reference;
use crate::report::examples::SplitExamples;
use crate::report::funnel::Funnel;
use crate::risk::Risk;
use crate::samples::Samples;
use crate::tasks::TaskResult;

/// The version of `report.json`'s fields.
pub(crate) const SCHEMA_VERSION: u32 = 5;

/// The count with a sentence for each gate that failed.
pub(crate) const FAILED_GATES: &str = "failed_gates";

/// All metrics of the stage. It holds no times and no host facts, so that equal runs have equal reports.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Report {
    /// The version of these fields.
    pub(crate) schema_version: u32,
    pub(crate) verdict: Verdict,
    pub(crate) model: ModelInfo,
    pub(crate) validation: SplitMetrics,
    pub(crate) test: SplitMetrics,
    /// Where the bundle is weak on the test split.
    pub(crate) test_details: Details,
    /// The bundle beside a reference model; none without one.
    pub(crate) reference: Option<Reference>,
    /// The bundle's `parity.json`.
    pub(crate) parity: Value,
    pub(crate) training: Summary,
    pub(crate) samples: Samples,
    pub(crate) risk: Risk,
    /// The bundle's results on tasks.
    pub(crate) tasks: Vec<TaskResult>,
    pub(crate) data: Funnel,
    pub(crate) examples: Vec<SplitExamples>,
    /// The artifacts that the metrics are based on, from the corpus to this stage.
    pub(crate) artifacts: Vec<ArtifactInfo>,
}

/// The model's configuration and size.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelInfo {
    #[serde(flatten)]
    pub(crate) config: ModelConfig,
    pub(crate) parameters: u64,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) bundle_bytes: u64,
}

/// The metrics on one split.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SplitMetrics {
    /// UTF-8 bytes of the scored and compressed text.
    pub(crate) bytes: u64,
    pub(crate) checkpoint: Metrics,
    /// None on the validation split, where `parity` compares both models.
    pub(crate) bundle: Option<Metrics>,
    pub(crate) baselines: Baselines,
}

/// The provenance of an artifact.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ArtifactInfo {
    pub(crate) stage: String,
    #[schemars(with = "String")]
    pub(crate) fingerprint: Digest,
    /// None for the report itself, which is not sealed yet.
    #[schemars(with = "Option<String>")]
    pub(crate) digest: Option<Digest>,
    /// The stages whose artifacts it was made from.
    pub(crate) made_from: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) device_class: Option<String>,
    pub(crate) config: Value,
}

impl ArtifactInfo {
    /// Returns the provenance of `inputs`, which are in the order of a run, and of the report in `out`.
    pub(crate) fn of_run(inputs: &[&Sealed], out: &Unsealed) -> Vec<Self> {
        let of = |sealed: &&Sealed| Self {
            fingerprint: sealed.manifest().fingerprint,
            digest: Some(sealed.manifest().digest),
            ..Self::of_recipe(&sealed.manifest().recipe, inputs)
        };
        let own = Self::of_recipe(out.recipe(), inputs);
        inputs.iter().map(of).chain([own]).collect()
    }

    fn of_recipe(recipe: &Recipe, all: &[&Sealed]) -> Self {
        let is_input = |sealed: &&&Sealed| recipe.inputs.values().any(|digest| *digest == sealed.digest());
        Self {
            stage: recipe.stage.clone(),
            fingerprint: recipe.fingerprint(),
            digest: None,
            made_from: all.iter().filter(is_input).map(|sealed| sealed.manifest().recipe.stage.clone()).collect(),
            seed: recipe.seed,
            device_class: recipe.device_class.clone(),
            config: recipe.config.clone(),
        }
    }
}

impl Report {
    /// Returns the headline for the summary of a run.
    pub(crate) fn headline(&self) -> String {
        let Baselines { gzip_9_bits_per_byte, zstd_19_bits_per_byte, .. } = self.validation.baselines;
        let verdict = match self.verdict.failures().len() {
            0 => String::new(),
            1 => "1 gate failed; ".to_owned(),
            failed => format!("{failed} gates failed; "),
        };
        format!(
            "{verdict}validation bits per byte {:.2} (zstd -19 {zstd_19_bits_per_byte:.2}, gzip -9 \
             {gzip_9_bits_per_byte:.2})",
            self.validation.checkpoint.bits_per_byte
        )
    }

    /// Returns a metric that gates may have a condition on; none if it was not measured.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let bundle = self.test.bundle.as_ref()?;
        let (samples, risk) = (&self.samples, &self.risk);
        let of_samples = |value: f64| (!samples.items.is_empty()).then_some(value);
        match name {
            "bits_per_byte" => Some(bundle.bits_per_byte),
            "loss_nats" => Some(bundle.loss_nats),
            "perplexity" => Some(bundle.perplexity),
            "top_1_accuracy" => Some(bundle.top_1_accuracy),
            "top_5_accuracy" => Some(bundle.top_5_accuracy),
            "expected_calibration_error" => Some(self.test_details.calibration.expected_calibration_error),
            "distinct_2" => of_samples(samples.diversity.distinct_2),
            "repetition_4" => of_samples(samples.diversity.repetition_4),
            "self_bleu" => samples.diversity.self_bleu,
            "parses_fraction" => samples.parses_fraction,
            "memorised_fraction" => risk.memorisation.as_ref().map(|found| found.train.whole_fraction()),
            "stereotype_fraction" => risk.stereotypes.as_ref().map(|found| found.all.stereotype_fraction),
            "toxic_fraction" => risk.toxicity.as_ref().and_then(|found| found.samples_fraction),
            "extracted_fraction" => risk.extraction.as_ref().map(|found| found.extracted_fraction),
            "harmful_fraction" => risk.classifier.as_ref().and_then(|found| found.samples_fraction),
            "leaked_fraction" => risk.leakage.as_ref().map(|found| found.leaked_fraction),
            _ => self.tasks.iter().flat_map(|task| task.scores.iter().map(move |score| (task, score))).find_map(
                |(task, score)| (name == format!("tasks.{}.{}", task.name, score.key())).then_some(score.value),
            ),
        }
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
                if let Some(Intervals { bits_per_byte: Interval { low, high }, .. }) = metrics.intervals {
                    counts.insert(format!("{model}_{split}_bits_per_byte_low"), low.into());
                    counts.insert(format!("{model}_{split}_bits_per_byte_high"), high.into());
                }
            }
            counts.insert(format!("gzip_9_{split}_bits_per_byte"), of_split.baselines.gzip_9_bits_per_byte.into());
            counts.insert(format!("zstd_19_{split}_bits_per_byte"), of_split.baselines.zstd_19_bits_per_byte.into());
            if let Some(n_gram) = of_split.baselines.n_gram {
                counts.insert(format!("n_gram_{split}_bits_per_byte"), n_gram.bits_per_byte.into());
            }
            counts.insert(format!("{split}_bytes"), of_split.bytes.into());
            counts.insert(format!("{split}_tokens"), of_split.checkpoint.tokens.into());
        }
        for task in &self.tasks {
            for score in &task.scores {
                counts.insert(score.name(&task.name), score.value.into());
            }
        }
        if let Some(reference) = &self.reference {
            let losses = &reference.reference;
            for (name, loss) in [("test", losses.held_out), ("samples", losses.samples)] {
                let Some(loss) = loss else { continue };
                counts.insert(format!("reference_{name}_bits_per_byte"), loss.bits_per_byte.into());
                counts.insert(format!("reference_{name}_perplexity"), loss.perplexity.into());
            }
        }
        let samples = &self.samples;
        let of_samples = json!({
            "samples": samples.items.len(),
            "distinct_1": samples.diversity.distinct_1,
            "distinct_2": samples.diversity.distinct_2,
            "distinct_3": samples.diversity.distinct_3,
            "repetition_4": samples.diversity.repetition_4,
            "parses_fraction": samples.parses_fraction,
            "self_bleu": samples.diversity.self_bleu,
            "parses_uncut_fraction": samples.parses_uncut_fraction,
            "expected_calibration_error": self.test_details.calibration.expected_calibration_error,
            "memorised_fraction": self.metric("memorised_fraction"),
            "stereotype_fraction": self.metric("stereotype_fraction"),
            "toxic_fraction": self.metric("toxic_fraction"),
            "harmful_fraction": self.metric("harmful_fraction"),
            "leaked_fraction": self.metric("leaked_fraction"),
            "extracted_fraction": self.metric("extracted_fraction"),
            FAILED_GATES: self.verdict.failures(),
        });
        let of_samples = of_samples.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        counts.extend(of_samples.map(|(name, value)| (name.clone(), value.clone())));
        counts
    }
}

/// Returns the JSON schema of `report.json`.
pub(crate) fn schema() -> Value {
    let mut schema = SchemaSettings::default().for_serialize().into_generator().into_root_schema_for::<Report>();
    schema.insert("title".to_owned(), "report.json of stage evaluate".into());
    schema.to_value()
}
