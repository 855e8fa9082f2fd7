//! Shared by the tests: folders of files, and the corpus that is collected from them.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, RecordBatch};
use artifact::{Context, Digest, Outcome, Recipe, Unsealed};
use data_ingest::{Config, Error, Inventory, LockChange, Source};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// A row of the corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub text: Option<String>,
    pub raw: Option<Vec<u8>>,
    /// Role and content of each turn.
    pub messages: Option<Vec<(String, String)>>,
    pub source: String,
    pub path: String,
    pub licence: String,
    pub bytes: u64,
    pub sha256: String,
}

/// Writes files, by their path inside `folder`.
pub fn write(folder: &Path, files: &[(&str, &[u8])]) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Returns a context in `base`.
pub fn context(base: &Path) -> Context {
    Context { base: base.to_owned(), ..Context::quiet(1) }
}

/// Returns a configuration of one source, a path.
pub fn path(path: &str) -> Config {
    one(Source { path: Some(path.to_owned()), ..Source::default() })
}

/// Returns a configuration of one source.
pub fn one(source: Source) -> Config {
    Config { sources: vec![source], ..Config::default() }
}

/// Fetches sources that are not in the lock.
pub fn lock(config: &Config, context: &Context) -> Result<Vec<LockChange>, Error> {
    data_ingest::lock(&mut data_ingest::resolve(config, context)?, context)
}

/// Fetches sources again.
pub fn update_lock(config: &Config, context: &Context, sources: &[String]) -> Result<Vec<LockChange>, Error> {
    data_ingest::update_lock(&mut data_ingest::resolve(config, context)?, context, sources)
}

/// Lists and hashes the sources.
pub fn inventory(config: &Config, context: &Context) -> Result<Inventory, Error> {
    data_ingest::inventory(&data_ingest::resolve(config, context)?, context)
}

/// Collects into `out`.
pub fn collect_into(config: &Config, context: &Context, out: &Path) -> Result<Outcome, Error> {
    fs::create_dir_all(out).unwrap();
    let mut resolved = data_ingest::resolve(config, context)?;
    data_ingest::lock(&mut resolved, context)?;
    let inventory = data_ingest::inventory(&resolved, context)?;
    let recipe = Recipe {
        stage: data_ingest::NAME.to_owned(),
        stage_version: data_ingest::VERSION,
        config: config.fingerprint_value(),
        inputs: inventory.inputs(),
        seed: 1,
        device_class: None,
    };
    data_ingest::run(config, &inventory, &Unsealed::at(out, recipe), context)
}

/// Collects, and returns the stage's outcome and the rows it wrote.
pub fn collect(config: &Config, context: &Context) -> Result<(Outcome, Vec<Row>), Error> {
    let out = tempfile::tempdir().unwrap();
    let outcome = collect_into(config, context, out.path())?;
    Ok((outcome, rows(out.path())))
}

/// Returns the documents in `folder`, shard by shard.
pub fn rows(folder: &Path) -> Vec<Row> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.file_name().unwrap().to_str().unwrap().starts_with("documents-"));
    names.sort();
    names.iter().flat_map(|name| batches(name)).flat_map(|batch| rows_of(&batch)).collect()
}

/// Returns what a Parquet file holds.
pub fn batches(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

/// Returns the texts of a column.
pub fn texts(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    batch.column_by_name(column).unwrap().as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let columns = ["id", "text", "source", "path", "licence", "sha256"].map(|name| texts(batch, name));
    let raws = batch.column_by_name("raw").unwrap().as_binary::<i32>();
    let messages = batch.column_by_name("messages").unwrap().as_list::<i32>();
    let bytes = batch.column_by_name("bytes").unwrap().as_primitive::<UInt64Type>();
    let row = |i: usize| {
        let [id, text, source, path, licence, sha256] = columns.each_ref().map(|column| column[i].clone());
        Row {
            id: id.unwrap(),
            text,
            raw: raws.is_valid(i).then(|| raws.value(i).to_vec()),
            messages: messages.is_valid(i).then(|| messages_of(messages.value(i).as_ref())),
            source: source.unwrap(),
            path: path.unwrap(),
            licence: licence.unwrap(),
            bytes: bytes.value(i),
            sha256: sha256.unwrap(),
        }
    };
    (0..batch.num_rows()).map(row).collect()
}

fn messages_of(turns: &dyn Array) -> Vec<(String, String)> {
    let field = |name: &str| {
        let texts = turns.as_struct().column_by_name(name).unwrap().as_string::<i32>();
        texts.iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>()
    };
    field("role").into_iter().zip(field("content")).collect()
}

/// Returns the digests of the files in `folder`.
pub fn digests(folder: &Path) -> BTreeMap<String, Digest> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), Digest::of_file(&path).unwrap().0))
        .collect()
}

/// Returns an error and its causes as the binary prints them.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
