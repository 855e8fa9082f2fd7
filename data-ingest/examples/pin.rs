//! Updates the crates of a `dataset.toml` from a `Cargo.lock`: versions, licences and digests.
//!
//! ```text
//! cargo run --release -p data-ingest --example pin -- datasets/rust-crates/dataset.toml Cargo.lock
//! ```
//!
//! Comments, globs and the order of the sources are kept. If the lock has several versions of a crate, the current one
//! is kept if the lock has it; otherwise the last one listed, the newest, is used.

use std::error::Error;
use std::fs;
use std::path::Path;

use artifact::Context;
use data_ingest::{Config, SourceSummary, inventory, resolve};
use toml_edit::{DocumentMut, Item, Table, value};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dataset, lock] = &arguments[..] else {
        return Err("usage: pin <dataset.toml> <Cargo.lock>".into());
    };
    let mut document: DocumentMut = fs::read_to_string(dataset)?.parse()?;
    let lock: DocumentMut = fs::read_to_string(lock)?.parse()?;
    for source in crates(&mut document) {
        let name = source["crate"].as_str().unwrap_or_default().to_owned();
        let locked = versions(&lock, &name);
        let newest = locked.last().ok_or_else(|| format!("{name} is not in Cargo.lock"))?;
        let current = source.get("version").and_then(Item::as_str);
        if !locked.iter().any(|version| Some(version.as_str()) == current) {
            source["version"] = value(newest.as_str());
        }
        source.remove("licence");
        source.remove("sha256");
    }
    let summaries = summarise(Path::new(dataset), &document)?;
    for source in crates(&mut document) {
        let field = |key: &str| source.get(key).and_then(Item::as_str).unwrap_or_default().to_owned();
        let name = format!("{} {}", field("crate"), field("version"));
        let summary = summaries.iter().find(|summary| summary.name == name).ok_or("two sources have the same name")?;
        source["licence"] = value(summary.licence.as_str());
        source["sha256"] = value(summary.sha256.to_string());
        println!("{:>9} bytes {:>4} files  {name} ({})", summary.bytes, summary.files, summary.licence);
    }
    let bytes: u64 = summaries.iter().map(|summary| summary.bytes).sum();
    println!("{bytes:>9} bytes in {} sources", summaries.len());
    fs::write(dataset, document.to_string())?;
    Ok(())
}

fn crates(document: &mut DocumentMut) -> impl Iterator<Item = &mut Table> {
    let sources = document.get_mut("source").and_then(Item::as_array_of_tables_mut);
    sources.into_iter().flat_map(|sources| sources.iter_mut()).filter(|source| source.contains_key("crate"))
}

fn versions(lock: &DocumentMut, name: &str) -> Vec<String> {
    let packages = lock.get("package").and_then(Item::as_array_of_tables);
    let named = packages.into_iter().flatten().filter(|package| package["name"].as_str() == Some(name));
    named.filter_map(|package| package["version"].as_str().map(str::to_owned)).collect()
}

/// Lists the unpinned dataset, from a file beside the original so that relative paths are the same.
fn summarise(dataset: &Path, document: &DocumentMut) -> Result<Vec<SourceSummary>, Box<dyn Error>> {
    let folder = dataset.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unpinned = tempfile::Builder::new().prefix(".unpinned").suffix(".toml").tempfile_in(folder)?;
    fs::write(unpinned.path(), document.to_string())?;
    let config = Config { dataset: unpinned.path().to_str().map(str::to_owned), ..Config::default() };
    let context = Context::quiet(0);
    Ok(inventory(&resolve(&config, &context)?, &context)?.summaries())
}
