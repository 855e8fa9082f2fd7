//! Products of matrices, through the `gemm` crate that burn-flex uses too.
#![allow(unsafe_code, reason = "the gemm crate takes pointers; every matrix is checked against its memory first")]

use gemm::Parallelism;

/// Multiply-adds that pay for waking threads; a guess.
const LARGE: usize = 1 << 20;

/// A matrix in somebody else's memory.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> Matrix<'a> {
    /// Returns the matrix of `rows` × `columns` whose rows begin every `row_step` numbers.
    pub fn new(values: &'a [f32], rows: usize, columns: usize, row_step: usize) -> Self {
        assert_inside(values.len(), rows, columns, row_step);
        Self { values, rows, columns, row_step, column_step: 1 }
    }

    /// Returns the same matrix with its rows as columns.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_step: self.column_step, column_step: self.row_step, ..self }
    }
}

fn assert_inside(len: usize, rows: usize, columns: usize, row_step: usize) {
    assert!(
        rows == 0 || columns == 0 || (columns <= row_step && (rows - 1) * row_step + columns <= len),
        "{rows} × {columns} by steps of {row_step} in {len} numbers"
    );
}

/// Returns a × b.
pub fn product(a: Matrix, b: Matrix) -> Vec<f32> {
    let len = a.rows * b.columns;
    let mut out: Vec<f32> = Vec::with_capacity(len);
    // SAFETY: `out` has room for a matrix of that many rows and columns, and nothing is read from it.
    unsafe { multiply(out.as_mut_ptr(), b.columns, a, b, false) };
    // SAFETY: every element of the product was written.
    unsafe { out.set_len(len) };
    out
}

/// Writes a × b to the matrix in `out` whose rows begin every `row_step` numbers, or adds it to what is there.
pub fn product_into(out: &mut [f32], row_step: usize, a: Matrix, b: Matrix, add: bool) {
    assert_inside(out.len(), a.rows, b.columns, row_step);
    // SAFETY: the rows and columns of the product lie in `out`, as just checked.
    unsafe { multiply(out.as_mut_ptr(), row_step, a, b, add) };
}

/// # Safety
/// `out` has room for the product by steps of `row_step`; where `add`, its numbers are there already.
unsafe fn multiply(out: *mut f32, row_step: usize, a: Matrix, b: Matrix, add: bool) {
    assert_eq!(a.columns, b.rows, "as many columns on the left as rows on the right");
    let alone = a.rows * a.columns * b.columns < LARGE || rayon::current_num_threads() == 1;
    let parallelism = if alone { Parallelism::None } else { Parallelism::Rayon(0) };
    // SAFETY: the matrices lie in their memory by construction, `out` in its own as the caller says; a mutable borrow of
    // it keeps it apart from the others.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            row_step as isize,
            add,
            a.values.as_ptr(),
            a.column_step as isize,
            a.row_step as isize,
            b.values.as_ptr(),
            b.column_step as isize,
            b.row_step as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
