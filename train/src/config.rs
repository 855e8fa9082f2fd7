//! The `[train]` table.

mod distill;
mod dpo;
mod kinds;
mod model;
mod prune;

use ::model::checkpoint::MAX_SHARD_BYTES;
use ::model::compressed_tensors::Integers;
use ::model::lora::LoraConfig;
use ::model::{ActivationCheckpointing, ModelConfig, Precision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;

pub use self::model::Model;
pub use distill::DistillConfig;
pub use dpo::DpoConfig;
pub use kinds::{OptimizerKind, Packing, Schedule, Weights};
pub use prune::PruneConfig;

/// Keys of `[train]` that were renamed, as pairs of the old and the new one.
pub const RENAMED_KEYS: &[(&str, &str)] = &[("rows", "packing")];

/// The configuration of stage train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The model to start from instead of random weights: a folder in the Hugging Face layout (relative to the folder
    /// of `pipeline.toml`), a model of the Hub (`owner/name` or `owner/name@revision`, with `hub:` before it if a
    /// folder has the same name), the name of a run, or the name of an imported model. It brings its shape and, unless
    /// another is configured, its tokenizer. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// The chat template for conversations, in place of the model's own: `"chatml"`, `"llama3"`, `"gemma"`,
    /// `"mistral"`, `"alpaca"`, or a file with a template (relative to the folder of `pipeline.toml`). Special tokens
    /// that the tokenizer lacks are added to it, with rows in the embeddings of `init`: the mean of the others, with
    /// noise. Checkpoint, bundle and export have the template and stop at the end of its turns. Default: the template
    /// of `init`; `ChatML` for a tokenizer that is trained here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// With `init`, the vocabulary is padded to a multiple of this, as transformers' `pad_to_multiple_of` does: 64
    /// suits the matrix units of GPUs. Default 1: no padding.
    #[serde(skip_serializing_if = "is_one")]
    pub pad_vocab_to_multiple_of: usize,
    /// The model's shape; with `init` only `context_length`, which then sets the length of the training sequences.
    pub model: Model,
    /// Trains adapters beside frozen weights: the table `[train.lora]`. The checkpoint holds the weights with the
    /// adapters merged in, and the adapters alone in its folder `adapter`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Trains on pairs of a chosen and a rejected answer, from sources with `chat = "preference"`, instead of on text:
    /// the table `[train.dpo]`. `batch_size` then counts pairs, and losses are preference losses. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpo: Option<DpoConfig>,
    /// Trains on the outputs of a larger model beside the text: the table `[train.distill]`. Validation losses are
    /// those of the text alone. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillConfig>,
    /// Makes the model of `init` smaller before it is trained: the table `[train.prune]`. The training recovers what
    /// that costs, best with `distill` and the same model as the teacher. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneConfig>,
    /// Quantisation-aware training: computes with the weights of the layers' projections as `"int8"` or `"int4"` would
    /// store them, and passes the gradients on to the unrounded ones. The checkpoint has the rounded weights, which
    /// `optimize` stores in that format without a further loss. A few hundred steps from `init` suffice. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Integers>,
    /// Frozen parameters: prefixes of their names, such as `"embed_tokens"` or `"layers.0"`. Default: none.
    pub freeze: Vec<String>,
    /// The time budget of the training, such as `"90s"`, `"10m"` or `"2h"`: benchmarks this machine for a few seconds,
    /// then chooses the model's size, `steps`, `batch_size`, `micro_batches`, `learning_rate`, `warmup_steps` and
    /// `validation_every`, none of which can be given beside it, and logs the reasons; `pipeline plan` prints them
    /// without training. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// Optimizer steps. Default 600.
    pub steps: u64,
    /// Sequences per step. Default 16.
    pub batch_size: usize,
    /// Micro-batches per step, for gradient accumulation. On the CPU they run in parallel, one core each, and the
    /// result does not depend on the number of cores. Must divide `batch_size`. Default 2.
    pub micro_batches: usize,
    /// The number type of projections and attention: `f32`, or `bf16` on a device that supports it. On a GPU, `bf16`
    /// halves most of the memory of activations; on the CPU it takes more memory and time, and is only for trying it
    /// out. Weights, gradients and whatever is sensitive to rounding stay f32. Default `f32`.
    pub precision: Precision,
    /// Keeps only the input of each layer during the forward pass, and recomputes the layer in the backward pass: less
    /// memory for about a third more time, with the same result (on the CPU, bit for bit). Default false.
    pub activation_checkpointing: bool,
    /// How tokens are packed into rows: `windows` over the concatenated documents, as for pretraining, or whole
    /// `documents` side by side, each attending only to itself, as for fine-tuning. Default: `documents` if the tokens
    /// have a loss mask, as those of chats do, else `windows`.
    pub packing: Option<Packing>,
    /// The optimizer: `adamw`, or `muon` for the matrices of the layers with `adamw` for the rest. Default `muon`.
    pub optimizer: OptimizerKind,
    /// The peak learning rate, reached after the warm-up. Default 0.01.
    pub learning_rate: f64,
    /// The course of the learning rate after the warm-up: `cosine`, `linear`, `constant` or `wsd`. Default `cosine`.
    pub schedule: Schedule,
    /// The learning rate at the end, as a ratio of the peak; not used by `constant`. Default 0.05.
    pub final_learning_rate_ratio: f64,
    /// The ratio of the steps in which `wsd` decays. Default 0.2.
    pub decay_ratio: f64,
    /// Steps of linear warm-up from zero. Default 30.
    pub warmup_steps: u64,
    /// Weight decay of matrices per step, multiplied by the learning rate; vectors do not decay. Default 0.1.
    pub weight_decay: f64,
    /// Matrices without weight decay: prefixes of their names, such as `"embed_tokens"`. Default: none.
    pub no_decay: Vec<String>,
    /// `AdamW`'s decay rate of the first moment. Default 0.9.
    pub beta_1: f32,
    /// `AdamW`'s decay rate of the second moment. Default 0.95.
    pub beta_2: f32,
    /// `AdamW`'s ε. Default 1e-8.
    pub epsilon: f32,
    /// Gradient clipping: the maximum Euclidean norm of all gradients together. 0 disables it. Default 1.
    pub clip_norm: f64,
    /// Dropout probability (Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014), after the
    /// embeddings, in attention, and before each addition to the residual stream. Default 0.
    pub dropout: f64,
    /// Weight of the z-loss, the squared logarithm of the softmax's denominator, which keeps logits small (`PaLM`:
    /// Scaling Language Modeling with Pathways, 2022, uses 1e-4). Default 0.
    pub z_loss: f64,
    /// Aborts the training if the loss of a step is more than this many times the median of the 64 before it, and more
    /// than one nat above. 0 disables it. Default 2.
    pub loss_spike: f64,
    /// Steps between two validations; one more runs at the end. Default 150.
    pub validation_every: u64,
    /// Tokens of the validation split that a validation reads. Default 32,768.
    pub validation_tokens: u64,
    /// Which weights the checkpoint holds: those with the `best` validation loss, or the `last`. Default `best`.
    pub weights: Weights,
    /// Steps between two logged samples of the model's text; 0 disables them. Default 300.
    pub sample_every: u64,
    /// The prompt of the samples. If it is empty, samples start from the end-of-text token, as a document does. Default
    /// `""`.
    pub sample_prompt: String,
    /// Steps between two saved states that a killed run resumes from. Default 50.
    pub save_every: u64,
    /// The number of saved states to keep; each can be loaded as a model. Default 2.
    pub keep_last: usize,
    /// Steps between two lines of `metrics.jsonl`. Default 10.
    pub log_every: u64,
    /// The maximum size of a file of the checkpoint's weights, in bytes: a larger model is written in shards. Default
    /// 5,000,000,000, as on Hugging Face's hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_shard_bytes: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            init: None,
            chat_template: None,
            pad_vocab_to_multiple_of: 1,
            model: Model::default(),
            lora: None,
            dpo: None,
            distill: None,
            prune: None,
            quantization: None,
            freeze: Vec::new(),
            budget: None,
            steps: 600,
            batch_size: 16,
            micro_batches: 2,
            precision: Precision::F32,
            activation_checkpointing: false,
            packing: None,
            optimizer: OptimizerKind::Muon,
            learning_rate: 0.01,
            schedule: Schedule::Cosine,
            final_learning_rate_ratio: 0.05,
            decay_ratio: 0.2,
            warmup_steps: 30,
            weight_decay: 0.1,
            no_decay: Vec::new(),
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            clip_norm: 1.0,
            dropout: 0.0,
            z_loss: 0.0,
            loss_spike: 2.0,
            validation_every: 150,
            validation_tokens: 32_768,
            weights: Weights::Best,
            sample_every: 300,
            sample_prompt: String::new(),
            save_every: 50,
            keep_last: 2,
            log_every: 10,
            max_shard_bytes: None,
        }
    }
}

