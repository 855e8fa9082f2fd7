//! Errors of tokenizers and token shards.

use std::path::PathBuf;

use crate::kind::Kind;

/// Errors of tokenizers and token shards.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An I/O error, or an artifact that cannot be used.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// A file is not a `tokenizer.json`.
    #[error("{origin} is not a tokenizer.json that this version of tokenizers can read")]
    Parse {
        /// The file, or a description of the bytes.
        origin: String,
        /// The position and the reason.
        #[source]
        source: tokenizers::Error,
    },
    /// A folder has no tokenizer that can be read.
    #[error("{} has no tokenizer.json{found}; {remedy}", folder.display())]
    NoTokenizer {
        /// The folder.
        folder: PathBuf,
        /// What is there instead, as the rest of the sentence.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file beside `tokenizer.json` is not valid.
    #[error("cannot use {}: {problem}", path.display())]
    SideFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A tokenizer has no vocabulary.
    #[error("{origin} has an empty vocabulary")]
    EmptyVocabulary {
        /// The file, or a description of the bytes.
        origin: String,
    },
    /// A special token is invalid.
    #[error("the special token `{token}` {problem}")]
    SpecialToken {
        /// The token.
        token: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The requested vocabulary is too small.
    #[error("a vocabulary of {vocab_size} is too small: {kind} needs at least {minimum} for this text")]
    VocabularyTooSmall {
        /// The kind of tokenizer.
        kind: Kind,
        /// The requested size.
        vocab_size: usize,
        /// The number of bytes or characters, special tokens and other tokens that are always there.
        minimum: usize,
    },
    /// A tokenizer has tokens that are not in the vocabulary of a model.
    #[error("the tokenizer has a vocabulary of {vocab_size}, the model one of {model_vocab_size}")]
    VocabularyTooLarge {
        /// The tokenizer's size.
        vocab_size: usize,
        /// The model's size.
        model_vocab_size: usize,
    },
    /// Training failed inside the library.
    #[error("cannot train a {kind} tokenizer with a vocabulary of {vocab_size}")]
    Train {
        /// The kind of tokenizer.
        kind: Kind,
        /// The requested size.
        vocab_size: usize,
        /// The library's error.
        #[source]
        source: tokenizers::Error,
    },
    /// A text cannot be encoded.
    #[error("cannot encode a text of {bytes} bytes")]
    Encode {
        /// The text's length.
        bytes: usize,
        /// The library's error.
        #[source]
        source: tokenizers::Error,
    },
    /// Tokens cannot be decoded.
    #[error("cannot decode {tokens} tokens")]
    Decode {
        /// The number of tokens.
        tokens: usize,
        /// The library's error.
        #[source]
        source: tokenizers::Error,
    },
    /// A token id is not in the vocabulary.
    #[error("token {id} is not in a vocabulary of {vocab_size}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// The largest id plus one.
        vocab_size: usize,
    },
    /// The tokenizer cannot be written as JSON.
    #[error("cannot write the tokenizer as JSON")]
    Serialize(#[source] tokenizers::Error),
    /// There is no chat template.
    #[error(
        "the model has no chat template: name one for training with train.chat_template (chatml, llama3, gemma, \
         mistral, alpaca or a file), or use a model that was trained on conversations"
    )]
    NoChatTemplate,
    /// The chat template is not valid, or failed.
    #[error("the chat template failed")]
    ChatTemplate(#[source] minijinja::Error),
    /// The chat template refused a conversation.
    #[error("the chat template refuses these messages: {text}")]
    TemplateRaised {
        /// The template's own text.
        text: String,
    },
    /// The tokens of an assistant's message cannot be found in what the template renders.
    #[error(
        "cannot tell which tokens of message {position} are the assistant's: the chat template changes its text; mark \
         the assistant's turns in the template by {{% generation %}} and {{% endgeneration %}}"
    )]
    UnclearTurn {
        /// The position of the message, counted from 1.
        position: usize,
    },
    /// A file is not a token shard, or does not match the others.
    #[error("{} is not a valid shard: {problem}", path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the value found and the value expected.
        problem: String,
    },
    /// An artifact has no shards of a split.
    #[error(
        "{} has no {split} shards ({split}-*.safetensors): is it the artifact of stage preprocess?",
        path.display()
    )]
    NoShards {
        /// The artifact's folder.
        path: PathBuf,
        /// The split.
        split: String,
    },
}
