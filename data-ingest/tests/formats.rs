//! Every format, in every packing, whole and damaged.

mod corpus;
mod packed;

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use corpus::{chain, collect_into, context, one, path, rows, write};
use data_ingest::{Config, Format, Html, Source};
use packed::{bzip2, gzip, tar, xz, zip, zstandard};
use polars::prelude::{
    Column, DataFrame, IntoSeries, IpcStreamWriter, IpcWriter, NamedFrom, ParquetWriter, SerWriter, Series,
    StructChunked,
};
use zip::write::SimpleFileOptions;

/// Collects and tells documents (`id: text`, line breaks as `|`), counts and bad records, or the error.
fn collected(files: &[(&str, &[u8])], config: &Config) -> Vec<String> {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), files);
    let out = tempfile::tempdir().unwrap();
    let outcome = match collect_into(config, &context(base.path()), out.path()) {
        Ok(outcome) => outcome,
        Err(error) => return vec![chain(&error).replace(&base.path().display().to_string(), "<base>")],
    };
    let text = |row: corpus::Row| match (row.text, row.raw, row.messages) {
        (Some(text), None, None) => text.replace('\n', "|"),
        (None, Some(raw), None) => format!("{raw:?}"),
        (None, None, Some(messages)) => format!("{messages:?}"),
        other => panic!("{other:?}"),
    };
    let mut lines: Vec<String> =
        rows(out.path()).into_iter().map(|row| format!("{}: {}", row.id.clone(), text(row))).collect();
    let sources = std::fs::read_to_string(out.path().join("sources.json")).unwrap();
    assert!(!sources.contains(base.path().to_str().unwrap()), "no absolute path in {sources}");
    let sources: serde_json::Value = serde_json::from_str(&sources).unwrap();
    for source in sources["sources"].as_array().unwrap() {
        let skipped = source["skipped"].as_object().unwrap();
        lines.extend(skipped.iter().map(|(reason, count)| format!("{count} {reason}")));
        for bad in source["bad_records"]["examples"].as_array().unwrap() {
            let text = |key: &str| bad[key].as_str().unwrap();
            lines.push(format!("{} {} [{}]: {}", text("file"), text("at"), text("reason"), text("message")));
        }
    }
    let not_selected = &outcome.counts["not_selected"];
    lines.extend((*not_selected != 0).then(|| format!("{not_selected} not selected")));
    lines
}

fn check(files: &[(&str, &[u8])], config: &Config, expected: &[&str]) {
    assert_eq!(collected(files, config), expected);
}

/// Checks one file that is a source.
fn check_file(name: &str, bytes: &[u8], source: Source, expected: &[&str]) {
    let source = Source { path: Some(name.to_owned()), name: Some("s".to_owned()), ..source };
    check(&[(name, bytes)], &one(source), expected);
}

const PAGE: &str = "<html><head><title>Herons</title></head><body><nav><a href=/>Home</a></nav><article><p>A heron stands in \
    the water, still as a post, and waits for a fish to come near, for a very long time.</p><p>Then it strikes, and more \
    often than not it misses, and stands still again.</p></article></body></html>";

fn warc() -> Vec<u8> {
    let http = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{PAGE}");
    let record = |kind: &str, block: &str| {
        let media = if kind == "response" { "application/http; msgtype=response" } else { "text/plain" };
        format!(
            "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: https://example.org/{kind}\r\nContent-Type: {media}\r\n\
             Content-Length: {}\r\n\r\n{block}\r\n\r\n",
            block.len()
        )
    };
    [record("warcinfo", "x"), record("response", &http), record("conversion", "text")].concat().into_bytes()
}

