//! The speed of the CPU engine beside its limits.
//!
//! `cargo run --release -p inference --example decode_speed -- MODEL [TYPE] [THREADS]`: MODEL is a folder in the
//! Hugging Face layout or a GGUF file; TYPE is f32, bf16, f16, int8, int4 or `stored` (the default). Prints seconds to
//! load and pack, and medians of tokens per second: prefill of 512 tokens, decoding of one sequence and of sixteen; of
//! the bandwidth of memory, measured in turns with decoding, and of the arithmetic peak, the fraction that each
//! reaches.
//!
//! With the fourth argument `in-turns`, measures what each line of the standard input names (`decode 1`, `decode 16`,
//! `prefill 512`) and answers with a line of tokens per second: `benches/llama_speed.py` alternates with llama.cpp.
//! With `load`, only loads.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use inference::{Engine, EngineOptions, ForwardPass, Row};
use kernels::Pool;
use kernels::packed::WeightType;

const REPEATS: usize = 5;
const PREFILL_TOKENS: usize = 512;
const DECODED_TOKENS: usize = 128;

/// The bytes of the measurement of bandwidth: several times what caches hold.
const BANDWIDTH_BYTES: usize = 1 << 28;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let usage = "usage: decode_speed MODEL [TYPE] [THREADS] [in-turns|load]";
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or(usage)?);
    let weight_type = match arguments.next().as_deref() {
        None | Some("stored") => None,
        Some("f32") => Some(WeightType::F32),
        Some("bf16") => Some(WeightType::Bf16),
        Some("f16") => Some(WeightType::F16),
        Some("int8") => Some(WeightType::Int8),
        Some("int4") => Some(WeightType::Int4),
        Some(other) => return Err(format!("unknown type {other}").into()),
    };
    let threads = arguments.next().map(|threads| threads.parse()).transpose()?;
    let options = EngineOptions { weight_type, threads, cache_tokens: Some(8 * 1024), ..EngineOptions::default() };
    let start = Instant::now();
    let mut engine = Engine::load(&path, &options)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let mode = arguments.next();
    if mode.as_deref() == Some("in-turns") {
        return in_turns(&mut engine);
    }
    println!("load       {load_seconds:8.3} s, {:.1} MB of matrices", engine.weight_bytes() as f64 / 1e6);
    match mode.as_deref() {
        None => table(&mut engine, threads),
        Some("load") => Ok(()),
        Some(_) => Err(usage.into()),
    }
}

fn in_turns(engine: &mut Engine) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (name, count) = line.split_once(' ').ok_or("a line is a measurement and a number")?;
        let speed = match name {
            "prefill" => prefill(engine, count.parse()?)?,
            "decode" => decode(engine, count.parse()?)?,
            other => return Err(format!("unknown measurement {other}").into()),
        };
        println!("{speed}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn table(engine: &mut Engine, threads: Option<usize>) -> Result<()> {
    let pool = Pool::new(threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)));
    let mut memory = vec![1u64; BANDWIDTH_BYTES / 8];
    let mut measurements = [const { Vec::new() }; 5];
    for _ in 0..REPEATS {
        measurements[0].push(bandwidth(&pool, &mut memory));
        measurements[1].push(clock());
        measurements[2].push(prefill(engine, PREFILL_TOKENS)?);
        measurements[3].push(decode(engine, 1)?);
        measurements[4].push(decode(engine, 16)?);
    }
    let [bandwidth, clock, prefill, decode, decode_16] = measurements.map(median);
    let peak = pool.threads() as f64 * clock * operations_per_cycle();
    println!("bandwidth  {:8.1} GB/s", bandwidth / 1e9);
    println!("peak       {:8.1} GFLOP/s at {:.2} GHz", peak / 1e9, clock / 1e9);
    // Prefill computes the logits of one row only.
    let config = engine.config();
    let n_tables = if config.tied_embeddings { 1 } else { 2 };
    let tables = n_tables * config.vocab_size * config.d_model;
    let operations = 2.0 * (config.parameters() as f64 - tables as f64);
    println!("prefill    {prefill:8.1} tokens/s, {:.0} % of the peak of f32", 100.0 * prefill * operations / peak);
    let read = engine.bytes_per_pass() as f64;
    println!(
        "decode     {decode:8.1} tokens/s, {:.1} MB each, {:.0} % of the bandwidth",
        read / 1e6,
        100.0 * decode * read / bandwidth
    );
    println!("16 at once {decode_16:8.1} tokens/s");
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the bytes a second that the threads of a pool read.
fn bandwidth(pool: &Pool, memory: &mut [u64]) -> f64 {
    let start = Instant::now();
    pool.for_each_chunk(memory, 1 << 14, |_, chunk| {
        let mut lanes = [0u64; 16];
        for chunk in chunk.as_chunks::<16>().0 {
            lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane = lane.wrapping_add(*x));
        }
        black_box(lanes);
    });
    BANDWIDTH_BYTES as f64 / start.elapsed().as_secs_f64()
}

