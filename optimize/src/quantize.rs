//! Rounding of weights to integers with a scale for each block.

use half::f16;
use kernels::blocks::BLOCK;
use model::compressed_tensors::Integers;

/// The largest integers of the candidates for a scale of int4, in steps of [`STEP`]: the scale is the largest magnitude
/// of the block divided by such a number. A smaller number leaves more room than there is, a larger one clips.
const LARGEST: [f32; 2] = [6.0, 10.0];
const STEP: f32 = 0.25;

/// Rounds the rows of a matrix to the nearest integers, in blocks as [`model::compressed_tensors::pack`] takes them.
///
/// A block of int8 has the scale with which its largest magnitude becomes 127. That of int4 has, of 34 candidates, the
/// one with the least squared error.
///
/// # Panics
/// Panics if `values` is not a whole number of blocks.
pub(crate) fn to_nearest(values: &[f32], integers: Integers) -> Vec<u8> {
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    assert!(rest.is_empty(), "whole blocks");
    let mut stored = Vec::with_capacity(blocks.len() * integers.block_type().bytes());
    for block in blocks {
        match integers {
            Integers::Int8 => stored.extend(kernels::blocks::quantize_q8_0(block)),
            Integers::Int4 => int4(block, &mut stored),
        }
    }
    stored
}

fn int4(block: &[f32; BLOCK], stored: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0_f32, |max, x| if x.abs() > max.abs() { *x } else { max });
    let steps = ((LARGEST[1] - LARGEST[0]) / STEP) as usize;
    // With a negative scale, the side of the largest magnitude is the one with an integer more.
    let candidates = (0..=steps).flat_map(|i| {
        let scale = largest / (LARGEST[0] + i as f32 * STEP);
        [scale, -scale].map(f16::from_f32)
    });
    let mut best = (f32::INFINITY, f16::ZERO);
    for scale in candidates.filter(|scale| scale.is_finite()) {
        let error = squared_error(block, scale.to_f32());
        if error < best.0 {
            best = (error, scale);
        }
    }
    let (_, scale) = best;
    stored.extend(scale.to_le_bytes());
    let integer = |x: f32| (rounded(x, scale.to_f32()) + 8.0) as u8;
    let (low, high) = block.split_at(BLOCK / 2);
    stored.extend(low.iter().zip(high).map(|(low, high)| integer(*low) | integer(*high) << 4));
}

fn squared_error(block: &[f32; BLOCK], scale: f32) -> f32 {
    block.iter().map(|x| (x - scale * rounded(*x, scale)).powi(2)).sum()
}

/// Returns the integer of a weight, -8 to 7.
fn rounded(x: f32, scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { (x / scale).round_ties_even().clamp(-8.0, 7.0) }
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
            let values: Vec<f32> =
                (0..2 * BLOCK as i32).map(|i| scale * (i * 37 % (2 * half) - half).max(1 - half) as f32).collect();
            let blocks = to_nearest(&values, integers);
            assert!(error(&values, &blocks, integers) < 1e-6, "{integers:?} {scale}");
        }
        let zeros = [0.0; BLOCK];
        for integers in [Integers::Int8, Integers::Int4] {
            assert_eq!(integers.block_type().dequantize(&to_nearest(&zeros, integers)), zeros);
        }
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
