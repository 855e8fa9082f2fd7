//! Every format with every compression, intact and damaged.

mod archives;
mod chats;
#[path = "../columnar/mod.rs"]
mod columnar;
#[path = "../corpus/mod.rs"]
mod corpus;
mod damage;
#[path = "../packed/mod.rs"]
mod packed;
mod parquet_files;
mod tables;

use corpus::{chain, collect_into, context, one, path, rows, write};
use data_ingest::{Config, Format, Html, Source};
use packed::{bzip2, gzip, tar, xz, zip, zstandard};

/// Collects and returns documents (`id: text`, line breaks as `|`), counts and bad records, or the error.
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

/// Checks a source of one file.
fn check_file(name: &str, bytes: &[u8], source: Source, expected: &[&str]) {
    let source = Source { path: Some(name.to_owned()), name: Some("s".to_owned()), ..source };
    check(&[(name, bytes)], &one(source), expected);
}

const PAGE: &str = "<html><head><title>Herons</title></head><body><nav><a href=/>Home</a></nav><article><p>A heron \
    stands in the water, still as a post, and waits for a fish to come near, for a very long time.</p><p>Then it \
    strikes, and more often than not it misses, and stands still again.</p></article></body></html>";

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
fn every_format_is_read_with_every_compression() {
    let heron = "Herons||A heron stands in the water, still as a post, and waits for a fish to come near, for a very \
        long time.||Then it strikes, and more often than not it misses, and stands still again.";
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
            // Compressed files may consist of several concatenated streams.
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
fn pages_are_read_as_configured() {
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
fn a_json_file_is_text_without_format_json() {
    check_file("a.json", b"[{\"text\": \"one\"}]", Source::default(), &["s/a.json: [{\"text\": \"one\"}]"]);
    let json = Source { format: Some(Format::Json), ..Source::default() };
    check_file(
        "a.json",
        b"[\n{\"text\": \"one\"}, 7,\n{\"text\": {}},\n{\"text\": \"two\"}]",
        json.clone(),
        &[
            "s/a.json#1: one",
            "s/a.json#4: two",
            "a.json record 2 [malformed]: expected a JSON object",
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
fn columns_are_mapped() {
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
            "a.jsonl line 3 [template]: it prints a null value: `a`",
            "a.jsonl line 4 [wrong_type]: `n` is empty; an id is needed",
        ],
    );
    let csv = b"a,n,q,l,o\nThis.,7,What?,,\nSo.,8,Why?,CC0-1.0,books\n";
    check_file("a.csv", csv, source.clone(), &["s/7: Q: What?|A: This.", "s/8: Q: Why?|A: So."]);
    check_file(
        "a.csv",
        b"a,n\nThis.,7\n",
        source.clone(),
        &["<base>/a.csv has no column `q`; it has `a`, `n`: set the source's `text_column` or `template`; or leave \
             the file out with `exclude`, and give it a source of its own"],
    );
    let zipped = zip(&[("b/a.csv", b"a,n\nThis.,7\n")]);
    check_file(
        "a.zip",
        &zipped,
        source,
        &["<base>/a.zip!/b/a.csv has no column `q`; it has `a`, `n`: set the source's `text_column` or `template`; \
             or leave the file out with `exclude`, and give it a source of its own"],
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
    let found: Vec<_> = rows(out.path()).into_iter().map(|row| (row.source, row.licence)).collect();
    let expected = [("a.csv", "MIT"), ("books", "CC0-1.0")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(found, expected);
}
