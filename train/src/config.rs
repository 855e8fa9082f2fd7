//! The `[train]` table.

use model::lora::LoraConfig;
use model::{ActivationCheckpointing, Family, ModelConfig, Precision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::batches::Rows;
use crate::preference::DpoConfig;
use crate::schedule::Schedule;
use crate::{budget, lora};

/// The configuration of stage train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The model to start from instead of random weights: a folder in the Hugging Face layout (from the folder of
    /// `pipeline.toml`), a model of the hub (`owner/name`, `owner/name@revision`; `hub:` before it where a folder has the
    /// same name), a run's name, or the name of an imported model. It brings its shape and, unless another is given, its
    /// tokenizer. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// The model's shape; with `init`, `context_length` alone, which then says how long the sequences to train on are.
    pub model: Model,
    /// Trains adapters beside the weights, and leaves the weights as they are: the table `[train.lora]`. The checkpoint has
    /// the adapters merged in, and by themselves in its folder `adapter`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Learns from pairs of a chosen and a rejected answer, of sources with `chat = "preference"`, instead of from text: the
    /// table `[train.dpo]`. `batch_size` counts pairs then, and losses are those of preferences. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpo: Option<DpoConfig>,
    /// Parts of the model that are left as they are: beginnings of their paths, such as `"embed_tokens"` or `"layers.0"`.
    /// Default: none.
    pub freeze: Vec<String>,
    /// The time to train for, as `"90s"`, `"10m"` or `"2h"`: measures this machine for some seconds, then chooses the model's
    /// size, `steps`, `batch_size`, `micro_batches`, `learning_rate`, `warmup_steps` and `validation_every`, which cannot be
    /// given then, and says why; `pipeline plan` says it without training. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// Optimizer steps. Default 600.
    pub steps: u64,
    /// Sequences a step. Default 16.
    pub batch_size: usize,
    /// Parts that the sequences of a step are computed in; their gradients are added up. On the CPU the parts run side by
    /// side, one core each, and the result does not depend on how many cores there are. Must divide `batch_size`.
    /// Default 2.
    pub micro_batches: usize,
    /// The number type of projections and attention: `f32`, or `bf16` on a device that has it, which on a GPU halves most of
    /// the memory of activations; on the CPU it takes more memory and time, and is there to try it. Weights, gradients and
    /// what decides about accuracy stay f32. Default `f32`.
    pub precision: Precision,
    /// Keeps of the forward pass only what goes into each layer, and computes a layer again for the backward pass: memory for
    /// about a third more time, with the same result, on the CPU to the bit. Default false.
    pub activation_checkpointing: bool,
    /// How tokens become rows: `windows` over the documents one after the other, as for pretraining, or whole `documents`
    /// side by side, each seen by itself, as for fine-tuning. Default: `documents` where the tokens say what is to be
    /// learned, as those of chats do, else `windows`.
    pub rows: Option<Rows>,
    /// The optimizer: `adamw`, or `muon` for the matrices of the layers with `adamw` for the rest. Default `muon`.
    pub optimizer: OptimizerKind,
    /// The largest learning rate, reached after the warm-up. Default 0.01.
    pub learning_rate: f64,
    /// How the learning rate goes on after the warm-up: `cosine`, `linear`, `constant` or `wsd`. Default `cosine`.
    pub schedule: Schedule,
    /// The learning rate at the end, as a share of the largest; of no use to `constant`. Default 0.05.
    pub final_learning_rate_ratio: f64,
    /// The share of the steps in which `wsd` goes down. Default 0.2.
    pub decay_ratio: f64,
    /// Steps in which the learning rate rises from nothing. Default 30.
    pub warmup_steps: u64,
    /// Decay of the matrices a step, times the learning rate; vectors do not decay. Default 0.1.
    pub weight_decay: f64,
    /// Matrices that do not decay either: beginnings of their paths, such as `"embed_tokens"`. Default: none.
    pub no_decay: Vec<String>,
    /// `AdamW`'s decay of the first moment. Default 0.9.
    pub beta_1: f32,
    /// `AdamW`'s decay of the second moment. Default 0.95.
    pub beta_2: f32,
    /// `AdamW`'s ε. Default 1e-8.
    pub epsilon: f32,
    /// The largest Euclidean norm of all gradients together; longer ones are shortened to it. 0 turns it off. Default 1.
    pub clip_norm: f64,
    /// The share of the values that dropout sets to zero (Dropout: A Simple Way to Prevent Neural Networks from
    /// Overfitting, 2014): after the embeddings, in attention, and before each sum into the residual stream. Default 0.
    pub dropout: f64,
    /// Weight of the squared logarithm of the softmax's denominator in the loss, which keeps logits small (`PaLM`: Scaling
    /// Language Modeling with Pathways, 2022, has 1e-4). Default 0.
    pub z_loss: f64,
    /// Stops the training when the loss of a step is more than this many times the median of the 64 before it, and more
    /// than a nat above. 0 turns it off. Default 2.
    pub loss_spike: f64,
    /// Steps between two measurements on the validation split; one more is made at the end. Default 150.
    pub validation_every: u64,
    /// Tokens of the validation split that a measurement reads. Default 32,768.
    pub validation_tokens: u64,
    /// Which weights the checkpoint has: the `best` of the measurements on the validation split, or the `last`. Default
    /// `best`.
    pub weights: Weights,
    /// Steps between two samples of the model's text; 0 for none. Default 300.
    pub sample_every: u64,
    /// What the samples begin with. Default `"fn "`.
    pub sample_prompt: String,
    /// Steps between two saved states that a killed run resumes from. Default 50.
    pub save_every: u64,
    /// How many of the saved states are kept; each opens as a model. Default 2.
    pub keep_last: usize,
    /// Steps between two lines of `metrics.jsonl`. Default 10.
    pub log_every: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            init: None,
            model: Model::default(),
            lora: None,
            dpo: None,
            freeze: Vec::new(),
            budget: None,
            steps: 600,
            batch_size: 16,
            micro_batches: 2,
            precision: Precision::F32,
            activation_checkpointing: false,
            rows: None,
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
            sample_prompt: "fn ".to_owned(),
            save_every: 50,
            keep_last: 2,
            log_every: 10,
        }
    }
}

