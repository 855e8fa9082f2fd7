//! The operations between the matrix products of a decoding step, on plain slices: no tensors, no allocation.
//!
//! Each works on one row or more, and the result of a row does not depend on the others. They share their loops with
//! the operations on tensors.
//!
//! Dimensions: M rows, D elements of a row, C width of a head.

mod kv_pages;
mod paged_attention;

use crate::activation;
use crate::dispatch::vectorized;
use crate::norm::{inverse_rms, layer_norm_row, rms_norm_row};
use crate::rope::rotate;
use crate::simd::{exp, max, sum, tanh};
use crate::softmax::softmax_row;

pub use kv_pages::{KvPages, KvType};
pub use paged_attention::{AttentionHeads, AttentionRow, attention, attention_weights};

/// Adds `y` to x.
///
/// # Shapes
/// - x, y: `[D]`
///
/// # Panics
/// Panics if the lengths differ.
pub fn add(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "two slices of the same length");
    vectorized!(x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
}

/// Writes the [RMSNorm](crate::rms_norm) of a row to `y`.
///
/// # Shapes
/// - x, weight, y: `[D]`
///
/// # Panics
/// Panics if the lengths differ.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    assert_eq!((x.len(), y.len()), (weight.len(), weight.len()), "x and y: one element for each weight");
    vectorized!(rms_norm_row(x, weight, epsilon, y));
}

/// As [`rms_norm`], in place of x.
///
/// # Shapes
/// - x, weight: `[D]`
///
/// # Panics
/// Panics if the lengths differ.
pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], epsilon: f32) {
    assert_eq!(x.len(), weight.len(), "x: one element for each weight");
    vectorized!({
        let inverse = inverse_rms(x, epsilon);
        x.iter_mut().zip(weight).for_each(|(x, w)| *x = *x * inverse * w);
    });
}

/// Adds `residual` to x, and writes the RMSNorm of the sum to `y`.
///
/// # Shapes
/// - x, residual, weight, y: `[D]`
///
/// # Panics
/// Panics if the lengths differ.
pub fn add_rms_norm(x: &mut [f32], residual: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    add(x, residual);
    rms_norm(x, weight, epsilon, y);
}

/// Writes the [LayerNorm](crate::layer_norm) of a row to `y`.
///
/// # Shapes
/// - x, weight, bias, y: `[D]`
///
/// # Panics
/// Panics if the lengths differ.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32]) {
    let d = x.len();
    assert_eq!((weight.len(), bias.len(), y.len()), (d, d, d), "weight, bias and y: one element for each of x");
    vectorized!(layer_norm_row(x, weight, bias, epsilon, y));
}

/// Adds `residual` to x, and writes the LayerNorm of the sum to `y`.
///
/// # Shapes
/// - x, residual, weight, bias, y: `[D]`
///
/// # Panics
/// Panics if the lengths differ.
pub fn add_layer_norm(x: &mut [f32], residual: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32]) {
    add(x, residual);
    layer_norm(x, weight, bias, epsilon, y);
}

/// Rotates the pairs of each head by the angles of one position: see [`fn@crate::rope`].
///
/// # Shapes
/// - heads: `[H C]`
/// - cos, sin: `[C / 2]`
///
/// # Panics
/// Panics if `heads` is not whole heads, or `cos` and `sin` differ in length.
pub fn rope(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    assert_eq!(cos.len(), sin.len(), "a cosine and a sine for each pair");
    assert!(!cos.is_empty() && heads.len().is_multiple_of(2 * cos.len()), "whole heads of {} pairs", cos.len());
    vectorized!(heads.chunks_exact_mut(2 * cos.len()).for_each(|head| rotate(head, cos, sin, 1.0)));
}

/// Turns the gate into gate × σ(gate) × up (`SwiGLU`: GLU Variants Improve Transformer, 2020).
///
/// # Shapes
/// - gate, up: the same length
///
/// # Panics
/// Panics if the lengths differ.
pub fn swiglu(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up have the same length");
    vectorized!(gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = activation::silu(*gate) * up));
}

/// Turns the gate into gelu(gate) × up (`GEGLU`: GLU Variants Improve Transformer, 2020), with the tanh approximation.
///
/// # Shapes
/// - gate, up: the same length
///
/// # Panics
/// Panics if the lengths differ.
pub fn geglu(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up have the same length");
    vectorized!(gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = activation::gelu_tanh(*gate) * up));
}

/// Applies the tanh approximation of GELU: see [`crate::gelu`].
pub fn gelu(x: &mut [f32]) {
    vectorized!(x.iter_mut().for_each(|x| *x = activation::gelu_tanh(*x)));
}

/// Applies GELU: x / 2 × (1 + erf(x / √2)) (Gaussian Error Linear Units, 2016), erf within 1.5 × 10⁻⁷.
pub fn gelu_erf(x: &mut [f32]) {
    vectorized!(x.iter_mut().for_each(|x| *x = activation::gelu_erf(*x)));
}

/// Turns scores into softmax(scores).
pub fn softmax(scores: &mut [f32]) {
    vectorized!(softmax_row(scores, 1.0));
}

/// Returns the logarithm of the sum of e^x over the elements.
///
/// # Shapes
/// - x: `[D]`
pub fn log_sum_exp(x: &[f32]) -> f32 {
    vectorized!({
        let largest = max(x);
        largest + sum(x, |x| exp(x - largest)).ln()
    })
}

/// Returns the largest element, and −∞ of none.
pub fn largest(x: &[f32]) -> f32 {
    vectorized!(max(x))
}

/// Applies cap × tanh(x / cap), which keeps logits between −cap and cap (Gemma 2, 2024).
pub fn soft_cap(x: &mut [f32], cap: f32) {
    vectorized!(x.iter_mut().for_each(|x| *x = cap * tanh(*x / cap)));
}
