//! The files beside `tokenizer.json`, read and written.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokenizer::{Kind, SpecialToken, TextInterface, Tokenizer, TrainConfig};

const TEXT: &str = "The old garden was quiet. The quiet engine was old.";

/// Returns a folder with a trained tokenizer and the given files.
fn folder(files: &[(&str, Value)]) -> TempDir {
    let special_tokens = ["<s>", "</s>", "<pad>", "<|eot|>"].map(str::to_owned).to_vec();
    let config = TrainConfig { kind: Kind::Bpe, vocab_size: 300, special_tokens, ..TrainConfig::default() };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), Tokenizer::train(&config, [TEXT].iter()).unwrap().to_json())
        .unwrap();
    write(folder.path(), files);
    folder
}

fn write(folder: &Path, files: &[(&str, Value)]) {
    for (name, content) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content.as_str().map_or_else(|| content.to_string(), str::to_owned)).unwrap();
    }
}

fn read(files: &[(&str, Value)]) -> Tokenizer {
    Tokenizer::from_folder(folder(files).path()).unwrap()
}

fn name(token: Option<&SpecialToken>) -> &str {
    token.map_or("", |token| &token.content)
}

#[test]
fn special_tokens_are_the_declared_ones() {
    let declared = json!({
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", "lstrip": false, "__type": "AddedToken"},
        "pad_token": null,
        "unk_token": "<missing>",
        "eot_token": "<|eot|>",
    });
    let check = |files: &[(&str, Value)], expected: [&str; 4], end_of_text: &str| {
        let tokenizer = read(files);
        let TextInterface { bos, eos, pad, unk, .. } = tokenizer.interface();
        assert_eq!([bos, eos, pad, unk].map(|token| name(token.as_ref())), expected, "{files:?}");
        assert_eq!(tokenizer.end_of_text_name(), Some(end_of_text), "{files:?}");
    };
    // Guessed only where nothing is declared.
    check(&[], ["", "", "", ""], "<|endoftext|>");
    check(&[("tokenizer_config.json", declared.clone())], ["<s>", "</s>", "", ""], "</s>");
    let map = ("special_tokens_map.json", json!({"eos_token": "<|eot|>", "pad_token": {"content": "<pad>"}}));
    check(std::slice::from_ref(&map), ["", "<|eot|>", "<pad>", ""], "<|eot|>");
    check(&[("tokenizer_config.json", declared.clone()), map.clone()], ["<s>", "<|eot|>", "<pad>", ""], "<|eot|>");
    let mut newer = declared;
    newer["added_tokens_decoder"] = json!({});
    check(&[("tokenizer_config.json", newer), map], ["<s>", "</s>", "", ""], "</s>");
    // Of the model's ids, the first ends a document.
    let end = read(&[]).id("</s>").unwrap();
    check(&[("config.json", json!({"eos_token_id": [end, 0]}))], ["", "", "", ""], "</s>");
}

#[test]
fn stop_tokens_are_those_of_generation_and_the_declared_ones() {
    let check = |files: &[(&str, Value)], expected: &[&str]| {
        let tokenizer = read(files);
        let expected: Vec<u32> = expected.iter().map(|token| tokenizer.id(token).unwrap()).collect();
        assert_eq!(tokenizer.stop_tokens(), expected, "{files:?}");
    };
    let tokenizer = read(&[]);
    let [end, turn] = ["</s>", "<|eot|>"].map(|token| tokenizer.id(token).unwrap());
    check(&[], &["<|endoftext|>", "<|im_end|>"]);
    check(&[("config.json", json!({"eos_token_id": turn}))], &["<|eot|>"]);
    let generation = ("generation_config.json", json!({"eos_token_id": [end, turn]}));
    check(&[("config.json", json!({"eos_token_id": 0})), generation.clone()], &["</s>", "<|eot|>"]);
    let config = ("tokenizer_config.json", json!({"eos_token": "<|endoftext|>", "eot_token": "<|eot|>"}));
    check(std::slice::from_ref(&config), &["<|endoftext|>", "<|eot|>"]);
    check(&[config, generation], &["</s>", "<|eot|>", "<|endoftext|>"]);
}