/// An optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// `AdamW` for every parameter (Decoupled Weight Decay Regularization, 2019).
    Adamw,
    /// Muon for the matrices of the layers, its step scaled to `AdamW`'s (Muon is Scalable for LLM Training, 2025);
    /// `AdamW` for embeddings, norms and biases.
    Muon,
}

/// Weights along the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// Those with the lowest loss on the validation split.
    Best,
    /// Those after the last step.
    Last,
}

/// The `[train.model]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// `gpt2`, `llama`, `qwen2` or `qwen3`. Default `qwen3`.
    pub family: Family,
    /// Tokens a sequence has. Default 256.
    pub context_length: usize,
    /// Layers. Default 4.
    pub n_layer: usize,
    /// Width of the residual stream. Default 192.
    pub d_model: usize,
    /// Query heads. Default 3.
    pub n_head: usize,
    /// Key/value heads; none means as many as query heads.
    pub n_kv_head: Option<usize>,
    /// Width of a head; none means `d_model / n_head`.
    pub head_dim: Option<usize>,
    /// Width of the feed-forward layer; none means 4 × `d_model` in `gpt2`, and 8/3 × `d_model` rounded up to a multiple
    /// of 32 elsewhere, where there are three matrices: as many weights.
    pub d_ff: Option<usize>,
    /// The base of the rotary frequencies (all but `gpt2`). Default 10,000.
    pub rope_theta: f64,
    /// Whether the output projection is the token embedding. Default true.
    pub tied_embeddings: bool,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            family: Family::Qwen3,
            context_length: 256,
            n_layer: 4,
            d_model: 192,
            n_head: 3,
            n_kv_head: None,
            head_dim: None,
            d_ff: None,
            rope_theta: 10_000.0,
            tied_embeddings: true,
        }
    }
}

impl Config {
    /// Checks that the values make sense by themselves.
    ///
    /// # Errors
    /// Names the first key that does not.
    pub fn validate(&self) -> Result<(), Error> {
        // Far beyond any machine, and far from overflow.
        const LARGEST_BATCH: usize = 1 << 24;
        let wrong = |key: &str, reason: String| Err(Error::Config { key: format!("train.{key}"), reason });
        let positive = [
            ("steps", self.steps),
            ("batch_size", self.batch_size as u64),
            ("micro_batches", self.micro_batches as u64),
            ("validation_every", self.validation_every),
            ("validation_tokens", self.validation_tokens),
            ("save_every", self.save_every),
            ("keep_last", self.keep_last as u64),
            ("log_every", self.log_every),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return wrong(key, "must be at least 1".to_owned());
        }
        if self.batch_size > LARGEST_BATCH {
            return wrong("batch_size", format!("{} is more than {LARGEST_BATCH}", self.batch_size));
        }
        if !self.batch_size.is_multiple_of(self.micro_batches) {
            return wrong(
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
                return wrong(key, format!("{value} is not between {low} and {high}"));
            }
        }
        if let Some(budget) = &self.budget {
            budget::seconds(budget)?;
        }
        if let Some(dpo) = &self.dpo {
            dpo.validate()?;
            let of_text =
                [("z_loss", self.z_loss > 0.0), ("rows", self.rows.is_some()), ("budget", self.budget.is_some())];
            if let Some((key, _)) = of_text.iter().find(|(_, is_set)| *is_set) {
                return wrong(key, "has no use beside train.dpo".to_owned());
            }
        }
        if let Some(config) = &self.lora {
            lora::validate(config)?;
        }
        // Any vocabulary does here; the tokens bring the real one.
        self.model_config(256, None).map(|_| ())
    }

