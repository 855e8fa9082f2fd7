//! llama.cpp and gguf-py read what is written here, as `read_by_llama_cpp.py` compares. The test needs Python with the
//! packages `gguf` and `xllamacpp`: `PIPELINE_PYTHON`, else `python3`. Without them it says that it is skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::Device;
use inference::{Decoder, Sampling};
use model::gguf::Quantization;
use model::{Family, ModelConfig, RopeScaling, Transformer, checkpoint};
use registry::gguf;
use serde_json::{Value, json};
use tokenizer::{CHAT_TEMPLATE, Conversation, Pattern, RenderOptions, Tokenizer, TrainConfig};

/// The tokens of a context: of the prompt, and generated.
const PROMPT: usize = 24;
const GREEDY: usize = 50;

/// Differences of log-probabilities. In f32, sums in another order; GELU is a table of f16 in llama.cpp.
const TOLERANCE: f64 = 1e-4;
const GELU_TOLERANCE: f64 = 1e-2;

/// The activations are quantised to 8 bits in llama.cpp.
const QUANTIZED_TOLERANCE: f64 = 0.2;

fn python() -> Option<String> {
    let python = std::env::var("PIPELINE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python).args(["-c", "import gguf, xllamacpp"]).output();
    output.is_ok_and(|output| output.status.success()).then_some(python)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn texts() -> Vec<String> {
    serde_json::from_slice(&fs::read(fixture("hard_texts.json")).unwrap()).unwrap()
}

/// Returns a random model of a family whose logits are far enough apart that rounding does not change the largest.
fn random(family: Family, tokenizer: &Tokenizer, change: impl FnOnce(&mut ModelConfig)) -> Transformer {
    let mut config = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        d_model: 64,
        n_layer: 4,
        n_head: 4,
        n_kv_head: if family == Family::Gpt2 { 4 } else { 2 },
        head_dim: 16,
        d_ff: 128,
        context_length: 128,
        end_of_text: tokenizer.end_of_text(),
        ..ModelConfig::of(family)
    }
    .with_published_layers(family.architecture().scaled_embeddings.then_some(16));
    change(&mut config);
    config.validate().unwrap();
    let device = Device::flex();
    let mut weights = checkpoint::weights(&Transformer::init(&config, 5, &device)).unwrap();
    // Norms and biases that are not 1 and 0, and larger matrices.
    for (i, weight) in weights.values_mut().enumerate() {
        for (j, x) in weight.values.iter_mut().enumerate() {
            if weight.shape.len() == 1 {
                *x += ((i * 31 + j * 17) % 13) as f32 * 0.02 - 0.1;
            } else {
                *x *= 3.0;
            }
        }
    }
    checkpoint::with_weights(&config, weights, &device)
}

/// Writes a model's file, and what it computes, for the program.
fn write(folder: &Path, name: &str, model: &Transformer, tokenizer: &Tokenizer, quantization: Quantization) {
    let path = folder.join(format!("{name}.gguf"));
    gguf::write(model, tokenizer, name, quantization, &path).unwrap();
    let vocab_size = model.config().vocab_size;
    let ids: Vec<u32> = (0..PROMPT).map(|i| ((i * 37 + 11) % vocab_size) as u32).collect();
    let is_f32 = quantization == Quantization::F32;
    // What the file has: llama.cpp computes with the quantised weights as well.
    let read = checkpoint::load(&path, &Device::flex()).unwrap();
    let logits = inference::logits(&read, &ids).unwrap();
    let mut read = inference::of_model(read).unwrap();
    let greedy: Result<Vec<u32>, _> = Decoder::new(&mut *read, &ids, &Sampling::greedy(), GREEDY).unwrap().collect();
    let has_gelu = matches!(model.config().family, Family::Gpt2 | Family::Gemma2 | Family::Gemma3Text);
    let tolerance = match (is_f32, has_gelu) {
        (true, false) => TOLERANCE,
        (true, true) => GELU_TOLERANCE,
        _ => QUANTIZED_TOLERANCE,
    };
    let texts = texts();
    let encoded: Vec<_> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    let template = &tokenizer.interface().chat_templates.default;
    let messages = json!([
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "  How many?\n"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Why?"},
    ]);
    let conversation: Conversation = serde_json::from_value(json!({"messages": messages})).unwrap();
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    let expected = json!({
        "context": model.config().context_length,
        "texts": texts,
        "encoded": encoded,
        "ids": ids,
        "logits": logits,
        "greedy": if is_f32 { greedy.unwrap() } else { Vec::new() },
        "tolerance": tolerance,
        "template": template,
        "conversation": template.as_ref().map(|_| conversation.messages.clone()),
        "rendered": template.as_ref().map(|_| tokenizer.apply_chat_template(&conversation, &options).unwrap()),
    });
    fs::write(folder.join(format!("{name}.json")), expected.to_string()).unwrap();
}

fn trained(pattern: Pattern) -> Tokenizer {
    let config = TrainConfig { pattern, vocab_size: 600, ..TrainConfig::default() };
    let tokenizer = Tokenizer::train(&config, texts().into_iter()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    tokenizer.write_hugging_face(folder.path(), 128).unwrap();
    fs::write(folder.path().join("chat_template.jinja"), CHAT_TEMPLATE).unwrap();
    Tokenizer::from_folder(folder.path()).unwrap()
}

#[test]
fn llama_cpp_reads_what_is_written() {
    let Some(python) = python() else {
        eprintln!("skipped: no Python with the packages gguf and xllamacpp (PIPELINE_PYTHON names one)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let qwen2 = trained(Pattern::Qwen2);
    for family in Family::ALL {
        // llama.cpp reads no other Gemma 2.
        let change = |config: &mut ModelConfig| config.tied_embeddings = family == Family::Gemma2;
        let model = random(family, &qwen2, change);
        write(folder.path(), family.model_type(), &model, &qwen2, Quantization::F32);
    }
    let llama3 =
        RopeScaling::Llama3 { factor: 4.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context_length: 64 };
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_context_length: 32,
        attention_factor: 0.9,
        beta_fast: 16.0,
        beta_slow: 1.0,
        truncate: true,
    };
    for (name, scaling) in [("linear", RopeScaling::Linear { factor: 2.0 }), ("llama3", llama3), ("yarn", yarn)] {
        let model = random(Family::Llama, &qwen2, |config| config.rope_scaling = Some(scaling));
        write(folder.path(), &format!("llama-{name}"), &model, &qwen2, Quantization::F32);
    }
    let biases = |config: &mut ModelConfig| (config.attention_bias, config.mlp_bias) = (true, true);
    write(folder.path(), "llama-biases", &random(Family::Llama, &qwen2, biases), &qwen2, Quantization::F32);
    let part = |config: &mut ModelConfig| config.rotary_dim = Some(8);
    write(folder.path(), "phi3-part", &random(Family::Phi3, &qwen2, part), &qwen2, Quantization::F32);
    let tied = |config: &mut ModelConfig| config.tied_embeddings = true;
    write(folder.path(), "olmo2-tied", &random(Family::Olmo2, &qwen2, tied), &qwen2, Quantization::F32);
    for quantization in Quantization::ALL {
        // Rows of 256, the longest blocks.
        let wide = |config: &mut ModelConfig| (config.d_model, config.head_dim, config.d_ff) = (256, 64, 256);
        let model = random(Family::Qwen3, &qwen2, wide);
        write(folder.path(), &format!("qwen3-{quantization}"), &model, &qwen2, quantization);
    }
    for (name, pattern) in [("gpt-2", Pattern::Gpt2), ("smollm", Pattern::SmolLm)] {
        let tokenizer = trained(pattern);
        let model = random(Family::Llama, &tokenizer, |_| ());
        write(folder.path(), &format!("tokenizer-{name}"), &model, &tokenizer, Quantization::F32);
    }
    let mut llama: Value = serde_json::from_slice(&fs::read(fixture("llama-tokenizer.json")).unwrap()).unwrap();
    llama["model"]["unk_token"] = "<unk>".into();
    // As SentencePiece and llama.cpp: a space before every text.
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    llama["normalizer"] = json!({"type": "Sequence", "normalizers": [prepend, replace]});
    llama["pre_tokenizer"] = Value::Null;
    let llama = Tokenizer::from_bytes(llama.to_string().as_bytes()).unwrap();
    let model = random(Family::Llama, &llama, |_| ());
    write(folder.path(), "tokenizer-sentence-piece", &model, &llama, Quantization::F32);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_by_llama_cpp.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().count(), Family::ALL.len() + 16);
}
