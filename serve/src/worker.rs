//! The queue, and the worker thread that generates the texts of several requests at the same time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use artifact::Cancel;
use generate::Generator;
use inference::{Scheduler, Settings};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel, error::TrySendError, unbounded_channel};

use crate::Config;
use crate::api_error::ApiError;
use crate::job::{Event, Job, Work};
use crate::response::Load;
use crate::texts::Texts;

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
        config: &Config,
        abort: Cancel,
    ) -> Result<(Self, JoinHandle<()>), std::io::Error> {
        let (jobs, receiver) = channel(config.max_queue);
        let max_requests = config.max_concurrent_requests;
        let settings = Settings {
            max_step_tokens: config.prefill_chunk_tokens,
            // Their number is limited by that of requests.
            max_sequences: config.prefill_chunk_tokens,
            draft_tokens: config.draft_tokens,
            vocab_size: Some(generator.tokenizer().vocab_size()),
            ..Settings::default()
        };
        let running = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&running);
        let thread = std::thread::Builder::new().name("generate".to_owned());
        let thread =
            thread.spawn(move || work_through(&generator, max_requests, settings, receiver, &counter, &abort))?;
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

fn work_through(
    generator: &Generator,
    max_requests: usize,
    settings: Settings,
    mut jobs: Receiver<Job>,
    running: &AtomicUsize,
    abort: &Cancel,
) {
    let mut model = generator.model();
    let scheduler = Scheduler::new(&mut **model, settings).expect("the settings are those of a valid configuration");
    let mut texts = Texts::new(generator, scheduler);
    loop {
        if texts.is_empty() {
            match jobs.blocking_recv() {
                Some(job) => texts.start(job),
                None => return,
            }
        }
        while texts.len() < max_requests
            && let Ok(job) = jobs.try_recv()
        {
            texts.start(job);
        }
        running.store(texts.len(), Ordering::Relaxed);
        if abort.is_requested() {
            texts.fail(&ApiError::stopping());
        }
        texts.cancel_abandoned();
        // A panic in a driver fails the requests that are running and leaves the server running.
        let error = match catch_unwind(AssertUnwindSafe(|| texts.step())) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(ApiError::server(format!("Generation failed: {error}."))),
            Err(_) => Some(ApiError::server("The model failed during generation; see the server's log.".to_owned())),
        };
        if let Some(error) = error {
            tracing::warn!(message = error.detail.message, "the requests that were running failed");
            texts.fail(&error);
        }
        running.store(texts.len(), Ordering::Relaxed);
    }
}
