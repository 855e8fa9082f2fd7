//! RMSNorm and LayerNorm.
//!
//! Dimensions: D elements of a row.

use rayon::prelude::*;

use crate::dispatch::{ROWS_PER_TASK, vectorized};
use crate::reduce::sum_of_parts;
use crate::simd::{sum, sum_of_three, sum_of_two};

/// Returns x / √(mean(x²) + ε) × weight.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let d = weight.len();
    y.par_chunks_mut(d * ROWS_PER_TASK).zip(x.par_chunks(d * ROWS_PER_TASK)).for_each(|(y, x)| {
        vectorized!({
            for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                rms_norm_row(x, weight, epsilon, y);
            }
        });
    });
    y
}

/// Writes the RMSNorm of a row to `y`.
#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
pub fn rms_norm_row(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    let inverse = inverse_rms(x, epsilon);
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = x * inverse * w;
    }
}

/// Turns the gradient of the output into that of x, and returns that of the weight.
pub fn rms_norm_backward(x: &[f32], weight: &[f32], gradient: &mut [f32], epsilon: f32) -> Vec<f32> {
    let d = weight.len();
    let partial: Vec<Vec<f32>> = gradient
        .par_chunks_mut(d * ROWS_PER_TASK)
        .zip(x.par_chunks(d * ROWS_PER_TASK))
        .map(|(gradient, x)| {
            let mut d_weight = vec![0.0f32; d];
            vectorized!({
                for (g, x) in gradient.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    let inverse = inverse_rms(x, epsilon);
                    let mean = sum_of_three(g, weight, x, |g, w, x| g * w * x) * inverse * inverse / d as f32;
                    for (((g, x), w), sum) in g.iter_mut().zip(x).zip(weight).zip(&mut d_weight) {
                        *sum += *g * x * inverse;
                        *g = inverse * (*g * w - x * mean);
                    }
                }
            });
            d_weight
        })
        .collect();
    sum_of_parts(partial, d)
}

#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
pub fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (sum(x, |x| x * x) / x.len() as f32 + epsilon).sqrt()
}

/// Returns (x − mean) / √(variance + ε) × weight + bias.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let d = weight.len();
    y.par_chunks_mut(d * ROWS_PER_TASK).zip(x.par_chunks(d * ROWS_PER_TASK)).for_each(|(y, x)| {
        vectorized!({
            for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                layer_norm_row(x, weight, bias, epsilon, y);
            }
        });
    });
    y
}

/// Writes the LayerNorm of a row to `y`.
#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
pub fn layer_norm_row(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32]) {
    let (mean, inverse) = mean_and_inverse_deviation(x, epsilon);
    for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
        *y = (x - mean) * inverse * w + b;
    }
}

/// Turns the gradient of the output into that of x, and returns those of weight and bias.
pub fn layer_norm_backward(x: &[f32], weight: &[f32], gradient: &mut [f32], epsilon: f32) -> [Vec<f32>; 2] {
    let d = weight.len();
    let partial: Vec<Vec<f32>> = gradient
        .par_chunks_mut(d * ROWS_PER_TASK)
        .zip(x.par_chunks(d * ROWS_PER_TASK))
        .map(|(gradient, x)| {
            let mut both = vec![0.0f32; 2 * d];
            let (d_weight, d_bias) = both.split_at_mut(d);
            vectorized!({
                for (g, x) in gradient.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    let (mean, inverse) = mean_and_inverse_deviation(x, epsilon);
                    let d_mean = sum_of_two(g, weight, |g, w| g * w) / d as f32;
                    let d_deviation = sum_of_three(g, weight, x, |g, w, x| g * w * (x - mean));
                    let d_deviation = d_deviation * inverse * inverse / d as f32;
                    let sums = d_weight.iter_mut().zip(&mut *d_bias);
                    for (((g, x), w), (d_weight, d_bias)) in g.iter_mut().zip(x).zip(weight).zip(sums) {
                        *d_weight += *g * (x - mean) * inverse;
                        *d_bias += *g;
                        *g = inverse * (*g * w - d_mean - (x - mean) * d_deviation);
                    }
                }
            });
            both
        })
        .collect();
    let mut d_weight = sum_of_parts(partial, 2 * d);
    let d_bias = d_weight.split_off(d);
    [d_weight, d_bias]
}

#[allow(clippy::inline_always, reason = "as in `simd`")]
#[inline(always)]
fn mean_and_inverse_deviation(x: &[f32], epsilon: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}
