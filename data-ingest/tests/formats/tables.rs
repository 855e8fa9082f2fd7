//! Columnar tables: Parquet and Arrow.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Float32Array, Int64Array, RecordBatch, UInt32Array};
use data_ingest::Source;
use parquet::basic::Compression;

use crate::columnar::{arrow_file, arrow_stream, chats, parquet, table, texts};
use crate::corpus::{one, path};
use crate::packed::{gzip, tar, zip, zstandard};
use crate::{check_file, collected};

/// Writes a table as Parquet with row groups of two rows, as an Arrow file, and as an Arrow stream.
fn as_files(table: &RecordBatch) -> [(&'static str, Vec<u8>); 3] {
    [
        ("a.parquet", parquet(table, 2, Compression::SNAPPY)),
        ("a.arrow", arrow_file(table)),
        ("a.arrows", arrow_stream(table)),
    ]
}

#[test]
fn columnar_tables_are_read_with_every_compression() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5]));
    let text = texts([Some("one"), None, Some("three"), Some(""), Some("five")]);
    let expect = |name: &str| {
        let ids = [1, 3, 5].map(|n| format!("s/{name}#{n}: {}", ["", "one", "", "three", "", "five"][n]));
        [ids.to_vec(), vec!["1 empty".to_owned(), "1 null".to_owned()]].concat()
    };
    let source =
        |path: &str| one(Source { path: Some(path.to_owned()), name: Some("s".to_owned()), ..Source::default() });
    for (name, bytes) in as_files(&table(vec![("n", numbers), ("text", text)])) {
        assert_eq!(collected(&[(name, &bytes)], &source(name)), expect(name));
        let packed = format!("{name}.zst");
        assert_eq!(collected(&[(&packed, &zstandard(&bytes))], &source(&packed)), expect(&packed));
        let members: &[(&str, &[u8])] = &[("x/y.txt", b"y"), (&packed, &zstandard(&bytes)), (name, &bytes)];
        for (archive, bytes) in [("b.zip", zip(members)), ("b.tar.gz", gzip(&tar(members)))] {
            let mut expected = vec![format!("s/{archive}!/x/y.txt: y")];
            for name in [packed.as_str(), name] {
                expected.extend(expect(&format!("{archive}!/{name}")).drain(..3));
            }
            expected.extend(["2 empty".to_owned(), "2 null".to_owned()]);
            assert_eq!(collected(&[(archive, &bytes)], &source(archive)), expected);
        }
    }
}

#[test]
fn columns_of_columnar_tables_are_mapped() {
    let some = |text: &str| Some(text.to_owned());
    let rows = table(vec![
        ("q", texts(["What?", "Why?", "Who?"])),
        ("a", texts([Some("This."), None, Some("They.")])),
        ("n", Arc::new(UInt32Array::from(vec![Some(7), Some(8), None]))),
        ("score", Arc::new(Float32Array::from(vec![0.5, 1.5, 2.5]))),
        ("raw", Arc::new(BinaryArray::from_vec(vec![b"caf\xe9", b"plain", b""]))),
    ]);
    for (name, bytes) in as_files(&rows) {
        let template = some("{{ q }}{% if a %} {{ a }}{% endif %} {{ score }}");
        let source = Source { template, id_column: some("n"), ..Source::default() };
        let bad = format!("{name} row 3 [wrong_type]: `n` is empty; an id is needed");
        check_file(name, &bytes, source, &["s/7: What? This. 0.5", "s/8: Why? 1.5", &bad]);
        let source = |column: &str| Source { text_column: some(column), ..Source::default() };
        let raw = [format!("s/{name}#1: [99, 97, 102, 233]"), format!("s/{name}#2: plain")];
        check_file(name, &bytes, source("raw"), &[&raw[0], &raw[1], "1 empty"]);
        let next = "set `text_column` to another column, or make text of this one with `template`";
        let found = format!("<base>/{name}: column `n` holds UInt32, not text: {next}");
        check_file(name, &bytes, source("n"), &[&found]);
        let header = "it has `q`, `a`, `n`, `score`, `raw`: set the source's `text_column` or `template`; or leave \
             the file out with `exclude`, and give it a source of its own";
        check_file(name, &bytes, source("no"), &[&format!("<base>/{name} has no column `no`; {header}")]);
    }
}

#[test]
fn conversations_of_columnar_tables_become_messages() {
    let turns = |turns: &[(&str, &str)]| turns.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let conversations = [
        turns(&[("human", "Hi"), ("gpt", "Hello")]),
        turns(&[("human", "Hi")]),
        turns(&[("system", "s"), ("human", "a"), ("gpt", "b")]),
    ];
    let rows = table(vec![("conversations", chats(["from", "value"], &conversations))]);
    for (name, bytes) in as_files(&rows) {
        let source = Source { chat: Some(data_ingest::Chat::Sharegpt), ..Source::default() };
        let expected = [
            format!("s/{name}#1: [(\"user\", \"Hi\"), (\"assistant\", \"Hello\")]"),
            format!("s/{name}#3: [(\"system\", \"s\"), (\"user\", \"a\"), (\"assistant\", \"b\")]"),
            format!("{name} row 2 [chat]: it has no turn of the assistant, so nothing is learned"),
        ];
        check_file(name, &bytes, source, &expected.each_ref().map(String::as_str));
    }
}

#[test]
fn a_damaged_table_does_not_affect_other_files() {
    for (name, bytes) in as_files(&table(vec![("text", texts(["a"; 1000]))])) {
        let found = collected(&[("p/a.txt", b"one"), (&format!("p/{name}"), &bytes[..bytes.len() / 2])], &path("p"));
        assert_eq!(found[0], "p/a.txt: one", "{name}");
        assert!(found.last().unwrap().contains("[corrupt]: "), "{found:?}");
        let found = collected(&[("p/a.txt", b"one"), (&format!("p/{name}"), b"")], &path("p"));
        assert_eq!((found.len(), found[0].as_str()), (2, "p/a.txt: one"), "{found:?}");
        assert!(found[1].starts_with(&format!("{name}  [corrupt]: ")), "{found:?}");
    }
}
