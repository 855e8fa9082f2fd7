//! Detection of divergence: a loss or gradient that is not finite, or a loss spike.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use model::named_parameters;
use serde::{Deserialize, Serialize};

/// The number of losses in the median; with fewer than half of them, no spike is detected. Heuristic, not measured:
/// because one step's batch must not move the median, and after a few hundred steps the loss changes little in 64
/// steps.
const MEDIAN_STEPS: usize = 64;

/// The number of losses in the mean that is shown.
const SMOOTHED_STEPS: usize = 16;

/// The losses of the latest steps, saved with the trainer's state so that a resumed run detects the same spikes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecentLosses(Vec<f64>);

impl RecentLosses {
    /// Adds the loss of a step. If it is a spike, more than `factor` times and more than one nat above the median of
    /// the losses before it, returns that median. A factor of 0 disables the detection.
    ///
    /// One nat is a perplexity e times as high; the losses of batches of one text differ by less.
    pub fn spike(&mut self, loss: f64, factor: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied();
        if self.0.len() == MEDIAN_STEPS {
            self.0.remove(0);
        }
        self.0.push(loss);
        median.filter(|median| {
            factor > 0.0 && sorted.len() >= MEDIAN_STEPS / 2 && loss > median * factor && loss > median + 1.0
        })
    }

    /// Returns the mean of the latest losses; NaN if there are none.
    pub fn smoothed(&self) -> f64 {
        let latest = &self.0[self.0.len().saturating_sub(SMOOTHED_STEPS)..];
        latest.iter().sum::<f64>() / latest.len() as f64
    }
}

/// Describes the gradient norms of each layer and of the parameters outside the layers.
pub fn norms_by_layer(model: &impl Module, gradients: &GradientsParams) -> String {
    let mut norms = Norms { gradients, squares: Vec::new() };
    named_parameters::visit(model, &mut norms);
    let parts: Vec<String> =
        norms.squares.into_iter().map(|(part, square)| format!("{part} {:.3}", square.sqrt())).collect();
    parts.join(", ")
}

struct Norms<'a> {
    gradients: &'a GradientsParams,
    squares: Vec<(String, f64)>,
}

impl named_parameters::Visitor for Norms<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        let depth = if name.starts_with("layers.") { 2 } else { 1 };
        let part = name.split('.').take(depth).collect::<Vec<_>>().join(".");
        let square = gradient.square().sum().try_into_scalar::<f32>().map_or(f64::NAN, f64::from);
        match self.squares.last_mut().filter(|(last, _)| *last == part) {
            Some((_, sum)) => *sum += square,
            None => self.squares.push((part, square)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spike_is_far_above_the_recent_losses() {
        let check = |before: &[f64], loss, factor, expected: Option<f64>| {
            let mut recent = RecentLosses::default();
            for loss in before {
                assert_eq!(recent.spike(*loss, factor), None);
            }
            assert_eq!(recent.spike(loss, factor), expected, "{loss} after {before:?}");
        };
        let falling: Vec<f64> = (0..100).map(|i| 6.0 - f64::from(i) / 50.0).collect();
        check(&falling, 9.5, 2.0, Some(falling[67]));
        check(&falling, 9.5, 0.0, None);
        check(&falling, 8.0, 2.0, None);
        // More than twice as high, but less than a nat above: normal for a small loss.
        check(&[0.1; 50], 0.9, 2.0, None);
        check(&[0.1; 50], 1.2, 2.0, Some(0.1));
        // Too few losses before it.
        check(&[2.0; 31], 9.0, 2.0, None);
    }
}
