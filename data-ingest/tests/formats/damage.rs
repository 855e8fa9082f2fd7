//! Damaged and oversized files and records: only they are skipped.

use std::fmt::Write as _;

use data_ingest::{Config, Source};

use crate::corpus::path;
use crate::packed::{bzip2, gzip, tar, xz, zip, zstandard};
use crate::{check, check_file, collected};

#[test]
fn only_bad_records_are_skipped() {
    check_file(
        "a.jsonl",
        b"{\"text\": \"one\"}\n{\"text\": \"two\",}\n{\"body\": 1}\n[]\n{\"text\": 1}\n{\"text\": \
            \"caf\xe9\"}\n{\"text\": \"six\"}\n",
        Source::default(),
        &[
            "s/a.jsonl#1: one",
            "s/a.jsonl#6: café",
            "s/a.jsonl#7: six",
            "a.jsonl line 2 [malformed]: column 16: trailing comma",
            "a.jsonl line 3 [no_column]: no `text`; it has `body` (see `text_column` or `template`)",
            "a.jsonl line 4 [malformed]: expected a JSON object, found an array",
            "a.jsonl line 5 [wrong_type]: `text` holds a number, not text",
        ],
    );
    check_file(
        "a.csv",
        b"id,text\n1,x\n2,y,z\n3\n4,w\n",
        Source::default(),
        &[
            "s/a.csv#1: x",
            "s/a.csv#4: w",
            "a.csv line 3 [malformed]: 3 fields, but the header has 2",
            "a.csv line 4 [malformed]: 1 fields, but the header has 2",
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
            "a.csv line 3 [too_long]: no end within max_file_bytes (an unclosed quote?); the rest of it is skipped",
        ],
    );
}

/// Returns JSON lines that compress little.
fn lines(count: u32) -> String {
    (0..count).fold(String::new(), |mut lines, i| {
        writeln!(lines, "{{\"text\": \"{:x}\"}}", i.wrapping_mul(2_654_435_761)).unwrap();
        lines
    })
}

#[test]
fn records_before_the_damage_are_read() {
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
        assert!(last.ends_with("; the rest of it is skipped"), "{last}");
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
            "b.txt.gz  [corrupt]: invalid gzip header; the rest of it is skipped",
            "c.zip  [corrupt]: invalid Zip archive: Could not find EOCD; the rest of it is skipped",
            "d.tgz  [corrupt]: failed to read entire block; the rest of it is skipped",
        ],
    );
}

