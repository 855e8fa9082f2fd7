//! The arrows between the crates are those of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Which crates of the workspace each may depend on. A new arrow is a decision: it is written here and in
/// ARCHITECTURE.md, or it is not made.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("artifact", &[]),
    ("tokenizer", &["artifact"]),
    ("model", &["artifact", "tokenizer"]),
    ("data-ingest", &["artifact"]),
    ("preprocess", &["artifact", "tokenizer"]),
    ("train", &["artifact", "tokenizer", "model"]),
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
    ("tokio", &["serve"]),
    ("ureq", &["data-ingest", "serve"]),
    ("polars", &["data-ingest", "preprocess", "evaluate"]),
    ("clap", &["pipeline"]),
    ("indicatif", &["pipeline"]),
];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    let members = metadata.workspace_packages();
    let of = |package: &&cargo_metadata::Package| {
        // A test may use what it likes.
        let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        (package.name.to_string(), normal.map(|dependency| dependency.name.clone()).collect())
    };
    members.iter().map(of).collect()
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
