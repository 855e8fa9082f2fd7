//! Training curves, from the checkpoint's `metrics.jsonl`.
//!
//! A line is an object with a `step` and its metrics. Malformed lines and values that are not numbers are skipped: a
//! truncated line should not fail the report. If a step occurs twice, as in a resumed run, the later line counts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// The keys of the metrics.
const KEYS: [&str; 5] = ["loss", "validation_loss", "learning_rate", "gradient_norm", "tokens_per_second"];

/// A metric by step.
pub type Curve = Vec<(f64, f64)>;

/// The metrics of training.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curves {
    /// The training loss, in nats.
    pub loss: Curve,
    /// The validation loss, in nats.
    pub validation_loss: Curve,
    /// The learning rate.
    pub learning_rate: Curve,
    /// The norm of the gradients before clipping.
    pub gradient_norm: Curve,
    /// The speed.
    pub tokens_per_second: Curve,
    /// The figures of the whole training.
    pub summary: Summary,
}

/// A summary of training; none for values that the metrics do not hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct Summary {
    /// Steps taken.
    pub steps: Option<u64>,
    /// Tokens trained on.
    pub tokens: Option<u64>,
    /// The last training loss.
    pub last_loss_nats: Option<f64>,
    /// The validation loss before the first step.
    pub initial_validation_loss_nats: Option<f64>,
    /// The lowest validation loss.
    pub best_validation_loss_nats: Option<f64>,
    /// The step of that.
    pub best_validation_step: Option<u64>,
}

impl Curves {
    /// Reads the lines of a `metrics.jsonl`.
    pub fn read(text: &str) -> Self {
        let mut curves: [BTreeMap<u64, f64>; KEYS.len()] = Default::default();
        let mut tokens: Option<u64> = None;
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let Some(step) = line["step"].as_u64() else { continue };
            tokens = tokens.max(line["tokens"].as_u64());
            for (curve, key) in curves.iter_mut().zip(KEYS) {
                if let Some(value) = line[key].as_f64() {
                    curve.insert(step, value);
                }
            }
        }
        let [loss, validation, learning_rate, gradient_norm, tokens_per_second] = &curves;
        let best = validation.iter().min_by(|a, b| a.1.total_cmp(b.1));
        let summary = Summary {
            steps: curves.iter().filter_map(|curve| curve.keys().last()).max().copied(),
            tokens,
            last_loss_nats: loss.values().last().copied(),
            initial_validation_loss_nats: validation.get(&0).copied(),
            best_validation_loss_nats: best.map(|(_, loss)| *loss),
            best_validation_step: best.map(|(step, _)| *step),
        };
        let points = |curve: &BTreeMap<u64, f64>| curve.iter().map(|(step, value)| (*step as f64, *value)).collect();
        Self {
            loss: points(loss),
            validation_loss: points(validation),
            learning_rate: points(learning_rate),
            gradient_norm: points(gradient_norm),
            tokens_per_second: points(tokens_per_second),
            summary,
        }
    }
}

/// Returns a moving average over a thirtieth of the curve, so that the trend shows in runs of any length. Towards the
/// ends the window shrinks symmetrically.
pub fn smoothed(curve: &[(f64, f64)]) -> Curve {
    let finite: Curve = curve.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let reach = finite.len() / 60;
    (0..finite.len())
        .map(|i| {
            let reach = reach.min(i).min(finite.len() - 1 - i);
            let around = &finite[i - reach..=i + reach];
            (finite[i].0, around.iter().map(|(_, value)| value).sum::<f64>() / around.len() as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_curves() {
        let text = r#"
            {"step": 1, "tokens": 100, "loss": 8.0, "learning_rate": 0.001, "gradient_norm": 2.0}
            {"step": 2, "tokens": 200, "loss": 7.0, "learning_rate": 0.002}
            {"step": 2, "tokens": 200, "validation_loss": 7.5}
            not a line
            [1, 2]
            {"loss": 1.0}
            {"step": 3, "tokens": 300, "loss": null, "learning_rate": "high"}
            {"step": 4, "tokens": 400, "validation_loss": 6.5}
            {"step": 5, "validation_loss": 6.75}
            {"step": 2, "tokens": 200, "loss": 7.25}
            {"step": 6, "tok"#;
        let curves = Curves::read(text);
        assert_eq!(curves.loss, [(1.0, 8.0), (2.0, 7.25)]);
        assert_eq!(curves.validation_loss, [(2.0, 7.5), (4.0, 6.5), (5.0, 6.75)]);
        assert_eq!(curves.learning_rate, [(1.0, 0.001), (2.0, 0.002)]);
        assert_eq!((&curves.gradient_norm[..], curves.tokens_per_second.len()), (&[(1.0, 2.0)][..], 0));
        let expected = Summary {
            steps: Some(5),
            tokens: Some(400),
            last_loss_nats: Some(7.25),
            initial_validation_loss_nats: None,
            best_validation_loss_nats: Some(6.5),
            best_validation_step: Some(4),
        };
        assert_eq!(curves.summary, expected);
        assert_eq!(Curves::read(""), Curves::default());
    }

    #[test]
    fn smoothing_keeps_constants_and_short_curves() {
        let short: Curve = (0..10).map(|i| (f64::from(i), f64::from(i * i))).collect();
        assert_eq!(smoothed(&short), short);
        let constant: Curve = (0..300).map(|i| (f64::from(i), 2.5)).collect();
        assert!(smoothed(&constant).iter().all(|(_, y)| (y - 2.5).abs() < 1e-9));
        // With 120 points the window has two points to either side, fewer at the ends.
        let spiky: Curve = (0..120).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let smooth: Vec<f64> = smoothed(&spiky).into_iter().map(|(_, y)| y).collect();
        assert_eq!(smooth[..4], [0.0, 1.0 / 3.0, 2.0 / 5.0, 3.0 / 5.0]);
        assert_eq!(smooth[117..], [3.0 / 5.0, 2.0 / 3.0, 1.0]);
        assert!(smoothed(&[(0.0, f64::NAN)]).is_empty());
    }
}
