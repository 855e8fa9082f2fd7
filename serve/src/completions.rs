//! `/v1/completions`: whole, or as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::problem::Problem;
use crate::queue::{Event, Queue, Work};
use crate::request::CompletionRequest;
use crate::response::{Choice, CompletionBody, Head, MaybeUsage, Usage};

/// How often a stream without text says that it is alive. Proxies commonly give up after 60 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Answers a request.
pub(crate) async fn answer(request: &CompletionRequest, queue: &Queue, model: &str) -> Result<Response, Problem> {
    let prompts = request.prompts();
    let events = queue.push(Work { prompts: prompts.clone(), n: request.n, options: request.options() })?;
    let echoes = Echoes { prompts: request.echo.then_some(prompts), n: request.n };
    let head = Head::new(model);
    if request.stream {
        let pieces =
            Pieces { head, events, echoes, begun: 0, usage: Usage::default(), ready: VecDeque::new(), done: false };
        let stream = pieces.into_stream(request.include_usage());
        return Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response());
    }
    Ok(Json(whole(&head, events, &echoes).await?).into_response())
}

/// The prompts that the texts begin with, where that was asked for.
struct Echoes {
    prompts: Option<Vec<String>>,
    n: usize,
}

impl Echoes {
    fn of(&self, index: usize) -> String {
        self.prompts.as_ref().map_or_else(String::new, |prompts| prompts[index / self.n].clone())
    }
}

async fn whole(head: &Head, mut events: UnboundedReceiver<Event>, echoes: &Echoes) -> Result<CompletionBody, Problem> {
    let mut choices = Vec::new();
    let mut usage = Usage::default();
    let mut text = String::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Text { text: new, .. } => text += &new,
            Event::Finished { index, prompt_tokens, completion_tokens, reason } => {
                usage.add(prompt_tokens, completion_tokens);
                let text = echoes.of(index) + &std::mem::take(&mut text);
                choices.push(Choice::new(index, text, Some(reason.name())));
            }
            Event::Failed(problem) => return Err(problem),
        }
    }
    Ok(head.with(choices, Some(Some(usage))))
}

/// A completion on its way out in pieces.
struct Pieces {
    head: Head,
    events: UnboundedReceiver<Event>,
    echoes: Echoes,
    /// How many texts have begun.
    begun: usize,
    usage: Usage,
    ready: VecDeque<SseEvent>,
    done: bool,
}

impl Pieces {
    /// Returns the stream; dropping it, as the server does when the client leaves, cancels the writing.
    fn into_stream(self, include_usage: bool) -> impl Stream<Item = Result<SseEvent, Infallible>> {
        futures::stream::unfold(self, move |mut pieces| async move {
            loop {
                if let Some(event) = pieces.ready.pop_front() {
                    return Some((Ok(event), pieces));
                }
                if pieces.done {
                    return None;
                }
                let event = pieces.events.recv().await;
                pieces.take(event, include_usage);
            }
        })
    }

    fn take(&mut self, event: Option<Event>, include_usage: bool) {
        // With `include_usage` every piece says `"usage": null` until the last.
        let no_usage = include_usage.then_some(None);
        match event {
            Some(Event::Text { index, text }) => {
                self.begin(index, no_usage);
                self.send(&self.head.with(vec![Choice::new(index, text, None)], no_usage));
            }
            Some(Event::Finished { index, prompt_tokens, completion_tokens, reason }) => {
                self.begin(index, no_usage);
                self.usage.add(prompt_tokens, completion_tokens);
                let choice = Choice::new(index, String::new(), Some(reason.name()));
                self.send(&self.head.with(vec![choice], no_usage));
            }
            Some(Event::Failed(problem)) => {
                self.send(&problem.body());
                self.done = true;
            }
            None => {
                if include_usage {
                    self.send(&self.head.with(Vec::new(), Some(Some(self.usage))));
                }
                self.ready.push_back(SseEvent::default().data("[DONE]"));
                self.done = true;
            }
        }
    }

    /// Sends the prompt before a text's first piece, where that was asked for.
    fn begin(&mut self, index: usize, usage: MaybeUsage) {
        if index < self.begun {
            return;
        }
        self.begun = index + 1;
        let prompt = self.echoes.of(index);
        if !prompt.is_empty() {
            self.send(&self.head.with(vec![Choice::new(index, prompt, None)], usage));
        }
    }

    fn send(&mut self, body: &impl serde::Serialize) {
        // Strings, numbers and nulls: JSON has them all.
        let event = SseEvent::default().json_data(body).unwrap_or_else(|_| SseEvent::default().comment("unwritable"));
        self.ready.push_back(event);
    }
}
