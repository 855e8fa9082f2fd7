//! The speed of scoring a split: the CPU engine beside the model in burn, in turns.
//!
//! `cargo run --release -p inference --example scoring_speed -- CHECKPOINT TOKENS [SPLIT] [MAX_TOKENS]`: the folders of
//! two artifacts, for instance of the default run. Prints medians of tokens per second, the median of the ratios of
//! pairs, and both losses.

use std::path::PathBuf;
use std::time::Instant;

use artifact::Sealed;
use inference::{Engine, EngineOptions};
use model::checkpoint;
use model::device;
use model::scoring::{self, SlidingWindow};
use tokenizer::shard::Split;

const PAIRS: usize = 5;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let usage = "usage: scoring_speed CHECKPOINT TOKENS [SPLIT] [MAX_TOKENS]";
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or(usage)?);
    let tokens = Sealed::open(&PathBuf::from(arguments.next().ok_or(usage)?))?;
    let split = Split::open(&tokens, arguments.next().as_deref().unwrap_or("test"))?;
    let max_tokens = arguments.next().map(|tokens| tokens.parse()).transpose()?;

    let device = device::resolve("cpu")?;
    let model = checkpoint::load(&folder, &device)?;
    let mut engine = Engine::load(&folder, &EngineOptions::default())?;
    let windows = SlidingWindow::overlapping(model.config(), &device, max_tokens);
    let [mut engine_speeds, mut burn_speeds, mut ratios] = [const { Vec::new() }; 3];
    let mut losses = [0.0; 2];
    for _ in 0..PAIRS {
        let start = Instant::now();
        let scores = inference::scoring::score(&mut engine, model.config(), &split, &windows, |_| true)?;
        let engine_speed = scores.tokens as f64 / start.elapsed().as_secs_f64();
        losses[0] = scores.loss_nats;
        let start = Instant::now();
        let scores = scoring::score(&model, &split, &windows, |_| true)?;
        let burn_speed = scores.tokens as f64 / start.elapsed().as_secs_f64();
        losses[1] = scores.loss_nats;
        engine_speeds.push(engine_speed);
        burn_speeds.push(burn_speed);
        ratios.push(engine_speed / burn_speed);
    }
    println!("engine {:9.0} tokens/s, loss {:.6}", median(engine_speeds), losses[0]);
    println!("burn   {:9.0} tokens/s, loss {:.6}", median(burn_speeds), losses[1]);
    println!("ratio  {:9.2}", median(ratios));
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
