//! The queue, and the worker thread that generates the texts of several requests at the same time.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use artifact::Cancel;
use generate::Generator;
use inference::{Adapter, Scheduler, Settings};

use crate::Config;
use crate::api_error::ApiError;
use crate::job::Job;
use crate::metrics::{Events, ModelMetrics};
use crate::paced_events::{self, PacedEvents};
use crate::response::Load;
use crate::texts::Texts;
use crate::work::Work;

/// The queue of the worker, for requests to a model or to an adapter of it. Dropping the last one ends the worker once
/// it has finished every request that it has.
pub(crate) struct Queue {
    handle: Arc<Handle>,
    metrics: ModelMetrics,
    adapter: Option<Arc<Adapter>>,
}

/// What the queues of a model and of its adapters have in common.
struct Handle {
    shared: Arc<Shared>,
    max_waiting: usize,
    /// Those of the model.
    metrics: ModelMetrics,
}

/// What the queue and the worker share.
#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Notified of a new job, and of the end.
    changed: Condvar,
    running: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl Queue {
    /// Starts the worker; `abort` makes it fail the requests it has.
    ///
    /// # Errors
    /// Returns an error if the operating system cannot start a thread.
    pub(crate) fn start(
        generator: Arc<Generator>,
        config: &Config,
        metrics: ModelMetrics,
        abort: Cancel,
    ) -> Result<(Self, JoinHandle<()>), std::io::Error> {
        let settings = Settings {
            max_step_tokens: config.prefill_chunk_tokens,
            // Their number is limited by that of requests.
            max_sequences: config.prefill_chunk_tokens,
            draft_tokens: config.draft_tokens,
            vocab_size: Some(generator.tokenizer().vocab_size()),
            ..Settings::default()
        };
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            generator,
            shared: Arc::clone(&shared),
            max_requests: config.max_concurrent_requests,
            metrics: metrics.clone(),
            abort,
        };
        let thread = std::thread::Builder::new().name("generate".to_owned());
        let thread = thread.spawn(move || worker.run(settings))?;
        let handle = Arc::new(Handle { shared, max_waiting: config.max_queue, metrics: metrics.clone() });
        Ok((Self { handle, metrics, adapter: None }, thread))
    }

    /// Returns the queue for requests to an adapter of the model.
    pub(crate) fn with_adapter(&self, adapter: Arc<Adapter>, metrics: ModelMetrics) -> Self {
        Self { handle: Arc::clone(&self.handle), metrics, adapter: Some(adapter) }
    }

    /// Queues work and returns the channel of its events. Dropping the channel cancels the work.
    ///
    /// # Errors
    /// Returns an error if the queue is full.
    pub(crate) fn push(&self, work: Work) -> Result<PacedEvents, ApiError> {
        let (sender, receiver) = paced_events::channel();
        let mut waiting = self.handle.with_room()?;
        let events = Events::new(sender, self.metrics.clone(), &work);
        waiting.jobs.push_back(Job { work, adapter: self.adapter.clone(), events });
        self.handle.shared.changed.notify_one();
        Ok(receiver)
    }

    /// Checks that there is room, before work is prepared that would be refused.
    ///
    /// # Errors
    /// As [`Queue::push`].
    pub(crate) fn check_room(&self) -> Result<(), ApiError> {
        self.handle.with_room().map(drop)
    }

    /// Returns how many requests to the model and its adapters are running and waiting.
    pub(crate) fn load(&self) -> Load {
        let Handle { shared, max_waiting, .. } = &*self.handle;
        let waiting = shared.waiting().jobs.iter().filter(|job| !job.events.is_closed()).count();
        Load { running: shared.running.load(Ordering::Relaxed), waiting, max_queue: *max_waiting }
    }

    /// Updates the metrics of the load.
    pub(crate) fn measure(&self) {
        let load = self.load();
        self.handle.metrics.set_load(load.running, load.waiting);
    }
}

impl Handle {
    /// Returns what waits, if there is room for one more.
    fn with_room(&self) -> Result<MutexGuard<'_, Waiting>, ApiError> {
        let mut waiting = self.shared.waiting();
        if waiting.jobs.len() >= self.max_waiting {
            // Clients that have gone leave their place to others.
            waiting.jobs.retain(|job| !job.events.is_closed());
        }
        if waiting.jobs.len() >= self.max_waiting { Err(ApiError::queue_full(self.max_waiting)) } else { Ok(waiting) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.waiting().is_closed = true;
        self.shared.changed.notify_one();
        self.metrics.set_load(0, 0);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic leaves the queue as it was.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next job, if there is one.
    fn try_next(&self) -> Option<Job> {
        self.waiting().jobs.pop_front()
    }

    /// Waits for the next job; none if the queue is closed.
    fn next(&self) -> Option<Job> {
        let waiting = self.waiting();
        let is_idle = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.is_closed;
        self.changed.wait_while(waiting, is_idle).unwrap_or_else(PoisonError::into_inner).jobs.pop_front()
    }
}

struct Worker {
    generator: Arc<Generator>,
    shared: Arc<Shared>,
    max_requests: usize,
    metrics: ModelMetrics,
    abort: Cancel,
}

impl Worker {
    fn run(&self, settings: Settings) {
        let (mut model, mut draft_model) = (self.generator.model(), self.generator.draft_model());
        let valid = "the settings are those of a valid configuration";
        let mut scheduler = Scheduler::new(&mut **model, settings).expect(valid);
        if let Some(draft_model) = &mut draft_model {
            scheduler = scheduler.with_draft_model(&mut ***draft_model).expect(valid);
        }
        let mut texts = Texts::new(&self.generator, scheduler);
        let set_running = |running| self.shared.running.store(running, Ordering::Relaxed);
        loop {
            if texts.is_empty() {
                match self.shared.next() {
                    Some(job) => texts.start(job),
                    None => return,
                }
            }
            while texts.len() < self.max_requests
                && let Some(job) = self.shared.try_next()
            {
                texts.start(job);
            }
            set_running(texts.len());
            if self.abort.is_requested() {
                texts.fail(&ApiError::stopping());
            }
            texts.cancel_abandoned();
            // A panic in a driver fails the requests that are running and leaves the server running.
            let error = match catch_unwind(AssertUnwindSafe(|| texts.step())) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(ApiError::server(format!("Generation failed: {error}."))),
                Err(_) => {
                    Some(ApiError::server("The model failed during generation; see the server's log.".to_owned()))
                }
            };
            if let Some(error) = error {
                tracing::warn!(message = error.detail.message, "the requests that were running failed");
                texts.fail(&error);
            }
            set_running(texts.len());
            let counters = texts.counters();
            self.metrics.set_cache_usage(counters.used_blocks as f64 / counters.blocks.max(1) as f64);
        }
    }
}
