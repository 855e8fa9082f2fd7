//! GGUF files with tokenizers: round trips, files of llama.cpp's converter, and tokenizers that llama.cpp lacks.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use model::gguf::{File, Quantization};
use model::{Family, ModelConfig, Transformer, checkpoint};
use registry::gguf;
use serde_json::{Value, json};
use tokenizer::{CHAT_TEMPLATE, Kind, Pattern, Tokenizer, TrainConfig};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Returns 200 texts, which `fixtures/hard_texts.py` made.
fn hard_texts() -> Vec<String> {
    let texts: Vec<String> = serde_json::from_value(read_json(&fixture("hard_texts.json"))).unwrap();
    assert_eq!(texts.len(), 200);
    texts
}

fn trained(kind: Kind, pattern: Pattern) -> Tokenizer {
    let config = TrainConfig { kind, pattern, vocab_size: 600, ..TrainConfig::default() };
    Tokenizer::train(&config, hard_texts().into_iter()).unwrap()
}

/// Returns a `tokenizer.json` with some of its keys replaced.
fn changed(tokenizer: &Tokenizer, change: impl FnOnce(&mut Value)) -> Tokenizer {
    let mut json = serde_json::from_str(tokenizer.to_json()).unwrap();
    change(&mut json);
    Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
}

/// Returns the tokenizer that a folder has, with a chat template.
fn in_folder(tokenizer: &Tokenizer) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    tokenizer.write_hugging_face(folder.path(), 32).unwrap();
    fs::write(folder.path().join("chat_template.jinja"), CHAT_TEMPLATE).unwrap();
    Tokenizer::from_folder(folder.path()).unwrap()
}

/// Returns a small model with some more ids than the tokenizer has.
fn model(tokenizer: &Tokenizer) -> Transformer {
    let config = ModelConfig {
        vocab_size: tokenizer.vocab_size() + 3,
        d_model: 8,
        n_layer: 1,
        n_head: 2,
        n_kv_head: 2,
        head_dim: 4,
        d_ff: 8,
        context_length: 32,
        end_of_text: tokenizer.end_of_text(),
        ..ModelConfig::of(Family::Llama)
    };
    Transformer::init(&config, 1, &Device::flex())
}

/// Writes a tokenizer to a file and reads it again.
fn round_trip(tokenizer: &Tokenizer) -> (Tokenizer, Vec<String>, File) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let notes = gguf::write(&model(tokenizer), tokenizer, "tiny", Quantization::F32, &path).unwrap();
    assert!(gguf::is_gguf(&path));
    let converted = folder.path().join("converted");
    fs::create_dir(&converted).unwrap();
    gguf::convert(&path, &converted).unwrap();
    checkpoint::load(&converted, &Device::flex()).unwrap();
    (Tokenizer::from_folder(&converted).unwrap(), notes, File::open(&path).unwrap())
}

/// Checks that a tokenizer encodes and decodes 200 texts as before after a round trip, and how the file names it.
fn check(tokenizer: &Tokenizer, kind: &str, pre: &str, notes: &[&str]) {
    let tokenizer = in_folder(tokenizer);
    let (read, found, file) = round_trip(&tokenizer);
    assert_eq!(file.metadata().string("tokenizer.ggml.model").unwrap(), Some(kind));
    assert_eq!(file.metadata().string("tokenizer.ggml.pre").unwrap(), Some(pre));
    assert_eq!(found, notes);
    // What the note says.
    let is_other = |text: &str| found.iter().any(|note| note.contains("begins with one")) && text.starts_with(' ');
    for text in hard_texts().into_iter().filter(|text| !is_other(text)) {
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(read.encode(&text).unwrap(), ids, "{pre}: {text:?}");
        assert_eq!(read.encode_prompt(&text).unwrap(), tokenizer.encode_prompt(&text).unwrap(), "{pre}: {text:?}");
        assert_eq!(read.decode(&ids).unwrap(), tokenizer.decode(&ids).unwrap(), "{pre}: {text:?}");
    }
    assert_eq!(read.end_of_text(), tokenizer.end_of_text());
    assert_eq!(read.prefix_tokens(), tokenizer.prefix_tokens());
    assert_eq!(read.suffix_tokens(), tokenizer.suffix_tokens());
    let sorted = |mut ids: Vec<u32>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(read.stop_tokens()), sorted(tokenizer.stop_tokens()));
    assert_eq!(read.vocab_size(), tokenizer.vocab_size());
    assert_eq!(read.interface().chat_templates.default, tokenizer.interface().chat_templates.default);
}

fn split(expression: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false})
}

fn sequence(mut steps: Vec<Value>) -> Value {
    steps.push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}));
    json!({"type": "Sequence", "pretokenizers": steps})
}

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

