//! Tokenizers: training, loading, special tokens and the chat template.
