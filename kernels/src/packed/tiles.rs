//! The matrix product in terms of vectors: loops that are compiled for each instruction set.
//!
//! Two vectors side by side in a panel are a strip. A tile is the product of M rows of activations and P strips, whose
//! sums stay in registers: many strips for one row, which hides the latency of an addition, and many rows for one
//! strip, which reads each weight once for all of them. Either way an element is summed column by column from the
//! first.
#![allow(unsafe_code, reason = "vector instructions, which read and write memory through pointers")]
#![allow(clippy::inline_always, reason = "a function that is not inlined is compiled for the baseline instruction set")]

mod float;
mod integer;

use super::WeightType;
use super::activations::Activations;
use super::panels::{PANEL, Panels, panel_bytes};
use float::{Bf16, F16, F32, Float};
use integer::{Int4, Int8};

/// The vectors of a strip.
const STRIP: usize = 2;

/// Vectors of an instruction set.
///
/// # Safety
/// The functions are called, inlined, from one that is compiled for the instruction set, on a processor that has it.
/// Pointers are valid for the bytes of a vector, in any alignment.
pub unsafe trait Vectors {
    /// Numbers in f32, one for each row of the weight.
    type F32: Copy;
    /// Integers: as many of 32 bits, or as the functions below use them.
    type Integers: Copy;
    /// Integers of a group of int8 weights, and what they are multiplied by.
    type Int8Weights: Copy;
    type Int8Values: Copy;
    /// Integers of a group of int4 weights, and what they are multiplied by.
    type Int4Operand: Copy;
    /// The activations of int8 weights as they are stored.
    type Int8Activation: Copy;

    /// The rows of a vector.
    const LANES: usize;
    /// The vector registers.
    const REGISTERS: usize;

    unsafe fn splat(x: f32) -> Self::F32;
    unsafe fn load_f32(from: *const u8) -> Self::F32;
    unsafe fn load_f16(from: *const u8) -> Self::F32;
    /// Returns the first and the second bf16 of each pair.
    unsafe fn load_bf16(from: *const u8) -> [Self::F32; 2];
    unsafe fn store(x: Self::F32, to: *mut f32);
    unsafe fn multiply(a: Self::F32, b: Self::F32) -> Self::F32;
    /// Returns a b + c.
    unsafe fn multiply_add(a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    unsafe fn splat_i32(x: i32) -> Self::Integers;
    unsafe fn to_f32(x: Self::Integers) -> Self::F32;

    /// Loads a group of four columns of int8 weights, and broadcasts as many activations.
    unsafe fn int8_weights(from: *const u8) -> Self::Int8Weights;
    unsafe fn int8_values(from: *const Self::Int8Activation) -> Self::Int8Values;
    /// Adds the dot product of each group.
    unsafe fn add_int8(sum: Self::Integers, weights: Self::Int8Weights, values: Self::Int8Values) -> Self::Integers;

    /// Loads the lower and the upper columns of a group of int4 weights, and broadcasts as many activations.
    unsafe fn int4_weights(from: *const u8) -> [Self::Int4Operand; 2];
    unsafe fn int4_values(from: *const i8) -> Self::Int4Operand;
    /// Adds the dot product of each group to a partial sum, which begins at 0.
    unsafe fn add_int4(sum: Self::Integers, weights: Self::Int4Operand, values: Self::Int4Operand) -> Self::Integers;
    /// Returns the complete sum of a block plus `correction`.
    unsafe fn int4_sum(sum: Self::Integers, correction: i32) -> Self::Integers;
}

/// How tiles of a weight type are computed.
///
/// # Safety
/// As of [`Vectors`].
unsafe trait Tile<V: Vectors> {
    /// A number or a block of activations.
    type Activation;

    /// The largest M whose sums stay in registers.
    const MAX_ROWS: usize;
    /// The largest P for a single row, at most 4.
    const STRIPS: usize;

    /// Returns the activations of a row.
    fn row_len(k: usize) -> usize;

