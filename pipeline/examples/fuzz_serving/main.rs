//! Fuzzes what serving reads from others: requests, and the files of models. Feeds damaged and hostile inputs and
//! reports panics.
//!
//! Usage: `fuzz_serving <request|template|config|tokenizer|safetensors|gguf> SECONDS [SEED]`. A request goes to a
//! server in this process; a file is put among the valid ones of a tiny model, which is loaded and asked for a few
//! tokens. Inputs that cause a panic or take long are kept in the current folder as `fuzz-<target>-<number>`. If the
//! process aborts (stack overflow, out of memory), the last input is the file that is printed first. Memory is the peak
//! of the process, as Linux reports it.

mod files;
mod json;
#[path = "../../../data-ingest/examples/fuzz/random.rs"]
mod random;
mod requests;
mod templates;

use std::error::Error;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use files::{File, Files};
use random::Random;
use requests::Requests;
use templates::Templates;

/// Inputs that take more processor time than this are kept as slow ones; seconds. Heuristic, not measured: because no
/// input has more than a megabyte.
const SLOW_SECONDS: f64 = 5.0;
/// Inputs that are kept before the program gives up.
const MAX_KEPT: u64 = 20;

/// Panics so far of other threads than the first: those of the server, which turns them into errors.
static PANICS: AtomicU64 = AtomicU64::new(0);
/// The message of the last panic.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// A kind of input.
trait Target {
    /// Returns the next input.
    fn next(&self, random: &mut Random) -> Vec<u8>;

    /// Reads an input, and returns true if it is valid.
    fn feed(&self, input: &[u8]) -> bool;
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

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: fuzz_serving <request|template|config|tokenizer|safetensors|gguf> SECONDS [SEED]";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds, seed @ ..] = &arguments[..] else { return Err(usage.into()) };
    let length = Duration::from_secs(seconds.parse()?);
    let seed = seed.first().map_or(Ok(1), |seed| seed.parse())?;
    let folder = tempfile::Builder::new().prefix(&format!("fuzz-{name}-")).tempdir()?;
    let target: Box<dyn Target> = match name.as_str() {
        "request" => Box::new(Requests::new(&folder.path().join("model"))?),
        "template" => Box::new(Templates),
        "config" => Box::new(Files::new(File::Config, &folder.path().join("model"))?),
        "tokenizer" => Box::new(Files::new(File::Tokenizer, &folder.path().join("model"))?),
        "safetensors" => Box::new(Files::new(File::Safetensors, &folder.path().join("model"))?),
        "gguf" => Box::new(Files::new(File::Gguf, &folder.path().join("model"))?),
        _ => return Err(usage.into()),
    };
    std::panic::set_hook(Box::new(|panic| {
        let is_of_server = std::thread::current().name() != Some("main");
        PANICS.fetch_add(u64::from(is_of_server), Ordering::Relaxed);
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = panic.to_string();
        }
    }));
    let last = folder.path().join("last");
    println!("{name}, seed {seed}, the last input is {}", last.display());
    let (mut random, mut counts, begin) = (Random(seed), Counts::default(), Instant::now());
    while begin.elapsed() < length && counts.kept < MAX_KEPT {
        let input = target.next(&mut random);
        fs::write(&last, &input)?;
        feed(&*target, &input, name, &mut counts)?;
    }
    let Counts { inputs, bytes, valid, kept, panics, slowest_seconds } = counts;
    let (seconds, bytes) = (begin.elapsed().as_secs(), bytes as f64 / 1e6);
    println!("{inputs} inputs, {bytes:.1} MB in {seconds} s; {valid} valid");
    println!("{:.0} s of processor time, {slowest_seconds:.2} s for the slowest", processor_seconds());
    println!("peak memory {:.0} MB", peak_memory_bytes() as f64 / 1e6);
    println!("panics {panics}; kept {kept}");
    if kept == 0 { Ok(()) } else { Err(format!("{kept} inputs are kept as fuzz-{name}-*").into()) }
}

/// Feeds an input, and keeps it if anything panics or it is slow.
fn feed(target: &dyn Target, input: &[u8], name: &str, counts: &mut Counts) -> Result<(), Box<dyn Error>> {
    let (begin, panics) = (processor_seconds(), PANICS.load(Ordering::Relaxed));
    let fed = catch_unwind(AssertUnwindSafe(|| target.feed(input)));
    // What a reader catches of its libraries is an error, and no panic.
    let has_panicked = fed.is_err() || PANICS.load(Ordering::Relaxed) > panics;
    let (spent, valid) = (processor_seconds() - begin, fed.unwrap_or(false));
    counts.inputs += 1;
    counts.bytes += input.len() as u64;
    counts.valid += u64::from(valid);
    counts.panics += u64::from(has_panicked);
    counts.slowest_seconds = counts.slowest_seconds.max(spent);
    if has_panicked || spent > SLOW_SECONDS {
        counts.kept += 1;
        let what = if has_panicked {
            LAST_PANIC.lock().map_or_else(|_| String::new(), |last| last.clone())
        } else {
            "slow".to_owned()
        };
        println!("{}: {spent:.1} s: {what}", counts.kept);
        fs::write(format!("fuzz-{name}-{}", counts.kept), input)?;
    }
    Ok(())
}

/// Returns the processor time of this process in seconds, on Linux to a hundredth: on a busy machine, wall-clock time
/// says nothing about an input.
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which is in parentheses, the 12th and 13th fields are ticks of user and system time (proc(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

fn peak_memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}
