//! Tokens and loss masks of conversations against transformers: `fixtures/chat_templates.py` wrote what is expected.

mod chat_families;

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;

use chat_families::{families, folder, plain, read};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokenizer::{Conversation, Error, RenderOptions, Tokenizer};

/// Texts with what templates split, trim and look for, and special tokens.
const TEXT: &str = "( |\\n|[a-c]|é|🦀|<think>|</think>|<\\|end\\|>|<\\|im_end\\|>|</s>|<|\\{%|\u{FDD4}){0,6}";

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
    for (family, source) in families() {
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
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn special_tokens_in_messages_are_text_as_in_transformers() {
    for (family, source) in families() {
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

#[test]
fn messages_of_weight_zero_are_not_learned() {
    for (family, source) in families() {
        let about = read(&format!("{family}.json"));
        let learned = |source: &str, weights: [f64; 2]| {
            let messages = json!({"messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "weight": weights[0]},
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "d", "weight": weights[1]},
            ]});
            let tokens = tokenizer(&about, source).encode_chat(&serde_json::from_value(messages).unwrap()).unwrap();
            spans(&tokens.loss_mask).as_array().unwrap().clone()
        };
        for source in [source.clone(), plain(&source)] {
            let both = learned(&source, [1.0, 0.5]);
            assert_eq!(both.len(), 2, "{family}");
            assert_eq!(learned(&source, [0.0, 1.0]), both[1..], "{family}");
            assert_eq!(learned(&source, [1.0, 0.0]), both[..1], "{family}");
            assert!(learned(&source, [0.0, 0.0]).is_empty(), "{family}");
        }
    }
}

#[test]
fn an_assistant_that_cannot_be_found_is_an_error() {
    let about = read("chatml.json");
    let template =
        "{% for message in messages %}{{ message.content | upper }}{% if not loop.last %}|{% endif %}{% endfor %}";
    let tokenizer = tokenizer(&about, template);
    let conversation: Conversation = serde_json::from_value(json!({"messages": [
        {"role": "assistant", "content": "a"}, {"role": "assistant", "content": ""}, {"role": "user", "content": "c"},
    ]}))
    .unwrap();
    // The first is found by its mark, since it has a content; both begin where the one before ends.
    assert!(tokenizer.encode_chat(&conversation).is_ok());

    let template = "{{ messages | map(attribute='content') | join | length }} characters";
    let tokenizer = self::tokenizer(&about, template);
    let error = tokenizer.encode_chat(&conversation).unwrap_err().to_string();
    assert!(error.starts_with("cannot tell which tokens of message 1 are the assistant's"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_gives_one_mask_with_and_without_generation_blocks(
        turns in prop::collection::vec((TEXT, TEXT), 1..4),
        system in prop::option::of("[a-z]{0,5}"),
    ) {
        let mut messages: Vec<Value> = system.iter().map(|text| json!({"role": "system", "content": text})).collect();
        for (question, answer) in &turns {
            messages.push(json!({"role": "user", "content": question}));
            messages.push(json!({"role": "assistant", "content": answer}));
        }
        let conversation: Conversation = serde_json::from_value(json!({"messages": messages})).unwrap();
        for (family, source) in families() {
            let about = read(&format!("{family}.json"));
            let Ok(marked) = tokenizer(&about, &source).encode_chat(&conversation) else { continue };
            match tokenizer(&about, &plain(&source)).encode_chat(&conversation) {
                Ok(found) => prop_assert_eq!(found, marked, "{}", family),
                Err(Error::UnclearTurn { .. }) => {}
                Err(error) => prop_assert!(false, "{}: {}", family, error),
            }
        }
    }
}
