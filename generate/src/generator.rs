//! Cached decoding, one text at a time.
//!
//! B batch, T tokens read at once, V vocabulary.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use model::{KvCache, Transformer};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tokenizer::{Message, Tokenizer};

use crate::stop::StopFilter;
use crate::{Error, Sampling, sampling};

/// A model with its tokenizer, ready to write.
#[derive(Debug)]
pub struct Generator {
    model: Transformer,
    tokenizer: Tokenizer,
    device: Device,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended it, or a stop string came.
    Stop,
    /// It has as many tokens as it may have.
    Length,
    /// Whoever listened had enough.
    Cancelled,
}

impl FinishReason {
    /// Returns the reason's name as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A finished text.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// What was written after the prompt, without the stop string.
    pub text: String,
    /// Tokens of the whole prompt, those that the window cut off too; an empty prompt counts as one.
    pub prompt_tokens: usize,
    /// Tokens drawn, those of a stop string and the end-of-text token too.
    pub completion_tokens: usize,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Seconds from the call to the first token.
    pub first_token_seconds: f64,
    /// Seconds from the call to the end.
    pub seconds: f64,
}

impl Completion {
    /// Returns the tokens written per second after the first one, which also pays for reading the prompt.
    pub fn tokens_per_second(&self) -> f64 {
        let seconds = self.seconds - self.first_token_seconds;
        if self.completion_tokens > 1 && seconds > 0.0 { (self.completion_tokens - 1) as f64 / seconds } else { 0.0 }
    }
}

impl Generator {
    /// Loads the model and the tokenizer in `folder` onto the device of that name.
    ///
    /// # Errors
    /// When one cannot be loaded, or the two do not fit each other.
    pub fn open(folder: &Path, device: &str) -> Result<Self, Error> {
        let device = model::device::resolve(device)?;
        let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"))?;
        let model = model::checkpoint::load(folder, &device)?;
        Self::new(model, tokenizer, device)
    }

    /// Returns a generator of a model that is on `device`.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] when the tokenizer has tokens that the model does not know.
    pub fn new(model: Transformer, tokenizer: Tokenizer, device: Device) -> Result<Self, Error> {
        let (of_model, of_tokenizer) = (model.config().vocab_size, tokenizer.vocab_size());
        if of_tokenizer > of_model || of_tokenizer == 0 {
            return Err(Error::Vocabulary { tokenizer: of_tokenizer, model: of_model });
        }
        Ok(Self { model, tokenizer, device })
    }

    /// Returns the model.
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// Returns the tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Continues `prompt`, or answers it where it is what a user says. Nothing in the prompt is read as a special token; an empty one starts from end-of-text, as a
    /// new document does in training.
    ///
    /// `on_text` is called once for every token, with the text that has become certain: whole characters that cannot be
    /// the start of a stop string, often none. It ends the text by returning [`ControlFlow::Break`]. The pieces together are the
    /// completion's text.
    ///
    /// A text may be longer than the model's window. Whenever the next token would not fit, the oldest tokens are
    /// dropped and the rest is read again: as many are kept as leave room for all that is still to be written, but
    /// never fewer than half the window. A prompt longer than the window is cut by the same rule.
    ///
    /// # Errors
    /// When a setting cannot be used, the prompt is empty and there is no end-of-text token, or the model computes
    /// something that is no number.
    pub fn generate(
        &self,
        prompt: &str,
        sampling: &Sampling,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Completion, Error> {
        sampling.validate()?;
        let start = Instant::now();
        let end_of_text = self.tokenizer.end_of_text();
        let (mut history, end_of_turn) = if sampling.chat {
            let message = Message { role: "user".to_owned(), content: prompt.to_owned() };
            let (ids, end_of_turn) = self.tokenizer.encode_chat_prompt(&[message])?;
            (ids, Some(end_of_turn))
        } else {
            (self.tokenizer.encode(prompt)?, None)
        };
        if history.is_empty() {
            history.push(end_of_text.ok_or(Error::EmptyPrompt)?);
        }
        let mut completion = Completion {
            text: String::new(),
            prompt_tokens: history.len(),
            completion_tokens: 0,
            finish_reason: FinishReason::Length,
            first_token_seconds: 0.0,
            seconds: 0.0,
        };
        let mut decoder = Decoder::new(self);
        let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        let mut characters = self.tokenizer.stream();
        let mut filter = StopFilter::new(&sampling.stop);
        while completion.completion_tokens < sampling.max_tokens {
            let mut logits = decoder.next(&history, sampling.max_tokens - completion.completion_tokens)?;
            let token = sampling::pick(&mut logits, &history, sampling, uniform(&mut rng));
            history.push(token);
            completion.completion_tokens += 1;
            if completion.completion_tokens == 1 {
                completion.first_token_seconds = start.elapsed().as_secs_f64();
            }
            let of_model = self.model.config();
            let ended = [end_of_text, of_model.end_of_text, end_of_turn].contains(&Some(token))
                || of_model.end_of_turn.contains(&token);
            let certain = if ended { String::new() } else { filter.push(&characters.push(token)?) };
            completion.text += &certain;
            if ended || filter.stopped() {
                completion.finish_reason = FinishReason::Stop;
            }
            if on_text(&certain).is_break() {
                completion.finish_reason = FinishReason::Cancelled;
            }
            if completion.finish_reason != FinishReason::Length {
                break;
            }
        }
        if completion.finish_reason != FinishReason::Cancelled && !filter.stopped() {
            let rest = filter.push(&characters.finish());
            let rest = if filter.stopped() { rest } else { rest + &filter.finish() };
            if filter.stopped() {
                completion.finish_reason = FinishReason::Stop;
            }
            if !rest.is_empty() {
                completion.text += &rest;
                // Nothing is left to cancel.
                let _ = on_text(&rest);
            }
        }
        completion.seconds = start.elapsed().as_secs_f64();
        Ok(completion)
    }
}

/// The part of a text that the model has in view.
struct Decoder<'a> {
    generator: &'a Generator,
    cache: KvCache,
    /// How many tokens of the history the cache has taken in, counted from the text's first.
    read: usize,
}

