//! The dependencies between the crates are those of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The crates of the workspace that each may depend on. A new dependency is a decision: it is added here and to
/// ARCHITECTURE.md, or it is not made.
const ALLOWED: [(&str, &[&str]); 22] = [
    ("artifact", &[]),
    ("settings", &[]),
    ("fetch", &["artifact", "settings"]),
    ("parquet-validation", &[]),
    ("tokenizer", &["artifact"]),
    ("media", &[]),
    ("kernels", &[]),
    ("model", &["artifact", "tokenizer", "kernels"]),
    ("codec", &["artifact", "kernels", "model"]),
    ("inference", &["artifact", "kernels", "model", "tokenizer"]),
    ("registry", &["artifact", "fetch", "inference", "model", "tokenizer"]),
    ("data-ingest", &["artifact", "fetch", "media", "parquet-validation", "settings"]),
    ("redact", &[]),
    ("preprocess", &["artifact", "redact", "settings", "tokenizer"]),
    ("train", &["artifact", "codec", "inference", "kernels", "model", "tokenizer"]),
    ("optimize", &["artifact", "inference", "kernels", "model", "registry", "tokenizer"]),
    ("trace", &["artifact", "tokenizer"]),
    ("generate", &["artifact", "inference", "model", "tokenizer"]),
    ("evaluate", &["artifact", "generate", "inference", "model", "parquet-validation", "redact", "tokenizer", "trace"]),
    ("serve", &["artifact", "generate", "inference", "model", "tokenizer", "trace"]),
    (
        "pipeline",
        &[
            "artifact",
            "data-ingest",
            "evaluate",
            "fetch",
            "generate",
            "model",
            "optimize",
            "preprocess",
            "registry",
            "serve",
            "settings",
            "tokenizer",
            "trace",
            "train",
        ],
    ),
    ("test-support", &["artifact", "model", "tokenizer"]),
];

/// Crates that only some crates of the workspace may depend on.
const FORBIDDEN_DEPENDENCIES: [(&str, &[&str]); 8] = [
    ("axum", &["serve"]),
    ("tokio", &["fetch", "serve"]),
    // `evaluate` asks a model server that the user names, and nothing else; the stage has none.
    ("ureq", &["evaluate", "fetch", "serve"]),
    ("object_store", &["fetch"]),
    // `trace` reads whose document each of the tokens is, which stage preprocess records in tables; `evaluate` reads
    // the items of tasks.
    ("parquet", &["data-ingest", "evaluate", "parquet-validation", "preprocess", "trace"]),
    ("clap", &["pipeline"]),
    ("indicatif", &["pipeline"]),
    // `pipeline` and the crates of text compute no tensors.
    ("burn", &["kernels", "model", "codec", "inference", "registry", "train", "optimize", "generate", "evaluate"]),
];

/// Returns the dependencies of each crate of the workspace, without those of tests.
///
/// Runs Cargo directly: the `cargo_metadata` crate enables a feature of `serde_json` that the binary does not have,
/// with which everything above `serde_json` would be compiled twice, once for the tests and once for the binary.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path", manifest];
    let output = Command::new(env!("CARGO")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let of = |package: &Value| {
        // Tests may use anything.
        let normal = package["dependencies"].as_array().unwrap().iter().filter(|one| one["kind"].is_null());
        (name(package), normal.map(name).collect())
    };
    metadata["packages"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn every_dependency_is_allowed_and_no_crate_is_missing() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(name, others)| (*name, others.iter().copied().collect())).collect();
    let found = dependencies();
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), allowed.keys().copied().collect::<Vec<_>>());
    for (name, dependencies) in &found {
        let found: BTreeSet<&str> =
            dependencies.iter().map(String::as_str).filter(|other| allowed.contains_key(other)).collect();
        let wrong: Vec<_> = found.difference(&allowed[name.as_str()]).collect();
        assert!(wrong.is_empty(), "{name} depends on {wrong:?}, which ARCHITECTURE.md does not allow");
    }
}

#[test]
fn forbidden_dependencies_are_absent() {
    for (outside, users) in FORBIDDEN_DEPENDENCIES {
        for (name, dependencies) in dependencies() {
            assert!(
                !dependencies.contains(outside) || users.contains(&name.as_str()),
                "{name} depends on {outside}, which only {users:?} may"
            );
        }
    }
}
