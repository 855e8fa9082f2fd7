//! Errors of text generation.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration is out of range.
    #[error("generate.{key} must be {expected}, not {found}")]
    Config {
        /// The key in the table `[generate]`.
        key: &'static str,
        /// The valid values.
        expected: &'static str,
        /// The value.
        found: String,
    },
    /// A setting is out of range.
    #[error(transparent)]
    Setting(#[from] inference::InvalidSetting),
    /// There are no prompts.
    #[error("there are no prompts: set generate.prompts, or a generate.prompts_file that is not empty")]
    NoPrompts,
    /// There is a system prompt and nothing that it belongs to.
    #[error("generate.system is only for user messages: set generate.chat = true, or remove it")]
    SystemWithoutChat,
    /// There is a negative prompt and nothing that it has an effect on.
    #[error("generate.negative_prompt is only for guided texts: set generate.guidance_scale, or remove it")]
    NegativePromptWithoutGuidance,
    /// The prompts file cannot be read.
    #[error("cannot read the prompts in {}", path.display())]
    PromptsFile {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// A line of the prompts file is not a prompt.
    #[error("{} line {line}: {reason}", path.display())]
    PromptsLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The prompt is empty and the tokenizer has no token to start a text with.
    #[error("the prompt is empty, and this tokenizer has no token to start a text from")]
    EmptyPrompt,
    /// The prompt is longer than the model's context.
    #[error(
        "the prompt has {tokens} tokens, more than the model's context of {context_length}: shorten it, or keep only \
         its end with truncate_prompt_tokens"
    )]
    PromptTooLong {
        /// The tokens of the prompt.
        tokens: usize,
        /// The model's context length.
        context_length: usize,
    },
    /// The model for drafts has other tokens.
    #[error("the draft model in {} has other tokens than the model: both need the same tokenizer", folder.display())]
    DraftVocabulary {
        /// The folder of the draft model.
        folder: PathBuf,
    },
    /// An adapter is to be loaded for a model that is in memory alone.
    #[error("adapters can only be loaded for a model that was opened from its folder")]
    NoAdapters,
    /// A grammar, schema or regular expression is not valid, or cannot be used with this model.
    #[error("{reason}")]
    Grammar {
        /// What is wrong.
        reason: String,
    },
    /// The tokenizer has tokens that the model does not know.
    #[error(
        "the tokenizer has {tokenizer} tokens and the model's vocab_size is {model}: \
         the tokenizer and the weights belong to different models"
    )]
    Vocabulary {
        /// Tokens in the tokenizer.
        tokenizer: usize,
        /// Rows of the model's embedding.
        model: usize,
    },
    /// A sample cannot be written as JSON.
    #[error("cannot write a sample as JSON")]
    Json(#[from] serde_json::Error),
    /// The caller cancelled.
    #[error("interrupted")]
    Interrupted,
    /// Decoding failed.
    #[error(transparent)]
    Inference(#[from] inference::Error),
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
