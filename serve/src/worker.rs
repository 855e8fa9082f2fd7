//! The queue, and the worker thread that generates text: one request at a time, in order of arrival.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use artifact::Cancel;
use generate::{CompletionOptions, FinishReason, Generator};
use tokio::sync::mpsc::{
    Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, error::TrySendError, unbounded_channel,
};

use crate::api_error::ApiError;
use crate::response::Load;

/// The texts that a request asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct Work {
    /// The tokens of the prompts, at least one.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// Texts per prompt.
    pub(crate) n: usize,
    /// How to generate them; text `i` has the seed plus `i`.
    pub(crate) options: CompletionOptions,
}

/// An event of the worker. The channel is closed after the last event.
#[derive(Debug)]
pub(crate) enum Event {
    /// New text.
    Text {
        /// Which text it belongs to.
        index: usize,
        /// The new part of the text.
        text: String,
    },
    /// A text is finished.
    Finished {
        /// Which text.
        index: usize,
        /// Tokens of the prompt; 0 for all but the first text of a prompt.
        prompt_tokens: usize,
        /// Tokens of the text.
        completion_tokens: usize,
        /// Why it ended.
        reason: FinishReason,
    },
    /// Generation failed; this is the last event.
    Failed(ApiError),
}

struct Job {
    work: Work,
    events: UnboundedSender<Event>,
}

/// The worker's queue.
#[derive(Clone)]
pub(crate) struct Queue {
    jobs: Sender<Job>,
    running: Arc<AtomicUsize>,
}

impl Queue {
    /// Starts the worker. It ends when every clone of the queue is dropped; `abort` makes it fail the requests it has.
    ///
    /// # Errors
    /// Returns an error if the operating system cannot start a thread.
    pub(crate) fn start(
        generator: Arc<Generator>,
        max_queue: usize,
        abort: Cancel,
    ) -> Result<(Self, JoinHandle<()>), std::io::Error> {
        let (jobs, receiver) = channel(max_queue);
        let running = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&running);
        let thread = std::thread::Builder::new().name("generate".to_owned());
        let thread = thread.spawn(move || work_through(&generator, receiver, &counter, &abort))?;
        Ok((Self { jobs, running }, thread))
    }

    /// Queues work and returns the channel of its events. Dropping the channel cancels the work.
    ///
    /// # Errors
    /// Returns an error if the queue is full or the server is shutting down.
    pub(crate) fn push(&self, work: Work) -> Result<UnboundedReceiver<Event>, ApiError> {
        // Unbounded, so that a slow client does not block the worker; max_tokens limits how much can pile up.
        let (events, receiver) = unbounded_channel();
        match self.jobs.try_send(Job { work, events }) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(ApiError::queue_full(self.jobs.max_capacity())),
            Err(TrySendError::Closed(_)) => Err(ApiError::stopping()),
        }
    }

    /// Returns how many requests are running and waiting.
    pub(crate) fn load(&self) -> Load {
        let max_queue = self.jobs.max_capacity();
        let running = self.running.load(Ordering::Relaxed);
        Load { running, waiting: max_queue - self.jobs.capacity(), max_queue }
    }
}

fn work_through(generator: &Generator, mut jobs: Receiver<Job>, running: &AtomicUsize, abort: &Cancel) {
    while let Some(Job { work, events }) = jobs.blocking_recv() {
        running.store(1, Ordering::Relaxed);
        // A panic in a driver fails its request and leaves the server running.
        let generated = catch_unwind(AssertUnwindSafe(|| generate(generator, &work, &events, abort)));
        let error = match generated {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(ApiError::server("The model failed during generation; see the server's log.".to_owned())),
        };
        if let Some(error) = error {
            tracing::warn!(message = error.detail.message, "a completion failed");
            // The client may have disconnected.
            let _ = events.send(Event::Failed(error));
        }
        running.store(0, Ordering::Relaxed);
    }
}

fn generate(
    generator: &Generator,
    work: &Work,
    events: &UnboundedSender<Event>,
    abort: &Cancel,
) -> Result<(), ApiError> {
    for index in 0..work.prompts.len() * work.n {
        if events.is_closed() {
            return Ok(());
        }
        if abort.is_requested() {
            return Err(ApiError::stopping());
        }
        let options = work.options.with_seed(work.options.sampling.seed.wrapping_add(index as u64));
        let completion = generator.complete(&work.prompts[index / work.n], &options, &mut |text| {
            let is_cancelled = abort.is_requested()
                || events.is_closed()
                || (!text.is_empty() && events.send(Event::Text { index, text: text.to_owned() }).is_err());
            if is_cancelled { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let completion = completion.map_err(|e| ApiError::server(format!("Generation failed: {e}.")))?;
        if completion.finish_reason == FinishReason::Cancelled {
            return if abort.is_requested() { Err(ApiError::stopping()) } else { Ok(()) };
        }
        tracing::info!(
            prompt_tokens = completion.prompt_tokens,
            completion_tokens = completion.completion_tokens,
            seconds = completion.seconds,
            reason = completion.finish_reason.name(),
            "text generated"
        );
        let finished = Event::Finished {
            index,
            prompt_tokens: if index.is_multiple_of(work.n) { completion.prompt_tokens } else { 0 },
            completion_tokens: completion.completion_tokens,
            reason: completion.finish_reason,
        };
        // If the client disconnected, the next iteration notices.
        let _ = events.send(finished);
    }
    Ok(())
}
