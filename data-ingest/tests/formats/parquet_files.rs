//! Parquet files that are encrypted.

use data_ingest::Source;

use crate::corpus::path;
use crate::{check_file, collected};

/// Files of two rows, of `fixtures/encrypted_parquet.py`.
const FOOTER: &[u8] = include_bytes!("../fixtures/encrypted_footer.parquet");
const TEXT: &[u8] = include_bytes!("../fixtures/encrypted_text.parquet");
const TAGS: &[u8] = include_bytes!("../fixtures/encrypted_tags.parquet");

#[test]
fn encrypted_files_and_columns_are_refused_by_name() {
    let check = |bytes: &[u8], what: &str| {
        let found = collected(&[("a.parquet", bytes)], &path("a.parquet"));
        assert!(found.len() == 1 && found[0].contains("a.parquet") && found[0].contains(what), "{found:?}");
    };
    check(FOOTER, "it is encrypted; decrypt it, or leave it out with `exclude`");
    check(TEXT, "column `text` is encrypted; decrypt it, or leave the file out with `exclude`");
    // A column that is not asked for does not matter.
    let source = |column: &str| Source { text_column: Some(column.to_owned()), ..Source::default() };
    check_file("a.parquet", TAGS, source("text"), &["s/a.parquet#1: one", "s/a.parquet#2: two"]);
    check_file("a.parquet", TEXT, source("id"), &["s/a.parquet#1: a", "s/a.parquet#2: b"]);
}

#[test]
fn changed_bytes_of_encrypted_files_do_not_abort_the_process() {
    for whole in [FOOTER, TEXT, TAGS] {
        for at in (0..whole.len()).step_by(3) {
            let mut bytes = whole.to_vec();
            bytes[at] ^= if at % 2 == 0 { 0xff } else { 0x01 };
            assert!(!collected(&[("a.parquet", &bytes)], &path("a.parquet")).is_empty(), "byte {at}");
        }
    }
}
