//! Training a base model on conversations with a chat template that it did not have.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::project::Project;
use crate::tiny::{start_from, tiny, write};

/// The tokens that the template of Llama 3 needs and the tiny model lacks.
const ADDED: [&str; 3] = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"];

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Returns a project with conversations, which starts from a tiny base model.
fn project(family: &str, train: &str) -> Project {
    let project = Project::new();
    write(&project.path("tiny"), &tiny(family));
    let chats: Vec<String> = (0..40)
        .map(|i| {
            json!({"messages": [
                {"role": "user", "content": format!("What is let number {i}?")},
                {"role": "assistant", "content": format!("It is fn number {i}.")},
            ]})
            .to_string()
        })
        .collect();
    project.write("chats.jsonl", &chats.join("\n"));
    start_from(&project, "tiny");
    project.configure("path = \"texts\"", "path = \"chats.jsonl\"\nchat = \"messages\"");
    project.configure("[preprocess]", "[preprocess]\npreset = \"chat\"");
    project.configure("[train]", &format!("[train]\n{train}"));
    project
}

#[track_caller]
fn check(family: &str, more: &str) {
    let project = project(family, "chat_template = \"llama3\"\npad_vocab_to_multiple_of = 8");
    if !more.is_empty() {
        project.write("more.toml", "");
        let text = fs::read_to_string(project.path("pipeline.toml")).unwrap();
        project.write("pipeline.toml", &format!("{text}\n{more}"));
    }
    project.succeeds(&["run"]);
    project.succeeds(&["export", "latest", "--format", "hf", "--output", "out"]);
    let base = read(&project.path("tiny/config.json"))["vocab_size"].as_u64().unwrap();
    let folders =
        [project.artifact("tiny-001", "train"), project.artifact("tiny-001", "optimize"), project.path("out")];
    for folder in &folders {
        let template = fs::read_to_string(folder.join("chat_template.jinja")).unwrap();
        assert!(template.contains("<|start_header_id|>"), "{}", folder.display());
        let tokenizer = read(&folder.join("tokenizer.json"));
        let added = tokenizer["added_tokens"].as_array().unwrap();
        let id = |name: &str| added.iter().find(|token| token["content"] == name).unwrap()["id"].as_u64().unwrap();
        let ids = ADDED.map(id);
        let stops = read(&folder.join("generation_config.json"))["eos_token_id"].clone();
        assert!(stops.as_array().unwrap().contains(&json!(ids[2])), "{stops}");
        let vocab_size = read(&folder.join("config.json"))["vocab_size"].as_u64().unwrap();
        assert!(ids.iter().all(|id| *id < vocab_size) && vocab_size >= base, "{ids:?} {vocab_size}");
        assert!(vocab_size.is_multiple_of(8), "{vocab_size}");
    }
    project.succeeds(&["generate", "latest", "--chat", "What is let?", "--max-tokens", "4"]);
    // The trained model is one to start from, with its template.
    project.configure("chat_template = \"llama3\"\npad_vocab_to_multiple_of = 8", "");
    project.configure("init = \"tiny\"", "init = \"tiny-001\"");
    project.succeeds(&["run", "--until", "train"]);
}

#[test]
fn a_base_model_gets_a_template_and_the_tokens_it_needs() {
    check("llama", "");
}

/// Checks the modules and the tensors that the adapter of a model with more tokens has.
#[track_caller]
fn check_adapter(family: &str, modules: &[&str], tensors: &[&str]) {
    let project = project(family, "chat_template = \"llama3\"");
    let text = fs::read_to_string(project.path("pipeline.toml")).unwrap();
    project.write("pipeline.toml", &format!("{text}\n[train.lora]\nrank = 2\n"));
    project.succeeds(&["run", "--until", "train"]);
    let folder = project.artifact("tiny-001", "train");
    let adapter = folder.join("adapter");
    assert_eq!(read(&adapter.join("adapter_config.json"))["modules_to_save"], json!(modules));
    let header = |path: &Path| -> Value {
        let bytes = fs::read(path).unwrap();
        let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        serde_json::from_slice(&bytes[8..8 + length]).unwrap()
    };
    let saved = header(&adapter.join("adapter_model.safetensors"));
    let vocab_size = &read(&folder.join("config.json"))["vocab_size"];
    for tensor in tensors {
        assert_eq!(saved[tensor]["shape"][0], *vocab_size, "{family}: {tensor} in {saved}");
    }
    let tables = saved.as_object().unwrap().keys().filter(|name| name.ends_with(".weight") && !name.contains(".lora_"));
    assert_eq!(tables.count(), tensors.len(), "{family}: {saved}");
}

#[test]
fn adapters_save_the_embeddings_that_grew() {
    check("qwen3", "[train.lora]\nrank = 2\n");
    let tables = ["base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"];
    // Tied: PEFT reads the one table under both names.
    check_adapter("qwen3", &["embed_tokens"], &tables);
    check_adapter("gpt2", &["wte"], &["base_model.model.transformer.wte.weight", tables[1]]);
    // Untied: both tables grew.
    check_adapter("llama", &["embed_tokens", "lm_head"], &tables);
}

#[test]
fn what_ends_no_turn_is_said() {
    let project = project("llama", "chat_template = \"plain.jinja\"");
    let lines = "{% for m in messages %}{{ m.role }}: {{ m.content }} .\n{% endfor %}";
    project.write("plain.jinja", &lines.replace(" .", ""));
    let run = || {
        let ended = project.pipeline(&["run", "--until", "preprocess"]);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        ended.out + &ended.err
    };
    let said = run();
    assert!(said.contains("plain.jinja ends an answer by \"\\n\", which is no token"), "{said}");
    project.write("plain.jinja", &lines.replace(" .", "</assistant>"));
    let said = run();
    assert!(!said.contains("ends an answer by"), "{said}");
}

#[test]
fn what_is_missing_is_named() {
    let project = project("llama", "");
    let error = project.fails(1, &["run"]);
    assert!(error.contains("has no chat template") && error.contains("train.chat_template"), "{error}");
    project.configure("[train]", "[train]\nchat_template = \"lama\"");
    let error = project.fails(1, &["run"]);
    assert!(error.contains("train.chat_template") && error.contains("chatml, llama3"), "{error}");
}
