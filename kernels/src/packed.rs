//! Weight matrices in the order in which a processor reads them, in f32, bf16, f16, int8 or int4.
//!
//! Decoding one sequence reads every weight once for each token, so its speed is that of the memory: weights stay in
//! the type they are stored in, and are converted in registers. A matrix is divided into panels of 32 rows, in which
//! the elements of one column stand side by side: an instruction multiplies many rows by one activation, and there is
//! no sum across a register.
//!
//! Activations are f32. For int8 and int4 they are quantised to int8 in blocks of 32 with one f32 scale each, and the
//! products of a block are summed in integers, as in llama.cpp; everything else is summed in f32.
//!
//! Each element of a product is summed in one order, from the first column to the last, whatever the number of rows and
//! of threads: its bits depend on its row of activations, its row of weights and the instruction set alone.
//!
//! Relative errors against f64, measured with normally distributed weights and activations and 768 columns (the root of
//! the mean squared difference over that of the mean square; `tests/packed.rs` checks them), rounding of the weights
//! included:
//!
//! | f32 | bf16 | f16 | int8 | int4 |
//! |---|---|---|---|---|
//! | 4.9 × 10⁻⁷ | 1.6 × 10⁻³ | 2.1 × 10⁻⁴ | 7.6 × 10⁻³ | 8.4 × 10⁻² |
//!
//! Kernels: AVX-512 (BW, VNNI), AVX2 (FMA, F16C), NEON with and without dot products (dotprod), and portable code for
//! all other processors, chosen at run time. They share their loops (`tiles`) and their layout (`panels`).
//!
//! Dimensions: M rows of activations, N rows of the weight, K columns.
#![allow(unsafe_code, reason = "threads write to different columns of one matrix")]

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod isa;
mod memory;
#[cfg(target_arch = "aarch64")]
mod neon;
mod panels;
mod portable;
mod storage;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tiles;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::Pool;
use isa::{Isa, Output};
use memory::Memory;
use panels::{PANEL, Panels};

pub use crate::blocks::BLOCK;
pub use activations::Scratch;
pub use storage::{encode_row, row_bytes};

/// The products from which a multiplication is divided among threads. Waking a spinning thread and waiting for it takes
/// about half a microsecond, in which a core computes some ten thousand products.
const MIN_PARALLEL_PRODUCTS: usize = 1 << 17;

/// The bytes of weights that a thread takes at a time: enough that taking costs nothing, and few enough that a thread
/// whose core is busy with something else does not keep the others waiting. Heuristic.
const TASK_BYTES: usize = 1 << 17;

/// The tasks of a thread if they have to be smaller for it: the fewer, the longer the last one keeps others waiting.
const MIN_TASKS_PER_THREAD: usize = 4;

/// The bytes that are packed before their source is released. Heuristic: enough work for all threads, and little beside
/// the model.
const PACKED_AT_ONCE: usize = 1 << 21;

/// The type of the weights of a matrix, which is also how they are stored in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// 32-bit floating point.
    F32,
    /// The upper 16 bits of [`F32`](Self::F32).
    Bf16,
    /// 16-bit floating point (IEEE 754).
    F16,
    /// Blocks of 32 weights: a scale in f16, and 32 bytes, each a weight divided by the scale (GGUF's `Q8_0`).
    Int8,
    /// Blocks of 32 weights: a scale in f16, and 16 bytes of two weights each, divided by the scale, plus 8; weights 0
    /// to 15 in the lower halves (GGUF's `Q4_0`).
    Int4,
}

/// A weight `[N, K]`, packed for this processor.
#[derive(Debug)]
pub struct PackedMatrix {
    weight_type: WeightType,
    shape: [usize; 2],
    isa: Isa,
    panels: Memory,
}

impl PackedMatrix {
    /// Packs f32 weights, rounded to the weight type as [`encode_row`] does.
    ///
    /// # Shapes
    /// - values: `[N, K]`
    ///
    /// # Panics
    /// Panics if the number of values is not N K, or K is not divisible into the type's blocks.
    pub fn quantize(values: &[f32], shape: [usize; 2], weight_type: WeightType) -> Self {
        let [n, k] = shape;
        assert_eq!(values.len(), n * k, "values: one for each element of {shape:?}");
        let read = |row: usize, stored: &mut [u8]| encode_row(&values[row * k..][..k], weight_type, stored);
        Self::from_rows(shape, weight_type, read, |_| {})
    }

    /// Packs weights in the layout of their type in files, row after row, without a change of their values: f32, bf16
    /// and f16 little-endian, int8 and int4 in GGUF's blocks.
    ///
    /// # Shapes
    /// - bytes: N times [`row_bytes`]
    ///
    /// # Panics
    /// Panics if the number of bytes is another, or K is not divisible into the type's blocks.
    pub fn from_stored(bytes: &[u8], shape: [usize; 2], weight_type: WeightType) -> Self {
        let [n, k] = shape;
        let row_len = row_bytes(weight_type, k).unwrap_or_default();
        assert_eq!(bytes.len(), n * row_len, "bytes of {n} rows of {row_len} bytes");
        let read = |row: usize, stored: &mut [u8]| stored.copy_from_slice(&bytes[row * row_len..][..row_len]);
        Self::from_rows(shape, weight_type, read, |_| {})
    }

