//! Every shape of table in JSON, and the values that Python writes though JSON does not have them.

use data_ingest::{Chat, Format, Source};
use serde_json::json;

use crate::corpus::{one, path};
use crate::packed::{gzip, zip};
use crate::{check, collected, some};

fn text() -> Source {
    Source { text_column: some("text"), ..Source::default() }
}

/// Checks that a `.json` file of two rows is read as `how`, which is said unless it is obvious.
fn check_two(file: &str, how: Option<&str>) {
    let source = Source { path: some("a.json"), name: some("s"), id_column: some("id"), ..text() };
    let found = collected(&[("a.json", file.as_bytes())], &one(source.clone()));
    assert_eq!(found.documents, ["s/7: one", "s/8: two, \"2\"|end"], "{file}");
    let line = how.map(|how| format!("source s: rows of a.json: {how}"));
    assert_eq!(found.lines, Vec::from_iter(line), "{file}");
    assert_eq!(found.source["rows_at"], how.map_or(json!({}), |how| json!({ how: 1 })));
    // In an archive it is read once, in one pass.
    let members: &[(&str, &[u8])] = &[("a.json.gz", &gzip(file.as_bytes()))];
    let found = collected(&[("a.zip", &zip(members))], &one(Source { path: some("a.zip"), ..source }));
    assert_eq!(found.documents, ["s/7: one", "s/8: two, \"2\"|end"], "{file}");
}

