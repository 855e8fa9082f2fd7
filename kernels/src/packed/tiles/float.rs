//! Tiles of weights in f32, bf16 and f16: activations in f32, one column after the other.
#![allow(unsafe_code, reason = "as in `tiles`")]
#![allow(clippy::inline_always, reason = "as in `tiles`")]

use std::marker::PhantomData;

use super::super::panels::PANEL;
use super::{STRIP, Strips, Tile, Vectors};

/// Weights that are converted to f32, two columns at a time.
///
/// # Safety
/// As of [`Vectors`].
pub unsafe trait FloatWeights<V: Vectors> {
    /// The bytes of two columns of a panel.
    const PAIR_BYTES: usize;
    /// Whether an instruction cannot multiply by them where they are in memory.
    const IS_CONVERTED: bool;

    /// Loads a vector of the first column, of the two that begin at `from`.
    unsafe fn load_first(from: *const u8, vector: usize) -> V::F32;
    /// Loads a vector of both columns.
    unsafe fn load_pair(from: *const u8, vector: usize) -> [V::F32; 2];
}

pub struct Float<W>(PhantomData<W>);
pub struct F32;
pub struct F16;
pub struct Bf16;

// SAFETY: the callers keep the trait's conditions.
unsafe impl<V: Vectors> FloatWeights<V> for F32 {
    const PAIR_BYTES: usize = 2 * 4 * PANEL;
    const IS_CONVERTED: bool = false;

    #[inline(always)]
    unsafe fn load_first(from: *const u8, vector: usize) -> V::F32 {
        // SAFETY: by the caller's guarantee.
        unsafe { V::load_f32(from.add(4 * vector * V::LANES)) }
    }

    #[inline(always)]
    unsafe fn load_pair(from: *const u8, vector: usize) -> [V::F32; 2] {
        // SAFETY: by the caller's guarantee.
        unsafe {
            let from = from.add(4 * vector * V::LANES);
            [V::load_f32(from), V::load_f32(from.add(4 * PANEL))]
        }
    }
}

// SAFETY: the callers keep the trait's conditions.
unsafe impl<V: Vectors> FloatWeights<V> for F16 {
    const PAIR_BYTES: usize = 2 * 2 * PANEL;
    const IS_CONVERTED: bool = true;

    #[inline(always)]
    unsafe fn load_first(from: *const u8, vector: usize) -> V::F32 {
        // SAFETY: by the caller's guarantee.
        unsafe { V::load_f16(from.add(2 * vector * V::LANES)) }
    }

    #[inline(always)]
    unsafe fn load_pair(from: *const u8, vector: usize) -> [V::F32; 2] {
        // SAFETY: by the caller's guarantee.
        unsafe {
            let from = from.add(2 * vector * V::LANES);
            [V::load_f16(from), V::load_f16(from.add(2 * PANEL))]
        }
    }
}

// SAFETY: the callers keep the trait's conditions.
unsafe impl<V: Vectors> FloatWeights<V> for Bf16 {
    const PAIR_BYTES: usize = 2 * 2 * PANEL;
    const IS_CONVERTED: bool = true;

    #[inline(always)]
    unsafe fn load_first(from: *const u8, vector: usize) -> V::F32 {
        // SAFETY: by the caller's guarantee.
        unsafe { <Self as FloatWeights<V>>::load_pair(from, vector)[0] }
    }

    #[inline(always)]
    unsafe fn load_pair(from: *const u8, vector: usize) -> [V::F32; 2] {
        // SAFETY: by the caller's guarantee; the pair of a last single column is complete in memory.
        unsafe { V::load_bf16(from.add(4 * vector * V::LANES)) }
    }
}

// SAFETY: the callers keep the trait's conditions.
unsafe impl<V: Vectors, W: FloatWeights<V>> Tile<V> for Float<W> {
    type Activation = f32;

    /// Two sums for each row leave room for the weights of a strip and an activation.
    const MAX_ROWS: usize = if V::REGISTERS < 32 { 6 } else { 12 };
    /// Eight sums at a time hide the latency of an addition; six if conversions need the registers, which on AVX2 is
    /// half as fast again as eight (measured).
    const STRIPS: usize = if V::REGISTERS < 32 && W::IS_CONVERTED { 3 } else { 4 };

    fn row_len(k: usize) -> usize {
        k
    }

    #[inline(always)]
    unsafe fn compute<const M: usize, const P: usize>(strips: Strips, strip: usize, row: usize, x: *const f32) {
        let k = strips.k;
        // SAFETY: columns are below `k`; otherwise by the caller's guarantee.
        unsafe {
            let sources: [_; P] = std::array::from_fn(|p| strips.at::<V>(strip + p));
            let mut sums = [[[V::splat(0.0); STRIP]; P]; M];
            for pair in 0..k / 2 {
                for (p, (panel, vector)) in sources.into_iter().enumerate() {
                    let panel = panel.add(pair * W::PAIR_BYTES);
                    let weights = [W::load_pair(panel, vector), W::load_pair(panel, vector + 1)];
                    for (m, sums) in sums.iter_mut().enumerate() {
                        for i in 0..2 {
                            let x = V::splat(*x.add(m * k + 2 * pair + i));
                            for (sum, weights) in sums[p].iter_mut().zip(weights) {
                                *sum = V::multiply_add(weights[i], x, *sum);
                            }
                        }
                    }
                }
            }
            if !k.is_multiple_of(2) {
                for (p, (panel, vector)) in sources.into_iter().enumerate() {
                    let panel = panel.add(k / 2 * W::PAIR_BYTES);
                    for (m, sums) in sums.iter_mut().enumerate() {
                        let x = V::splat(*x.add(m * k + k - 1));
                        for (j, sum) in sums[p].iter_mut().enumerate() {
                            *sum = V::multiply_add(W::load_first(panel, vector + j), x, *sum);
                        }
                    }
                }
            }
            strips.store::<V, M, P>(strip, row, sums);
        }
    }
}
