//! Local sources: selection, reading, and the resulting corpus.

mod columnar;
mod corpus;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow_array::Int64Array;
use artifact::Digest;
use corpus::{chain, collect, collect_into, context, digests, inventory, one, path, rows, write};
use data_ingest::{Chat, Config, Error, Format, Source};
use parquet::basic::Compression;

/// Collects `config` from `files` and compares ids and texts, or the error; `<base>` stands for the folder.
fn check(files: &[(&str, &[u8])], config: &Config, expected: Result<&[(&str, &str)], &str>) {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), files);
    check_in(base.path(), config, expected);
}

fn check_in(base: &Path, config: &Config, expected: Result<&[(&str, &str)], &str>) {
    let found = collect(config, &context(base));
    match (found, expected) {
        (Ok((_, rows)), Ok(expected)) => {
            let found: Vec<(String, String)> =
                rows.into_iter().map(|row| (row.id, row.text.unwrap_or_else(|| format!("{:?}", row.raw)))).collect();
            let found: Vec<(&str, &str)> = found.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
            assert_eq!(found, expected);
        }
        (Err(error), Err(expected)) => {
            assert_eq!(chain(&error).replace(&base.display().to_string(), "<base>"), expected);
        }
        (found, expected) => panic!("{found:?}\n{expected:?}"),
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn parquet(column: &str, rows: &[Option<&'static str>]) -> Vec<u8> {
    let numbers = Int64Array::from_iter_values(0..rows.len() as i64);
    let columns = columnar::table(vec![("n", Arc::new(numbers)), (column, columnar::texts(rows.iter().copied()))]);
    columnar::parquet(&columns, 2, Compression::SNAPPY)
}

#[test]
fn every_format_becomes_documents() {
    check(
        &[("d/a.txt", b"one"), ("d/b.md", b"# two"), ("d/c.rs", b"fn c() {}")],
        &path("d"),
        Ok(&[("d/a.txt", "one"), ("d/b.md", "# two"), ("d/c.rs", "fn c() {}")]),
    );
    check(
        &[("a.jsonl", b"{\"text\": \"one\"}\n\n{\"n\": 1, \"text\": \"two\"}\n{\"text\": null}\n{\"text\": \"\"}")],
        &path("a.jsonl"),
        Ok(&[("a.jsonl/a.jsonl#1", "one"), ("a.jsonl/a.jsonl#3", "two")]),
    );
    check(
        &[("a.csv", b"id,text\n1,\"one, and\nmore\"\n2,two\n3,\n")],
        &path("a.csv"),
        Ok(&[("a.csv/a.csv#1", "one, and\nmore"), ("a.csv/a.csv#2", "two")]),
    );
    check(&[("a.csv", b"\xef\xbb\xbftext,id\none,1\n")], &path("a.csv"), Ok(&[("a.csv/a.csv#1", "one")]));
    check(&[("a.tsv", b"id\ttext\n1\ta, b\n")], &path("a.tsv"), Ok(&[("a.tsv/a.tsv#1", "a, b")]));
    let table = parquet("text", &[Some("one"), None, Some("two"), Some("three"), Some("")]);
    check(
        &[("a.parquet", &table)],
        &path("a.parquet"),
        Ok(&[("a.parquet/a.parquet#1", "one"), ("a.parquet/a.parquet#3", "two"), ("a.parquet/a.parquet#4", "three")]),
    );
    check(&[("a.txt.gz", &gzip("packed"))], &path("a.txt.gz"), Ok(&[("a.txt.gz/a.txt.gz", "packed")]));
    let zstd = zstd::encode_all(&b"{\"text\": \"packed\"}\n"[..], 1).unwrap();
    check(&[("a.jsonl.zst", &zstd)], &path("a.jsonl.zst"), Ok(&[("a.jsonl.zst/a.jsonl.zst#1", "packed")]));
}

#[test]
fn format_and_column_can_be_named() {
    let source = Source { path: Some("d".to_owned()), format: Some(Format::Jsonl), ..Source::default() };
    let config = one(Source { text_column: Some("body".to_owned()), ..source });
    check(&[("d/a.data", b"{\"body\": \"one\"}")], &config, Ok(&[("d/a.data#1", "one")]));
    let config = one(Source { path: Some("a.parquet".into()), text_column: Some("body".into()), ..Source::default() });
    check(&[("a.parquet", &parquet("body", &[Some("one")]))], &config, Ok(&[("a.parquet/a.parquet#1", "one")]));
    check(&[("notes", b"named outright")], &path("notes"), Ok(&[("notes/notes", "named outright")]));
    let config = one(Source { path: Some("d".to_owned()), name: Some("notes".to_owned()), ..Source::default() });
    check(&[("d/a.txt", b"one")], &config, Ok(&[("notes/a.txt", "one")]));
}

#[test]
fn errors_of_tables_name_file_and_columns() {
    check(
        &[("a.csv", b"id,body\n1,x\n")],
        &path("a.csv"),
        Err(
            "<base>/a.csv has no column `text`; it has `id`, `body`: set the source's `text_column` or `template`; or \
             leave the file out with `exclude`, and give it a source of its own",
        ),
    );
    check(
        &[("a.parquet", &parquet("body", &[Some("one")]))],
        &path("a.parquet"),
        Err(
            "<base>/a.parquet has no column `text`; it has `n`, `body`: set the source's `text_column` or `template`; \
             or leave the file out with `exclude`, and give it a source of its own",
        ),
    );
    let config = one(Source { path: Some("a.parquet".into()), text_column: Some("n".into()), ..Source::default() });
    check(
        &[("a.parquet", &parquet("body", &[Some("one")]))],
        &config,
        Err(
            "<base>/a.parquet: column `n` holds Int64, not text: set `text_column` to another column, or make text of \
             this one with `template`",
        ),
    );
}

#[test]
fn chat_needs_a_format_with_rows() {
    let config = one(Source { path: Some("d".into()), chat: Some(Chat::Messages), ..Source::default() });
    let chat =
        b"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n";
    check(
        &[("d/a.txt", b"text")],
        &config,
        Err("source d: chat: needs rows, and none of its files has rows: each is one document; remove `chat`, \
             select other files, or set `format`"),
    );
    // Text files beside conversations are allowed.
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &[("d/README.txt", b"about"), ("d/a.jsonl", chat)]);
    assert_eq!(collect(&config, &context(base.path())).unwrap().1.len(), 2);
}

#[test]
fn globs_and_ignore_rules_select_files() {
    let files: &[(&str, &[u8])] = &[
        ("p/.git/config.txt", b"hidden"),
        ("p/.gitignore", b"target/\n*.log\n"),
        ("p/a.txt", b"a"),
        ("p/b.log", b"ignored"),
        ("p/image.png", b"of no known kind"),
        ("p/notes/c.md", b"c"),
        ("p/notes/deep/d.md", b"d"),
        ("p/notes/e.dat", b"e"),
        ("p/target/f.txt", b"ignored"),
    ];
    check(files, &path("p"), Ok(&[("p/a.txt", "a"), ("p/notes/c.md", "c"), ("p/notes/deep/d.md", "d")]));
    check(files, &path("p/*.txt"), Ok(&[("p/*.txt/a.txt", "a")]));
    check(files, &path("p/**/*.md"), Ok(&[("p/**/*.md/notes/c.md", "c"), ("p/**/*.md/notes/deep/d.md", "d")]));
    check(files, &path("p/n*/{c,e}.*"), Ok(&[("p/n*/{c,e}.*/notes/c.md", "c"), ("p/n*/{c,e}.*/notes/e.dat", "e")]));
    let with = |include: &[&str], exclude: &[&str]| {
        let own = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        one(Source { path: Some("p".into()), include: own(include), exclude: own(exclude), ..Source::default() })
    };
    check(files, &with(&["*.md"], &[]), Ok(&[("p/notes/c.md", "c"), ("p/notes/deep/d.md", "d")]));
    check(files, &with(&["notes/*.md"], &[]), Ok(&[("p/notes/c.md", "c")]));
    check(files, &with(&["*.dat"], &[]), Ok(&[("p/notes/e.dat", "e")]));
    check(files, &with(&[], &["notes"]), Ok(&[("p/a.txt", "a")]));
    check(files, &with(&[], &["/a.txt", "deep/"]), Ok(&[("p/notes/c.md", "c")]));
    check(
        files,
        &with(&["[a"], &[]),
        Err("collect.sources[0].include: error parsing glob '**/[a': unclosed character class; missing ']'"),
    );
    check(
        files,
        &with(&["*.toml"], &[]),
        Err("source p selects no file (5 excluded or of an unknown format); see its `path`, `include` and `exclude`"),
    );
}

#[cfg(unix)]
#[test]
fn links_are_followed_named_as_the_source_or_not() {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &[("p/a.txt", b"a"), ("outside.txt", b"outside")]);
    let link = |to: &str, from: &str| std::os::unix::fs::symlink(base.path().join(to), base.path().join(from)).unwrap();
    link("outside.txt", "p/link.txt");
    link("p", "q");
    check_in(base.path(), &path("p"), Ok(&[("p/a.txt", "a"), ("p/link.txt", "outside")]));
    check_in(base.path(), &path("q"), Ok(&[("q/a.txt", "a"), ("q/link.txt", "outside")]));
    check_in(base.path(), &path("p/link.txt"), Ok(&[("p/link.txt/link.txt", "outside")]));
}

#[test]
fn skipped_files_are_counted_and_other_encodings_kept() {
    let base = tempfile::tempdir().unwrap();
    write(
        base.path(),
        &[
            ("p/binary.txt", b"a\0b"),
            ("p/empty.txt", b""),
            ("p/good.txt", b"good"),
            ("p/image.png", b"\x89PNG"),
            ("p/large.txt", &[b'x'; 101]),
            ("p/latin.txt", b"x\xe9"),
            ("p/packed.txt.gz", &gzip(&"x".repeat(101))),
        ],
    );
    let config = one(Source {
        path: Some("p".to_owned()),
        max_file_bytes: Some(100),
        licence: Some("MIT".to_owned()),
        ..Source::default()
    });
    let out = tempfile::tempdir().unwrap();
    let outcome = collect_into(&config, &context(base.path()), out.path()).unwrap();
    assert_eq!(outcome.headline, "2 documents, 0.0 MB");
    let expected = serde_json::json!({
        "documents": 2, "bytes": 6, "sources": 1, "files": 5, "shards": 1, "not_utf8": 1,
        "decoded_files": 0, "files_with_replaced_characters": 0, "files_of_unknown_encoding": 1,
        "records_with_replaced_characters": 0,
        "skipped": {"binary": 1, "empty": 1, "too_large": 2}, "not_selected": 1, "bad_records": 0,
        "notices": ["source p: 4 of 6 files and records left out (too_large 2, binary 1, empty 1)"],
    });
    assert_eq!(serde_json::Value::Object(outcome.counts), expected);
    let rows = rows(out.path());
    assert_eq!(rows[0].text.as_deref(), Some("good"));
    assert_eq!(rows[0].raw, None);
    assert_eq!(rows[0].sha256, Digest::of(b"good").to_string());
    assert_eq!((rows[0].source.as_str(), rows[0].path.as_str(), rows[0].licence.as_str()), ("p", "good.txt", "MIT"));
    assert_eq!(rows[1].text, None);
    assert_eq!(rows[1].raw.as_deref(), Some(&b"x\xe9"[..]));
    assert_eq!((rows[1].bytes, rows[1].sha256.clone()), (2, Digest::of(b"x\xe9").to_string()));
    let text = fs::read_to_string(out.path().join("sources.json")).unwrap();
    let sources: serde_json::Value = serde_json::from_str(&text).unwrap();
    let source = &sources["sources"][0];
    assert_eq!(source["origin"], serde_json::json!({"kind": "path", "path": "p"}));
    assert_eq!(source["skipped"], serde_json::json!({"binary": 1, "empty": 1, "too_large": 2}));
    assert!(!text.contains(base.path().to_str().unwrap()), "no absolute path in {text}");
}

#[test]
fn missing_unreadable_and_empty_sources_are_errors() {
    check(&[], &path("nowhere"), Err("source nowhere: <base>/nowhere does not exist"));
    check(&[], &path("nowhere/*.txt"), Err("source nowhere/*.txt: <base>/nowhere/*.txt does not exist"));
    check(
        &[("p/a.txt", b"")],
        &path("p"),
        Err("the dataset is empty: none of 1 files contained a document (skipped: 1 empty)"),
    );
    check(
        &[("a.csv", b"text\n")],
        &path("a.csv"),
        Err("the dataset is empty: none of 1 files contained a document (nothing was skipped)"),
    );
    let two = Config { sources: [path("p").sources, path("./p/").sources].concat(), ..Config::default() };
    check(&[("p/a.txt", b"a")], &two, Err("two sources are named `p`; give one of them another `name`"));
    let pinned = Source { path: Some("p".into()), sha256: Some(Digest::of(b"")), ..Source::default() };
    let found = Digest::of(format!("{}  a.txt\n", Digest::of(b"a")).as_bytes());
    let expected = Digest::of(b"");
    let found = format!("source p: its content has SHA-256 {found}, but collect.sources[0].sha256 is {expected}");
    check(&[("p/a.txt", b"a")], &one(pinned), Err(&found));
    let krate = Source { krate: Some("no-such-crate".into()), version: Some("9.9.9".into()), ..Source::default() };
    let base = tempfile::tempdir().unwrap();
    let error = inventory(&one(krate), &context(base.path())).unwrap_err();
    assert!(matches!(&error, Error::MissingCrate { name, .. } if name == "no-such-crate"), "{error}");
    // A file that can be opened but not read, even by root.
    if cfg!(target_os = "linux") {
        check(&[], &path("/dev/null"), Err("collect.sources[0].path: is neither a file nor a folder"));
        check(&[], &path("/proc/self/mem"), Err("cannot read /proc/self/mem: Input/output error (os error 5)"));
    }
}

#[test]
fn a_dataset_has_its_own_folder_globs_and_limit() {
    let dataset = "name = \"d\"\ninclude = [\"*.rs\", \"*.md\"]\nexclude = [\"tests\"]\nmax_file_bytes = 3\n\
        [[source]]\npath = \"src\"\nlicence = \"MIT\"\n[[source]]\npath = \"docs\"\ninclude = [\"*.txt\"]\n";
    let files: &[(&str, &[u8])] = &[
        ("d/dataset.toml", dataset.as_bytes()),
        ("d/src/a.rs", b"a"),
        ("d/src/b.txt", b"b"),
        ("d/src/large.rs", b"four"),
        ("d/src/tests/c.rs", b"c"),
        ("d/docs/d.txt", b"d"),
        ("d/docs/tests/e.txt", b"e"),
    ];
    let dataset = |dataset: &str| Config { dataset: Some(dataset.to_owned()), ..Config::default() };
    for name in ["d", "d/dataset.toml"] {
        check(files, &dataset(name), Ok(&[("docs/d.txt", "d"), ("src/a.rs", "a")]));
    }
    check(
        &[("d/dataset.toml", b"")],
        &dataset("d"),
        Err("<base>/d/dataset.toml: source: missing: it has no [[source]]"),
    );
    check(
        &[("d/dataset.toml", b"[[source]]\npath = \".\"\nlicense = \"MIT\"\n")],
        &dataset("d"),
        Err("<base>/d/dataset.toml:3: unknown key `source.license`; did you mean `source.licence`?"),
    );
    check(
        &[("d/dataset.toml", b"[[source]]\nurl = \"ftp://localhost/x\"\n")],
        &dataset("d"),
        Err("<base>/d/dataset.toml: source[0].url: `ftp://localhost/x`: `ftp://` is neither http:// nor https://"),
    );
}

#[test]
fn a_changed_byte_changes_the_digest_of_its_source_only() {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &[("a/1.txt", b"one"), ("a/2.txt", b"two"), ("b/3.txt", b"three")]);
    let mut config = Config { sources: [path("a").sources, path("b").sources].concat(), ..Config::default() };
    let inputs = |config: &Config| inventory(config, &context(base.path())).unwrap().inputs();
    let before = inputs(&config);
    assert_eq!(before.keys().collect::<Vec<_>>(), ["source a", "source b"]);
    write(base.path(), &[("a/image.png", b"pixels")]);
    assert_eq!(inputs(&config), before, "a file of no known kind is not collected");
    write(base.path(), &[("b/3.txt", b"trees")]);
    let after = inputs(&config);
    assert_eq!(after["source a"], before["source a"]);
    assert_ne!(after["source b"], before["source b"]);
    config.sources[0].licence = Some("MIT".to_owned());
    assert_ne!(inputs(&config)["source a"], after["source a"], "what is said about a source counts too");
}

