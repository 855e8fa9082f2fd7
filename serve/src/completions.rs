//! Answers of `/v1/completions`: whole, or as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::api_error::ApiError;
use crate::request::{Streaming, ValidRequest};
use crate::response::{Choice, CompletionBody, MaybeUsage, Metadata, Usage};
use crate::worker::{Event, Queue};

/// Interval of keep-alive comments in a stream without text. Proxies commonly time out after 60 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Answers a request.
pub(crate) async fn answer(request: ValidRequest, queue: &Queue, model: &str) -> Result<Response, ApiError> {
    let ValidRequest { work, echo, streaming } = request;
    let echoed = EchoedPrompts { prompts: echo.then(|| work.prompts.clone()), n: work.n };
    let events = queue.push(work)?;
    let metadata = Metadata::new(model);
    if let Some(streaming) = streaming {
        let stream = Chunks::new(metadata, events, echoed, streaming).into_stream();
        return Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response());
    }
    Ok(Json(whole(&metadata, events, &echoed).await?).into_response())
}

/// The prompts that the texts start with, if the request has `echo`.
struct EchoedPrompts {
    prompts: Option<Vec<String>>,
    n: usize,
}

impl EchoedPrompts {
    /// Returns the prompt of text `index`; empty without `echo`.
    fn of(&self, index: usize) -> String {
        self.prompts.as_ref().map_or_else(String::new, |prompts| prompts[index / self.n].clone())
    }
}

async fn whole(
    metadata: &Metadata,
    mut events: UnboundedReceiver<Event>,
    echoed: &EchoedPrompts,
) -> Result<CompletionBody, ApiError> {
    let mut choices = Vec::new();
    let mut usage = Usage::default();
    let mut text = String::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Text { text: new, .. } => text += &new,
            Event::Finished { index, prompt_tokens, completion_tokens, reason } => {
                usage.add(prompt_tokens, completion_tokens);
                let text = echoed.of(index) + &std::mem::take(&mut text);
                choices.push(Choice::new(index, text, Some(reason.name())));
            }
            Event::Failed(error) => return Err(error),
        }
    }
    Ok(metadata.completion(choices, Some(Some(usage))))
}

/// A streamed completion.
struct Chunks {
    metadata: Metadata,
    events: UnboundedReceiver<Event>,
    echoed: EchoedPrompts,
    streaming: Streaming,
    /// How many texts have started.
    started: usize,
    usage: Usage,
    ready: VecDeque<SseEvent>,
    done: bool,
}

impl Chunks {
    fn new(metadata: Metadata, events: UnboundedReceiver<Event>, echoed: EchoedPrompts, streaming: Streaming) -> Self {
        let (started, usage, ready) = (0, Usage::default(), VecDeque::new());
        Self { metadata, events, echoed, streaming, started, usage, ready, done: false }
    }

    /// Returns the stream. Dropping it, as the server does when the client disconnects, cancels the generation.
    fn into_stream(self) -> impl Stream<Item = Result<SseEvent, Infallible>> {
        futures::stream::unfold(self, async |mut chunks| {
            loop {
                if let Some(event) = chunks.ready.pop_front() {
                    return Some((Ok(event), chunks));
                }
                if chunks.done {
                    return None;
                }
                let event = chunks.events.recv().await;
                chunks.convert(event);
            }
        })
    }

    /// Converts an event of the worker into server-sent events; none means that the channel is closed.
    fn convert(&mut self, event: Option<Event>) {
        // With `include_usage` every chunk has `"usage": null` until the last.
        let no_usage = self.streaming.include_usage.then_some(None);
        match event {
            Some(Event::Text { index, text }) => {
                self.start(index, no_usage);
                self.send(&self.metadata.completion(vec![Choice::new(index, text, None)], no_usage));
            }
            Some(Event::Finished { index, prompt_tokens, completion_tokens, reason }) => {
                self.start(index, no_usage);
                self.usage.add(prompt_tokens, completion_tokens);
                let choice = Choice::new(index, String::new(), Some(reason.name()));
                self.send(&self.metadata.completion(vec![choice], no_usage));
            }
            Some(Event::Failed(error)) => {
                self.send(&error.body());
                self.done = true;
            }
            None => {
                if self.streaming.include_usage {
                    self.send(&self.metadata.completion(Vec::new(), Some(Some(self.usage))));
                }
                self.ready.push_back(SseEvent::default().data("[DONE]"));
                self.done = true;
            }
        }
    }

    /// Sends the echoed prompt before the first chunk of a text.
    fn start(&mut self, index: usize, usage: MaybeUsage) {
        if index < self.started {
            return;
        }
        self.started = index + 1;
        let prompt = self.echoed.of(index);
        if !prompt.is_empty() {
            self.send(&self.metadata.completion(vec![Choice::new(index, prompt, None)], usage));
        }
    }

    fn send(&mut self, body: &impl serde::Serialize) {
        // Strings, numbers and nulls always serialize as JSON.
        let event = SseEvent::default().json_data(body).unwrap_or_else(|_| SseEvent::default().comment("unwritable"));
        self.ready.push_back(event);
    }
}
