//! Fuzzes the readers of foreign formats: feeds damaged and hostile inputs to the stage and reports panics.
//!
//! Usage: `fuzz <archive|warc|html|chat|table|dataset> SECONDS [SEED]`. Every input is a file, or a dataset, that the
//! whole stage collects. Inputs that cause a panic or take long are kept in the current folder as
//! `fuzz-<target>-<number>-<file>`. If the process aborts (stack overflow, out of memory), the input is in the folder
//! that is printed first. Memory is the peak of the process, as Linux reports it.

mod chats;
#[path = "../../tests/columnar/mod.rs"]
mod columnar;
#[path = "../../tests/corpus/mod.rs"]
mod corpus;
mod input;
mod inputs;
#[path = "../../tests/packed/mod.rs"]
mod packed;
mod random;
mod web;

use std::error::Error;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use data_ingest::{Source, dataset};
use input::Input;
use inputs::{Inputs, Target};
use random::Random;

/// Inputs that take more processor time than this are kept as slow ones; seconds. Heuristic, not
/// measured: because no input has more than 4 MB.
const SLOW_SECONDS: f64 = 5.0;
/// Inputs that are kept before the program gives up.
const MAX_KEPT: u64 = 20;

/// Panics so far, including those that the stage itself turns into a bad record.
static PANICS: AtomicU64 = AtomicU64::new(0);
/// The message of the last panic.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

#[derive(Default)]
struct Counts {
    inputs: u64,
    bytes: u64,
    collected: u64,
    kept: u64,
    panics: u64,
    slowest_seconds: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: fuzz <archive|warc|html|chat|table|dataset> SECONDS [SEED]";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds, seed @ ..] = &arguments[..] else { return Err(usage.into()) };
    let target = Target::named(name).ok_or(usage)?;
    let length = Duration::from_secs(seconds.parse()?);
    let seed = seed.first().map_or(Ok(1), |seed| seed.parse())?;
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = panic.to_string();
        }
    }));
    let folder = tempfile::Builder::new().prefix(&format!("fuzz-{name}-")).tempdir()?;
    println!("{name}, seed {seed}, inputs in {}", folder.path().display());
    let inputs = Inputs::new(target);
    let (mut random, mut counts, begin) = (Random(seed), Counts::default(), Instant::now());
    while begin.elapsed() < length && counts.kept < MAX_KEPT {
        feed(&inputs.next(&mut random), name, folder.path(), &mut counts)?;
    }
    let Counts { inputs, bytes, collected, kept, panics, slowest_seconds } = counts;
    let (seconds, bytes) = (begin.elapsed().as_secs(), bytes as f64 / 1e6);
    println!("{inputs} inputs, {bytes:.1} MB in {seconds} s; {collected} gave documents");
    println!("{:.0} s of processor time, {slowest_seconds:.2} s for the slowest", processor_seconds());
    println!("peak memory {:.0} MB", peak_memory_bytes() as f64 / 1e6);
    println!("panics {panics}, and {} that became bad records; kept {kept}", PANICS.load(Ordering::Relaxed) - panics);
    if kept == 0 { Ok(()) } else { Err(format!("{kept} inputs are kept as fuzz-{name}-*").into()) }
}

/// Runs the stage on an input, and keeps the input if it panics or is slow.
fn feed(input: &Input, target: &str, folder: &Path, counts: &mut Counts) -> Result<(), Box<dyn Error>> {
    let (base, out) = (folder.join("in"), folder.join("out"));
    let files: Vec<(&str, &[u8])> = input.files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    corpus::write(&base, &files);
    let begin = processor_seconds();
    let collected = catch_unwind(AssertUnwindSafe(|| collect(input, &base, &out)));
    let spent = processor_seconds() - begin;
    counts.inputs += 1;
    counts.bytes += files.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    counts.collected += u64::from(matches!(collected, Ok(true)));
    counts.panics += u64::from(collected.is_err());
    counts.slowest_seconds = counts.slowest_seconds.max(spent);
    if collected.is_err() || spent > SLOW_SECONDS {
        counts.kept += 1;
        let what = if collected.is_err() {
            LAST_PANIC.lock().map_or_else(|_| String::new(), |last| last.clone())
        } else {
            "slow".to_owned()
        };
        println!("{}: {:.1} s: {what}", counts.kept, spent);
        for (name, bytes) in &files {
            fs::write(format!("fuzz-{target}-{}-{}", counts.kept, name.replace('/', "-")), bytes)?;
        }
    }
    fs::remove_dir_all(&base)?;
    Ok(())
}

/// Collects an input, and returns true if it yielded documents.
fn collect(input: &Input, base: &Path, out: &Path) -> bool {
    let context = corpus::context(base);
    if input.config.dataset.is_some() {
        let stays_here = |source: &Source| {
            let leads_out = |path: &String| path.contains("..") || path.starts_with(['/', '\\', '~', '$']);
            source.git.is_none() && source.path.as_ref().is_none_or(|path| !leads_out(path))
        };
        // A random path may be that of a whole disk.
        match dataset::summary(&input.config, &context) {
            Ok(summary) if summary.sources.iter().all(stays_here) => {}
            _ => return false,
        }
    }
    corpus::collect_into(&input.config, &context, out).is_ok()
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
