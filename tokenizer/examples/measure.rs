//! Trains and encodes as `benches/hugging_face.py` does with Hugging Face's tokenizers in Python, on the same files.
//!
//! `cargo run --release -p tokenizer --example measure -- train TOKENIZER.json KIND VOCAB_SIZE PATTERN FILE...`
//! `cargo run --release -p tokenizer --example measure -- encode TOKENIZER.json FILE...`
//!
//! `RAYON_NUM_THREADS` sets the number of threads. Prints seconds, MB/s, and the SHA-256 of all ids as little-endian
//! u32.

use std::error::Error;
use std::path::Path;
use std::time::Instant;
use std::{env, fs};

use artifact::Digest;
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizer::{Tokenizer, TrainConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["train", path, kind, vocab_size, pattern, files @ ..] => {
            let config = TrainConfig {
                kind: serde_json::from_value((*kind).into())?,
                vocab_size: vocab_size.parse()?,
                pattern: serde_json::from_value((*pattern).into())?,
                ..TrainConfig::default()
            };
            train(Path::new(path), &config, &documents(files)?)
        }
        ["encode", path, files @ ..] => encode(Path::new(path), &documents(files)?),
        _ => Err("usage: measure train TOKENIZER KIND VOCAB_SIZE PATTERN FILE... | measure encode TOKENIZER FILE...")?,
    }
}

/// Returns one text for each line of a `.jsonl` file (its `text`), or for each other file.
fn documents(paths: &[&str]) -> Result<Vec<String>, Box<dyn Error>> {
    let mut documents = Vec::new();
    for path in paths {
        let content = fs::read_to_string(path)?;
        if Path::new(path).extension().is_some_and(|extension| extension == "jsonl") {
            for line in content.lines() {
                let document: Value = serde_json::from_str(line)?;
                documents.push(document["text"].as_str().ok_or("a line without `text`")?.to_owned());
            }
        } else {
            documents.push(content);
        }
    }
    Ok(documents)
}

fn train(path: &Path, config: &TrainConfig, texts: &[String]) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let tokenizer = Tokenizer::train(config, texts.iter())?;
    let seconds = start.elapsed().as_secs_f64();
    fs::write(path, tokenizer.to_json())?;
    report("train", texts, seconds, &json!({ "vocab_size": tokenizer.vocab_size(), "digest": tokenizer.digest() }));
    Ok(())
}

fn encode(path: &Path, texts: &[String]) -> Result<(), Box<dyn Error>> {
    let tokenizer = Tokenizer::from_file(path)?;
    let start = Instant::now();
    let encode = |encoder: &mut tokenizer::Encoder<'_>, text: &String| encoder.encode(text);
    let encoded: Vec<Vec<u32>> = texts.par_iter().map_init(|| tokenizer.encoder(), encode).collect::<Result<_, _>>()?;
    let seconds = start.elapsed().as_secs_f64();
    let bytes: Vec<u8> = encoded.iter().flatten().flat_map(|id| id.to_le_bytes()).collect();
    report("encode", texts, seconds, &json!({ "tokens": bytes.len() / 4, "ids": Digest::of(&bytes).to_string() }));
    Ok(())
}

fn report(what: &str, texts: &[String], seconds: f64, more: &Value) {
    let bytes: usize = texts.iter().map(String::len).sum();
    let rate = bytes as f64 / 1e6 / seconds;
    let mut report = json!({ "what": what, "bytes": bytes, "seconds": seconds, "mb_per_second": rate });
    report.as_object_mut().into_iter().for_each(|report| report.extend(more.as_object().cloned().unwrap_or_default()));
    println!("{report}");
}
