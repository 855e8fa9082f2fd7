//! Tokens artifacts for tests, as stage preprocess writes them.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use artifact::{Context, Host, Outcome, Recipe, Sealed, Unsealed};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use tokenizer::shard::Writer;
use tokenizer::{Tokenizer, TrainConfig};
use trace::{Config, Error, Index};

pub fn unsealed(folder: &Path) -> Unsealed {
    fs::create_dir_all(folder).unwrap();
    let recipe = Recipe {
        stage: "test".to_owned(),
        stage_version: 1,
        config: serde_json::json!({}),
        inputs: BTreeMap::new(),
        seed: 0,
        device_class: None,
    };
    Unsealed::at(folder, recipe)
}

pub fn seal(unsealed: Unsealed, outcome: Outcome) -> Sealed {
    unsealed.seal(outcome, 0.0, Host::default()).unwrap()
}

/// Returns a tokenizer whose tokens are words, with the end-of-text token as the first.
pub fn words(vocab_size: usize) -> Tokenizer {
    let name = |id: usize| if id == 0 { "<|endoftext|>".to_owned() } else { format!("w{id}") };
    let vocabulary: BTreeMap<String, usize> = (0..vocab_size).map(|id| (name(id), id)).collect();
    let model = serde_json::json!({ "type": "WordLevel", "vocab": vocabulary, "unk_token": "w1" });
    let json = serde_json::json!({ "version": "1.0", "added_tokens": [], "model": model });
    Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
}

/// Returns a byte-level tokenizer trained on some texts.
pub fn trained<T: AsRef<str> + Sync + Send>(texts: &[T], vocab_size: usize) -> Tokenizer {
    let config = TrainConfig { vocab_size, ..TrainConfig::default() };
    Tokenizer::train(&config, texts.iter().map(AsRef::as_ref)).unwrap()
}

/// The documents of a train split: tokens without their end.
pub type Documents = Vec<Vec<u32>>;

/// Writes documents as the train split, in shards of `shard_bytes`.
pub fn write(folder: &Path, tokenizer: &Tokenizer, documents: &Documents, shard_bytes: u64) -> Sealed {
    let out = unsealed(folder);
    fs::write(out.path("tokenizer.json"), tokenizer.to_json()).unwrap();
    let mut writer = Writer::new(folder, "train", tokenizer, shard_bytes);
    for document in documents {
        let ids: Vec<u32> = document.iter().copied().chain(tokenizer.end_of_text()).collect();
        writer.push(&ids, 1).unwrap();
    }
    writer.finish().unwrap();
    seal(out, Outcome::default())
}

/// Adds the tables of the documents, which are in the corpus in the opposite order, after one that is in no split.
pub fn write_tables(folder: &Path, documents: usize) {
    let texts = |text: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..=documents).map(text)))
    };
    let columns = [
        ("id", texts(&|row| format!("doc-{row}"))),
        ("piece", Arc::new(UInt32Array::from_iter_values((0..=documents).map(|row| row as u32 % 2)))),
        ("source", texts(&|row| format!("source {}", row % 3))),
        ("path", texts(&|row| format!("src/{row}.rs"))),
        ("licence", texts(&|row| if row == 1 { "MIT".to_owned() } else { "CC0-1.0".to_owned() })),
    ];
    write_table(&folder.join("signals.parquet"), columns);
    let splits = (0..=documents).map(|place| if place == documents { "test" } else { "train" });
    let rows = (0..=documents).map(|place| (documents - place) as u32);
    let columns: [(&str, ArrayRef); 2] = [
        ("split", Arc::new(StringArray::from_iter_values(splits))),
        ("row", Arc::new(UInt32Array::from_iter_values(rows))),
    ];
    write_table(&folder.join("order.parquet"), columns);
}

fn write_table<'a>(path: &Path, columns: impl IntoIterator<Item = (&'a str, ArrayRef)>) {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

/// An index in a folder of its own.
pub struct Built {
    pub index: Index,
    pub sealed: Sealed,
    _folder: TempDir,
}

/// Builds the index of documents in shards of `shard_bytes`, in blocks of `block_tokens`.
pub fn build(tokenizer: &Tokenizer, documents: &Documents, shard_bytes: u64, block_tokens: u64) -> Built {
    let folder = tempfile::tempdir().unwrap();
    let tokens = write(&folder.path().join("tokens"), tokenizer, documents, shard_bytes);
    let config = Config { block_tokens, ..Config::default() };
    let sealed = run(&config, &tokens, &folder.path().join("index")).unwrap();
    Built { index: Index::open(&sealed).unwrap(), sealed, _folder: folder }
}

/// Runs the stage.
pub fn run(config: &Config, tokens: &Sealed, folder: &Path) -> Result<Sealed, Error> {
    let out = unsealed(folder);
    let outcome = trace::run(config, tokens, &out, &Context::quiet(0))?;
    Ok(seal(out, outcome))
}
