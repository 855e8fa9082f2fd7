//! What a request asks of the worker, and what the worker answers.

use generate::{CompletionOptions, FinishReason};

use crate::api_error::ApiError;
use crate::metrics::Events;

/// The texts that a request asks for.
#[derive(Debug)]
pub(crate) struct Work {
    /// The tokens of the prompts, at least one.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// Texts per prompt.
    pub(crate) n: usize,
    /// How to generate them; text `i` has the seed plus `i`.
    pub(crate) options: CompletionOptions,
    /// Which log probabilities to compute.
    pub(crate) scoring: Scoring,
}

/// Which log probabilities to compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scoring {
    /// Those of the tokens of a text, with this many of the most likely alternatives.
    pub(crate) alternatives: Option<usize>,
    /// Those of the tokens of the prompts too.
    pub(crate) prompts: bool,
    /// The mean of each text, to choose the best.
    pub(crate) ranks: bool,
}

/// A token with its log probability.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScoredToken {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Where its text begins in the prompt or in the generated text, in characters.
    pub(crate) offset: usize,
    /// Its log probability; none for the first token of a prompt.
    pub(crate) logprob: Option<f32>,
    /// The most likely tokens in its place.
    pub(crate) alternatives: Vec<(Vec<u8>, f32)>,
}

/// An event of the worker. The channel is closed after the last event.
#[derive(Debug)]
pub(crate) enum Event {
    /// The tokens of a text's prompt are scored; before all of its text.
    Prompt {
        /// Which text.
        index: usize,
        /// The tokens of its prompt.
        tokens: Vec<ScoredToken>,
    },
    /// New text.
    Text {
        /// Which text it belongs to.
        index: usize,
        /// The new part of the text.
        text: String,
        /// The tokens that begin in it, if they are scored.
        tokens: Vec<ScoredToken>,
    },
    /// A text is finished.
    Finished {
        /// Which text.
        index: usize,
        /// Tokens of the prompt; 0 for all but the first text of a prompt.
        prompt_tokens: usize,
        /// Tokens of the text.
        completion_tokens: usize,
        /// Why it ended.
        reason: FinishReason,
        /// The mean log probability of its tokens, if they are scored; 0 without tokens.
        mean_logprob: f64,
    },
    /// Generation failed; this is the last event.
    Failed(ApiError),
}

/// A request that waits or runs.
pub(crate) struct Job {
    /// What it asks for.
    pub(crate) work: Work,
    /// Where its texts go; closed when the client has gone.
    pub(crate) events: Events,
}
