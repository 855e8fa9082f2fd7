//! The Transformer, its KV cache, loss, and checkpoints in the Hugging Face layout.
