//! What the worker answers.

use generate::FinishReason;

use crate::api_error::ApiError;

/// A token with its log probability.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScoredToken {
    /// Its id.
    pub(crate) id: u32,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Where its text begins in the prompt or in the generated text, in characters.
    pub(crate) offset: usize,
    /// Its log probability; none for the first token of a prompt, and where it is not asked for.
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
        /// The tokens that begin in it, if they are asked for.
        tokens: Vec<ScoredToken>,
    },
    /// A prompt is embedded.
    Embedding {
        /// Which prompt.
        index: usize,
        /// The elements.
        embedding: Vec<f32>,
    },
    /// The weights of attention at the end of a prompt.
    Attention {
        /// Those of each query head, one for each token of the prompt.
        weights: Vec<f32>,
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
