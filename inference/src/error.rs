//! Errors of decoding.

use kernels::packed::WeightType;
use model::KvCacheDtype;

use crate::InvalidSetting;

/// An error of decoding.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A sampling setting is out of range.
    #[error(transparent)]
    Sampling(#[from] InvalidSetting),
    /// The prompt has no tokens.
    #[error("the prompt has no tokens to decode from")]
    EmptyPrompt,
    /// A token of the prompt is not one of the model's.
    #[error("the prompt has the token {token}, but the model knows only tokens below {vocab_size}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// A prompt to score, to embed or to explain is longer than the model's context.
    #[error("the prompt has {tokens} tokens, more than the {context_length} that the model can read at once")]
    PromptTooLong {
        /// The length of the prompt.
        tokens: usize,
        /// The model's context length.
        context_length: usize,
    },
    /// The model gives no weights of attention.
    #[error(
        "this device does not give the weights of attention, only the engine on the CPU does: load the model with \
         device `cpu`"
    )]
    NoAttentionWeights,
    /// A constraint cannot say which tokens it allows.
    #[error("the constraint of the text cannot be applied: {reason}")]
    Constraint {
        /// The reason.
        reason: String,
    },
    /// A request needs more blocks than the KV cache has.
    #[error(
        "{tokens} tokens of prompt and answer{} do not fit in the KV cache of {cache_tokens}; shorten the prompt, \
         lower max_tokens, or enlarge the cache",
        if *is_guided { ", counted with the second sequence of guidance," } else { "" }
    )]
    CacheTooSmall {
        /// The tokens that must be in the cache at the same time.
        tokens: usize,
        /// The tokens that fit in the cache.
        cache_tokens: usize,
        /// Whether the samples are guided, so that two sequences must be in the cache.
        is_guided: bool,
    },
    /// A model cannot be loaded.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// A matrix cannot be packed as requested.
    #[error(
        "{name} has {columns} columns, which {weight_type:?} cannot divide into blocks of 32: use F32, F16 or Bf16"
    )]
    WeightType {
        /// The first of the parameters in the matrix.
        name: String,
        /// The requested type.
        weight_type: WeightType,
        /// The columns of the matrix.
        columns: usize,
    },
    /// The device keeps its KV cache in f32.
    #[error(
        "the KV cache cannot be in {} on this device, only on the CPU: remove kv_cache_dtype, or use device `cpu`",
        dtype.name()
    )]
    CacheDtype {
        /// The requested type.
        dtype: KvCacheDtype,
    },
    /// The model computed NaN or infinite logits or hidden states.
    #[error("the model's results at position {position} are not finite: its weights are broken")]
    NotFinite {
        /// The position in the sequence, in tokens.
        position: usize,
    },
    /// The device did not return the logits.
    #[error("cannot read the logits from the device: {reason}")]
    Device {
        /// The device's message.
        reason: String,
    },
}
