//! Answers: texts or messages, whole or as server-sent events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::api_error::ApiError;
use crate::job::{Event, Work};
use crate::response::{ChatChoice, Choice, ChunkChoice, Delta, MaybeUsage, Metadata, Usage};
use crate::worker::Queue;

/// Interval of keep-alive comments in a stream without text. Proxies commonly time out after 60 seconds.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The shape of an answer.
pub(crate) enum Shape {
    /// Texts, each after its prompt if there are prompts here: one for every `n` texts.
    Texts { echoed: Option<Vec<String>>, n: usize },
    /// Messages of the assistant.
    Messages,
}

/// How to stream an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streaming {
    /// Whether a last chunk without text holds the token counts.
    pub(crate) include_usage: bool,
}

/// Queues the work of a request and answers it.
///
/// # Errors
/// Returns an error if the queue is full or the server is shutting down, or generation fails before a whole answer.
pub(crate) async fn answer(
    work: Work,
    shape: Shape,
    streaming: Option<Streaming>,
    queue: &Queue,
    model: &str,
) -> Result<Response, ApiError> {
    let events = queue.push(work)?;
    let metadata = Metadata::new(if matches!(shape, Shape::Messages) { "chatcmpl" } else { "cmpl" }, model);
    if let Some(streaming) = streaming {
        let stream = Chunks::new(metadata, events, shape, streaming).into_stream();
        return Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response());
    }
    whole(&metadata, events, &shape).await
}

impl Shape {
    /// Returns the prompt that text `index` starts with; empty without `echo`.
    fn echoed(&self, index: usize) -> String {
        match self {
            Self::Texts { echoed: Some(prompts), n } => prompts[index / n].clone(),
            _ => String::new(),
        }
    }
}

async fn whole(metadata: &Metadata, mut events: UnboundedReceiver<Event>, shape: &Shape) -> Result<Response, ApiError> {
    // The texts grow at the same time, and end in any order.
    let mut texts: BTreeMap<usize, (String, &'static str)> = BTreeMap::new();
    let mut usage = Usage::default();
    let start = |index| (shape.echoed(index), "");
    while let Some(event) = events.recv().await {
        match event {
            Event::Text { index, text } => texts.entry(index).or_insert_with(|| start(index)).0 += &text,
            Event::Finished { index, prompt_tokens, completion_tokens, reason } => {
                usage.add(prompt_tokens, completion_tokens);
                texts.entry(index).or_insert_with(|| start(index)).1 = reason.name();
            }
            Event::Failed(error) => return Err(error),
        }
    }
    let texts = texts.into_iter();
    Ok(match shape {
        Shape::Texts { .. } => {
            let choices = texts.map(|(index, (text, reason))| Choice::new(index, text, Some(reason))).collect();
            Json(metadata.completion(choices, Some(Some(usage)))).into_response()
        }
        Shape::Messages => {
            let choices = texts.map(|(index, (text, reason))| ChatChoice::new(index, text, reason)).collect();
            Json(metadata.chat(choices, usage)).into_response()
        }
    })
}

/// A streamed answer.
struct Chunks {
    metadata: Metadata,
    events: UnboundedReceiver<Event>,
    shape: Shape,
    streaming: Streaming,
    /// The texts that have started.
    started: BTreeSet<usize>,
    usage: Usage,
    ready: VecDeque<SseEvent>,
    done: bool,
}

impl Chunks {
    fn new(metadata: Metadata, events: UnboundedReceiver<Event>, shape: Shape, streaming: Streaming) -> Self {
        let (started, usage, ready) = (BTreeSet::new(), Usage::default(), VecDeque::new());
        Self { metadata, events, shape, streaming, started, usage, ready, done: false }
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
        match event {
            Some(Event::Text { index, text }) => {
                self.start(index);
                self.send_text(index, text);
            }
            Some(Event::Finished { index, prompt_tokens, completion_tokens, reason }) => {
                self.start(index);
                self.usage.add(prompt_tokens, completion_tokens);
                match self.shape {
                    Shape::Texts { .. } => self.send_choice(Choice::new(index, String::new(), Some(reason.name()))),
                    Shape::Messages => {
                        self.send_delta(ChunkChoice::new(index, Delta::default(), Some(reason.name())));
                    }
                }
            }
            Some(Event::Failed(error)) => {
                self.send(&error.body());
                self.done = true;
            }
            None => {
                if self.streaming.include_usage {
                    let usage = Some(Some(self.usage));
                    match self.shape {
                        Shape::Texts { .. } => self.send(&self.metadata.completion(Vec::new(), usage)),
                        Shape::Messages => self.send(&self.metadata.chat_chunk(Vec::new(), usage)),
                    }
                }
                self.ready.push_back(SseEvent::default().data("[DONE]"));
                self.done = true;
            }
        }
    }

    /// Sends what comes before the first text: the echoed prompt, or the role of the message.
    fn start(&mut self, index: usize) {
        if !self.started.insert(index) {
            return;
        }
        match self.shape {
            Shape::Texts { .. } => {
                let prompt = self.shape.echoed(index);
                if !prompt.is_empty() {
                    self.send_text(index, prompt);
                }
            }
            Shape::Messages => self.send_delta(ChunkChoice::new(index, Delta::start(), None)),
        }
    }

    fn send_text(&mut self, index: usize, text: String) {
        match self.shape {
            Shape::Texts { .. } => self.send_choice(Choice::new(index, text, None)),
            Shape::Messages => self.send_delta(ChunkChoice::new(index, Delta::text(text), None)),
        }
    }

    fn send_choice(&mut self, choice: Choice) {
        self.send(&self.metadata.completion(vec![choice], self.no_usage()));
    }

    fn send_delta(&mut self, choice: ChunkChoice) {
        self.send(&self.metadata.chat_chunk(vec![choice], self.no_usage()));
    }

    /// Returns the usage of every chunk but the last: null with `include_usage`, else absent.
    fn no_usage(&self) -> MaybeUsage {
        self.streaming.include_usage.then_some(None)
    }

    fn send(&mut self, body: &impl serde::Serialize) {
        // Strings, numbers and nulls always serialize as JSON.
        let event = SseEvent::default().json_data(body).unwrap_or_else(|_| SseEvent::default().comment("unwritable"));
        self.ready.push_back(event);
    }
}
