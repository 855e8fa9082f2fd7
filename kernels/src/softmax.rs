//! Softmax of a row, and of the rows of causal attention.
//!
//! Dimensions: T queries, S keys.

use rayon::prelude::*;

use crate::dispatch::{ROWS_PER_TASK, vectorized};
use crate::simd::{exp, max, sum, sum_of_two};

/// Turns scores `[.., T, S]` into probabilities: see [`crate::causal_softmax`].
pub fn causal_softmax(scores: &mut [f32], keys: usize, queries: usize, scale: f32) {
    scores.par_chunks_mut(keys).enumerate().with_min_len(ROWS_PER_TASK).for_each(|(row, scores)| {
        let (visible, masked) = scores.split_at_mut(visible_keys(row, keys, queries));
        masked.fill(0.0);
        vectorized!(softmax_row(visible, scale));
    });
}

/// Turns a row of scores into softmax(`scale` × scores).
#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
pub fn softmax_row(row: &mut [f32], scale: f32) {
    let largest = max(row);
    for x in &mut *row {
        *x = exp((*x - largest) * scale);
    }
    let factor = 1.0 / sum(row, |x| x);
    for x in &mut *row {
        *x *= factor;
    }
}

/// Turns the gradient of the probabilities into that of the scores: scale × p × (gradient − Σ gradient × p).
pub fn causal_softmax_backward(probs: &[f32], gradient: &mut [f32], keys: usize, queries: usize, scale: f32) {
    let rows = probs.par_chunks(keys).zip(gradient.par_chunks_mut(keys)).enumerate().with_min_len(ROWS_PER_TASK);
    rows.for_each(|(row, (probs, gradient))| {
        let probs = &probs[..visible_keys(row, keys, queries)];
        let (visible, masked) = gradient.split_at_mut(probs.len());
        masked.fill(0.0);
        vectorized!({
            let mean = sum_of_two(probs, visible, |p, g| p * g);
            for (g, p) in visible.iter_mut().zip(probs) {
                *g = scale * p * (*g - mean);
            }
        });
    });
}

/// Returns the number of keys that the query of a row attends to.
fn visible_keys(row: usize, keys: usize, queries: usize) -> usize {
    keys - queries + row % queries + 1
}
