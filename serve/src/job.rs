//! What a request asks of the worker, and what the worker answers.

use generate::{CompletionOptions, FinishReason};

use crate::api_error::ApiError;
use crate::metrics::Events;

/// The texts that a request asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct Work {
    /// The tokens of the prompts, at least one.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// Texts per prompt.
    pub(crate) n: usize,
    /// How to generate them; text `i` has the seed plus `i`.
    pub(crate) options: CompletionOptions,
}

/// An event of the worker. The channel is closed after the last event.
#[derive(Debug)]
pub(crate) enum Event {
    /// New text.
    Text {
        /// Which text it belongs to.
        index: usize,
        /// The new part of the text.
        text: String,
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
