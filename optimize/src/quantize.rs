//! Rounding of weights to integers with a scale for each block or group.
//!
//! Dimensions: O outputs and I inputs of a projection.

use half::f16;
use kernels::Pool;
use kernels::blocks::{BLOCK, BlockType, K_BLOCK, KScales};

use crate::calibration::Inputs;

/// The largest integers of the candidates for a scale of `Q4_0`, in steps of [`STEP`]: the scale is the largest
/// magnitude of the block divided by such a number. A smaller number leaves more room than there is, a larger one
/// clips.
const LARGEST: [f32; 2] = [6.0, 10.0];
const STEP: f32 = 0.25;

/// The rows that GPTQ rounds together, which share what they read of the inverse. Heuristic, not measured.
const ROWS: usize = 8;

/// Rounds the rows of a matrix to blocks, as files store them: to the nearest integers, or with what is known of the
/// inputs.
///
/// A block of `Q8_0` has the scale with which its largest magnitude becomes 127. That of `Q4_0` has, of 34 candidates,
/// the one with the least squared error, and those of the `K` types search for it.
///
/// # Shapes
/// - values: `[O, I]`
///
/// # Panics
/// Panics if a row is not a whole number of blocks, or a layout is not one of those.
pub(crate) fn quantize(values: &[f32], inputs: Option<&Inputs>, block_type: BlockType, pool: &Pool) -> Vec<u8> {
    match inputs {
        None => by_block(values, None, block_type),
        Some(inputs) if inputs.inverse_factor.is_empty() => by_block(values, Some(&inputs.importance), block_type),
        Some(inputs) => gptq(values, inputs, block_type, pool),
    }
}

/// Rounds each weight to the nearest of its block. The squared error of a weight counts as much as the mean square of
/// its input, if that is known: what the importance matrix of llama.cpp is for.
///
/// # Shapes
/// - values: `[O, I]`
/// - importance: `[I]`
fn by_block(values: &[f32], importance: Option<&[f32]>, block_type: BlockType) -> Vec<u8> {
    let len = block_type.weights();
    assert!(values.len().is_multiple_of(len), "whole blocks");
    assert!(importance.is_none_or(|importance| importance.len().is_multiple_of(len)), "whole blocks");
    let mut stored = Vec::with_capacity(values.len() / len * block_type.bytes());
    let mut integers = vec![0.0; len];
    for (i, block) in values.chunks_exact(len).enumerate() {
        let of_block = importance.map(|importance| &importance[i * len % importance.len()..][..len]);
        let grid = Grid::fit(block_type, block, of_block);
        for (column, (integer, x)) in integers.iter_mut().zip(block).enumerate() {
            *integer = grid.round(column, *x).0;
        }
        grid.store(&integers, &mut stored);
    }
    stored
}

/// Rounds the columns of a matrix one after the other, and after each changes those that follow so that they make up
/// for its error (GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, 2022).
///
/// The scale of a block is chosen when its first column is rounded, that of a group within a block when that of the
/// group is, as in [`by_block`]. Columns keep their order, because those of a block must be next to each other.
///
/// # Shapes
/// - values: `[O, I]`
fn gptq(values: &[f32], inputs: &Inputs, block_type: BlockType, pool: &Pool) -> Vec<u8> {
    struct Row {
        values: Vec<f32>, // [I]; once rounded, integers
        grids: Vec<Grid>, // [I / block]
    }
    let (columns, len) = (inputs.importance.len(), block_type.weights());
    assert!(columns.is_multiple_of(len), "whole blocks");
    let mut rows: Vec<Row> =
        values.chunks_exact(columns).map(|row| Row { values: row.to_vec(), grids: Vec::new() }).collect();
    pool.for_each_chunk(&mut rows, ROWS, |_, rows| {
        for (i, factor) in inputs.inverse_factor.chunks_exact(columns).enumerate() {
            let (diagonal, following) = (factor[i], &factor[i + 1..]);
            let column = i % len;
            for row in &mut *rows {
                if column == 0 {
                    let block = i..i + len;
                    row.grids.push(Grid::fit(block_type, &row.values[block.clone()], Some(&inputs.importance[block])));
                }
                let grid = &mut row.grids[i / len];
                grid.fit_group(column, &row.values[i..], &inputs.importance[i..]);
                let (integer, weight) = grid.round(column, row.values[i]);
                let error = (row.values[i] - weight) / diagonal;
                row.values[i] = integer;
                for (value, factor) in row.values[i + 1..].iter_mut().zip(following) {
                    *value -= error * factor;
                }
            }
        }
    });
    let mut stored = Vec::with_capacity(values.len() / len * block_type.bytes());
    for row in rows {
        for (integers, grid) in row.values.chunks_exact(len).zip(row.grids) {
            grid.store(integers, &mut stored);
        }
    }
    stored
}

