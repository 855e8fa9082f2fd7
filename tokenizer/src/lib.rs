//! Tokenizers: training, loading, special tokens, the chat template, and the shards that tokens are kept in.
//!
//! In: text, or somebody's `tokenizer.json`. Out: token ids that Hugging Face's tokenizers, transformers and llama.cpp
//! produce too, and back again without loss. The stages that read tokens read them through [`shard::Split`].
//!
//! What a user writes is never a special token: `<|endoftext|>` in a document is twelve or so ordinary tokens, never
//! the end of that document. Only this program's own code places special tokens.

mod chat;
mod encoder;
mod hugging_face;
pub mod shard;
mod stream;
mod tokenizer;
mod training;
mod words;

pub use chat::{ChatTokens, Message, REJECTED, TEMPLATE as CHAT_TEMPLATE};
pub use encoder::Encoder;
pub use stream::Stream;
pub use tokenizer::Tokenizer;
pub use training::{Kind, Pattern, TrainConfig};

use std::path::PathBuf;

/// The token that ends a document.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The special tokens of a tokenizer trained here, in the order of their ids: the end of a document, and the beginning
/// and end of a chat message.
pub const SPECIAL_TOKENS: [&str; 3] = [END_OF_TEXT, "<|im_start|>", "<|im_end|>"];

/// The smallest vocabulary of byte-level BPE, which writes any text: the 256 bytes and the special tokens.
pub const MINIMUM_VOCAB_SIZE: usize = 256 + SPECIAL_TOKENS.len();

/// What can go wrong between text and tokens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or a sealed artifact.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// A file is not a `tokenizer.json`.
    #[error("{origin} is not a tokenizer.json that this version of tokenizers reads")]
    Parse {
        /// The file, or what the bytes were called.
        origin: String,
        /// Where it stopped making sense.
        #[source]
        source: tokenizers::Error,
    },
    /// A tokenizer has no vocabulary.
    #[error("{origin} has an empty vocabulary")]
    EmptyVocabulary {
        /// The file, or what the bytes were called.
        origin: String,
    },
    /// A special token cannot be one.
    #[error("the special token `{token}` {problem}")]
    SpecialToken {
        /// The token.
        token: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The vocabulary asked for cannot hold what it must.
    #[error("a vocabulary of {vocab_size} is too small: {kind} needs at least {minimum} for this text")]
    VocabularyTooSmall {
        /// The kind of tokenizer.
        kind: Kind,
        /// The size asked for.
        vocab_size: usize,
        /// The bytes or characters, the special tokens and what else must be in it.
        minimum: usize,
    },
    /// A tokenizer has tokens that a model does not know.
    #[error("the tokenizer has a vocabulary of {vocab_size}, the model knows {model_vocab_size}")]
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
        /// The size asked for.
        vocab_size: usize,
        /// The library's answer.
        #[source]
        source: tokenizers::Error,
    },
    /// A text could not be encoded.
    #[error("cannot encode a text of {bytes} bytes")]
    Encode {
        /// The text's length.
        bytes: usize,
        /// The library's answer.
        #[source]
        source: tokenizers::Error,
    },
    /// Tokens could not be decoded.
    #[error("cannot decode {tokens} tokens")]
    Decode {
        /// How many tokens there were.
        tokens: usize,
        /// The library's answer.
        #[source]
        source: tokenizers::Error,
    },
    /// A token id lies outside the vocabulary.
    #[error("token {id} is not in a vocabulary of {vocab_size}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// One more than the largest id.
        vocab_size: usize,
    },
    /// The tokenizer could not be written as JSON.
    #[error("cannot write the tokenizer as JSON")]
    Serialize(#[source] tokenizers::Error),
    /// A tokenizer has no token that the chat template needs.
    #[error(
        "the tokenizer has no `{token}`, which the chat template needs: add it to tokenizer.json as a special token, \
         and a row for it to the model"
    )]
    NoChatToken {
        /// The token.
        token: &'static str,
    },
    /// The chat template failed.
    #[error("the chat template cannot render these messages")]
    ChatTemplate(#[source] minijinja::Error),
    /// A file is not a token shard, or does not fit its neighbours.
    #[error("{} is not a shard that can be used: {problem}", path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the value found and the value expected.
        problem: String,
    },
    /// An artifact has no shards of a split.
    #[error("{} has no {split} shards ({split}-*.safetensors): is it the artifact of stage preprocess?", path.display())]
    NoShards {
        /// The artifact's folder.
        path: PathBuf,
        /// The split asked for.
        split: String,
    },
}
