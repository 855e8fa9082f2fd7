//! The stage from a corpus on disk to shards on disk.

mod corpus;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use artifact::{Context, Outcome, Sealed};
use corpus::{Document, document, documents, seal, small, texts, unsealed, write, write_file};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use preprocess::steps::repair::InvalidUtf8;
use preprocess::{Config, Error, LengthConfig, LongDocuments, TokenizerConfig};
use serde_json::Value;
use tempfile::TempDir;
use tokenizer::shard::Split;
use tokenizer::{Kind, Tokenizer, TrainConfig};

fn with_lengths(min_bytes: u64, max_bytes: u64, long: LongDocuments) -> Config {
    Config { length: LengthConfig { min_bytes, max_bytes, long }, ..small() }
}

/// The output of the stage for some documents, in folders that live as long as it does.
struct Run {
    sealed: Sealed,
    _folders: [TempDir; 2],
}

impl Run {
    fn new(config: &Config, documents: &[Document]) -> Self {
        Self::try_new(config, documents, 7).unwrap()
    }

    fn try_new(config: &Config, documents: &[Document], per_file: usize) -> Result<Self, Error> {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let corpus = write(folders[0].path(), documents, per_file);
        let outcome = preprocess::run(config, &corpus, &unsealed(folders[1].path()), &Context::quiet(0))?;
        let sealed = seal(folders[1].path(), outcome);
        Ok(Self { sealed, _folders: folders })
    }

    fn count(&self, name: &str) -> u64 {
        self.sealed.manifest().counts[name].as_u64().unwrap_or_else(|| panic!("no count {name}"))
    }

    fn counts(&self, names: &[&str]) -> Vec<u64> {
        names.iter().map(|name| self.count(name)).collect()
    }

    fn report(&self) -> Value {
        serde_json::from_slice(&fs::read(self.sealed.folder().join("report.json")).unwrap()).unwrap()
    }

    fn tokenizer(&self) -> Tokenizer {
        Tokenizer::from_file(&self.sealed.folder().join("tokenizer.json")).unwrap()
    }

    fn split(&self, name: &str) -> Split {
        Split::open(&self.sealed, name).unwrap()
    }

    /// Returns the text of every document of a split, in order.
    fn texts(&self, split: &str) -> Vec<String> {
        let (tokenizer, split) = (self.tokenizer(), self.split(split));
        (0..split.n_documents()).map(|i| tokenizer.decode(&split.document(i)).unwrap()).collect()
    }

    fn all_texts(&self) -> BTreeSet<String> {
        ["train", "validation", "test"].iter().flat_map(|split| self.texts(split)).collect()
    }

    /// Returns a text column of the signals, by id.
    fn signals(&self, column: &str) -> BTreeMap<String, Option<String>> {
        let file = File::open(self.sealed.folder().join("signals.parquet")).unwrap();
        let mut all = BTreeMap::new();
        for rows in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let rows = rows.unwrap();
            let ids = rows["id"].as_string::<i32>().iter().map(|id| id.unwrap().to_owned());
            all.extend(ids.zip(rows[column].as_string::<i32>().iter().map(|value| value.map(str::to_owned))));
        }
        all
    }
}

#[test]
fn every_document_is_in_one_split_unchanged() {
    let documents = documents(60);
    let run = Run::new(&small(), &documents);
    let expected: BTreeSet<String> = documents.iter().map(|d| String::from_utf8(d.2.clone()).unwrap()).collect();
    assert_eq!(run.all_texts(), expected);
    assert_eq!(run.counts(&["documents_in", "documents_out", "vocab_size"]), [60, 60, 300]);
    let names = ["train", "validation", "test"];
    let splits = names.map(|name| run.split(name));
    let end_of_text = run.tokenizer().end_of_text().unwrap();
    for (name, split) in names.iter().zip(&splits) {
        assert_eq!(run.count(&format!("documents_{name}")) as usize, split.n_documents());
        assert_eq!(run.count(&format!("tokens_{name}")) as usize, split.len());
        let bytes: usize = run.texts(name).iter().map(String::len).sum();
        assert_eq!(split.text_bytes() as usize, bytes);
        for i in 0..split.n_documents() {
            let document = split.document(i);
            let ends: Vec<usize> = (0..document.len()).filter(|at| document[*at] == end_of_text).collect();
            assert_eq!(
                ends,
                [document.len() - 1],
                "a document has one end-of-text token, even if its text contains `<|endoftext|>`"
            );
        }
    }
    assert_eq!(run.count("tokens") as usize, splits.iter().map(Split::len).sum::<usize>());
}

