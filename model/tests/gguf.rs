//! GGUF files: round trips of every family, quantised weights, and models that llama.cpp does not compute.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::blocks::BlockType;
use model::gguf::{self, Array, File, Metadata, Quantization, TensorType, Value};
use model::{Activation, Dtype, Family, LayerAttention, ModelConfig, RopeScaling, Transformer, checkpoint};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn tiny(family: Family) -> ModelConfig {
    let config = ModelConfig {
        vocab_size: 40,
        d_model: 64,
        n_layer: 4,
        n_head: 4,
        n_kv_head: if family == Family::Gpt2 { 4 } else { 2 },
        head_dim: 16,
        d_ff: 96,
        context_length: 32,
        end_of_text: Some(1),
        ..ModelConfig::of(family)
    };
    config.with_published_layers(None)
}

fn random(config: &ModelConfig) -> Transformer {
    config.validate().unwrap();
    Transformer::init(config, 3, &Device::flex())
}

fn logits(model: &Transformer) -> Vec<f32> {
    logits_of(model, model.config().context_length.min(24))
}

fn logits_of(model: &Transformer, tokens: usize) -> Vec<f32> {
    let ids: Vec<i64> = (0..tokens as i64).map(|i| i * 7 % model.config().vocab_size as i64).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, vec![1, tokens]), &Device::flex());
    model.forward(ids).try_into_vec_as().unwrap()
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Writes a model and reads it again; returns it with the notes.
fn round_trip(model: &Transformer, quantization: Quantization) -> (Transformer, Vec<String>, File, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    // Of the tokenizer, only its ids matter here.
    let mut further = Metadata::default();
    for (key, id) in [("bos", model.config().begin_of_text), ("eos", model.config().end_of_text)] {
        if let Some(id) = id {
            further.set(format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    if let Some(id) = model.config().end_of_turn.first() {
        further.set("tokenizer.ggml.eot_token_id", *id);
    }
    let notes = gguf::save(model, &path, quantization, &further).unwrap();
    let file = File::open(&path).unwrap();
    let read = checkpoint::load(&path, &Device::flex()).unwrap();
    (read, notes, file, folder)
}

#[test]
fn every_family_is_the_same_model_after_a_round_trip() {
    for name in ["gpt2", "llama", "llama-biases", "llama-yarn", "mistral-full", "qwen2", "qwen3"] {
        let model = checkpoint::load(&fixture(name), &Device::flex()).unwrap();
        let (read, notes, ..) = round_trip(&model, Quantization::F32);
        assert_eq!(notes, [] as [&str; 0], "{name}");
        let mut expected = model.config().clone();
        if expected.family == Family::Mistral {
            expected.family = Family::Llama;
        }
        if expected.query_pre_attn_scalar == Some(expected.head_dim as f64) {
            expected.query_pre_attn_scalar = None;
        }
        assert_eq!(*read.config(), expected, "{name}");
        let difference = largest_difference(&logits(&read), &logits(&model));
        // 1 is added to Gemma's norms and subtracted again.
        let tolerance = if expected.family.architecture().scaled_embeddings { 1e-5 } else { 0.0 };
        assert!(difference <= tolerance, "{name}: {difference}");
    }
}

#[test]
fn tied_and_untied_embeddings_are_told_apart() {
    for family in Family::ALL {
        for tied_embeddings in [false, true] {
            if family == Family::Gemma2 && !tied_embeddings {
                continue;
            }
            let model = random(&ModelConfig { tied_embeddings, ..tiny(family) });
            let (read, _, file, _folder) = round_trip(&model, Quantization::F32);
            assert_eq!(read.config().tied_embeddings, tied_embeddings, "{family:?}");
            let is_copied = family == Family::Olmo2;
            assert_eq!(file.tensors().contains_key("output.weight"), !tied_embeddings || is_copied, "{family:?}");
            assert!(largest_difference(&logits(&read), &logits(&model)) < 1e-5, "{family:?}");
        }
    }
}

#[test]
fn scalings_of_positions_are_kept() {
    let llama3 =
        RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context_length: 16 };
    let yarn = |attention_factor| RopeScaling::Yarn {
        factor: 4.0,
        original_context_length: 8,
        attention_factor,
        beta_fast: 16.0,
        beta_slow: 2.0,
        truncate: true,
    };
    for (family, scaling) in [
        (Family::Llama, RopeScaling::Linear { factor: 2.5 }),
        (Family::Gemma3Text, RopeScaling::Linear { factor: 8.0 }),
        (Family::Llama, llama3),
        (Family::Qwen2, yarn(0.1 * 4f64.ln() + 1.0)),
        (Family::Qwen2, yarn(1.0)),
    ] {
        let model = random(&ModelConfig { rope_scaling: Some(scaling), ..tiny(family) });
        let (read, ..) = round_trip(&model, Quantization::F32);
        assert!(largest_difference(&logits(&read), &logits(&model)) < 1e-5, "{scaling:?}");
    }
}

#[test]
fn contexts_end_where_llama_cpp_differs() {
    let check = |config: ModelConfig, expected: usize, note: &str| {
        let model = random(&config);
        let (read, notes, ..) = round_trip(&model, Quantization::F32);
        assert_eq!(read.config().context_length, expected);
        assert_eq!(notes, [note]);
        assert!(largest_difference(&logits_of(&read, expected), &logits_of(&model, expected)) < 1e-5);
    };
    check(
        tiny(Family::Mistral).with_published_layers(Some(8)),
        8,
        "the context is 8 tokens instead of 32: llama in llama.cpp computes without a sliding window",
    );
    let dynamic = RopeScaling::Dynamic { factor: 2.0, original_context_length: 16 };
    check(
        ModelConfig { rope_scaling: Some(dynamic), ..tiny(Family::Llama) },
        16,
        "the context is 16 tokens instead of 32: llama in llama.cpp computes without `dynamic` scaling of positions",
    );
}

#[test]
fn what_llama_cpp_does_not_compute_is_named() {
    let check = |family: Family, change: fn(&mut ModelConfig), expected: &str| {
        let mut config = tiny(family);
        change(&mut config);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let error = gguf::save(&random(&config), &path, Quantization::F32, &Metadata::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("{expected}, which llama.cpp does not compute in {}", name(family)));
        assert!(!path.exists());
    };
    let biases = "attention_bias: the projections of attention have biases";
    for family in [Family::Qwen3, Family::Gemma2, Family::Gemma3Text, Family::SmolLm3, Family::Olmo2] {
        check(family, |c| c.attention_bias = true, biases);
    }
    let feed_forward = "mlp_bias: the projections of the feed-forward layer have biases";
    check(Family::SmolLm3, |c| c.mlp_bias = true, feed_forward);
    check(Family::Gpt2, |c| c.activation = Activation::Gelu, "activation: it is GELU by the error function");
    let narrow = "head_dim: the heads together are not as wide as the model";
    check(Family::Olmo2, |c| c.head_dim = 8, narrow);
    check(Family::Phi3, |c| c.head_dim = 8, narrow);
    let untied = "tie_word_embeddings: the output projection is not the embedding";
    check(Family::Gemma2, |_| (), untied);
    let tied = |c: &mut ModelConfig| (c.tied_embeddings, c.logit_softcap) = (true, None);
    check(Family::Gemma2, tied, "logit_softcap: scores or logits have no cap");
    let scale = "query_pre_attn_scalar: scores have a scale of their own";
    check(Family::Gemma3Text, |c| c.query_pre_attn_scalar = Some(24.0), scale);
    let layers = "no_rope_layers: other layers than every fourth have no rotary positions";
    check(Family::SmolLm3, |c| c.layers = vec![LayerAttention { sliding: false, rotary: false }; 4], layers);
    let llama3 = |c: &mut ModelConfig| {
        let (factor, low_freq_factor, high_freq_factor) = (8.0, 1.0, 4.0);
        let original_context_length = 16;
        c.rope_scaling =
            Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context_length });
    };
    check(Family::Qwen3, llama3, "rope_scaling: it is of the type llama3");
    let yarn = |c: &mut ModelConfig| {
        c.rope_scaling = Some(RopeScaling::Yarn {
            factor: 4.0,
            original_context_length: 8,
            attention_factor: 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: false,
        });
    };
    check(Family::Qwen3, yarn, "rope_scaling: the ramp of yarn does not end at whole pairs");
}

