//! The loops: each function walks over its rows once, side by side where there are threads.
//!
//! Dimensions: N rows, V classes, S keys, D elements of a row, C width of a head.

use rayon::prelude::*;

use crate::dropout::Mask;
use crate::instructions::vectorized;
use crate::lanes::{exp, max, sigmoid, sum, sum_of_three, sum_of_two};

/// Rows that one task takes; fixed, so that sums over rows do not depend on the number of threads.
const BLOCK: usize = 64;

/// Turns logits `[N, V]` into the gradient of the loss, and returns the loss: see [`crate::cross_entropy`].
pub fn cross_entropy(logits: &mut [f32], classes: usize, targets: &[i64], share: f64, z_loss: f64) -> f32 {
    let losses: Vec<f64> = logits
        .par_chunks_mut(classes)
        .zip(targets.par_iter())
        .with_min_len(BLOCK)
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
                // A logit that is no number is found nowhere else: the maximum passes it over.
                let log_total = if total.is_nan() { f64::NAN } else { f64::from(total).ln() };
                let lse = log_total + f64::from(largest);
                let factor = (share * (1.0 + 2.0 * z_loss * lse)) as f32 / total;
                for x in &mut *row {
                    *x *= factor;
                }
                row[target] -= share as f32;
                log_total - f64::from(own) + z_loss * lse * lse
            })
        })
        .collect();
    (losses.iter().sum::<f64>() * share) as f32
}

/// Turns scores `[.., T, S]` into shares: see [`crate::causal_softmax`].
pub fn causal_softmax(scores: &mut [f32], keys: usize, queries: usize, scale: f32) {
    let seen = |row: usize| keys - queries + row % queries + 1;
    scores.par_chunks_mut(keys).enumerate().with_min_len(BLOCK).for_each(|(row, scores)| {
        let (visible, hidden) = scores.split_at_mut(seen(row));
        hidden.fill(0.0);
        vectorized(|| {
            let largest = max(visible);
            for x in &mut *visible {
                *x = exp((*x - largest) * scale);
            }
            let factor = 1.0 / sum(visible, |x| x);
            for x in &mut *visible {
                *x *= factor;
            }
        });
    });
}

/// Turns the gradient of the shares into that of the scores: scale × share × (gradient − Σ gradient × share).
pub fn causal_softmax_backward(shares: &[f32], gradient: &mut [f32], keys: usize, queries: usize, scale: f32) {
    let seen = |row: usize| keys - queries + row % queries + 1;
    let rows = shares.par_chunks(keys).zip(gradient.par_chunks_mut(keys)).enumerate().with_min_len(BLOCK);
    rows.for_each(|(row, (shares, gradient))| {
        let shares = &shares[..seen(row)];
        let (visible, hidden) = gradient.split_at_mut(shares.len());
        hidden.fill(0.0);
        vectorized(|| {
            let mean = sum_of_two(shares, visible, |share, g| share * g);
            for (g, share) in visible.iter_mut().zip(shares) {
                *g = scale * share * (*g - mean);
            }
        });
    });
}

/// Returns x / √(mean(x²) + ε) × weight.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let d = weight.len();
    y.par_chunks_mut(d * BLOCK).zip(x.par_chunks(d * BLOCK)).for_each(|(y, x)| {
        vectorized(|| {
            for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                let inverse = inverse_rms(x, epsilon);
                for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                    *y = x * inverse * w;
                }
            }
        });
    });
    y
}

/// Turns the gradient of the output into that of x, and returns that of the weight.
pub fn rms_norm_backward(x: &[f32], weight: &[f32], gradient: &mut [f32], epsilon: f32) -> Vec<f32> {
    let d = weight.len();
    let partial: Vec<Vec<f32>> = gradient
        .par_chunks_mut(d * BLOCK)
        .zip(x.par_chunks(d * BLOCK))
        .map(|(gradient, x)| {
            let mut of_weight = vec![0.0f32; d];
            vectorized(|| {
                for (g, x) in gradient.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    let inverse = inverse_rms(x, epsilon);
                    let mean = sum_of_three(g, weight, x, |g, w, x| g * w * x) * inverse * inverse / d as f32;
                    for (((g, x), w), sum) in g.iter_mut().zip(x).zip(weight).zip(&mut of_weight) {
                        *sum += *g * x * inverse;
                        *g = inverse * (*g * w - x * mean);
                    }
                }
            });
            of_weight
        })
        .collect();
    added(partial, d)
}

