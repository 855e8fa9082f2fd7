//! The arrows between the crates are those of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Which crates of the workspace each may depend on. A new arrow is a decision: it is written here and in
/// ARCHITECTURE.md, or it is not made.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("artifact", &[]),
    ("tokenizer", &["artifact"]),
    ("kernels", &[]),
    ("model", &["artifact", "tokenizer", "kernels"]),
    ("data-ingest", &["artifact"]),
    ("preprocess", &["artifact", "tokenizer"]),
    ("train", &["artifact", "tokenizer", "kernels", "model"]),
    ("optimize", &["artifact", "tokenizer", "model"]),
    ("generate", &["artifact", "tokenizer", "model"]),
    ("evaluate", &["artifact", "tokenizer", "model", "generate"]),
    ("serve", &["artifact", "tokenizer", "model", "generate"]),
    (
        "pipeline",
        &[
            "artifact",
            "tokenizer",
            "model",
            "data-ingest",
            "preprocess",
            "train",
            "optimize",
            "evaluate",
            "generate",
            "serve",
        ],
    ),
];

/// Crates that only some rooms may know, whatever else changes: what each wall is for.
const WALLS: [(&str, &[&str]); 6] = [
    ("axum", &["serve"]),
    ("tokio", &["data-ingest", "serve"]),
    ("ureq", &["data-ingest", "serve"]),
    ("polars", &["data-ingest", "preprocess", "evaluate"]),
    ("clap", &["pipeline"]),
    ("indicatif", &["pipeline"]),
];

/// Returns what each crate of the workspace depends on, tests apart.
///
/// Cargo is asked directly: the `cargo_metadata` crate turns on a feature of `serde_json` that the binary does not have,
/// and with it everything above `serde_json` would be compiled twice, once for the tests and once for the run.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path", manifest];
    let output = Command::new(env!("CARGO")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let of = |package: &Value| {
        // A test may use what it likes.
        let normal = package["dependencies"].as_array().unwrap().iter().filter(|one| one["kind"].is_null());
        (name(package), normal.map(name).collect())
    };
    metadata["packages"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn every_arrow_is_allowed_and_no_crate_is_unlisted() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(name, arrows)| (*name, arrows.iter().copied().collect())).collect();
    let found = dependencies();
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), allowed.keys().copied().collect::<Vec<_>>());
    for (name, dependencies) in &found {
        let arrows: BTreeSet<&str> =
            dependencies.iter().map(String::as_str).filter(|other| allowed.contains_key(other)).collect();
        let wrong: Vec<_> = arrows.difference(&allowed[name.as_str()]).collect();
        assert!(wrong.is_empty(), "{name} depends on {wrong:?}, which ARCHITECTURE.md does not allow");
    }
}

#[test]
fn walls_keep_what_they_are_for() {
    for (outside, rooms) in WALLS {
        for (name, dependencies) in dependencies() {
            assert!(
                !dependencies.contains(outside) || rooms.contains(&name.as_str()),
                "{name} depends on {outside}, which is for {rooms:?} alone"
            );
        }
    }
}
