//! Cross-entropy.
//!
//! Dimensions: N rows, V classes.

use rayon::prelude::*;

use crate::dispatch::{ROWS_PER_TASK, vectorized};
use crate::simd::{exp, max, sum};

/// Turns logits `[N, V]` into the gradient of the loss, and returns the loss: see [`crate::cross_entropy`].
pub fn cross_entropy(logits: &mut [f32], classes: usize, targets: &[i64], loss_scale: f64, z_loss: f64) -> f32 {
    let losses: Vec<f64> = logits
        .par_chunks_mut(classes)
        .zip(targets.par_iter())
        .with_min_len(ROWS_PER_TASK)
        .map(|(row, target)| {
            if *target < 0 {
                row.fill(0.0);
                return 0.0;
            }
            vectorized(|| {
                let target = *target as usize;
                let largest = max(row);
                let own = row[target] - largest;
                for x in &mut *row {
                    *x = exp(*x - largest);
                }
                let total = sum(row, |x| x);
                // The maximum ignores NaN, so that only the sum shows it.
                let log_total = if total.is_nan() { f64::NAN } else { f64::from(total).ln() };
                let lse = log_total + f64::from(largest);
                let factor = (loss_scale * (1.0 + 2.0 * z_loss * lse)) as f32 / total;
                for x in &mut *row {
                    *x *= factor;
                }
                row[target] -= loss_scale as f32;
                log_total - f64::from(own) + z_loss * lse * lse
            })
        })
        .collect();
    (losses.iter().sum::<f64>() * loss_scale) as f32
}
