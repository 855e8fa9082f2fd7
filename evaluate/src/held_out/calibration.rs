//! Calibration: whether the model is right as often as it is confident.
//!
//! Predictions are divided into [`BINS`] bins of equal width by the probability of the most likely token. The expected
//! calibration error is the mean over predictions of the difference between accuracy and mean confidence of their bin
//! (On Calibration of Modern Neural Networks, 2017).

use schemars::JsonSchema;
use serde::Serialize;

/// The number of bins, that of the paper.
const BINS: usize = 15;

/// The calibration of a model.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Calibration {
    /// The expected calibration error.
    pub(crate) expected_calibration_error: f64,
    /// The mean confidence minus the accuracy, over all tokens; above 0, the model is too confident.
    pub(crate) overconfidence: f64,
    /// The bins that have predictions, from the lowest confidence.
    pub(crate) bins: Vec<Bin>,
}

/// The predictions whose confidence is in one range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Bin {
    /// Predicted tokens.
    pub(crate) tokens: u64,
    /// The mean probability of the most likely token.
    pub(crate) confidence: f64,
    /// The fraction of tokens that were the most likely one.
    pub(crate) accuracy: f64,
}

/// Sums over the predictions of each bin.
#[derive(Debug, Default)]
pub(crate) struct Confidences([Sums; BINS]);

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    tokens: u64,
    confidence: f64,
    right: u64,
}

impl Confidences {
    /// Adds a prediction: the natural logarithm of the probability of the most likely token, and whether it was right.
    pub(crate) fn add(&mut self, top_log_probability: f32, is_right: bool) {
        let confidence = f64::from(top_log_probability).exp().clamp(0.0, 1.0);
        // Bins are open below and closed above.
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let sums = &mut self.0[bin];
        sums.tokens += 1;
        sums.confidence += confidence;
        sums.right += u64::from(is_right);
    }

    /// Returns the calibration; without predictions, all figures are 0.
    pub(crate) fn calibration(&self) -> Calibration {
        let bin = |sums: &Sums| Bin {
            tokens: sums.tokens,
            confidence: sums.confidence / sums.tokens as f64,
            accuracy: sums.right as f64 / sums.tokens as f64,
        };
        let bins: Vec<Bin> = self.0.iter().filter(|sums| sums.tokens > 0).map(bin).collect();
        let tokens = bins.iter().map(|bin| bin.tokens).sum::<u64>().max(1) as f64;
        let mean = |of: fn(&Bin) -> f64| bins.iter().map(|bin| bin.tokens as f64 * of(bin)).sum::<f64>() / tokens;
        Calibration {
            expected_calibration_error: mean(|bin| (bin.accuracy - bin.confidence).abs()),
            overconfidence: mean(|bin| bin.confidence - bin.accuracy),
            bins,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(predictions: &[(f32, bool)]) -> Calibration {
        let mut confidences = Confidences::default();
        for (confidence, is_right) in predictions {
            confidences.add(confidence.ln(), *is_right);
        }
        confidences.calibration()
    }

    #[test]
    fn errors_match_a_computation_by_hand() {
        let check = |predictions: &[(f32, bool)], error: f64, overconfidence: f64| {
            let found = calibration(predictions);
            assert!((found.expected_calibration_error - error).abs() < 1e-6, "{found:?}");
            assert!((found.overconfidence - overconfidence).abs() < 1e-6, "{found:?}");
        };
        check(&[], 0.0, 0.0);
        check(&[(1.0, true)], 0.0, 0.0);
        check(&[(1.0, false)], 1.0, 1.0);
        // Half of the predictions at 0.5 are right.
        check(&[(0.5, true), (0.5, false)], 0.0, 0.0);
        // Two bins whose errors, 0.9 − 0.5 and 0.3 − 0.5, cancel out in the overconfidence alone.
        check(&[(0.9, true), (0.9, false), (0.3, true), (0.3, false)], 0.3, 0.1);
    }

    #[test]
    fn bins_are_closed_above() {
        // 1/15 belongs to the first bin; what follows, to the second. 0 has a bin too.
        let bins = calibration(&[(1.0 / 15.0 - 1e-6, true), (1.0 / 15.0 + 1e-6, true), (0.0, false), (1.0, true)]).bins;
        assert_eq!(bins.iter().map(|bin| bin.tokens).collect::<Vec<_>>(), [2, 1, 1]);
    }
}
