//! The text interface of a written model, compared with that of its source.

use std::fs;
use std::path::Path;

use registry::TextParity;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenizer::{Tokenizer, TrainConfig};

const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}";

/// Returns a folder with a tokenizer that places begin-of-text, and what else declares how it is used.
fn model() -> TempDir {
    let special_tokens = ["<s>", "</s>", "<|eot|>"].map(str::to_owned).to_vec();
    let config = TrainConfig { vocab_size: 300, special_tokens, ..TrainConfig::default() };
    let trained = Tokenizer::train(&config, ["The quiet engine was old."].iter()).unwrap();
    let mut json: Value = serde_json::from_str(trained.to_json()).unwrap();
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [trained.id("<s>")], "tokens": ["<s>"]}},
    });
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    write("tokenizer.json", json.to_string());
    write("tokenizer_config.json", json!({"bos_token": "<s>", "eos_token": "</s>"}).to_string());
    write("chat_template.jinja", TEMPLATE.to_owned());
    let stops = [trained.id("</s>"), trained.id("<|eot|>")];
    write("generation_config.json", json!({"eos_token_id": stops, "temperature": 0.6}).to_string());
    folder
}

fn edit(folder: &Path, name: &str, change: impl Fn(&mut Value)) {
    let path = folder.join(name);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Checks how a folder that was spoilt differs from the same one as it was.
#[track_caller]
fn check(spoil: impl Fn(&Path), expected: &str) {
    let (source, written) = (model(), model());
    spoil(written.path());
    let error = TextParity::of(source.path(), written.path()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(error.contains(&written.path().display().to_string()), "{error}");
}

#[test]
fn equal_folders_have_no_difference() {
    let [source, written] = [model(), model()];
    let parity = TextParity::of(source.path(), written.path()).unwrap();
    assert_eq!(parity, TextParity { texts: 16, conversations: 4 });
    assert_eq!(parity.to_string(), "16 texts have the same tokens, 4 conversations the same prompt");
}

#[test]
fn what_was_lost_or_replaced_is_named() {
    check(|folder| fs::remove_file(folder.join("tokenizer_config.json")).unwrap(), "bos_token is none instead");
    check(|folder| edit(folder, "tokenizer.json", |json| json["post_processor"] = Value::Null), "\"\" has the tokens");
    check(
        |folder| edit(folder, "tokenizer.json", |json| json["normalizer"] = json!({"type": "NFC"})),
        "cafe\\u{301} ﬁ Å\" has the tokens",
    );
    check(
        |folder| edit(folder, "tokenizer.json", |json| json["added_tokens"].as_array_mut().unwrap().clear()),
        "start </s>inside</s> </s>\" has the tokens",
    );
    check(
        |folder| fs::write(folder.join("chat_template.jinja"), TEMPLATE.replace('<', "[")).unwrap(),
        "\"<s>[user>Hi</s>\" instead of \"<s><user>Hi</s>\"",
    );
    check(|folder| fs::remove_file(folder.join("chat_template.jinja")).unwrap(), " instead of \"<s><user>Hi</s>\"");
    check(
        |folder| {
            fs::create_dir(folder.join("additional_chat_templates")).unwrap();
            fs::write(folder.join("additional_chat_templates/tool_use.jinja"), "tools").unwrap();
        },
        "is \"tools\" instead of",
    );
    check(
        |folder| edit(folder, "generation_config.json", |json| json["eos_token_id"] = json!(0)),
        "the stop tokens are [0, ",
    );
    check(
        |folder| edit(folder, "generation_config.json", |json| json["temperature"] = json!(1.5)),
        "the sampling defaults are",
    );
}
