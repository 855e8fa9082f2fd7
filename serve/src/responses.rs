//! OpenAI's `/v1/responses`, as far as its clients need for text and tools: a request becomes one of
//! `/v1/chat/completions`, and the answer items of the types `message` and `function_call`. Nothing is stored between
//! requests.

mod input;
mod request;
mod stream;

use std::time::SystemTime;

use axum::Json;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use generate::FinishReason;
use serde_json::{Value, json};

use crate::answer::KEEP_ALIVE;
use crate::api_error::ApiError;
use crate::event::Event;
use crate::paced_events::PacedEvents;
use crate::random::random;
use crate::response::seconds_since_1970;
use crate::tool_calls::{CallFilter, Part, ToolCall, Tools};
pub(crate) use request::{Echo, ResponsesRequest};

/// A response that is being made.
struct Answer {
    id: String,
    created: u64,
    echo: Echo,
    /// Takes the calls of tools out of the text.
    filter: Option<CallFilter>,
    items: Vec<Item>,
    finished: Option<Finished>,
}

/// An item of the output.
struct Item {
    id: String,
    content: Content,
}

enum Content {
    Message { text: String },
    Call(ToolCall),
}

#[derive(Clone, Copy)]
struct Finished {
    input_tokens: usize,
    output_tokens: usize,
    reason: FinishReason,
}

/// Answers from the events of the worker; `tools` are those that the answer may call.
///
/// # Errors
/// Returns an error if generation fails before a whole answer.
pub(crate) async fn answer(
    echo: Echo,
    tools: Option<Tools>,
    is_streamed: bool,
    events: PacedEvents,
) -> Result<Response, ApiError> {
    let mut answer = Answer {
        id: format!("resp_{:016x}", random()),
        created: seconds_since_1970(SystemTime::now()),
        echo,
        filter: tools.map(CallFilter::new),
        items: Vec::new(),
        finished: None,
    };
    if is_streamed {
        let stream = stream::Events::new(answer, events).into_stream();
        return Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response());
    }
    for event in events.all().await {
        for part in answer.read(event)? {
            answer.add(part);
        }
    }
    answer.complete();
    Ok(Json(answer.to_json()).into_response())
}

impl Answer {
    /// Reads an event, and returns the parts that are certain with it.
    fn read(&mut self, event: Event) -> Result<Vec<Part>, ApiError> {
        match event {
            Event::Prompt { .. } | Event::Embedding { .. } | Event::Attention { .. } => Ok(Vec::new()),
            Event::Text { text, .. } => Ok(match &mut self.filter {
                Some(filter) => filter.push(&text),
                None => vec![Part::Text(text)],
            }),
            Event::Finished { prompt_tokens, completion_tokens, reason, .. } => {
                let finished = Finished { input_tokens: prompt_tokens, output_tokens: completion_tokens, reason };
                self.finished = Some(finished);
                Ok(self.filter.take().map(CallFilter::finish).unwrap_or_default())
            }
            Event::Failed(error) => Err(error),
        }
    }

    /// Adds a part to the item at the end, or as a new one.
    fn add(&mut self, part: Part) {
        match (part, self.items.last_mut().map(|item| &mut item.content)) {
            (Part::Text(more), Some(Content::Message { text })) => *text += &more,
            (Part::Text(text), _) => self.items.push(Item::message(text)),
            (Part::Arguments(more), Some(Content::Call(call))) => call.arguments += &more,
            (Part::Arguments(_), _) => {}
            (Part::Call { id, name }, _) => {
                self.items.push(Item::call(ToolCall { id, name, arguments: String::new() }));
            }
        }
    }

    /// Adds a message without text where there is nothing.
    fn complete(&mut self) {
        if self.items.is_empty() {
            self.items.push(Item::message(String::new()));
        }
    }

    fn is_cut_off(&self) -> bool {
        self.finished.is_some_and(|finished| finished.reason == FinishReason::Length)
    }

    fn status(&self) -> &'static str {
        match self.finished {
            None => "in_progress",
            Some(_) if self.is_cut_off() => "incomplete",
            Some(_) => "completed",
        }
    }

    /// Returns the items; the last one may be cut off.
    fn output(&self) -> Vec<Value> {
        let status = |i: usize| if i + 1 == self.items.len() { self.status() } else { "completed" };
        self.items.iter().enumerate().map(|(i, item)| item.to_json(status(i))).collect()
    }

    fn to_json(&self) -> Value {
        let Echo { model, instructions, max_output_tokens, temperature, top_p, metadata, .. } = &self.echo;
        let usage = self.finished.map(|Finished { input_tokens, output_tokens, .. }| {
            json!({
                "input_tokens": input_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": input_tokens + output_tokens,
            })
        });
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": self.status(),
            "error": null,
            "incomplete_details": self.is_cut_off().then(|| json!({"reason": "max_output_tokens"})),
            "instructions": instructions,
            "max_output_tokens": max_output_tokens,
            "model": model,
            "output": self.output(),
            "parallel_tool_calls": self.echo.parallel_tool_calls,
            "previous_response_id": null,
            "store": false,
            "temperature": temperature,
            "text": {"format": self.echo.format},
            "tool_choice": self.echo.tool_choice,
            "tools": self.echo.tools,
            "top_p": top_p,
            "truncation": "disabled",
            "usage": usage,
            "metadata": metadata,
        })
    }
}

impl Item {
    fn message(text: String) -> Self {
        Self { id: format!("msg_{:016x}", random()), content: Content::Message { text } }
    }

    fn call(call: ToolCall) -> Self {
        Self { id: format!("fc_{:016x}", random()), content: Content::Call(call) }
    }

    /// Returns the item; one in progress without its content.
    fn to_json(&self, status: &str) -> Value {
        let is_in_progress = status == "in_progress";
        match &self.content {
            Content::Message { text } => {
                let content = if is_in_progress { json!([]) } else { json!([part(text)]) };
                json!({
                    "id": self.id, "type": "message", "status": status, "role": "assistant", "content": content,
                })
            }
            Content::Call(ToolCall { id, name, arguments }) => {
                let arguments = if is_in_progress { "" } else { arguments };
                json!({
                    "id": self.id, "type": "function_call", "status": status, "call_id": id, "name": name,
                    "arguments": arguments,
                })
            }
        }
    }
}

/// Returns the part of a message that a text is.
fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
