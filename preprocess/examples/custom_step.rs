//! Adds a custom step between collect and preprocess as a separate program: reads the documents of a corpus, keeps
//! those that pass a rule, and writes them as JSON lines, which a `pipeline.toml` can use as a source.
//!
//! ```console
//! $ pipeline run --until collect
//! $ cargo run --release --example custom_step -- experiments/artifacts/collect/<fingerprint> kept.jsonl
//! ```
//!
//! ```toml
//! [[collect.sources]]
//! path = "kept.jsonl"
//! ```
//!
//! The corpus is Parquet, so the program could be written in any language. A step that others need too belongs in the
//! crate; see the chapter "Adding a filter" of the book.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use serde_json::json;

/// The rule: keeps documents in which at least half of the lines are not empty.
fn keep(text: &str) -> bool {
    let lines = text.lines().count();
    let not_empty = text.lines().filter(|line| !line.trim().is_empty()).count();
    2 * not_empty >= lines
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(corpus), Some(out)) = (arguments.next(), arguments.next()) else {
        return Err("usage: custom_step CORPUS OUT.jsonl".into());
    };
    let mut writer = BufWriter::new(File::create(&out)?);
    let (mut kept, mut read) = (0, 0);
    for path in documents(Path::new(&corpus))? {
        // Without the Arrow schema that a writer may embed, every column of texts has the same type.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        for rows in ParquetRecordBatchReaderBuilder::try_new_with_options(File::open(&path)?, options)?.build()? {
            let rows = rows?;
            let column = |name: &str| rows[name].as_string::<i32>();
            for (id, text) in column("id").iter().zip(column("text")) {
                // Conversations and bytes that are not UTF-8 are in other columns.
                let (Some(id), Some(text)) = (id, text) else { continue };
                read += 1;
                if keep(text) {
                    kept += 1;
                    writeln!(writer, "{}", json!({ "id": id, "text": text }))?;
                }
            }
        }
    }
    writer.flush()?;
    println!("kept {kept} of {read} documents in {out}");
    Ok(())
}

/// Returns the Parquet files of a corpus in its order.
fn documents(corpus: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(corpus)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("documents-") && name.ends_with(".parquet") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
