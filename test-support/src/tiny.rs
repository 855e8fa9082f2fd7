//! A tokenizer trained on a few lines, and random models with its vocabulary.

use std::path::Path;

use model::safetensors::{F32Tensor, write_f32};
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

/// Writes an adapter of a model by [`write()`], of any family but GPT-2, in PEFT's layout; each seed gives another one.
///
/// # Panics
/// On I/O errors.
pub fn write_adapter(folder: &Path, seed: usize) {
    let config = serde_json::json!({
        "peft_type": "LORA", "r": RANK, "lora_alpha": 4 * RANK, "target_modules": ["q_proj", "down_proj"],
        "bias": "none",
    });
    std::fs::write(folder.join(model::lora::CONFIG), config.to_string()).unwrap();
    let mut tensors = Vec::new();
    for layer in 0..2 {
        for (module, outputs, inputs) in [("self_attn.q_proj", 32, 32), ("mlp.down_proj", 32, 64)] {
            for (letter, shape) in [("A", vec![RANK, inputs]), ("B", vec![outputs, RANK])] {
                let name = format!("base_model.model.model.layers.{layer}.{module}.lora_{letter}.weight");
                let value = |i: usize| ((i * 37 + 11 * seed) % 101) as f32 / 101.0 - 0.5;
                let values = (0..shape.iter().product()).map(value).collect();
                tensors.push(F32Tensor { name, shape, values });
            }
        }
    }
    write_f32(&folder.join(model::lora::WEIGHTS), tensors, ("format", "pt")).unwrap();
}

/// The rank of [`write_adapter`].
const RANK: usize = 2;

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
