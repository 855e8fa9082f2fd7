//! `metrics.jsonl`: one line a measurement, written as training goes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Error;

/// The file's name.
pub const FILE: &str = "metrics.jsonl";

/// What one step measured.
#[derive(Debug, Clone, Copy)]
pub struct StepMetrics {
    /// Steps taken.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Mean cross-entropy of the step's tokens, in nats.
    pub loss: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// The Euclidean norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Tokens a second since the line before.
    pub tokens_per_second: f64,
}

/// The log of a run.
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the log in `folder` and drops the lines after `step`, which a resumed run measures again.
    pub fn resume(folder: &Path, step: u64) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.map_err(|e| artifact::Error::io("read", &path, e))?,
        };
        let kept = |line: &&str| {
            let line: Option<Value> = serde_json::from_str(line).ok();
            line.and_then(|line| line["step"].as_u64()).is_some_and(|at| at <= step)
        };
        let lines: String = text.lines().filter(kept).flat_map(|line| [line, "\n"]).collect();
        artifact::file::write_atomically(&path, lines.as_bytes())?;
        let file = File::options().append(true).open(&path).map_err(|e| artifact::Error::io("open", &path, e))?;
        Ok(Self { path, file })
    }

    /// Adds a step.
    pub fn step(&mut self, m: &StepMetrics) -> Result<(), Error> {
        self.line(&json!({
            "step": m.step,
            "tokens": m.tokens,
            "loss": m.loss,
            "learning_rate": m.learning_rate,
            "gradient_norm": m.gradient_norm,
            "tokens_per_second": m.tokens_per_second.round(),
        }))
    }

    /// Adds a measurement on the validation split.
    pub fn validation(&mut self, step: u64, tokens: u64, loss: f64, bits_per_byte: f64) -> Result<(), Error> {
        self.line(&json!({
            "step": step,
            "tokens": tokens,
            "validation_loss": loss,
            "validation_bits_per_byte": bits_per_byte,
        }))
    }

    // One write a line, so that a kill leaves whole lines but for the last.
    fn line(&mut self, value: &Value) -> Result<(), Error> {
        Ok(self
            .file
            .write_all(format!("{value}\n").as_bytes())
            .map_err(|e| artifact::Error::io("write", &self.path, e))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_log_has_each_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::resume(folder.path(), 0).unwrap();
        for step in 1..=4 {
            metrics.validation(step, step * 10, 2.0, 1.0).unwrap();
        }
        let path = folder.path().join(FILE);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"step\": 5, \"los").unwrap();
        let mut metrics = Metrics::resume(folder.path(), 2).unwrap();
        metrics.validation(3, 30, 1.5, 1.0).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let steps: Vec<u64> =
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [1, 2, 3]);
    }
}
