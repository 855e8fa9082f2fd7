//! Corpora that other tools wrote.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::{
    ArrayRef, BinaryArray, DictionaryArray, Float32Array, Int64Array, LargeListArray, LargeStringArray, NullArray,
    RecordBatch, StringViewArray, StructArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::Field;
use artifact::{Host, Outcome, Recipe, Unsealed};
use serde_json::json;

use super::*;

type Rows = Result<Vec<Row>, Error>;

/// Calls `check` with the rows of a corpus of one file with these columns.
fn with_corpus(columns: Vec<(&str, ArrayRef)>, check: impl FnOnce(Rows)) {
    let folder = tempfile::tempdir().unwrap();
    let columns = columns.into_iter().map(|(name, values)| (name, values, true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let file = File::create(folder.path().join("documents-00000.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let sealed = sealed(folder.path());
    let reader = Reader::open(&sealed, "documents-00000.parquet").unwrap();
    check(reader.rows((0, rows.num_rows())));
}

fn sealed(folder: &Path) -> Sealed {
    let recipe = Recipe {
        stage: "collect".to_owned(),
        stage_version: 0,
        config: json!({}),
        inputs: BTreeMap::new(),
        seed: 0,
        device_class: None,
    };
    Unsealed::at(folder, recipe).seal(Outcome::default(), 0.0, Host::default()).unwrap()
}

fn texts<const N: usize>(texts: [Option<&str>; N]) -> ArrayRef {
    Arc::new(StringArray::from_iter(texts))
}

#[test]
fn texts_of_every_type_are_read() {
    let expected = ["caf\u{e9}", "two", "caf\u{e9}"];
    let columns: [ArrayRef; 5] = [
        texts(expected.map(Some)),
        Arc::new(LargeStringArray::from_iter_values(expected)),
        Arc::new(StringViewArray::from_iter_values(expected)),
        Arc::new(DictionaryArray::<Int32Type>::from_iter(expected)),
        Arc::new(BinaryArray::from_iter_values(expected)),
    ];
    for column in columns {
        let types = column.data_type().clone();
        let ids = Arc::new(Int64Array::from(vec![7, 8, 9]));
        with_corpus(vec![("id", ids), ("text", column)], |rows| {
            let rows = rows.unwrap();
            let found = |row: &Row| match &row.content {
                Content::Body(Body::Text(text)) => (row.document.id.clone(), text.clone()),
                other => panic!("{other:?}"),
            };
            let found: Vec<_> = rows.iter().map(found).collect();
            let expected: Vec<_> =
                ["7", "8", "9"].map(str::to_owned).into_iter().zip(expected.map(str::to_owned)).collect();
            assert_eq!(found, expected, "{types}");
            let Document { source, path, licence, bytes, invalid_utf8, .. } = &rows[0].document;
            assert_eq!((&**source, &**path, &**licence), ("", "", "unknown"));
            assert_eq!((*bytes, *invalid_utf8), (5, false));
        });
    }
}

#[test]
fn bytes_that_are_not_text_are_read() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", texts([Some("a"), Some("b")])),
        ("text", Arc::new(NullArray::new(2))),
        ("raw", Arc::new(BinaryArray::from_iter_values([&b"caf\xe9"[..], b"text"]))),
        ("licence", texts([None, Some("MIT")])),
    ];
    with_corpus(columns, |rows| {
        let rows = rows.unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.document.invalid_utf8, &*row.document.licence)).collect();
        assert_eq!(found, [(true, "unknown"), (false, "MIT")]);
        assert!(matches!(&rows[0].content, Content::Raw(bytes) if bytes == b"caf\xe9"));
    });
}

/// Returns a column of conversations with the given numbers of messages.
fn messages<const N: usize>(lengths: [usize; N], fields: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let structs = StructArray::try_from(fields).unwrap();
    let item = Arc::new(Field::new_list_field(structs.data_type().clone(), true));
    Arc::new(LargeListArray::new(item, OffsetBuffer::from_lengths(lengths), Arc::new(structs), None))
}

