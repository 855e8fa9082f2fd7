//! The Transformer, its KV cache and losses, and checkpoints in the Hugging Face layout.
//!
//! In: token ids, and folders that transformers or GGUF files that llama.cpp could have written. Out: logits, losses,
//! and such folders and files. This crate never reads text (only token ids), never updates a weight, and never samples.
//!
//! Reading order: [`config`] (sizes) and `cost`, [`transformer`] (the model) over `layers`, [`rope`] and [`KvCache`],
//! [`Precision`], `gradients`, [`hub_layout`] and [`checkpoint`] (in and out) over [`safetensors`],
//! [`compressed_tensors`], [`gguf`], [`named_parameters`], [`lora`] (adapters), [`freeze()`], [`rounding`] and
//! [`pruning`], [`scoring`] (the loss over a split), [`Backend`] and [`device`].

mod backend;
pub mod checkpoint;
pub mod compressed_tensors;
pub mod config;
mod cost;
pub mod device;
mod dtype;
mod error;
mod freeze;
pub mod gguf;
mod gradients;
pub mod hub_layout;
mod kv_cache;
mod layers;
pub mod lora;
pub mod named_parameters;
mod precision;
pub mod pruning;
pub mod rope;
pub mod rounding;
pub mod safetensors;
pub mod scoring;
pub mod transformer;
pub mod vocabulary;

pub use backend::Backend;
pub use config::{Activation, Family, LayerAttention, ModelConfig, RopeScaling};
pub use dtype::{Dtype, KvCacheDtype};
pub use error::Error;
pub use freeze::freeze;
pub use gradients::add_gradients;
pub use kv_cache::KvCache;
pub use precision::{ActivationCheckpointing, Precision};
pub use transformer::{Batch, Dropout, LossOptions, Transformer};
