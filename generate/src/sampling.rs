//! From logits to a token.
//!
//! The steps and their order are those of transformers' `generate`: repetition penalty, temperature, top-k, top-p, draw.
//! Two things differ, so that a seed gives one token on every platform: logits that tie are ordered by token id (the
//! lowest first), and top-k keeps exactly `k` tokens where transformers keeps every one that ties with the last.

use std::cmp::Ordering;
use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// How many tokens are first looked at for top-p. A guess: a trained model's nucleus is mostly smaller.
const FIRST_NUCLEUS_TOKENS: usize = 64;

/// How tokens are chosen, and when to stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// The most tokens to write. Default: 128.
    pub max_tokens: usize,
    /// What logits are divided by: below 1 the likely tokens become likelier, 0 always takes the likeliest. Default: 0.8.
    pub temperature: f32,
    /// Only this many of the likeliest tokens can be drawn; 0 for all. Default: 0.
    pub top_k: usize,
    /// Only the smallest set of likeliest tokens whose probabilities reach this can be drawn; 1 for all. Default: 0.95.
    pub top_p: f32,
    /// How much tokens that were already read or written are held back: 1 not at all. A logit above 0 is divided by
    /// it, one below 0 multiplied (CTRL, Keskar et al. 2019). Default: 1.
    pub repetition_penalty: f32,
    /// The seed of what is drawn. Default: 0.
    pub seed: u64,
    /// The text ends before the first of these. Default: none.
    pub stop: Vec<String>,
    /// Whether the prompt is what a user says, to be answered, instead of the beginning of a text. Default: false.
    pub chat: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: 128,
            temperature: 0.8,
            top_k: 0,
            top_p: 0.95,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
            chat: false,
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{name} must be {expected}, not {found}")]
pub struct Invalid {
    /// The field of [`Sampling`].
    pub name: &'static str,
    /// What would be right.
    pub expected: &'static str,
    /// What is there.
    pub found: String,
}

impl Sampling {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the first field that cannot be used.
    pub fn validate(&self) -> Result<(), Invalid> {
        let wrong = |name, expected, found: String| Err(Invalid { name, expected, found });
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return wrong("temperature", "a number from 0 up", self.temperature.to_string());
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top_p", "a number above 0 and at most 1", self.top_p.to_string());
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return wrong("repetition_penalty", "a number above 0", self.repetition_penalty.to_string());
        }
        if self.stop.iter().any(String::is_empty) {
            return wrong("stop", "strings that are not empty", "\"\"".to_owned());
        }
        Ok(())
    }
}

/// Returns the token that `sampling` takes after `history`, and changes `logits` on the way.
///
/// `uniform`, from 0 up to but not 1, is all the randomness there is: the same arguments give the same token.
///
/// # Panics
/// When `logits` is empty. They must hold no NaN and at least one finite value.
pub fn pick(logits: &mut [f32], history: &[u32], sampling: &Sampling, uniform: f64) -> u32 {
    assert!(!logits.is_empty(), "a vocabulary has at least one token");
    penalize(logits, history, sampling.repetition_penalty);
    if sampling.temperature == 0.0 {
        return likeliest(logits);
    }
    let (tokens, weights) = candidates(logits, sampling);
    draw(&tokens, &weights, uniform)
}

