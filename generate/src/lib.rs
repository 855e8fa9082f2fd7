//! Stage `generate`, and the decoding library that `evaluate` and `serve` call.
//!
//! In: a folder in the Hugging Face layout (a bundle or a checkpoint) and prompts. Out: text, piece by piece while it is
//! being written, and `samples.jsonl`.
//!
//! Decoding is cached, sampling happens on the CPU over `f32` logits in one pure function
//! ([`sampling::pick`]), and what is random comes from a `ChaCha8` stream, so one seed gives one text wherever the
//! logits are the same. This crate never trains, and knows neither HTTP nor the terminal.

mod config;
mod generator;
mod prompts;
pub mod sampling;
mod stage;
mod stop;

pub use config::Config;
pub use generator::{Completion, FinishReason, Generator};
pub use sampling::Sampling;
pub use stage::{NAME, VERSION, inputs, run};

use std::path::PathBuf;

/// What can go wrong between a bundle and its text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration cannot be used.
    #[error("generate.{key} must be {expected}, not {found}")]
    Config {
        /// The key in the table `[generate]`.
        key: &'static str,
        /// What would be right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A sampling setting cannot be used.
    #[error(transparent)]
    Sampling(#[from] sampling::Invalid),
    /// There is nothing to continue.
    #[error("there are no prompts: give generate.prompts, or a generate.prompts_file that is not empty")]
    NoPrompts,
    /// The prompts file cannot be read.
    #[error("cannot read the prompts in {}", path.display())]
    PromptsFile {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A line of the prompts file is no prompt.
    #[error("{} line {line}: {reason}", path.display())]
    PromptsLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The prompt is empty and the tokenizer has no token to begin a text with.
    #[error("the prompt is empty, and this tokenizer has no <|endoftext|> to start a text from")]
    EmptyPrompt,
    /// The tokenizer has tokens that the model does not know.
    #[error(
        "the tokenizer has {tokenizer} tokens and the model's vocab_size is {model}: \
         tokenizer.json and model.safetensors are not of one model"
    )]
    Vocabulary {
        /// Tokens in the tokenizer.
        tokenizer: usize,
        /// Rows of the model's embedding.
        model: usize,
    },
    /// The model computed something that is no number.
    #[error("the model's logits at position {position} are not finite: its weights are broken")]
    NotFinite {
        /// The position in the text, in tokens.
        position: usize,
    },
    /// The device did not hand over its result.
    #[error("cannot read the logits from the device: {reason}")]
    Device {
        /// The device's answer.
        reason: String,
    },
    /// The samples cannot be written as JSON.
    #[error("cannot write a sample as JSON")]
    Json(#[from] serde_json::Error),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The model cannot be loaded.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The tokenizer cannot be loaded or used.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    /// An artifact cannot be read or written.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
}
