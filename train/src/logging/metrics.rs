//! `metrics.jsonl`, with one line per logged step or validation, and the same numbers for TensorBoard.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::tensorboard::Events;
use crate::Error;
use crate::objective::ValidationLoss;
use crate::objective::teacher::LossParts;

/// The file's name.
pub const FILE: &str = "metrics.jsonl";

/// The metrics of a step.
#[derive(Debug, Clone, Copy)]
pub struct StepMetrics {
    /// Steps taken.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// The mean loss, in nats.
    pub loss: f64,
    /// Distillation: the parts of the loss.
    pub parts: Option<LossParts>,
    /// The learning rate.
    pub learning_rate: f64,
    /// The Euclidean norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Tokens per second since the line before.
    pub tokens_per_second: f64,
    /// The model's floating-point operations per second since then.
    pub flops_per_second: f64,
}

/// The metrics of a run.
pub struct Metrics {
    path: PathBuf,
    file: File,
    events: Events,
}

/// The fields of a line that TensorBoard shows, with the tags that it groups them by.
const TAGS: [(&str, &str); 11] = [
    ("loss", "train/loss"),
    ("cross_entropy", "train/cross_entropy"),
    ("teacher_divergence", "train/teacher_divergence"),
    ("learning_rate", "train/learning_rate"),
    ("gradient_norm", "train/gradient_norm"),
    ("tokens_per_second", "speed/tokens_per_second"),
    ("flops_per_second", "speed/flops_per_second"),
    ("validation_loss", "validation/loss"),
    ("validation_bits_per_byte", "validation/bits_per_byte"),
    ("validation_accuracy", "validation/accuracy"),
    ("validation_margin", "validation/margin"),
];

impl Metrics {
    /// Opens the log in `folder` and drops the lines after `step`, which a resumed run writes again.
    ///
    /// # Errors
    /// On I/O errors.
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
        let lines: Vec<&str> = text.lines().filter(kept).collect();
        let kept: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        artifact::file::write_atomically(&path, kept.as_bytes())?;
        let mut events = Events::create(folder, unix_seconds())?;
        for line in lines.iter().filter_map(|line| serde_json::from_str(line).ok()) {
            write_scalars(&mut events, &line)?;
        }
        let file = File::options().append(true).open(&path).map_err(|e| artifact::Error::io("open", &path, e))?;
        Ok(Self { path, file, events })
    }

    /// Writes the metrics of a step.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn step(&mut self, m: &StepMetrics) -> Result<(), Error> {
        let mut line = json!({
            "unix_seconds": unix_seconds(),
            "step": m.step,
            "tokens": m.tokens,
            "loss": m.loss,
            "learning_rate": m.learning_rate,
            "gradient_norm": m.gradient_norm,
            "tokens_per_second": m.tokens_per_second.round(),
            "flops_per_second": m.flops_per_second.round(),
        });
        if let Some(LossParts { cross_entropy, divergence }) = m.parts {
            line["cross_entropy"] = cross_entropy.into();
            line["teacher_divergence"] = divergence.into();
        }
        self.line(&line)
    }

    /// Writes the results of a validation.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn validation(&mut self, step: u64, tokens: u64, results: &ValidationLoss) -> Result<(), Error> {
        let mut line = json!({
            "unix_seconds": unix_seconds(),
            "step": step,
            "tokens": tokens,
            "validation_loss": results.loss,
        });
        let ValidationLoss { bits_per_byte, accuracy, margin, .. } = *results;
        for (name, value) in [("bits_per_byte", bits_per_byte), ("accuracy", accuracy), ("margin", margin)] {
            if let Some(value) = value {
                line[format!("validation_{name}")] = value.into();
            }
        }
        self.line(&line)
    }

    // One write per line, so that a kill leaves no partial line except the last.
    fn line(&mut self, value: &Value) -> Result<(), Error> {
        self.file
            .write_all(format!("{value}\n").as_bytes())
            .map_err(|e| artifact::Error::io("write", &self.path, e))?;
        write_scalars(&mut self.events, value)
    }
}

fn write_scalars(events: &mut Events, line: &Value) -> Result<(), Error> {
    let number = |field: &str| line[field].as_f64();
    let scalars: Vec<(&str, f64)> =
        TAGS.iter().filter_map(|(field, tag)| number(field).map(|value| (*tag, value))).collect();
    events.scalars(number("unix_seconds").unwrap_or(0.0), line["step"].as_u64().unwrap_or(0), &scalars)
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resumed_log_has_each_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::resume(folder.path(), 0).unwrap();
        let results = ValidationLoss { loss: 2.0, bits_per_byte: Some(1.0), ..ValidationLoss::default() };
        for step in 1..=4 {
            metrics.validation(step, step * 10, &results).unwrap();
        }
        let path = folder.path().join(FILE);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"step\": 5, \"los").unwrap();
        let mut metrics = Metrics::resume(folder.path(), 2).unwrap();
        metrics.validation(3, 30, &results).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let steps: Vec<u64> =
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [1, 2, 3]);
    }
}
