//! Decoding: extends a sequence of token ids with a model, token by token.
//!
//! In: a [`model::Transformer`], token ids and [`Sampling`] settings. Out: token ids, or logits. This crate knows
//! weights, caches and tokens; it never reads text, and knows neither HTTP nor the terminal.
//!
//! There is one decoding loop and one sampler, used by generation, by the samples shown during training and by the
//! parity check of imported models:
//!
//! ```no_run
//! use inference::{Decoder, Sampling, StopTokens};
//!
//! # fn example(model: &model::Transformer, prompt: &[u32]) -> Result<(), inference::Error> {
//! // Up to 50 tokens at temperature 0.8. Leaving the loop cancels; a stop token is the last item.
//! let sampling = Sampling { temperature: 0.8, seed: 7, ..Sampling::unfiltered() };
//! let mut decoder = Decoder::new(model, prompt, &sampling, 50)?.with_stop_tokens(&StopTokens::of(model, [Some(0)]));
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
//! Modules in reading order: [`mod@forward`] (a forward pass over rows), [`blocks`] (the paged KV cache's bookkeeping),
//! [`scheduler`] (many requests at once), [`decoder`] (one sequence: prefill, cache, sliding window), [`sampler`] (from
//! logits to a token), [`parity`] (how far two models' logits are apart).

pub mod blocks;
pub mod decoder;
mod error;
pub mod forward;
pub mod parity;
pub mod sampler;
pub mod scheduler;

pub use decoder::{Decoder, StopTokens, logits};
pub use error::Error;
pub use forward::{ForwardPass, Row};
pub use parity::Parity;
pub use sampler::{InvalidSetting, Sampling};
pub use scheduler::{Counters, Event, FinishReason, Request, RequestId, RowLogits, Scheduler, Settings};