/// Keys that cannot change the checkpoint: logging, saved states, and whether activations are kept or recomputed.
const WITHOUT_EFFECT: [&str; 6] =
    ["save_every", "keep_last", "log_every", "sample_every", "sample_prompt", "activation_checkpointing"];

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_one(value: &usize) -> bool {
    *value == 1
}

impl Config {
    /// Checks the values, as far as they do not depend on the tokens.
    ///
    /// # Errors
    /// Returns an error that names the first invalid key.
    pub fn validate(&self) -> Result<(), Error> {
        // Far beyond any machine, and far from overflow.
        const MAX_BATCH_SIZE: usize = 1 << 24;
        const MAX_VOCAB_MULTIPLE: usize = 1 << 16;
        let invalid = |key: &str, reason: String| Err(Error::Config { key: format!("train.{key}"), reason });
        let positive = [
            ("steps", self.steps),
            ("batch_size", self.batch_size as u64),
            ("micro_batches", self.micro_batches as u64),
            ("validation_every", self.validation_every),
            ("validation_tokens", self.validation_tokens),
            ("save_every", self.save_every),
            ("keep_last", self.keep_last as u64),
            ("log_every", self.log_every),
            ("max_shard_bytes", self.max_shard_bytes.unwrap_or(MAX_SHARD_BYTES)),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return invalid(key, "must be at least 1".to_owned());
        }
        if !(1..=MAX_VOCAB_MULTIPLE).contains(&self.pad_vocab_to_multiple_of) {
            let reason = format!("{} is not between 1 and {MAX_VOCAB_MULTIPLE}", self.pad_vocab_to_multiple_of);
            return invalid("pad_vocab_to_multiple_of", reason);
        }
        if self.batch_size > MAX_BATCH_SIZE {
            return invalid("batch_size", format!("{} is more than {MAX_BATCH_SIZE}", self.batch_size));
        }
        if !self.batch_size.is_multiple_of(self.micro_batches) {
            return invalid(
                "micro_batches",
                format!("{} does not divide train.batch_size = {}", self.micro_batches, self.batch_size),
            );
        }
        let ranges = [
            ("learning_rate", self.learning_rate, 0.0, 10.0),
            ("final_learning_rate_ratio", self.final_learning_rate_ratio, 0.0, 1.0),
            ("decay_ratio", self.decay_ratio, 0.0, 1.0),
            ("weight_decay", self.weight_decay, 0.0, 10.0),
            ("beta_1", f64::from(self.beta_1), 0.0, 0.999_999),
            ("beta_2", f64::from(self.beta_2), 0.0, 0.999_999),
            ("epsilon", f64::from(self.epsilon), 0.0, 1.0),
            ("clip_norm", self.clip_norm, 0.0, 1e9),
            ("dropout", self.dropout, 0.0, 0.9),
            ("z_loss", self.z_loss, 0.0, 1.0),
            ("loss_spike", self.loss_spike, 0.0, 1e9),
        ];
        for (key, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return invalid(key, format!("{value} is not between {low} and {high}"));
            }
        }
        if let Some(budget) = &self.budget {
            budget_seconds(budget)?;
        }
        if let Some(dpo) = &self.dpo {
            dpo.validate()?;
            let text_only =
                [("z_loss", self.z_loss > 0.0), ("packing", self.packing.is_some()), ("budget", self.budget.is_some())];
            if let Some((key, _)) = text_only.iter().find(|(_, is_set)| *is_set) {
                return invalid(key, "has no effect with train.dpo".to_owned());
            }
        }
        if let Some(distill) = &self.distill {
            distill.validate()?;
            if self.dpo.is_some() {
                return invalid("distill", "has no effect with train.dpo, whose loss has no teacher".to_owned());
            }
            if self.budget.is_some() {
                let reason = "does not know the time of train.distill's teacher; give train.steps";
                return invalid("budget", reason.to_owned());
            }
        }
        if let Some(prune) = &self.prune {
            prune.validate()?;
            if self.budget.is_some() {
                return invalid("budget", "does not know the model after train.prune; give train.steps".to_owned());
            }
            if self.init.is_none() {
                return invalid("prune", "has an effect only with train.init, whose model it makes smaller".to_owned());
            }
        }
        if let Some(lora) = &self.lora {
            lora.validate().map_err(|e| Error::in_table("train.lora.", e))?;
            if self.quantization.is_some() {
                let reason = "cannot round weights that train.lora adds adapters to; train the merged model with it";
                return invalid("quantization", reason.to_owned());
            }
        }
        // The shape does not depend on the vocabulary, which comes with the tokens.
        self.model_config(256, None).map(|_| ())
    }

    /// Returns the model's configuration for a vocabulary.
    ///
    /// # Errors
    /// Returns an error that names the key of `[train.model]` that does not fit the others.
    pub fn model_config(&self, vocab_size: usize, end_of_text: Option<u32>) -> Result<ModelConfig, Error> {
        self.model.resolve(vocab_size, end_of_text)
    }

    /// Returns the shape of a model after the pruning that is configured, if any.
    ///
    /// # Errors
    /// Returns an error that names the key of `[train.prune]` that the model is too small for.
    pub fn pruned_shape(&self, model: &ModelConfig) -> Result<ModelConfig, Error> {
        self.prune.map_or_else(|| Ok(model.clone()), |prune| prune.shape(model))
    }

    /// Checks that the model that `key` names can read the training sequences.
    ///
    /// # Errors
    /// Returns an error if they are longer than its context.
    pub fn check_context(&self, model: &ModelConfig, key: &str) -> Result<(), Error> {
        let (length, max) = (self.model.context_length, model.context_length);
        if length <= max {
            return Ok(());
        }
        Err(Error::Config {
            key: "train.model.context_length".to_owned(),
            reason: format!("{length} is more than the {max} tokens that the model of {key} reads; lower it"),
        })
    }

    /// Returns the part of the configuration that decides the checkpoint. The models of `init` and `distill` count by
    /// their content, which is an input.
    pub fn fingerprint_value(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = value.as_object_mut() {
            if map.shift_remove("init").is_some() {
                map.insert("model".to_owned(), json!({ "context_length": self.model.context_length }));
            }
            if let Some(distill) = map.get_mut("distill").and_then(Value::as_object_mut) {
                distill.remove("teacher");
            }
            for key in WITHOUT_EFFECT {
                map.remove(key);
            }
        }
        value
    }

    pub(crate) fn activations(&self) -> ActivationCheckpointing {
        if self.activation_checkpointing { ActivationCheckpointing::On } else { ActivationCheckpointing::Off }
    }

    /// Returns the number of tokens that a step trains on.
    pub fn tokens_per_step(&self) -> u64 {
        (self.batch_size * self.model.context_length) as u64
    }
}

