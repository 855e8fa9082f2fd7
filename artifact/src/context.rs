//! What a stage is handed beside its inputs: where to report, and when to stop.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something a stage tells whoever watches it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// A part of the work begins: what it is, how much there is (0 where unknown), and in which unit.
    Begin {
        /// A short noun phrase: "encoding".
        part: &'a str,
        /// How many units there are; 0 where nobody knows.
        total: u64,
        /// The unit's name in the plural: "documents", "bytes", "steps", "tokens".
        unit: &'a str,
    },
    /// So many units are done.
    Position(u64),
    /// The figures that matter just now: "loss 3.214".
    Figures(&'a str),
    /// A line to keep, such as a sample of the model half-way.
    Line(&'a str),
}

/// Where a stage reports. Cheap to clone and to call; safe from any thread.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(Event<'_>) + Send + Sync>);

impl Progress {
    /// Returns a progress that hands every event to `listen`.
    pub fn new(listen: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listen))
    }

    /// Returns a progress nobody watches.
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    /// Begins a part of `total` units (0 where unknown).
    pub fn begin(&self, part: &str, total: u64, unit: &str) {
        (self.0)(Event::Begin { part, total, unit });
    }

    /// Sets how many units of the part are done.
    pub fn position(&self, done: u64) {
        (self.0)(Event::Position(done));
    }

    /// Shows the figures that matter just now.
    pub fn figures(&self, text: &str) {
        (self.0)(Event::Figures(text));
    }

    /// Prints a line that stays.
    pub fn line(&self, text: &str) {
        (self.0)(Event::Line(text));
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Asks a stage to stop at the next point where nothing is lost.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Tells whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What every stage is handed.
#[derive(Debug, Clone)]
pub struct Context {
    /// The folder that relative paths of the configuration start from: the one `pipeline.toml` lies in.
    pub base: PathBuf,
    /// The seed of everything random.
    pub seed: u64,
    /// The device's name as the configuration gives it: `auto`, `cpu`, `wgpu`, ….
    pub device: String,
    /// Whether the network may not be used.
    pub offline: bool,
    /// Where to report.
    pub progress: Progress,
    /// When to stop.
    pub cancel: Cancel,
}

impl Context {
    /// Returns a context for a test or a tool: silent, on the CPU, with paths from the current folder.
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