#[test]
fn output_depends_on_neither_threads_nor_files() {
    let config = Config { shard_bytes: 2000, ..small() };
    let documents = documents(80);
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Run::new(&config, &documents))
    };
    let (one, two) = (with_threads(1), with_threads(2));
    assert!(one.sealed.files("train-").len() > 2);
    assert_eq!(one.sealed.manifest().files, two.sealed.manifest().files);
    let backwards: Vec<Document> = documents.iter().rev().cloned().collect();
    let other = Run::try_new(&config, &backwards, 100).unwrap();
    // These two have the documents in the order of the corpus, or their place in it.
    let in_order = ["signals.parquet", "order.parquet"];
    for name in one.sealed.files("").iter().filter(|name| !in_order.contains(&name.as_str())) {
        assert_eq!(one.sealed.manifest().files.get(name), other.sealed.manifest().files.get(name), "{name}");
    }
}

/// Returns the splits and the rows of a file of the order.
fn order(sealed: &Sealed) -> Vec<(String, u32)> {
    let file = File::open(sealed.folder().join("order.parquet")).unwrap();
    let mut all = Vec::new();
    for rows in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let rows = rows.unwrap();
        let splits = rows["split"].as_string::<i32>().iter().map(|split| split.unwrap().to_owned());
        all.extend(splits.zip(rows["row"].as_primitive::<UInt32Type>().values().iter().copied()));
    }
    all
}

#[test]
fn the_order_names_the_document_of_each_place() {
    let documents = documents(80);
    let run = Run::new(&Config { shard_bytes: 2000, ..small() }, &documents);
    let names = ["train", "validation", "test"];
    let places = names.iter().flat_map(|name| run.texts(name).into_iter().map(|text| ((*name).to_owned(), text)));
    let found: Vec<(String, String)> = order(&run.sealed)
        .into_iter()
        .map(|(split, row)| (split, String::from_utf8(documents[row as usize].2.clone()).unwrap()))
        .collect();
    assert_eq!(found, places.collect::<Vec<_>>());
}

#[test]
fn documents_stay_in_their_split_when_others_are_added() {
    let few = Run::new(&small(), &documents(60)).signals("split");
    let many = Run::new(&small(), &documents(120)).signals("split");
    assert_eq!((few.len(), many.len()), (60, 120));
    assert!(few.iter().all(|(id, split)| split.is_some() && many[id] == *split));
}

#[test]
fn exact_duplicates_are_dropped() {
    let mut documents = documents(30);
    let windows = String::from_utf8(documents[3].2.clone()).unwrap().replace('\n', "\r\n");
    documents.push(document("a-copy", windows));
    documents.push(("doc-0003".to_owned(), "crate b 1.0".to_owned(), documents[3].2.clone()));
    documents.push(document("z-copy", documents[4].2.clone()));
    let run = Run::new(&small(), &documents);
    assert_eq!(run.counts(&["documents_in", "documents_out", "dropped_exact_duplicates"]), [33, 30, 3]);
    // Of exact duplicates, the first in the corpus is kept.
    let reasons = run.signals("reason");
    let duplicate = Some("exact_duplicates".to_owned());
    assert_eq!((&reasons["a-copy"], &reasons["z-copy"]), (&duplicate, &duplicate));
    assert_eq!(run.signals("duplicate_of")["z-copy"].as_deref(), Some("doc-0004"));
    assert_eq!(run.report()["sources"]["crate a 1.0"]["documents"], 30);
    assert!(run.report()["sources"].get("crate b 1.0").is_none());
}

#[test]
fn invalid_utf8_is_repaired_or_rejected_and_counted() {
    let mut documents = documents(30);
    documents.push(document("latin", [b"caf\xe9 ".repeat(20), b"\n".to_vec()].concat()));
    for (invalid_utf8, out, dropped) in [(InvalidUtf8::Repair, 31, 0), (InvalidUtf8::Reject, 30, 1)] {
        let mut config = small();
        config.repair.invalid_utf8 = invalid_utf8;
        let run = Run::new(&config, &documents);
        let names = ["documents_in", "documents_out", "dropped_repair", "documents_invalid_utf8"];
        assert_eq!(run.counts(&names), [31, out, dropped, 1]);
        let repaired = ["caf\u{fffd}"; 20].join(" ") + "\n";
        assert_eq!(run.all_texts().contains(&repaired), invalid_utf8 == InvalidUtf8::Repair);
        let expected = if dropped == 1 { "drop" } else { "keep" };
        assert_eq!(run.signals("decision")["latin"].as_deref(), Some(expected));
    }
}

