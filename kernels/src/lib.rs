//! Fused operations of the Transformer for the CPU, each with a reference implementation.
//!
//! A small model on burn-flex spends most of its time between matrix products: each element-wise operation reads its
//! tensor once and allocates its result, and the backward pass repeats that several times. Here one pass over memory
//! does the work of many operations, forward and backward.
//!
//! In: tensors. Out: the same tensors as those of [`mod@reference`], gradients included, up to the last bits of f32. On
//! any other device, and for any other number type, the reference implementations run. This crate knows shapes, not
//! models.
//!
//! Sums are computed in an order that depends on the shape alone, so that results do not depend on the number of
//! threads.
//!
//! Reading order: `tensors` (the operations), [`mod@reference`], the loops (`gemm`, `attention`, `softmax`, `loss`,
//! `norm`, `activation`, `rope`, `embedding`, `dropout`, `reduce`, `optimizers`) over `simd` and `dispatch`,
//! `autodiff`. For inference without tensors: [`packed`], [`slices`], `pool`. [`blocks`] is the storage of quantised
//! weights.
//!
//! Without the feature `tensors`, which is on by default, there is only the part for inference, and no burn: small
//! enough to test under an emulator of another processor.
#![cfg_attr(
    not(feature = "tensors"),
    allow(dead_code, rustdoc::broken_intra_doc_links, reason = "operations on tensors use the same loops")
)]

mod activation;
#[cfg(feature = "tensors")]
mod attention;
#[cfg(feature = "tensors")]
mod autodiff;
pub mod blocks;
mod dispatch;
#[cfg(feature = "tensors")]
mod dropout;
#[cfg(feature = "tensors")]
mod embedding;
#[cfg(feature = "tensors")]
mod gemm;
#[cfg(feature = "tensors")]
mod loss;
mod norm;
#[cfg(feature = "tensors")]
mod optimizers;
pub mod packed;
mod pool;
mod reduce;
#[cfg(feature = "tensors")]
pub mod reference;
mod rope;
mod simd;
pub mod slices;
mod softmax;
#[cfg(feature = "tensors")]
mod tensors;

#[cfg(feature = "tensors")]
pub use dropout::Dropout;
#[cfg(feature = "tensors")]
pub use optimizers::{AdamW, Muon};
pub use packed::{PackedMatrix, WeightType};
pub use pool::Pool;
#[cfg(feature = "tensors")]
pub use tensors::{
    adamw, attention, causal_softmax, cross_entropy, dropout, embedding, gelu, is_cpu, kl_divergence, layer_norm,
    linear, muon, rms_norm, rope, square_sum, swiglu,
};