#[test]
fn only_damaged_members_are_skipped() {
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
        "a.tar!/b.txt  [corrupt]: the archive ends inside this member; the rest of it is skipped",
        "a.tar  [corrupt]: unexpected EOF during skip; the rest of it is skipped",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_failed_decoder_is_not_read_again() {
    let mut bytes = xz(&tar(&[("a.txt", &vec![b'x'; 100_000]), ("b.txt", b"two")]));
    // After the headers of stream and block, and a chunk of 64 KiB: a chunk whose properties are out of range. The
    // archive's reader skips the rest of the member, which used to put the decoder into an infinite loop.
    bytes[24 + 3 + (1 << 16)..][..6].copy_from_slice(&[0xe0, 0, 0, 0, 4, 0xff]);
    let found = "corrupted input data (LZMA2:3); the rest of it is skipped";
    let expected = [format!("a.txz!/a.txt  [corrupt]: {found}"), format!("a.txz  [corrupt]: {found}")];
    check(&[("p/a.txz", &bytes), ("p/c.txt", b"c")], &path("p"), &["p/c.txt: c", &expected[0], &expected[1]]);
}

#[test]
fn decompression_bombs_are_skipped_and_the_limit_ends_the_run() {
    let zeros = vec![b' '; 80 << 20];
    let bomb = zstandard(&zeros);
    assert!(bomb.len() < 20_000);
    let found = "it unpacks to more than 1000 times its size; the rest of it is skipped";
    check(
        &[("p/a.txt", b"one"), ("p/b.jsonl.zst", &bomb)],
        &path("p"),
        &["p/a.txt: one", &format!("b.jsonl.zst  [bomb]: {found}")],
    );
    check(
        &[("p/a.txt", b"one"), ("p/b.zip", &zip(&[("x.jsonl.zst", &bomb), ("y.txt", b"y")]))],
        &path("p"),
        // An archive that unpacks to this much is a bomb as a whole.
        &["p/a.txt: one", &format!("b.zip!/x.jsonl.zst  [bomb]: {found}"), &format!("b.zip!/y.txt  [bomb]: {found}")],
    );
    check(
        &[("p/a.txt", b"one"), ("p/b.tar.zst", &zstandard(&tar(&[("x.jsonl", &zeros), ("y.txt", b"y")])))],
        &path("p"),
        &["p/a.txt: one", &format!("b.tar.zst!/x.jsonl  [bomb]: {found}"), &format!("b.tar.zst  [bomb]: {found}")],
    );
    let text: String = lines(200_000);
    let config = Config { max_unpacked_bytes: 1 << 20, ..path("a.jsonl.gz") };
    check(
        &[("a.jsonl.gz", &gzip(text.as_bytes()))],
        &config,
        &["<base>/a.jsonl.gz unpacks to more than 1048576 bytes; if this is intended, raise \
             collect.max_unpacked_bytes"],
    );
    let config = Config { max_unpacked_bytes: 1 << 20, ..path("a.zip") };
    check(
        &[("a.zip", &zip(&[("a.jsonl", text.as_bytes())]))],
        &config,
        &["<base>/a.zip unpacks to more than 1048576 bytes; if this is intended, raise \
             collect.max_unpacked_bytes"],
    );
}

#[test]
fn tar_headers_are_limited_in_size() {
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
        &["s/a.tgz!/a.txt: one", "a.tgz  [corrupt]: a member's header is too long; the rest of it is skipped"],
    );
}

#[test]
fn too_many_bad_records_end_the_run_and_are_quoted() {
    let bad = "{\"text\": 1}\n".repeat(11);
    let jsonl = format!("{{\"text\": \"one\"}}\n{bad}");
    let found = "source a.jsonl: 11 of 12 records are bad, and collect.max_bad_records is 0.01: a.jsonl line 2: `text` \
        holds a number, not text; a.jsonl line 3: `text` holds a number, not text; a.jsonl line 4: `text` holds a \
        number, not text; raise it \
        to skip them, leave out files of another kind with `exclude`, or give them a source of their own \
        (conversations: `chat = \"messages\"`)";
    check(&[("a.jsonl", jsonl.as_bytes())], &path("a.jsonl"), &[found]);
    let lenient = Config { max_bad_records: data_ingest::BadRecordLimit::Count(11), ..path("a.jsonl") };
    assert_eq!(collected(&[("a.jsonl", jsonl.as_bytes())], &lenient).len(), 12);
    let strict = Config { max_bad_records: data_ingest::BadRecordLimit::Count(0), ..path("a.jsonl") };
    let found = "source a.jsonl: 1 of 2 records are bad, and collect.max_bad_records is 0: a.jsonl line 2: `text` \
        holds a number, not text; raise it \
        to skip them, leave out files of another kind with `exclude`, or give them a source of their own \
        (conversations: `chat = \"messages\"`)";
    check(&[("a.jsonl", jsonl.as_bytes())], &strict, &[found]);
    let found = "source a.jsonl: 2 of 2 records are bad, and collect.max_bad_records is 0.01: a.jsonl line 1: no \
        `text`; it has `body` (see `text_column` or `template`); a.jsonl line 2: no `text`; it has `body` (see \
        `text_column` or `template`); raise it \
        to skip them, leave out files of another kind with `exclude`, or give them a source of their own \
        (conversations: `chat = \"messages\"`)";
    check(&[("a.jsonl", b"{\"body\": \"a\"}\n{\"body\": \"b\"}\n")], &path("a.jsonl"), &[found]);
}
