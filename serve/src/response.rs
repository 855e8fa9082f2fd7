//! Answers in OpenAI's shapes.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::logprobs::{ChatLogprobs, CompletionLogprobs};
use crate::random::random;
use crate::tool_calls::ToolCall;

/// The usage field as OpenAI defines it: absent, null and present are three different cases.
#[allow(clippy::option_option)]
pub(crate) type MaybeUsage = Option<Option<Usage>>;

/// A completion, or one chunk of a streamed one.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct CompletionBody {
    /// The completion's id, the same in all of its chunks.
    #[schema(example = "cmpl-5f2e6b0c9a1d4e37")]
    pub(crate) id: String,
    /// Always `text_completion`.
    #[schema(example = "text_completion")]
    pub(crate) object: &'static str,
    /// Time of the request, in seconds since 1970.
    pub(crate) created: u64,
    /// The model's name.
    pub(crate) model: String,
    /// The texts, `n` per prompt; one in a chunk, none in the chunk that holds the usage.
    pub(crate) choices: Vec<Choice>,
    /// Token counts. In chunks only if `stream_options.include_usage` is set: then null in all but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    pub(crate) usage: MaybeUsage,
}

/// One text.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Choice {
    /// The text, or the new part of it in a chunk.
    pub(crate) text: String,
    /// The index of the text: the index of its prompt times `n`, plus its index among that prompt's texts.
    pub(crate) index: usize,
    /// The tokens of the text, or of the new part, with their log probabilities; null unless asked for.
    #[schema(required = true)]
    pub(crate) logprobs: Option<CompletionLogprobs>,
    /// The tokens of the prompt, only with `return_token_ids`; of a stream in the first chunk of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_token_ids: Option<Vec<u32>>,
    /// The tokens of the text after the prompt, or of the new part, only with `return_token_ids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_ids: Option<Vec<u32>>,
    /// `stop` (a stop token or stop string) or `length` (`max_tokens`); null until the text is finished.
    pub(crate) finish_reason: Option<&'static str>,
}

/// Token counts.
#[allow(clippy::struct_field_names)] // OpenAI's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Usage {
    /// Tokens of the prompts.
    pub(crate) prompt_tokens: usize,
    /// Tokens of the texts.
    pub(crate) completion_tokens: usize,
    /// The sum of both.
    pub(crate) total_tokens: usize,
}

/// An answer in a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ChatBody {
    /// The answer's id.
    #[schema(example = "chatcmpl-5f2e6b0c9a1d4e37")]
    pub(crate) id: String,
    /// Always `chat.completion`.
    #[schema(example = "chat.completion")]
    pub(crate) object: &'static str,
    /// Time of the request, in seconds since 1970.
    pub(crate) created: u64,
    /// The model's name.
    pub(crate) model: String,
    /// The answers, `n` of them.
    pub(crate) choices: Vec<ChatChoice>,
    /// The tokens of the prompt, only with `return_token_ids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_token_ids: Option<Vec<u32>>,
    /// Token counts.
    pub(crate) usage: Usage,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    /// The index of the answer.
    pub(crate) index: usize,
    /// The assistant's message.
    pub(crate) message: AssistantMessage,
    /// The tokens of the answer with their log probabilities; null unless asked for.
    #[schema(required = true)]
    pub(crate) logprobs: Option<ChatLogprobs>,
    /// The tokens of the answer, only with `return_token_ids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_ids: Option<Vec<u32>>,
    /// `stop` (the end of the turn or a stop string), `tool_calls` (the same, and there are calls) or `length` (the
    /// maximum number of tokens).
    pub(crate) finish_reason: &'static str,
}

/// The assistant's message.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct AssistantMessage {
    /// Always `assistant`.
    pub(crate) role: &'static str,
    /// The text; null if there are only calls of tools.
    #[schema(required = true)]
    pub(crate) content: Option<String>,
    /// Always null.
    pub(crate) refusal: Value,
    /// Calls of tools, if there are any, read in the notation that the model's chat template shows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<Call>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Call {
    /// The call's id.
    #[schema(example = "call_5f2e6b0c9a1d4e37")]
    pub(crate) id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The function.
    pub(crate) function: CalledFunction,
}

