//! The speed of training a model on this machine.

use std::time::Instant;

use burn::tensor::Device;
use model::{ModelConfig, Transformer};

use crate::data::batches::MicroBatch;
use crate::objective::StepOptions;
use crate::objective::cross_entropy::gradients;
use crate::optim::gradients::{Workers, cores};
use crate::optim::optimizer::Optimizer;
use crate::{Config, Error};

/// Maximum seconds of a measured step; larger models are not tried.
pub const MAX_STEP_SECONDS: f64 = 4.0;

/// Tokens in a measured step: enough to keep the machine busy, few enough to be quick.
const STEP_TOKENS: usize = 2048;

/// Measured steps; the first, which is not counted, compiles or tunes kernels.
const STEPS: u64 = 4;

/// The speed of a model.
pub struct Speed {
    /// Tokens per second, over whole steps.
    pub tokens_per_second: f64,
    /// Seconds of the fastest step.
    pub step_seconds: f64,
}

/// Returns the number of micro-batches that keep the machine busy.
pub fn parallelism(on_cpu: bool) -> usize {
    if on_cpu { cores().min(8) } else { 1 }
}

/// Measures whole steps of a model with random weights.
///
/// # Errors
/// Returns an error if the device fails.
pub fn measure(config: &Config, model: &ModelConfig, device: &Device, on_cpu: bool) -> Result<Speed, Error> {
    let width = config.model.context_length;
    let micro_batches = parallelism(on_cpu);
    let rows = (STEP_TOKENS / width / micro_batches).max(1);
    let ids = |offset: usize| (0..rows * width).map(|i| ((i + offset) % model.vocab_size) as i64).collect();
    let batch = || MicroBatch { width, tokens: ids(0), targets: ids(1), segment_starts: None, n_tokens: rows * width };
    let batches: Vec<MicroBatch> = (0..micro_batches).map(|_| batch()).collect();
    let workers = Workers::new(on_cpu, micro_batches);
    let mut optimizer = Optimizer::new(config);
    let mut trained = Transformer::init(model, 1, device).with_precision(config.precision);
    let mut step_seconds = f64::INFINITY;
    for step in 0..STEPS {
        let start = Instant::now();
        let (_, gradients) = gradients(&workers, &trained, &batches, &StepOptions::new(config, 1, step))?;
        trained = optimizer.step(1e-4, trained, gradients, 1.0);
        device.sync().map_err(Error::compute)?;
        let seconds = start.elapsed().as_secs_f64();
        if step > 0 {
            step_seconds = step_seconds.min(seconds);
            if seconds > MAX_STEP_SECONDS {
                break;
            }
        }
    }
    Ok(Speed { tokens_per_second: (micro_batches * rows * width) as f64 / step_seconds, step_seconds })
}
