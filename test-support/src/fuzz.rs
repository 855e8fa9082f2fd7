//! A harness for fuzzers: feeds random inputs for some time, and keeps those that cause a panic or take long.
//!
//! The time is that of the processor, so that a busy machine makes the search longer instead of weaker.
//!
//! If the process aborts (stack overflow, out of memory), the last input is in the folder that is printed first.

mod random;

use std::error::Error;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub use random::Random;

/// Inputs that take more processor time than this are kept as slow ones; seconds. Heuristic, not measured: because no
/// input has more than a few megabytes.
const SLOW_SECONDS: f64 = 5.0;
/// Inputs that are kept before the program gives up.
const MAX_KEPT: u64 = 20;

/// Panics so far, of all threads.
static PANICS: AtomicU64 = AtomicU64::new(0);
/// Panics so far of other threads than the first.
static PANICS_ELSEWHERE: AtomicU64 = AtomicU64::new(0);
/// The message of the last panic.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// The command line of a fuzzer: `TARGET SECONDS [SEED]`.
#[derive(Debug, Clone)]
pub struct Arguments {
    pub target: String,
    /// How much processor time to use; wall-clock time where the system does not say.
    pub seconds: f64,
    pub seed: u64,
}

impl Arguments {
    /// Reads the command line of the process.
    ///
    /// # Errors
    /// Returns `usage`, or an error if a number is invalid.
    pub fn read(usage: &str) -> Result<Self, Box<dyn Error>> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [target, seconds, seed @ ..] = &arguments[..] else { return Err(usage.into()) };
        let seed = seed.first().map_or(Ok(1), |seed| seed.parse())?;
        Ok(Self { target: target.clone(), seconds: seconds.parse()?, seed })
    }
}

/// Something that can be written to files.
pub trait Input {
    /// Returns the names and bytes of the files.
    fn files(&self) -> Vec<(&str, &[u8])>;
}

impl Input for Vec<u8> {
    fn files(&self) -> Vec<(&str, &[u8])> {
        vec![("input", self)]
    }
}

/// Which panics count, besides those that reach the harness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Findings {
    /// No others: what is fuzzed turns panics of its libraries into errors, in whichever thread.
    Uncaught,
    /// Those of other threads.
    OtherThreads,
}

#[derive(Default)]
struct Counts {
    inputs: u64,
    bytes: u64,
    valid: u64,
    kept: u64,
    panics: u64,
    slowest_seconds: f64,
}

/// Feeds inputs until the time is up and prints what happened. `feed` gets the input and a folder, in which it finds
/// the input's files in `in`, and returns true if the input is valid. Findings are written to the current folder as
/// `fuzz-<target>-<number>-<file>`.
///
/// # Errors
/// Returns an error if there are findings, or on I/O errors.
pub fn run<I: Input>(
    arguments: &Arguments,
    findings: Findings,
    mut next: impl FnMut(&mut Random) -> I,
    mut feed: impl FnMut(&I, &Path) -> bool,
) -> Result<(), Box<dyn Error>> {
    let Arguments { target, seconds, seed } = arguments;
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        if std::thread::current().name() != Some("main") {
            PANICS_ELSEWHERE.fetch_add(1, Ordering::Relaxed);
        }
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = panic.to_string();
        }
    }));
    let folder = tempfile::Builder::new().prefix(&format!("fuzz-{target}-")).tempdir()?;
    println!("{target}, seed {seed}, inputs in {}", folder.path().display());
    let (mut random, mut counts, begin) = (Random(*seed), Counts::default(), Instant::now());
    let spent = || processor_seconds().unwrap_or(begin.elapsed().as_secs_f64());
    while spent() < *seconds && counts.kept < MAX_KEPT {
        let input = next(&mut random);
        let inside = folder.path().join("in");
        fs::create_dir_all(&inside)?;
        for (name, bytes) in input.files() {
            let path = inside.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&inside))?;
            fs::write(path, bytes)?;
        }
        counts.feed(target, findings, &input, || feed(&input, folder.path()))?;
        fs::remove_dir_all(&inside)?;
    }
    let Counts { inputs, bytes, valid, kept, panics, slowest_seconds } = counts;
    let (elapsed, bytes) = (begin.elapsed().as_secs(), bytes as f64 / 1e6);
    println!("{inputs} inputs, {bytes:.1} MB in {elapsed} s; {valid} valid");
    println!("{:.0} s of processor time, {slowest_seconds:.2} s for the slowest", spent());
    println!("peak memory {:.0} MB", peak_memory_bytes() as f64 / 1e6);
    println!("panics {panics}, and {} that became errors; kept {kept}", PANICS.load(Ordering::Relaxed) - panics);
    if kept == 0 { Ok(()) } else { Err(format!("{kept} inputs are kept as fuzz-{target}-*").into()) }
}

impl Counts {
    /// Feeds an input, and keeps it if it is a finding or slow.
    fn feed(
        &mut self,
        target: &str,
        findings: Findings,
        input: &impl Input,
        feed: impl FnOnce() -> bool,
    ) -> Result<(), Box<dyn Error>> {
        let (begin, elsewhere) = (processor_seconds().unwrap_or(0.0), PANICS_ELSEWHERE.load(Ordering::Relaxed));
        let fed = catch_unwind(AssertUnwindSafe(feed));
        let elsewhere = PANICS_ELSEWHERE.load(Ordering::Relaxed) - elsewhere;
        let has_panicked = fed.is_err() || findings == Findings::OtherThreads && elsewhere > 0;
        let (spent, files) = (processor_seconds().unwrap_or(0.0) - begin, input.files());
        self.inputs += 1;
        self.bytes += files.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        self.valid += u64::from(fed.unwrap_or(false));
        self.panics += u64::from(has_panicked);
        self.slowest_seconds = self.slowest_seconds.max(spent);
        if has_panicked || spent > SLOW_SECONDS {
            self.kept += 1;
            let what = if has_panicked {
                LAST_PANIC.lock().map_or_else(|_| String::new(), |last| last.clone())
            } else {
                "slow".to_owned()
            };
            println!("{}: {spent:.1} s: {what}", self.kept);
            for (name, bytes) in files {
                fs::write(format!("fuzz-{target}-{}-{}", self.kept, name.replace('/', "-")), bytes)?;
            }
        }
        Ok(())
    }
}

/// Returns the processor time of this process in seconds, on Linux to a hundredth; none elsewhere. On a busy machine,
/// wall-clock time says nothing about an input.
fn processor_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which is in parentheses, the 12th and 13th fields are ticks of user and system time (proc(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(ticks as f64 / 100.0)
}

/// Returns the peak memory of this process, as Linux reports it; 0 elsewhere.
fn peak_memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}
