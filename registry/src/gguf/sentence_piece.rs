//! BPE of `SentencePiece`, the kind `llama`: characters with ▁ for a space, bytes for other characters, and scores.
//!
//! `SentencePiece` joins the two neighbours whose union is the token of the highest score; `tokenizer.json` has all
//! pairs that make a token as merges, in the order of the scores. They are equal if every pair of tokens whose union is
//! a token is a merge, and the merges of a token follow each other.

use std::collections::{HashMap, HashSet};

use model::gguf::{Array, Metadata, Value};
use serde_json::{Value as Json, json};

use super::MODEL;
use super::byte_level::pair;
use super::vocabulary::{TokenType, Vocabulary};
use crate::Error;

/// The key of the scores.
const SCORES: &str = "tokenizer.ggml.scores";

/// The key for a space that is added before a text.
const SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// The space of `SentencePiece`.
const SPACE: &str = "▁";

/// Returns true if a `tokenizer.json` is one of this kind: BPE with bytes for characters that are no tokens.
pub(super) fn is_of_kind(json: &Json) -> bool {
    json["model"]["type"] == "BPE" && json["model"]["byte_fallback"] == true
}

/// Adds the keys of a tokenizer. Returns what differs from it, in words.
///
/// # Errors
/// Returns the reason if llama.cpp does not encode as it does.
pub(super) fn write(json: &Json, vocabulary: Vocabulary, metadata: &mut Metadata) -> Result<Vec<String>, String> {
    let (adds_space, note) = adds_space(json)?;
    let merges = json["model"]["merges"].as_array().into_iter().flatten().map(pair).collect::<Option<Vec<_>>>();
    let merges = merges.ok_or_else(|| "its merges are not pairs of tokens".to_owned())?;
    let scores = scores(&vocabulary, &merges)?;
    metadata.set(MODEL, "llama");
    metadata.set("tokenizer.ggml.pre", "default");
    metadata.set(SPACE_PREFIX, adds_space);
    vocabulary.write(metadata);
    metadata.set(SCORES, Value::Array(Array::F32(scores)));
    Ok(note.into_iter().map(str::to_owned).collect())
}

/// Returns whether a space is added before a text, and what llama.cpp does differently there.
fn adds_space(json: &Json) -> Result<(bool, Option<&'static str>), String> {
    let unknown = |what: &str, json: &Json| Err(format!("it has the {what} {json}, which llama.cpp does not know"));
    let replaces =
        |step: &Json| step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == SPACE;
    let normalizer = &json["normalizer"];
    let steps = normalizer["normalizers"].as_array().filter(|_| normalizer["type"] == "Sequence");
    let (adds, replaced) = match steps.map(Vec::as_slice) {
        Some([prepend, replace]) if prepend["prepend"] == SPACE && replaces(replace) => (true, true),
        Some([replace]) if replaces(replace) => (false, true),
        None if normalizer.is_null() => (false, false),
        None if replaces(normalizer) => (false, true),
        _ => return unknown("normalizer", normalizer),
    };
    let pre_tokenizer = &json["pre_tokenizer"];
    // A text whose spaces are replaced has none to split at.
    let is_idle =
        pre_tokenizer.is_null() || (pre_tokenizer["type"] == "Split" && pre_tokenizer["pattern"]["String"] == " ");
    if replaced && is_idle {
        return Ok((adds, None));
    }
    let is_metaspace = pre_tokenizer["type"] == "Metaspace" && pre_tokenizer["replacement"] == SPACE;
    if !replaced && is_metaspace && pre_tokenizer["split"] == false {
        let adds = pre_tokenizer["prepend_scheme"] != "never" && pre_tokenizer["add_prefix_space"] != false;
        return Ok((adds, adds.then_some("llama.cpp adds a space before a text that begins with one, too")));
    }
    unknown("pre-tokenizer", pre_tokenizer)
}

/// Returns the score of each token: minus the number of tokens that are made before it.
fn scores(vocabulary: &Vocabulary, merges: &[(&str, &str)]) -> Result<Vec<f32>, String> {
    let differs =
        |problem: String| Err(format!("its merges are not those of SentencePiece, as llama.cpp's: {problem}"));
    let is_piece = |token_type| matches!(token_type, TokenType::Normal | TokenType::Byte);
    let pieces: HashSet<&str> =
        vocabulary.used().filter(|(.., token_type)| is_piece(*token_type)).map(|(_, token, _)| token).collect();
    let known: HashSet<(&str, &str)> = merges.iter().copied().collect();
    let mut ranks = HashMap::<String, usize>::new();
    let mut last = String::new();
    for (left, right) in merges {
        let token = format!("{left}{right}");
        if token != last {
            let rank = ranks.len();
            if ranks.insert(token.clone(), rank).is_some() {
                return differs(format!("those of `{token}` do not follow each other"));
            }
            last = token;
        }
    }
    for token in &pieces {
        let is_made = ranks.contains_key(*token);
        let splits = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        for (left, right) in splits.filter(|_| is_made) {
            if pieces.contains(left) && pieces.contains(right) && !known.contains(&(left, right)) {
                return differs(format!("`{left}` and `{right}` do not become `{token}`"));
            }
        }
    }
    Ok(vocabulary.tokens.iter().map(|token| ranks.get(token).map_or(0.0, |rank| -(*rank as f32))).collect())
}

/// Returns the `tokenizer.json` of a file.
///
/// # Errors
/// Names the key that is missing, wrong or not supported.
pub(super) fn read(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Json, Error> {
    let scores = match metadata.get(SCORES) {
        Some(Value::Array(Array::F32(scores))) if scores.len() == vocabulary.tokens.len() => scores,
        None => return Err(metadata.wrong(SCORES, "is missing").into()),
        Some(_) => return Err(metadata.wrong(SCORES, "is not one number for each token").into()),
    };
    let adds_space = metadata.bool(SPACE_PREFIX)?.unwrap_or(true);
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let normalizer = if adds_space {
        json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace(" ", SPACE)]})
    } else {
        replace(" ", SPACE)
    };
    let mut decoders = vec![replace(SPACE, " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if adds_space {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unknown = match vocabulary.special(metadata, "unknown")? {
        Some((_, token)) => Some(token),
        None => vocabulary.used().find(|(.., token_type)| *token_type == TokenType::Unknown).map(|(_, token, _)| token),
    };
    let merges = merges(vocabulary, scores);
    let post_processor = vocabulary.post_processor(metadata, true)?;
    let (tokens, added_tokens) = vocabulary.to_json();
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": normalizer,
        "pre_tokenizer": null,
        "post_processor": post_processor,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": tokens,
            "merges": merges,
        },
    }))
}

/// Returns all pairs of tokens whose union is a token, in the order of the scores; those of one token as transformers
/// orders them, the longest left side first.
fn merges(vocabulary: &Vocabulary, scores: &[f32]) -> Vec<Json> {
    let pieces = || vocabulary.used().filter(|(.., token_type)| *token_type == TokenType::Normal);
    let known: HashSet<&str> = pieces().map(|(_, token, _)| token).collect();
    let mut merges = Vec::new();
    for (id, token, _) in pieces() {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if known.contains(left) && known.contains(right) {
                merges.push((scores[id], id, left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(b.2.len().cmp(&a.2.len())));
    merges.into_iter().map(|(_, _, left, right)| json!([left, right])).collect()
}