    /// Returns the model's shape for a vocabulary.
    ///
    /// # Errors
    /// Names the key of `[train.model]` that does not fit the others.
    pub fn model_config(&self, vocab_size: usize, end_of_text: Option<u32>) -> Result<ModelConfig, Error> {
        let Model { family, d_model, n_head, .. } = self.model;
        if n_head == 0 {
            return Err(Error::Config {
                key: "train.model.n_head".to_owned(),
                reason: "must be at least 1".to_owned(),
            });
        }
        if self.model.head_dim.is_none() && !d_model.is_multiple_of(n_head) {
            return Err(Error::Config {
                key: "train.model.n_head".to_owned(),
                reason: format!("{n_head} does not divide train.model.d_model = {d_model}; say head_dim"),
            });
        }
        let rotary = family.is_rotary();
        let d_ff = if rotary { (8 * d_model).div_ceil(3).next_multiple_of(32) } else { 4 * d_model };
        let config = ModelConfig {
            vocab_size,
            d_model,
            n_layer: self.model.n_layer,
            n_head,
            n_kv_head: self.model.n_kv_head.unwrap_or(n_head),
            head_dim: self.model.head_dim.unwrap_or(d_model / n_head),
            d_ff: self.model.d_ff.unwrap_or(d_ff),
            context_length: self.model.context_length,
            rope_theta: if rotary { self.model.rope_theta } else { 0.0 },
            tied_embeddings: self.model.tied_embeddings,
            begin_of_text: end_of_text,
            end_of_text,
            ..ModelConfig::of(family)
        };
        config.validate().map_err(|e| match e {
            model::Error::Config { key, reason } => Error::Config { key: format!("train.model.{key}"), reason },
            other => Error::Model(other),
        })?;
        Ok(config)
    }

    /// Checks that a model to start from can be trained as this says.
    ///
    /// # Errors
    /// When the sequences are longer than the model's context.
    pub fn check_init(&self, of_init: &ModelConfig) -> Result<(), Error> {
        let (wanted, most) = (self.model.context_length, of_init.context_length);
        if wanted <= most {
            return Ok(());
        }
        Err(Error::Config {
            key: "train.model.context_length".to_owned(),
            reason: format!("{wanted} is more than the {most} tokens that the model of train.init reads; lower it"),
        })
    }

    /// Returns what of this decides the checkpoint: all but which states are kept, how often a line is logged, and what is
    /// computed twice. A model to start from counts by its content, which is an input.
    pub fn fingerprint_value(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = value.as_object_mut() {
            if map.shift_remove("init").is_some() {
                map.insert("model".to_owned(), json!({ "context_length": self.model.context_length }));
            }
            for key in
                ["save_every", "keep_last", "log_every", "sample_every", "sample_prompt", "activation_checkpointing"]
            {
                map.remove(key);
            }
        }
        value
    }

    pub(crate) fn activations(&self) -> ActivationCheckpointing {
        if self.activation_checkpointing { ActivationCheckpointing::On } else { ActivationCheckpointing::Off }
    }

    /// Returns the tokens a step trains on.
    pub fn tokens_per_step(&self) -> u64 {
        (self.batch_size * self.model.context_length) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_named() {
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
        check(|c| c.model.n_head = 5, "train.model.n_head: 5 does not divide train.model.d_model = 192; say head_dim");
        check(|c| c.model.n_kv_head = Some(2), "train.model.n_kv_head: 2 does not divide n_head = 3");
        check(|c| c.model.context_length = 0, "train.model.context_length: 0 is not between 1 and 16777216");
    }

    #[test]
    fn what_does_not_change_the_result_does_not_change_the_fingerprint() {
        let base = Config::default();
        let quiet =
            Config { save_every: 7, keep_last: 9, log_every: 3, activation_checkpointing: true, ..base.clone() };
        let other = Config { steps: 7, ..base.clone() };
        assert_eq!(base.fingerprint_value(), quiet.fingerprint_value());
        assert_ne!(base.fingerprint_value(), other.fingerprint_value());
        // A model to start from is an input; where it is named changes nothing, and what shape it would not have, neither.
        let from = |name: &str| Config { init: Some(name.to_owned()), ..base.clone() };
        let wider = Config { model: Model { d_model: 7, ..Model::default() }, ..from("a") };
        let longer = Config { model: Model { context_length: 7, ..Model::default() }, ..from("a") };
        assert_eq!(from("a").fingerprint_value(), from("b").fingerprint_value());
        assert_eq!(from("a").fingerprint_value(), wider.fingerprint_value());
        assert_ne!(from("a").fingerprint_value(), longer.fingerprint_value());
    }
}
