//! What the number types of the KV cache cost and gain.
//!
//! `cargo run --release -p inference --example kv_cache -- MODEL [TOKENS] [TEXTS] [THREADS]`: MODEL is a folder in the
//! Hugging Face layout or a GGUF file. Samples TEXTS texts (8) of TOKENS tokens (the context) from the model with the
//! cache in f32, and prints for each type how far the logits of these texts are from those with f32, the bytes of a
//! token in the cache, and the speed of decoding at the end of a text: medians of runs in turns.

use std::path::PathBuf;
use std::time::Instant;

use inference::{Decoder, Engine, EngineOptions, ForwardPass, Parity, Row, Sampling};
use kernels::slices::{KvPages, KvType};

const TYPES: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Int8];
const REPEATS: usize = 5;
/// The tokens that are decoded for a measurement of speed.
const DECODED_TOKENS: usize = 32;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("usage: kv_cache MODEL [TOKENS] [TEXTS] [THREADS]")?);
    let mut number = || arguments.next().map(|number| number.parse::<usize>()).transpose();
    let (tokens, texts, threads) = (number()?, number()?.unwrap_or(8), number()?);
    let load = |cache_type| Engine::load(&path, &EngineOptions { threads, cache_type, ..EngineOptions::default() });
    let mut engines = TYPES.map(load).into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    let config = engines[0].config().clone();
    let tokens = tokens.unwrap_or(config.context_length).min(config.context_length);
    let mut parities = TYPES.map(|_| Parity::default());
    for seed in 0..texts as u64 {
        let sampling = Sampling { temperature: 1.0, seed, ..Sampling::unfiltered() };
        let first = config.begin_of_text.unwrap_or(1);
        let mut text = vec![first];
        let decoder = Decoder::new(&mut engines[0], &[first], &sampling, tokens - 1)?;
        text.extend(decoder.collect::<std::result::Result<Vec<_>, _>>()?);
        let reference = read(&mut engines[0], &text, 0)?;
        for (engine, parity) in engines.iter_mut().zip(&mut parities) {
            let found = read(engine, &text, 0)?;
            let rows = reference.chunks(config.vocab_size).zip(found.chunks(config.vocab_size));
            rows.zip(&text[1..]).for_each(|((a, b), target)| parity.add(a, b, *target as usize));
        }
    }
    let mut speeds = TYPES.map(|_| Vec::new());
    for _ in 0..REPEATS {
        for (engine, speeds) in engines.iter_mut().zip(&mut speeds) {
            let start = Instant::now();
            for position in tokens.saturating_sub(DECODED_TOKENS)..tokens {
                read(engine, &[7], position)?;
            }
            speeds.push(DECODED_TOKENS.min(tokens) as f64 / start.elapsed().as_secs_f64());
        }
    }
    println!("{texts} texts of {tokens} tokens; decoding at position {tokens}");
    println!("type  bytes a token  tokens/s  KL, nats  top-1 agreement  largest logit difference");
    for ((cache_type, parity), mut speeds) in TYPES.into_iter().zip(parities).zip(speeds) {
        speeds.sort_by(f64::total_cmp);
        let block = KvPages::new(cache_type, config.n_kv_head, config.head_dim, 32).block_bytes();
        println!(
            "{:5} {:13} {:9.1}  {:8.2e} {:14.2} % {:25.5}",
            format!("{cache_type:?}"),
            config.n_layer * block / 32,
            speeds[REPEATS / 2],
            parity.kl_divergence_nats(),
            100.0 * parity.top_1_agreement(),
            parity.max_logit_difference,
        );
    }
    Ok(())
}

/// Reads tokens from a position, and returns the logits of all.
fn read(engine: &mut Engine, tokens: &[u32], from: usize) -> Result<Vec<f32>> {
    let blocks: Vec<u32> = (0..engine.block_count() as u32).collect();
    let row = |(i, token): (usize, &u32)| Row { sequence: 0, position: from + i, token: *token, wants_logits: true };
    let mut logits = Vec::new();
    engine.forward(&tokens.iter().enumerate().map(row).collect::<Vec<_>>(), &[&blocks], &mut logits)?;
    Ok(logits)
}