#[test]
fn byte_level_tokenizers_are_the_same_after_a_round_trip() {
    check(&trained(Kind::Bpe, Pattern::Qwen2), "gpt2", "qwen2", &[]);
    check(&trained(Kind::Bpe, Pattern::Gpt2), "gpt2", "gpt-2", &[]);
    check(&trained(Kind::Bpe, Pattern::SmolLm), "gpt2", "smollm", &[]);
    let qwen2 = trained(Kind::Bpe, Pattern::Qwen2);
    let nfc = changed(&qwen2, |json| json["normalizer"] = json!({"type": "NFC"}));
    check(&nfc, "gpt2", "qwen2", &["llama.cpp does not normalise text to NFC, as this tokenizer does"]);
    let llama3 = |ignore_merges: bool| {
        changed(&qwen2, |json| {
            json["pre_tokenizer"] = sequence(vec![split(LLAMA3)]);
            json["model"]["ignore_merges"] = ignore_merges.into();
            let bos = json!({"SpecialToken": {"id": "<|im_start|>", "type_id": 0}});
            let template = json!({
                "type": "TemplateProcessing",
                "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
            });
            json["post_processor"] = template;
        })
    };
    check(&llama3(true), "gpt2", "llama-bpe", &[]);
    check(&llama3(false), "gpt2", "dbrx", &[]);
    let coder = changed(&qwen2, |json| {
        let digits = json!({"type": "Digits", "individual_digits": true});
        let mut steps: Vec<_> = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"].map(split).to_vec();
        steps.push(digits);
        json["pre_tokenizer"] = sequence(steps);
    });
    check(&coder, "gpt2", "deepseek-coder", &[]);
    let added = changed(&qwen2, |json| {
        let token = |id: usize, content: &str, lstrip: bool| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": lstrip, "rstrip": false,
                "normalized": false, "special": false})
        };
        let size = json["model"]["vocab"].as_object().unwrap().len();
        let tokens = json["added_tokens"].as_array_mut().unwrap();
        tokens.extend([token(size, "quick brown", false), token(size + 1, "<think>", true)]);
    });
    check(&added, "gpt2", "qwen2", &["GGUF does not have that <think> take white space with them, or are whole words"]);
}

#[test]
fn sentence_piece_tokenizers_are_the_same_after_a_round_trip() {
    let llama = Tokenizer::from_file(&fixture("llama-tokenizer.json")).unwrap();
    check(&llama, "llama", "default", &["llama.cpp adds a space before a text that begins with one, too"]);
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let legacy = changed(&llama, |json| {
        let prepend = json!({"type": "Prepend", "prepend": "▁"});
        json["normalizer"] = json!({"type": "Sequence", "normalizers": [prepend, replace.clone()]});
        json["pre_tokenizer"] = Value::Null;
        json["model"]["unk_token"] = "<unk>".into();
    });
    check(&legacy, "llama", "default", &[]);
    let gemma = changed(&llama, |json| {
        json["normalizer"] = replace.clone();
        json["pre_tokenizer"] =
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
        json["decoder"]["decoders"].as_array_mut().unwrap().pop();
    });
    check(&gemma, "llama", "default", &[]);
}

#[test]
fn tokenizers_that_llama_cpp_does_not_have_are_named() {
    let check = |tokenizer: &Tokenizer, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let error = gguf::write(&model(tokenizer), tokenizer, "tiny", Quantization::F32, &path).unwrap_err();
        let expected = format!("the tokenizer cannot be written as GGUF: {expected}");
        assert!(error.to_string().starts_with(&expected), "{error}\n{expected}");
        assert!(!path.exists());
    };
    check(&trained(Kind::Unigram, Pattern::Qwen2), "its model is Unigram; llama.cpp encodes BPE in the same way");
    check(&trained(Kind::WordPiece, Pattern::Qwen2), "its model is WordPiece; llama.cpp encodes BPE in the same way");
    check(&trained(Kind::Character, Pattern::Qwen2), "its model is ");
    let qwen2 = trained(Kind::Bpe, Pattern::Qwen2);
    let words = changed(&qwen2, |json| json["pre_tokenizer"] = sequence(vec![split(r"\w+")]));
    check(&words, r"llama.cpp has no pre-tokenizer `\w+`; it has those of gpt-2, qwen2, llama-bpe, dbrx, smollm");
    let spaced =
        changed(&trained(Kind::Bpe, Pattern::Gpt2), |json| json["pre_tokenizer"]["add_prefix_space"] = true.into());
    check(&spaced, "it adds a space before a text, which llama.cpp does not");
    let lower = changed(&qwen2, |json| json["normalizer"] = json!({"type": "Lowercase"}));
    check(&lower, "it has the normalizer Lowercase, which llama.cpp does not know");
    let llama = Tokenizer::from_file(&fixture("llama-tokenizer.json")).unwrap();
    // A token that two merges make.
    let json: Value = serde_json::from_str(llama.to_json()).unwrap();
    let merges: Vec<(String, String)> = serde_json::from_value(json["model"]["merges"].clone()).unwrap();
    let whole = |merge: &(String, String)| format!("{}{}", merge.0, merge.1);
    let twice = (1..merges.len()).find(|i| whole(&merges[i - 1]) == whole(&merges[*i])).unwrap();
    let (left, right) = &merges[twice];
    let incomplete = changed(&llama, |json| drop(json["model"]["merges"].as_array_mut().unwrap().remove(twice)));
    let differs = "its merges are not those of SentencePiece, as llama.cpp's";
    check(&incomplete, &format!("{differs}: `{left}` and `{right}` do not become `{left}{right}`"));
    let reordered = changed(&llama, |json| {
        let merges = json["model"]["merges"].as_array_mut().unwrap();
        let merge = merges.remove(twice);
        merges.push(merge);
    });
    check(&reordered, &format!("{differs}: those of `{left}{right}` do not follow each other"));
}

