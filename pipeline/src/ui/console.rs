//! Progress of a run: a bar per stage on a terminal, plain lines elsewhere, and the same lines in the log.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use artifact::{Event, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::run::stage::Stage;
use artifact::format;

/// The interval of plain progress lines: heuristic; short enough to see progress, long enough for the log of a CI job.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// The terminal and the log of a run. Cheap to clone; safe to use from any thread.
#[derive(Clone)]
pub struct Console(Arc<Mutex<State>>);

struct State {
    plain: bool,
    quiet: bool,
    started: Instant,
    log: Option<File>,
    bar: Option<ProgressBar>,
    work: Option<Work>,
}

/// The part of a stage that is running.
struct Work {
    stage: Stage,
    part: String,
    total: u64,
    unit: String,
    done: u64,
    figures: String,
    /// The first reported position, from which the rate is measured, since a resumed stage does not begin at zero.
    first: Option<(Instant, u64)>,
    shown: Instant,
}

impl Console {
    /// Returns a console on stderr.
    pub fn new() -> Self {
        Self::with(!std::io::stderr().is_terminal(), false)
    }

    /// Returns a console that prints nothing.
    pub fn quiet() -> Self {
        Self::with(true, true)
    }

    fn with(plain: bool, quiet: bool) -> Self {
        Self(Arc::new(Mutex::new(State { plain, quiet, started: Instant::now(), log: None, bar: None, work: None })))
    }

    /// Also writes every further line to the file `path`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn log_to(&self, path: &Path) -> Result<(), artifact::Error> {
        let file = File::create(path).map_err(|e| artifact::Error::io("create", path, e))?;
        self.state().log = Some(file);
        Ok(())
    }

    /// Prints a line.
    pub fn line(&self, text: &str) {
        self.state().line(text);
    }

    /// Writes a line to the log only.
    pub fn log(&self, text: &str) {
        self.state().record(text);
    }

    /// Returns the progress of `stage`.
    pub fn progress(&self, stage: Stage) -> Progress {
        let console = self.clone();
        Progress::new(move |event| console.state().hear(stage, &event))
    }

    /// Removes the bar and prints how the stage ended.
    pub fn done(&self, stage: Stage, text: &str) {
        let mut state = self.state();
        state.clear();
        state.line(&format!("{stage:>10}  {text}"));
    }

    /// Removes the bar.
    pub fn clear(&self) {
        self.state().clear();
    }

    // After a panic while the lock was held, the worst is an outdated number on the screen.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.work = None;
    }

    fn line(&mut self, text: &str) {
        self.record(text);
        if self.quiet {
            return;
        }
        // A closed stderr must not end the run.
        let print = || drop(writeln!(std::io::stderr(), "{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn record(&mut self, text: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        if let Some(log) = &mut self.log {
            // The run does not depend on its log.
            let _ = writeln!(log, "{seconds:>9.2} s  {text}");
        }
    }

    fn hear(&mut self, stage: Stage, event: &Event<'_>) {
        match *event {
            Event::Begin { part, total, unit } => self.begin(stage, part, total, unit),
            Event::Position(done) => self.position(done),
            Event::Figures(text) => {
                if let Some(work) = &mut self.work {
                    text.clone_into(&mut work.figures);
                }
                if let Some(bar) = &self.bar {
                    bar.set_message(text.to_owned());
                }
            }
            Event::Line(text) => {
                for (i, line) in printable(text).lines().enumerate() {
                    let name = if i == 0 { stage.name() } else { "" };
                    self.line(&format!("{name:>10}  {line}"));
                }
            }
        }
    }

    fn begin(&mut self, stage: Stage, part: &str, total: u64, unit: &str) {
        let now = Instant::now();
        // Otherwise each part of a fast stage would print a line.
        let shown = self.work.as_ref().filter(|work| work.stage == stage).map_or(now, |work| work.shown);
        self.work = Some(Work {
            stage,
            part: part.to_owned(),
            total,
            unit: unit.to_owned(),
            done: 0,
            figures: String::new(),
            first: None,
            shown,
        });
        self.record(&format!("{stage:>10}  {part}: {}", amount(total, unit)));
        if self.plain {
            return;
        }
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let bar = ProgressBar::with_draw_target((total > 0).then_some(total), ProgressDrawTarget::stderr());
        bar.set_style(style(total, unit));
        bar.set_prefix(format!("{stage:>10}  {part}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bar = Some(bar);
    }

    fn position(&mut self, done: u64) {
        let Some(work) = &mut self.work else { return };
        work.done = done;
        let now = Instant::now();
        if work.first.is_none() {
            work.first = Some((now, done));
            if let Some(bar) = &self.bar {
                bar.set_position(done);
                bar.reset_eta();
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
        if now.duration_since(work.shown) >= PLAIN_INTERVAL {
            work.shown = now;
            let text = work.describe(now);
            if self.plain { self.line(&text) } else { self.record(&text) }
        }
    }
}

impl Work {
    fn describe(&self, now: Instant) -> String {
        let done = match self.total {
            0 => amount(self.done, &self.unit),
            total => {
                let percent = 100.0 * self.done as f64 / total as f64;
                let done = if self.unit == "bytes" { format::bytes(self.done) } else { self.done.to_string() };
                format!("{done} of {} ({percent:.0} %)", amount(total, &self.unit))
            }
        };
        let mut parts = vec![format!("{:>10}  {}: {done}", self.stage, self.part)];
        if let Some((at, done)) = self.first {
            let seconds = now.duration_since(at).as_secs_f64();
            let rate = self.done.saturating_sub(done) as f64 / seconds.max(1e-9);
            if rate > 0.0 {
                parts.push(match self.unit.as_str() {
                    "bytes" => format!("{}/s", format::bytes(rate as u64)),
                    _ if rate < 10.0 => format!("{rate:.2}/s"),
                    _ => format!("{}/s", format::count(rate)),
                });
                if self.total > self.done {
                    parts.push(format!("{} left", format::seconds((self.total - self.done) as f64 / rate)));
                }
            }
        }
        if !self.figures.is_empty() {
            parts.push(self.figures.clone());
        }
        parts.join(", ")
    }
}

/// Returns `text` with U+FFFD for each control character except line ends and tabs: generated text must not control the
/// terminal.
pub fn printable(text: &str) -> String {
    let commands = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.replace(commands, "\u{fffd}")
}

fn amount(number: u64, unit: &str) -> String {
    match unit {
        "bytes" => format::bytes(number),
        _ => format!("{number} {unit}"),
    }
}

fn style(total: u64, unit: &str) -> ProgressStyle {
    let (place, rate) = match unit {
        "bytes" => ("{decimal_bytes}/{decimal_total_bytes}".to_owned(), "{decimal_bytes_per_sec}"),
        _ => (format!("{{human_pos}}/{{human_len}} {unit}"), "{per_sec}"),
    };
    let template = if total > 0 {
        format!("{{prefix}}  [{{bar:12}}] {place}  {rate}  {{eta}} left  {{wide_msg}}")
    } else {
        format!("{{prefix}}  {{spinner}} {{human_pos}} {unit}  {{elapsed}}  {{wide_msg}}")
    };
    // The templates are ours; the plain bar stands in should one be wrong.
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ ")
}

/// Lines of libraries, mostly warnings, are printed above the bar.
impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Console {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        Lines { console: self.clone(), text: Vec::new() }
    }
}

/// Buffers what is written and prints it as lines when dropped.
pub struct Lines {
    console: Console,
    text: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        for line in String::from_utf8_lossy(&self.text).lines() {
            self.console.line(line);
        }
    }
}
