//! The passages of a text that occur in the training data.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::project::{Ended, Project};

#[test]
fn texts_are_traced_to_their_documents() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "index"]);
    // Of the first texts, at least one is in the train split; it occurs there as a whole.
    let whole = (0..10).find_map(|number| {
        let text = fs::read_to_string(project.path(&format!("texts/{number:02}.rs"))).unwrap();
        let found: Value = serde_json::from_str(&project.succeeds(&["trace", "latest", &text, "--json"])).unwrap();
        let passage = found["passages"].as_array().unwrap().iter().find(|passage| passage["text"] == text.as_str())?;
        Some((number, text, passage.clone()))
    });
    let (number, text, passage) = whole.unwrap();
    assert_eq!((&passage["bytes"]["start"], &passage["bytes"]["end"]), (&Value::from(0), &Value::from(text.len())));
    let place = &passage["occurrences"][0];
    assert!(place["path"].as_str().unwrap().ends_with(&format!("{number:02}.rs")), "{place}");
    assert_eq!((&place["source"], &place["licence"]), (&Value::from("texts"), &Value::from("CC0-1.0")));

    let shown = project.succeeds(&["trace", "tiny-001", &text, "--count", "1"]);
    for expected in
        ["1 passage occurs in the training data of tiny-001", "\nonce, ", "  | //! Part ", " · texts · CC0-1.0\n"]
    {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }
    let mut command = project.command(&["trace", "latest", "--min-tokens", "100000"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert!(ended.out.starts_with("no passage of at least 100000 tokens occurs in the training data"), "{}", ended.out);
}

#[test]
fn without_an_index_the_error_says_what_to_do() {
    let project = Project::new();
    project.succeeds(&["run", "--until", "preprocess"]);
    project.snapshot("error_trace_no_index", &project.fails(1, &["trace", "latest", "fn"]));
    let out = project.succeeds(&["run", "--until", "index", "--set", "index.max_tokens=1000"]);
    assert!(out.contains("index: no index was built, and no text can be traced"), "{out}");
    project.snapshot("error_trace_too_large", &project.fails(1, &["trace", "latest", "fn"]));
}
