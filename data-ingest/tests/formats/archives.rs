//! Archives: read like folders; members outside are skipped.

use std::io::{Cursor, Write as _};

use data_ingest::{Format, Source};
use zip::write::SimpleFileOptions;

use crate::corpus::one;
use crate::packed::{tar, zip};
use crate::{check_file, collected};

#[test]
fn archives_are_read_like_folders() {
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
fn members_outside_the_archive_are_skipped_and_counted() {
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
fn an_encrypted_member_is_skipped_and_counted() {
    // Bit 0 of the general purpose flag says that a member is encrypted (APPNOTE.TXT 6.3.10, section 4.4.4).
    let mut bytes = zip(&[("a.txt", b"secret"), ("b.txt", b"open")]);
    for (signature, flag) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        let at = bytes.windows(4).position(|bytes| bytes == signature).unwrap();
        bytes[at + flag] |= 1;
    }
    check_file("a.zip", &bytes, Source::default(), &["s/a.zip!/b.txt: open", "1 encrypted"]);
}
