//! The choice of kernels for this processor, and the matrix product over them.
#![allow(unsafe_code, reason = "kernels write to columns of a matrix, and some need instructions that were detected")]

use std::marker::PhantomData;
use std::ops::Range;

use super::activations::{Activations, Form};
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::panels::{INT4_OFFSET, INT8_OFFSET, PANEL, Panels};
use super::portable;
use super::{BLOCK, WeightType};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// The rows of an incomplete panel's product that are computed at a time: a multiple of the rows of every kernel.
const BUFFERED_ROWS: usize = 12;

/// The instruction set of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
}

impl Isa {
    /// Returns the instruction sets of this processor, the best first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let vectors = {
            use std::arch::is_x86_feature_detected as is_detected;
            let avx512 = is_detected!("avx512f") && is_detected!("avx512bw") && is_detected!("avx512vnni");
            let avx2 = is_detected!("avx2") && is_detected!("fma") && is_detected!("f16c");
            [avx512.then_some(Self::Avx512), avx2.then_some(Self::Avx2)]
        };
        #[cfg(target_arch = "aarch64")]
        let vectors =
            [std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self::NeonDotprod), Some(Self::Neon)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let vectors = [];
        vectors.into_iter().flatten().chain([Self::Portable])
    }

    /// Returns the best instruction set of this processor.
    pub fn detect() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// Returns the form of activations that the kernels of a weight type read.
    pub fn form(self, weight_type: WeightType) -> Form {
        match (self, weight_type) {
            (_, WeightType::F32 | WeightType::Bf16 | WeightType::F16) => Form::F32,
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2, WeightType::Int8) => Form::Int16 { offset: INT8_OFFSET },
            #[cfg(target_arch = "aarch64")]
            (Self::Neon | Self::NeonDotprod, WeightType::Int8) => Form::Int8 { offset: 0 },
            (_, WeightType::Int8) => Form::Int8 { offset: INT8_OFFSET },
            (_, WeightType::Int4) => Form::Int8 { offset: INT4_OFFSET },
        }
    }
}

/// A matrix `[M, N]` whose columns are written by several threads.
#[derive(Debug)]
pub struct Output<'a> {
    first: *mut f32,
    rows: usize,
    columns: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: `multiply` asks its callers that threads write to different columns.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Returns the matrix with these values and number of columns.
    pub fn new(values: &'a mut [f32], columns: usize) -> Self {
        Self { first: values.as_mut_ptr(), rows: values.len() / columns, columns, values: PhantomData }
    }
}

/// Computes the columns of `y` that begin at those of panel `first`, for as many panels as there are.
///
/// # Safety
/// The columns are in `y`, up to 31 beyond them for the last panel, and no other thread reads or writes them. The
/// processor has the instruction set, and the activations are in the form that it reads, `y.rows` rows of `panels.k`.
pub unsafe fn multiply(isa: Isa, panels: Panels, first: usize, activations: Activations, y: &Output) {
    let column = first * PANEL;
    let whole = panels.iter().len().min((y.columns - column) / PANEL);
    let (panels, incomplete) = panels.split_at(whole);
    // SAFETY: the columns of whole panels are in `y`.
    unsafe { multiply_whole(isa, panels, activations, y.first.add(column), y.columns) };
    if incomplete.bytes.is_empty() {
        return;
    }
    let column = column + whole * PANEL;
    let width = y.columns - column;
    for first_row in (0..y.rows).step_by(BUFFERED_ROWS) {
        let rows = first_row..(first_row + BUFFERED_ROWS).min(y.rows);
        let mut buffer = [0.0; BUFFERED_ROWS * PANEL];
        // SAFETY: the buffer has room for the rows of a panel.
        unsafe {
            multiply_whole(isa, incomplete, activations.rows(rows.clone(), panels.k), buffer.as_mut_ptr(), PANEL);
        }
        for (row, buffer) in rows.zip(buffer.as_chunks::<PANEL>().0) {
            // SAFETY: the columns up to the last are in `y`.
            unsafe { std::ptr::copy_nonoverlapping(buffer.as_ptr(), y.first.add(row * y.columns + column), width) };
        }
    }
}

/// Computes all columns of panels for all rows of activations.
///
/// # Safety
/// As of [`multiply`]; `y` has room for the rows, each beginning `stride` after the one before.
unsafe fn multiply_whole(isa: Isa, panels: Panels, activations: Activations, y: *mut f32, stride: usize) {
    // SAFETY: by the caller's guarantee.
    unsafe {
        match isa {
            Isa::Portable => portable::multiply(panels, activations, y, stride),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::multiply(panels, activations, y, stride),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::multiply(panels, activations, y, stride),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::multiply(panels, activations, y, stride),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => neon::multiply_dotprod(panels, activations, y, stride),
        }
    }
}

impl Activations<'_> {
    /// Returns the number of rows of `k` activations.
    pub fn count(&self, k: usize) -> usize {
        match self {
            Self::F32(x) => x.len() / k,
            Self::Int8(x) => x.len() / (k / BLOCK),
            Self::Int16(x) => x.len() / (k / BLOCK),
        }
    }

    /// Returns some of the rows of `k` activations.
    pub fn rows(&self, rows: Range<usize>, k: usize) -> Self {
        let blocks = rows.start * (k / BLOCK)..rows.end * (k / BLOCK);
        match self {
            Self::F32(x) => Self::F32(&x[rows.start * k..rows.end * k]),
            Self::Int8(x) => Self::Int8(&x[blocks]),
            Self::Int16(x) => Self::Int16(&x[blocks]),
        }
    }
}
