//! The first hundred steps against PyTorch: the same weights and batches, losses within 1e-3.

use std::path::Path;

use model::{checkpoint, device};

use super::gradients;
use crate::data::batches::MicroBatch;
use crate::objective::StepOptions;
use crate::optim::gradients::{Workers, norm};
use crate::optim::optimizer::Optimizer;
use crate::optim::schedule::learning_rate;
use crate::{Config, OptimizerKind};

const VOCAB: i64 = 48;
const CONTEXT: usize = 16;
const BATCH: usize = 4;
const TOKENS: usize = 2000;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The tokens of `tests/fixtures/first_steps.py`.
fn tokens() -> Vec<i64> {
    let mut tokens = vec![1];
    for i in 1..TOKENS as i64 {
        tokens.push((tokens[i as usize - 1] * 5 + 7 + i % 3) % VOCAB);
    }
    tokens
}

/// Returns the rows of a step in `parts` micro-batches.
fn batches(tokens: &[i64], step: u64, parts: usize) -> Vec<MicroBatch> {
    let starts: Vec<usize> = (0..BATCH).map(|row| (step as usize * BATCH + row) * 37 % (TOKENS - CONTEXT)).collect();
    let rows = |starts: &[usize], offset: usize| {
        starts.iter().flat_map(|start| tokens[start + offset..start + offset + CONTEXT].to_vec()).collect()
    };
    let part = |starts: &[usize]| MicroBatch {
        width: CONTEXT,
        tokens: rows(starts, 0),
        targets: rows(starts, 1),
        segment_starts: None,
        n_tokens: starts.len() * CONTEXT,
    };
    starts.chunks(BATCH / parts).map(part).collect()
}

#[test]
fn first_hundred_losses_match_pytorch() {
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture("first_steps.json")).unwrap()).unwrap();
    let tokens = tokens();
    let config = Config {
        optimizer: OptimizerKind::Adamw,
        steps: 100,
        learning_rate: 3e-3,
        warmup_steps: 10,
        final_learning_rate_ratio: 0.1,
        ..Config::default()
    };
    for family in ["gpt2", "qwen3"] {
        for parts in [1, 2] {
            let device = device::resolve("cpu").unwrap().autodiff();
            let mut model = checkpoint::load(&fixture(&format!("first_steps_{family}")), &device).unwrap();
            let mut optimizer = Optimizer::new(&config);
            let workers = Workers::new(true, parts);
            let expected = expected[family].as_array().unwrap();
            for (step, expected) in expected.iter().enumerate() {
                let step = step as u64;
                let options = StepOptions::new(&config, 1, step);
                let (loss, gradients) = gradients(&workers, &model, &batches(&tokens, step, parts), &options).unwrap();
                let expected = expected.as_f64().unwrap();
                assert!((loss - expected).abs() < 1e-3, "{family}, step {step}: {loss}, PyTorch {expected}");
                let scale = (1.0 / norm(&model, &gradients).unwrap()).min(1.0);
                model = optimizer.step(learning_rate(&config, step), model, gradients, scale);
            }
        }
    }
}
