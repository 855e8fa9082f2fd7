//! The context of a stage besides its inputs: settings, progress reports and cancellation.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A progress event of a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// A part of the work begins.
    Begin {
        /// A short noun phrase: "encoding".
        part: &'a str,
        /// The number of units; 0 if unknown.
        total: u64,
        /// The unit's name in the plural: "documents", "bytes", "steps", "tokens".
        unit: &'a str,
    },
    /// The number of finished units of the part.
    Position(u64),
    /// The current figures: "loss 3.214".
    Figures(&'a str),
    /// A line to keep, such as a sample during training.
    Line(&'a str),
}

/// Receives the progress events of a stage. Cheap to clone and to call from any thread.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(Event<'_>) + Send + Sync>);

impl Progress {
    /// Returns a progress that calls `listen` with every event.
    pub fn new(listen: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listen))
    }

    /// Returns a progress that ignores all events.
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    /// Begins a part with `total` units (0 if unknown).
    pub fn begin(&self, part: &str, total: u64, unit: &str) {
        (self.0)(Event::Begin { part, total, unit });
    }

    /// Sets the number of finished units of the part.
    pub fn position(&self, done: u64) {
        (self.0)(Event::Position(done));
    }

    /// Shows the current figures.
    pub fn figures(&self, text: &str) {
        (self.0)(Event::Figures(text));
    }

    /// Prints a line to keep.
    pub fn line(&self, text: &str) {
        (self.0)(Event::Line(text));
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Requests that a stage stops at the next safe point.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Requests cancellation.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Returns true if cancellation was requested.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The context of every stage.
#[derive(Debug, Clone)]
pub struct Context {
    /// The folder of relative paths in the configuration: that of `pipeline.toml`.
    pub base: PathBuf,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The device's name in the configuration: `auto`, `cpu`, `wgpu`, ….
    pub device: String,
    /// True if the network must not be used.
    pub offline: bool,
    /// Progress reports.
    pub progress: Progress,
    /// Cancellation.
    pub cancel: Cancel,
}

impl Context {
    /// Returns a context for tests and tools: silent, offline, on the CPU, relative to the current folder.
    pub fn quiet(seed: u64) -> Self {
        Self {
            base: PathBuf::from("."),
            seed,
            device: "cpu".to_owned(),
            offline: true,
            progress: Progress::silent(),
            cancel: Cancel::default(),
        }
    }
}
