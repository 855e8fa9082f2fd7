//! Symbolic links.
#![cfg(unix)]

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::collected_in;
use crate::corpus::{path, write};

/// Checks the documents of `p` in a folder of files and links, the links as target and name.
fn check(files: &[(&str, &[u8])], links: &[(&str, &str)], expected: &[&str]) -> crate::Collected {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), files);
    for (target, name) in links {
        let link = base.path().join(name);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, link).unwrap();
    }
    let found = collected_in(base.path(), &path("p"));
    assert_eq!(found.documents, expected);
    found
}

#[test]
fn a_snapshot_of_the_hub_is_read_through_its_links() {
    check(
        &[("cache/blobs/0a1b", b"{\"text\": \"one\"}\n"), ("cache/blobs/2c3d", b"{\"text\": \"two\"}\n")],
        &[("../../cache/blobs/0a1b", "p/data/train-0.jsonl"), ("../../cache/blobs/2c3d", "p/data/train-1.jsonl")],
        &["p/data/train-0.jsonl#1: one", "p/data/train-1.jsonl#1: two"],
    );
}

#[test]
fn a_link_to_a_folder_is_read_as_that_folder() {
    check(
        &[("store/notes/a.txt", b"a"), ("store/notes/deep/b.txt", b"b"), ("p/c.txt", b"c")],
        &[("../store/notes", "p/linked")],
        &["p/c.txt: c", "p/linked/a.txt: a", "p/linked/deep/b.txt: b"],
    );
    check(&[("store/a.txt", b"a")], &[("store", "p")], &["p/a.txt: a"]);
    check(&[("store/a.txt", b"a")], &[("store", "q"), ("q", "p")], &["p/a.txt: a"]);
}

#[test]
fn loops_end_and_no_file_is_read_twice() {
    check(
        &[("p/a.txt", b"a"), ("p/d/b.txt", b"b")],
        &[("..", "p/d/up"), (".", "p/self")],
        &["p/a.txt: a", "p/d/b.txt: b"],
    );
    check(&[("p/a.txt", b"a")], &[("y", "p/x"), ("x", "p/y")], &["p/a.txt: a"]);
    let found = check(&[("p/v2/a.txt", b"a")], &[("v2", "p/latest"), ("v2/a.txt", "p/a.txt")], &["p/v2/a.txt: a"]);
    assert_eq!(found.source["skipped"], json!({ "repeated_link": 2 }));
    check(&[("blob", b"a")], &[("../blob", "p/a.txt"), ("../blob", "p/b.txt")], &["p/a.txt: a"]);
    // A link is read if the file itself is not selected.
    check(&[("p/.hidden/a.txt", b"a")], &[(".hidden/a.txt", "p/b.txt")], &["p/b.txt: a"]);
}

#[test]
fn broken_links_are_named() {
    let found = check(
        &[("p/a.txt", b"a")],
        &[("nowhere", "p/b.txt"), ("nowhere", "p/c.bin"), ("nowhere", "p/d.txt")],
        &["p/a.txt: a"],
    );
    assert_eq!(found.lines, ["source p: 2 symbolic links that lead nowhere (`b.txt`, `d.txt`)"]);
    assert_eq!(found.source["broken_links"], json!(["b.txt", "d.txt"]));
    let none = "source p selects no file (1 symbolic link that leads nowhere (`a.txt`)); see its `path`, `include` and \
                `exclude`";
    check(&[("x", b"")], &[("nowhere", "p/a.txt")], &[none]);
    check(&[], &[("nowhere", "p")], &["collect.sources[0].path: <base>/p is a symbolic link that leads nowhere"]);
}
