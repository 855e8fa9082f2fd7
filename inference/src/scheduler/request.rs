//! What goes into the scheduler and what comes out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::guidance::Guidance;
use crate::{Adapter, Constraint, Error, InvalidSetting, RowResult, Sampling, StopTokens};

/// The settings of a scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The maximum number of tokens that one step reads, over all sequences. Default: 512.
    pub max_step_tokens: usize,
    /// The maximum number of sequences that run at the same time, at most `max_step_tokens`; a guided sample is two.
    /// Default: 32.
    pub max_sequences: usize,
    /// Whether a sequence reuses the blocks of earlier ones that begin with the same tokens. Default: true.
    pub reuse_prefixes: bool,
    /// The maximum number of tokens that speculative decoding proposes per sequence and step; 0 for none. Proposals are
    /// those of the draft model, if there is one, else what followed the same few tokens earlier in the sequence. They
    /// change the speed, never the tokens. Guided samples have none. Default: 0.
    pub draft_tokens: usize,
    /// Samples only tokens below this, the tokenizer's vocabulary size; none for all of the model's. Default: none.
    pub vocab_size: Option<usize>,
}

/// A prompt to continue.
#[derive(Debug, Clone)]
pub struct Request {
    /// The tokens of the prompt, at least one.
    pub prompt: Vec<u32>,
    /// The maximum number of tokens of each sample.
    pub max_tokens: usize,
    /// How many samples to draw. Sample `i` has the seed plus `i`. Default: 1.
    pub n: usize,
    /// How tokens are chosen. Default: the most likely.
    pub sampling: Sampling,
    /// Classifier-free guidance, before everything else that changes logits. Not with `scores_prompt`, `embeds` or
    /// `attention_layer`. Default: none.
    pub guidance: Option<Guidance>,
    /// Numbers added to the logits of tokens before constraints, penalties and filters. Default: none.
    pub logit_bias: Vec<(u32, f32)>,
    /// What each sample must obey. A sample ends where nothing may follow. Default: none.
    pub constraint: Option<Box<dyn Constraint>>,
    /// A sample ends after the first of these. Default: none.
    pub stop_tokens: StopTokens,
    /// Requests of higher priority come first; within one priority, the first to arrive. Default: 0.
    pub priority: i32,
    /// Blocks are shared only between requests of one tenant with the same adapter. Default: empty, a tenant like any
    /// other.
    pub tenant: String,
    /// The adapter that the model is used with, loaded for this model. Default: none.
    pub adapter: Option<Arc<Adapter>>,
    /// Whether the logits of every sampled token are handed out: those of the model after the prompt, also of guided
    /// samples. Default: false.
    pub wants_logits: bool,
    /// Whether the logits after every token of the prompt are handed out; the prompt must then fit in the model's
    /// context. Default: false.
    pub scores_prompt: bool,
    /// Whether the prompt is embedded instead of continued: the request has one sample of no tokens, and the result is
    /// an [`Event::Embedding`]. The prompt must fit in the model's context. Default: false.
    pub embeds: bool,
    /// The layer, from 0, whose weights of attention are wanted for the last token of the prompt, instead of a
    /// continuation: the request has one sample of no tokens, and the result is an [`Event::Attention`]. The prompt
    /// must fit in the model's context. Default: none.
    pub attention_layer: Option<usize>,
}

/// The number of a request, in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What happened in a step.
#[derive(Debug)]
pub enum Event {
    /// A sample has a new token. Stop tokens are included.
    Token {
        /// The request.
        request: RequestId,
        /// Which of its samples.
        sample: usize,
        /// The token.
        token: u32,
    },
    /// The embedding of a prompt: the mean over its tokens of the hidden states after the last norm, divided by its
    /// Euclidean length.
    Embedding {
        /// The request.
        request: RequestId,
        /// The D elements.
        embedding: Vec<f32>,
    },
    /// The weights of attention in a layer: what each of its query heads takes the mean of the values with at the last
    /// token of a prompt.
    Attention {
        /// The request.
        request: RequestId,
        /// H T numbers from 0 to 1, `[H, T]` for a prompt of T tokens; the T of a head sum to 1.
        weights: Vec<f32>,
    },
    /// A sample has ended.
    Finished {
        /// The request.
        request: RequestId,
        /// Which of its samples.
        sample: usize,
        /// Why it ended.
        reason: FinishReason,
    },
    /// A sample cannot be continued; the others of its request can.
    Failed {
        /// The request.
        request: RequestId,
        /// Which of its samples.
        sample: usize,
        /// The cause.
        error: Error,
    },
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// A stop token, a stop string, or the end of what a constraint allows; the end of a prompt that is not continued.
    Stop,
    /// The maximum number of tokens was reached.
    Length,
    /// The caller cancelled.
    Cancelled,
}

/// The logits after a token, as the model computed them.
#[derive(Debug, Clone, Copy)]
pub struct RowLogits<'a> {
    /// The request.
    pub request: RequestId,
    /// The sample whose token was chosen from them; none for the prompt.
    pub sample: Option<usize>,
    /// The position of the token that follows, in the prompt and the sample.
    pub position: usize,
    /// The token that follows; none after the last token of the prompt.
    pub next: Option<u32>,
    /// One logit per token of the vocabulary.
    pub logits: &'a [f32],
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_step_tokens: 512, max_sequences: 32, reuse_prefixes: true, draft_tokens: 0, vocab_size: None }
    }
}

impl Settings {
    pub(super) fn validate(&self, model_vocab_size: usize) -> Result<(), InvalidSetting> {
        let invalid = |name, expected, found: usize| Err(InvalidSetting { name, expected, found: found.to_string() });
        if self.max_sequences == 0 {
            return invalid("max_sequences", "at least 1", 0);
        }
        if self.max_step_tokens < self.max_sequences {
            return invalid("max_step_tokens", "at least max_sequences", self.max_step_tokens);
        }
        match self.vocab_size {
            Some(size) if size == 0 || size > model_vocab_size => {
                invalid("vocab_size", "at least 1 and at most the model's", size)
            }
            _ => Ok(()),
        }
    }
}

impl Request {
    /// Returns a request for the most likely continuation.
    pub fn new(prompt: Vec<u32>, max_tokens: usize) -> Self {
        Self {
            prompt,
            max_tokens,
            n: 1,
            sampling: Sampling::greedy(),
            guidance: None,
            logit_bias: Vec::new(),
            constraint: None,
            stop_tokens: StopTokens::default(),
            priority: 0,
            tenant: String::new(),
            adapter: None,
            wants_logits: false,
            scores_prompt: false,
            embeds: false,
            attention_layer: None,
        }
    }

    /// Returns a request for the embedding of a prompt.
    pub fn embedding(prompt: Vec<u32>) -> Self {
        Self { embeds: true, ..Self::new(prompt, 0) }
    }

    /// Returns a request for the weights of attention of a layer at the last token of a prompt.
    pub fn attention(prompt: Vec<u32>, layer: usize) -> Self {
        Self { attention_layer: Some(layer), ..Self::new(prompt, 0) }
    }

    /// Returns what the rows of the request get.
    pub(super) fn result(&self) -> RowResult {
        match self.attention_layer {
            Some(layer) => RowResult::Attention { layer },
            None if self.embeds => RowResult::HiddenState,
            None => RowResult::Logits,
        }
    }
}

impl FinishReason {
    /// Returns the name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "request {}", self.0)
    }
}
