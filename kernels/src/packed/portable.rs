//! Kernels in portable Rust, one row of activations at a time: the reference for the others.
#![allow(unsafe_code, reason = "the results are columns of a matrix that other threads write to as well")]

use half::{bf16, f16};

use super::activations::{Activations, QuantizedBlock};
use super::panels::{GROUP, INT4_UNIT, INT4_WEIGHTS, INT8_UNIT, INT8_WEIGHTS, PANEL, Panels};
use super::{BLOCK, WeightType};

/// Computes all columns of panels for all rows of activations.
///
/// # Safety
/// `y` has room for the rows, each beginning `stride` after the one before, and no other thread reads or writes these
/// columns.
pub unsafe fn multiply(panels: Panels, activations: Activations, y: *mut f32, stride: usize) {
    for (i, panel) in panels.iter().enumerate() {
        for row in 0..activations.count(panels.k) {
            let product = product(panel, panels.weight_type, activations.rows(row..row + 1, panels.k));
            // SAFETY: the row and the columns of the panel are in `y`.
            unsafe { std::ptr::copy_nonoverlapping(product.as_ptr(), y.add(row * stride + i * PANEL), PANEL) };
        }
    }
}

/// Returns the products of the rows of a panel and one row of activations.
fn product(panel: &[u8], weight_type: WeightType, x: Activations) -> [f32; PANEL] {
    let mut y = [0.0; PANEL];
    match (weight_type, x) {
        (WeightType::F32, Activations::F32(x)) => {
            for (x, weights) in x.iter().zip(panel.as_chunks::<{ 4 * PANEL }>().0) {
                add_products(&mut y, *x, weights.as_chunks().0, |weight| f32::from_le_bytes(*weight));
            }
        }
        (WeightType::F16, Activations::F32(x)) => {
            for (x, weights) in x.iter().zip(panel.as_chunks::<{ 2 * PANEL }>().0) {
                add_products(&mut y, *x, weights.as_chunks().0, |weight| f16::from_le_bytes(*weight).to_f32());
            }
        }
        (WeightType::Bf16, Activations::F32(x)) => {
            for (x, pairs) in x.chunks(2).zip(panel.as_chunks::<{ 4 * PANEL }>().0) {
                for (i, x) in x.iter().enumerate() {
                    let weight = |pair: &[u8; 4]| bf16::from_le_bytes([pair[2 * i], pair[2 * i + 1]]).to_f32();
                    add_products(&mut y, *x, pairs.as_chunks().0, weight);
                }
            }
        }
        (WeightType::Int8, Activations::Int8(x)) => {
            for (x, unit) in x.iter().zip(panel.as_chunks::<INT8_UNIT>().0) {
                let (weights, scales) = unit.split_at(INT8_WEIGHTS);
                let mut sums = [x.correction; PANEL];
                for (x, weights) in x.values.as_chunks().0.iter().zip(weights.as_chunks().0) {
                    add_dot_products(&mut sums, *x, weights, i32::from);
                }
                add_scaled(&mut y, x, &sums, scales);
            }
        }
        (WeightType::Int4, Activations::Int8(x)) => {
            for (x, unit) in x.iter().zip(panel.as_chunks::<INT4_UNIT>().0) {
                let (weights, scales) = unit.split_at(INT4_WEIGHTS);
                let (low, high) = x.values.split_at(BLOCK / 2);
                let mut sums = [x.correction; PANEL];
                for ((low, high), weights) in
                    low.as_chunks().0.iter().zip(high.as_chunks().0).zip(weights.as_chunks().0)
                {
                    add_dot_products(&mut sums, *low, weights, |byte| i32::from(byte & 15));
                    add_dot_products(&mut sums, *high, weights, |byte| i32::from(byte >> 4));
                }
                add_scaled(&mut y, x, &sums, scales);
            }
        }
        (weight_type, _) => unreachable!("activations in another form than {weight_type:?} reads"),
    }
    y
}

/// Adds one activation times a column of weights.
fn add_products<W>(y: &mut [f32; PANEL], x: f32, weights: &[W], to_f32: impl Fn(&W) -> f32) {
    for (y, weight) in y.iter_mut().zip(weights) {
        *y = multiply_add(to_f32(weight), x, *y);
    }
}

/// Adds the products of a group of activations and the groups of weights.
fn add_dot_products(
    sums: &mut [i32; PANEL],
    x: [i8; GROUP],
    weights: &[u8; GROUP * PANEL],
    weight: impl Fn(u8) -> i32,
) {
    for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<GROUP>().0) {
        for (x, byte) in x.iter().zip(weights) {
            *sum += i32::from(*x) * weight(*byte);
        }
    }
}

/// Adds the sums of a block in units of both scales.
fn add_scaled(y: &mut [f32; PANEL], x: &QuantizedBlock<i8>, sums: &[i32; PANEL], scales: &[u8]) {
    for ((y, sum), scale) in y.iter_mut().zip(sums).zip(scales.as_chunks().0) {
        *y = multiply_add(*sum as f32, f16::from_le_bytes(*scale).to_f32() * x.scale, *y);
    }
}

/// Returns a b + c, rounded once where there is an instruction for it: without one it is a call.
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}
