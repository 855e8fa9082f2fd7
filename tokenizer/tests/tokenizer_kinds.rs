//! Tokenizers of published kinds against transformers: `fixtures/tokenizer_kinds.py` wrote what is expected.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;

const KINDS: [&str; 8] = ["deepseek", "gemma", "gpt2", "llama2", "llama3", "mistral", "qwen2", "smollm"];

/// The text of `affixes.json`.
const AFFIX_TEXT: &str = "The garde\u{301}n'S 12";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer_kinds").join(name)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Returns the texts of a kind of tokenizer with what is expected.
fn cases(kind: &str) -> Vec<Map<String, Value>> {
    let cases = read(&fixture(kind).join("expected.json"));
    cases.as_array().unwrap().iter().map(|case| case.as_object().unwrap().clone()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Decodes token by token.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.decode_stream();
    let text: String = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    text + &stream.finish()
}

#[test]
fn ids_and_texts_are_those_of_transformers() {
    let mut differences = String::new();
    for kind in KINDS {
        let read = Tokenizer::from_folder(&fixture(kind)).unwrap();
        // A tokenizer that is written and read again, without the model's configuration.
        let folder = tempfile::tempdir().unwrap();
        read.save(folder.path()).unwrap();
        let saved = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(saved.to_json(), read.to_json(), "{kind}");
        for (how, tokenizer) in [("read", &read), ("saved", &saved)] {
            let library = tokenizers::Tokenizer::from_bytes(tokenizer.to_json()).unwrap();
            for case in cases(kind) {
                let text = case["text"].as_str().unwrap();
                let mut compare = |what: &str, found: Value, expected: &Value| {
                    if found != *expected {
                        writeln!(differences, "{kind}, {how}, {text:?}, {what}\n  {found}\n  {expected}").unwrap();
                    }
                };
                let (expected, bare) = (ids(&case["ids"]), ids(&case["bare"]));
                compare("ids", json!(tokenizer.encode_prompt(text).unwrap()), &case["ids"]);
                let affixed = [tokenizer.prefix_tokens(), &bare, tokenizer.suffix_tokens()].concat();
                compare("special tokens around it", json!(affixed), &case["ids"]);
                let ordinary = case.get("ordinary").unwrap_or(&case["bare"]);
                compare("special tokens as text", json!(tokenizer.encode(text).unwrap()), ordinary);
                compare("decoded", json!(tokenizer.decode(&expected).unwrap()), &case["decoded"]);
                compare("decoded token by token", json!(streamed(tokenizer, &expected)), &case["decoded"]);
                let whole = case.get("whole").unwrap_or(&case["decoded"]);
                compare("with special tokens", json!(library.decode(&expected, false).unwrap()), whole);
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn what_follows_a_prompt_is_the_rest_of_the_whole_text() {
    for kind in KINDS {
        let tokenizer = Tokenizer::from_folder(&fixture(kind)).unwrap();
        for case in cases(kind) {
            let ids = ids(&case["ids"]);
            let whole = case["decoded"].as_str().unwrap();
            for at in 0..=ids.len() {
                let mut stream = tokenizer.decode_stream_after(&ids[..at]).unwrap();
                let mut rest: String = ids[at..].iter().map(|id| stream.push(*id).unwrap()).collect();
                rest += &stream.finish();
                let prompt = tokenizer.decode(&ids[..at]).unwrap();
                // A prompt may end within a character, which then belongs to what follows.
                let before = prompt.trim_end_matches('\u{fffd}');
                assert!(whole.starts_with(before) && whole.ends_with(&rest), "{kind}, {whole:?}, {at}, {rest:?}");
                if before == prompt {
                    assert_eq!(prompt + &rest, whole, "{kind}, {at}");
                }
            }
        }
    }
}

/// Writes the files of GPT-2 for a `tokenizer.json`.
fn write_vocabulary_files(json: &Value, config: &mut Value, folder: &Path) {
    let merges = json["model"]["merges"].as_array().unwrap().iter();
    let merge = |pair: &Value| {
        let parts: Vec<&str> = pair.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        parts.join(" ")
    };
    let lines: Vec<String> = merges.map(merge).collect();
    fs::write(folder.join("merges.txt"), format!("#version: 0.2\n{}\n", lines.join("\n"))).unwrap();
    fs::write(folder.join("vocab.json"), json["model"]["vocab"].to_string()).unwrap();
    let added = json["added_tokens"].as_array().unwrap();
    let added: Map<String, Value> = added.iter().map(|token| (token["id"].to_string(), token.clone())).collect();
    config["added_tokens_decoder"] = added.into();
}

/// Returns `tokenizer.json` with another post-processor; none for the files of GPT-2.
fn with_post_processor(mut json: Value, source: &str, bos: &str, id: u32) -> Value {
    let (begin, text) =
        (json!({"SpecialToken": {"id": bos, "type_id": 0}}), json!({"Sequence": {"id": "A", "type_id": 0}}));
    json["post_processor"] = match source {
        "begin" => json!({
            "type": "TemplateProcessing",
            "single": [begin, text],
            "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {(bos): {"id": bos, "ids": [id], "tokens": [bos]}},
        }),
        "nothing" => json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}),
        _ => Value::Null,
    };
    json
}

#[test]
fn begin_of_text_is_placed_by_the_post_processor_or_by_keys_without_one() {
    let mut differences = String::new();
    let bos_and_eos = |kind: &str| match kind {
        "llama2" => ["<s>", "</s>"],
        "gemma" => ["<bos>", "<eos>"],
        "llama3" => ["<|begin_of_text|>", "<|eot_id|>"],
        "gpt2" => ["<|endoftext|>"; 2],
        _ => ["<|im_start|>", "<|im_end|>"],
    };
    for case in read(&fixture("affixes.json")).as_array().unwrap() {
        let (kind, source) = (case["kind"].as_str().unwrap(), case["source"].as_str().unwrap());
        let folder = tempfile::tempdir().unwrap();
        fs::copy(fixture(kind).join("config.json"), folder.path().join("config.json")).unwrap();
        let [bos, eos] = bos_and_eos(kind);
        let mut config = read(&fixture(kind).join("tokenizer_config.json"));
        config.as_object_mut().unwrap().retain(|key, _| !key.starts_with("add_"));
        config["bos_token"] = json!(bos);
        config["eos_token"] = json!(eos);
        for (flag, value) in case["flags"].as_object().unwrap() {
            config[flag] = value.clone();
        }
        let json = read(&fixture(kind).join("tokenizer.json"));
        if source == "files" {
            write_vocabulary_files(&json, &mut config, folder.path());
        } else {
            let id = Tokenizer::from_folder(&fixture(kind)).unwrap().id(bos).unwrap();
            let json = with_post_processor(json, source, bos, id);
            fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
        }
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let found = json!(Tokenizer::from_folder(folder.path()).unwrap().encode_prompt(AFFIX_TEXT).unwrap());
        if found != case["ids"] {
            writeln!(differences, "{case}\n  found {found}").unwrap();
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
