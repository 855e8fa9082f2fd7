//! Pictures and sounds with captions become documents; each is stored once.

mod corpus;
mod packed;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, UInt32Type};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Fields};
use artifact::{Digest, Outcome};
use corpus::{batches, collect_into, context, digests, one, rows, texts, write};
use data_ingest::{BadRecordLimit, Config, Error, Format, Source};
use packed::{gzip, tar, zip};
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use test_support::media::{png, png_of, svg, wav, zlib};

/// What stands for a picture or sound in a text.
const PLACE: &str = "\u{fffc}";

fn square(grey: u8) -> Vec<u8> {
    png(3, 2, 1, &[grey; 6])
}

fn media(path: &str) -> Source {
    Source { path: Some(path.to_owned()), format: Some(Format::Media), ..Source::default() }
}

#[expect(clippy::unnecessary_wraps, reason = "keys of a source are optional")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Id, text and digests of the media of each document.
type Documents = Vec<(String, String, Vec<String>)>;

/// Collects and returns the outcome, and id, text and digests of the media of each document.
fn collect(source: Source, base: &Path) -> Result<(Outcome, Documents), Error> {
    let out = base.join("out");
    let config = Config { max_bad_records: BadRecordLimit::Count(99), ..one(source) };
    let outcome = collect_into(&config, &context(base), &out)?;
    let lists: Vec<Vec<String>> = batches(&out.join("documents-00000.parquet")).iter().flat_map(media_of).collect();
    let documents = rows(&out).into_iter().zip(lists);
    Ok((outcome, documents.map(|(row, media)| (row.id, row.text.unwrap(), media)).collect()))
}

fn media_of(batch: &RecordBatch) -> Vec<Vec<String>> {
    let lists = batch.column_by_name("media").unwrap().as_list::<i32>();
    let list = |row: usize| {
        let list = lists.is_valid(row).then(|| lists.value(row));
        list.map_or_else(Vec::new, |list| list.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect())
    };
    (0..batch.num_rows()).map(list).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

fn sources(base: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(base.join("out/sources.json")).unwrap()).unwrap()
}

#[test]
fn a_folder_of_files_with_captions_beside_them() {
    let base = tempfile::tempdir().unwrap();
    let (a, b, sound) = (square(1), square(2), wav(8000, 1, &[5; 4000]));
    write(
        base.path(),
        &[
            ("in/cats/a.png", &a),
            ("in/cats/a.txt", b"  a cat\n"),
            // The content decides, not the name.
            ("in/b.jpg", &b),
            ("in/b.json", b"{\"text\": \"a dog\", \"more\": [1]}"),
            ("in/hello.wav", &sound),
            ("in/hello.txt", b"hello"),
            ("in/README.md", b"# no picture"),
            ("in/none.png", &square(3)),
            ("in/cut.png", &square(4)[..50]),
            ("in/cut.txt", b"cut"),
            ("in/huge.png", &png_of(1 << 20, 1 << 20, 0, &zlib(b""))),
            ("in/huge.txt", b"huge"),
            ("in/run.svg", &svg("<script>1</script>")),
            ("in/run.txt", b"run"),
            ("in/words.svg", &svg("<text>a</text>")),
            ("in/words.txt", b"words"),
            ("in/odd.txt", b"an object in the picture: \xef\xbf\xbc"),
            ("in/odd.png", &square(5)),
            ("in/unused.txt", b"no file beside it"),
            ("in/not.json", b"[1"),
        ],
    );
    let (outcome, documents) = collect(Source { licence: some("MIT"), ..media("in") }, base.path()).unwrap();
    let document = |id: &str, text: &str, bytes: &[u8]| (id.to_owned(), format!("{text}{PLACE}"), vec![sha256(bytes)]);
    let expected = [
        document("in/b.jpg", "a dog", &b),
        document("in/cats/a.png", "a cat", &a),
        document("in/hello.wav", "hello", &sound),
    ];
    assert_eq!(documents, expected);
    assert_eq!(outcome.counts["pictures"], 2);
    assert_eq!(outcome.counts["sounds_bytes"], sound.len());
    assert!(outcome.headline.ends_with("; 2 pictures, 0.0 MB; 1 sounds, 0.0 MB"), "{}", outcome.headline);
    let source = &sources(base.path())["sources"][0];
    let reasons = serde_json::json!({
        "corrupt": 1, "hostile": 1, "malformed": 1, "no_column": 1, "template": 1, "too_large": 1, "unsupported": 1
    });
    assert_eq!(source["bad_records"]["reasons"], reasons);
    assert_eq!(source["skipped"], serde_json::json!({ "caption_without_media": 1 }));
    assert_eq!(
        source["media"][0],
        serde_json::json!({ "kind": "png", "licence": "MIT", "items": 2, "bytes": 2 * a.len() })
    );
    assert_eq!(outcome.counts["not_selected"], 1);

    let images = &batches(&base.path().join("out/images-00000.parquet"))[0];
    assert_eq!(texts(images, "sha256"), [some(&sha256(&b)), some(&sha256(&a))]);
    assert_eq!(texts(images, "kind"), [some("png"), some("png")]);
    let file = images.column_by_name("image").unwrap().as_struct();
    assert_eq!(file.column_by_name("bytes").unwrap().as_binary::<i32>().value(1), a);
    let path = file.column_by_name("path").unwrap().as_string::<i32>().value(1);
    assert_eq!(path, format!("{}.png", sha256(&a)));
    assert_eq!(images.column_by_name("width").unwrap().as_primitive::<UInt32Type>().value(0), 3);
    let sounds = &batches(&base.path().join("out/sounds-00000.parquet"))[0];
    assert_eq!(sounds.column_by_name("sample_rate").unwrap().as_primitive::<UInt32Type>().value(0), 8000);
    assert!((sounds.column_by_name("seconds").unwrap().as_primitive::<Float64Type>().value(0) - 0.5).abs() < 1e-9);
}

