//! The default dataset matches Cargo.lock and the crates it names.

mod corpus;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use corpus::{context, inventory};
use data_ingest::Config;

/// Licences that permit training on, and redistributing, the text.
const PERMISSIVE: [&str; 6] = ["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "Unlicense", "ISC"];

const ADVICE: &str =
    "run: cargo run --release -p data-ingest --example pin -- datasets/rust-crates/dataset.toml Cargo.lock";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn dataset() -> toml::Table {
    let text = std::fs::read_to_string(root().join("datasets/rust-crates/dataset.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

fn text<'a>(table: &'a toml::Value, key: &str) -> &'a str {
    table.get(key).and_then(toml::Value::as_str).unwrap_or_else(|| panic!("no `{key}` in {table}"))
}

#[test]
fn every_version_is_in_the_lock() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let lock: toml::Table = toml::from_str(&lock).unwrap();
    let packages = lock["package"].as_array().unwrap();
    let locked: BTreeSet<_> =
        packages.iter().map(|package| (text(package, "name"), text(package, "version"))).collect();
    let dataset = dataset();
    for source in dataset["source"].as_array().unwrap() {
        let name = (text(source, "crate"), text(source, "version"));
        assert!(locked.contains(&name), "{name:?} is not in Cargo.lock; {ADVICE}");
    }
}

#[test]
fn every_crate_is_as_pinned_and_permissively_licensed() {
    let dataset = dataset();
    for source in dataset["source"].as_array().unwrap() {
        // Without these keys, nothing would be compared below.
        let (licence, _) = (text(source, "licence"), text(source, "sha256"));
        let words = licence.split([' ', '/', '(', ')']).filter(|word| !["OR", "AND", ""].contains(word));
        let allowed = words.clone().filter(|word| PERMISSIVE.contains(word)).count();
        let enough = if licence.contains("AND") { words.count() } else { 1 };
        assert!(allowed >= enough, "{} is under {licence}", text(source, "crate"));
    }
    let config = Config { dataset: Some("datasets/rust-crates".to_owned()), ..Config::default() };
    // The inventory compares digests and licences with those of the crates' sources.
    let begun = Instant::now();
    let inventory = inventory(&config, &context(root())).unwrap_or_else(|error| panic!("{error}; {ADVICE}"));
    println!("listed and hashed in {:?}", begun.elapsed());
    let summaries = inventory.summaries();
    let bytes: u64 = summaries.iter().map(|summary| summary.bytes).sum();
    assert!(summaries.len() >= 30, "{} sources", summaries.len());
    assert!((10_000_000..=40_000_000).contains(&bytes), "{bytes} bytes");
}
