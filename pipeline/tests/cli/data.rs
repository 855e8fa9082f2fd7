//! Datasets, filtering decisions, and preprocess divided between machines.

use std::fs;

use serde_json::{Value, json};

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
fn pictures_are_collected_and_shown_and_not_lost_in_preprocess() {
    let project = Project::new();
    let dataset = "[[source]]\npath = \"pictures\"\nformat = \"media\"\nlicence = \"CC0-1.0\"\n";
    project.write("datasets/signs/dataset.toml", dataset);
    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 72 48\"><rect width=\"9\" height=\"9\"/></svg>";
    project.write("datasets/signs/pictures/a.svg", svg);
    project.write("datasets/signs/pictures/a.txt", "a square");
    let peeked = project.succeeds(&["data", "peek", "signs"]);
    assert!(peeked.contains("  | a square[svg 72 × 48 pixels, 94 B, sha256 "), "{peeked}");
    let stats = project.succeeds(&["data", "stats", "signs"]);
    assert!(stats.starts_with("1 documents, 11 B\nwith 1 pictures, 94 B"), "{stats}");
    project.succeeds(&["data", "card", "signs"]);
    let card = fs::read_to_string(project.path("datasets/signs/CARD.md")).unwrap();
    assert!(card.contains("| pictures | svg | CC0-1.0 | 1 | 94 |"), "{card}");
    project.configure("path = \"texts\"", "path = \"datasets/signs/pictures\"\nformat = \"media\"");
    let refused = project.fails(1, &["run", "--until", "preprocess"]);
    assert!(
        refused.contains("has pictures or sounds, which stage preprocess cannot turn into tokens yet"),
        "{refused}"
    );
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

/// Returns a project of conversations, tokenized with the built-in template.
fn chats(format: &str, row: impl Fn(usize) -> serde_json::Value) -> Project {
    let project = Project::new();
    let rows: Vec<String> = (0..40).map(|i| row(i).to_string()).collect();
    project.write("chats.jsonl", &rows.join("\n"));
    project.configure("path = \"texts\"", &format!("path = \"chats.jsonl\"\nchat = \"{format}\""));
    project.configure("[preprocess]", "[preprocess]\npreset = \"chat\"");
    project.configure("vocab_size = 300", "vocab_size = 330");
    project.succeeds(&["run", "--until", "preprocess"]);
    project
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the text of the segments that are learned, special tokens included.
fn learned(document: &Value) -> String {
    let segments = document["segments"].as_array().unwrap().iter();
    let learned = segments.filter(|segment| segment["learned_tokens"] != 0);
    learned.map(|segment| segment["text"].as_str().unwrap()).collect()
}

#[test]
fn tokens_show_that_exactly_the_turns_of_the_assistant_are_learned() {
    let question = |i: usize| format!("What is let number {i}? 🦀 <|im_end|>");
    let project = chats("messages", |i| {
        json!({"messages": [
            {"role": "system", "content": "Answer briefly."},
            {"role": "user", "content": question(i)},
            {"role": "assistant", "content": format!("It is fn {i}: 数\nand more.")},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "No.", "weight": 0},
            {"role": "user", "content": "And now?"},
            {"role": "assistant", "content": format!("Yes, {i}.")},
        ]})
    });
    let mut seen = 0;
    for split in ["train", "validation", "test"] {
        let out = project.succeeds(&["data", "peek", "--tokens", "--split", split, "--count", "100", "--json"]);
        for document in objects(&out) {
            seen += 1;
            let segments = document["segments"].as_array().unwrap();
            let text: String = segments.iter().map(|segment| segment["text"].as_str().unwrap()).collect();
            let i: usize = text.split("number ").nth(1).unwrap().split('?').next().unwrap().parse().unwrap();
            assert!(text.contains(&question(i)) && text.contains("Answer briefly.") && text.contains("No."), "{text}");
            let expected = format!("It is fn {i}: 数\nand more.<|im_end|>Yes, {i}.<|im_end|><|endoftext|>");
            assert_eq!(learned(&document).replace("<|im_end|>\n", "<|im_end|>"), expected);
            let ids = segments.iter().map(|segment| segment["ids"].as_array().unwrap().len()).sum::<usize>();
            assert_eq!(json!(ids), document["tokens"]);
            assert_eq!(document["split"], split);
        }
    }
    assert_eq!(seen, 40);

    project.snapshot("peek_tokens", &project.succeeds(&["data", "peek", "--tokens", "--count", "2"]));
    let past = project.fails(1, &["data", "peek", "--tokens", "--page", "100"]);
    assert!(past.starts_with("error: page 100 is past the end: train has "), "{past}");
    let alone = project.fails(2, &["data", "peek", "--split", "test"]);
    assert!(alone.contains("--tokens"), "{alone}");
    project.write("reviews.jsonl", "{\"text\": \"a fine book\"}\n");
    project.succeeds(&["data", "add", "reviews.jsonl"]);
    let dataset = project.fails(1, &["data", "peek", "reviews", "--tokens"]);
    assert!(dataset.contains("`reviews` is a dataset, which has no tokens"), "{dataset}");
}

#[test]
fn tokens_of_a_pair_show_both_answers() {
    let project = chats(
        "preference",
        |i| json!({"prompt": format!("What {i}?"), "chosen": format!("Good {i}."), "rejected": format!("Bad {i}.")}),
    );
    let out = project.succeeds(&["data", "peek", "latest", "--tokens", "--count", "1", "--json"]);
    let [chosen, rejected] = &objects(&out)[..] else { panic!("{out}") };
    assert_eq!((&chosen["answer"], &rejected["answer"]), (&json!("chosen"), &json!("rejected")));
    assert!(learned(chosen).starts_with("Good ") && learned(rejected).starts_with("Bad "), "{out}");
    project.snapshot("peek_tokens_of_pairs", &project.succeeds(&["data", "peek", "--tokens", "--count", "1"]));
}

#[test]
fn long_documents_are_shortened_to_their_ends() {
    let project = Project::new();
    project.write("texts/long.rs", &(0..3000).map(|i| format!("let x{i} = {i};")).collect::<Vec<_>>().join("\n"));
    project.configure("validation = 0.15\ntest = 0.15", "validation = 0.05\ntest = 0.05");
    project.succeeds(&["run", "--until", "preprocess"]);
    let out: String = ["train", "validation", "test"]
        .map(|split| project.succeeds(&["data", "peek", "--tokens", "--split", split, "--count", "100"]))
        .concat();
    assert!(out.contains(" tokens left out, ") && out.contains("⟦let x0"), "{out}");
    assert!(out.contains("learned (100.0 %)") && !out.contains("x1500"), "{out}");
}