#[test]
fn files_of_llama_cpp_are_imported() {
    for (name, tolerance) in [("llama", 1e-4), ("gemma3", 1e-3), ("qwen2", 0.1)] {
        let expected = read_json(&fixture(&format!("{name}.json")));
        let folder = tempfile::tempdir().unwrap();
        gguf::convert(&fixture(&format!("{name}.gguf")), folder.path()).unwrap();
        let model = checkpoint::load(folder.path(), &Device::flex()).unwrap();
        let ids: Vec<u32> = serde_json::from_value(expected["ids"].clone()).unwrap();
        let logits = inference::logits(&model, &ids).unwrap();
        let rows: Vec<usize> = serde_json::from_value(expected["rows"].clone()).unwrap();
        for (row, expected) in rows.iter().zip(expected["logits"].as_array().unwrap()) {
            let expected: Vec<f32> = serde_json::from_value(expected.clone()).unwrap();
            let found = &logits[row * expected.len()..][..expected.len()];
            let difference = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference < tolerance, "{name}, row {row}: {difference}");
        }
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let encoded: Vec<Vec<u32>> = serde_json::from_value(expected["encoded"].clone()).unwrap();
        for (text, expected) in hard_texts().iter().zip(&encoded) {
            assert_eq!(tokenizer.encode(text).unwrap(), *expected, "{name}: {text:?}");
        }
        // llama.cpp places begin-of-text where a SentencePiece file does not say.
        assert_eq!(tokenizer.prefix_tokens().is_empty(), name == "qwen2");
        assert_eq!(tokenizer.interface().chat_templates.default.is_some(), name == "qwen2");
    }
}

#[test]
fn quantised_files_are_kept_and_folders_stand_for_files() {
    let tokenizer = in_folder(&trained(Kind::Bpe, Pattern::Qwen2));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.gguf");
    for (quantization, weights) in [(Quantization::Q8_0, "model.gguf"), (Quantization::F32, "model.safetensors")] {
        let config = ModelConfig { d_model: 32, head_dim: 16, d_ff: 32, ..model(&tokenizer).config().clone() };
        let model = Transformer::init(&config, 1, &Device::flex());
        gguf::write(&model, &tokenizer, "mine", quantization, &path).unwrap();
        let expected = checkpoint::weights(&checkpoint::load(&path, &Device::flex()).unwrap()).unwrap();
        let converted = folder.path().join(quantization.name());
        fs::create_dir(&converted).unwrap();
        gguf::convert(&path, &converted).unwrap();
        assert_eq!(model::hub_layout::weights_files(&converted).unwrap(), [weights]);
        let linked = gguf::LinkedFolder::of(&path).unwrap();
        for found in [converted.as_path(), linked.path()] {
            let loaded = checkpoint::load(found, &Device::flex()).unwrap();
            assert!(checkpoint::weights(&loaded).unwrap() == expected, "{quantization}");
            let read = Tokenizer::from_folder(found).unwrap();
            assert_eq!(read.encode("fn main() {}").unwrap(), tokenizer.encode("fn main() {}").unwrap());
            assert_eq!(read.interface().chat_templates.default.as_deref(), Some(CHAT_TEMPLATE));
        }
        let place = linked.path().to_owned();
        drop(linked);
        assert!(!place.exists() && path.exists());
    }
}

#[test]
fn no_changed_byte_of_the_metadata_panics() {
    let bytes = fs::read(fixture("qwen2.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (path, converted) = (folder.path().join("model.gguf"), folder.path().join("converted"));
    let end = bytes.len() - 38_000;
    let mut errors = 0;
    for at in (0..end).step_by(11) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x15;
        fs::write(&path, &changed).unwrap();
        let _ = fs::remove_dir_all(&converted);
        fs::create_dir(&converted).unwrap();
        let result = gguf::convert(&path, &converted).map(|()| Tokenizer::from_folder(&converted).is_ok());
        errors += usize::from(!matches!(result, Ok(true)));
    }
    assert!(errors > 100, "{errors}");
}