    /// Computes P strips from `strip` and M rows from `row`, whose activations begin at `x`.
    unsafe fn compute<const M: usize, const P: usize>(
        strips: Strips,
        strip: usize,
        row: usize,
        x: *const Self::Activation,
    );
}

/// Strips of successive panels, the first of which is that of the first column of `y`.
#[derive(Clone, Copy)]
struct Strips {
    panels: *const u8,
    panel_bytes: usize,
    k: usize,
    y: *mut f32,
    /// The elements from a row of `y` to the next.
    stride: usize,
}

impl Strips {
    /// Returns the panel of a strip, and the first vector in it.
    ///
    /// # Safety
    /// There is such a strip.
    #[inline(always)]
    unsafe fn at<V: Vectors>(self, strip: usize) -> (*const u8, usize) {
        let strips_per_panel = PANEL / (STRIP * V::LANES);
        // SAFETY: by the caller's guarantee.
        let panel = unsafe { self.panels.add(strip / strips_per_panel * self.panel_bytes) };
        (panel, strip % strips_per_panel * STRIP)
    }

    /// # Safety
    /// There are such a strip and such rows.
    #[inline(always)]
    unsafe fn store<V: Vectors, const M: usize, const P: usize>(
        self,
        strip: usize,
        row: usize,
        sums: [[[V::F32; STRIP]; P]; M],
    ) {
        for (m, sums) in sums.iter().enumerate() {
            for (p, sums) in sums.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    let column = ((strip + p) * STRIP + j) * V::LANES;
                    // SAFETY: by the caller's guarantee.
                    unsafe { V::store(*sum, self.y.add((row + m) * self.stride + column)) };
                }
            }
        }
    }
}

/// Computes all columns of panels for all rows of activations.
///
/// # Safety
/// As of [`Vectors`]; `y` has room for the rows, each beginning `stride` after the one before, and no other thread
/// reads or writes these columns. Activations of int8 weights are [`Vectors::Int8Activation`]s.
#[inline(always)]
pub unsafe fn multiply<V: Vectors>(panels: Panels, activations: Activations, y: *mut f32, stride: usize) {
    let Panels { bytes, weight_type, k } = panels;
    let panel_bytes = panel_bytes(weight_type, k);
    let strips = Strips { panels: bytes.as_ptr(), panel_bytes, k, y, stride };
    let n_strips = bytes.len() / panel_bytes * PANEL / (STRIP * V::LANES);
    let rows = activations.count(k);
    // SAFETY: the strips and rows are those of the panels and activations; otherwise by the caller's guarantee.
    unsafe {
        match (weight_type, activations) {
            (WeightType::F32, Activations::F32(x)) => all_tiles::<V, Float<F32>>(strips, n_strips, x.as_ptr(), rows),
            (WeightType::F16, Activations::F32(x)) => all_tiles::<V, Float<F16>>(strips, n_strips, x.as_ptr(), rows),
            (WeightType::Bf16, Activations::F32(x)) => all_tiles::<V, Float<Bf16>>(strips, n_strips, x.as_ptr(), rows),
            (WeightType::Int8, Activations::Int8(x)) => all_tiles::<V, Int8>(strips, n_strips, x.as_ptr().cast(), rows),
            (WeightType::Int8, Activations::Int16(x)) => {
                all_tiles::<V, Int8>(strips, n_strips, x.as_ptr().cast(), rows);
            }
            (WeightType::Int4, Activations::Int8(x)) => all_tiles::<V, Int4>(strips, n_strips, x.as_ptr(), rows),
            (weight_type, _) => unreachable!("activations in another form than {weight_type:?} reads"),
        }
    }
}

/// Computes all tiles: several strips at a time for a single row, else as many rows as a tile may have.
///
/// # Safety
/// As of [`multiply`]; there are as many strips and rows.
#[inline(always)]
unsafe fn all_tiles<V: Vectors, T: Tile<V>>(strips: Strips, n_strips: usize, x: *const T::Activation, rows: usize) {
    let row_len = T::row_len(strips.k);
    let mut strip = 0;
    // SAFETY: strips and rows are below their numbers; otherwise by the caller's guarantee.
    unsafe {
        if rows == 1 {
            macro_rules! tiles_of {
                ($($p:literal)*) => {$(
                    while $p <= T::STRIPS && n_strips - strip >= $p {
                        T::compute::<1, $p>(strips, strip, 0, x);
                        strip += $p;
                    }
                )*};
            }
            tiles_of!(4 3 2);
        }
        while strip < n_strips {
            let mut row = 0;
            macro_rules! tiles_of {
                ($($m:literal)*) => {$(
                    if $m <= T::MAX_ROWS {
                        while rows - row >= $m {
                            T::compute::<$m, 1>(strips, strip, row, x.add(row * row_len));
                            row += $m;
                        }
                    }
                )*};
            }
            tiles_of!(12 8 6 4 3 2 1);
            strip += 1;
        }
    }
}
