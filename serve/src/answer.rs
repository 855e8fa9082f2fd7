//! Answers: texts or messages, whole or as server-sent events.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use generate::FinishReason;

use crate::api_error::ApiError;
use crate::event::{Event, ScoredToken};
use crate::logprobs::{ChatLogprobs, CompletionLogprobs};
use crate::paced_events::PacedEvents;
use crate::response::{ChatBody, ChatChoice, ChatChunk, Choice, ChunkChoice, Delta, MaybeUsage, Metadata, Usage};
use crate::tool_calls::{CallFilter, Part, Tools};
use crate::work::Work;
use crate::worker::Queue;

/// Interval of keep-alive comments in a stream without text. Proxies commonly time out after 60 seconds.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The shape of an answer.
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// The texts of a prompt that are shown.
    pub(crate) n: usize,
    /// The texts of a prompt that are generated; the best are shown.
    pub(crate) best_of: usize,
    /// Whether the log probabilities of tokens are shown.
    pub(crate) has_logprobs: bool,
    /// The tokens of the prompts, if the ids of tokens are shown.
    pub(crate) prompt_token_ids: Option<Vec<Vec<u32>>>,
}

/// What an answer consists of.
pub(crate) enum Kind {
    /// Texts, each after its prompt if there are prompts here.
    Texts { echoed: Option<Vec<String>> },
    /// Messages of the assistant.
    Messages {
        /// The tools that it may call, if there are some.
        tools: Option<Tools>,
    },
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
    let metadata = Metadata::new(if matches!(shape.kind, Kind::Messages { .. }) { "chatcmpl" } else { "cmpl" }, model);
    if let Some(streaming) = streaming {
        let stream = Chunks::new(metadata, events, shape, streaming).into_stream();
        return Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response());
    }
    whole(&metadata, events, &shape).await
}

impl Shape {
    /// Returns the prompt that text `index` starts with; empty without `echo`.
    fn echoed(&self, index: usize) -> &str {
        match &self.kind {
            Kind::Texts { echoed: Some(prompts) } => &prompts[index / self.best_of],
            _ => "",
        }
    }

    /// Returns the log probabilities of the tokens of text `index`, of which the first `of_prompt` are the prompt's.
    fn completion_logprobs(
        &self,
        index: usize,
        tokens: &[ScoredToken],
        of_prompt: usize,
    ) -> Option<CompletionLogprobs> {
        self.has_logprobs.then(|| {
            let mut logprobs = CompletionLogprobs::default();
            logprobs.extend(&tokens[..of_prompt], 0);
            logprobs.extend(&tokens[of_prompt..], self.echoed(index).chars().count());
            logprobs
        })
    }

    /// Returns the tokens of the prompt of text `index`, if they are shown.
    fn prompt_token_ids(&self, index: usize) -> Option<Vec<u32>> {
        self.prompt_token_ids.as_ref().map(|prompts| prompts[index / self.best_of].clone())
    }

    fn token_ids(&self, tokens: &[ScoredToken]) -> Option<Vec<u32>> {
        self.prompt_token_ids.as_ref().map(|_| tokens.iter().map(|token| token.id).collect())
    }

    fn chat_logprobs(&self, tokens: Vec<ScoredToken>) -> Option<ChatLogprobs> {
        self.has_logprobs.then(|| ChatLogprobs::new(tokens))
    }
}

/// A text that grows.
#[derive(Default)]
struct Text {
    content: String,
    tokens: Vec<ScoredToken>,
    prompt_tokens: usize,
    reason: &'static str,
    mean_logprob: f64,
}