fn name(family: Family) -> &'static str {
    match family {
        Family::Gemma3Text => "gemma3",
        other => other.model_type(),
    }
}

#[test]
fn weights_are_quantised_and_read_again() {
    let check = |quantization: Quantization, matrix: TensorType, output: TensorType, tolerance: f32, dtype: Dtype| {
        let model = random(&tiny(Family::Llama));
        let (read, notes, file, _folder) = round_trip(&model, quantization);
        assert_eq!(notes, [] as [&str; 0]);
        assert_eq!(file.tensors()["blk.1.ffn_up.weight"].tensor_type, matrix);
        assert_eq!(file.tensors()["blk.1.ffn_norm.weight"].tensor_type, TensorType::Float(Dtype::F32));
        assert_eq!(file.tensors()["output.weight"].tensor_type, output);
        let difference = largest_difference(&logits(&read), &logits(&model));
        assert!(difference <= tolerance && (difference > tolerance / 200.0 || tolerance == 0.0), "{difference}");
        assert_eq!(gguf::stored_dtype(&file), dtype, "{quantization}");
    };
    let [f32, f16, bf16] = [Dtype::F32, Dtype::F16, Dtype::Bf16].map(TensorType::Float);
    let [q8_0, q4_0] = [BlockType::Q8_0, BlockType::Q4_0].map(TensorType::Blocks);
    check(Quantization::F32, f32, f32, 0.0, Dtype::F32);
    check(Quantization::F16, f16, f16, 1e-3, Dtype::F16);
    check(Quantization::Bf16, bf16, bf16, 1e-2, Dtype::Bf16);
    check(Quantization::Q8_0, q8_0, q8_0, 2e-2, Dtype::F32);
    check(Quantization::Q4_0, q4_0, q8_0, 2e-1, Dtype::F32);
}

