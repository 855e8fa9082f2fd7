//! The CPU engine on GGUF files: in the types that they are stored in, with the logits of the loaded model.

use std::path::Path;

use burn::tensor::Device;
use inference::{Engine, EngineOptions, ForwardPass, Row};
use kernels::packed::WeightType;
use model::gguf::{self, Metadata, Quantization};
use model::{Family, ModelConfig, Transformer, checkpoint};

fn random(family: Family, d_model: usize, tied_embeddings: bool) -> Transformer {
    let config = ModelConfig {
        vocab_size: 96,
        d_model,
        n_layer: 2,
        n_head: 4,
        n_kv_head: if family == Family::Gpt2 { 4 } else { 2 },
        head_dim: d_model / 4,
        d_ff: 2 * d_model,
        context_length: 32,
        tied_embeddings,
        ..ModelConfig::of(family)
    };
    Transformer::init(&config, 5, &Device::flex())
}

fn options(weight_type: Option<WeightType>) -> EngineOptions {
    EngineOptions { weight_type, threads: Some(2), ..EngineOptions::default() }
}

fn logits(mut engine: Engine) -> Vec<f32> {
    let row = |i: usize| Row { sequence: 0, position: i, token: (i * 37 % 96) as u32, wants_logits: true };
    let mut logits = Vec::new();
    engine.forward(&(0..32).map(row).collect::<Vec<_>>(), &[&[0]], &mut logits).unwrap();
    logits
}

fn write(model: &Transformer, quantization: Quantization, folder: &Path) -> std::path::PathBuf {
    let path = folder.join("model.gguf");
    gguf::save(model, &path, quantization, &Metadata::default()).unwrap();
    path
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// Returns the root of the mean squared difference over that of the mean square.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let differences: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    (differences / expected.iter().copied().map(square).sum::<f64>()).sqrt()
}

/// All layouts: llama interleaves rows, GPT-2 and Phi-3 have fused tensors, Gemma's norms have 1 added.
#[test]
fn files_are_read_in_their_types() {
    let folder = tempfile::tempdir().unwrap();
    for family in [Family::Llama, Family::Gpt2, Family::Phi3, Family::Gemma2, Family::Qwen3] {
        let model = random(family, 128, matches!(family, Family::Gpt2 | Family::Gemma2));
        for (quantization, weight_type, max_bits) in [
            (Quantization::F32, WeightType::F32, 32.0),
            (Quantization::F16, WeightType::F16, 16.0),
            (Quantization::Bf16, WeightType::Bf16, 16.0),
            (Quantization::Q8_0, WeightType::Int8, 8.5),
        ] {
            let path = write(&model, quantization, folder.path());
            let stored = Engine::load(&path, &options(None)).unwrap();
            let weights = (stored.weight_bytes() * 8) as f64 / model.config().parameters() as f64;
            assert!(weights <= max_bits, "{family:?} in {quantization}: {weights} bits a weight");
            // Rounded values are rounded to themselves.
            let loaded = checkpoint::load(&path, &Device::flex()).unwrap();
            let loaded = Engine::of_model(&loaded, &options(Some(weight_type))).unwrap();
            assert_eq!(bits(&logits(stored)), bits(&logits(loaded)), "{family:?} in {quantization}");
        }
    }
}

/// Activations are rounded to 8 bits, and blocks of 256 weights to int8; the matrices of a file of `q4_k_m` have
/// several types, those of the same input too.
#[test]
fn blocks_are_read_within_the_tolerance_of_int8() {
    let folder = tempfile::tempdir().unwrap();
    for family in [Family::Llama, Family::Phi3] {
        let model = random(family, 256, false);
        for quantization in [Quantization::Q8_0, Quantization::Q4_0, Quantization::Q4_K_M, Quantization::Q6_K] {
            let path = write(&model, quantization, folder.path());
            let expected = inference::logits(
                &checkpoint::load(&path, &Device::flex()).unwrap(),
                &(0..32).map(|i| i * 37 % 96).collect::<Vec<u32>>(),
            );
            let found = logits(Engine::load(&path, &options(None)).unwrap());
            let error = relative_error(&found, &expected.unwrap());
            println!("{family:?} in {quantization}: {error:.2e}");
            assert!(error < 0.02, "{family:?} in {quantization}: {error}");
        }
    }
}