#[test]
fn texts_are_normalised_before_deduplication() {
    let mut documents = documents(30);
    let (composed, decomposed) = ("é: one line\n".repeat(10), "e\u{301}: one line\r\n".repeat(10));
    documents.push(document("composed", &composed));
    documents.push(document("decomposed", decomposed));
    let run = Run::new(&small(), &documents);
    assert_eq!(run.count("dropped_exact_duplicates"), 1);
    assert!(run.all_texts().contains(&composed));
}

#[test]
fn lengths_are_limited() {
    let mut documents = documents(30);
    documents.push(document("short", "x".repeat(63)));
    documents.push(document("just", "y".repeat(64)));
    documents.push(document("limit", "z".repeat(999) + "\n"));
    documents.push(document("long", "long line\n".repeat(101)));
    let config = with_lengths(64, 1000, LongDocuments::Drop);
    let run = Run::new(&config, &documents);
    assert_eq!(run.counts(&["documents_out", "dropped_length"]), [32, 2]);
    let failed = run.signals("length.failed");
    let failed = |id: &str| failed[id].as_deref();
    assert_eq!([failed("short"), failed("just"), failed("limit")], [Some("min_bytes"), None, None]);
    assert_eq!(failed("long"), Some("max_bytes"));
    let funnel = run.report()["funnel"].clone();
    let steps: Vec<(&str, u64)> = funnel.as_array().unwrap().iter().map(step).collect();
    let expected = [("collected", 34), ("repair", 34), ("length", 32), ("exact_duplicates", 32)];
    assert_eq!(steps, expected);
}

fn step(step: &Value) -> (&str, u64) {
    (step["step"].as_str().unwrap(), step["documents"].as_u64().unwrap())
}

#[test]
fn one_long_text_that_is_cut_fills_all_splits() {
    let lines: Vec<String> = (0..2000).map(|i| format!("line {i} of a long text\n")).collect();
    let config = with_lengths(64, 1000, LongDocuments::Cut);
    let run = Run::new(&config, &[document("book", lines.concat())]);
    assert_eq!(run.count("documents_in"), 1);
    let texts = run.all_texts();
    assert!(texts.len() > 40 && texts.iter().all(|text| text.len() <= 1000 && text.ends_with('\n')));
    let mut kept: Vec<String> = texts.iter().flat_map(|text| text.split_inclusive('\n').map(str::to_owned)).collect();
    let mut all = lines;
    kept.sort();
    all.sort();
    assert_eq!(kept, all);
}

#[test]
fn a_given_tokenizer_is_used_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let given =
        Tokenizer::train(&TrainConfig { vocab_size: 300, ..TrainConfig::default() }, ["let let"].iter()).unwrap();
    fs::write(&path, given.to_json()).unwrap();
    let with_file = |path: &Path| Config {
        tokenizer: TokenizerConfig { file: Some(path.to_owned()), ..TokenizerConfig::default() },
        ..small()
    };
    let config = with_file(&path);
    let run = Run::new(&config, &documents(30));
    assert_eq!(run.tokenizer().to_json(), given.to_json());
    assert_eq!(run.split("train").tokenizer_digest(), given.digest());
    assert_eq!(run.count("vocab_size") as usize, given.vocab_size());
    let inputs = preprocess::inputs(&config, &Context::quiet(0)).unwrap();
    assert_eq!(inputs.values().copied().collect::<Vec<_>>(), [given.digest()]);

    let without_end = given.to_json().replace("<|endoftext|>", "<|other|>");
    let other = folder.path().join("other.json");
    fs::write(&other, without_end).unwrap();
    let fails = |path: &Path| Run::try_new(&with_file(path), &documents(30), 7).err().unwrap().to_string();
    let expected = "has no end-of-text token; add `<|endoftext|>` to it as a special token";
    assert_eq!(fails(&other), format!("{} {expected}", other.display()));
    let missing = folder.path().join("missing.json");
    assert_eq!(fails(&missing), format!("cannot read {}", missing.display()));
}