#[test]
fn chat_templates_are_read_from_every_place() {
    let check = |files: &[(&str, Value)], default: Option<&str>, named: &[(&str, &str)]| {
        let tokenizer = read(files);
        let templates = &tokenizer.interface().chat_templates;
        let found: Vec<(&str, &str)> =
            templates.named.iter().map(|(name, source)| (name.as_str(), source.as_str())).collect();
        assert_eq!((templates.default.as_deref(), found.as_slice()), (default, named), "{files:?}");
    };
    let config = ("tokenizer_config.json", json!({"chat_template": "in the configuration"}));
    check(&[], None, &[]);
    check(std::slice::from_ref(&config), Some("in the configuration"), &[]);
    check(&[config.clone(), ("chat_template.json", json!({"chat_template": "old"}))], Some("old"), &[]);
    let files =
        [config, ("chat_template.jinja", json!("own")), ("additional_chat_templates/tool_use.jinja", json!("t"))];
    check(&files, Some("own"), &[("tool_use", "t")]);
    let list = json!({"chat_template": [{"name": "default", "template": "a"}, {"name": "rag", "template": "b"}]});
    check(&[("tokenizer_config.json", list)], Some("a"), &[("rag", "b")]);
}

#[test]
fn defaults_of_generation_and_the_longest_input_are_read() {
    let generation = json!({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05});
    let tokenizer = read(&[("generation_config.json", generation)]);
    let sampling = tokenizer.interface().sampling;
    assert_eq!((sampling.do_sample, sampling.temperature, sampling.top_k), (Some(true), Some(0.6), Some(20)));
    assert_eq!((sampling.top_p, sampling.min_p, sampling.repetition_penalty), (Some(0.95), Some(0.05), None));
    let length = |text: &str| read(&[("tokenizer_config.json", json!(text))]).interface().model_max_length;
    assert_eq!(length(r#"{"model_max_length": 2048}"#), Some(2048));
    assert_eq!(length(r#"{"model_max_length": 1000000000000000019884624838656}"#), None);
}

#[test]
fn what_was_read_is_written_again() {
    let files = [
        (
            "tokenizer_config.json",
            json!({"eos_token": "</s>", "model_max_length": 99, "own_key": [1], "chat_template": "t"}),
        ),
        ("generation_config.json", json!({"temperature": 0.5, "own_key": 2})),
        ("additional_chat_templates/rag.jinja", json!("r")),
    ];
    let first = read(&files);
    let out = tempfile::tempdir().unwrap();
    first.save(out.path()).unwrap();
    let second = Tokenizer::from_folder(out.path()).unwrap();
    assert_eq!(second.to_json(), first.to_json());
    let [before, after] = [&first, &second].map(|tokenizer| tokenizer.interface().clone());
    assert_eq!((&after.chat_templates, &after.stop_tokens), (&before.chat_templates, &before.stop_tokens));
    let json =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(out.path().join(name)).unwrap()).unwrap() };
    let end = first.id("</s>").unwrap();
    assert_eq!(json("generation_config.json"), json!({"temperature": 0.5, "own_key": 2, "eos_token_id": end}));

    // Beside a model, whose own ids stay.
    write(out.path(), &[("generation_config.json", json!({"eos_token_id": 0, "bos_token_id": 0}))]);
    first.write_hugging_face(out.path(), 16).unwrap();
    let config = json("tokenizer_config.json");
    assert_eq!((&config["model_max_length"], &config["own_key"]), (&json!(99), &json!([1])));
    assert_eq!(json("generation_config.json")["eos_token_id"], json!([end, 0]));

    // A tokenizer that was trained here is one file.
    let out = tempfile::tempdir().unwrap();
    read(&[]).save(out.path()).unwrap();
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn begin_of_text_is_placed_by_the_post_processor() {
    let folder = folder(&[("tokenizer_config.json", json!({"bos_token": "<s>", "eos_token": "</s>"}))]);
    let path = folder.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let plain = Tokenizer::from_folder(folder.path()).unwrap();
    let [begin, end] = ["<s>", "</s>"].map(|token| plain.id(token).unwrap());
    let text = "The <s> garden";
    assert_eq!(plain.encode_document(text).unwrap(), plain.encode(text).unwrap());
    assert_eq!(plain.start_of_text(), Some(end));

    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [begin], "tokens": ["<s>"]}},
    });
    std::fs::write(&path, json.to_string()).unwrap();
    let with = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!((with.prefix_tokens(), with.suffix_tokens()), ([begin].as_slice(), [].as_slice()));
    assert_eq!(with.encode_document(text).unwrap(), [&[begin], plain.encode(text).unwrap().as_slice()].concat());
    assert_eq!(with.encode_document("").unwrap(), [begin]);
    assert_eq!(with.start_of_text(), Some(begin));
    // As `tokenizer(text)` of transformers: the token in the text is one, too.
    let mut reference = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
    reference.set_encode_special_tokens(false);
    let prompt = with.encode_prompt(text).unwrap();
    assert_eq!(prompt, reference.encode(text, true).unwrap().get_ids());
    assert_eq!(prompt.iter().filter(|id| **id == begin).count(), 2);

    // Without a post-processor there is none, whatever `add_bos_token` says.
    json["post_processor"] = Value::Null;
    std::fs::write(&path, json.to_string()).unwrap();
    write(folder.path(), &[("tokenizer_config.json", json!({"bos_token": "<s>", "add_bos_token": true}))]);
    assert!(Tokenizer::from_folder(folder.path()).unwrap().prefix_tokens().is_empty());
}