impl<'a> Decoder<'a> {
    fn new(generator: &'a Generator) -> Self {
        Self { generator, cache: KvCache::new(generator.model.config()), read: 0 }
    }

    /// Reads what is new in `history` and returns the logits of the token that follows it.
    ///
    /// # Shapes
    /// The result has one entry for each token of the tokenizer: a model may have more rows, none of which is a token.
    fn next(&mut self, history: &[u32], remaining_tokens: usize) -> Result<Vec<f32>, Error> {
        let window = self.generator.model.config().context_length;
        if self.cache.len() + history.len() - self.read > window {
            self.cache = KvCache::new(self.generator.model.config());
            self.read = history.len() - history.len().min(kept_tokens(window, remaining_tokens));
        }
        let new: Vec<i64> = history[self.read..].iter().copied().map(i64::from).collect();
        self.read = history.len();
        let shape = [1, new.len()];
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(new, shape), &self.generator.device); // [B=1, T]
        let logits = self.generator.model.forward_cached(tokens, &mut self.cache); // [B=1, V]
        let mut logits = logits.try_into_vec_as::<f32>().map_err(|e| Error::Device { reason: e.to_string() })?;
        logits.truncate(self.generator.tokenizer.vocab_size());
        let usable = logits.iter().all(|logit| *logit < f32::INFINITY) && logits.iter().any(|logit| logit.is_finite());
        if usable { Ok(logits) } else { Err(Error::NotFinite { position: history.len() }) }
    }
}

/// Returns how many of the latest tokens stay in a full window.
fn kept_tokens(window: usize, remaining_tokens: usize) -> usize {
    // The first of the remaining tokens comes from what is kept; only those after it need a place.
    window - remaining_tokens.saturating_sub(1).min(window / 2)
}

/// Returns a number from 0 up to but not 1, with 53 random bits.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_keeps_what_leaves_room_and_never_less_than_half() {
        for (window, remaining, expected) in [(8, 1, 8), (8, 2, 7), (8, 5, 4), (8, 100, 4), (7, 100, 4), (1, 9, 1)] {
            assert_eq!(kept_tokens(window, remaining), expected, "{window} {remaining}");
        }
    }

    #[test]
    fn seeds_give_the_same_numbers_on_every_platform() {
        let numbers = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            [uniform(&mut rng), uniform(&mut rng)]
        };
        assert!(numbers(1).iter().all(|number| (0.0..1.0).contains(number)));
        assert_ne!(numbers(1).map(f64::to_bits), numbers(2).map(f64::to_bits));
        // As drawn on x86-64: the same text must come of the same seed everywhere.
        assert_eq!(numbers(1337).map(f64::to_bits), [0x3fe5_704b_693f_02a5, 0x3fe1_c938_f0cd_5e1e]);
    }

    #[test]
    fn a_generator_can_be_shared_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<Generator>();
    }
}
