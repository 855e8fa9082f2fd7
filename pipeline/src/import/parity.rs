//! Whether two models are the same: their weights to the bit, their logits, and the tokens they would write.
//!
//! Dimensions: T tokens, V vocabulary.

use artifact::Digest;
use burn::tensor::{Int, Tensor, TensorData};
use model::{KvCache, Transformer, checkpoint};

/// Tokens that both models read.
const READ_TOKENS: usize = 32;

/// Tokens that both models write, each time the likeliest.
const WRITTEN_TOKENS: usize = 50;

/// What a model is and does, to be compared with another once it is gone from memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    tensors: usize,
    weights: Digest,
    logits: Vec<f32>,
    positions: usize,
    tokens: Vec<u32>,
}

/// How far two models are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parity {
    /// Parameters of each, as tensors.
    pub tensors: usize,
    /// Whether all weights are equal to the bit.
    pub same_weights: bool,
    /// Positions whose logits were compared.
    pub positions: usize,
    /// The largest difference between two logits; infinite where one is not a number.
    pub max_logit_difference: f64,
    /// Tokens written by both before the first that differs.
    pub equal_tokens: usize,
    /// Tokens written by each.
    pub tokens: usize,
}

impl Behaviour {
    /// Returns what `model` is and does.
    ///
    /// # Errors
    /// When the device fails.
    pub fn of(model: &Transformer) -> anyhow::Result<Self> {
        let weights = checkpoint::weights(model)?;
        let mut bytes = Vec::new();
        for (name, weight) in &weights {
            // A digest of digests: all weights in one piece would be a second copy of the model.
            let values: Vec<u8> = weight.values.iter().flat_map(|x| x.to_le_bytes()).collect();
            bytes.extend(format!("{name} {:?} {}\n", weight.shape, Digest::of(&values)).into_bytes());
        }
        let config = model.config();
        let positions = READ_TOKENS.min(config.context_length.div_ceil(2));
        let prompt = prompt(positions, config.vocab_size);
        let logits = model.forward(ids(&prompt, model)); // [1, T, V]
        Ok(Self {
            tensors: weights.len(),
            weights: Digest::of(&bytes),
            logits: logits.try_into_vec_as::<f32>().map_err(failed)?,
            positions,
            tokens: greedy(model, &prompt)?,
        })
    }

    /// Returns how far `other` is from this.
    pub fn parity(&self, other: &Self) -> Parity {
        let difference = |(a, b): (&f32, &f32)| {
            let difference = f64::from(a - b).abs();
            // `max` passes over NaN, which must not look like parity.
            if difference.is_nan() { f64::INFINITY } else { difference }
        };
        let is_same_shape = self.logits.len() == other.logits.len();
        let largest = self.logits.iter().zip(&other.logits).map(difference).fold(0.0, f64::max);
        let equal = self.tokens.iter().zip(&other.tokens).take_while(|(a, b)| a == b);
        Parity {
            tensors: self.tensors,
            same_weights: self.weights == other.weights,
            positions: self.positions,
            max_logit_difference: if is_same_shape { largest } else { f64::INFINITY },
            equal_tokens: equal.count(),
            tokens: self.tokens.len(),
        }
    }
}

impl std::fmt::Display for Parity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let weights = if self.same_weights { "equal to the bit" } else { "not equal to the bit" };
        write!(
            f,
            "{} tensors {weights}; largest logit difference {} at {} positions; {} of {} greedy tokens equal",
            self.tensors,
            short(self.max_logit_difference),
            self.positions,
            self.equal_tokens,
            self.tokens
        )
    }
}

fn short(difference: f64) -> String {
    if difference == 0.0 { "0".to_owned() } else { format!("{difference:.1e}") }
}

/// Returns tokens from all over the vocabulary, the same for every model of its size.
fn prompt(count: usize, vocab_size: usize) -> Vec<u32> {
    // Knuth's multiplicative hash: neighbours lie far apart.
    (1..=count as u64).map(|i| (i.wrapping_mul(2_654_435_761) % vocab_size as u64) as u32).collect()
}

fn ids(tokens: &[u32], model: &Transformer) -> Tensor<2, Int> {
    let ids: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
    let shape = [1, ids.len()];
    Tensor::from_data(TensorData::new(ids, shape), &model.device())
}

/// Returns the likeliest tokens after `prompt`, one after the other. When the context is full, its later half is read again.
fn greedy(model: &Transformer, prompt: &[u32]) -> anyhow::Result<Vec<u32>> {
    let window = model.config().context_length;
    let mut history = prompt.to_vec();
    let (mut cache, mut read) = (KvCache::new(model.config()), 0);
    for _ in 0..WRITTEN_TOKENS {
        if cache.len() + history.len() - read > window {
            (cache, read) = (KvCache::new(model.config()), history.len() - window.div_ceil(2));
        }
        let logits = model.forward_cached(ids(&history[read..], model), &mut cache); // [1, V]
        read = history.len();
        let logits = logits.try_into_vec_as::<f32>().map_err(failed)?;
        let likeliest = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        history.push(likeliest.map_or(0, |(id, _)| id as u32));
    }
    Ok(history.split_off(prompt.len()))
}

fn failed(error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow::anyhow!("the device failed while models were compared: {error:?}")
}