/// Parses a time budget: `90s`, `10m`, `2h`, `1.5h`, `2d`.
///
/// # Errors
/// Returns an error if the text is not a time, or not between a second and a year.
pub(crate) fn budget_seconds(text: &str) -> Result<f64, Error> {
    let invalid = || Error::Config {
        key: "train.budget".to_owned(),
        reason: format!("\"{text}\" is not a time; write it as \"90s\", \"10m\" or \"2h\""),
    };
    let (number, unit) = text.trim().split_at_checked(text.trim().len().saturating_sub(1)).ok_or_else(invalid)?;
    let unit = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(invalid()),
    };
    let seconds = number.trim().parse::<f64>().map_err(|_| invalid())? * unit;
    if (1.0..=366.0 * 86_400.0).contains(&seconds) { Ok(seconds) } else { Err(invalid()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_values_are_named() {
        let check = |change: fn(&mut Config), expected: &str| {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        };
        Config::default().validate().unwrap();
        check(|c| c.steps = 0, "train.steps: must be at least 1");
        check(|c| c.micro_batches = 3, "train.micro_batches: 3 does not divide train.batch_size = 16");
        check(|c| c.learning_rate = -1.0, "train.learning_rate: -1 is not between 0 and 10");
        check(|c| c.learning_rate = f64::NAN, "train.learning_rate: NaN is not between 0 and 10");
        check(|c| c.dropout = 1.0, "train.dropout: 1 is not between 0 and 0.9");
        check(|c| c.keep_last = 0, "train.keep_last: must be at least 1");
        check(|c| c.model.n_head = 0, "train.model.n_head: must be at least 1");
        check(|c| c.model.n_head = 5, "train.model.n_head: 5 does not divide train.model.d_model = 192; set head_dim");
        check(|c| c.model.n_kv_head = Some(2), "train.model.n_kv_head: 2 does not divide n_head = 3");
        let window = "train.model.sliding_window: 8, but no layer of a qwen3 has a sliding window";
        check(|c| c.model.sliding_window = Some(8), window);
        check(|c| c.model.context_length = 0, "train.model.context_length: 0 is not between 1 and 16777216");
    }

    #[test]
    fn keys_without_effect_do_not_change_the_fingerprint() {
        let base = Config::default();
        let quiet =
            Config { save_every: 7, keep_last: 9, log_every: 3, activation_checkpointing: true, ..base.clone() };
        let other = Config { steps: 7, ..base.clone() };
        assert_eq!(base.fingerprint_value(), quiet.fingerprint_value());
        assert_ne!(base.fingerprint_value(), other.fingerprint_value());
        // The model of `init` counts as an input: neither its name nor the shape that it replaces has an effect.
        let from = |name: &str| Config { init: Some(name.to_owned()), ..base.clone() };
        let wider = Config { model: Model { d_model: 7, ..Model::default() }, ..from("a") };
        let longer = Config { model: Model { context_length: 7, ..Model::default() }, ..from("a") };
        assert_eq!(from("a").fingerprint_value(), from("b").fingerprint_value());
        assert_eq!(from("a").fingerprint_value(), wider.fingerprint_value());
        assert_ne!(from("a").fingerprint_value(), longer.fingerprint_value());
    }

    #[test]
    fn budgets_are_parsed() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(budget_seconds(text).ok(), expected, "{text}");
        check("90s", Some(90.0));
        check("10m", Some(600.0));
        check(" 1.5h ", Some(5400.0));
        check("2 d", Some(172_800.0));
        for invalid in ["", "m", "10", "ten minutes", "-3m", "0s", "1e9h", "NaNm", "5µ"] {
            check(invalid, None);
        }
    }
}
