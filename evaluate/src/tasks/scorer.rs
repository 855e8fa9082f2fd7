//! What answers the requests of tasks: a model on this machine, or one behind an HTTP address.

mod http;
mod local;

pub use http::HttpModel;
pub(crate) use local::TextScore;
pub use local::{LocalModel, TextLoss};

use artifact::Digest;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Error;

/// A request to a model.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskRequest {
    /// How likely a text is after another.
    Likelihood {
        /// The text before.
        context: String,
        /// The text to score.
        continuation: String,
    },
    /// What the model writes after a text.
    Generate {
        /// The text before.
        context: String,
        /// The written text ends before the first of these.
        until: Vec<String>,
        /// The maximum number of tokens.
        max_tokens: usize,
        /// How tokens are drawn; None for the most likely ones.
        sampling: Option<TaskSampling>,
    },
}

/// How the tokens of a text are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TaskSampling {
    /// Divides the logits.
    pub temperature: f32,
    /// The sum of the probabilities of the most likely tokens that are drawn from.
    pub top_p: f32,
    /// The seed of the draws.
    pub seed: u64,
}

/// A model's answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TaskResponse {
    /// To [`TaskRequest::Likelihood`].
    Likelihood {
        /// The sum of the log probabilities of the continuation's tokens, in nats.
        log_likelihood: f64,
        /// Whether greedy decoding writes it.
        is_greedy: bool,
    },
    /// To [`TaskRequest::Generate`].
    Text {
        /// The text.
        text: String,
    },
}

/// A model that answers requests.
pub trait Scorer {
    /// Answers requests in any order, and reports each answer with the index of its request; `on_response` cancels by
    /// returning false.
    ///
    /// # Errors
    /// Returns an error if the model fails or does not accept a request; [`Error::Interrupted`] if cancelled.
    fn answer(
        &mut self,
        requests: &[TaskRequest],
        on_response: &mut dyn FnMut(usize, TaskResponse) -> bool,
    ) -> Result<(), Error>;
}

impl TaskRequest {
    /// Returns the digest by which an answer is cached.
    pub(super) fn digest(&self) -> Digest {
        Digest::of_json(&match self {
            Self::Likelihood { context, continuation } => json!([context, continuation]),
            Self::Generate { context, until, max_tokens, sampling: None } => json!([context, until, max_tokens]),
            Self::Generate { context, until, max_tokens, sampling } => json!([context, until, max_tokens, sampling]),
        })
    }
}
