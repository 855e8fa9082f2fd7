//! The functions inside the feed-forward layer: SwiGLU and GELU.
#![allow(clippy::inline_always, reason = "as in `simd`")]

use rayon::prelude::*;

use crate::dispatch::{ELEMENTS_PER_TASK, vectorized};
use crate::simd::{exp, sigmoid};

/// Returns gate × σ(gate) × up.
pub fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; gate.len()];
    let tasks = y
        .par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(gate.par_chunks(ELEMENTS_PER_TASK))
        .zip(up.par_chunks(ELEMENTS_PER_TASK));
    tasks.for_each(|((y, gate), up)| {
        vectorized!({
            for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                *y = silu(*gate) * up;
            }
        });
    });
    y
}

/// Turns the gradient of the output into that of the gate, and returns that of up.
pub fn swiglu_backward(gate: &[f32], up: &[f32], gradient: &mut [f32]) -> Vec<f32> {
    let mut d_up = vec![0.0; gate.len()];
    let tasks = gradient
        .par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(d_up.par_chunks_mut(ELEMENTS_PER_TASK))
        .zip(gate.par_chunks(ELEMENTS_PER_TASK))
        .zip(up.par_chunks(ELEMENTS_PER_TASK));
    tasks.for_each(|(((g, d_up), gate), up)| {
        vectorized!({
            for (((g, d_up), gate), up) in g.iter_mut().zip(d_up).zip(gate).zip(up) {
                let s = sigmoid(*gate);
                *d_up = *g * gate * s;
                *g = *g * up * s * (1.0 + gate * (1.0 - s));
            }
        });
    });
    d_up
}

/// √(2 / π) and the factor of the cube in the tanh approximation of GELU (Gaussian Error Linear Units, 2016).
const GELU: (f32, f32) = (0.797_884_6, 0.044_715);

/// Returns x × σ(x) (Gaussian Error Linear Units, 2016).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// Returns x / 2 × (1 + tanh(√(2 / π) (x + 0.044715 x³))), which is x × σ of twice that argument.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    x * sigmoid(2.0 * GELU.0 * (x + GELU.1 * x * x * x))
}

/// Returns x / 2 × (1 + erf(x / √2)), erf within 1.5 × 10⁻⁷ by formula 7.1.26 of Abramowitz and Stegun (Handbook of
/// Mathematical Functions, 1964).
#[inline(always)]
pub fn gelu_erf(x: f32) -> f32 {
    let z = (x * std::f32::consts::FRAC_1_SQRT_2).abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152_1;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_72;
    let p = p * t + 0.254_829_6;
    let complement = p * t * exp(-z * z);
    // 1 + erf(−z) is the complement itself, which keeps its precision where it is small.
    let factor = if x < 0.0 { complement } else { 2.0 - complement };
    0.5 * x * factor
}

/// Returns gelu of each element: see [`crate::gelu`].
pub fn gelu(x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(ELEMENTS_PER_TASK).zip(x.par_chunks(ELEMENTS_PER_TASK)).for_each(|(y, x)| {
        vectorized!({
            for (y, x) in y.iter_mut().zip(x) {
                *y = gelu_tanh(*x);
            }
        });
    });
    y
}

/// Turns the gradient of the output into that of x.
pub fn gelu_backward(x: &[f32], gradient: &mut [f32]) {
    gradient.par_chunks_mut(ELEMENTS_PER_TASK).zip(x.par_chunks(ELEMENTS_PER_TASK)).for_each(|(g, x)| {
        vectorized!({
            for (g, x) in g.iter_mut().zip(x) {
                let square = x * x;
                let s = sigmoid(2.0 * GELU.0 * x * (1.0 + GELU.1 * square));
                *g *= s + x * s * (1.0 - s) * 2.0 * GELU.0 * (1.0 + 3.0 * GELU.1 * square);
            }
        });
    });
}
