//! Few documents, and steps that drop many.

mod corpus;

use artifact::Context;
use corpus::{document, seal, small, unlike, unsealed, write};
use preprocess::Config;
use serde_json::Value;
use tokenizer::shard::Split;

/// Runs the stage, and returns the number of documents in train, validation and test, and the notices.
fn run(config: &Config, documents: &[corpus::Document]) -> ([usize; 3], Vec<String>) {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let corpus = write(from.path(), documents, 10);
    let outcome = preprocess::run(config, &corpus, &unsealed(to.path()), &Context::quiet(0)).unwrap();
    let sealed = seal(to.path(), outcome);
    let report = std::fs::read_to_string(sealed.folder().join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let notices = report["notices"].as_array().unwrap().iter().map(|notice| notice.as_str().unwrap().to_owned());
    let count = |name| Split::open(&sealed, name).unwrap().n_documents();
    (["train", "validation", "test"].map(count), notices.collect())
}

#[test]
fn a_split_that_would_be_empty_gets_the_nearest_document() {
    let config = Config { validation: 0.0001, test: 0.0001, ..small() };
    for n in [3, 20, 50] {
        let (counts, notices) = run(&config, &unlike(n));
        assert_eq!(counts, [n - 2, 1, 1]);
        let expected = |split: &str, n: usize| {
            format!(
                "split {split} would be empty: a fraction of 0.0001 of {n} documents gave none; it has the document \
                 nearest to it by hash, from train"
            )
        };
        assert_eq!(notices, [expected("test", n), expected("validation", n)]);
    }
}

#[test]
fn a_step_that_drops_more_than_a_tenth_says_so() {
    let mut documents = unlike(30);
    documents.extend((0..10).map(|i| document(&format!("short-{i}"), format!("{i}"))));
    let (_, notices) = run(&small(), &documents);
    assert_eq!(notices, ["length dropped 10 of 40 documents (min_bytes 10)"]);
}
