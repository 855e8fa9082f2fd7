//! The special tokens of tokenizers trained here.

/// The token that ends a document.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The special tokens of a tokenizer trained here, in the order of their ids: the end of a document, and the beginning
/// and end of a chat message.
pub const SPECIAL_TOKENS: [&str; 3] = [END_OF_TEXT, "<|im_start|>", "<|im_end|>"];

/// The smallest vocabulary of byte-level BPE, which encodes any text: the 256 bytes and the special tokens.
pub const MIN_VOCAB_SIZE: usize = 256 + SPECIAL_TOKENS.len();
