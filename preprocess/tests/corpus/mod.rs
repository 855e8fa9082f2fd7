//! Test corpora in the format that stage collect writes.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, Float64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::Field;
use artifact::{Host, Outcome, Recipe, Sealed, Unsealed};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use preprocess::{Config, LengthConfig, TokenizerConfig};
use serde_json::json;

/// A document of a corpus: id, source, content.
pub type Document = (String, String, Vec<u8>);

pub fn document(id: &str, content: impl AsRef<[u8]>) -> Document {
    (id.to_owned(), "crate a 1.0".to_owned(), content.as_ref().to_vec())
}

/// Returns distinct documents that look like code and contain special tokens and other scripts.
pub fn documents(count: usize) -> Vec<Document> {
    let text = |i: usize| {
        let lines = (0..4 + i % 7).map(|line| format!("    let value_{line} = compute({i}, {});\n", line * 31 + i));
        let body: String = lines.collect();
        format!("/// Returns the {i}th: «é日本» <|endoftext|>.\nfn number_{i}() -> usize {{\n{body}    value_0\n}}\n")
    };
    (0..count).map(|i| document(&format!("doc-{i:04}"), text(i))).collect()
}

/// Writes a corpus in the format of stage collect, with `per_file` documents per file.
pub fn write(folder: &Path, documents: &[Document], per_file: usize) -> Sealed {
    for (number, documents) in documents.chunks(per_file).enumerate() {
        let column = |value: &dyn Fn(&Document) -> String| texts(documents.iter().map(|d| Some(value(d))));
        let text = |d: &Document| String::from_utf8(d.2.clone()).ok();
        let raws = documents.iter().map(|d| text(d).is_none().then_some(&d.2));
        let columns = [
            ("id", column(&|d| d.0.clone())),
            ("text", texts(documents.iter().map(text))),
            ("raw", Arc::new(raws.collect::<BinaryArray>()) as ArrayRef),
            ("source", column(&|d| d.1.clone())),
            ("path", column(&|d| format!("src/{}.rs", d.0))),
            ("licence", column(&|_| "MIT OR Apache-2.0".to_owned())),
        ];
        write_file(folder, number, columns);
    }
    seal(folder, Outcome::default())
}

/// A conversation: roles and contents.
pub type Chat = Vec<(&'static str, String)>;

/// Writes a corpus of conversations, with weights for the first of them.
pub fn write_chats(folder: &Path, chats: &[Chat], weights: &[f64]) -> Sealed {
    let turns = || chats.iter().flatten();
    let turns = StructArray::try_from(vec![
        ("role", texts(turns().map(|turn| Some(turn.0.to_owned())))),
        ("content", texts(turns().map(|turn| Some(turn.1.clone())))),
    ]);
    let turns = turns.unwrap();
    let item = Arc::new(Field::new_list_field(turns.data_type().clone(), false));
    let messages = ListArray::new(item, OffsetBuffer::from_lengths(chats.iter().map(Vec::len)), Arc::new(turns), None);
    let n = chats.len();
    let column = |value: fn(usize) -> String| texts((0..n).map(|i| Some(value(i))));
    let columns = [
        ("id", column(|i| format!("doc-{i:04}"))),
        ("text", Arc::new(StringArray::new_null(n)) as ArrayRef),
        ("raw", Arc::new(BinaryArray::new_null(n))),
        ("messages", Arc::new(messages)),
        ("weight", Arc::new((0..n).map(|i| weights.get(i).copied()).collect::<Float64Array>())),
        ("source", column(|_| "a".to_owned())),
        ("path", column(|_| "a.jsonl".to_owned())),
        ("licence", column(|_| "MIT".to_owned())),
    ];
    write_file(folder, 0, columns);
    seal(folder, Outcome::default())
}

/// Returns a column of texts.
pub fn texts(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// Writes file `number` of a corpus.
pub fn write_file<'a>(folder: &Path, number: usize, columns: impl IntoIterator<Item = (&'a str, ArrayRef)>) {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let file = File::create(folder.join(format!("documents-{number:05}.parquet"))).unwrap();
    // Several row groups per file, as in a real corpus.
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(4)).build();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

pub fn unsealed(folder: &Path) -> Unsealed {
    let recipe = Recipe {
        stage: preprocess::NAME.to_owned(),
        stage_version: preprocess::VERSION,
        config: json!({}),
        inputs: BTreeMap::new(),
        seed: 0,
        device_class: None,
    };
    Unsealed::at(folder, recipe)
}

pub fn seal(folder: &Path, outcome: Outcome) -> Sealed {
    unsealed(folder).seal(outcome, 0.0, Host::default()).unwrap()
}

/// Returns a configuration for a corpus of a few dozen documents.
pub fn small() -> Config {
    Config {
        validation: 0.2,
        test: 0.2,
        tokenizer: TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() },
        ..Config::default()
    }
}

/// Returns a configuration without a minimum length.
pub fn short() -> Config {
    Config { length: LengthConfig { min_bytes: 1, ..LengthConfig::default() }, ..small() }
}

/// Returns documents of many lengths, none similar to another: lines of random words.
pub fn unlike(count: usize) -> Vec<Document> {
    const WORDS: &str = "river stone lamp winter garden letter music window bridge forest silver engine harbour mirror \
        candle shadow market valley thunder ribbon copper meadow signal basket anchor feather island kettle ladder \
        marble needle orchard pillow quarry rocket saddle tunnel violet walnut yellow zipper";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let text = |i: usize| {
        // The linear congruential generator of Numerical Recipes; its high bits are random enough to draw words.
        let mut state = i as u32 + 1;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % below
        };
        let mut line = |_| {
            let drawn: Vec<&str> = (0..6).map(|_| words[draw(words.len())]).collect();
            format!("the {} and the {}.\n", drawn[..3].join(" "), drawn[3..].join(" "))
        };
        (0..4 + i % 7).map(&mut line).collect::<String>()
    };
    (0..count).map(|i| document(&format!("doc-{i:04}"), text(i))).collect()
}