#[test]
fn every_format_is_read_in_every_packing() {
    let heron = "Herons||A heron stands in the water, still as a post, and waits for a fish to come near, for a very long \
        time.||Then it strikes, and more often than not it misses, and stands still again.";
    let warc = warc();
    let cases: &[(&str, &[u8], &[&str])] = &[
        ("a.txt", b"one\ntwo", &["s/<name>: one|two"]),
        ("a.html", PAGE.as_bytes(), &["s/<name>: <heron>"]),
        ("a.jsonl", b"{\"text\": \"one\"}\n\n{\"text\": \"two\"}", &["s/<name>#1: one", "s/<name>#3: two"]),
        ("a.csv", b"text,n\n\"one, 1\",1\ntwo,2\n", &["s/<name>#1: one, 1", "s/<name>#2: two"]),
        ("a.tsv", b"n\ttext\n1\tone, 1\n", &["s/<name>#1: one, 1"]),
        ("a.warc", &warc, &["s/<name>#2: <heron>", "s/<name>#3: text", "1 not_a_page"]),
    ];
    for (name, bytes, expected) in cases {
        type Pack = fn(&[u8]) -> Vec<u8>;
        let packings: [(&str, Pack); 5] =
            [("", <[u8]>::to_vec), (".gz", gzip), (".zst", zstandard), (".bz2", bzip2), (".xz", xz)];
        for (extension, pack) in packings {
            let packed_name = format!("{name}{extension}");
            // Every packing may come in parts that follow one another.
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let whole = [pack(first), pack(second)].concat();
            let expect = |name: &str| -> Vec<String> {
                let line = |line: &&str| line.replace("<name>", name).replace("<heron>", heron);
                expected.iter().map(line).collect()
            };
            let check = |file: &str, bytes: &[u8], name: &str| {
                let source = Source { path: Some(file.to_owned()), name: Some("s".to_owned()), ..Source::default() };
                assert_eq!(collected(&[(file, bytes)], &one(source)), expect(name), "{name}");
            };
            check(&packed_name, &whole, &packed_name);
            let inner = format!("d/{packed_name}");
            let members: &[(&str, &[u8])] = &[(&inner, &whole)];
            check("a.zip", &zip(members), &format!("a.zip!/{inner}"));
            check("a.tar", &tar(members), &format!("a.tar!/{inner}"));
            check("a.tgz", &gzip(&tar(members)), &format!("a.tgz!/{inner}"));
            check("a.tar.zst", &zstandard(&tar(members)), &format!("a.tar.zst!/{inner}"));
            check("a.tar.bz2", &bzip2(&tar(members)), &format!("a.tar.bz2!/{inner}"));
            check("a.txz", &xz(&tar(members)), &format!("a.txz!/{inner}"));
        }
    }
}

#[test]
fn pages_are_read_as_the_source_says() {
    let source = |html| Source { html, ..Source::default() };
    let [main] = &collected(&[("a.htm", PAGE.as_bytes())], &path("a.htm"))[..] else { panic!("one page") };
    assert!(main.starts_with("a.htm/a.htm: Herons||A heron") && !main.contains("Home"), "{main}");
    let one_page = |html| {
        let config = one(Source { path: Some("a.htm".to_owned()), ..source(html) });
        collected(&[("a.htm", PAGE.as_bytes())], &config).join("\n")
    };
    assert!(one_page(Html::All).starts_with("a.htm/a.htm: Herons||Home"), "{}", one_page(Html::All));
    assert_eq!(one_page(Html::Source), format!("a.htm/a.htm: {PAGE}"));
    let deep = "<div>".repeat(100_000);
    check(
        &[("p/a.html", PAGE.as_bytes()), ("p/b.html", deep.as_bytes()), ("p/c.html", b"<script>1</script>")],
        &path("p"),
        &[
            main.replace("a.htm/a.htm", "p/a.html").as_str(),
            "1 no_main_text",
            "b.html  [hostile]: elements nested more than 256 deep",
        ],
    );
}

#[test]
fn a_json_file_is_text_unless_it_is_said_to_hold_objects() {
    check_file("a.json", b"[{\"text\": \"one\"}]", Source::default(), &["s/a.json: [{\"text\": \"one\"}]"]);
    let json = Source { format: Some(Format::Json), ..Source::default() };
    check_file(
        "a.json",
        b"[\n{\"text\": \"one\"}, 7,\n{\"text\": {}},\n{\"text\": \"two\"}]",
        json.clone(),
        &[
            "s/a.json#1: one",
            "s/a.json#4: two",
            "a.json record 2 [malformed]: a JSON object is needed here",
            "a.json record 3 [wrong_type]: `text` holds an object, not text",
        ],
    );
    check_file(
        "a.json.gz",
        &gzip(b"[{\"text\": \"one\"}, {\"text\": \"two"),
        json,
        &["s/a.json.gz#1: one", "a.json.gz record 2 [malformed]: the file ends inside this object"],
    );
}