#[allow(clippy::inline_always, reason = "as in `lanes`")]
#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (sum(x, |x| x * x) / x.len() as f32 + epsilon).sqrt()
}

/// Elements that one task takes.
pub const PIECE: usize = 1 << 14;

/// Returns gate × σ(gate) × up.
pub fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; gate.len()];
    let pieces = y.par_chunks_mut(PIECE).zip(gate.par_chunks(PIECE)).zip(up.par_chunks(PIECE));
    pieces.for_each(|((y, gate), up)| {
        vectorized(|| {
            for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                *y = gate * sigmoid(*gate) * up;
            }
        });
    });
    y
}

/// Turns the gradient of the output into that of the gate, and returns that of up.
pub fn swiglu_backward(gate: &[f32], up: &[f32], gradient: &mut [f32]) -> Vec<f32> {
    let mut of_up = vec![0.0; gate.len()];
    let pieces = gradient
        .par_chunks_mut(PIECE)
        .zip(of_up.par_chunks_mut(PIECE))
        .zip(gate.par_chunks(PIECE))
        .zip(up.par_chunks(PIECE));
    pieces.for_each(|(((g, of_up), gate), up)| {
        vectorized(|| {
            for (((g, of_up), gate), up) in g.iter_mut().zip(of_up).zip(gate).zip(up) {
                let s = sigmoid(*gate);
                *of_up = *g * gate * s;
                *g = *g * up * s * (1.0 + gate * (1.0 - s));
            }
        });
    });
    of_up
}

/// Turns the pairs of x `[B, T, H, C]` by their angles; against them where `back`.
pub fn rope(x: &mut [f32], heads: usize, cos: &[f32], sin: &[f32], half: usize, back: bool) {
    let positions = cos.len() / half;
    let sign = if back { -1.0 } else { 1.0 };
    x.par_chunks_mut(heads * 2 * half).enumerate().with_min_len(BLOCK).for_each(|(row, token)| {
        let at = row % positions * half;
        let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
        vectorized(|| {
            for head in token.chunks_exact_mut(2 * half) {
                let (a, b) = head.split_at_mut(half);
                for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                    let (x, y, sin) = (*a, *b, sin * sign);
                    *a = x * cos - y * sin;
                    *b = y * cos + x * sin;
                }
            }
        });
    });
}

/// Multiplies each element by 0 or 1 / (1 − rate).
pub fn dropout(x: &mut [f32], mask: Mask) {
    x.par_chunks_mut(PIECE).enumerate().for_each(|(piece, x)| {
        vectorized(|| mask.apply(x, (piece * PIECE) as u32));
    });
}

/// Returns (x − mean) / √(variance + ε) × weight + bias.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let d = weight.len();
    y.par_chunks_mut(d * BLOCK).zip(x.par_chunks(d * BLOCK)).for_each(|(y, x)| {
        vectorized(|| {
            for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                let (mean, inverse) = mean_and_inverse(x, epsilon);
                for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                    *y = (x - mean) * inverse * w + b;
                }
            }
        });
    });
    y
}