async fn whole(metadata: &Metadata, events: PacedEvents, shape: &Shape) -> Result<Response, ApiError> {
    // The texts grow at the same time, and end in any order.
    let mut texts: BTreeMap<usize, Text> = BTreeMap::new();
    let mut usage = Usage::default();
    for event in events.all().await {
        match event {
            Event::Prompt { index, tokens } => {
                let text = texts.entry(index).or_default();
                text.prompt_tokens = tokens.len();
                text.tokens = tokens;
            }
            Event::Text { index, text, tokens } => {
                let whole = texts.entry(index).or_default();
                whole.content += &text;
                whole.tokens.extend(tokens);
            }
            Event::Finished { index, prompt_tokens, completion_tokens, reason, mean_logprob } => {
                usage.add(prompt_tokens, completion_tokens);
                let text = texts.entry(index).or_default();
                (text.reason, text.mean_logprob) = (reason.name(), mean_logprob);
            }
            Event::Failed(error) => return Err(error),
            Event::Embedding { .. } | Event::Attention { .. } => {}
        }
    }
    let texts = best(texts, shape).into_iter().enumerate();
    Ok(match &shape.kind {
        Kind::Texts { .. } => {
            let choice = |(number, (index, text)): (usize, (usize, Text))| {
                let logprobs = shape.completion_logprobs(index, &text.tokens, text.prompt_tokens);
                let content = shape.echoed(index).to_owned() + &text.content;
                Choice {
                    prompt_token_ids: shape.prompt_token_ids(index),
                    token_ids: shape.token_ids(&text.tokens[text.prompt_tokens..]),
                    ..Choice::new(number, content, logprobs, Some(text.reason))
                }
            };
            Json(metadata.completion(texts.map(choice).collect(), Some(Some(usage)))).into_response()
        }
        Kind::Messages { tools } => {
            let choice = |(number, (_, text)): (usize, (usize, Text))| {
                let (content, calls) = match tools {
                    Some(tools) => tools.split(&text.content),
                    None => (text.content, Vec::new()),
                };
                let reason = reason(text.reason, !calls.is_empty());
                let token_ids = shape.token_ids(&text.tokens);
                let choice = ChatChoice::new(number, content, calls, shape.chat_logprobs(text.tokens), reason);
                ChatChoice { token_ids, ..choice }
            };
            let chat = metadata.chat(texts.map(choice).collect(), usage);
            Json(ChatBody { prompt_token_ids: shape.prompt_token_ids(0), ..chat }).into_response()
        }
    })
}

