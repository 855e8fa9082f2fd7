//! Tiles of weights in int8 and int4: the products of a block are summed in integers, the blocks in f32.
#![allow(unsafe_code, reason = "as in `tiles`")]
#![allow(clippy::inline_always, reason = "as in `tiles`")]

use super::super::BLOCK;
use super::super::activations::QuantizedBlock;
use super::super::panels::{GROUP, INT4_UNIT, INT4_WEIGHTS, INT8_UNIT, INT8_WEIGHTS, PANEL};
use super::{STRIP, Strips, Tile, Vectors};

pub struct Int8;
pub struct Int4;

// SAFETY: the callers keep the trait's conditions.
unsafe impl<V: Vectors> Tile<V> for Int8 {
    type Activation = QuantizedBlock<V::Int8Activation>;

    const MAX_ROWS: usize = if V::REGISTERS < 32 { 4 } else { 6 };
    const STRIPS: usize = 2;

    fn row_len(k: usize) -> usize {
        k / BLOCK
    }

    #[inline(always)]
    unsafe fn compute<const M: usize, const P: usize>(
        strips: Strips,
        strip: usize,
        row: usize,
        x: *const Self::Activation,
    ) {
        let blocks = strips.k / BLOCK;
        // SAFETY: blocks are below their number; otherwise by the caller's guarantee.
        unsafe {
            let sources: [_; P] = std::array::from_fn(|p| strips.at::<V>(strip + p));
            let mut sums = [[[V::splat(0.0); STRIP]; P]; M];
            for block in 0..blocks {
                let mut integers = [[[V::splat_i32(0); STRIP]; P]; M];
                for (m, integers) in integers.iter_mut().enumerate() {
                    *integers = [[V::splat_i32((*x.add(m * blocks + block)).correction); STRIP]; P];
                }
                for group in 0..BLOCK / GROUP {
                    for (p, (panel, vector)) in sources.into_iter().enumerate() {
                        let from = panel.add(block * INT8_UNIT + GROUP * (group * PANEL + vector * V::LANES));
                        let weights = [V::int8_weights(from), V::int8_weights(from.add(GROUP * V::LANES))];
                        for (m, integers) in integers.iter_mut().enumerate() {
                            let x = x.add(m * blocks + block);
                            let values =
                                V::int8_values((&raw const (*x).values).cast::<V::Int8Activation>().add(GROUP * group));
                            for (sum, weights) in integers[p].iter_mut().zip(weights) {
                                *sum = V::add_int8(*sum, weights, values);
                            }
                        }
                    }
                }
                for (p, (panel, vector)) in sources.into_iter().enumerate() {
                    let scales = panel.add(block * INT8_UNIT + INT8_WEIGHTS + 2 * vector * V::LANES);
                    for (m, integers) in integers.iter().enumerate() {
                        add_scaled::<V>(&mut sums[m][p], integers[p], scales, (*x.add(m * blocks + block)).scale);
                    }
                }
            }
            strips.store::<V, M, P>(strip, row, sums);
        }
    }
}

// SAFETY: the callers keep the trait's conditions.
unsafe impl<V: Vectors> Tile<V> for Int4 {
    type Activation = QuantizedBlock<i8>;

    const MAX_ROWS: usize = if V::REGISTERS < 32 { 4 } else { 6 };
    const STRIPS: usize = 2;

    fn row_len(k: usize) -> usize {
        k / BLOCK
    }

    #[inline(always)]
    unsafe fn compute<const M: usize, const P: usize>(
        strips: Strips,
        strip: usize,
        row: usize,
        x: *const Self::Activation,
    ) {
        let blocks = strips.k / BLOCK;
        // SAFETY: blocks are below their number; otherwise by the caller's guarantee.
        unsafe {
            let sources: [_; P] = std::array::from_fn(|p| strips.at::<V>(strip + p));
            let mut sums = [[[V::splat(0.0); STRIP]; P]; M];
            for block in 0..blocks {
                let mut partial = [[[V::splat_i32(0); STRIP]; P]; M];
                for group in 0..BLOCK / 2 / GROUP {
                    for (p, (panel, vector)) in sources.into_iter().enumerate() {
                        let from = panel.add(block * INT4_UNIT + GROUP * (group * PANEL + vector * V::LANES));
                        let weights = [V::int4_weights(from), V::int4_weights(from.add(GROUP * V::LANES))];
                        for (m, partial) in partial.iter_mut().enumerate() {
                            let values =
                                (&raw const (*x.add(m * blocks + block)).values).cast::<i8>().add(GROUP * group);
                            for half in 0..2 {
                                let values = V::int4_values(values.add(half * BLOCK / 2));
                                for (sum, weights) in partial[p].iter_mut().zip(weights) {
                                    *sum = V::add_int4(*sum, weights[half], values);
                                }
                            }
                        }
                    }
                }
                for (p, (panel, vector)) in sources.into_iter().enumerate() {
                    let scales = panel.add(block * INT4_UNIT + INT4_WEIGHTS + 2 * vector * V::LANES);
                    for (m, partial) in partial.iter().enumerate() {
                        let x = x.add(m * blocks + block);
                        let [first, second] = partial[p];
                        let integers = [V::int4_sum(first, (*x).correction), V::int4_sum(second, (*x).correction)];
                        add_scaled::<V>(&mut sums[m][p], integers, scales, (*x).scale);
                    }
                }
            }
            strips.store::<V, M, P>(strip, row, sums);
        }
    }
}

/// Adds the integers of a block in units of the scales of weights and activations.
///
/// # Safety
/// As of [`Vectors`].
#[inline(always)]
unsafe fn add_scaled<V: Vectors>(
    sums: &mut [V::F32; STRIP],
    integers: [V::Integers; STRIP],
    scales: *const u8,
    scale: f32,
) {
    // SAFETY: by the caller's guarantee.
    unsafe {
        for (j, (sum, integers)) in sums.iter_mut().zip(integers).enumerate() {
            let scale = V::multiply(V::load_f16(scales.add(2 * j * V::LANES)), V::splat(scale));
            *sum = V::multiply_add(V::to_f32(integers), scale, *sum);
        }
    }
}