#[test]
fn unknown_tokens_are_counted_by_split() {
    let mut documents = documents(40);
    // Each contains a character that no other has; outside the train split it is an unknown token.
    let rare =
        ('一'..).take(20).map(|c| document(&format!("rare-{c}"), format!("A text with {c} in it.\n").repeat(20)));
    documents.extend(rare);
    for (kind, has_all_characters) in [(Kind::Bpe, true), (Kind::WordPiece, false), (Kind::Character, false)] {
        let tokenizer = TokenizerConfig { kind, vocab_size: 300, ..TokenizerConfig::default() };
        let run = Run::new(&Config { tokenizer, ..small() }, &documents);
        let (report, headline) = (run.report(), &run.sealed.manifest().headline);
        if has_all_characters {
            assert_eq!(report["unknown_tokens"], Value::Null);
            assert_eq!(report["splits"]["train"]["unknown_tokens"], Value::Null);
            assert!(!headline.contains("unknown"), "{headline}");
            continue;
        }
        let unknown = run.tokenizer().unknown_token().unwrap();
        let mut sum = 0;
        for name in ["train", "validation", "test"] {
            let split = run.split(name);
            let of_document = |i| split.document(i).iter().filter(|id| **id == unknown).count();
            let count: usize = (0..split.n_documents()).map(of_document).sum();
            assert_eq!(report["splits"][name]["unknown_tokens"], count, "{kind:?}");
            sum += count;
        }
        assert!(sum > 0, "{kind:?}");
        assert_eq!((&report["unknown_tokens"], run.count("unknown_tokens")), (&Value::from(sum), sum as u64));
        assert!(headline.ends_with(&format!(", {sum} of them unknown")), "{headline}");
    }
}

fn check_error(config: &Config, documents: &[Document], expected: &str) {
    let error = Run::try_new(config, documents, 7).err().expect("an error").to_string();
    assert_eq!(error, expected);
}

#[test]
fn errors_of_empty_splits_say_what_to_change() {
    let short: Vec<Document> = (0..3).map(|i| document(&i.to_string(), format!("{i}"))).collect();
    let advice = "see preprocess.length.min_bytes, max_bytes and long = \"cut\"";
    check_error(&small(), &short, &format!("all 3 documents were filtered out: 3 by length ({advice})"));
    check_error(
        &with_lengths(64, 100, LongDocuments::Drop),
        &[short, documents(2)].concat(),
        &format!("all 5 documents were filtered out: 5 by length ({advice})"),
    );
    check_error(
        &small(),
        &documents(2),
        "split test is empty: a fraction of 0.2 of 2 documents gave none. Add documents, raise preprocess.test, or set \
         preprocess.length.long = \"cut\" with a smaller preprocess.length.max_bytes to cut long documents into \
         several",
    );
    check_error(
        &with_lengths(0, 100, LongDocuments::Drop),
        &[],
        "preprocess.length.min_bytes is 0; an empty document has no tokens, so the minimum is 1",
    );
}

#[test]
fn an_empty_corpus_is_an_error() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let corpus = write(folders[0].path(), &[], 7);
    let error = preprocess::run(&small(), &corpus, &unsealed(folders[1].path()), &Context::quiet(0)).unwrap_err();
    let expected = "has no documents: check the sources and patterns of [collect]";
    assert_eq!(error.to_string(), format!("the corpus in {} {expected}", folders[0].path().display()));
}

#[test]
fn a_damaged_or_foreign_corpus_is_an_error() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let sealed = write(folders[0].path(), &documents(30), 10);
    let path = folders[0].path().join("documents-00001.parquet");
    let run = |sealed: &Sealed| {
        preprocess::run(&small(), sealed, &unsealed(folders[1].path()), &Context::quiet(0)).unwrap_err()
    };
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = run(&sealed).to_string();
    assert!(error.starts_with(&format!("{} is corrupt: its SHA-256 is", path.display())), "{error}");

    write_file(folders[0].path(), 1, [("words", texts(["one"].map(str::to_owned).map(Some).into_iter()))]);
    let error = run(&seal(folders[0].path(), Outcome::default()));
    assert_eq!(error.to_string(), format!("column id of {} is missing", path.display()));
}

#[test]
fn a_run_can_be_cancelled_and_removes_the_files_of_a_killed_one() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let corpus = write(folders[0].path(), &documents(30), 10);
    fs::write(folders[1].path().join("train-00099.safetensors"), "left by an attempt that was killed").unwrap();
    let context = Context::quiet(0);
    context.cancel.request();
    let out = unsealed(folders[1].path());
    assert!(matches!(preprocess::run(&small(), &corpus, &out, &context), Err(Error::Interrupted)));
    let outcome = preprocess::run(&small(), &corpus, &out, &Context::quiet(0)).unwrap();
    let expected = ["order.parquet", "report.json", "signals.parquet", "test-00000.safetensors", "tokenizer.json"];
    let names = seal(folders[1].path(), outcome).files("");
    assert_eq!(names[..5], expected);
    assert_eq!(names[5..], ["train-00000.safetensors", "validation-00000.safetensors"]);
}
