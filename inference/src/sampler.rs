//! From logits to a token.
//!
//! The steps and their order are those of transformers' `generate`: repetition penalty, temperature, top-k, top-p,
//! min-p, typical, draw; `OpenAI`'s frequency and presence penalties come after the repetition penalty, as in vLLM. Two
//! deviations make a seed give the same token on every platform: tied logits are ordered by token id (lowest first),
//! and top-k and typical keep exactly as many tokens as they need where transformers keeps every token tied with the
//! last.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// How many candidates top-p looks at first. Heuristic, not measured: because the nucleus of a trained model is mostly
/// smaller.
const FIRST_NUCLEUS_TOKENS: usize = 64;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Divides the logits: below 1 sharpens the distribution, 0 always picks the most likely token. Default: 0.8.
    pub temperature: f32,
    /// Samples only from this many of the most likely tokens; 0 for all. Default: 0.
    pub top_k: usize,
    /// Samples only from the smallest set of most likely tokens whose probabilities sum to at least this; 1 for all.
    /// Default: 0.95.
    pub top_p: f32,
    /// Samples only from tokens whose probability is at least this fraction of the most likely one's (Turning Up the
    /// Heat: Min-p Sampling, 2024); 0 for all. Default: 0.
    pub min_p: f32,
    /// Samples only from the smallest set of tokens whose information is closest to the expected one and whose
    /// probabilities sum to at least this (Locally Typical Sampling, 2022); 1 for all. Default: 1.
    pub typical_p: f32,
    /// Repetition penalty; 1 disables it. The logit of every token of the sequence so far is divided by it if positive,
    /// and multiplied otherwise (CTRL, Keskar et al. 2019). Default: 1.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of a token for each time that it has been sampled, as in `OpenAI`'s API; the prompt
    /// does not count. Default: 0.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of every token that has been sampled, as in `OpenAI`'s API; the prompt does not count.
    /// Default: 0.
    pub presence_penalty: f32,
    /// The seed of the random draws. Default: 0.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.8, top_p: 0.95, ..Self::unfiltered() }
    }
}

/// A setting that is out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{name} must be {expected}, not {found}")]
pub struct InvalidSetting {
    /// The name of the setting.
    pub name: &'static str,
    /// The valid values.
    pub expected: &'static str,
    /// The value.
    pub found: String,
}

impl Sampling {
    /// Returns the settings that always pick the most likely token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::unfiltered() }
    }

    /// Returns the settings that sample from the softmax of the logits, with seed 0.
    pub fn unfiltered() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the first field out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let invalid = |name, expected, found: f32| Err(InvalidSetting { name, expected, found: found.to_string() });
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return invalid("temperature", "a number from 0 up", self.temperature);
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return invalid("top_p", "a number above 0 and at most 1", self.top_p);
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return invalid("min_p", "a number from 0 to 1", self.min_p);
        }
        if !(self.typical_p > 0.0 && self.typical_p <= 1.0) {
            return invalid("typical_p", "a number above 0 and at most 1", self.typical_p);
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return invalid("repetition_penalty", "a number above 0", self.repetition_penalty);
        }
        for (name, penalty) in
            [("frequency_penalty", self.frequency_penalty), ("presence_penalty", self.presence_penalty)]
        {
            if !penalty.is_finite() {
                return invalid(name, "a finite number", penalty);
            }
        }
        Ok(())
    }
}

/// The random numbers of a seed, one per sampled token: a `ChaCha8` stream.
#[derive(Debug, Clone)]
pub struct Uniforms(ChaCha8Rng);

impl Uniforms {
    /// Returns the numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Returns the next number in [0, 1), with 53 random bits.
    pub fn draw(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Adds a number to the logits of some tokens; tokens outside the vocabulary are ignored.
pub fn add_bias(logits: &mut [f32], bias: &[(u32, f32)]) {
    for &(token, bias) in bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit += bias;
        }
    }
}

/// Picks the next token of `sequence`, whose first `prompt_tokens` tokens are the prompt, after `sampling`, and changes
/// `logits` in doing so.
///
/// `uniform`, in [0, 1), is all the randomness there is: the same arguments give the same token.
///
/// # Panics
/// Panics if `logits` is empty or the prompt is longer than the sequence. The logits must hold no NaN and at least one
/// finite value.
pub fn pick(logits: &mut [f32], sequence: &[u32], prompt_tokens: usize, sampling: &Sampling, uniform: f64) -> u32 {
    assert!(!logits.is_empty(), "a vocabulary has at least one token");
    penalize(logits, sequence, sampling.repetition_penalty);
    penalize_sampled(logits, &sequence[prompt_tokens..], sampling);
    if sampling.temperature == 0.0 {
        return argmax(logits);
    }
    let (tokens, weights) = candidates(logits, sampling);
    draw(&tokens, &weights, uniform)
}