#[test]
fn a_template_makes_captions_of_names_and_folders() {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &[("in/red/a.b.png", &square(1)), ("in/blue/c.png", &square(2))]);
    let template = some("{{ media }} is {{ file.folder }} ({{ file.name }}, {{ file.path }})");
    let (_, documents) = collect(Source { template, ..media("in") }, base.path()).unwrap();
    let texts: Vec<&str> = documents.iter().map(|(_, text, _)| &**text).collect();
    assert_eq!(texts, ["\u{fffc} is blue (c, blue/c.png)", "\u{fffc} is red (a.b, red/a.b.png)"]);
}

#[test]
fn a_table_has_captions_and_media_are_stored_once() {
    let base = tempfile::tempdir().unwrap();
    let table = b"file,caption,kind\na.png,one,x\na.png,two,y\nsub/b.png,three,z\nnowhere.png,four,z\n";
    // The same picture under two names.
    write(base.path(), &[("in/t.csv", table), ("in/a.png", &square(1)), ("in/sub/b.png", &square(1))]);
    let source = Source {
        captions: some("t.csv"),
        caption_key: some("file"),
        template: some("{{ caption }}: {{ media }}{{ media }}"),
        id_column: some("caption"),
        licence_column: some("kind"),
        ..media("in")
    };
    let (outcome, documents) = collect(source.clone(), base.path()).unwrap();
    let twice = vec![sha256(&square(1)); 2];
    let document = |id: &str| (format!("in/{id}"), format!("{id}: {PLACE}{PLACE}"), twice.clone());
    assert_eq!(documents, [document("one"), document("two"), document("three")]);
    assert_eq!(outcome.counts["pictures"], 1);
    assert_eq!(batches(&base.path().join("out/images-00000.parquet"))[0].num_rows(), 1);
    assert_eq!(sources(base.path())["sources"][0]["skipped"]["caption_without_media"], 1);

    let check = |source: Source, expected: &str| {
        let error = collect(source, base.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(Source { captions: some("u.csv"), ..source.clone() }, "`u.csv` is not among its files");
    check(Source { caption_key: some("path"), ..source.clone() }, "`path`");
    check(Source { template: some("{{ caption }}"), ..source.clone() }, "`{{ media }}` is their place");
    check(Source { captions: None, ..source.clone() }, "caption_key: needs `captions`");
    check(Source { format: None, ..source }, "captions: needs `format = \"media\"`");
}

#[test]
fn archives_are_read_with_the_captions_inside() {
    let members: [(&str, &[u8]); 6] = [
        ("0001.png", &square(1)),
        ("0001.txt", b"one"),
        ("0002.left.png", &square(2)),
        ("0002.json", b"{\"text\": \"two\"}"),
        ("0003.png", &square(3)),
        // After its picture, and nothing beside it.
        ("d/0003.txt", b"elsewhere"),
    ];
    for (name, bytes) in [("a.tar", tar(&members)), ("a.tar.gz", gzip(&tar(&members))), ("a.zip", zip(&members))] {
        let base = tempfile::tempdir().unwrap();
        write(base.path(), &[(name, &bytes)]);
        let (outcome, documents) = collect(media(name), base.path()).unwrap();
        let found: Vec<(&str, &str)> = documents.iter().map(|(id, text, _)| (&**id, &**text)).collect();
        let ids = [format!("{name}/{name}!/0001.png"), format!("{name}/{name}!/0002.left.png")];
        assert_eq!(found, [(&*ids[0], "one\u{fffc}"), (&*ids[1], "two\u{fffc}")]);
        assert_eq!(outcome.counts["bad_records"], 1, "{name}");
        assert_eq!(sources(base.path())["sources"][0]["skipped"]["caption_without_media"], 1, "{name}");
    }
    let base = tempfile::tempdir().unwrap();
    let package: [(&str, &[u8]); 3] = [
        ("package/svg/1F600.svg", &svg("<circle r='9'/>")),
        ("package/black/1F600.svg", &svg("<circle r='8'/>")),
        ("package/data/emoji.json", b"[{\"hexcode\": \"1F600\", \"annotation\": \"grinning face\"}]"),
    ];
    write(base.path(), &[("p.tgz", &gzip(&tar(&package)))]);
    let source = Source {
        include: vec!["package/svg/*.svg".to_owned()],
        captions: some("package/data/emoji.json"),
        caption_key: some("hexcode"),
        text_column: some("annotation"),
        ..media("p.tgz")
    };
    let (outcome, documents) = collect(source, base.path()).unwrap();
    assert_eq!(documents.len(), 1);
    assert_eq!(documents[0].1, format!("grinning face{PLACE}"));
    assert_eq!((&outcome.counts["bad_records"], &outcome.counts["not_selected"]), (&0.into(), &1.into()));
}

/// Returns structs of `bytes` and `path`.
fn files(items: &[Option<&[u8]>]) -> StructBuilder {
    let fields: Fields =
        vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)].into();
    let mut files = StructBuilder::from_fields(fields, items.len());
    for item in items {
        files.field_builder::<BinaryBuilder>(0).unwrap().append_option(*item);
        files.field_builder::<StringBuilder>(1).unwrap().append_value("x.png");
        files.append(true);
    }
    files
}

fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn columns_of_hugging_face_datasets_are_read() {
    let base = tempfile::tempdir().unwrap();
    let (a, b) = (square(1), square(2));
    let items = [Some(&a[..]), None, Some(&b"no picture"[..]), Some(&b[..])];
    let image: ArrayRef = Arc::new(files(&items).finish());
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("one"), Some("two"), Some("three"), None]));
    write_parquet(&base.path().join("t.parquet"), vec![("image", image), ("text", text)]);
    let table = |columns: &[&str]| Source {
        path: some("t.parquet"),
        media_columns: columns.iter().map(ToString::to_string).collect(),
        ..Source::default()
    };
    let (outcome, documents) = collect(table(&["image"]), base.path()).unwrap();
    assert_eq!(documents, [("t.parquet/t.parquet#1".to_owned(), format!("one{PLACE}"), vec![sha256(&a)])]);
    assert_eq!(outcome.counts["bad_records"], 3);
    let reasons = &sources(base.path())["sources"][0]["bad_records"]["reasons"];
    assert_eq!(*reasons, serde_json::json!({ "malformed": 1, "no_column": 1, "template": 1 }));

    // Text and pictures by turns: a list of pictures, and sounds as plain bytes.
    let mut list = ListBuilder::new(files(&[Some(&a), Some(&b)]));
    list.append(true);
    let sound = wav(8000, 2, &[1, 2, 3, 4]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("images", Arc::new(list.finish())),
        ("sound", Arc::new(arrow_array::BinaryArray::from_iter_values([&sound[..]]))),
    ];
    write_parquet(&base.path().join("t.parquet"), columns);
    let template = some("First {{ images[1] }}, then {{ sound }}; {% for image in images %}<{{ image }}>{% endfor %}");
    let (_, documents) = collect(Source { template, ..table(&["images", "sound"]) }, base.path()).unwrap();
    assert_eq!(documents[0].1, "First \u{fffc}, then \u{fffc}; <\u{fffc}><\u{fffc}>");
    assert_eq!(documents[0].2, [&b, &sound, &a, &b].map(|bytes| sha256(bytes)));
}

#[test]
fn the_corpus_depends_neither_on_threads_nor_on_other_sources_without_media() {
    let base = tempfile::tempdir().unwrap();
    let pictures: Vec<(String, Vec<u8>)> = (0..200).map(|i| (format!("in/{i}.png"), square((i % 60) as u8))).collect();
    for (name, bytes) in &pictures {
        let caption = format!("picture {name}");
        write(base.path(), &[(name, bytes), (&name.replace(".png", ".txt"), caption.as_bytes())]);
    }
    write(base.path(), &[("text/a.txt", b"only text")]);
    let collect = |sources: Vec<Source>, threads: usize| {
        let out = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let config = Config { sources, ..Config::default() };
        pool.install(|| collect_into(&config, &context(base.path()), out.path())).unwrap();
        digests(out.path())
    };
    let text = || Source { path: some("text"), ..Source::default() };
    let one = collect(vec![media("in"), text()], 1);
    assert_eq!(one, collect(vec![text(), media("in")], 4));
    assert_eq!(one.keys().collect::<Vec<_>>(), ["documents-00000.parquet", "images-00000.parquet", "sources.json"]);
    let out = base.path().join("out");
    let plain = collect_into(&corpus::path("text"), &context(base.path()), &out).unwrap();
    assert!(plain.counts.get("pictures").is_none());
    let batch = &batches(&out.join("documents-00000.parquet"))[0];
    assert!(batch.column_by_name("media").is_none());
}
