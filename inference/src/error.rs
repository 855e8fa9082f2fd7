//! Errors of decoding.

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
    /// The model computed NaN or infinite logits.
    #[error("the model's logits at position {position} are not finite: its weights are broken")]
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
