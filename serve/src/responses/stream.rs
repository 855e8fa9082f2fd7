//! A streamed response: OpenAI's named events, numbered.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::Event as SseEvent;
use futures::Stream;
use serde_json::{Value, json};

use super::{Answer, Content, Item, part};
use crate::event::Event;
use crate::paced_events::PacedEvents;
use crate::tool_calls::{Part, ToolCall};

/// The events of a response.
pub(super) struct Events {
    answer: Answer,
    worker: PacedEvents,
    /// Whether more may be added to the last item.
    is_open: bool,
    sent: u64,
    ready: VecDeque<SseEvent>,
    is_done: bool,
}

impl Events {
    pub(super) fn new(answer: Answer, worker: PacedEvents) -> Self {
        let ready = VecDeque::new();
        let mut events = Self { answer, worker, is_open: false, sent: 0, ready, is_done: false };
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
            Ok(parts) => parts.into_iter().for_each(|part| self.add(part)),
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
            self.add(Part::Text(String::new()));
        }
        self.close(self.answer.status());
        let kind = if self.answer.is_cut_off() { "response.incomplete" } else { "response.completed" };
        self.send(kind, json!({"response": self.answer.to_json()}));
    }

    fn add(&mut self, part: Part) {
        let last = self.answer.items.last().map(|item| &item.content);
        let begins = match &part {
            Part::Call { .. } => true,
            Part::Text(_) => !matches!(last, Some(Content::Message { .. })),
            Part::Arguments(_) => false,
        };
        if begins {
            self.close("completed");
        }
        let delta = match &part {
            Part::Text(text) => {
                Some(("response.output_text.delta", json!({"content_index": 0, "delta": text, "logprobs": []})))
            }
            Part::Arguments(more) => Some(("response.function_call_arguments.delta", json!({"delta": more}))),
            Part::Call { .. } => None,
        };
        let delta = delta.filter(|(_, delta)| delta["delta"] != "");
        self.answer.add(part);
        if begins {
            self.open();
        }
        if let Some((kind, delta)) = delta {
            self.send_of_item(kind, delta);
        }
    }

    fn open(&mut self) {
        self.is_open = true;
        self.send_item("response.output_item.added", "in_progress");
        if matches!(self.answer.items.last(), Some(Item { content: Content::Message { .. }, .. })) {
            self.send_of_item("response.content_part.added", json!({"content_index": 0, "part": part("")}));
        }
    }

    /// Ends the last item, if more might have been added.
    fn close(&mut self, status: &str) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        match self.answer.items.last().map(|item| &item.content) {
            Some(Content::Message { text }) => {
                let part = part(text);
                let done = json!({"content_index": 0, "text": text, "logprobs": []});
                self.send_of_item("response.output_text.done", done);
                self.send_of_item("response.content_part.done", json!({"content_index": 0, "part": part}));
            }
            Some(Content::Call(ToolCall { name, arguments, .. })) => {
                let done = json!({"name": name, "arguments": arguments});
                self.send_of_item("response.function_call_arguments.done", done);
            }
            None => {}
        }
        self.send_item("response.output_item.done", status);
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