#[test]
fn the_end_of_a_turn_is_a_token_of_the_template() {
    let check = |answer: &str, expected: Option<&str>, added: usize| {
        let template = format!("{{% for m in messages %}}[{{{{ m.role }}}}]{{{{ m.content }}}}{answer}{{% endfor %}}");
        let plain = read(&[("tokenizer_config.json", json!({"eos_token": "</s>"}))]);
        let tokenizer = plain.clone().with_chat_template(&template).unwrap();
        let end = tokenizer.turn_end().unwrap();
        assert_eq!(end.token, expected.map(|name| tokenizer.id(name).unwrap()), "{answer:?}");
        assert_eq!(tokenizer.vocab_size(), plain.vocab_size() + added, "{answer:?}");
        assert!(end.token.is_none_or(|token| tokenizer.stop_tokens().contains(&token)), "{answer:?}");
    };
    check("{{ eos_token }}\n", Some("</s>"), 0);
    check("<|eot|>", Some("<|eot|>"), 0);
    check("<|end|>\n", Some("<|end|>"), 1);
    // A mark in another form, and text that is one token.
    check("</assistant>\n", Some("</assistant>"), 1);
    check("[/BOT]", Some("[/BOT]"), 1);
    check(" .\n", Some("."), 0);
    check("\n\n", None, 0);
    check(" ### over\n", None, 0);
    check("<b and c>", None, 0);
}

#[test]
fn an_undeclared_end_of_turn_becomes_a_stop_token() {
    let check = |template: &str, expected: &[&str]| {
        let config = json!({"eos_token": "</s>", "chat_template": template});
        let tokenizer = read(&[("tokenizer_config.json", config)]);
        let declared = tokenizer.stop_tokens();
        assert_eq!(declared, [tokenizer.id("</s>").unwrap()]);
        let trained = tokenizer.with_turn_end_as_stop_token();
        let expected: Vec<u32> = expected.iter().map(|name| trained.id(name).unwrap()).collect();
        assert_eq!(trained.stop_tokens(), expected, "{template}");
    };
    check("{% for m in messages %}{{ m.content }}<|eot|>{% endfor %}", &["</s>", "<|eot|>"]);
    check("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}", &["</s>"]);
    check("{% for m in messages %}{{ m.content }}{% endfor %}", &["</s>"]);
    check("{{ raise_exception('no') }}", &["</s>"]);
}

#[test]
fn gpt2_files_are_read_without_tokenizer_json() {
    let folder = folder(&[]);
    let path = folder.path().join("tokenizer.json");
    let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let trained = Tokenizer::from_file(&path).unwrap();
    let vocabulary = &json["model"]["vocab"];
    let merges: Vec<String> = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| pair.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect::<Vec<_>>().join(" "))
        .collect();
    std::fs::remove_file(&path).unwrap();
    let none = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
    assert!(none.contains("has no tokenizer.json; AutoTokenizer"), "{none}");
    write(folder.path(), &[("tokenizer.model", json!("binary"))]);
    let other = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
    assert!(other.contains("only tokenizer.model, which is not read"), "{other}");

    write(folder.path(), &[("vocab.json", vocabulary.clone()), ("merges.txt", json!(merges.join("\n")))]);
    let next = trained.vocab_size();
    let added = json!({"added_tokens_decoder": {(next.to_string()): {"content": "<|tool|>", "special": true}}});
    write(folder.path(), &[("tokenizer_config.json", added)]);
    let read = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(read.id("<|tool|>"), Some(next as u32));
    // GPT-2's pattern splits these words as that of Qwen 2 does.
    assert_eq!(read.encode(TEXT).unwrap(), trained.encode(TEXT).unwrap());
    assert_eq!(read.decode(&read.encode(TEXT).unwrap()).unwrap(), TEXT);
}

#[test]
fn files_that_are_not_valid_are_named() {
    let check = |name: &str, content: &str, expected: &str| {
        let error = Tokenizer::from_folder(folder(&[(name, json!(content))]).path()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");
    };
    check("tokenizer_config.json", "{", "EOF while parsing");
    check("special_tokens_map.json", "[]", "it is not an object");
    check("generation_config.json", "no", "expected ident");
}
