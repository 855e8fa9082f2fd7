//! Files and folders whose names have the characters of globs.

use data_ingest::Source;

use crate::corpus::{one, write};
use crate::{collected_in, some};

const FILES: [(&str, &[u8]); 6] = [
    ("data [v2] {final}/a [1].txt", b"a1"),
    ("data [v2] {final}/a 1.txt", b"a 1"),
    ("data [v2] {final}/b.md", b"b"),
    ("data [v2] {final}/in (x)/c.txt", b"c"),
    ("data v/a.txt", b"other"),
    ("what?/d.txt", b"d"),
];

fn check(source: &Source, expected: &[&str]) {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &FILES);
    let found = collected_in(base.path(), &one(Source { name: some("s"), ..source.clone() }));
    assert_eq!(found.documents, expected, "{source:?}");
}

fn of(path: &str) -> Source {
    Source { path: some(path), ..Source::default() }
}

#[test]
fn existing_names_are_taken_literally() {
    let all = ["s/a 1.txt: a 1", "s/a [1].txt: a1", "s/b.md: b", "s/in (x)/c.txt: c"];
    check(&of("data [v2] {final}"), &all);
    check(&of("data [v2] {final}/a [1].txt"), &["s/a [1].txt: a1"]);
    check(&of("data [v2] {final}/*.txt"), &all[..2]);
    check(&of("data [v2] {final}/**/*.txt"), &["s/a 1.txt: a 1", "s/a [1].txt: a1", "s/in (x)/c.txt: c"]);
    check(&of("*/a [1].txt"), &["s/data [v2] {final}/a [1].txt: a1"]);
    check(&of("what?/*.txt"), &["s/d.txt: d"]);
}

#[test]
fn escapes_and_globs_still_work() {
    check(&of("data [[]v2[]] [{]final[}]/*.md"), &["s/data [v2] {final}/b.md: b"]);
    check(&of("data \\[v2\\] \\{final\\}/*.md"), &["s/data [v2] {final}/b.md: b"]);
    check(&of("data [uv]/a.txt"), &["s/data v/a.txt: other"]);
    check(&of("{data v,what?}/*.txt"), &["s/data v/a.txt: other", "s/what?/d.txt: d"]);
    check(&of("wha[st]?/d.txt"), &["s/what?/d.txt: d"]);
}

#[test]
fn patterns_that_are_names_of_files_mean_them() {
    let folder = || of("data [v2] {final}");
    let globs = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
    check(&Source { include: globs(&["a [1].txt"]), ..folder() }, &["s/a [1].txt: a1"]);
    check(&Source { include: globs(&["a [0-9].txt"]), ..folder() }, &["s/a 1.txt: a 1"]);
    check(&Source { include: globs(&["in (x)/*"]), ..folder() }, &["s/in (x)/c.txt: c"]);
    check(
        &Source { exclude: globs(&["a [1].txt"]), ..folder() },
        &["s/a 1.txt: a 1", "s/b.md: b", "s/in (x)/c.txt: c"],
    );
    let wrong = "collect.sources[0].include: error parsing glob '**/a [': unclosed character class; missing ']'";
    check(&Source { include: globs(&["a ["]), ..folder() }, &[wrong]);
    let useless = "collect.sources[0].exclude: selects files of a folder or an archive, and the source is one file; \
                   remove it";
    check(&Source { exclude: globs(&["*.md"]), ..of("data v/a.txt") }, &[useless]);
}
