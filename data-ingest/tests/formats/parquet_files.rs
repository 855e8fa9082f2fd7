//! Parquet files that are encrypted, or claim untrue sizes.

use data_ingest::Source;
use parquet::basic::{BrotliLevel, Compression};

use crate::columnar::{parquet, table, texts};
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

#[test]
fn brotli_pages_with_an_untrue_size_are_damaged() {
    let words: Vec<&'static str> =
        vec!["a heron stands in the water"; 20].into_iter().chain(["the last one"]).collect();
    let whole = parquet(&table(vec![("text", texts(words))]), 100, Compression::BROTLI(BrotliLevel::default()));
    assert_eq!(collected(&[("a.parquet", &whole)], &path("a.parquet")).len(), 21);
    // The header of the first page: the type of a dictionary, in zigzag, and the unpacked size, in zigzag too.
    let pattern = [0x15, 4, 0x15];
    let at = whole.windows(3).position(|window| window == pattern).unwrap() + 3;
    // Two texts with their lengths.
    let size = "a heron stands in the water".len() + "the last one".len() + 8;
    assert_eq!(usize::from(whole[at]), 2 * size);
    for other in [1, 40, 46, 48, 60] {
        let mut changed = whole.clone();
        changed[at] = 2 * other;
        let found = collected(&[("a.parquet", &changed)], &path("a.parquet"));
        assert!(found.len() == 1 && found[0].contains("a.parquet"), "{other}: {found:?}");
    }
}