#[test]
fn columns_become_text_names_licences_and_sources() {
    let some = |text: &str| Some(text.to_owned());
    let jsonl = b"{\"q\": \"What?\", \"a\": \"This.\", \"n\": 7, \"l\": \"MIT\", \"o\": \"wiki\"}\n\
        {\"q\": \"Why?\", \"a\": \"So.\", \"n\": \"x y\", \"l\": null}\n{\"q\": \"Who?\", \"a\": null, \"n\": 9}\n\
        {\"q\": \"When?\", \"n\": null, \"a\": \"Now.\"}\n";
    let source = Source { template: some("Q: {{ q }}\nA: {{ a }}"), id_column: some("n"), ..Source::default() };
    check_file(
        "a.jsonl",
        jsonl,
        source.clone(),
        &[
            "s/7: Q: What?|A: This.",
            "s/x y: Q: Why?|A: So.",
            "a.jsonl line 3 [template]: it needs a value where there is none: `a`",
            "a.jsonl line 4 [wrong_type]: `n` names no document: it is empty",
        ],
    );
    let csv = b"a,n,q,l,o\nThis.,7,What?,,\nSo.,8,Why?,CC0-1.0,books\n";
    check_file("a.csv", csv, source.clone(), &["s/7: Q: What?|A: This.", "s/8: Q: Why?|A: So."]);
    check_file(
        "a.csv",
        b"a,n\nThis.,7\n",
        source.clone(),
        &["<base>/a.csv has no column `q`; it has `a`, `n`: set the source's `text_column` or `template`"],
    );
    let zipped = zip(&[("b/a.csv", b"a,n\nThis.,7\n")]);
    check_file(
        "a.zip",
        &zipped,
        source,
        &["<base>/a.zip!/b/a.csv has no column `q`; it has `a`, `n`: set the source's `text_column` or `template`"],
    );
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &[("a.csv", csv)]);
    let config = one(Source {
        path: some("a.csv"),
        text_column: some("q"),
        licence: some("MIT"),
        licence_column: some("l"),
        source_column: some("o"),
        ..Source::default()
    });
    let out = tempfile::tempdir().unwrap();
    collect_into(&config, &context(base.path()), out.path()).unwrap();
    let told: Vec<_> = rows(out.path()).into_iter().map(|row| (row.source, row.licence)).collect();
    let expected = [("a.csv", "MIT"), ("books", "CC0-1.0")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(told, expected);
}

fn table(columns: Vec<Column>) -> DataFrame {
    DataFrame::new(columns[0].len(), columns).unwrap()
}

fn texts(name: &str, texts: &[Option<&str>]) -> Column {
    Series::new(name.into(), texts).into()
}

