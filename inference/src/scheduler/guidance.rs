//! Classifier-free guidance (Classifier-Free Diffusion Guidance, Ho & Salimans, 2022; Stay on topic with
//! Classifier-Free Guidance, Sanchez et al., 2023).
//!
//! A guided sample is two sequences in lock step: the second reads the negative prompt, then the same sampled tokens.
//! It belongs to the first, so both get blocks, lose them and end together. Each reads its prompt in chunks of its own;
//! the last token of either is read only together with that of the other, so one forward pass has the logits of both.

use kernels::slices;

use super::Scheduler;
use super::request::Request;
use super::sequence::Sequence;
use crate::{Error, ForwardPass, InvalidSetting, RowResult};

/// The largest scale. Heuristic, not measured: because texts are guided with 1 to 6 and pictures with at most 30.
const MAX_SCALE: f32 = 100.0;

/// How far the model follows the prompt instead of a negative one.
#[derive(Debug, Clone, PartialEq)]
pub struct Guidance {
    /// The scale s, from 0 to 100. The next token is sampled from u + s (c − u), where c are the log probabilities
    /// after the prompt and u those after the negative prompt: with 1 from c, with more away from u, with 0 from u.
    pub scale: f32,
    /// The tokens of the negative prompt, at least one; None for the last token of the prompt, as in transformers.
    pub negative_prompt: Option<Vec<u32>>,
}

impl Guidance {
    /// Returns true if it changes anything: with scale 1 there is no second sequence.
    // Exactly 1 is the setting for "off", not a computed value.
    #[allow(clippy::float_cmp)]
    pub fn is_active(&self) -> bool {
        self.scale != 1.0
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the one out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        if !(0.0..=MAX_SCALE).contains(&self.scale) {
            let (expected, found) = ("a number from 0 to 100", self.scale.to_string());
            return Err(InvalidSetting { name: "guidance_scale", expected, found });
        }
        if self.negative_prompt.as_ref().is_some_and(Vec::is_empty) {
            let (expected, found) = ("at least one token", "none".to_owned());
            return Err(InvalidSetting { name: "negative_prompt", expected, found });
        }
        Ok(())
    }

    /// Replaces logits after the prompt by guided ones, log probabilities up to a constant; `negative` are those after
    /// the negative prompt. A token that the model excludes after the prompt stays excluded.
    ///
    /// # Shapes
    /// - logits, negative: `[V]`
    pub fn apply(&self, logits: &mut [f32], negative: &[f32]) {
        let (normalizer, negative_normalizer) = (slices::log_sum_exp(logits), slices::log_sum_exp(negative));
        for (logit, negative) in logits.iter_mut().zip(negative).filter(|(logit, _)| **logit > f32::NEG_INFINITY) {
            let (conditional, unconditional) = (*logit - normalizer, negative - negative_normalizer);
            *logit = self.scale * (conditional - unconditional) + unconditional;
        }
    }
}

impl Request {
    /// Returns the guidance, if it changes anything.
    pub(super) fn active_guidance(&self) -> Option<&Guidance> {
        self.guidance.as_ref().filter(|guidance| guidance.is_active())
    }

    /// Returns the negative prompt of an active guidance.
    pub(super) fn negative_prompt(&self) -> Option<&[u32]> {
        let last = self.prompt.len().saturating_sub(1);
        self.active_guidance().map(|guidance| guidance.negative_prompt.as_deref().unwrap_or(&self.prompt[last..]))
    }

    /// Returns the request of the second sequence of its guided samples, which is sampled by the first.
    pub(super) fn negative(&self) -> Option<Self> {
        let prompt = self.negative_prompt()?.to_vec();
        let (tenant, adapter) = (self.tenant.clone(), self.adapter.clone());
        Some(Self { n: 0, tenant, adapter, ..Self::new(prompt, self.max_tokens) })
    }
}

impl<M: ForwardPass> Scheduler<M> {
    /// Checks that guidance, if there is some, can be applied to a request.
    pub(super) fn check_guidance(&self, request: &Request) -> Result<(), Error> {
        let Some(guidance) = request.active_guidance() else { return Ok(()) };
        let is_sampled = request.result() == RowResult::Logits && !request.scores_prompt;
        let expected = match self.settings.max_sequences {
            _ if !is_sampled => "1 where a prompt is scored, embedded or explained",
            1 => "1 where max_sequences is 1",
            _ => return Ok(()),
        };
        Err(InvalidSetting { name: "guidance_scale", expected, found: guidance.scale.to_string() }.into())
    }
}

impl Sequence {
    /// Returns the sequence and, if its samples are guided, the second one.
    pub(super) fn both(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.negative.as_deref())
    }

    /// Returns how many of [`Settings::max_sequences`](super::Settings::max_sequences) it takes.
    pub(super) fn places(&self) -> usize {
        self.both().count()
    }

    /// Returns true if the next step can read all that is missing for the next token with one row of each sequence.
    pub(super) fn is_decoded(&self) -> bool {
        self.both().all(|sequence| sequence.unread() == 1)
    }

    /// Returns how many unread tokens there are, over both sequences.
    pub(super) fn all_unread(&self) -> usize {
        self.both().map(Self::unread).sum()
    }

    /// Returns how many unread tokens of each sequence a step reads, of at most `budget`: all, or else not the last
    /// ones of guided sequences, which are read together.
    pub(super) fn share(&self, budget: usize) -> [usize; 2] {
        let Some(negative) = &self.negative else { return [self.unread().min(budget), 0] };
        let unread = [self.unread(), negative.unread()];
        if unread[0] + unread[1] <= budget {
            return unread;
        }
        let first = budget.min(unread[0] - 1);
        [first, (budget - first).min(unread[1] - 1)]
    }

    /// Adds a sampled token.
    pub(super) fn push(&mut self, token: u32) {
        self.tokens.push(token);
        if let Some(negative) = &mut self.negative {
            negative.tokens.push(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guided_logits_are_those_of_the_formula() {
        // Probabilities 1/2, 1/4, 1/4 and 1/4, 1/2, 1/4; one row is shifted, which changes nothing.
        let (own, negative) = ([4.0_f32, 2.0, 2.0].map(f32::ln), [1.0_f32, 2.0, 1.0].map(f32::ln));
        for (scale, expected) in [
            // Squares over the other: 1, 1/8, 1/4.
            (2.0, [1.0, 0.125, 0.25]),
            (0.5, [0.125_f32.sqrt(), 0.125_f32.sqrt(), 0.25]),
            (0.0, [0.25, 0.5, 0.25]),
            (1.0, [0.5, 0.25, 0.25]),
        ] {
            let mut logits = own;
            Guidance { scale, negative_prompt: None }.apply(&mut logits, &negative);
            for (logit, expected) in logits.iter().zip(expected) {
                assert!((logit.exp() - expected).abs() < 1e-6, "{scale}: {logits:?}");
            }
        }
        let mut masked = [f32::NEG_INFINITY, 0.0];
        Guidance { scale: 3.0, negative_prompt: None }.apply(&mut masked, &[f32::NEG_INFINITY, 0.0]);
        assert!(masked[0].is_infinite() && masked[1].abs() < 1e-6, "{masked:?}");
    }
}
