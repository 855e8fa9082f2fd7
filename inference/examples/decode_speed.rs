//! The speed of the CPU engine: `cargo run --release -p inference --example decode_speed -- FOLDER [TYPE] [THREADS]`.
//!
//! FOLDER is a model in the Hugging Face layout; TYPE is f32, bf16, f16, int8 or int4 (as stored by default). Prints
//! seconds to load and pack, and tokens per second: the prefill of 512 tokens, decoding of one sequence and of sixteen,
//! each the median of five.

use std::path::PathBuf;
use std::time::Instant;

use inference::{Engine, EngineOptions, ForwardPass, Row};
use kernels::packed::WeightType;

const REPEATS: usize = 5;
const PREFILL_TOKENS: usize = 512;
const DECODED_TOKENS: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: decode_speed FOLDER [TYPE] [THREADS]")?);
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
    let options = EngineOptions { weight_type, threads, cache_tokens: Some(16 * 1024), ..EngineOptions::default() };
    let start = Instant::now();
    let mut engine = Engine::load(&folder, &options)?;
    println!("load     {:8.2} s, {} MB of matrices", start.elapsed().as_secs_f64(), engine.weight_bytes() / 1_000_000);
    let prefill = PREFILL_TOKENS.min(engine.context_length() - DECODED_TOKENS);
    for (name, sequences, first, steps, rows_of_step) in [
        ("prefill", 1, 0, 1, prefill),
        ("decode", 1, prefill, DECODED_TOKENS, 1),
        ("16 texts", 16, prefill, DECODED_TOKENS / 4, 1),
    ] {
        let mut speeds: Vec<f64> = (0..REPEATS)
            .map(|_| measure(&mut engine, sequences, first, steps, rows_of_step))
            .collect::<Result<_, _>>()?;
        speeds.sort_by(f64::total_cmp);
        println!("{name:8} {:8.1} tokens/s", speeds[REPEATS / 2]);
    }
    Ok(())
}

/// Returns tokens per second of `steps` forward passes, each with `rows_of_step` tokens of each sequence, from position
/// `first`, up to which the sequences are read before.
fn measure(
    engine: &mut Engine,
    sequences: usize,
    first: usize,
    steps: usize,
    rows_of_step: usize,
) -> Result<f64, inference::Error> {
    let per_sequence = (first + steps * rows_of_step).div_ceil(engine.block_tokens()) as u32;
    let blocks: Vec<Vec<u32>> =
        (0..sequences as u32).map(|i| (i * per_sequence..(i + 1) * per_sequence).collect()).collect();
    let blocks: Vec<&[u32]> = blocks.iter().map(Vec::as_slice).collect();
    let vocab_size = engine.vocab_size();
    let mut logits = Vec::new();
    let mut read = |from: usize, count: usize| {
        let row = |sequence: usize, position: usize| Row {
            sequence,
            position,
            token: ((position * 7 + sequence) % vocab_size) as u32,
            wants_logits: position + 1 == from + count,
        };
        let rows: Vec<Row> =
            (0..sequences).flat_map(|sequence| (from..from + count).map(move |at| row(sequence, at))).collect();
        logits.clear();
        engine.forward(&rows, &blocks, &mut logits)
    };
    if first > 0 {
        read(0, first)?;
    }
    let start = Instant::now();
    for step in 0..steps {
        read(first + step * rows_of_step, rows_of_step)?;
    }
    Ok((sequences * steps * rows_of_step) as f64 / start.elapsed().as_secs_f64())
}
