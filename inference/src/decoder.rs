//! Cached decoding, one sequence at a time.
//!
//! B batch, T tokens read at once, V vocabulary.

use model::{ModelConfig, Transformer};

use crate::burn_forward::token_tensor;
use crate::sampler::{self, Uniforms};
use crate::{Error, ForwardPass, Row, Sampling};

/// The most tokens read in one forward pass, which bounds the memory of intermediate results. Heuristic, not measured:
/// enough rows that the weights are read once for many of them.
const MAX_ROWS: usize = 512;

/// The ids of the tokens that end a sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopTokens(Vec<u32>);

impl StopTokens {
    /// Returns the stop tokens of the model's configuration (end of text, end of turn) and those of `others`.
    pub fn of(config: &ModelConfig, others: impl IntoIterator<Item = Option<u32>>) -> Self {
        let of_model = config.end_of_text.into_iter().chain(config.end_of_turn.iter().copied());
        Self(of_model.chain(others.into_iter().flatten()).collect())
    }

    /// Returns these and more.
    #[must_use]
    pub fn with(mut self, more: &[u32]) -> Self {
        self.0.extend_from_slice(more);
        self
    }

    /// Returns them in no particular order, some possibly twice.
    pub fn ids(&self) -> &[u32] {
        &self.0
    }

    /// Returns true if `token` is one of them.
    pub fn contains(&self, token: u32) -> bool {
        self.0.contains(&token)
    }
}

impl FromIterator<u32> for StopTokens {
    fn from_iter<I: IntoIterator<Item = u32>>(tokens: I) -> Self {
        Self(tokens.into_iter().collect())
    }
}

/// Extends a sequence token by token; also an iterator over the new tokens.
///
/// A sequence may grow longer than the model's context. Whenever the next token would not fit, the oldest tokens are
/// dropped and the rest is read again: as many are kept as leave room for all tokens still to come, but never fewer
/// than half the context. A prompt longer than the context is cut by the same rule.
pub struct Decoder<'a> {
    model: &'a mut dyn ForwardPass,
    sampling: Sampling,
    stop_tokens: StopTokens,
    vocab_size: usize,
    uniforms: Uniforms,
    /// The blocks of the cache: all that a sequence as long as the context needs.
    blocks: Vec<u32>,
    /// The number of tokens in the cache.
    cached: usize,
    /// The prompt and the new tokens.
    sequence: Vec<u32>,
    prompt_tokens: usize,
    /// How many tokens of the sequence are read, counted from the first.
    read: usize,
    rows: Vec<Row>,
    logits: Vec<f32>,
    remaining_tokens: usize,
    stopped: bool,
}

impl<'a> Decoder<'a> {
    /// Returns a decoder that extends `prompt` by at most `max_tokens` tokens. It uses the whole cache of the model.
    ///
    /// # Errors
    /// Returns an error if the prompt is empty or a sampling setting is out of range.
    ///
    /// # Panics
    /// Panics if the model's cache has fewer positions than its context.
    pub fn new(
        model: &'a mut dyn ForwardPass,
        prompt: &[u32],
        sampling: &Sampling,
        max_tokens: usize,
    ) -> Result<Self, Error> {
        sampling.validate()?;
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let blocks = model.context_length().div_ceil(model.block_tokens());
        assert!(blocks <= model.block_count(), "the cache is too small for the context");
        Ok(Self {
            sampling: *sampling,
            stop_tokens: StopTokens::default(),
            vocab_size: model.vocab_size(),
            uniforms: Uniforms::new(sampling.seed),
            blocks: (0..blocks as u32).collect(),
            cached: 0,
            sequence: prompt.to_vec(),
            prompt_tokens: prompt.len(),
            read: 0,
            rows: Vec::new(),
            logits: Vec::new(),
            remaining_tokens: max_tokens,
            stopped: false,
            model,
        })
    }

    /// Ends the sequence after the first of these tokens.
    #[must_use]
    pub fn with_stop_tokens(self, stop_tokens: &StopTokens) -> Self {
        Self { stop_tokens: stop_tokens.clone(), ..self }
    }

    /// Samples only tokens below `vocab_size`, the tokenizer's: a model may have more rows, none of which is a token.
    #[must_use]
    pub fn with_vocab_size(self, vocab_size: usize) -> Self {
        Self { vocab_size, ..self }
    }

    /// Returns true if the latest token was a stop token.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Samples the next token; none after a stop token or `max_tokens` tokens.
    ///
    /// # Errors
    /// Returns an error if the device fails or the logits are not finite.
    pub fn next_token(&mut self) -> Result<Option<u32>, Error> {
        if self.stopped || self.remaining_tokens == 0 {
            return Ok(None);
        }
        self.read_new_tokens()?;
        let uniform = self.uniforms.draw();
        let token = sampler::pick(&mut self.logits, &self.sequence, self.prompt_tokens, &self.sampling, uniform);
        self.sequence.push(token);
        self.remaining_tokens -= 1;
        self.stopped = self.stop_tokens.contains(token);
        Ok(Some(token))
    }

    /// Reads the new tokens of the sequence (all of it the first time: the prefill) and fills `logits` with those of
    /// the token that follows.
    fn read_new_tokens(&mut self) -> Result<(), Error> {
        let window = self.model.context_length();
        if self.cached + self.sequence.len() - self.read > window {
            self.cached = 0;
            self.read = self.sequence.len() - self.sequence.len().min(kept_tokens(window, self.remaining_tokens));
        }
        self.logits.clear();
        while self.read < self.sequence.len() {
            let end = self.sequence.len().min(self.read + MAX_ROWS);
            self.rows.clear();
            for (position, at) in (self.cached..).zip(self.read..end) {
                let wants_logits = at + 1 == self.sequence.len();
                self.rows.push(Row { sequence: 0, position, token: self.sequence[at], wants_logits });
            }
            self.model.forward(&self.rows, &[&self.blocks], &mut self.logits)?;
            self.cached += end - self.read;
            self.read = end;
        }
        self.logits.truncate(self.vocab_size);
        let logits = &self.logits;
        let usable = logits.iter().all(|logit| *logit < f32::INFINITY) && logits.iter().any(|logit| logit.is_finite());
        if usable { Ok(()) } else { Err(Error::NotFinite { position: self.sequence.len() }) }
    }
}

impl Iterator for Decoder<'_> {
    type Item = Result<u32, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_token().transpose()
    }
}

/// Returns the logits after each token, row by row, without a cache.
///
/// # Shapes
/// - tokens: `[T]`, T at most the context length
/// - output: `[T, V]`
///
/// # Errors
/// Returns an error if the device fails.
pub fn logits(model: &Transformer, tokens: &[u32]) -> Result<Vec<f32>, Error> {
    let logits = model.forward(token_tensor(tokens, &model.device())); // [B=1, T, V]
    logits.try_into_vec_as::<f32>().map_err(|e| Error::Device { reason: e.to_string() })
}

/// Returns how many of the latest tokens stay in a full window.
pub(crate) fn kept_tokens(window: usize, remaining_tokens: usize) -> usize {
    // The first remaining token is predicted from the kept tokens; only those after it need room.
    window - remaining_tokens.saturating_sub(1).min(window / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_window_keeps_room_for_remaining_tokens_and_at_least_half() {
        for (window, remaining, expected) in [(8, 1, 8), (8, 2, 7), (8, 5, 4), (8, 100, 4), (7, 100, 4), (1, 9, 1)] {
            assert_eq!(kept_tokens(window, remaining), expected, "{window} {remaining}");
        }
    }
}
