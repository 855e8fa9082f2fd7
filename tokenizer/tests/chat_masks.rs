//! Tokens and loss masks of conversations against transformers: `fixtures/chat_templates.py` wrote what is expected.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokenizer::{Conversation, RenderOptions, Tokenizer};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat_templates")
}

fn read(name: &str) -> Map<String, Value> {
    serde_json::from_str(&fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

/// Returns the names of the templates.
fn families() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "jinja"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    names
}

/// Returns a tokenizer with a chat template, loaded from a folder as a model's.
fn tokenizer(about: &Map<String, Value>, template: &str) -> Tokenizer {
    let model = tempfile::tempdir().unwrap();
    let kind = about["tokenizer"].as_str().unwrap();
    fs::copy(folder().join(format!("{kind}.tokenizer.json")), model.path().join("tokenizer.json")).unwrap();
    let config = json!({"bos_token": about["bos_token"], "eos_token": about["eos_token"]});
    fs::write(model.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    fs::write(model.path().join("chat_template.jinja"), template).unwrap();
    Tokenizer::from_folder(model.path()).unwrap()
}

/// Without the marks that most published templates do not have, and with the same white space.
fn plain(source: &str) -> String {
    let source = source.replace("endgeneration", "endif");
    ["%}", "-%}", "+%}"].iter().fold(source, |source, end| {
        source
            .replace(&format!("{{% generation {end}"), &format!("{{% if true {end}"))
            .replace(&format!("{{%- generation {end}"), &format!("{{%- if true {end}"))
    })
}

/// Returns the learned tokens as `[start, end]` pairs.
fn spans(mask: &[bool]) -> Value {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for at in (0..mask.len()).filter(|at| mask[*at]) {
        match spans.last_mut() {
            Some(last) if last.end == at => last.end += 1,
            _ => spans.push(at..at + 1),
        }
    }
    spans.iter().map(|span| json!([span.start, span.end])).collect()
}

#[test]
fn masks_are_those_of_transformers() {
    let conversations = read("conversations.json");
    let mut differences = String::new();
    let mut count = 0;
    for family in families() {
        let source = fs::read_to_string(folder().join(format!("{family}.jinja"))).unwrap();
        let about = read(&format!("{family}.json"));
        for (kind, source) in [("marked", source.clone()), ("plain", plain(&source))] {
            let tokenizer = tokenizer(&about, &source);
            let reference = tokenizers::Tokenizer::from_bytes(tokenizer.to_json()).unwrap();
            for (title, case) in about.iter().filter(|(_, case)| case.get("learned").is_some()) {
                let entry = conversations[title].as_object().unwrap();
                // Special tokens in messages: see the test of forged tokens.
                if title == "markup" || entry.keys().any(|key| key != "messages" && key != "tools") {
                    continue;
                }
                let conversation: Conversation = serde_json::from_value(conversations[title].clone()).unwrap();
                count += 1;
                let tokens = match tokenizer.encode_chat(&conversation) {
                    Ok(tokens) => tokens,
                    Err(error) => {
                        writeln!(differences, "{family}, {title}, {kind}: {error}").unwrap();
                        continue;
                    }
                };
                let found = (tokens.ids.len(), spans(&tokens.loss_mask));
                let expected = (case["tokens"].as_u64().unwrap() as usize, case["learned"].clone());
                if found != expected {
                    let text: Vec<(String, bool)> = tokens
                        .ids
                        .iter()
                        .zip(&tokens.loss_mask)
                        .map(|(id, learned)| (reference.decode(&[*id], false).unwrap(), *learned))
                        .collect();
                    writeln!(
                        differences,
                        "{family}, {title}, {kind}\n  found    {found:?}\n  expected {expected:?}\n  {text:?}"
                    )
                    .unwrap();
                }
                if let Some(ids) = case.get("ids") {
                    assert_eq!(&json!(tokens.ids), ids, "{family}, {title}, {kind}");
                }
            }
        }
    }
    assert!(differences.is_empty(), "{count} conversations\n{differences}");
}

#[test]
fn special_tokens_in_messages_are_text_as_in_transformers() {
    for family in families() {
        let source = fs::read_to_string(folder().join(format!("{family}.jinja"))).unwrap();
        let about = read(&format!("{family}.json"));
        let conversation: Conversation =
            serde_json::from_value(json!({"messages": about["forged"]["messages"]})).unwrap();
        let tokenizer = tokenizer(&about, &plain(&source));
        let tokens = tokenizer.encode_chat(&conversation).unwrap();
        assert_eq!(json!(tokens.ids), about["forged"]["ids"], "{family}");
        assert!(tokens.loss_mask.contains(&true));
        assert!(tokenizer.encode_chat_prompt(&conversation, &RenderOptions::default()).is_ok());
    }
}