/// The weights that a block can store.
enum Grid {
    /// Multiples of a scale.
    Scale(f16, Width),
    /// As the `K` types have them, by group.
    Groups(KScales),
}

/// The integers of a block with one scale.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    /// -128 to 127.
    Eight,
    /// -8 to 7.
    Four,
}

impl Grid {
    /// Chooses the scales of a block.
    fn fit(block_type: BlockType, block: &[f32], importance: Option<&[f32]>) -> Self {
        match block_type {
            BlockType::Q8_0 => {
                let largest = block.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                Self::Scale(f16::from_f32(largest / 127.0), Width::Eight)
            }
            BlockType::Q4_0 => {
                let importance = importance.map_or([1.0; BLOCK], array);
                Self::Scale(best_scale(&array(block), &importance), Width::Four)
            }
            _ => {
                let importance: Option<[f32; K_BLOCK]> = importance.map(array);
                Self::Groups(KScales::fit(block_type, &array(block), importance.as_ref()))
            }
        }
    }

    /// Chooses the scale of the group that begins in a column, if there is one but the first, for its values now, which
    /// `values` begins with.
    fn fit_group(&mut self, column: usize, values: &[f32], importance: &[f32]) {
        let Self::Groups(scales) = self else { return };
        let len = scales.group_len();
        if column > 0 && column.is_multiple_of(len) {
            scales.fit_group(column / len, &values[..len], Some(&importance[..len]));
        }
    }

    /// Returns the integer of a weight in a column, and the weight that it stands for.
    fn round(&self, column: usize, x: f32) -> (f32, f32) {
        match self {
            Self::Scale(scale, width) => {
                let scale = scale.to_f32();
                let integer = rounded(x, scale, *width);
                (integer, scale * integer)
            }
            Self::Groups(scales) => {
                let q = scales.round(column, x);
                (f32::from(q), scales.weight(column, q))
            }
        }
    }

    /// Appends the block with these integers.
    fn store(&self, integers: &[f32], stored: &mut Vec<u8>) {
        match self {
            Self::Scale(scale, width) => {
                stored.extend(scale.to_le_bytes());
                match width {
                    Width::Eight => stored.extend(integers.iter().map(|x| *x as i8 as u8)),
                    Width::Four => {
                        let nibble = |x: &f32| (x + 8.0) as u8;
                        let (low, high) = integers.split_at(BLOCK / 2);
                        stored.extend(low.iter().zip(high).map(|(low, high)| nibble(low) | nibble(high) << 4));
                    }
                }
            }
            Self::Groups(scales) => scales.store(&std::array::from_fn(|column| integers[column] as u8), stored),
        }
    }
}

fn array<const N: usize>(slice: &[f32]) -> [f32; N] {
    slice.try_into().expect("the length of a block")
}

/// Returns the scale of a block of 4 bits.
fn best_scale(block: &[f32; BLOCK], importance: &[f32; BLOCK]) -> f16 {
    let largest = block.iter().fold(0.0_f32, |max, x| if x.abs() > max.abs() { *x } else { max });
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
    let error = |x: &f32| (x - scale * rounded(*x, scale, Width::Four)).powi(2);
    block.iter().zip(importance).map(|(x, importance)| importance * error(x)).sum()
}

