//! Matrix products by the `gemm` crate, which burn-flex uses too.
#![allow(unsafe_code, reason = "the gemm crate takes pointers; every matrix is checked against its slice first")]

use gemm::Parallelism;

/// The multiply-adds from which a product is divided among threads. Heuristic, not measured: smaller products take only
/// tens of microseconds, against which waking threads matters.
const MIN_PARALLEL_MULTIPLY_ADDS: usize = 1 << 20;

/// A matrix view of a slice.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Returns the matrix of `rows` × `columns` whose rows begin every `row_stride` elements.
    pub fn new(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert_in_bounds(values.len(), rows, columns, row_stride);
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// Returns the transposed matrix, without a copy.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

fn assert_in_bounds(len: usize, rows: usize, columns: usize, row_stride: usize) {
    assert!(
        rows == 0 || columns == 0 || (columns <= row_stride && (rows - 1) * row_stride + columns <= len),
        "{rows} × {columns} with a row stride of {row_stride} in {len} elements"
    );
}

/// Returns a × b.
pub fn matmul(a: Matrix, b: Matrix) -> Vec<f32> {
    let len = a.rows * b.columns;
    let mut out: Vec<f32> = Vec::with_capacity(len);
    // SAFETY: `out` has room for that many rows and columns, and nothing is read from it.
    unsafe { matmul_raw(out.as_mut_ptr(), b.columns, a, b, false) };
    // SAFETY: every element of the product was written.
    unsafe { out.set_len(len) };
    out
}

/// Writes a × b to the matrix in `out` whose rows begin every `row_stride` elements; adds it to that matrix if `add`.
pub fn matmul_into(out: &mut [f32], row_stride: usize, a: Matrix, b: Matrix, add: bool) {
    assert_in_bounds(out.len(), a.rows, b.columns, row_stride);
    // SAFETY: the product is in bounds of `out`, as just checked.
    unsafe { matmul_raw(out.as_mut_ptr(), row_stride, a, b, add) };
}

/// # Safety
/// `out` must have room for the product with rows every `row_stride` elements; if `add`, these must be initialised.
unsafe fn matmul_raw(out: *mut f32, row_stride: usize, a: Matrix, b: Matrix, add: bool) {
    assert_eq!(a.columns, b.rows, "the columns of the left matrix and the rows of the right one");
    let small = a.rows * a.columns * b.columns < MIN_PARALLEL_MULTIPLY_ADDS || rayon::current_num_threads() == 1;
    let parallelism = if small { Parallelism::None } else { Parallelism::Rayon(0) };
    // SAFETY: `a` and `b` are in bounds of their slices by construction, and `out` by the caller's guarantee; being
    // mutably borrowed, it does not overlap them.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            row_stride as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
