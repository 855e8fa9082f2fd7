//! Byte-level BPE, the kind `gpt2`: tokens, merges, and the name of a pre-tokenizer.

use model::gguf::{Array, Metadata, Value};
use serde_json::{Value as Json, json};

use super::MODEL;
use super::pre_tokenizers::{PRE_TOKENIZERS, Steps};
use super::vocabulary::Vocabulary;
use crate::Error;

/// The key of the pre-tokenizer's name.
const PRE: &str = "tokenizer.ggml.pre";

/// The key of the merges.
const MERGES: &str = "tokenizer.ggml.merges";

/// A key of this project: whether text is normalised to NFC, which llama.cpp's names of pre-tokenizers do not tell.
const NORMALIZER: &str = "tokenizer.normalizer";

/// Adds the keys of a tokenizer. Returns what differs from it, in words.
///
/// # Errors
/// Returns the reason if llama.cpp does not encode as it does.
pub(super) fn write(json: &Json, vocabulary: Vocabulary, metadata: &mut Metadata) -> Result<Vec<String>, String> {
    let model = &json["model"];
    if json["decoder"]["type"] != "ByteLevel" {
        return Err("its tokens are neither bytes nor those of SentencePiece".to_owned());
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[key].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(format!("it has a {key}, which llama.cpp does not know"));
        }
    }
    let steps = Steps::of_json(&json["pre_tokenizer"])?;
    let ignores_merges = model["ignore_merges"] == true;
    let known = PRE_TOKENIZERS.iter().find(|known| known.matches(&steps, ignores_merges));
    let known = known.ok_or_else(|| {
        let names: Vec<_> = PRE_TOKENIZERS.iter().map(|known| known.names[0]).collect();
        let ignoring = if ignores_merges { " (with `ignore_merges`)" } else { "" };
        format!("llama.cpp has no pre-tokenizer {steps}{ignoring}; it has those of {}", names.join(", "))
    })?;
    let (normalizer, mut notes) = match json["normalizer"]["type"].as_str() {
        None => ("none", Vec::new()),
        Some("NFC") => ("nfc", vec!["llama.cpp does not normalise text to NFC, as this tokenizer does".to_owned()]),
        Some(other) => return Err(format!("it has the normalizer {other}, which llama.cpp does not know")),
    };
    if model["fuse_unk"] == true && model["unk_token"].is_string() {
        notes.push("llama.cpp does not join unknown characters to one token".to_owned());
    }
    let merges = model["merges"].as_array().into_iter().flatten().map(pair).collect::<Option<Vec<_>>>();
    let merges = merges.ok_or_else(|| "its merges are not pairs of tokens".to_owned())?;
    metadata.set(MODEL, "gpt2");
    metadata.set(PRE, known.names[0]);
    metadata.set(NORMALIZER, normalizer);
    vocabulary.write(metadata);
    let merges = merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
    metadata.set(MERGES, Value::Array(Array::String(merges)));
    Ok(notes)
}

/// Returns the two tokens of a merge: a pair, or both in one text.
pub(super) fn pair(merge: &Json) -> Option<(&str, &str)> {
    match merge {
        Json::String(text) => text.split_once(' '),
        _ => Some((merge[0].as_str()?, merge[1].as_str()?)),
    }
}

/// Returns the `tokenizer.json` of a file.
///
/// # Errors
/// Names the key that is missing, wrong or not supported.
pub(super) fn read(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Json, Error> {
    let name = metadata.string(PRE)?.ok_or_else(|| metadata.wrong(PRE, "is missing"))?;
    let Some(known) = PRE_TOKENIZERS.iter().find(|known| known.names.contains(&name)) else {
        let names: Vec<_> = PRE_TOKENIZERS.iter().flat_map(|known| known.names).copied().collect();
        let reason = format!("is {name}, which is not supported; one of {}", names.join(", "));
        return Err(metadata.wrong(PRE, reason).into());
    };
    let normalizer = match metadata.string(NORMALIZER)? {
        None if known.is_nfc => json!({"type": "NFC"}),
        None | Some("none") => Json::Null,
        Some("nfc") => json!({"type": "NFC"}),
        Some(_) => return Err(metadata.wrong(NORMALIZER, "is neither none nor nfc").into()),
    };
    let merges = metadata.strings(MERGES)?.ok_or_else(|| metadata.wrong(MERGES, "is missing"))?;
    let merges: Option<Vec<_>> = merges.iter().map(|merge| merge.split_once(' ').map(|(a, b)| json!([a, b]))).collect();
    let merges = merges.ok_or_else(|| metadata.wrong(MERGES, "has one that is not two tokens"))?;
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let post_processor = match vocabulary.post_processor(metadata, known.adds_bos)? {
        None => bytes.clone(),
        Some(template) => json!({"type": "Sequence", "processors": [bytes, template]}),
    };
    let (vocabulary, added_tokens) = vocabulary.to_json();
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": normalizer,
        "pre_tokenizer": known.to_json(),
        "post_processor": post_processor,
        "decoder": bytes,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": known.ignores_merges,
            "vocab": vocabulary,
            "merges": merges,
        },
    }))
}