#[test]
fn types_of_256_weights_are_chosen_as_by_llama_cpp() {
    let config = ModelConfig { d_model: 256, d_ff: 256, head_dim: 64, n_layer: 8, ..tiny(Family::Llama) };
    let model = random(&config.with_published_layers(None));
    let types = |quantization: Quantization, expected: &[(&str, BlockType)], tolerance: f32| {
        let (read, notes, file, _folder) = round_trip(&model, quantization);
        assert_eq!(notes, [] as [&str; 0]);
        for (name, expected) in expected {
            assert_eq!(file.tensors()[*name].tensor_type, TensorType::Blocks(*expected), "{name}");
        }
        let difference = largest_difference(&logits(&read), &logits(&model));
        assert!(difference < tolerance && difference > tolerance / 200.0, "{difference}");
    };
    let q4_k_m = [
        ("token_embd.weight", BlockType::Q4_K),
        ("output.weight", BlockType::Q6_K),
        ("blk.0.attn_v.weight", BlockType::Q6_K),
        ("blk.1.attn_v.weight", BlockType::Q4_K),
        ("blk.3.ffn_down.weight", BlockType::Q6_K),
        ("blk.7.ffn_down.weight", BlockType::Q6_K),
        ("blk.7.ffn_up.weight", BlockType::Q4_K),
    ];
    types(Quantization::Q4_K_M, &q4_k_m, 0.4);
    types(Quantization::Q6_K, &[("token_embd.weight", BlockType::Q6_K), ("blk.1.attn_q.weight", BlockType::Q6_K)], 0.1);
}

#[test]
fn matrices_of_incomplete_blocks_are_f16_and_noted() {
    let model = random(&ModelConfig { d_ff: 40, ..tiny(Family::Llama) });
    let (_, notes, file, _folder) = round_trip(&model, Quantization::Q8_0);
    assert_eq!(notes, ["4 matrices have more bits, in Q8_0 or F16: their rows are not whole blocks of their type"]);
    assert_eq!(file.tensors()["blk.0.ffn_down.weight"].tensor_type, TensorType::Float(Dtype::F16));
}

#[test]
fn values_out_of_range_name_their_tensor() {
    let check = |quantization: Quantization, value: f32, expected: &str| {
        let config = tiny(Family::Llama);
        let mut weights = checkpoint::weights(&random(&config)).unwrap();
        weights.get_mut("layers.1.mlp.up_proj.weight").unwrap().values[5] = value;
        let model = checkpoint::with_weights(&config, weights, &Device::flex());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let error = gguf::save(&model, &path, quantization, &Metadata::default()).unwrap_err().to_string();
        let expected = format!("{}: tensor blk.1.ffn_up.weight has the value {expected}", path.display());
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    };
    check(Quantization::F16, 1e5, "100000, which F16 cannot store (up to 65504)");
    check(Quantization::Q8_0, 1e7, "10000000, which Q8_0 cannot store");
    check(Quantization::Q8_0, f32::INFINITY, "inf, which Q8_0 cannot store");
    check(Quantization::Q4_0, f32::NAN, "NaN, which Q4_0 cannot store");
}

#[test]
fn metadata_is_read_as_it_was_written() {
    let values = [
        Value::U8(200),
        Value::I8(-3),
        Value::U16(60_000),
        Value::I16(-300),
        Value::U32(4_000_000_000),
        Value::I32(-70_000),
        Value::F32(0.1),
        Value::Bool(true),
        Value::String("é 🦀".to_owned()),
        Value::U64(1 << 40),
        Value::I64(-(1 << 40)),
        Value::F64(0.1),
        Value::Array(Array::U8(vec![1, 2])),
        Value::Array(Array::I8(vec![-1])),
        Value::Array(Array::U16(vec![1])),
        Value::Array(Array::I16(vec![-1])),
        Value::Array(Array::U32(vec![1, 2, 3])),
        Value::Array(Array::I32(vec![-1])),
        Value::Array(Array::F32(vec![0.5, -0.5])),
        Value::Array(Array::Bool(vec![true, false])),
        Value::Array(Array::String(vec![String::new(), "a".to_owned()])),
        Value::Array(Array::U64(vec![1 << 40])),
        Value::Array(Array::I64(vec![-1])),
        Value::Array(Array::F64(vec![0.1])),
        Value::Array(Array::String(Vec::new())),
    ];
    let mut metadata = Metadata::default();
    for (i, value) in values.iter().enumerate() {
        metadata.set(format!("test.{i}"), value.clone());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    gguf::save(&random(&tiny(Family::Llama)), &path, Quantization::F32, &metadata).unwrap();
    let file = File::open(&path).unwrap();
    for (i, value) in values.iter().enumerate() {
        assert_eq!(file.metadata().get(&format!("test.{i}")), Some(value));
    }
    assert_eq!(file.metadata().get("llama.attention.layer_norm_rms_epsilon").unwrap().as_f64(), Some(1e-6));
}