#[test]
fn a_file_that_changes_after_it_was_listed_is_an_error() {
    let base = tempfile::tempdir().unwrap();
    for (name, before, after) in [("a.txt", "one", "two"), ("a.csv", "text\none\n", "text\ntwo\n")] {
        write(base.path(), &[(name, before.as_bytes())]);
        let config = path(name);
        let context = context(base.path());
        let inventory = inventory(&config, &context).unwrap();
        write(base.path(), &[(name, after.as_bytes())]);
        let out = tempfile::tempdir().unwrap();
        let recipe = artifact::Recipe {
            stage: "collect".to_owned(),
            stage_version: 1,
            config: config.fingerprint_value(),
            inputs: inventory.inputs(),
            seed: 1,
            device_class: None,
        };
        let unsealed = artifact::Unsealed::at(out.path(), recipe);
        let error = data_ingest::run(&config, &inventory, &unsealed, &context).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{error}");
    }
}

#[test]
fn an_interruption_leaves_nothing_sealed() {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &[("a.txt", b"a")]);
    let context = context(base.path());
    context.cancel.request();
    assert!(matches!(collect(&path("a.txt"), &context), Err(Error::Interrupted)));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    #[test]
    fn utf_8_passes_unchanged(files in proptest::collection::vec(proptest::collection::vec(1_u8.., 1..60), 1..12)) {
        let base = tempfile::tempdir().unwrap();
        for (i, file) in files.iter().enumerate() {
            write(base.path(), &[(format!("p/{i:02}.txt").as_str(), file)]);
        }
        let (_, rows) = collect(&path("p"), &context(base.path())).unwrap();
        proptest::prop_assert_eq!(rows.len(), files.len());
        for (row, file) in rows.into_iter().zip(files) {
            if row.text.is_some() && std::str::from_utf8(&file).is_err() {
                // It was decoded from another encoding.
                continue;
            }
            proptest::prop_assert_eq!(row.sha256, Digest::of(&file).to_string());
            proptest::prop_assert_eq!(row.text.map(String::into_bytes).or(row.raw), Some(file));
        }
    }
}