#[test]
fn conversations_are_read_with_their_fields_and_weights() {
    let parts = r#"{"content": [{"type": "text", "text": "Four."}], "name": "Ann"}"#;
    let calls = r#"{"tool_calls": [{"function": {"name": "add", "arguments": {"a": 2}}}]}"#;
    let fields = vec![
        ("role", texts([Some("user"), Some("assistant"), Some("developer"), Some("assistant")])),
        ("content", texts([Some("Two and two?"), None, Some("Be brief."), None])),
        ("weight", Arc::new(Float32Array::from(vec![None, Some(0.0), None, None])) as ArrayRef),
        ("fields", texts([None, Some(parts), None, Some(calls)])),
    ];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", texts([Some("a"), Some("b")])),
        ("messages", messages([2, 2], fields)),
        ("tools", texts([None, Some(r#"[{"type": "function"}]"#)])),
        ("weight", Arc::new(Int64Array::from(vec![Some(2), None]))),
    ];
    with_corpus(columns, |rows| {
        let rows = rows.unwrap();
        let chats = rows.iter().map(|row| match &row.content {
            Content::Body(Body::Chat(chat)) => serde_json::to_value(chat).unwrap(),
            other => panic!("{other:?}"),
        });
        let expected = [
            json!({"weight": 2.0, "messages": [
                {"role": "user", "content": "Two and two?"},
                {"role": "assistant", "content": [{"type": "text", "text": "Four."}], "weight": 0.0, "name": "Ann"}
            ]}),
            json!({"tools": [{"type": "function"}], "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 2}}}]}
            ]}),
        ];
        assert_eq!(chats.collect::<Vec<_>>(), expected);
    });
    // Older corpora have neither fields nor weights.
    let columns = vec![("role", texts([Some("user")])), ("content", texts([Some("Hello.")]))];
    with_corpus(vec![("id", texts([Some("a")])), ("messages", messages([1], columns))], |rows| {
        let rows = rows.unwrap();
        let Content::Body(Body::Chat(chat)) = &rows[0].content else { panic!("{rows:?}") };
        assert_eq!(*chat, Conversation::from(vec![Message::new("user", "Hello.")]));
    });
}

#[test]
fn columns_of_other_types_are_errors() {
    let check = |column: &str, values: ArrayRef, expected: &str| {
        let role = vec![("role", texts([Some("user")])), ("content", texts([Some("Hello.")]))];
        let mut columns: Vec<(&str, ArrayRef)> = vec![("id", texts([Some("a")]))];
        if column != "messages" {
            columns.push(("messages", messages([1], role)));
        }
        columns.push((column, values));
        with_corpus(columns, |rows| {
            let error = rows.unwrap_err().to_string();
            assert!(error.starts_with("column ") && error.ends_with(expected), "{error}");
        });
    };
    let list = || Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(0.5)])]));
    let number = |number: f64| Arc::new(Float64Array::from(vec![number]));
    check("text", list(), "documents-00000.parquet is List(Float64), which cannot be read as Utf8");
    check("weight", list(), "is List(Float64), which cannot be read as Float64");
    check("weight", number(-1.0), "of document a is -1; a weight is a number from 0 to 1000");
    check("weight", number(f64::NAN), "of document a is NaN; a weight is a number from 0 to 1000");
    check("tools", texts([Some("add")]), "of document a is not JSON: expected value at line 1 column 1");
    check("messages", texts([Some("Hello.")]), "is Utf8, not a list of structs");
    check("messages", list(), "is List(Float64), not a list of structs");
    let fields = |text| messages([1], vec![("role", texts([Some("user")])), ("fields", texts([Some(text)]))]);
    check("messages", fields("[]"), "of document a is not a JSON object");
    let roles = || messages([1], vec![("role", list() as ArrayRef)]);
    check("messages", roles(), "is List(Float64), which cannot be read as Utf8");
    let columns: Vec<(&str, ArrayRef)> = vec![("id", texts([Some("a")])), ("words", texts([Some("b")]))];
    with_corpus(columns, |rows| assert!(matches!(rows, Err(Error::NoContent { id, .. }) if id == "a")));
}

#[test]
fn a_corpus_with_pictures_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["documents-00000.parquet", "images-00000.parquet"] {
        std::fs::write(folder.path().join(name), "not read").unwrap();
    }
    let error = check_text_only(&sealed(folder.path())).unwrap_err().to_string();
    assert!(error.contains("has pictures or sounds, which stage preprocess cannot turn into tokens yet"), "{error}");
}
