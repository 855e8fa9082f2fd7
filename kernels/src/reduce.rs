//! Sums in an order that depends on the shape alone, and the bias that is added to each row.

use rayon::prelude::*;

use crate::dispatch::{ELEMENTS_PER_TASK, ROWS_PER_TASK, vectorized};
use crate::simd::sum;

/// Adds `bias` to each row of x.
pub fn add_to_rows(x: &mut [f32], bias: &[f32]) {
    x.par_chunks_mut(bias.len()).with_min_len(ROWS_PER_TASK).for_each(|row| {
        vectorized!(row.iter_mut().zip(bias).for_each(|(x, b)| *x += b));
    });
}

/// Returns the sums of the columns of x `[N, D]`.
pub fn column_sums(x: &[f32], d: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = x
        .par_chunks(d * ROWS_PER_TASK)
        .map(|x| {
            let mut total = vec![0.0f32; d];
            vectorized!({
                for row in x.chunks_exact(d) {
                    total.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
            });
            total
        })
        .collect();
    sum_of_parts(parts, d)
}

/// Returns the element-wise sum of vectors of one length, added in their order.
pub fn sum_of_parts(parts: Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_else(|| vec![0.0; len]);
    for part in parts {
        total.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    total
}

/// Returns the sum of the squares.
pub fn square_sum(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x.par_chunks(ELEMENTS_PER_TASK).map(|x| vectorized!(f64::from(sum(x, |x| x * x)))).collect();
    parts.iter().sum()
}
