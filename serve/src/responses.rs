//! OpenAI's `/v1/responses`, as far as its clients need for text: a request becomes one of `/v1/chat/completions`, and
//! the answer an item `message` with one part `output_text`. Nothing is stored between requests.

mod request;
mod stream;

use std::time::SystemTime;

use axum::Json;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use generate::FinishReason;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::answer::KEEP_ALIVE;
use crate::api_error::ApiError;
use crate::event::Event;
use crate::response::{random, seconds_since_1970};
pub(crate) use request::{ResponsesRequest, renamed};

/// What a response repeats of its request.
#[derive(Debug)]
pub(crate) struct Echo {
    model: String,
    instructions: Option<String>,
    max_output_tokens: Option<i64>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    metadata: Map<String, Value>,
}

/// A response that is being made.
struct Answer {
    id: String,
    message_id: String,
    created: u64,
    echo: Echo,
    text: String,
    finished: Option<Finished>,
}

#[derive(Clone, Copy)]
struct Finished {
    input_tokens: usize,
    output_tokens: usize,
    reason: FinishReason,
}

/// Answers from the events of the worker.
///
/// # Errors
/// Returns an error if generation fails before a whole answer.
pub(crate) async fn answer(
    echo: Echo,
    is_streamed: bool,
    mut events: UnboundedReceiver<Event>,
) -> Result<Response, ApiError> {
    let mut answer = Answer {
        id: format!("resp_{:016x}", random()),
        message_id: format!("msg_{:016x}", random()),
        created: seconds_since_1970(SystemTime::now()),
        echo,
        text: String::new(),
        finished: None,
    };
    if is_streamed {
        let stream = stream::Events::new(answer, events).into_stream();
        return Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response());
    }
    while let Some(event) = events.recv().await {
        answer.add(event)?;
    }
    Ok(Json(answer.to_json()).into_response())
}

impl Answer {
    /// Adds an event and returns the new text.
    fn add(&mut self, event: Event) -> Result<String, ApiError> {
        match event {
            Event::Prompt { .. } => Ok(String::new()),
            Event::Text { text, .. } => {
                self.text += &text;
                Ok(text)
            }
            Event::Finished { prompt_tokens, completion_tokens, reason, .. } => {
                let finished = Finished { input_tokens: prompt_tokens, output_tokens: completion_tokens, reason };
                self.finished = Some(finished);
                Ok(String::new())
            }
            Event::Failed(error) => Err(error),
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

    fn part(&self) -> Value {
        json!({"type": "output_text", "text": self.text, "annotations": [], "logprobs": []})
    }

    fn message(&self) -> Value {
        let content = if self.finished.is_some() { json!([self.part()]) } else { json!([]) };
        json!({
            "id": self.message_id,
            "type": "message",
            "status": self.status(),
            "role": "assistant",
            "content": content,
        })
    }

    fn to_json(&self) -> Value {
        let Echo { model, instructions, max_output_tokens, temperature, top_p, metadata } = &self.echo;
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
            "output": if self.finished.is_some() { json!([self.message()]) } else { json!([]) },
            "parallel_tool_calls": false,
            "previous_response_id": null,
            "store": false,
            "temperature": temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": top_p,
            "truncation": "disabled",
            "usage": usage,
            "metadata": metadata,
        })
    }
}