/// Returns the integer of a weight.
fn rounded(x: f32, scale: f32, width: Width) -> f32 {
    let half = match width {
        Width::Eight => 128.0,
        Width::Four => 8.0,
    };
    if scale == 0.0 { 0.0 } else { (x / scale).round_ties_even().clamp(-half, half - 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [BlockType; 4] = [BlockType::Q8_0, BlockType::Q4_0, BlockType::Q4_K, BlockType::Q6_K];

    fn error(values: &[f32], blocks: &[u8], block_type: BlockType) -> f32 {
        let found = block_type.dequantize(blocks);
        values.iter().zip(found).map(|(x, y)| (x - y).powi(2)).sum()
    }

    #[test]
    fn weights_on_a_grid_are_exact() {
        for (block_type, scale, half) in
            [(BlockType::Q8_0, 0.25, 128), (BlockType::Q4_0, 0.25, 8), (BlockType::Q4_0, -0.25, 8)]
        {
            // Each block has the largest integer.
            let integer = |i: i32| {
                if i % BLOCK as i32 == 5 { half - 1 } else { (i * 37 % (2 * half) - half).max(1 - half) }
            };
            let values: Vec<f32> = (0..2 * BLOCK as i32).map(|i| scale * integer(i) as f32).collect();
            let blocks = by_block(&values, None, block_type);
            assert!(error(&values, &blocks, block_type) < 1e-6, "{block_type:?} {scale}");
        }
        let zeros = [0.0; K_BLOCK];
        for block_type in ALL {
            assert_eq!(block_type.dequantize(&by_block(&zeros, None, block_type)), zeros);
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
    fn output_error(x: &[f32], values: &[f32], blocks: &[u8], columns: usize, block_type: BlockType) -> f64 {
        let found = block_type.dequantize(blocks);
        let difference: Vec<f64> = values.iter().zip(found).map(|(a, b)| f64::from(a - b)).collect();
        let dot = |x: &[f32], w: &[f64]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * w).sum::<f64>();
        let rows = x.chunks_exact(columns);
        rows.map(|x| difference.chunks_exact(columns).map(|w| dot(x, w).powi(2)).sum::<f64>()).sum()
    }

    #[test]
    fn methods_reduce_the_error_of_the_outputs() {
        let (outputs, columns) = (24, K_BLOCK);
        let values = numbers(outputs * columns, 1);
        let x = rows_of_inputs(512, columns);
        let inputs = Inputs::of_rows(&x, columns, &Pool::new(2)).unwrap();
        for block_type in ALL {
            let error = |blocks: &[u8]| output_error(&x, &values, blocks, columns, block_type);
            let nearest = error(&by_block(&values, None, block_type));
            let importance = error(&by_block(&values, Some(&inputs.importance), block_type));
            let gptq = error(&gptq(&values, &inputs, block_type, &Pool::new(2)));
            if block_type != BlockType::Q8_0 {
                assert!(importance < 0.97 * nearest, "{block_type:?}: {importance} {nearest}");
            }
            assert!(gptq < 0.5 * nearest, "{block_type:?}: {gptq} {nearest}");
        }
    }

    #[test]
    fn gptq_of_uncorrelated_inputs_rounds_by_importance() {
        let columns = K_BLOCK;
        // Unit vectors: the matrix of second moments is diagonal.
        let x: Vec<f32> = (0..columns * columns).map(|i| f32::from(u8::from(i % (columns + 1) == 0))).collect();
        let inputs = Inputs::of_rows(&x, columns, &Pool::new(1)).unwrap();
        let values = numbers(3 * columns, 9);
        for block_type in ALL {
            let expected = by_block(&values, Some(&inputs.importance), block_type);
            assert_eq!(gptq(&values, &inputs, block_type, &Pool::new(2)), expected, "{block_type:?}");
        }
    }

    #[test]
    fn gptq_gives_the_same_bits_for_every_number_of_threads() {
        let columns = BLOCK;
        let values = numbers(19 * columns, 2);
        let x = rows_of_inputs(40, columns);
        let quantized = |threads: usize| {
            let pool = Pool::new(threads);
            gptq(&values, &Inputs::of_rows(&x, columns, &pool).unwrap(), BlockType::Q4_0, &pool)
        };
        assert_eq!(quantized(1), quantized(2));
    }

    proptest! {
        #[test]
        fn no_block_is_worse_than_with_the_scale_of_its_largest_weight(
            values in proptest::collection::vec(-3.0_f32..3.0, BLOCK)
        ) {
            let block: &[f32; BLOCK] = values.as_slice().try_into().unwrap();
            let usual = error(&values, &kernels::blocks::quantize_q4_0(block), BlockType::Q4_0);
            let found = error(&values, &by_block(&values, None, BlockType::Q4_0), BlockType::Q4_0);
            prop_assert!(found <= usual * 1.001, "{} {}", found, usual);
        }
    }
}