/// Returns the cycles a second of this thread, from a chain of multiplications and additions: three cycles and one on
/// processors of `x86_64` and most of ARM.
fn clock() -> f64 {
    const STEPS: u64 = 10_000_000;
    let factor = black_box(0x9e37_79b9_7f4a_7c15u64);
    let start = Instant::now();
    black_box((0..STEPS).fold(1u64, |x, i| x.wrapping_mul(factor) ^ i));
    4.0 * STEPS as f64 / start.elapsed().as_secs_f64()
}

/// Returns the operations in f32 of a core in a cycle: two multiply-adds of the widest vectors.
fn operations_per_cycle() -> f64 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        return 64.0;
    }
    if cfg!(target_arch = "x86_64") { 32.0 } else { 16.0 }
}

/// Returns the tokens a second of reading a text of `tokens` tokens at once.
fn prefill(engine: &mut Engine, tokens: usize) -> Result<f64> {
    let tokens = tokens.min(engine.context_length());
    let mut logits = Vec::new();
    let start = Instant::now();
    read(engine, 1, 0, tokens, &mut logits)?;
    Ok(tokens as f64 / start.elapsed().as_secs_f64())
}

/// Returns the tokens a second of extending `sequences` sequences together, after a prompt of one token.
fn decode(engine: &mut Engine, sequences: usize) -> Result<f64> {
    let tokens = DECODED_TOKENS.min(engine.context_length() - 1);
    let mut logits = Vec::new();
    read(engine, sequences, 0, 1, &mut logits)?;
    let start = Instant::now();
    for position in 1..=tokens {
        read(engine, sequences, position, 1, &mut logits)?;
    }
    Ok((sequences * tokens) as f64 / start.elapsed().as_secs_f64())
}

/// Reads `count` tokens of each sequence from a position, and computes the logits of the last of each.
fn read(
    engine: &mut Engine,
    sequences: usize,
    from: usize,
    count: usize,
    logits: &mut Vec<f32>,
) -> std::result::Result<(), inference::Error> {
    let per_sequence = (PREFILL_TOKENS / sequences.min(2)).div_ceil(engine.block_tokens()) as u32;
    let blocks: Vec<Vec<u32>> =
        (0..sequences as u32).map(|i| (i * per_sequence..(i + 1) * per_sequence).collect()).collect();
    let blocks: Vec<&[u32]> = blocks.iter().map(Vec::as_slice).collect();
    let vocab_size = engine.vocab_size();
    let row = |sequence: usize, position: usize| Row {
        sequence,
        position,
        token: ((position * 7919 + sequence + 13) % vocab_size) as u32,
        wants_logits: position + 1 == from + count,
    };
    let rows: Vec<Row> =
        (0..sequences).flat_map(|sequence| (from..from + count).map(move |at| row(sequence, at))).collect();
    logits.clear();
    engine.forward(&rows, &blocks, logits)
}