/// A function that is called.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct CalledFunction {
    /// Its name.
    pub(crate) name: String,
    /// Its arguments as the model has written them: JSON, if it makes no mistake and is not cut off.
    pub(crate) arguments: String,
}

/// A part of a call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct CallDelta {
    /// The index of the call in the message.
    pub(crate) index: usize,
    /// The call's id, in its first part.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "call_5f2e6b0c9a1d4e37")]
    pub(crate) id: Option<String>,
    /// `function`, in the call's first part.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'static str>,
    /// The function.
    pub(crate) function: FunctionDelta,
}

/// A part of a function that is called.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct FunctionDelta {
    /// Its name, in the call's first part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The new part of its arguments; empty in the call's first part.
    pub(crate) arguments: String,
}

/// One chunk of a streamed answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ChatChunk {
    /// The answer's id, the same in all of its chunks.
    #[schema(example = "chatcmpl-5f2e6b0c9a1d4e37")]
    pub(crate) id: String,
    /// Always `chat.completion.chunk`.
    #[schema(example = "chat.completion.chunk")]
    pub(crate) object: &'static str,
    /// Time of the request, in seconds since 1970.
    pub(crate) created: u64,
    /// The model's name.
    pub(crate) model: String,
    /// One part of one answer; none in the chunk that holds the usage.
    pub(crate) choices: Vec<ChunkChoice>,
    /// The tokens of the prompt, only with `return_token_ids` and in the first chunk of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_token_ids: Option<Vec<u32>>,
    /// Token counts, only if `stream_options.include_usage` is set: then null in all but the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    pub(crate) usage: MaybeUsage,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ChunkChoice {
    /// The index of the answer.
    pub(crate) index: usize,
    /// What is new.
    pub(crate) delta: Delta,
    /// The tokens of the new part with their log probabilities; null unless asked for.
    #[schema(required = true)]
    pub(crate) logprobs: Option<ChatLogprobs>,
    /// The tokens of the new part, only with `return_token_ids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_ids: Option<Vec<u32>>,
    /// As in a whole answer; null until the answer is finished.
    pub(crate) finish_reason: Option<&'static str>,
}

/// The new part of a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Delta {
    /// `assistant`, in the first chunk of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    /// New text; absent in the last chunk of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    /// Parts of calls of tools: first the id and the name of a call, then its arguments as they come.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<CallDelta>,
}

/// Fields that all chunks of an answer share.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    id: String,
    created: u64,
    model: String,
}

impl Metadata {
    /// Returns the metadata of a new answer; its id begins with `prefix`.
    pub(crate) fn new(prefix: &str, model: &str) -> Self {
        let id = format!("{prefix}-{:016x}", random());
        Self { id, created: seconds_since_1970(SystemTime::now()), model: model.to_owned() }
    }

    /// Returns a completion, or a chunk of one.
    pub(crate) fn completion(&self, choices: Vec<Choice>, usage: MaybeUsage) -> CompletionBody {
        CompletionBody {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
        }
    }

    /// Returns an answer in a conversation.
    pub(crate) fn chat(&self, choices: Vec<ChatChoice>, usage: Usage) -> ChatBody {
        ChatBody {
            id: self.id.clone(),
            object: "chat.completion",
            created: self.created,
            model: self.model.clone(),
            choices,
            prompt_token_ids: None,
            usage,
        }
    }

    /// Returns a chunk of an answer in a conversation.
    pub(crate) fn chat_chunk(&self, choices: Vec<ChunkChoice>, usage: MaybeUsage) -> ChatChunk {
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.model.clone(),
            choices,
            prompt_token_ids: None,
            usage,
        }
    }
}

impl Choice {
    /// Returns a text; finished if there is a reason.
    pub(crate) fn new(
        index: usize,
        text: String,
        logprobs: Option<CompletionLogprobs>,
        finish_reason: Option<&'static str>,
    ) -> Self {
        Self { text, index, logprobs, prompt_token_ids: None, token_ids: None, finish_reason }
    }
}

impl ChatChoice {
    /// Returns a finished answer.
    pub(crate) fn new(
        index: usize,
        content: String,
        calls: Vec<ToolCall>,
        logprobs: Option<ChatLogprobs>,
        finish_reason: &'static str,
    ) -> Self {
        let tool_calls: Vec<Call> = calls.into_iter().map(Call::new).collect();
        let content = Some(content).filter(|content| tool_calls.is_empty() || !content.is_empty());
        let message = AssistantMessage { role: ASSISTANT, content, refusal: Value::Null, tool_calls };
        Self { index, message, logprobs, token_ids: None, finish_reason }
    }
}