/// Packs a table as Parquet with row groups of two rows, as an Arrow file, and as an Arrow stream.
fn as_files(frame: &mut DataFrame) -> [(&'static str, Vec<u8>); 3] {
    let [mut parquet, mut file, mut stream] = [const { Vec::new() }; 3];
    ParquetWriter::new(&mut parquet).with_row_group_size(Some(2)).finish(frame).unwrap();
    IpcWriter::new(&mut file).finish(frame).unwrap();
    IpcStreamWriter::new(&mut stream).finish(frame).unwrap();
    [("a.parquet", parquet), ("a.arrow", file), ("a.arrows", stream)]
}

#[test]
fn tables_kept_by_column_are_read_in_every_packing() {
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
fn columns_of_tables_kept_by_column_are_mapped() {
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
        let bad = format!("{name} row 3 [wrong_type]: `n` names no document: it is empty");
        check_file(name, &bytes, source, &["s/7: What? This. 0.5", "s/8: Why? 1.5", &bad]);
        let source = |column: &str| Source { text_column: some(column), ..Source::default() };
        let raw = [format!("s/{name}#1: [99, 97, 102, 233]"), format!("s/{name}#2: plain")];
        check_file(name, &bytes, source("raw"), &[&raw[0], &raw[1], "1 empty"]);
        let told = format!("<base>/{name}: column `n` holds u32, not text");
        check_file(name, &bytes, source("n"), &[&told]);
        let header = "it has `q`, `a`, `n`, `score`, `raw`: set the source's `text_column` or `template`";
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
fn conversations_of_tables_kept_by_column_become_messages() {
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
            format!("{name} row 2 [chat]: turn 1: the user has the last word"),
        ];
        check_file(name, &bytes, source, &expected.each_ref().map(String::as_str));
    }
}

#[test]
fn a_damaged_table_gives_what_can_be_read() {
    for (name, bytes) in as_files(&mut table(vec![texts("text", &[Some("a"); 1000])])) {
        let told = collected(&[("p/a.txt", b"one"), (&format!("p/{name}"), &bytes[..bytes.len() / 2])], &path("p"));
        assert_eq!(told[0], "p/a.txt: one", "{name}");
        assert!(told.last().unwrap().contains("[corrupt]: "), "{told:?}");
        let told = collected(&[("p/a.txt", b"one"), (&format!("p/{name}"), b"")], &path("p"));
        assert_eq!((told.len(), told[0].as_str()), (2, "p/a.txt: one"), "{told:?}");
        assert!(told[1].starts_with(&format!("{name}  [corrupt]: ")), "{told:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    #[test]
    fn conversations_go_through_unchanged(
        chats in proptest::collection::vec((proptest::bool::ANY, proptest::collection::vec(".{0,20}[a-z]", 1..5)), 1..20),
    ) {
        let turns = |(has_system, texts): &(bool, Vec<String>)| {
            let system = has_system.then(|| ("system".to_owned(), "Be brief.".to_owned()));
            let pairs = texts.iter().flat_map(|text| [("user", text.clone()), ("assistant", format!("{text}!"))]);
            system.into_iter().chain(pairs.map(|(role, text)| (role.to_owned(), text))).collect::<Vec<_>>()
        };
        let expected: Vec<Vec<(String, String)>> = chats.iter().map(turns).collect();
        let line = |chat: &Vec<(String, String)>| {
            let turn = |(role, content): &(String, String)| serde_json::json!({ "role": role, "content": content });
            serde_json::json!({ "messages": chat.iter().map(turn).collect::<Vec<_>>() }).to_string()
        };
        let jsonl: Vec<String> = expected.iter().map(line).collect();
        let base = tempfile::tempdir().unwrap();
        write(base.path(), &[("a.jsonl", jsonl.join("\n").as_bytes())]);
        let chat = Some(data_ingest::Chat::Messages);
        let config = one(Source { path: Some("a.jsonl".to_owned()), chat, ..Source::default() });
        let out = tempfile::tempdir().unwrap();
        collect_into(&config, &context(base.path()), out.path()).unwrap();
        let found: Vec<_> = rows(out.path()).into_iter().map(|row| row.messages.unwrap()).collect();
        proptest::prop_assert_eq!(&found, &expected);
        // The corpus itself is a table of conversations.
        let again = tempfile::tempdir().unwrap();
        let shard = out.path().join("documents-00000.parquet").to_str().unwrap().to_owned();
        let config = one(Source { path: Some(shard), chat, ..Source::default() });
        collect_into(&config, &context(base.path()), again.path()).unwrap();
        let found: Vec<_> = rows(again.path()).into_iter().map(|row| row.messages.unwrap()).collect();
        proptest::prop_assert_eq!(&found, &expected);
    }
}

#[test]
fn conversations_become_messages() {
    let turns = "[(\"user\", \"Hi\"), (\"assistant\", \"Hello\")]";
    let chat = |chat| Source { chat: Some(chat), ..Source::default() };
    let openai = b"{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Hello\"}]}\n\
        {\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n{\"messages\": null}\n{\"text\": \"no\"}\n";
    check_file(
        "a.jsonl",
        openai,
        chat(data_ingest::Chat::Messages),
        &[
            &format!("s/a.jsonl#1: {turns}"),
            "1 null",
            "a.jsonl line 2 [chat]: turn 1: the user has the last word",
            "a.jsonl line 4 [no_column]: no `messages`; it has `text`",
        ],
    );
    let sharegpt = b"[{\"id\": 1, \"conversations\": [{\"from\": \"human\", \"value\": \"Hi\"}, {\"from\": \"gpt\", \"value\": \"Hello\"}]}]";
    let source = Source { format: Some(Format::Json), ..chat(data_ingest::Chat::Sharegpt) };
    check_file("a.json", sharegpt, source, &[&format!("s/a.json#1: {turns}")]);
    let alpaca = chat(data_ingest::Chat::Alpaca);
    check_file("a.csv", b"instruction,output\nHi,Hello\n", alpaca.clone(), &[&format!("s/a.csv#1: {turns}")]);
    check_file(
        "a.csv",
        b"output,input,instruction\nHello,there,Hi\n,,Hi\n",
        alpaca,
        &[
            "s/a.csv#1: [(\"user\", \"Hi\\n\\nthere\"), (\"assistant\", \"Hello\")]",
            "a.csv row 2 [chat]: turn 2: it is empty",
        ],
    );
    let source = Source { messages_column: Some("m".to_owned()), ..chat(data_ingest::Chat::Messages) };
    let cell = "\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"Hi\"\"}, {\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"Hello\"\"}]\"";
    check_file("a.csv", format!("m\n{cell}\n").as_bytes(), source, &[&format!("s/a.csv#1: {turns}")]);
}

#[test]
fn a_conversations_digest_is_of_its_compact_json() {
    let base = tempfile::tempdir().unwrap();
    let line = "{\"messages\": [{\"content\": \"H\\u00e4?\", \"role\": \"user\"}, {\"role\": \"assistant\", \"content\": \"Ja\"}]}";
    write(base.path(), &[("a.jsonl", line.as_bytes())]);
    let chat = Some(data_ingest::Chat::Messages);
    let config = one(Source { path: Some("a.jsonl".to_owned()), chat, ..Source::default() });
    let out = tempfile::tempdir().unwrap();
    collect_into(&config, &context(base.path()), out.path()).unwrap();
    let json = "[{\"role\":\"user\",\"content\":\"Hä?\"},{\"role\":\"assistant\",\"content\":\"Ja\"}]";
    let row = &rows(out.path())[0];
    assert_eq!((row.bytes, row.sha256.clone()), (json.len() as u64, artifact::Digest::of(json.as_bytes()).to_string()));
    assert_eq!((&row.text, &row.raw), (&None, &None));
}

#[test]
fn a_bad_record_costs_that_record() {
    check_file(
        "a.jsonl",
        b"{\"text\": \"one\"}\n{\"text\": \"two\",}\n{\"body\": 1}\n[]\n{\"text\": 1}\n{\"text\": \"caf\xe9\"}\n{\"text\": \"six\"}\n",
        Source::default(),
        &[
            "s/a.jsonl#1: one",
            "s/a.jsonl#7: six",
            "a.jsonl line 2 [malformed]: column 16: trailing comma",
            "a.jsonl line 3 [no_column]: no `text`; it has `body`",
            "a.jsonl line 4 [malformed]: a JSON object is needed, and this is an array",
            "a.jsonl line 5 [wrong_type]: `text` holds a number, not text",
            "a.jsonl line 6 [malformed]: column 14: invalid unicode code point",
        ],
    );
    check_file(
        "a.csv",
        b"id,text\n1,x\n2,y,z\n3\n4,w\n",
        Source::default(),
        &[
            "s/a.csv#1: x",
            "s/a.csv#4: w",
            "a.csv line 3 [malformed]: 3 fields, and the header has 2",
            "a.csv line 4 [malformed]: 1 fields, and the header has 2",
        ],
    );
    let long = format!("{{\"text\": \"{}\"}}\n{{\"text\": \"two\"}}\n", "x".repeat(2_000_000));
    let source = Source { max_file_bytes: Some(100), ..Source::default() };
    check_file(
        "a.jsonl.gz",
        &gzip(long.as_bytes()),
        source.clone(),
        &["s/a.jsonl.gz#2: two", "a.jsonl.gz line 1 [too_long]: longer than max_file_bytes"],
    );
    let open = format!("text\none\n\"two{}", "x\n".repeat(1_000_000));
    check_file(
        "a.csv",
        open.as_bytes(),
        source,
        &[
            "s/a.csv#1: one",
            "a.csv line 3 [too_long]: it has no end within max_file_bytes (an open quote?); what follows in it is left",
        ],
    );
}

/// Returns JSON lines that do not compress to nothing.
fn lines(count: u32) -> String {
    (0..count).fold(String::new(), |mut lines, i| {
        writeln!(lines, "{{\"text\": \"{:x}\"}}", i.wrapping_mul(2_654_435_761)).unwrap();
        lines
    })
}

#[test]
fn a_damaged_file_gives_what_comes_before_the_damage() {
    let lines: String = lines(20_000);
    for (name, bytes, what) in [
        ("a.jsonl.gz", gzip(lines.as_bytes()), "corrupt"),
        ("a.jsonl.zst", zstandard(lines.as_bytes()), "corrupt"),
        ("a.jsonl.bz2", bzip2(&lines.as_bytes()[..300_000]), "corrupt"),
        ("a.jsonl.xz", xz(lines.as_bytes()), "corrupt"),
    ] {
        let found = collected(&[(name, &bytes[..bytes.len() * 3 / 4])], &path(name));
        let (last, documents) = found.split_last().unwrap();
        assert!(documents.len() > 1000 && documents[0].ends_with("#1: 0"), "{name}: {}", documents.len());
        assert!(last.starts_with(&format!("{name}  [{what}]: ")), "{last}");
        assert!(last.ends_with("; what follows in it is left"), "{last}");
    }
    check(
        &[
            ("p/a.txt", b"one"),
            ("p/b.txt.gz", b"this is no gzip at all"),
            ("p/c.zip", b"no zip"),
            ("p/d.tgz", &gzip(b"no tar")),
        ],
        &path("p"),
        &[
            "p/a.txt: one",
            "b.txt.gz  [corrupt]: invalid gzip header; what follows in it is left",
            "c.zip  [corrupt]: invalid Zip archive: Could not find EOCD; what follows in it is left",
            "d.tgz  [corrupt]: failed to read entire block; what follows in it is left",
        ],
    );
}

#[test]
fn archives_are_folders() {
    let png: &[u8] = b"\x89PNG";
    let members: &[(&str, &[u8])] = &[
        ("./README.md", b"readme"),
        ("docs/a.md", b"a"),
        ("docs/b.txt", b"b"),
        ("docs/image.png", png),
        ("src/c.rs", b"c"),
        (".git/config.txt", b"hidden"),
        ("data.jsonl", b"{\"text\": \"d\"}\n"),
    ];
    let archive = zip(members);
    let files: &[(&str, &[u8])] = &[("p/x/a.zip", &archive), ("p/y.md", b"y")];
    let with = |path: &str, include: &[&str], exclude: &[&str]| {
        let own = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        one(Source {
            path: Some(path.to_owned()),
            name: Some("s".to_owned()),
            include: own(include),
            exclude: own(exclude),
            ..Source::default()
        })
    };
    let all = ["README.md: readme", "docs/a.md: a", "docs/b.txt: b", "src/c.rs: c", "data.jsonl#1: d"];
    let inside = |chosen: &[usize], rest: &[&str]| -> Vec<String> {
        let chosen = chosen.iter().map(|i| format!("s/x/a.zip!/{}", all[*i]));
        chosen.chain(rest.iter().map(|line| (*line).to_owned())).collect()
    };
    assert_eq!(collected(files, &with("p", &[], &[])), inside(&[0, 1, 2, 3, 4], &["s/y.md: y", "2 not selected"]));
    assert_eq!(collected(files, &with("p", &["*.md"], &[])), ["s/y.md: y", "1 not selected"]);
    assert_eq!(collected(files, &with("p", &["*.zip"], &[])), inside(&[0, 1, 2, 3, 4], &["3 not selected"]));
    assert_eq!(collected(files, &with("p", &["x/*.zip/docs/*.md"], &[])), inside(&[1], &["7 not selected"]));
    assert_eq!(collected(files, &with("p", &[], &["*.zip"])), ["s/y.md: y", "1 not selected"]);
    assert_eq!(
        collected(files, &with("p", &[], &["docs", "*.jsonl"])),
        inside(&[0, 3], &["s/y.md: y", "5 not selected"])
    );
    let outright: Vec<String> =
        ["s/a.zip!/README.md: readme", "s/a.zip!/docs/a.md: a", "5 not selected"].map(str::to_owned).to_vec();
    assert_eq!(collected(files, &with("p/x/a.zip", &["*.md"], &[])), outright);
    let named = one(Source { format: Some(Format::Text), ..with("p/x/a.zip", &["*.jsonl"], &[]).sources.remove(0) });
    assert_eq!(collected(files, &named), ["s/a.zip!/data.jsonl: {\"text\": \"d\"}|", "6 not selected"]);
}

#[test]
fn what_leads_out_of_an_archive_is_left_and_counted() {
    let inner = zip(&[("a.txt", b"inner")]);
    let members: &[(&str, &[u8])] = &[
        ("../a.txt", b"outside"),
        ("/etc/b.txt", b"outside"),
        ("c/../../d.txt", b"outside"),
        ("c:\\e.txt", b"outside"),
        ("good.txt", b"good"),
        ("inner.zip", &inner),
        ("./good.txt", b"again"),
    ];
    let expected = ["s/<name>!/good.txt: good", "1 nested_archive", "4 outside", "1 repeated_name"];
    for (name, bytes) in [("a.zip", zip(members)), ("a.tar", tar(members))] {
        let expected: Vec<String> = expected.iter().map(|line| line.replace("<name>", name)).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check_file(name, &bytes, Source::default(), &expected);
    }
    let mut builder = tar::Builder::new(Vec::new());
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, "link.txt", "/etc/passwd").unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    builder.append_data(&mut header, format!("{}/x.txt", "long".repeat(60)), &b"x"[..]).unwrap();
    let long = format!("s/a.tar!/{}/x.txt: x", "long".repeat(60));
    check_file("a.tar", &builder.into_inner().unwrap(), Source::default(), &[&long, "2 link"]);
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("a.txt", SimpleFileOptions::default()).unwrap();
    writer.write_all(b"a").unwrap();
    writer.add_symlink("link.txt", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    check_file("a.zip", &writer.finish().unwrap().into_inner(), Source::default(), &["s/a.zip!/a.txt: a", "1 link"]);
}

#[test]
fn an_encrypted_member_is_left_and_counted() {
    // Bit 0 of the general purpose flag says that a member is encrypted (APPNOTE.TXT 6.3.10, section 4.4.4).
    let mut bytes = zip(&[("a.txt", b"secret"), ("b.txt", b"open")]);
    for (signature, flag) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        let at = bytes.windows(4).position(|bytes| bytes == signature).unwrap();
        bytes[at + flag] |= 1;
    }
    check_file("a.zip", &bytes, Source::default(), &["s/a.zip!/b.txt: open", "1 encrypted"]);
}

#[test]
fn a_damaged_member_costs_that_member() {
    let texts: Vec<String> = (0..3).map(|i| format!("{i} ").repeat(1000)).collect();
    let mut bytes =
        zip(&[("a.txt", texts[0].as_bytes()), ("b.txt", texts[1].as_bytes()), ("c.txt", texts[2].as_bytes())]);
    let at = bytes.windows(5).position(|bytes| bytes == b"b.txt").unwrap() + 5;
    bytes[at + 3] ^= 0xff;
    let found = collected(&[("a.zip", &bytes)], &path("a.zip"));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("a.zip/a.zip!/a.txt: 0 0") && found[1].starts_with("a.zip/a.zip!/c.txt: 2 2"));
    assert!(found[2].starts_with("a.zip!/b.txt  [corrupt]: "), "{}", found[2]);
    let whole = tar(&[("a.txt", b"one"), ("b.txt", &[b'x'; 5000]), ("c.txt", b"three")]);
    let found = collected(&[("a.tar", &whole[..3000])], &path("a.tar"));
    let expected = [
        "a.tar/a.tar!/a.txt: one",
        "a.tar!/b.txt  [corrupt]: the archive ends inside it; what follows in it is left",
        "a.tar  [corrupt]: unexpected EOF during skip; what follows in it is left",
    ];
    assert_eq!(found, expected);
}

#[test]
fn bombs_are_left_and_what_is_too_much_stops_the_run() {
    let zeros = vec![b' '; 80 << 20];
    let bomb = zstandard(&zeros);
    assert!(bomb.len() < 20_000);
    let told = "it unpacks to more than 1000 times its size; what follows in it is left";
    check(
        &[("p/a.txt", b"one"), ("p/b.jsonl.zst", &bomb)],
        &path("p"),
        &["p/a.txt: one", &format!("b.jsonl.zst  [bomb]: {told}")],
    );
    check(
        &[("p/a.txt", b"one"), ("p/b.zip", &zip(&[("x.jsonl.zst", &bomb), ("y.txt", b"y")]))],
        &path("p"),
        // An archive that unpacks to so much is a bomb as a whole.
        &["p/a.txt: one", &format!("b.zip!/x.jsonl.zst  [bomb]: {told}"), &format!("b.zip!/y.txt  [bomb]: {told}")],
    );
    check(
        &[("p/a.txt", b"one"), ("p/b.tar.zst", &zstandard(&tar(&[("x.jsonl", &zeros), ("y.txt", b"y")])))],
        &path("p"),
        &["p/a.txt: one", &format!("b.tar.zst!/x.jsonl  [bomb]: {told}"), &format!("b.tar.zst  [bomb]: {told}")],
    );
    let text: String = lines(200_000);
    let config = Config { max_unpacked_bytes: 1 << 20, ..path("a.jsonl.gz") };
    check(
        &[("a.jsonl.gz", &gzip(text.as_bytes()))],
        &config,
        &["<base>/a.jsonl.gz unpacks to more than 1048576 bytes; if that is meant, raise collect.max_unpacked_bytes"],
    );
    let config = Config { max_unpacked_bytes: 1 << 20, ..path("a.zip") };
    check(
        &[("a.zip", &zip(&[("a.jsonl", text.as_bytes())]))],
        &config,
        &["<base>/a.zip unpacks to more than 1048576 bytes; if that is meant, raise collect.max_unpacked_bytes"],
    );
}

#[test]
fn a_tar_cannot_hide_memory_in_its_headers() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    let name = vec![b'x'; 40 << 20];
    header.set_size(name.len() as u64);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &name[..]).unwrap();
    let archive = [tar(&[("a.txt", b"one")])[..1024].to_vec(), builder.into_inner().unwrap()].concat();
    check_file(
        "a.tgz",
        &gzip(&archive),
        Source::default(),
        &["s/a.tgz!/a.txt: one", "a.tgz  [corrupt]: a member's header is very long; what follows in it is left"],
    );
}

