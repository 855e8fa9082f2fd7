//! Answers in OpenAI's shapes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// The usage as OpenAI has it: absent, null and there are three different things.
#[allow(clippy::option_option)]
pub(crate) type MaybeUsage = Option<Option<Usage>>;

/// A completion, or one piece of it when it is streamed.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct CompletionBody {
    /// The completion's name, the same in all of its pieces.
    #[schema(example = "cmpl-5f2e6b0c9a1d4e37")]
    pub(crate) id: String,
    /// Always `text_completion`.
    #[schema(example = "text_completion")]
    pub(crate) object: &'static str,
    /// When the request came, in seconds since 1970.
    pub(crate) created: u64,
    /// The model that wrote it.
    pub(crate) model: String,
    /// The texts, `n` for each prompt; one in a piece, none in the piece that carries the usage.
    pub(crate) choices: Vec<Choice>,
    /// How many tokens were read and written. In pieces only when `stream_options.include_usage` asks for it: then null in
    /// all but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    pub(crate) usage: MaybeUsage,
}

/// One text.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Choice {
    /// The text, or what is new of it.
    pub(crate) text: String,
    /// Which of the texts this is: the prompt's number times `n`, plus the text's own.
    pub(crate) index: usize,
    /// Always null.
    pub(crate) logprobs: Value,
    /// `stop` (the model ended the text, or a stop string came) or `length` (`max_tokens`); null while it goes on.
    pub(crate) finish_reason: Option<&'static str>,
}

/// How many tokens were read and written.
#[allow(clippy::struct_field_names)] // OpenAI's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Usage {
    /// Tokens of the prompts.
    pub(crate) prompt_tokens: usize,
    /// Tokens of the texts.
    pub(crate) completion_tokens: usize,
    /// Both together.
    pub(crate) total_tokens: usize,
}

/// What all pieces of a completion have in common.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    /// Returns the head of a new completion.
    pub(crate) fn new(model: &str) -> Self {
        let id = format!("cmpl-{:016x}", random());
        Self { id, created: seconds_since_1970(SystemTime::now()), model: model.to_owned() }
    }

    /// Returns a completion, or a piece of one.
    pub(crate) fn with(&self, choices: Vec<Choice>, usage: MaybeUsage) -> CompletionBody {
        CompletionBody {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
        }
    }
}

impl Choice {
    /// Returns a text, finished where there is a reason.
    pub(crate) fn new(index: usize, text: String, finish_reason: Option<&'static str>) -> Self {
        Self { text, index, logprobs: Value::Null, finish_reason }
    }
}

impl Usage {
    /// Adds what one text took. A prompt counts once, however many texts it has.
    pub(crate) fn add(&mut self, prompt_tokens: usize, completion_tokens: usize) {
        self.prompt_tokens += prompt_tokens;
        self.completion_tokens += completion_tokens;
        self.total_tokens += prompt_tokens + completion_tokens;
    }
}

/// The models that are served.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// Always `list`.
    pub(crate) object: &'static str,
    /// The models: one.
    pub(crate) data: Vec<ModelEntry>,
}

/// A model that is served.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ModelEntry {
    /// Its name.
    #[schema(example = "pipeline")]
    pub(crate) id: String,
    /// Always `model`.
    pub(crate) object: &'static str,
    /// When its weights were written, in seconds since 1970.
    pub(crate) created: u64,
    /// Always `pipeline`.
    pub(crate) owned_by: &'static str,
}

/// How the server is.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, or `stopping` with status 503.
    pub(crate) status: &'static str,
    /// The program's version.
    pub(crate) version: &'static str,
    /// What is served.
    pub(crate) model: ModelFacts,
    /// What it is doing.
    pub(crate) requests: Load,
}

/// What a model is.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ModelFacts {
    /// Its name.
    pub(crate) id: String,
    /// Its family: `qwen3` or `gpt2`.
    pub(crate) family: &'static str,
    /// How many numbers it was trained to.
    pub(crate) parameters: u64,
    /// How many tokens it sees at once.
    pub(crate) context_length: usize,
    /// How many tokens it knows.
    pub(crate) vocab_size: usize,
    /// What it computes on.
    pub(crate) device: String,
}

/// What a server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(crate) struct Load {
    /// Requests being answered: 0 or 1.
    pub(crate) running: usize,
    /// Requests that wait.
    pub(crate) waiting: usize,
    /// How many may wait.
    pub(crate) max_queue: usize,
}

/// Returns a number that nobody expects: for ids, and for seeds that were not given.
pub(crate) fn random() -> u64 {
    // The standard library's random hash keys; nothing here is a secret.
    RandomState::new().build_hasher().finish()
}

/// Returns a time as OpenAI writes it.
pub(crate) fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs())
}
