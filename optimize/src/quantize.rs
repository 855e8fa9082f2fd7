//! Rounding of weights to integers with a scale for each block.
//!
//! Dimensions: O outputs and I inputs of a projection.

use std::thread;

use half::f16;
use kernels::Pool;
use kernels::blocks::BLOCK;
use model::compressed_tensors::Integers;

use crate::calibration::{Calibration, Inputs};

/// The largest integers of the candidates for a scale of int4, in steps of [`STEP`]: the scale is the largest magnitude
/// of the block divided by such a number. A smaller number leaves more room than there is, a larger one clips.
const LARGEST: [f32; 2] = [6.0, 10.0];
const STEP: f32 = 0.25;

/// The rows that GPTQ rounds together, which share what they read of the inverse. Heuristic, not measured.
const ROWS: usize = 8;

/// Rounds matrices by a method, which is given by what is known of their inputs.
pub(crate) struct Quantizer {
    /// None to round to the nearest.
    pub(crate) calibration: Option<Calibration>,
    pool: Pool,
}

impl Quantizer {
    pub(crate) fn new(calibration: Option<Calibration>) -> Self {
        Self { calibration, pool: Pool::new(thread::available_parallelism().map_or(1, usize::from)) }
    }

    /// Rounds a matrix to blocks as [`model::compressed_tensors::pack`] takes them.
    ///
    /// # Panics
    /// Panics if a row is not a whole number of blocks.
    pub(crate) fn quantize(&self, tensor: &str, values: &[f32], integers: Integers) -> Vec<u8> {
        match self.calibration.as_ref().and_then(|calibration| calibration.inputs_of(tensor)) {
            None => to_nearest(values, integers),
            Some(inputs) if inputs.inverse_factor.is_empty() => by_importance(values, &inputs.importance, integers),
            Some(inputs) => gptq(values, inputs, integers, &self.pool),
        }
    }
}

/// Rounds the rows of a matrix to the nearest integers, in blocks as [`model::compressed_tensors::pack`] takes them.
///
/// A block of int8 has the scale with which its largest magnitude becomes 127. That of int4 has, of 34 candidates, the
/// one with the least squared error.
///
/// # Panics
/// Panics if `values` is not a whole number of blocks.
fn to_nearest(values: &[f32], integers: Integers) -> Vec<u8> {
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    assert!(rest.is_empty(), "whole blocks");
    let mut stored = Vec::with_capacity(blocks.len() * integers.block_type().bytes());
    for block in blocks {
        round_block(block, &[1.0; BLOCK], integers, &mut stored);
    }
    stored
}

/// Rounds as [`to_nearest`], but the squared error of a weight counts as much as the mean square of its input: what the
/// importance matrix of llama.cpp is for.
///
/// # Shapes
/// - values: `[O, I]`
/// - importance: `[I]`
///
/// # Panics
/// Panics if a row is not a whole number of blocks.
fn by_importance(values: &[f32], importance: &[f32], integers: Integers) -> Vec<u8> {
    let (importance, rest) = importance.as_chunks::<BLOCK>();
    assert!(rest.is_empty(), "whole blocks");
    let mut stored = Vec::with_capacity(values.len() / BLOCK * integers.block_type().bytes());
    for (block, importance) in values.as_chunks::<BLOCK>().0.iter().zip(importance.iter().cycle()) {
        round_block(block, importance, integers, &mut stored);
    }
    stored
}

/// Rounds the columns of a matrix one after the other, and after each changes those that follow so that they make up
/// for its error (GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, 2022).
///
/// The scale of a block is chosen when its first column is rounded, as in [`by_importance`]. Columns keep their order,
/// because those of a block must be next to each other.
///
/// # Shapes
/// - values: `[O, I]`
///
/// # Panics
/// Panics if a row is not a whole number of blocks.
fn gptq(values: &[f32], inputs: &Inputs, integers: Integers, pool: &Pool) -> Vec<u8> {
    struct Row {
        values: Vec<f32>, // [I]; once rounded, integers
        scales: Vec<f16>, // [I / 32]
    }
    let columns = inputs.importance.len();
    let (importance, rest) = inputs.importance.as_chunks::<BLOCK>();
    assert!(rest.is_empty(), "whole blocks");
    let mut rows: Vec<Row> =
        values.chunks_exact(columns).map(|row| Row { values: row.to_vec(), scales: Vec::new() }).collect();
    pool.for_each_chunk(&mut rows, ROWS, |_, rows| {
        for (i, factor) in inputs.inverse_factor.chunks_exact(columns).enumerate() {
            let (diagonal, following) = (factor[i], &factor[i + 1..]);
            for row in &mut *rows {
                if i.is_multiple_of(BLOCK) {
                    let block = &row.values[i..].as_chunks::<BLOCK>().0[0];
                    row.scales.push(best_scale(block, &importance[i / BLOCK], integers));
                }
                let scale = row.scales[i / BLOCK].to_f32();
                let integer = rounded(row.values[i], scale, integers);
                let error = (row.values[i] - scale * integer) / diagonal;
                row.values[i] = integer;
                for (value, factor) in row.values[i + 1..].iter_mut().zip(following) {
                    *value -= error * factor;
                }
            }
        }
    });
    let mut stored = Vec::with_capacity(values.len() / BLOCK * integers.block_type().bytes());
    for row in rows {
        for (block, scale) in row.values.as_chunks::<BLOCK>().0.iter().zip(row.scales) {
            store(block, scale, integers, &mut stored);
        }
    }
    stored
}

