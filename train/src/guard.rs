//! Stops a training that went wrong while the last good state is still there.

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use model::{Transformer, named_parameters};
use serde::{Deserialize, Serialize};

/// Losses that the median is taken of; fewer than half of them are too few to judge by. A guess.
const RECENT: usize = 64;

/// Losses that the one shown is the mean of.
const SMOOTHED: usize = 16;

/// The losses of the latest steps, kept with the trainer's state so that a resumed run judges as the first one would.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecentLosses(Vec<f64>);

impl RecentLosses {
    /// Adds the loss of a step; returns the median of those before it where it is more than `factor` times as high, and
    /// more than one nat above. A factor of 0 never does.
    ///
    /// A nat more is what a model forgets when it falls from one token in e² to one in e³: batches of one text differ by
    /// less.
    pub fn spike(&mut self, loss: f64, factor: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied();
        if self.0.len() == RECENT {
            self.0.remove(0);
        }
        self.0.push(loss);
        median.filter(|median| {
            factor > 0.0 && sorted.len() >= RECENT / 2 && loss > median * factor && loss > median + 1.0
        })
    }

    /// Returns the mean of the latest losses, NaN of none.
    pub fn smoothed(&self) -> f64 {
        let latest = &self.0[self.0.len().saturating_sub(SMOOTHED)..];
        latest.iter().sum::<f64>() / latest.len() as f64
    }
}

/// Returns the Euclidean norm of the gradients of each layer, and of what is outside the layers, in words.
pub fn norms_by_layer(model: &Transformer, gradients: &GradientsParams) -> String {
    let mut norms = Norms { gradients, squares: Vec::new() };
    named_parameters::visit(model, &mut norms);
    let words: Vec<String> =
        norms.squares.into_iter().map(|(part, square)| format!("{part} {:.3}", square.sqrt())).collect();
    words.join(", ")
}

struct Norms<'a> {
    gradients: &'a GradientsParams,
    squares: Vec<(String, f64)>,
}

impl named_parameters::Visitor for Norms<'_> {
    fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        let depth = if path.starts_with("layers.") { 2 } else { 1 };
        let part = path.split('.').take(depth).collect::<Vec<_>>().join(".");
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
    fn a_spike_is_a_loss_far_above_the_recent_ones() {
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
        // Twice as high, but hardly higher: a small loss may do that.
        check(&[0.1; 50], 0.9, 2.0, None);
        check(&[0.1; 50], 1.2, 2.0, Some(0.1));
        // Too few to judge by.
        check(&[2.0; 31], 9.0, 2.0, None);
    }
}