/// Turns the gradient of the output into that of x, and returns those of weight and bias, one after the other.
pub fn layer_norm_backward(x: &[f32], weight: &[f32], gradient: &mut [f32], epsilon: f32) -> Vec<f32> {
    let d = weight.len();
    let partial: Vec<Vec<f32>> = gradient
        .par_chunks_mut(d * BLOCK)
        .zip(x.par_chunks(d * BLOCK))
        .map(|(gradient, x)| {
            let mut of_both = vec![0.0f32; 2 * d];
            let (of_weight, of_bias) = of_both.split_at_mut(d);
            vectorized(|| {
                for (g, x) in gradient.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    let (mean, inverse) = mean_and_inverse(x, epsilon);
                    let of_mean = sum_of_two(g, weight, |g, w| g * w) / d as f32;
                    let of_deviation = sum_of_three(g, weight, x, |g, w, x| g * w * (x - mean));
                    let of_deviation = of_deviation * inverse * inverse / d as f32;
                    let sums = of_weight.iter_mut().zip(&mut *of_bias);
                    for (((g, x), w), (of_weight, of_bias)) in g.iter_mut().zip(x).zip(weight).zip(sums) {
                        *of_weight += *g * (x - mean) * inverse;
                        *of_bias += *g;
                        *g = inverse * (*g * w - of_mean - (x - mean) * of_deviation);
                    }
                }
            });
            of_both
        })
        .collect();
    added(partial, 2 * d)
}

#[allow(clippy::inline_always, reason = "as in `lanes`")]
#[inline(always)]
fn mean_and_inverse(x: &[f32], epsilon: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// Adds up the parts of a sum in their order.
fn added(parts: Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_else(|| vec![0.0; len]);
    for part in parts {
        total.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    total
}

/// √(2 / π) and the factor of the cube in GELU's approximation by the hyperbolic tangent (Gaussian Error Linear Units, 2016).
const GELU: (f32, f32) = (0.797_884_6, 0.044_715);

/// Returns x / 2 × (1 + tanh(√(2 / π) (x + 0.044715 x³))), which is x × σ of twice that argument.
pub fn gelu(x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).for_each(|(y, x)| {
        vectorized(|| {
            for (y, x) in y.iter_mut().zip(x) {
                *y = x * sigmoid(2.0 * GELU.0 * (x + GELU.1 * x * x * x));
            }
        });
    });
    y
}

/// Turns the gradient of the output into that of x.
pub fn gelu_backward(x: &[f32], gradient: &mut [f32]) {
    gradient.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).for_each(|(g, x)| {
        vectorized(|| {
            for (g, x) in g.iter_mut().zip(x) {
                let square = x * x;
                let s = sigmoid(2.0 * GELU.0 * x * (1.0 + GELU.1 * square));
                *g *= s + x * s * (1.0 - s) * 2.0 * GELU.0 * (1.0 + 3.0 * GELU.1 * square);
            }
        });
    });
}

/// Adds `bias` to each row of x.
pub fn add_to_each(x: &mut [f32], bias: &[f32]) {
    x.par_chunks_mut(bias.len()).with_min_len(BLOCK).for_each(|row| {
        vectorized(|| row.iter_mut().zip(bias).for_each(|(x, b)| *x += b));
    });
}

/// Returns the sums of the columns of x `[N, D]`.
pub fn column_sums(x: &[f32], d: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = x
        .par_chunks(d * BLOCK)
        .map(|x| {
            let mut total = vec![0.0f32; d];
            vectorized(|| {
                for row in x.chunks_exact(d) {
                    total.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
            });
            total
        })
        .collect();
    added(parts, d)
}

/// Returns the rows of a table that the ids name.
pub fn embedding(table: &[f32], d: usize, ids: &[i64]) -> Vec<f32> {
    let mut y = vec![0.0; ids.len() * d];
    for (y, id) in y.chunks_exact_mut(d).zip(ids) {
        y.copy_from_slice(&table[*id as usize * d..][..d]);
    }
    y
}

/// Adds each row of x to the row of the table that its id names.
pub fn add_to_rows(table: &mut [f32], d: usize, ids: &[i64], x: &[f32]) {
    for (x, id) in x.chunks_exact(d).zip(ids) {
        table[*id as usize * d..][..d].iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
    }
}

/// Returns the sum of the squares.
pub fn square_sum(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x.par_chunks(PIECE).map(|x| vectorized(|| f64::from(sum(x, |x| x * x)))).collect();
    parts.iter().sum()
}