/// Returns why an answer ended: to wait for the results of tools, if it has called some.
fn reason(reason: &'static str, has_calls: bool) -> &'static str {
    if has_calls && reason == FinishReason::Stop.name() { "tool_calls" } else { reason }
}

/// Returns the texts to show with their indices: of each prompt, those of the highest mean log probability first if
/// more were generated, else all in order.
fn best(texts: BTreeMap<usize, Text>, shape: &Shape) -> Vec<(usize, Text)> {
    let mut texts: Vec<(usize, Text)> = texts.into_iter().collect();
    if shape.best_of == shape.n {
        return texts;
    }
    texts.sort_by(|(a, text_a), (b, text_b)| {
        let by_likelihood = text_b.mean_logprob.total_cmp(&text_a.mean_logprob);
        (a / shape.best_of).cmp(&(b / shape.best_of)).then(by_likelihood)
    });
    let mut shown = 0..;
    texts.retain(|_| shown.next().is_some_and(|place| place % shape.best_of < shape.n));
    texts
}

/// A streamed answer.
struct Chunks {
    metadata: Metadata,
    events: PacedEvents,
    shape: Shape,
    streaming: Streaming,
    /// The texts that have started, with the calls of tools in each.
    started: BTreeMap<usize, Calls>,
    usage: Usage,
    ready: VecDeque<SseEvent>,
    done: bool,
}

/// The calls of tools in a text.
#[derive(Default)]
struct Calls {
    filter: Option<CallFilter>,
    count: usize,
}

impl Chunks {
    fn new(metadata: Metadata, events: PacedEvents, shape: Shape, streaming: Streaming) -> Self {
        let (started, usage, ready) = (BTreeMap::new(), Usage::default(), VecDeque::new());
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
                let event = chunks.events.next().await;
                chunks.convert(event);
            }
        })
    }

    /// Converts an event of the worker into server-sent events; none means that the channel is closed.
    fn convert(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Prompt { index, tokens }) => self.start(index, &tokens),
            Some(Event::Text { index, text, tokens }) => {
                self.start(index, &[]);
                match self.shape.kind {
                    Kind::Texts { .. } => {
                        let logprobs = self.shape.completion_logprobs(index, &tokens, 0);
                        let token_ids = self.shape.token_ids(&tokens);
                        self.send_choice(Choice { token_ids, ..Choice::new(index, text, logprobs, None) });
                    }
                    Kind::Messages { .. } => {
                        let filter = self.started.get_mut(&index).and_then(|calls| calls.filter.as_mut());
                        let parts = match filter {
                            Some(filter) => filter.push(&text),
                            None => vec![Part::Text(text)],
                        };
                        self.send_message(index, parts, tokens);
                    }
                }
            }
            Some(Event::Finished { index, prompt_tokens, completion_tokens, reason, .. }) => {
                self.start(index, &[]);
                self.usage.add(prompt_tokens, completion_tokens);
                match self.shape.kind {
                    Kind::Texts { .. } => {
                        self.send_choice(Choice::new(index, String::new(), None, Some(reason.name())));
                    }
                    Kind::Messages { .. } => {
                        let filter = self.started.get_mut(&index).and_then(|calls| calls.filter.take());
                        let rest = filter.map(CallFilter::finish).unwrap_or_default();
                        self.send_message(index, rest, Vec::new());
                        let has_calls = self.started.get(&index).is_some_and(|calls| calls.count > 0);
                        let reason = self::reason(reason.name(), has_calls);
                        self.send_delta(ChunkChoice::new(index, Delta::default(), None, Some(reason)));
                    }
                }
            }
            Some(Event::Embedding { .. } | Event::Attention { .. }) => {}
            Some(Event::Failed(error)) => {
                self.send(&error.body());
                self.done = true;
            }
            None => {
                if self.streaming.include_usage {
                    let usage = Some(Some(self.usage));
                    match self.shape.kind {
                        Kind::Texts { .. } => self.send(&self.metadata.completion(Vec::new(), usage)),
                        Kind::Messages { .. } => self.send(&self.metadata.chat_chunk(Vec::new(), usage)),
                    }
                }
                self.ready.push_back(SseEvent::default().data("[DONE]"));
                self.done = true;
            }
        }
    }

    /// Sends what comes before the first text: the echoed prompt with the log probabilities of its tokens, or the role
    /// of the message; and the tokens of the prompt, if they are shown.
    fn start(&mut self, index: usize, tokens: &[ScoredToken]) {
        if self.started.contains_key(&index) {
            return;
        }
        let mut calls = Calls::default();
        if let Kind::Messages { tools: Some(tools) } = &self.shape.kind {
            calls.filter = Some(CallFilter::new(tools.clone()));
        }
        self.started.insert(index, calls);
        match self.shape.kind {
            Kind::Texts { .. } => {
                let prompt = self.shape.echoed(index).to_owned();
                let prompt_token_ids = self.shape.prompt_token_ids(index);
                if !(prompt.is_empty() && tokens.is_empty() && prompt_token_ids.is_none()) {
                    let logprobs = self.shape.completion_logprobs(index, tokens, tokens.len());
                    self.send_choice(Choice { prompt_token_ids, ..Choice::new(index, prompt, logprobs, None) });
                }
            }
            Kind::Messages { .. } => {
                let choice = ChunkChoice::new(index, Delta::start(), None, None);
                let prompt_token_ids = self.shape.prompt_token_ids(index);
                let chunk = self.metadata.chat_chunk(vec![choice], self.no_usage());
                self.send(&ChatChunk { prompt_token_ids, ..chunk });
            }
        }
    }

    /// Sends new parts of a message: its text with the new tokens first, since calls are apart from it.
    fn send_message(&mut self, index: usize, parts: Vec<Part>, tokens: Vec<ScoredToken>) {
        let mut text = String::new();
        let mut calls = Vec::new();
        let count = &mut self.started.entry(index).or_default().count;
        for part in parts {
            match part {
                Part::Text(more) => text += &more,
                Part::Call { id, name } => {
                    calls.push(Delta::call(*count, id, name));
                    *count += 1;
                }
                Part::Arguments(more) => calls.push(Delta::arguments(count.saturating_sub(1), more)),
            }
        }
        if !(text.is_empty() && tokens.is_empty()) {
            let token_ids = self.shape.token_ids(&tokens);
            let logprobs = self.shape.chat_logprobs(tokens);
            self.send_delta(ChunkChoice { token_ids, ..ChunkChoice::new(index, Delta::text(text), logprobs, None) });
        }
        for call in calls {
            self.send_delta(ChunkChoice::new(index, call, None, None));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_texts_of_each_prompt_are_shown() {
        let kind = Kind::Messages { tools: None };
        let shape = Shape { kind, n: 2, best_of: 3, has_logprobs: false, prompt_token_ids: None };
        let text = |mean_logprob| Text { mean_logprob, ..Text::default() };
        let texts = [-3.0, -1.0, -2.0, -1.0, -1.0, -0.5].map(text).into_iter().enumerate().collect();
        let shown: Vec<usize> = best(texts, &shape).into_iter().map(|(index, _)| index).collect();
        assert_eq!(shown, [1, 2, 5, 3]);
    }
}
