//! A tokenizer trained on a few lines, and random models with its vocabulary.

use std::path::Path;

use model::{Family, ModelConfig, Transformer};
use tokenizer::{Tokenizer, TrainConfig};

/// Text with characters of one to four bytes.
const TEXT: &str = "fn main() {\n    let mut total = 0;\n    println!(\"é → 日本 🦀 {total}\");\n}\n\
                    /// Returns the sum.\npub struct Sum<T> { total: T }\nimpl<T> Sum<T> {}\nuse std::fmt;\n";

/// Trains a tokenizer of 320 tokens.
///
/// # Panics
/// If the tokenizer cannot be trained.
pub fn tokenizer() -> Tokenizer {
    let config = TrainConfig { vocab_size: 320, ..TrainConfig::default() };
    Tokenizer::train(&config, std::iter::repeat_n(TEXT, 4)).unwrap()
}

/// Returns a random model of two layers, the same each time.
///
/// # Panics
/// If the CPU is not available.
pub fn model(family: Family, context_length: usize, tokenizer: &Tokenizer) -> Transformer {
    let config = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        d_model: 32,
        n_layer: 2,
        n_head: 4,
        n_kv_head: if family == Family::Gpt2 { 4 } else { 2 },
        head_dim: 8,
        d_ff: 64,
        context_length,
        tied_embeddings: true,
        end_of_text: tokenizer.end_of_text(),
        ..ModelConfig::of(family)
    };
    Transformer::init(&config, 7, &model::device::resolve("cpu").unwrap())
}

/// Writes a random model and its tokenizer to a folder in Hugging Face layout.
///
/// # Panics
/// On I/O errors.
pub fn write(folder: &Path, family: Family, context_length: usize) {
    let tokenizer = tokenizer();
    tokenizer.write_hugging_face(folder, context_length).unwrap();
    let model = model(family, context_length, &tokenizer);
    model::checkpoint::save(&model, folder, model::Dtype::F32).unwrap();
}