#[test]
fn too_many_bad_records_end_the_run_and_are_quoted() {
    let bad = "{\"text\": 1}\n".repeat(11);
    let jsonl = format!("{{\"text\": \"one\"}}\n{bad}");
    let told = "source a.jsonl: 11 of 12 records are bad, and collect.max_bad_records is 0.01: a.jsonl line 2: `text` holds a \
        number, not text; a.jsonl line 3: `text` holds a number, not text; a.jsonl line 4: `text` holds a number, not text; \
        raise it if they may be left out";
    check(&[("a.jsonl", jsonl.as_bytes())], &path("a.jsonl"), &[told]);
    let lenient = Config { max_bad_records: data_ingest::BadRecordLimit::Count(11), ..path("a.jsonl") };
    assert_eq!(collected(&[("a.jsonl", jsonl.as_bytes())], &lenient).len(), 12);
    let strict = Config { max_bad_records: data_ingest::BadRecordLimit::Count(0), ..path("a.jsonl") };
    let told = "source a.jsonl: 1 of 2 records are bad, and collect.max_bad_records is 0: a.jsonl line 2: `text` holds a \
        number, not text; raise it if they may be left out";
    check(&[("a.jsonl", jsonl.as_bytes())], &strict, &[told]);
    let told = "source a.jsonl: 2 of 2 records are bad, and collect.max_bad_records is 0.01: a.jsonl line 1: no `text`; it has \
        `body`; a.jsonl line 2: no `text`; it has `body`; raise it if they may be left out";
    check(&[("a.jsonl", b"{\"body\": \"a\"}\n{\"body\": \"b\"}\n")], &path("a.jsonl"), &[told]);
}