    /// Packs the rows that `read` writes, from several threads, in the layout of [`from_stored`](Self::from_stored).
    /// `done` receives the rows that will not be read again, from the first to the last, so that the memory that they
    /// are read from can be released on the way.
    ///
    /// # Panics
    /// Panics if K is not divisible into the type's blocks.
    pub fn from_rows(
        shape: [usize; 2],
        weight_type: WeightType,
        read: impl Fn(usize, &mut [u8]) + Sync,
        mut done: impl FnMut(Range<usize>),
    ) -> Self {
        let [n, k] = shape;
        let Some(row_len) = row_bytes(weight_type, k) else {
            panic!("{k} columns of {weight_type:?} are not whole blocks of {BLOCK}");
        };
        let panel_bytes = panels::panel_bytes(weight_type, k);
        let mut panels = Memory::zeroed(n.div_ceil(PANEL) * panel_bytes);
        if panel_bytes > 0 {
            let panels_at_once = PACKED_AT_ONCE.div_ceil(panel_bytes);
            for (i, bytes) in panels.bytes_mut().chunks_mut(panels_at_once * panel_bytes).enumerate() {
                let first = i * panels_at_once * PANEL;
                bytes.par_chunks_mut(panel_bytes).enumerate().for_each_init(
                    || vec![0; row_len],
                    |stored, (panel, bytes)| {
                        let first = first + panel * PANEL;
                        for (at, row) in (first..n.min(first + PANEL)).enumerate() {
                            read(row, stored);
                            panels::insert_row(bytes, weight_type, at, stored);
                        }
                    },
                );
                done(first..n.min(first + panels_at_once * PANEL));
            }
        }
        Self { weight_type, shape, isa: Isa::detect(), panels }
    }

    /// Returns `[N, K]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Returns the type of the weights.
    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    /// Returns the number of bytes in memory, which a multiplication by one row reads.
    pub fn bytes(&self) -> usize {
        self.panels.bytes().len()
    }

    /// Writes row `n` in f32 to `out`, as of an embedding table.
    ///
    /// # Shapes
    /// - out: `[K]`
    ///
    /// # Panics
    /// Panics if there is no such row, or `out` has another length.
    pub fn row(&self, n: usize, out: &mut [f32]) {
        let [rows, k] = self.shape;
        assert!(n < rows, "row {n} of {rows}");
        assert_eq!(out.len(), k, "out: one element for each column");
        let panel_bytes = panels::panel_bytes(self.weight_type, k);
        let panel = &self.panels.bytes()[n / PANEL * panel_bytes..][..panel_bytes];
        panels::extract_row(panel, self.weight_type, n % PANEL, out);
    }

    /// Computes y = x Wᵀ.
    ///
    /// # Shapes
    /// - x: `[M, K]`
    /// - y: `[M, N]`
    ///
    /// # Panics
    /// Panics if `x` is not whole rows, or `y` has another length.
    pub fn multiply(&self, pool: &Pool, x: &[f32], scratch: &mut Scratch, y: &mut [f32]) {
        let [n, k] = self.shape;
        if n == 0 || k == 0 {
            y.fill(0.0);
            return;
        }
        let m = x.len() / k;
        assert_eq!(x.len(), m * k, "x: rows of {k} elements");
        assert_eq!(y.len(), m * n, "y: {m} rows of {n} elements");
        if m == 0 {
            return;
        }
        let is_parallel = pool.threads() > 1 && m * n * k >= MIN_PARALLEL_PRODUCTS;
        let activations = scratch.prepare(x, self.isa.form(self.weight_type), is_parallel.then_some(pool));
        let y = Output::new(y, n);
        let panel_bytes = panels::panel_bytes(self.weight_type, k);
        let n_panels = n.div_ceil(PANEL);
        let multiply = |first: usize, end: usize| {
            let bytes = &self.panels.bytes()[first * panel_bytes..end * panel_bytes];
            let panels = Panels { bytes, weight_type: self.weight_type, k };
            // SAFETY: the panels are those of columns of `y`, which are given to one thread, and the activations were
            // prepared for this instruction set, which was detected.
            unsafe { isa::multiply(self.isa, panels, first, activations, &y) };
        };
        if !is_parallel {
            return multiply(0, n_panels);
        }
        let panels_per_task =
            TASK_BYTES.div_ceil(panel_bytes).min(n_panels.div_ceil(pool.threads() * MIN_TASKS_PER_THREAD));
        let next = AtomicUsize::new(0);
        pool.run(&|_| {
            loop {
                let first = next.fetch_add(panels_per_task, Ordering::Relaxed);
                if first >= n_panels {
                    return;
                }
                multiply(first, (first + panels_per_task).min(n_panels));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The public tests see only the best instruction set of this processor.
    #[test]
    fn every_instruction_set_computes_the_same() {
        let values = |len: usize| -> Vec<f32> {
            (0..len as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
        };
        let multiply = |matrix: &PackedMatrix, x: &[f32], m: usize| {
            let mut y = vec![f32::NAN; m * matrix.shape[0]];
            matrix.multiply(&Pool::new(1), x, &mut Scratch::default(), &mut y);
            y
        };
        for weight_type in [WeightType::F32, WeightType::Bf16, WeightType::F16, WeightType::Int8, WeightType::Int4] {
            for k in [32, 33, 96, 250, 1024].into_iter().filter(|k| row_bytes(weight_type, *k).is_some()) {
                let n = 150;
                let weights = values(n * k);
                for m in (1..=14).chain([37]) {
                    let x = values(m * k + 7).split_off(7);
                    let mut matrix = PackedMatrix::quantize(&weights, [n, k], weight_type);
                    matrix.isa = Isa::Portable;
                    let expected = multiply(&matrix, &x, m);
                    for isa in Isa::available() {
                        matrix.isa = isa;
                        for (y, expected) in multiply(&matrix, &x, m).iter().zip(&expected) {
                            let error = (y - expected).abs();
                            assert!(
                                error < 1e-5 * (k as f32).sqrt(),
                                "{isa:?}, {weight_type:?}, {m} rows, {k} columns: {error}"
                            );
                        }
                    }
                }
            }
        }
    }
}
