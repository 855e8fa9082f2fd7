//! Columnar tables: Parquet and Arrow.

use data_ingest::Source;
use polars::prelude::{
    Column, DataFrame, IntoSeries, IpcStreamWriter, IpcWriter, NamedFrom, ParquetWriter, SerWriter, Series,
    StructChunked,
};

use crate::corpus::{one, path};
use crate::packed::{gzip, tar, zip, zstandard};
use crate::{check_file, collected};

fn table(columns: Vec<Column>) -> DataFrame {
    DataFrame::new(columns[0].len(), columns).unwrap()
}

fn texts(name: &str, texts: &[Option<&str>]) -> Column {
    Series::new(name.into(), texts).into()
}

/// Writes a table as Parquet with row groups of two rows, as an Arrow file, and as an Arrow stream.
fn as_files(frame: &mut DataFrame) -> [(&'static str, Vec<u8>); 3] {
    let [mut parquet, mut file, mut stream] = [const { Vec::new() }; 3];
    ParquetWriter::new(&mut parquet).with_row_group_size(Some(2)).finish(frame).unwrap();
    IpcWriter::new(&mut file).finish(frame).unwrap();
    IpcStreamWriter::new(&mut stream).finish(frame).unwrap();
    [("a.parquet", parquet), ("a.arrow", file), ("a.arrows", stream)]
}

#[test]
fn columnar_tables_are_read_with_every_compression() {
    let numbers: Column = Series::new("n".into(), [1_i64, 2, 3, 4, 5]).into();
    let text = texts("text", &[Some("one"), None, Some("three"), Some(""), Some("five")]);
    let expect = |name: &str| {
        let ids = [1, 3, 5].map(|n| format!("s/{name}#{n}: {}", ["", "one", "", "three", "", "five"][n]));
        [ids.to_vec(), vec!["1 empty".to_owned(), "1 null".to_owned()]].concat()
    };
    let source =
        |path: &str| one(Source { path: Some(path.to_owned()), name: Some("s".to_owned()), ..Source::default() });
    for (name, bytes) in as_files(&mut table(vec![numbers, text])) {
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
    let mut frame = table(vec![
        texts("q", &[Some("What?"), Some("Why?"), Some("Who?")]),
        texts("a", &[Some("This."), None, Some("They.")]),
        Series::new("n".into(), [Some(7_u32), Some(8), None]).into(),
        Series::new("score".into(), [0.5_f32, 1.5, 2.5]).into(),
        Series::new("raw".into(), [&b"caf\xe9"[..], b"plain", b""]).into(),
    ]);
    for (name, bytes) in as_files(&mut frame) {
        let template = some("{{ q }}{% if a %} {{ a }}{% endif %} {{ score }}");
        let source = Source { template, id_column: some("n"), ..Source::default() };
        let bad = format!("{name} row 3 [wrong_type]: `n` is empty; an id is needed");
        check_file(name, &bytes, source, &["s/7: What? This. 0.5", "s/8: Why? 1.5", &bad]);
        let source = |column: &str| Source { text_column: some(column), ..Source::default() };
        let raw = [format!("s/{name}#1: [99, 97, 102, 233]"), format!("s/{name}#2: plain")];
        check_file(name, &bytes, source("raw"), &[&raw[0], &raw[1], "1 empty"]);
        let found = format!("<base>/{name}: column `n` holds u32, not text");
        check_file(name, &bytes, source("n"), &[&found]);
        let header = "it has `q`, `a`, `n`, `score`, `raw`: set the source's `text_column` or `template`; or leave \
             the file out with `exclude`, and give it a source of its own";
        check_file(name, &bytes, source("no"), &[&format!("<base>/{name} has no column `no`; {header}")]);
    }
}

/// Returns conversations as a column of lists of structs.
fn chat_column(name: &str, keys: [&str; 2], chats: &[Vec<(&str, &str)>]) -> Column {
    let turns = |chat: &Vec<(&str, &str)>| {
        let columns = [0, 1].map(|i| {
            let values: Vec<&str> = chat.iter().map(|turn| if i == 0 { turn.0 } else { turn.1 }).collect();
            Series::new(keys[i].into(), values)
        });
        StructChunked::from_series("".into(), chat.len(), columns.iter()).unwrap().into_series()
    };
    Series::new(name.into(), chats.iter().map(turns).collect::<Vec<_>>()).into()
}

#[test]
fn conversations_of_columnar_tables_become_messages() {
    let chats = [
        vec![("human", "Hi"), ("gpt", "Hello")],
        vec![("human", "Hi")],
        vec![("system", "s"), ("human", "a"), ("gpt", "b")],
    ];
    let mut frame = table(vec![chat_column("conversations", ["from", "value"], &chats)]);
    for (name, bytes) in as_files(&mut frame) {
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
    for (name, bytes) in as_files(&mut table(vec![texts("text", &[Some("a"); 1000])])) {
        let found = collected(&[("p/a.txt", b"one"), (&format!("p/{name}"), &bytes[..bytes.len() / 2])], &path("p"));
        assert_eq!(found[0], "p/a.txt: one", "{name}");
        assert!(found.last().unwrap().contains("[corrupt]: "), "{found:?}");
        let found = collected(&[("p/a.txt", b"one"), (&format!("p/{name}"), b"")], &path("p"));
        assert_eq!((found.len(), found[0].as_str()), (2, "p/a.txt: one"), "{found:?}");
        assert!(found[1].starts_with(&format!("{name}  [corrupt]: ")), "{found:?}");
    }
}