impl ChunkChoice {
    /// Returns a part of an answer; its last if there is a reason.
    pub(crate) fn new(
        index: usize,
        delta: Delta,
        logprobs: Option<ChatLogprobs>,
        finish_reason: Option<&'static str>,
    ) -> Self {
        Self { index, delta, logprobs, token_ids: None, finish_reason }
    }
}

impl Delta {
    /// Returns the start of an answer.
    pub(crate) fn start() -> Self {
        Self { role: Some(ASSISTANT), content: Some(String::new()), tool_calls: Vec::new() }
    }

    /// Returns new text.
    pub(crate) fn text(content: String) -> Self {
        Self { content: Some(content), ..Self::default() }
    }

    /// Returns the beginning of a call, the `index`th of its message.
    pub(crate) fn call(index: usize, id: String, name: String) -> Self {
        let function = FunctionDelta { name: Some(name), arguments: String::new() };
        let call = CallDelta { index, id: Some(id), kind: Some(FUNCTION), function };
        Self { tool_calls: vec![call], ..Self::default() }
    }

    /// Returns more of the arguments of the `index`th call of a message.
    pub(crate) fn arguments(index: usize, arguments: String) -> Self {
        let call = CallDelta { index, id: None, kind: None, function: FunctionDelta { name: None, arguments } };
        Self { tool_calls: vec![call], ..Self::default() }
    }
}

impl Call {
    fn new(call: ToolCall) -> Self {
        let ToolCall { id, name, arguments } = call;
        Self { id, kind: FUNCTION, function: CalledFunction { name, arguments } }
    }
}

/// The type of every call.
const FUNCTION: &str = "function";

/// The role of every answer.
const ASSISTANT: &str = "assistant";

impl Usage {
    /// Adds the tokens of one text. A prompt counts once, however many texts it has.
    pub(crate) fn add(&mut self, prompt_tokens: usize, completion_tokens: usize) {
        self.prompt_tokens += prompt_tokens;
        self.completion_tokens += completion_tokens;
        self.total_tokens += prompt_tokens + completion_tokens;
    }
}

/// The list of models.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// Always `list`.
    pub(crate) object: &'static str,
    /// The models that are loaded.
    pub(crate) data: Vec<ModelEntry>,
}

/// An entry of the list of models.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ModelEntry {
    /// The model's name.
    #[schema(example = "pipeline")]
    pub(crate) id: String,
    /// Always `model`.
    pub(crate) object: &'static str,
    /// Time at which the weights were written, in seconds since 1970.
    pub(crate) created: u64,
    /// Always `pipeline`.
    pub(crate) owned_by: &'static str,
    /// The name of the model whose weights it has: its own, or that of the model that it is an adapter of.
    pub(crate) root: String,
    /// The name of the model that it is an adapter of; null if it is none.
    #[schema(required = true)]
    pub(crate) parent: Option<String>,
    /// The context length in tokens.
    pub(crate) max_model_len: usize,
}

/// A description of the model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ServedModel {
    /// The model's name.
    pub(crate) id: String,
    /// The model family, such as `qwen3` or `gpt2`.
    pub(crate) family: &'static str,
    /// The number of parameters.
    pub(crate) parameters: u64,
    /// The context length in tokens.
    pub(crate) context_length: usize,
    /// The number of tokens in the vocabulary.
    pub(crate) vocab_size: usize,
    /// Whether the model has a chat template, which `/v1/chat/completions` needs.
    pub(crate) chat: bool,
    /// Whether texts can be traced to its training data at `/trace`.
    pub(crate) trace: bool,
    /// The device.
    pub(crate) device: String,
    /// The name of the model that it is an adapter of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
}

/// The load of a model's worker, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(crate) struct Load {
    /// Requests being answered.
    pub(crate) running: usize,
    /// Requests in the queue.
    pub(crate) waiting: usize,
    /// The maximum number of requests in the queue.
    pub(crate) max_queue: usize,
}

/// Returns a Unix timestamp.
pub(crate) fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs())
}
