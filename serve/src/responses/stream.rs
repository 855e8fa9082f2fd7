//! A streamed response: OpenAI's named events, numbered.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::Event as SseEvent;
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Answer;
use crate::event::Event;

/// The events of a response.
pub(super) struct Events {
    answer: Answer,
    worker: UnboundedReceiver<Event>,
    sent: u64,
    ready: VecDeque<SseEvent>,
    is_done: bool,
}

impl Events {
    pub(super) fn new(answer: Answer, worker: UnboundedReceiver<Event>) -> Self {
        let mut events = Self { answer, worker, sent: 0, ready: VecDeque::new(), is_done: false };
        for kind in ["response.created", "response.in_progress"] {
            events.send(kind, json!({"response": events.answer.to_json()}));
        }
        let item = events.answer.message();
        events.send("response.output_item.added", json!({"output_index": 0, "item": item}));
        let part = events.answer.part();
        events.send_part("response.content_part.added", "part", part);
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
                match events.worker.recv().await {
                    Some(event) => events.convert(event),
                    None => events.end(),
                }
            }
        })
    }

    fn convert(&mut self, event: Event) {
        match self.answer.add(event) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => self.send_part("response.output_text.delta", "delta", text.into()),
            Err(error) => {
                let detail = error.body().error;
                self.send("error", json!({"code": detail.code, "message": detail.message, "param": detail.param}));
                self.is_done = true;
            }
        }
    }

    fn end(&mut self) {
        self.is_done = true;
        let (text, part) = (self.answer.text.clone(), self.answer.part());
        self.send_part("response.output_text.done", "text", text.into());
        self.send_part("response.content_part.done", "part", part);
        let item = self.answer.message();
        self.send("response.output_item.done", json!({"output_index": 0, "item": item}));
        let kind = if self.answer.is_cut_off() { "response.incomplete" } else { "response.completed" };
        self.send(kind, json!({"response": self.answer.to_json()}));
    }

    /// Sends an event about the only part of the only item.
    fn send_part(&mut self, kind: &'static str, name: &str, value: Value) {
        let mut body = json!({"item_id": self.answer.message_id, "output_index": 0, "content_index": 0});
        body[name] = value;
        if name != "part" {
            body["logprobs"] = json!([]);
        }
        self.send(kind, body);
    }

    fn send(&mut self, kind: &'static str, mut body: Value) {
        body["type"] = kind.into();
        body["sequence_number"] = self.sent.into();
        self.sent += 1;
        self.ready.push_back(SseEvent::default().event(kind).data(body.to_string()));
    }
}