#[test]
fn every_shape_of_table_gives_rows() {
    let one = r#"{"id": 7, "text": "one", "x": [{"text": "no"}]}"#;
    let two = r#"{"x": {}, "text": "two, \"2\"\nend", "id": 8}"#;
    check_two(&format!("[{one}, {two}]"), None);
    check_two(&format!("[\n  {one},\n  {two}\n]\n"), None);
    check_two(&format!("{one}\n{two}\n"), None);
    check_two(&format!("{one}{two}"), None);
    let wrapped = |before: &str, after: &str| format!("{{{before} \"data\": [{one}, {two}]{after}}}");
    check_two(&wrapped("", ""), Some("the objects at `data`"));
    check_two(&wrapped(r#""version": "1.1", "tags": ["a"],"#, r#", "n": 2"#), Some("the objects at `data`"));
    // Another array of objects does not have the columns.
    check_two(&wrapped(r#""splits": [{"name": "text"}],"#, r#", "y": [{"z": 1}]"#), Some("the objects at `data`"));
    // pandas' orient="table".
    check_two(
        &wrapped(r#""schema": {"fields": [{"name": "id"}], "primaryKey": ["id"]},"#, ""),
        Some("the objects at `data`"),
    );
    let nested = format!("{{\"a.b\": {{\"items\": [{one}, {two}]}}, \"ok\": true}}");
    check_two(&nested, Some("the objects at `\"a.b\".items`"));
    let columns = r#""text": ["one", "two, \"2\"\nend"], "id": [7, 8], "x": [null, [1]]"#;
    check_two(&format!("{{{columns}}}"), Some("the columns of the object"));
    check_two(&format!("{{\"d\": {{{columns}}}}}"), Some("the columns of the object at `d`"));
    let by_key = r#"{"text": {"0": "one", "k": "two, \"2\"\nend"}, "id": {"0": 7, "k": 8}}"#;
    check_two(by_key, Some("the columns of the object"));
    check_two(&format!("{{\"0\": {one}, \"k\": {two}}}"), Some("the values of the object"));
    let split = r#""index": [0, 1], "data": [[7, null, "one"], [8, [1], "two, \"2\"\nend"]]"#;
    check_two(
        &format!("{{\"columns\": [\"id\", \"x\", \"text\"], {split}}}"),
        Some("`data` with the names in `columns`"),
    );
    check_two(
        &format!("{{{split}, \"columns\": [\"id\", \"x\", \"text\"]}}"),
        Some("`data` with the names in `columns`"),
    );
}

#[test]
fn a_path_says_where_rows_are() {
    let nested = r#"{"y.z": [{"q": [{"text": "c"}, {"text": "d"}]}, {"q": []}]}"#;
    let file = format!(r#"{{"train": [{{"text": "a"}}], "test": [{{"text": "b"}}], "x": {nested}}}"#);
    let file = file.as_bytes();
    let at = |path: &str| Source { json_path: some(path), ..Source::default() };
    check("a.json", file, at("train"), &["s/a.json#1: a"]);
    check("a.json", file, at("test"), &["s/a.json#1: b"]);
    check("a.json", file, at("x.\"y.z\".q"), &["s/a.json#1: c", "s/a.json#2: d"]);
    let lines = [file, b"\n", file].concat();
    check("a.json", &lines, at("train"), &["s/a.json#1: a", "s/a.json#2: a"]);
    let several = "source s: json_path: missing: the rows of a.json may be the objects at `train`, or the objects at \
                   `test`; set the path of those that are meant";
    check("a.json", file, text(), &[several]);
    let columns = br#"{"frame": {"text": ["a", "b"], "n": [1, 2]}}"#;
    check("a.json", columns, at("frame"), &["s/a.json#1: a", "s/a.json#2: b"]);
    let empty = "collect.sources[0].json_path: a key is empty; keys are separated by dots: `data.items`";
    check("a.json", file, at("a..b"), &[empty]);
}

#[test]
fn conversations_are_values_not_tables() {
    let turns = r#"[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]"#;
    let expected = "[(\"user\", \"a\"), (\"assistant\", \"b\")]";
    let chat = || Source { chat: Some(Chat::Messages), ..Source::default() };
    check("a.json", format!("{{\"messages\": {turns}}}").as_bytes(), chat(), &[&format!("s/a.json#1: {expected}")]);
    let both = [format!("s/a.json#1: {expected}"), format!("s/a.json#2: {expected}")];
    let both = both.each_ref().map(String::as_str);
    check("a.json", format!("{{\"messages\": [{turns}, {turns}]}}").as_bytes(), chat(), &both);
    check("a.json", format!("[{{\"messages\": {turns}}}, {{\"messages\": {turns}}}]").as_bytes(), chat(), &both);
    let alpaca = br#"{"version": 2, "tasks": [{"instruction": "a", "input": "", "output": "b"}]}"#;
    let source = Source { chat: Some(Chat::Alpaca), ..Source::default() };
    check("a.json", alpaca, source, &[&format!("s/a.json#1: {expected}")]);
    let template = Source { template: some("{{ q }} {{ a }}"), ..Source::default() };
    check("a.json", br#"{"rows": [{"q": "Why?", "a": "So."}]}"#, template, &["s/a.json#1: Why? So."]);
}

#[test]
fn a_json_file_is_text_unless_rows_are_asked_for() {
    check("a.json", b"[{\"text\": \"a\"}]", Source::default(), &["s/a.json: [{\"text\": \"a\"}]"]);
    let found = collected(&[("a.json", b"\n[ {\"text\": \"a\"}]")], &path("a.json"));
    let hint = "source a.json: a.json is one document, as text; `format = \"json\"` or `text_column` makes rows of its \
                objects";
    assert_eq!(found.lines, [hint]);
    let source = Source { format: Some(Format::Json), ..Source::default() };
    check("a.json", b"{\"data\": [{\"text\": \"a\"}]}", source, &["s/a.json#1: a"]);
    let over_lines = b"{\n  \"text\": \"a\"\n}\n{\n  \"text\": \"b\"\n}\n";
    check("a.jsonl", over_lines, Source::default(), &["s/a.jsonl#1: a", "s/a.jsonl#2: b"]);
    // An array in a file of lines.
    check(
        "a.jsonl",
        b"[\n{\"text\": \"a\"},\n{\"text\": \"b\"}]",
        Source::default(),
        &["s/a.jsonl#1: a", "s/a.jsonl#2: b"],
    );
}

#[test]
fn a_key_that_cannot_act_is_an_error() {
    let needs = |key: &str| {
        format!(
            "source s: {key}: needs rows, and none of its files has rows: each is one document; remove `{key}`, select \
             other files, or set `format`"
        )
    };
    check("a.txt", b"a", text(), &[&needs("text_column")]);
    check("a.txt", b"a", Source { id_column: some("id"), ..Source::default() }, &[&needs("id_column")]);
    check(
        "a.html",
        b"<p>a",
        Source { template: some("{{ q }}"), html: data_ingest::Html::All, ..Source::default() },
        &[&needs("template")],
    );
    let path = Source { json_path: some("data"), ..Source::default() };
    let none = "source s: json_path: none of its files is JSON; remove it, or set `format = \"json\"`";
    check("a.jsonl", b"{\"text\": \"a\"}", path.clone(), &[none]);
    let format = "collect.sources[0].json_path: only files of the format `json` have a path to their rows";
    check("a.csv", b"text\na\n", Source { format: Some(Format::Csv), ..path }, &[format]);
    let document = "collect.sources[0].text_column: needs rows, but `format = \"text\"` makes each file one document; \
                    remove one of them";
    check("a.json", b"[]", Source { format: Some(Format::Text), ..text() }, &[document]);
    let page = "source s: html: none of its files is a web page; remove it, or set `format = \"html\"`";
    check("a.txt", b"a", Source { html: data_ingest::Html::All, ..Source::default() }, &[page]);
}

#[test]
fn damage_in_a_shape_is_a_bad_record() {
    let expected = |end: &str, message: &str| {
        let file = format!("{{\"data\": [{{\"text\": \"a\"}}, {{\"text\": \"b\"}}{end}");
        let source = Source { path: some("a.json"), name: some("s"), ..text() };
        let found = collected(&[("a.json", file.as_bytes())], &one(source));
        assert_eq!(found.documents, ["s/a.json#1: a", "s/a.json#2: b"]);
        let first = format!("a.json record 3: {message}");
        assert_eq!(found.lines[1], format!("source s: 1 bad records left out (1 malformed); the first: {first}"));
    };
    expected(", {\"text\": ", "the file ends inside this object");
    expected(", 3]}", "expected a JSON object");
    expected(" : 1]}", "a bracket, comma or colon is in the wrong place; the rest of the file is skipped");
}

#[test]
fn large_arrays_are_read_in_pieces() {
    let row = |i: usize| format!("{{\"n\": {i}, \"text\": \"number {i}, as a longer text that fills the buffer\"}}");
    let rows: Vec<String> = (0..20_000).map(row).collect();
    let file = format!("{{\"v\": 1, \"data\": [{}]}}", rows.join(","));
    // The object is longer than a row may be, so that it cannot be one.
    let source = Source { path: some("a.json"), max_file_bytes: Some(1 << 10), ..text() };
    let found = collected(&[("a.json", file.as_bytes())], &one(source));
    assert_eq!(found.documents.len(), 20_000);
    assert!(found.documents[19_999].ends_with("#20000: number 19999, as a longer text that fills the buffer"));
}

#[test]
fn values_that_are_not_finite_matter_only_where_they_are_asked_for() {
    let file = b"{\"text\": \"a NaN\", \"score\": NaN}\n{\"score\": -Infinity, \"text\": \"b\"}\n\
                 {\"text\": \"c\", \"score\": [1.5, {\"x\": Infinity}]}\n{\"text\": \"d\", \"score\": 1}\n";
    let texts = ["s/a.jsonl#1: a NaN", "s/a.jsonl#2: b", "s/a.jsonl#3: c", "s/a.jsonl#4: d"];
    check("a.jsonl", file, Source::default(), &texts);
    let found = collected(&[("a.jsonl", file)], &path("a.jsonl"));
    assert_eq!((found.lines, &found.source["bad_records"]["count"]), (vec![], &json!(0)));
    let asked = one(Source { path: some("a.jsonl"), template: some("{{ text }} {{ score }}"), ..Source::default() });
    let found = collected(&[("a.jsonl", file)], &asked);
    assert_eq!(found.documents, ["a.jsonl/a.jsonl#4: d 1"]);
    let message = "`score` is or contains NaN or Infinity, which is not a value of JSON";
    assert_eq!(found.source["bad_records"]["reasons"], json!({ "wrong_type": 3 }));
    assert_eq!(found.source["bad_records"]["examples"][0]["message"], message);
    let array = br#"{"rows": [{"text": "a", "score": NaN}, {"text": "b"}], "best": -Infinity}"#;
    check("a.json", array, text(), &["s/a.json#1: a", "s/a.json#2: b"]);
    check("a.json", br#"{"text": ["a", "b"], "score": [NaN, 1]}"#, text(), &["s/a.json#1: a", "s/a.json#2: b"]);
}

#[test]
fn text_that_python_reads_is_read() {
    let file = br#"{"text": "cut \ud83d here", "x": "\udc00"}
{"text": "whole \ud83d\ude00", "x": "\ud83d"}
{"text": "a	tab"}
"#;
    let found = collected(&[("a.jsonl", file)], &path("a.jsonl"));
    let expected = ["cut \u{fffd} here", "whole \u{1f600}", "a\ttab"];
    let expected: Vec<String> = (1..).zip(expected).map(|(i, text)| format!("a.jsonl/a.jsonl#{i}: {text}")).collect();
    assert_eq!(found.documents, expected);
    let line = "source a.jsonl: 1 record with half a surrogate pair (`\\ud83d`), replaced by U+FFFD";
    assert_eq!(found.lines, [line]);
    assert_eq!(found.source["records_with_replaced_characters"], 1);
}
