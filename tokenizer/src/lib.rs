//! Tokenizers: training, loading, special tokens, the chat template, and token shards.
//!
//! In: text, or any `tokenizer.json`. Out: the token ids that Hugging Face's tokenizers, transformers and llama.cpp
//! produce too, lossless decoding, and shards, which the stages read through [`shard::Split`].
//!
//! Text from a user never becomes a special token: `<|endoftext|>` in a document is a dozen ordinary tokens and does
//! not end that document. Only this program places special tokens. This crate must not depend on models or the network.

mod kind;
mod special_tokens;

mod error;

mod files;
mod pre_tokenizer;
mod text_interface;
mod tokenizer;
mod tokenizer_class;
mod vocabulary_files;

mod decode_stream;
mod decoder;
mod encoder;

mod training;

mod chat;
mod hugging_face;

pub mod shard;

pub use chat::{
    ASSISTANT, BUILTIN, Builtin, ChatTemplate, ChatTokens, Content, Conversation, Message, REJECTED_ROLE,
    RenderOptions, Rendered, TEMPLATE as CHAT_TEMPLATE, TRAINING_TIME, TurnEnd, builtin, jinja_environment,
};
pub use decode_stream::DecodeStream;
pub use encoder::Encoder;
pub use error::Error;
pub use files::{GENERATION_CONFIG, files_beside, is_side_file, named_templates};
pub use kind::Kind;
pub use special_tokens::{END_OF_TEXT, MIN_VOCAB_SIZE, SPECIAL_TOKENS};
pub use text_interface::{ChatTemplates, SamplingDefaults, SpecialToken, TextInterface};
pub use tokenizer::Tokenizer;
pub use training::{Pattern, TrainConfig};
pub use vocabulary_files::VOCABULARY_FILES;
