//! A streamed response: OpenAI's named events, numbered.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::Event as SseEvent;
use futures::Stream;
use serde_json::{Value, json};

use super::{Answer, Content, Item, part};
use crate::event::Event;
use crate::paced_events::PacedEvents;
use crate::tool_calls::ToolCall;

/// The events of a response.
pub(super) struct Events {
    answer: Answer,
    worker: PacedEvents,
    /// Whether the last item is a message to which text may be added.
    is_message_open: bool,
    sent: u64,
    ready: VecDeque<SseEvent>,
    is_done: bool,
}

impl Events {
    pub(super) fn new(answer: Answer, worker: PacedEvents) -> Self {
        let ready = VecDeque::new();
        let mut events = Self { answer, worker, is_message_open: false, sent: 0, ready, is_done: false };
        for kind in ["response.created", "response.in_progress"] {
            events.send(kind, json!({"response": events.answer.to_json()}));
        }
        events
    }

    /// Returns the stream. Dropping it, as the server does when the client disconnects, cancels the generation.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<SseEvent, Infallible>> {
        futures::stream::unfold(self, async |mut events| {
            loop {
                if let Some(event) = events.ready.pop_front() {
                    return Some((Ok(event), events));
                }
                if events.is_done {
                    return None;
                }
                match events.worker.next().await {
                    Some(event) => events.convert(event),
                    None => events.end(),
                }
            }
        })
    }

    fn convert(&mut self, event: Event) {
        match self.answer.read(event) {
            Ok((text, calls)) => {
                if !text.is_empty() {
                    self.add_text(&text);
                }
                for call in calls {
                    self.add_call(call);
                }
            }
            Err(error) => {
                let detail = error.body().error;
                self.send("error", json!({"code": detail.code, "message": detail.message, "param": detail.param}));
                self.is_done = true;
            }
        }
    }

    fn end(&mut self) {
        self.is_done = true;
        if self.answer.items.is_empty() {
            self.open_message();
        }
        self.close_message(self.answer.status());
        let kind = if self.answer.is_cut_off() { "response.incomplete" } else { "response.completed" };
        self.send(kind, json!({"response": self.answer.to_json()}));
    }

    fn add_text(&mut self, text: &str) {
        if !self.is_message_open {
            self.open_message();
        }
        self.answer.add_text(text);
        self.send_of_item("response.output_text.delta", json!({"content_index": 0, "delta": text, "logprobs": []}));
    }

    fn open_message(&mut self) {
        self.is_message_open = true;
        self.answer.items.push(Item::message(String::new()));
        self.send_item("response.output_item.added", "in_progress");
        self.send_of_item("response.content_part.added", json!({"content_index": 0, "part": part("")}));
    }

    fn close_message(&mut self, status: &str) {
        if !std::mem::take(&mut self.is_message_open) {
            return;
        }
        let Some(Item { content: Content::Message { text }, .. }) = self.answer.items.last() else { return };
        let part = part(text);
        let done = json!({"content_index": 0, "text": text, "logprobs": []});
        self.send_of_item("response.output_text.done", done);
        self.send_of_item("response.content_part.done", json!({"content_index": 0, "part": part}));
        self.send_item("response.output_item.done", status);
    }

    fn add_call(&mut self, call: ToolCall) {
        self.close_message("completed");
        let (name, arguments) = (call.name.clone(), call.arguments.clone());
        self.answer.items.push(Item::call(call));
        self.send_item("response.output_item.added", "in_progress");
        self.send_of_item("response.function_call_arguments.delta", json!({"delta": arguments}));
        let done = json!({"name": name, "arguments": arguments});
        self.send_of_item("response.function_call_arguments.done", done);
        self.send_item("response.output_item.done", "completed");
    }

    /// Sends the last item.
    fn send_item(&mut self, kind: &'static str, status: &str) {
        if let Some(item) = self.answer.items.last() {
            let (index, item) = (self.answer.items.len() - 1, item.to_json(status));
            self.send(kind, json!({"output_index": index, "item": item}));
        }
    }

    /// Sends an event about the last item.
    fn send_of_item(&mut self, kind: &'static str, mut body: Value) {
        if let Some(item) = self.answer.items.last() {
            body["item_id"] = item.id.as_str().into();
            body["output_index"] = (self.answer.items.len() - 1).into();
            self.send(kind, body);
        }
    }

    fn send(&mut self, kind: &'static str, mut body: Value) {
        body["type"] = kind.into();
        body["sequence_number"] = self.sent.into();
        self.sent += 1;
        self.ready.push_back(SseEvent::default().event(kind).data(body.to_string()));
    }
}
