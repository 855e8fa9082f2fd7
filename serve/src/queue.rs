//! The thread that writes: one request at a time, in the order they came.

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

use crate::problem::Problem;
use crate::response::Load;

/// What a request asks of the thread.
#[derive(Debug)]
pub(crate) struct Work {
    /// The prompts.
    pub(crate) prompts: Vec<String>,
    /// Texts for each.
    pub(crate) n: usize,
    /// How to write them; text number `i` has the seed plus `i`.
    pub(crate) options: CompletionOptions,
}

/// What the thread answers. A channel that closes has said everything.
#[derive(Debug)]
pub(crate) enum Event {
    /// Text that is new.
    Text {
        /// Which text it belongs to.
        index: usize,
        /// What is new of it.
        text: String,
    },
    /// A text is finished.
    Finished {
        /// Which text.
        index: usize,
        /// Tokens of the prompt; 0 for all but a prompt's first text.
        prompt_tokens: usize,
        /// Tokens of the text.
        completion_tokens: usize,
        /// Why it ended.
        reason: FinishReason,
    },
    /// There will be no more text.
    Failed(Problem),
}

struct Job {
    work: Work,
    events: UnboundedSender<Event>,
}

/// The way to the thread.
#[derive(Clone)]
pub(crate) struct Queue {
    jobs: Sender<Job>,
    running: Arc<AtomicUsize>,
}

impl Queue {
    /// Starts the thread. It ends when every clone of the queue is gone; `abort` makes it drop what it has.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(
        generator: Generator,
        max_queue: usize,
        abort: Cancel,
    ) -> Result<(Self, JoinHandle<()>), std::io::Error> {
        let (jobs, receiver) = channel(max_queue);
        let running = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&running);
        let thread = std::thread::Builder::new().name("generate".to_owned());
        let thread = thread.spawn(move || write_all(&generator, receiver, &counter, &abort))?;
        Ok((Self { jobs, running }, thread))
    }

    /// Hands over work; what comes of it arrives in the channel. Dropping the channel cancels the work.
    ///
    /// # Errors
    /// When too much is waiting already, or the server is going away.
    pub(crate) fn push(&self, work: Work) -> Result<UnboundedReceiver<Event>, Problem> {
        // Without a bound, so that a client that reads slowly holds up nobody; max_tokens bounds what can pile up.
        let (events, receiver) = unbounded_channel();
        match self.jobs.try_send(Job { work, events }) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(Problem::queue_full(self.jobs.max_capacity())),
            Err(TrySendError::Closed(_)) => Err(Problem::stopping()),
        }
    }

    /// Returns how much there is to do.
    pub(crate) fn load(&self) -> Load {
        let max_queue = self.jobs.max_capacity();
        let running = self.running.load(Ordering::Relaxed);
        Load { running, waiting: max_queue - self.jobs.capacity(), max_queue }
    }
}

fn write_all(generator: &Generator, mut jobs: Receiver<Job>, running: &AtomicUsize, abort: &Cancel) {
    while let Some(Job { work, events }) = jobs.blocking_recv() {
        running.store(1, Ordering::Relaxed);
        // A panic deep in a driver costs its request an answer, not the server its life.
        let written = catch_unwind(AssertUnwindSafe(|| write(generator, &work, &events, abort)));
        let problem = match written {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => Some(problem),
            Err(_) => Some(Problem::server("The model failed while writing; see the server's log.".to_owned())),
        };
        if let Some(problem) = problem {
            tracing::warn!(message = problem.detail.message, "a completion failed");
            // The client may be gone.
            let _ = events.send(Event::Failed(problem));
        }
        running.store(0, Ordering::Relaxed);
    }
}

fn write(generator: &Generator, work: &Work, events: &UnboundedSender<Event>, abort: &Cancel) -> Result<(), Problem> {
    for index in 0..work.prompts.len() * work.n {
        if events.is_closed() {
            return Ok(());
        }
        if abort.is_requested() {
            return Err(Problem::stopping());
        }
        let options = work.options.with_seed(work.options.sampling.seed.wrapping_add(index as u64));
        let completion = generator.generate(&work.prompts[index / work.n], &options, &mut |text| {
            let unwanted = abort.is_requested()
                || events.is_closed()
                || (!text.is_empty() && events.send(Event::Text { index, text: text.to_owned() }).is_err());
            if unwanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let completion = completion.map_err(|e| Problem::server(format!("The model could not write: {e}.")))?;
        if completion.finish_reason == FinishReason::Cancelled {
            return if abort.is_requested() { Err(Problem::stopping()) } else { Ok(()) };
        }
        tracing::info!(
            prompt_tokens = completion.prompt_tokens,
            completion_tokens = completion.completion_tokens,
            seconds = completion.seconds,
            reason = completion.finish_reason.name(),
            "text written"
        );
        let finished = Event::Finished {
            index,
            prompt_tokens: if index.is_multiple_of(work.n) { completion.prompt_tokens } else { 0 },
            completion_tokens: completion.completion_tokens,
            reason: completion.finish_reason,
        };
        // The client may be gone, which the next round sees.
        let _ = events.send(finished);
    }
    Ok(())
}
