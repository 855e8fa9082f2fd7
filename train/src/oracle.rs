//! The first hundred steps against PyTorch: the same weights, the same batches, nearly the same losses.

use std::path::Path;

use model::checkpoint;
use model::device;

use crate::batches::MicroBatch;
use crate::gradients::{self, Loss, Workers};
use crate::optimizer::Optimizer;
use crate::{Config, OptimizerKind};

const VOCAB: i64 = 48;
const CONTEXT: usize = 16;
const BATCH: usize = 4;
const TOKENS: usize = 2000;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// As `tests/fixtures/first_steps.py` has them.
fn tokens() -> Vec<i64> {
    let mut tokens = vec![1];
    for i in 1..TOKENS as i64 {
        tokens.push((tokens[i as usize - 1] * 5 + 7 + i % 3) % VOCAB);
    }
    tokens
}

/// Returns a step's rows, `parts` micro-batches of them.
fn batches(tokens: &[i64], step: u64, parts: usize) -> Vec<MicroBatch> {
    let starts: Vec<usize> = (0..BATCH).map(|row| (step as usize * BATCH + row) * 37 % (TOKENS - CONTEXT)).collect();
    let rows = |starts: &[usize], offset: usize| {
        starts.iter().flat_map(|start| tokens[start + offset..start + offset + CONTEXT].to_vec()).collect()
    };
    let part = |starts: &[usize]| MicroBatch {
        width: CONTEXT,
        tokens: rows(starts, 0),
        targets: rows(starts, 1),
        starts: None,
        n_tokens: starts.len() * CONTEXT,
    };
    starts.chunks(BATCH / parts).map(part).collect()
}

#[test]
fn the_first_hundred_losses_are_those_of_pytorch() {
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
                let loss =
                    Loss { z_loss: 0.0, dropout: 0.0, seed: 1, step, activations: model::ActivationCheckpointing::Off };
                let (loss, gradients) = workers.gradients(&model, &batches(&tokens, step, parts), &loss).unwrap();
                let expected = expected.as_f64().unwrap();
                assert!((loss - expected).abs() < 1e-3, "{family}, step {step}: {loss}, PyTorch {expected}");
                let scale = (1.0 / gradients::norm(&model, &gradients).unwrap()).min(1.0);
                model = optimizer.step(config.learning_rate_at(step), model, gradients, scale);
            }
        }
    }
}
