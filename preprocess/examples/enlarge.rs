//! Makes a large corpus from a small one by repeating its documents with edits, for measurements at scale.
//!
//! `cargo run --release -p preprocess --example enlarge -- DOCUMENTS.jsonl FOLDER BYTES` reads JSON lines with a `text`
//! and writes files of 256 MiB. One copy in ten is unchanged, two in ten have one word in a hundred replaced by another
//! of the corpus (near duplicates), and the rest have three words in ten replaced (other texts).

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// The size of a file.
const FILE_BYTES: u64 = 256 << 20;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or_else(|| format!("missing: {what}"));
    let (documents, folder) = (next("DOCUMENTS.jsonl")?, PathBuf::from(next("FOLDER")?));
    let total: u64 = next("BYTES")?.parse()?;
    let mut texts = Vec::new();
    for line in fs::read_to_string(documents)?.lines() {
        let value: Value = serde_json::from_str(line)?;
        texts.push(value["text"].as_str().ok_or("a line has no `text`")?.to_owned());
    }
    let words: Vec<&str> = texts.iter().flat_map(|text| text.split_whitespace()).collect();
    let mut random = ChaCha8Rng::seed_from_u64(1337);
    fs::create_dir_all(&folder)?;
    let (mut written, mut number) = (0, 0);
    for file in 0.. {
        if written >= total {
            break;
        }
        let mut to = BufWriter::new(File::create(folder.join(format!("part-{file:05}.jsonl")))?);
        let mut bytes = 0;
        while bytes < FILE_BYTES && written + bytes < total {
            let text = &texts[number % texts.len()];
            let share = match random.random_range(0..10) {
                0 => 0.0,
                1 | 2 => 0.01,
                _ => 0.3,
            };
            let line =
                json!({ "id": number.to_string(), "text": edited(text, share, &words, &mut random) }).to_string();
            writeln!(to, "{line}")?;
            bytes += line.len() as u64 + 1;
            number += 1;
        }
        to.flush()?;
        written += bytes;
    }
    println!("{number} documents, {written} bytes in {}", folder.display());
    Ok(())
}

/// Returns `text` with a fraction of its words replaced by random ones of `words`; white space stays.
fn edited(text: &str, share: f64, words: &[&str], random: &mut ChaCha8Rng) -> String {
    if share == 0.0 {
        return text.to_owned();
    }
    let mut edited = String::with_capacity(text.len());
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end_matches(char::is_whitespace);
        let kept = word.is_empty() || !random.random_bool(share);
        edited.push_str(if kept { word } else { words[random.random_range(0..words.len())] });
        edited.push_str(&piece[word.len()..]);
    }
    edited
}
