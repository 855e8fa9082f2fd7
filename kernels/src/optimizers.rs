//! The steps of AdamW and Muon, in place.

use rayon::prelude::*;

use crate::dispatch::{ELEMENTS_PER_TASK, vectorized};
use crate::gemm::{Matrix, matmul_into};
use crate::reduce::square_sum;

/// A step of `AdamW` (Decoupled Weight Decay Regularization, 2019).
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// The learning rate.
    pub learning_rate: f64,
    /// The weight decay, before it is multiplied by the learning rate.
    pub weight_decay: f64,
    /// The decay rate of the first moment.
    pub beta_1: f32,
    /// The decay rate of the second moment.
    pub beta_2: f32,
    /// The term added to the root of the second moment.
    pub epsilon: f32,
    /// The factor of the gradient, applied first.
    pub gradient_scale: f64,
    /// The number of this step, counted from 1.
    pub time: usize,
}

impl AdamW {
    /// Returns 1 / (1 − βᵗ) for both moments.
    pub(crate) fn corrections(&self) -> [f32; 2] {
        [self.beta_1, self.beta_2].map(|beta| 1.0 / (1.0 - beta.powi(self.time as i32)))
    }
}

/// A step of Muon (Muon: An optimizer for hidden layers in neural networks, 2024), with Nesterov momentum, scaled to
/// match the size of `AdamW`'s steps (Muon is Scalable for LLM Training, 2025).
#[derive(Debug, Clone, Copy)]
pub struct Muon {
    /// The learning rate.
    pub learning_rate: f64,
    /// The weight decay, before it is multiplied by the learning rate.
    pub weight_decay: f64,
    /// The factor of the gradient, applied first.
    pub gradient_scale: f64,
}

impl Muon {
    pub(crate) const MOMENTUM: f32 = 0.95;
    /// The polynomial of an iteration, chosen by its authors to raise small singular values quickly.
    pub(crate) const COEFFICIENTS: [f32; 3] = [3.4445, -4.775, 2.0315];
    pub(crate) const ITERATIONS: usize = 5;

    /// Returns the factor of the orthogonalised update.
    pub(crate) fn update_scale(&self, rows: usize, columns: usize) -> f64 {
        self.learning_rate * 0.2 * (rows.max(columns) as f64).sqrt()
    }
}

/// Applies a step of `AdamW`.
pub fn adamw(x: &mut [f32], gradient: &[f32], moment_1: &mut [f32], moment_2: &mut [f32], step: &AdamW) {
    let AdamW { beta_1, beta_2, epsilon, .. } = *step;
    let [correction_1, correction_2] = step.corrections();
    let (rate, scale) = (step.learning_rate as f32, step.gradient_scale as f32);
    let kept = (1.0 - step.learning_rate * step.weight_decay) as f32;
    let tasks = x
        .par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(gradient.par_chunks(ELEMENTS_PER_TASK))
        .zip(moment_1.par_chunks_mut(ELEMENTS_PER_TASK))
        .zip(moment_2.par_chunks_mut(ELEMENTS_PER_TASK));
    tasks.for_each(|(((x, gradient), moment_1), moment_2)| {
        vectorized!({
            for (((x, g), m), v) in x.iter_mut().zip(gradient).zip(moment_1).zip(moment_2) {
                let g = g * scale;
                *m = beta_1 * *m + (1.0 - beta_1) * g;
                *v = beta_2 * *v + (1.0 - beta_2) * (g * g);
                *x = kept * *x - rate * (*m * correction_1) / ((*v * correction_2).sqrt() + epsilon);
            }
        });
    });
}

/// Applies a step of Muon to a matrix of `rows` rows. The gradient is overwritten.
pub fn muon(x: &mut [f32], gradient: &mut Vec<f32>, velocity: &mut [f32], rows: usize, step: &Muon) {
    let columns = x.len() / rows.max(1);
    let scale = step.gradient_scale as f32;
    for (g, v) in gradient.iter_mut().zip(&mut *velocity) {
        let scaled = *g * scale;
        *v = scaled + Muon::MOMENTUM * *v;
        *g = Muon::MOMENTUM * *v + scaled;
    }
    orthogonalize(gradient, rows, columns);
    let (rate, kept) = (step.update_scale(rows, columns) as f32, (1.0 - step.learning_rate * step.weight_decay) as f32);
    for (x, update) in x.iter_mut().zip(gradient) {
        *x = kept * *x - rate * *update;
    }
}

/// Brings the singular values of a matrix near one by Newton–Schulz iteration: `X ← aX + (bA + cA²)X` with `A = XXᵀ`;
/// for a tall X, `X ← aX + X(bA + cA²)` with `A = XᵀX`, the smaller of the two.
fn orthogonalize(x: &mut Vec<f32>, rows: usize, columns: usize) {
    let [a, b, c] = Muon::COEFFICIENTS;
    let norm = square_sum(x).sqrt().max(1e-7) as f32;
    for x in x.iter_mut() {
        *x /= norm;
    }
    let is_tall = rows > columns;
    let side = rows.min(columns);
    let mut next = vec![0.0; x.len()];
    let [mut gram, mut square] = [vec![0.0; side * side], vec![0.0; side * side]];
    for _ in 0..Muon::ITERATIONS {
        let matrix = Matrix::new(x, rows, columns, columns);
        let (left, right) = if is_tall { (matrix.transposed(), matrix) } else { (matrix, matrix.transposed()) };
        matmul_into(&mut gram, side, left, right, false);
        let symmetric = Matrix::new(&gram, side, side, side);
        matmul_into(&mut square, side, symmetric, symmetric, false);
        for (square, gram) in square.iter_mut().zip(&gram) {
            *square = b * gram + c * *square;
        }
        for i in 0..side {
            square[i * side + i] += a;
        }
        let polynomial = Matrix::new(&square, side, side, side);
        let (left, right) = if is_tall { (matrix, polynomial) } else { (polynomial, matrix) };
        matmul_into(&mut next, columns, left, right, false);
        std::mem::swap(x, &mut next);
    }
}
