//! Inspection of dropped documents and thresholds, compared with runs.

mod corpus;

use std::fs::File;
use std::path::Path;

use arrow_array::RecordBatch;
use artifact::{Context, Outcome, Recipe, Sealed, Unsealed};
use corpus::{Document, document, small, texts, unlike, write};
use parquet::arrow::ArrowWriter;
use preprocess::inspect::{self, WhatIf};
use preprocess::{Config, Step, TokenizerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenizer::{Tokenizer, TrainConfig};

/// A run with a given tokenizer, which does not depend on the documents that are kept.
struct Made {
    corpus: Sealed,
    tokens: Sealed,
    config: Config,
    _folders: [TempDir; 3],
}

fn made(documents: &[Document], change: impl Fn(&mut Config)) -> Made {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let corpus = write(folders[0].path(), documents, 16);
    let tokenizer = folders[1].path().join("tokenizer.json");
    let train = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
    let given = Tokenizer::train(&train, ["let value_0 = compute(0, 0);"].iter()).unwrap();
    std::fs::write(&tokenizer, given.to_json()).unwrap();
    let mut config = Config {
        tokenizer: TokenizerConfig { file: Some(tokenizer), ..TokenizerConfig::default() },
        steps: Some(vec![
            Step::Repair,
            Step::Length,
            Step::GopherQuality,
            Step::Code,
            Step::ExactDuplicates,
            Step::NearDuplicates,
        ]),
        ..small()
    };
    config.near_duplicates.similarity = 0.5;
    config.gopher_quality.min_stop_words = off();
    config.gopher_quality.min_letter_word_fraction = off();
    config.gopher_quality.max_mean_word_chars = off();
    config.gopher_quality.min_mean_word_chars = off();
    config.gopher_quality.min_words = threshold(40);
    change(&mut config);
    let tokens = run(&config, &corpus, folders[2].path());
    Made { corpus, tokens, config, _folders: folders }
}

fn off<T: serde::de::DeserializeOwned>() -> T {
    serde_json::from_value(json!(false)).unwrap()
}

fn threshold<T: serde::de::DeserializeOwned>(value: u64) -> T {
    serde_json::from_value(json!(value)).unwrap()
}

fn run(config: &Config, corpus: &Sealed, folder: &Path) -> Sealed {
    let recipe = Recipe {
        stage: preprocess::NAME.to_owned(),
        stage_version: preprocess::VERSION,
        config: config.fingerprint_value(),
        inputs: std::collections::BTreeMap::new(),
        seed: 0,
        device_class: None,
    };
    let out = Unsealed::at(folder, recipe);
    let outcome: Outcome = preprocess::run(config, corpus, &out, &Context::quiet(0)).unwrap();
    out.seal(outcome, 0.0, artifact::Host::default()).unwrap()
}

/// Documents of many lengths, each with a near duplicate, and some exact duplicates.
fn many() -> Vec<Document> {
    let mut all = unlike(60);
    for i in 0..60 {
        let mut near = all[i].2.clone();
        near.extend_from_slice(b"the last line, which the first has not.\n");
        all.push(document(&format!("near-{i:02}"), near));
        if i % 5 == 0 {
            let equal = all[i].2.clone();
            all.push(document(&format!("equal-{i:02}"), equal));
        }
    }
    all
}

/// Asserts that the predicted documents are those that a run with other thresholds keeps.
fn check(made: &Made, overrides: &[(&str, Value)]) -> WhatIf {
    let overrides: Vec<(String, Value)> = overrides.iter().map(|(key, v)| ((*key).to_owned(), v.clone())).collect();
    let predicted = inspect::what_if(&made.tokens, &overrides).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tokens = run(&made.config.with(&overrides).unwrap(), &made.corpus, folder.path());
    let counts = &tokens.manifest().counts;
    if predicted.not_compared == 0 {
        assert_eq!(predicted.then.documents, counts["documents_out"].as_u64().unwrap(), "{overrides:?}");
        assert_eq!(predicted.then.tokens, counts["tokens"].as_u64().unwrap(), "{overrides:?}");
        for change in &predicted.steps {
            let dropped = counts[&format!("dropped_{}", change.step.name())].as_u64().unwrap();
            assert_eq!(change.then.documents, dropped, "{overrides:?} {}", change.step.name());
        }
    } else {
        // Documents that were never compared may be duplicates.
        let min = predicted.then.documents - predicted.not_compared;
        assert!((min..=predicted.then.documents).contains(&counts["documents_out"].as_u64().unwrap()));
    }
    predicted
}

#[test]
fn what_if_predicts_the_documents_that_a_run_keeps() {
    let made = made(&many(), |_| ());
    let now = check(&made, &[]);
    assert_eq!(now.now, now.then);
    assert!(now.steps.iter().all(|change| change.now == change.then));
    let counts = &made.tokens.manifest().counts;
    assert_eq!(now.now.tokens, counts["tokens"].as_u64().unwrap());
    let stricter = check(&made, &[("gopher_quality.min_words", json!(60))]);
    assert!(stricter.lost.documents > stricter.gained.documents, "{stricter:?}");
    let looser = check(&made, &[("gopher_quality.min_words", json!(false))]);
    assert!(looser.gained.documents > 0 && looser.not_compared > 0, "{looser:?}");
    check(&made, &[("length.min_bytes", json!(250)), ("gopher_quality.max_words", json!(70))]);
    check(&made, &[("length.max_bytes", json!(300))]);
}

#[test]
fn a_duplicate_is_kept_if_the_other_one_is_dropped() {
    let made = made(&many(), |_| ());
    // The near duplicate is longer: a minimum between the two lengths keeps it, whichever of them is kept now.
    let shorter_dropped = check(&made, &[("length.min_bytes", json!(300))]);
    assert!(shorter_dropped.gained.documents > 0, "{shorter_dropped:?}");
}

#[test]
fn keys_that_need_a_run_are_rejected() {
    let made = made(&many(), |_| ());
    let check = |key: &str, value: Value, expected: &str| {
        let error = inspect::what_if(&made.tokens, &[(key.to_owned(), value)]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(
        "gopher_quality.min_word",
        json!(3),
        "preprocess.gopher_quality.min_word is unknown; did you mean gopher_quality.min_words?",
    );
    check("fineweb.max_short_line_fraction", json!(0.5), "belongs to a step that was not run");
    check("near_duplicates.similarity", json!(0.5), "changes texts or compares them");
    check("length.long", json!("cut"), "changes texts or compares them");
    check("tokenizer.vocab_size", json!(500), "belongs to no step with thresholds on signals");
    check("length.min_bytes", json!(0), "preprocess.length.min_bytes is 0");
    check("length.min_bytes", json!("a"), "cannot be set to the new value");
}

#[test]
fn dropped_documents_have_a_reason_and_figures() {
    let made = made(&many(), |_| ());
    let page = |by, skip, count| inspect::dropped(&made.tokens, &made.corpus, by, skip, count).unwrap();
    let (all, total) = page(None, 0, 1000);
    let counts = &made.tokens.manifest().counts;
    let dropped: u64 =
        counts.iter().filter(|(key, _)| key.starts_with("dropped_")).map(|(_, v)| v.as_u64().unwrap()).sum();
    assert_eq!((all.len(), total as u64), (total, dropped));
    let (short, count) = page(Some(Step::GopherQuality), 0, 1000);
    assert!(count > 0 && short.iter().all(|document| document.criterion.as_deref() == Some("min_words")));
    for document in &short {
        let words = document.figures.iter().find(|(name, _)| name == "words").unwrap().1;
        assert!(words < 40.0, "{document:?}");
    }
    let (equal, _) = page(Some(Step::ExactDuplicates), 0, 1000);
    let texts = |name: &str| many().into_iter().find(|d| d.0 == name).map(|d| String::from_utf8(d.2).unwrap());
    for document in &equal {
        assert_eq!(Some(&document.text), texts(&document.name).as_ref());
        assert_eq!(texts(document.duplicate_of.as_ref().unwrap()), texts(&document.name));
    }
    let (paged, again) = page(None, 3, 4);
    assert_eq!((paged.as_slice(), again), (&all[3..7], total));
    let error = inspect::dropped(&made.tokens, &made.corpus, Some(Step::C4), 0, 1).unwrap_err().to_string();
    assert!(
        error.starts_with("preprocess.steps does not have \"c4\": the steps of the run were repair, length"),
        "{error}"
    );
}

/// The release before called fractions shares, and version 4 had no languages in its signals.
#[test]
fn thresholds_are_not_evaluated_on_signals_of_another_version() {
    let folder = tempfile::tempdir().unwrap();
    let column = |name: &'static str| (name, texts([Some("a".to_owned())].into_iter()));
    let rows = RecordBatch::try_from_iter([column("id"), column("gopher_quality.bullet_line_share")]).unwrap();
    let file = File::create(folder.path().join("signals.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let config = Config { steps: Some(vec![Step::GopherQuality]), ..small() }.fingerprint_value();
    let recipe = Recipe {
        stage: preprocess::NAME.to_owned(),
        stage_version: 4,
        config,
        inputs: std::collections::BTreeMap::new(),
        seed: 0,
        device_class: None,
    };
    let tokens = Unsealed::at(folder.path(), recipe).seal(Outcome::default(), 0.0, artifact::Host::default()).unwrap();
    let error = inspect::what_if(&tokens, &[("gopher_quality.min_words".to_owned(), json!(3))]).unwrap_err();
    let expected = format!(
        "{} was written by version 4 of stage preprocess, whose signals mean something else than those of version {}; \
         run `pipeline run --until preprocess` again",
        folder.path().display(),
        preprocess::VERSION
    );
    assert_eq!(error.to_string(), expected);
}
