//! Shared by the tests: folders of files, and the corpus that is collected from them.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use artifact::{Context, Digest, Outcome, Recipe, Unsealed};
use data_ingest::{Config, Error, Inventory, LockChange, Source};
use polars::prelude::{DataFrame, ParquetReader, SerReader, Series};

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
    names.retain(|name| name.extension().is_some_and(|extension| extension == "parquet"));
    names.sort();
    names
        .iter()
        .flat_map(|name| rows_of(&ParquetReader::new(fs::File::open(name).unwrap()).finish().unwrap()))
        .collect()
}

fn rows_of(frame: &DataFrame) -> Vec<Row> {
    let text = |column: &str, i: usize| frame.column(column).unwrap().str().unwrap().get(i).map(str::to_owned);
    let row = |i: usize| Row {
        id: text("id", i).unwrap(),
        text: text("text", i),
        raw: frame.column("raw").unwrap().binary().unwrap().get(i).map(<[u8]>::to_vec),
        messages: frame.column("messages").unwrap().list().unwrap().get_as_series(i).map(|turns| messages_of(&turns)),
        source: text("source", i).unwrap(),
        path: text("path", i).unwrap(),
        licence: text("licence", i).unwrap(),
        bytes: frame.column("bytes").unwrap().u64().unwrap().get(i).unwrap(),
        sha256: text("sha256", i).unwrap(),
    };
    (0..frame.height()).map(row).collect()
}

fn messages_of(turns: &Series) -> Vec<(String, String)> {
    let field = |name: &str| {
        let field = turns.struct_().unwrap().field_by_name(name).unwrap();
        field.str().unwrap().iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>()
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
