//! The functions inside the feed-forward layer: SwiGLU and GELU.

use rayon::prelude::*;

use crate::dispatch::{ELEMENTS_PER_TASK, vectorized};
use crate::simd::sigmoid;

/// Returns gate × σ(gate) × up.
pub fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; gate.len()];
    let tasks = y
        .par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(gate.par_chunks(ELEMENTS_PER_TASK))
        .zip(up.par_chunks(ELEMENTS_PER_TASK));
    tasks.for_each(|((y, gate), up)| {
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
    let mut d_up = vec![0.0; gate.len()];
    let tasks = gradient
        .par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(d_up.par_chunks_mut(ELEMENTS_PER_TASK))
        .zip(gate.par_chunks(ELEMENTS_PER_TASK))
        .zip(up.par_chunks(ELEMENTS_PER_TASK));
    tasks.for_each(|(((g, d_up), gate), up)| {
        vectorized(|| {
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

/// Returns x / 2 × (1 + tanh(√(2 / π) (x + 0.044715 x³))), which is x × σ of twice that argument.
pub fn gelu(x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(ELEMENTS_PER_TASK).zip(x.par_chunks(ELEMENTS_PER_TASK)).for_each(|(y, x)| {
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
    gradient.par_chunks_mut(ELEMENTS_PER_TASK).zip(x.par_chunks(ELEMENTS_PER_TASK)).for_each(|(g, x)| {
        vectorized(|| {
            for (g, x) in g.iter_mut().zip(x) {
                let square = x * x;
                let s = sigmoid(2.0 * GELU.0 * x * (1.0 + GELU.1 * square));
                *g *= s + x * s * (1.0 - s) * 2.0 * GELU.0 * (1.0 + 3.0 * GELU.1 * square);
            }
        });
    });
}
