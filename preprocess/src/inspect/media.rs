//! Pictures and sounds in the documents of a corpus: which they are, and their sizes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use artifact::{Sealed, format};

use crate::Error;
use crate::engine::parquet::{self, Reader};

/// Stands for a picture or sound in a text; the column `media` has their digests in the order of their places.
const PLACE: char = '\u{fffc}';
/// Rows that are read at a time.
const BATCH: usize = 1 << 12;

/// Returns the digests of the media of each of the rows `(first, count)`; none if the corpus has no media.
pub(super) fn digests(file: &Reader, rows: (usize, usize)) -> Result<Vec<Vec<String>>, Error> {
    if !file.has("media") {
        return Ok(vec![Vec::new(); rows.1]);
    }
    let mut all = Vec::with_capacity(rows.1);
    for table in file.tables(Some(&["media"]), rows, BATCH)? {
        let table = table?;
        let Some(lists) = table.column("media").and_then(|column| column.as_list_opt::<i32>()) else {
            let problem = "is not a list of digests".to_owned();
            return Err(Error::Column { path: file.path().to_owned(), column: "media".to_owned(), problem });
        };
        for row in 0..lists.len() {
            let values = if lists.is_valid(row) { lists.value(row) } else { lists.values().slice(0, 0) };
            let texts = parquet::texts(file.path(), "media", &values)?;
            all.push(texts.iter().flatten().map(str::to_owned).collect());
        }
    }
    Ok(all)
}

/// Returns the kind and size of each of `wanted` in words.
pub(super) fn described(corpus: &Sealed, wanted: &[Vec<String>]) -> Result<BTreeMap<String, String>, Error> {
    let mut missing: Vec<&String> = wanted.iter().flatten().collect();
    let mut described = BTreeMap::new();
    let pictures = corpus.files("images-").into_iter().map(|name| (name, ["width", "height"]));
    let sounds = corpus.files("sounds-").into_iter().map(|name| (name, ["seconds", "sample_rate"]));
    for (name, [first, second]) in pictures.chain(sounds) {
        if missing.is_empty() {
            break;
        }
        let is_picture = first == "width";
        let file = Reader::open(corpus.verified(&name)?)?;
        for table in file.tables(Some(&["sha256", "kind", "bytes", first, second]), (0, file.rows()), BATCH)? {
            let table = table?;
            let (digests, kinds, bytes) = (table.texts("sha256")?, table.texts("kind")?, table.numbers("bytes")?);
            let (firsts, seconds) = (table.numbers(first)?, table.numbers(second)?);
            for row in 0..table.len() {
                let digest = digests.value(row);
                if !missing.iter().any(|wanted| *wanted == digest) {
                    continue;
                }
                missing.retain(|wanted| *wanted != digest);
                let (first, second) = (firsts.value(row), seconds.value(row));
                let size = if is_picture {
                    format!("{first} × {second} pixels")
                } else {
                    format!("{first:.1} s at {second} Hz")
                };
                let length = format::bytes(bytes.value(row) as u64);
                described.insert(digest.to_owned(), format!("{} {size}, {length}", kinds.value(row)));
            }
        }
    }
    Ok(described)
}

/// Returns a text with what stands at each place: `[png 72 × 72 pixels, 812 bytes, sha256 3fa1…]`.
pub(super) fn in_words(text: &str, digests: &[String], described: &BTreeMap<String, String>) -> String {
    let mut digests = digests.iter();
    let mut words = String::with_capacity(text.len());
    for (i, part) in text.split(PLACE).enumerate() {
        if i > 0 {
            let digest = digests.next().map_or("", String::as_str);
            let what = described.get(digest).map_or("missing", String::as_str);
            // Writing to a string cannot fail.
            let _ = write!(words, "[{what}, sha256 {}…]", digest.get(..12).unwrap_or(digest));
        }
        words.push_str(part);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_are_named_in_the_order_of_their_places() {
        let digest = |digit: &str| digit.repeat(64);
        let described = BTreeMap::from([(digest("a"), "png 1 × 2 pixels, 9 bytes".to_owned())]);
        let words = in_words("a \u{fffc}\u{fffc} b", &[digest("a"), digest("b")], &described);
        let expected = "a [png 1 × 2 pixels, 9 bytes, sha256 aaaaaaaaaaaa…][missing, sha256 bbbbbbbbbbbb…] b";
        assert_eq!(words, expected);
    }
}