/// Holds back every token of `history`, once however often it occurs.
fn penalize(logits: &mut [f32], history: &[u32], penalty: f32) {
    // Exactly 1 is the setting for "off", not the outcome of a calculation.
    #[allow(clippy::float_cmp)]
    if penalty == 1.0 {
        return;
    }
    let mut seen = HashSet::with_capacity(history.len());
    for &token in history {
        if let Some(logit) = logits.get_mut(token as usize)
            && seen.insert(token)
        {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// Returns the tokens that can be drawn and the weight of each; the weights need not sum to 1. Where a setting leaves some
/// out, the likeliest comes first; else they are in the order of their ids.
fn candidates(logits: &[f32], sampling: &Sampling) -> (Vec<u32>, Vec<f32>) {
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    let likelier =
        |a: &u32, b: &u32| -> Ordering { logits[*b as usize].total_cmp(&logits[*a as usize]).then_with(|| a.cmp(b)) };
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |token: &u32| ((logits[*token as usize] - most) / sampling.temperature).exp();
    let few = sampling.top_k > 0 && sampling.top_k < tokens.len();
    if few {
        tokens.select_nth_unstable_by(sampling.top_k - 1, likelier);
        tokens.truncate(sampling.top_k);
    }
    if sampling.top_p < 1.0 {
        let goal = f64::from(sampling.top_p) * total(tokens.iter().map(weight));
        keep_nucleus(&mut tokens, goal, &weight, &likelier);
    } else if few {
        tokens.sort_unstable_by(likelier);
    }
    let weights = tokens.iter().map(weight).collect();
    (tokens, weights)
}

/// Keeps the fewest of the likeliest tokens whose weights reach `goal`, sorted, without sorting all of them: the
/// likeliest few are set apart, then four times as many, until they reach it.
fn keep_nucleus(
    tokens: &mut Vec<u32>,
    goal: f64,
    weight: &impl Fn(&u32) -> f32,
    likelier: &impl Fn(&u32, &u32) -> Ordering,
) {
    let mut n = FIRST_NUCLEUS_TOKENS;
    while n < tokens.len() {
        tokens.select_nth_unstable_by(n - 1, likelier);
        if total(tokens[..n].iter().map(weight)) >= goal {
            tokens.truncate(n);
        } else {
            n *= 4;
        }
    }
    tokens.sort_unstable_by(likelier);
    let mut reached = 0.0;
    let kept = tokens.iter().take_while(|token| {
        let more = reached < goal;
        reached += f64::from(weight(token));
        more
    });
    let kept = kept.count().max(1);
    tokens.truncate(kept);
}

fn draw(tokens: &[u32], weights: &[f32], uniform: f64) -> u32 {
    let goal = uniform * total(weights.iter().copied());
    let mut reached = 0.0;
    for (&token, &weight) in tokens.iter().zip(weights) {
        reached += f64::from(weight);
        if goal < reached {
            return token;
        }
    }
    // Rounding can leave the goal at the very end: the last token that has any weight.
    let last = weights.iter().rposition(|weight| *weight > 0.0);
    tokens[last.unwrap_or_default()]
}

fn total(weights: impl Iterator<Item = f32>) -> f64 {
    weights.map(f64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything off: draws from the softmax as it is.
    fn plain() -> Sampling {
        Sampling { temperature: 1.0, top_p: 1.0, ..Sampling::default() }
    }

    /// The share of each token over `n` evenly spaced draws.
    fn shares(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
        let n = 20_000;
        let mut counts = vec![0_u32; logits.len()];
        for i in 0..n {
            let uniform = (f64::from(i) + 0.5) / f64::from(n);
            counts[pick(&mut logits.to_vec(), &[], sampling, uniform) as usize] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / f64::from(n)).collect()
    }

    #[track_caller]
    fn check_shares(logits: &[f32], sampling: &Sampling, expected: &[f64]) {
        let found = shares(logits, sampling);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-3, "{found:?} is not {expected:?} with {sampling:?}");
        }
    }

    // The shares with a setting are those of transformers 5.23.0, from
    //     l = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])) + 2
    //     for w in TemperatureLogitsWarper(0.5), TopKLogitsWarper(2), TopPLogitsWarper(0.9), TopPLogitsWarper(0.4):
    //         print(torch.softmax(w(None, l), -1))
    #[test]
    fn draws_follow_the_distribution() {
        // ln of 0.5, 0.3, 0.15 and 0.05, plus 2: the softmax does not see a constant.
        let logits: Vec<f32> = [0.5_f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln() + 2.0).collect();
        check_shares(&logits, &plain(), &[0.5, 0.3, 0.15, 0.05]);
        // Temperature 0.5 squares the probabilities: 0.25, 0.09, 0.0225, 0.0025 over 0.365.
        let sharp = Sampling { temperature: 0.5, ..plain() };
        check_shares(&logits, &sharp, &[0.684_93, 0.246_58, 0.061_64, 0.006_85]);
        check_shares(&logits, &Sampling { top_k: 2, ..plain() }, &[0.625, 0.375, 0.0, 0.0]);
        check_shares(&logits, &Sampling { top_k: 9, ..plain() }, &[0.5, 0.3, 0.15, 0.05]);
        // 0.5 + 0.3 does not reach 0.9, with 0.15 it does.
        check_shares(&logits, &Sampling { top_p: 0.9, ..plain() }, &[0.526_32, 0.315_79, 0.157_89, 0.0]);
        check_shares(&logits, &Sampling { top_p: 0.4, ..plain() }, &[1.0, 0.0, 0.0, 0.0]);
        // After top-k the two left have 0.625 and 0.375: the first alone reaches 0.6.
        check_shares(&logits, &Sampling { top_k: 2, top_p: 0.6, ..plain() }, &[1.0, 0.0, 0.0, 0.0]);
        check_shares(&logits, &Sampling { temperature: 1e-30, ..plain() }, &[1.0, 0.0, 0.0, 0.0]);
        let masked = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0];
        check_shares(&masked, &plain(), &[0.0, 0.5, 0.0, 0.5]);
    }

    #[test]
    fn ties_go_to_the_lowest_token() {
        let greedy = Sampling { temperature: 0.0, ..plain() };
        for (logits, expected) in [
            (vec![1.0, 3.0, 3.0, 2.0], 1),
            (vec![0.0, 0.0], 0),
            (vec![-0.0, 0.0], 0),
            (vec![f32::NEG_INFINITY, -7.0], 1),
        ] {
            assert_eq!(pick(&mut logits.clone(), &[], &greedy, 0.9), expected, "{logits:?}");
        }
        check_shares(&[1.0; 4], &Sampling { top_k: 2, ..plain() }, &[0.5, 0.5, 0.0, 0.0]);
        check_shares(&[1.0; 4], &Sampling { top_p: 0.5, ..plain() }, &[0.5, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn repetition_is_penalized_as_in_ctrl() {
        // transformers 5.23.0: RepetitionPenaltyLogitsProcessor(2.0)(tensor([[0, 1, 1, 3]]), tensor([[2., -1., 4., 0.]]))
        // gives [1, -2, 4, 0]: a token that occurs twice is penalized once.
        let mut logits = [2.0, -1.0, 4.0, 0.0];
        penalize(&mut logits, &[0, 1, 1, 3], 2.0);
        assert_eq!(logits.map(f32::to_bits), [1.0, -2.0, 4.0, 0.0_f32].map(f32::to_bits));
        let greedy = Sampling { temperature: 0.0, repetition_penalty: 3.0, ..plain() };
        assert_eq!(pick(&mut [3.0, 2.0], &[0], &greedy, 0.0), 1);
        assert_eq!(pick(&mut [3.0, 2.0], &[7], &greedy, 0.0), 0, "a token outside the vocabulary is nobody's");
    }

    #[test]
    fn wrong_settings_are_named() {
        let cases = [
            (Sampling { temperature: -1.0, ..plain() }, "temperature must be a number from 0 up, not -1"),
            (Sampling { temperature: f32::NAN, ..plain() }, "temperature must be a number from 0 up, not NaN"),
            (Sampling { top_p: 0.0, ..plain() }, "top_p must be a number above 0 and at most 1, not 0"),
            (Sampling { top_p: 1.5, ..plain() }, "top_p must be a number above 0 and at most 1, not 1.5"),
            (Sampling { repetition_penalty: 0.0, ..plain() }, "repetition_penalty must be a number above 0, not 0"),
            (Sampling { stop: vec![String::new()], ..plain() }, "stop must be strings that are not empty, not \"\""),
        ];
        for (sampling, expected) in cases {
            assert_eq!(sampling.validate().unwrap_err().to_string(), expected);
        }
        plain().validate().unwrap();
    }

    /// Top-p the plain way: everything sorted, then cut.
    fn sorted_nucleus(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
        let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
        tokens.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        let most = logits[tokens[0] as usize];
        let weight = |token: u32| f64::from(((logits[token as usize] - most) / sampling.temperature).exp());
        let goal = f64::from(sampling.top_p) * (0..logits.len() as u32).map(weight).sum::<f64>();
        let mut reached = 0.0;
        let mut kept = Vec::new();
        for token in tokens {
            if reached >= goal && !kept.is_empty() {
                break;
            }
            reached += weight(token);
            kept.push(token);
        }
        kept
    }

    proptest! {
        #[test]
        fn setting_the_likeliest_apart_is_sorting_them(
            logits in prop::collection::vec((-8_i8..8).prop_map(f32::from), 1..900),
            temperature in 0.2_f32..20.0,
            top_p in 0.01_f32..0.999,
        ) {
            let sampling = Sampling { temperature, top_p, top_k: 0, ..Sampling::default() };
            let (tokens, weights) = candidates(&logits, &sampling);
            prop_assert_eq!(tokens, sorted_nucleus(&logits, &sampling));
            prop_assert!(weights.is_sorted_by(|a, b| a >= b));
        }

        #[test]
        fn a_pick_is_a_candidate_whatever_the_settings(
            logits in prop::collection::vec(-50.0_f32..50.0, 1..60),
            history in prop::collection::vec(0_u32..80, 0..20),
            temperature in 0.0_f32..3.0,
            top_k in 0_usize..70,
            top_p in 0.01_f32..=1.0,
            repetition_penalty in 0.5_f32..2.0,
            uniform in 0.0_f64..1.0,
        ) {
            let sampling = Sampling { temperature, top_k, top_p, repetition_penalty, ..Sampling::default() };
            let token = pick(&mut logits.clone(), &history, &sampling, uniform) as usize;
            prop_assert!(token < logits.len());
            if top_k > 0 {
                let mut penalized = logits.clone();
                penalize(&mut penalized, &history, repetition_penalty);
                let likelier = penalized.iter().filter(|logit| **logit > penalized[token]).count();
                prop_assert!(likelier < top_k);
            }
        }
    }
}
