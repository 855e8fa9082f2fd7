//! Datasets, filtering decisions, and preprocess divided between machines.

use std::fs;

use crate::project::Project;

#[test]
fn a_run_merges_the_shards_of_preprocess() {
    let project = Project::new();
    let early = project.fails(1, &["run", "--shard", "1/2"]);
    assert!(early.contains("run --until collect"), "{early}");
    project.succeeds(&["run", "--until", "preprocess"]);
    let store = ["--set", "store=shared"];
    project.succeeds(&[&["run", "--until", "collect"][..], &store].concat());
    for part in ["2/2", "1/2"] {
        let out = project.succeeds(&[&["run", "--shard", part][..], &store].concat());
        assert!(out.starts_with(&format!("Part {} of 2 is done.", &part[..1])), "{out}");
    }
    project.succeeds(&[&["run", "--until", "preprocess"][..], &store].concat());
    let shared = |file: &str| {
        let folder = project.path("shared/artifacts/preprocess");
        let artifact = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
        fs::read(artifact.join(file)).unwrap()
    };
    let alone = project.artifact("tiny-001", "preprocess");
    for file in ["train-00000.safetensors", "signals.parquet", "tokenizer.json", "report.json"] {
        assert!(fs::read(alone.join(file)).unwrap() == shared(file), "{file}");
    }
    let out = project.succeeds(&[&["run", "--shard", "1/2"][..], &store].concat());
    assert!(out.starts_with("Nothing to do"), "{out}");
    let wrong = project.fails(1, &["run", "--shard", "3/2"]);
    assert!(wrong.contains("part 3 of 2 does not exist"), "{wrong}");
}

#[test]
fn dropped_documents_are_shown_and_other_thresholds_evaluated() {
    let project = Project::new();
    let text = fs::read_to_string(project.path("texts/03.rs")).unwrap();
    project.write("texts/copy.rs", &text);
    project.succeeds(&["run", "--until", "preprocess"]);
    let dropped = project.succeeds(&["data", "dropped", "--by", "exact_duplicates"]);
    assert!(dropped.contains("dropped by exact_duplicates") && dropped.contains("kept instead: "), "{dropped}");
    assert!(dropped.contains("1 to 1 of 1 dropped by exact_duplicates"), "{dropped}");
    let near = project.fails(1, &["data", "dropped", "--by", "exact_duplicate"]);
    assert!(near.contains("did you mean `exact_duplicates`?"), "{near}");
    let judged = project.succeeds(&["data", "what-if", "length.min_bytes=1"]);
    assert!(judged.contains("(kept)") && judged.contains("lost 0 documents"), "{judged}");
    let refused = project.fails(1, &["data", "what-if", "gopher_quality.min_words=30"]);
    assert!(refused.contains("belongs to a step that was not run"), "{refused}");
}

#[test]
fn a_dataset_is_added_inspected_and_described() {
    let project = Project::new();
    project.write("reviews.jsonl", "{\"body\": \"a fine book\"}\n{\"body\": \"a long one\"}\n");
    let added = project.succeeds(&["data", "add", "reviews.jsonl", "--licence", "CC0-1.0"]);
    assert!(added.contains("text_column = \"body\""), "{added}");
    let again = project.fails(1, &["data", "add", "reviews.jsonl"]);
    assert!(again.contains("exists; edit it"), "{again}");
    let listed = project.succeeds(&["data", "ls"]);
    assert!(listed.contains("reviews") && listed.contains("CC0-1.0"), "{listed}");
    let peeked = project.succeeds(&["data", "peek", "reviews", "--count", "1"]);
    assert!(peeked.contains("  | a fine book") && peeked.contains("next: --page 2"), "{peeked}");
    let stats = project.succeeds(&["data", "stats", "reviews"]);
    assert!(stats.starts_with("2 documents, 21 B"), "{stats}");
    project.succeeds(&["data", "card", "reviews"]);
    let card = fs::read_to_string(project.path("datasets/reviews/CARD.md")).unwrap();
    assert!(card.contains("| CC0-1.0 | 2 | 21 | – |"), "{card}");
    let missing = project.fails(1, &["data", "add", "nowhere"]);
    assert!(missing.contains("is not a file, folder, glob or address"), "{missing}");
    assert!(!project.path("datasets/nowhere").exists());
}