/// The folder that the test below writes to when started as a process of its own.
const CHILD_OUT: &str = "COLLECT_TEST_OUT";

#[test]
fn bytes_depend_on_neither_threads_nor_folders_nor_the_order_of_sources() {
    let base = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for i in 0..400_u32 {
        writeln!(text, "document {i} {}", i.wrapping_mul(2_654_435_761)).unwrap();
        let name = format!("p{}/{i}.txt", i % 3);
        write(base.path(), &[(name.as_str(), text.repeat(4).as_bytes())]);
    }
    let mut config =
        Config { sources: ["p0", "p1", "p2"].iter().flat_map(|p| path(p).sources).collect(), ..Config::default() };
    if let Some(out) = std::env::var_os(CHILD_OUT) {
        collect_into(&config, &context(base.path()), Path::new(&out)).unwrap();
        return;
    }
    let here = tempfile::tempdir().unwrap();
    config.sources.reverse();
    collect_into(&config, &context(base.path()), here.path()).unwrap();
    let expected = digests(here.path());
    assert!(expected.contains_key("documents-00000.parquet") && expected.contains_key("sources.json"));
    for threads in ["1", "2", "5"] {
        let out = tempfile::tempdir().unwrap();
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["bytes_depend_on_neither", "--quiet"])
            .env("RAYON_NUM_THREADS", threads)
            .env(CHILD_OUT, out.path())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(digests(out.path()), expected, "{threads} threads");
    }
}

#[test]
fn a_large_corpus_is_split_into_shards() {
    let base = tempfile::tempdir().unwrap();
    let text = "0123456789abcdef".repeat(1 << 16);
    for i in 0..70 {
        write(base.path(), &[(format!("p/{i:02}.txt").as_str(), text.as_bytes())]);
    }
    let out = tempfile::tempdir().unwrap();
    let outcome = collect_into(&path("p"), &context(base.path()), out.path()).unwrap();
    assert_eq!(outcome.headline, "70 documents, 73.4 MB");
    assert_eq!(digests(out.path()).len(), 3, "two shards and sources.json");
    let rows = rows(out.path());
    assert!(rows.iter().enumerate().all(|(i, row)| row.id == format!("p/{i:02}.txt")));
}