fn round_block(block: &[f32; BLOCK], importance: &[f32; BLOCK], integers: Integers, stored: &mut Vec<u8>) {
    let scale = best_scale(block, importance, integers);
    store(&block.map(|x| rounded(x, scale.to_f32(), integers)), scale, integers, stored);
}

/// Returns the scale of a block.
fn best_scale(block: &[f32; BLOCK], importance: &[f32; BLOCK], integers: Integers) -> f16 {
    let largest = block.iter().fold(0.0_f32, |max, x| if x.abs() > max.abs() { *x } else { max });
    if integers == Integers::Int8 {
        return f16::from_f32(largest.abs() / 127.0);
    }
    let steps = ((LARGEST[1] - LARGEST[0]) / STEP) as usize;
    // With a negative scale, the side of the largest magnitude is the one with an integer more.
    let candidates = (0..=steps).flat_map(|i| {
        let scale = largest / (LARGEST[0] + i as f32 * STEP);
        [scale, -scale].map(f16::from_f32)
    });
    let mut best = (f32::INFINITY, f16::ZERO);
    for scale in candidates.filter(|scale| scale.is_finite()) {
        let error = weighted_error(block, importance, scale.to_f32());
        if error < best.0 {
            best = (error, scale);
        }
    }
    best.1
}

fn weighted_error(block: &[f32; BLOCK], importance: &[f32; BLOCK], scale: f32) -> f32 {
    let error = |x: &f32| (x - scale * rounded(*x, scale, Integers::Int4)).powi(2);
    block.iter().zip(importance).map(|(x, importance)| importance * error(x)).sum()
}

/// Returns the integer of a weight.
fn rounded(x: f32, scale: f32, integers: Integers) -> f32 {
    let half = (1 << (integers.bits() - 1)) as f32;
    if scale == 0.0 { 0.0 } else { (x / scale).round_ties_even().clamp(-half, half - 1.0) }
}

