//! Decoding: extends a sequence of token ids with a model, token by token.
//!
//! In: a model, token ids and [`Sampling`] settings. Out: token ids, or logits. This crate knows weights, caches and
//! tokens; it never reads text, and knows neither HTTP nor the terminal.
//!
//! A model is anything with a [`ForwardPass`]: on the CPU an [`Engine`], elsewhere a [`BurnForward`]; [`load`] chooses.
//!
//! There is one decoding loop and one sampler, used by generation, by the samples shown during training and by the
//! parity check of imported models:
//!
//! ```no_run
//! use inference::{Decoder, ForwardPass, Sampling, StopTokens};
//!
//! # use inference::Error;
//! # fn example(model: &mut dyn ForwardPass, prompt: &[u32], stop_tokens: &StopTokens) -> Result<(), Error> {
//! // Up to 50 tokens at temperature 0.8. Leaving the loop cancels; a stop token is the last item.
//! let sampling = Sampling { temperature: 0.8, seed: 7, ..Sampling::unfiltered() };
//! let mut decoder = Decoder::new(model, prompt, &sampling, 50)?.with_stop_tokens(stop_tokens);
//! while let Some(token) = decoder.next_token()? {
//!     if !decoder.is_stopped() {
//!         println!("{token}");
//!     }
//! }
//!
//! // The 50 most likely tokens, one after the other.
//! let tokens: Vec<u32> = Decoder::new(model, prompt, &Sampling::greedy(), 50)?.collect::<Result<_, _>>()?;
//! # Ok(())
//! # }
//! ```
//!
//! Sampling happens on the CPU over `f32` logits in one pure function ([`sampler::pick`]), and its randomness comes
//! from a `ChaCha8` stream, so the same seed gives the same tokens on every platform where the logits are equal.
//!
//! Modules in reading order: [`mod@forward`] (a forward pass over rows), [`engine`] (on the CPU) and `burn_forward` (on
//! any device), [`adapter`] (beside the weights of a base), [`blocks`] (the paged KV cache's bookkeeping),
//! [`scheduler`] (many requests at once), [`decoder`] (one sequence: prefill, cache, sliding window), [`sampler`] (from
//! logits to a token), [`constraint`] (which tokens may come next), `logprobs` (how likely tokens are), [`parity`] (how
//! far two models' logits are apart), [`scoring`] (the loss over a split), [`continuations`] (how likely texts are).

pub mod adapter;
pub mod blocks;
mod burn_forward;
pub mod constraint;
pub mod continuations;
pub mod decoder;
pub mod engine;
mod error;
pub mod forward;
mod logprobs;
pub mod parity;
pub mod sampler;
pub mod scheduler;
pub mod scoring;

pub use adapter::{Adapter, AdapterBase};
pub use burn_forward::BurnForward;
pub use constraint::{Constraint, TokenMask};
pub use decoder::{Decoder, StopTokens, logits};
pub use engine::{Engine, EngineOptions};
pub use error::Error;
pub use forward::{ForwardPass, Row, RowResult, SequenceRef};
pub use logprobs::Logprobs;
pub use parity::Parity;
pub use sampler::{InvalidSetting, Sampling};
pub use scheduler::{Counters, Event, FinishReason, Guidance, Request, RequestId, RowLogits, Scheduler, Settings};

use std::path::Path;

use burn::tensor::Device;
use kernels::slices::{KvPages, KvType};
use model::{Backend, KvCacheDtype, ModelConfig, Transformer, checkpoint};

/// The KV cache of a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct CacheOptions {
    /// The number of tokens, rounded to whole blocks; None for the context of one sequence.
    pub tokens: Option<usize>,
    /// The number type of keys and values; None for f32.
    pub dtype: Option<KvCacheDtype>,
}

impl From<Option<usize>> for CacheOptions {
    fn from(tokens: Option<usize>) -> Self {
        Self { tokens, dtype: None }
    }
}

impl From<usize> for CacheOptions {
    fn from(tokens: usize) -> Self {
        Some(tokens).into()
    }
}

/// Returns the bytes that the keys and values of a token take in the KV cache of a model; None for f32.
pub fn cache_token_bytes(config: &ModelConfig, dtype: Option<KvCacheDtype>) -> usize {
    let kv_type = dtype.map_or(KvType::F32, KvType::from);
    config.n_layer * KvPages::new(kv_type, config.n_kv_head, config.head_dim, 1).block_bytes()
}

/// Loads the model at `path`, a folder in the Hugging Face layout or a GGUF file, onto a device, with a KV cache.
///
/// # Errors
/// Names the file, and the key or tensor, that is missing, damaged or not supported; returns [`Error::CacheDtype`] if
/// the device has no such cache.
pub fn load(
    path: &Path,
    device: &Device,
    cache: impl Into<CacheOptions>,
) -> Result<Box<dyn ForwardPass + Send>, Error> {
    Ok(load_base(path, device, cache)?.0)
}

/// As [`load`], with what loads the adapters of the model.
///
/// # Errors
/// As [`load`].
pub fn load_base(
    path: &Path,
    device: &Device,
    cache: impl Into<CacheOptions>,
) -> Result<(Box<dyn ForwardPass + Send>, AdapterBase), Error> {
    let CacheOptions { tokens, dtype } = cache.into();
    if Backend::is_cpu_device(device) {
        let cache_type = dtype.map_or(KvType::F32, KvType::from);
        let options = EngineOptions { cache_tokens: tokens, cache_type, ..EngineOptions::default() };
        let engine = Engine::load(path, &options)?;
        let base = AdapterBase::of_files(engine.config().clone(), path);
        return Ok((Box::new(engine), base));
    }
    if let Some(dtype) = dtype.filter(|dtype| *dtype != KvCacheDtype::F32) {
        return Err(Error::CacheDtype { dtype });
    }
    let model = checkpoint::load(path, device)?;
    let sequences = tokens.map_or(1, |tokens| (tokens / model.config().context_length).max(1));
    Ok((Box::new(BurnForward::new(model.clone(), sequences)), AdapterBase::of_model(model)))
}

/// Returns the forward pass of a loaded model, for one sequence on its device.
///
/// # Errors
/// Returns an error if the device fails.
pub fn of_model(model: Transformer) -> Result<Box<dyn ForwardPass + Send>, Error> {
    if Backend::is_cpu_device(&model.device()) {
        Ok(Box::new(Engine::of_model(&model, &EngineOptions::default())?))
    } else {
        Ok(Box::new(BurnForward::new(model, 1)))
    }
}