/// Penalizes every token of `sequence` once, however often it occurs.
fn penalize(logits: &mut [f32], sequence: &[u32], penalty: f32) {
    // Exactly 1 is the setting for "off", not a computed value.
    #[allow(clippy::float_cmp)]
    if penalty == 1.0 {
        return;
    }
    let mut seen = HashSet::with_capacity(sequence.len());
    for &token in sequence {
        if let Some(logit) = logits.get_mut(token as usize)
            && seen.insert(token)
        {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

/// Penalizes every sampled token by how often it occurs and because it occurs.
fn penalize_sampled(logits: &mut [f32], sampled: &[u32], sampling: &Sampling) {
    let Sampling { frequency_penalty, presence_penalty, .. } = *sampling;
    // Exactly 0 is the setting for "off", not a computed value.
    if frequency_penalty == 0.0 && presence_penalty == 0.0 {
        return;
    }
    let mut counts: HashMap<u32, u32> = HashMap::with_capacity(sampled.len());
    for &token in sampled {
        *counts.entry(token).or_default() += 1;
    }
    for (token, count) in counts {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit -= count as f32 * frequency_penalty + presence_penalty;
        }
    }
}

fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// Returns the tokens to sample from and the weight of each; the weights need not sum to 1. They are ordered by
/// likelihood if top-k or top-p filtered some out; otherwise by id.
fn candidates(logits: &[f32], sampling: &Sampling) -> (Vec<u32>, Vec<f32>) {
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    let by_likelihood =
        |a: &u32, b: &u32| -> Ordering { logits[*b as usize].total_cmp(&logits[*a as usize]).then_with(|| a.cmp(b)) };
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |token: &u32| ((logits[*token as usize] - max) / sampling.temperature).exp();
    let is_filtered = sampling.top_k > 0 && sampling.top_k < tokens.len();
    if is_filtered {
        tokens.select_nth_unstable_by(sampling.top_k - 1, by_likelihood);
        tokens.truncate(sampling.top_k);
    }
    if sampling.top_p < 1.0 {
        let target = f64::from(sampling.top_p) * total(tokens.iter().map(weight));
        keep_nucleus(&mut tokens, target, &weight, &by_likelihood);
    } else if is_filtered {
        tokens.sort_unstable_by(by_likelihood);
    }
    if sampling.min_p > 0.0 {
        // The weight of the most likely token is 1.
        tokens.retain(|token| weight(token) >= sampling.min_p);
    }
    if sampling.typical_p < 1.0 {
        keep_typical(&mut tokens, sampling.typical_p, &weight);
    }
    let weights = tokens.iter().map(weight).collect();
    (tokens, weights)
}

/// Keeps the fewest most likely tokens whose weights sum to at least `target`, sorted. Partial selection avoids sorting
/// the whole vocabulary: it selects the top few, then four times as many, until their weights reach the target.
fn keep_nucleus(
    tokens: &mut Vec<u32>,
    target: f64,
    weight: &impl Fn(&u32) -> f32,
    by_likelihood: &impl Fn(&u32, &u32) -> Ordering,
) {
    let mut n = FIRST_NUCLEUS_TOKENS;
    while n < tokens.len() {
        tokens.select_nth_unstable_by(n - 1, by_likelihood);
        if total(tokens[..n].iter().map(weight)) >= target {
            tokens.truncate(n);
        } else {
            n *= 4;
        }
    }
    tokens.sort_unstable_by(by_likelihood);
    let mut cumulative = 0.0;
    let kept = tokens.iter().take_while(|token| {
        let is_below_target = cumulative < target;
        cumulative += f64::from(weight(token));
        is_below_target
    });
    let kept = kept.count().max(1);
    tokens.truncate(kept);
}

/// Keeps the fewest tokens whose information -ln p is closest to its mean, the entropy, and whose probabilities sum to
/// at least `mass`; their order stays.
fn keep_typical(tokens: &mut Vec<u32>, mass: f32, weight: &impl Fn(&u32) -> f32) {
    let sum = total(tokens.iter().map(weight));
    let probabilities: Vec<f64> = tokens.iter().map(|token| f64::from(weight(token)) / sum).collect();
    let information = |p: f64| if p > 0.0 { -p.ln() } else { f64::INFINITY };
    let entropy: f64 = probabilities.iter().filter(|p| **p > 0.0).map(|p| p * information(*p)).sum();
    let distance = |at: usize| (information(probabilities[at]) - entropy).abs();
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)).then_with(|| tokens[*a].cmp(&tokens[*b])));
    let mut is_kept = vec![false; tokens.len()];
    let mut cumulative = 0.0;
    for at in order {
        is_kept[at] = true;
        cumulative += probabilities[at];
        if cumulative >= f64::from(mass) {
            break;
        }
    }
    let mut kept = is_kept.into_iter();
    tokens.retain(|_| kept.next().unwrap_or(false));
}

fn draw(tokens: &[u32], weights: &[f32], uniform: f64) -> u32 {
    let target = uniform * total(weights.iter().copied());
    let mut cumulative = 0.0;
    for (&token, &weight) in tokens.iter().zip(weights) {
        cumulative += f64::from(weight);
        if target < cumulative {
            return token;
        }
    }
    // Rounding can leave the target above the last sum: the last token with any weight.
    let last = weights.iter().rposition(|weight| *weight > 0.0);
    tokens[last.unwrap_or_default()]
}

fn total(weights: impl Iterator<Item = f32>) -> f64 {
    weights.map(f64::from).sum()
}

#[cfg(test)]
mod tests;
