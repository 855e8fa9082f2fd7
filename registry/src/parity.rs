//! Whether two models are the same: their weights, their logits, and the tokens they generate.
//!
//! Dimensions: T tokens, V vocabulary.

use artifact::Digest;
use inference::parity::{equal_tokens, max_logit_difference};
use inference::{BurnForward, Decoder, Sampling, logits};
use model::{Transformer, checkpoint};

use crate::Error;

/// Tokens that both models read.
const PROMPT_TOKENS: usize = 32;

/// Tokens that both models generate, greedily.
const GENERATED_TOKENS: usize = 50;

/// What a model is and does, to be compared with another that is loaded after this one is dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    tensors: usize,
    weights: Digest,
    logits: Vec<f32>,
    positions: usize,
    tokens: Vec<u32>,
}

/// How much two models differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parity {
    /// Tensors of each.
    pub tensors: usize,
    /// Whether all weights are bit-identical.
    pub same_weights: bool,
    /// Positions whose logits were compared.
    pub positions: usize,
    /// The largest difference between two logits; infinite if one is NaN.
    pub max_logit_difference: f64,
    /// Greedy tokens before the first that differs.
    pub equal_tokens: usize,
    /// Greedy tokens of each.
    pub tokens: usize,
}

impl Behaviour {
    /// Returns what `model` is and does.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn of(model: &Transformer) -> Result<Self, Error> {
        let weights = checkpoint::weights(model)?;
        let mut bytes = Vec::new();
        for (name, weight) in &weights {
            // A digest of digests: all weights in one buffer would be a second copy of the model.
            let values: Vec<u8> = weight.values.iter().flat_map(|x| x.to_le_bytes()).collect();
            bytes.extend(format!("{name} {:?} {}\n", weight.shape, Digest::of(&values)).into_bytes());
        }
        let config = model.config();
        let positions = PROMPT_TOKENS.min(config.context_length.div_ceil(2));
        let prompt = prompt(positions, config.vocab_size);
        let tokens: Result<Vec<u32>, _> =
            Decoder::new(&mut BurnForward::new(model, 1), &prompt, &Sampling::greedy(), GENERATED_TOKENS)?.collect();
        Ok(Self {
            tensors: weights.len(),
            weights: Digest::of(&bytes),
            logits: logits(model, &prompt)?, // [T, V]
            positions,
            tokens: tokens?,
        })
    }

    /// Returns how much `other` differs from this.
    pub fn parity(&self, other: &Self) -> Parity {
        Parity {
            tensors: self.tensors,
            same_weights: self.weights == other.weights,
            positions: self.positions,
            max_logit_difference: max_logit_difference(&self.logits, &other.logits),
            equal_tokens: equal_tokens(&self.tokens, &other.tokens),
            tokens: self.tokens.len(),
        }
    }
}

impl std::fmt::Display for Parity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let weights = if self.same_weights { "bit-identical" } else { "not bit-identical" };
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
    // Knuth's multiplicative hash spreads neighbours.
    (1..=count as u64).map(|i| (i.wrapping_mul(2_654_435_761) % vocab_size as u64) as u32).collect()
}