/// Appends a block of integers.
fn store(block: &[f32; BLOCK], scale: f16, integers: Integers, stored: &mut Vec<u8>) {
    stored.extend(scale.to_le_bytes());
    match integers {
        Integers::Int8 => stored.extend(block.iter().map(|x| *x as i8 as u8)),
        Integers::Int4 => {
            let nibble = |x: &f32| (x + 8.0) as u8;
            let (low, high) = block.split_at(BLOCK / 2);
            stored.extend(low.iter().zip(high).map(|(low, high)| nibble(low) | nibble(high) << 4));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(values: &[f32], blocks: &[u8], integers: Integers) -> f32 {
        let found = integers.block_type().dequantize(blocks);
        values.iter().zip(found).map(|(x, y)| (x - y).powi(2)).sum()
    }

    #[test]
    fn weights_on_a_grid_are_exact() {
        for (integers, scale) in [(Integers::Int8, 0.25), (Integers::Int4, 0.25), (Integers::Int4, -0.25)] {
            let half = 1 << (integers.bits() - 1);
            // Each block has the largest integer.
            let integer = |i: i32| {
                if i % BLOCK as i32 == 5 { half - 1 } else { (i * 37 % (2 * half) - half).max(1 - half) }
            };
            let values: Vec<f32> = (0..2 * BLOCK as i32).map(|i| scale * integer(i) as f32).collect();
            let blocks = to_nearest(&values, integers);
            assert!(error(&values, &blocks, integers) < 1e-6, "{integers:?} {scale}");
        }
        let zeros = [0.0; BLOCK];
        for integers in [Integers::Int8, Integers::Int4] {
            assert_eq!(integers.block_type().dequantize(&to_nearest(&zeros, integers)), zeros);
        }
    }

    /// Returns numbers that look random, from -1 to 1.
    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let number = |i: u32| (i.wrapping_mul(0x9e37_79b9).wrapping_add(seed)).wrapping_mul(0x85eb_ca6b) >> 8;
        (0..len as u32).map(|i| number(i) as f32 / 8_388_608.0 - 1.0).collect()
    }

    /// Returns rows of inputs, `[M, I]`, whose columns are of different size and correlated.
    fn rows_of_inputs(m: usize, columns: usize) -> Vec<f32> {
        let noise = numbers(m * columns, 3);
        let common = numbers(m, 5);
        let value = |(at, noise): (usize, &f32)| {
            let (row, column) = (at / columns, at % columns);
            (noise + 2.0 * common[row]) * if column.is_multiple_of(7) { 4.0 } else { 0.5 }
        };
        noise.iter().enumerate().map(value).collect()
    }

    /// Returns the summed squared error of a projection's outputs.
    fn output_error(x: &[f32], values: &[f32], blocks: &[u8], columns: usize, integers: Integers) -> f64 {
        let found = integers.block_type().dequantize(blocks);
        let difference: Vec<f64> = values.iter().zip(found).map(|(a, b)| f64::from(a - b)).collect();
        let dot = |x: &[f32], w: &[f64]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * w).sum::<f64>();
        let rows = x.chunks_exact(columns);
        rows.map(|x| difference.chunks_exact(columns).map(|w| dot(x, w).powi(2)).sum::<f64>()).sum()
    }

    #[test]
    fn methods_reduce_the_error_of_the_outputs() {
        let (outputs, columns) = (24, 2 * BLOCK);
        let values = numbers(outputs * columns, 1);
        let x = rows_of_inputs(256, columns);
        let inputs = Inputs::of_rows(&x, columns, &Pool::new(2)).unwrap();
        for (integers, by_gptq) in [(Integers::Int4, 0.5), (Integers::Int8, 0.5)] {
            let error = |blocks: &[u8]| output_error(&x, &values, blocks, columns, integers);
            let nearest = error(&to_nearest(&values, integers));
            let importance = error(&by_importance(&values, &inputs.importance, integers));
            let gptq = error(&gptq(&values, &inputs, integers, &Pool::new(2)));
            if integers == Integers::Int4 {
                assert!(importance < 0.95 * nearest, "{integers:?}: {importance} {nearest}");
            }
            assert!(gptq < by_gptq * nearest, "{integers:?}: {gptq} {nearest}");
        }
    }

    #[test]
    fn gptq_of_uncorrelated_inputs_rounds_by_importance() {
        let columns = 2 * BLOCK;
        // Unit vectors: the matrix of second moments is diagonal.
        let x: Vec<f32> = (0..columns * columns).map(|i| f32::from(u8::from(i % (columns + 1) == 0))).collect();
        let inputs = Inputs::of_rows(&x, columns, &Pool::new(1)).unwrap();
        let values = numbers(3 * columns, 9);
        for integers in [Integers::Int8, Integers::Int4] {
            let expected = by_importance(&values, &inputs.importance, integers);
            assert_eq!(gptq(&values, &inputs, integers, &Pool::new(2)), expected, "{integers:?}");
        }
    }

    #[test]
    fn gptq_gives_the_same_bits_for_every_number_of_threads() {
        let columns = BLOCK;
        let values = numbers(19 * columns, 2);
        let x = rows_of_inputs(40, columns);
        let quantized = |threads: usize| {
            let pool = Pool::new(threads);
            gptq(&values, &Inputs::of_rows(&x, columns, &pool).unwrap(), Integers::Int4, &pool)
        };
        assert_eq!(quantized(1), quantized(2));
    }

    proptest! {
        #[test]
        fn no_block_is_worse_than_with_the_scale_of_its_largest_weight(
            values in proptest::collection::vec(-3.0_f32..3.0, BLOCK)
        ) {
            let block: &[f32; BLOCK] = values.as_slice().try_into().unwrap();
            let usual = error(&values, &kernels::blocks::quantize_q4_0(block), Integers::Int4);
            let found = error(&values, &to_nearest(&values, Integers::Int4), Integers::Int4);
            prop_assert!(found <= usual * 1.001, "{} {}", found, usual);
        }
    }
}
