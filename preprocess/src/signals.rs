//! `signals.parquet`: what is known of every document, and what became of it.

use std::path::Path;

use artifact::file;
use polars::prelude::{Column, DataFrame, NamedFrom, ParquetWriter, PolarsResult, Series};

use crate::Error;
use crate::corpus::{Collection, Entry};
use crate::selection::Fate;

/// Writes one row for each document, or for each piece of one that was cut, in the corpus's order.
pub(crate) fn write(collection: &Collection, path: &Path) -> Result<(), Error> {
    let mut bytes = Vec::new();
    frame(collection)
        .and_then(|mut frame| ParquetWriter::new(&mut bytes).finish(&mut frame))
        .map_err(|source| Error::Signals { path: path.to_owned(), source })?;
    Ok(file::write_atomically(path, &bytes)?)
}

fn frame(collection: &Collection) -> PolarsResult<DataFrame> {
    fn column<'c, T>(collection: &'c Collection, name: &str, value: impl Fn(&'c Entry) -> T) -> Column
    where
        Series: NamedFrom<Vec<T>, [T]>,
    {
        let values: Vec<T> = collection.entries.iter().map(value).collect();
        Series::new(name.into(), values).into()
    }
    let of = |entry| collection.document(entry);
    DataFrame::new_infer_height(vec![
        column(collection, "id", |e| of(e).id.as_str()),
        column(collection, "piece", |e| e.piece),
        column(collection, "source", |e| of(e).source.as_str()),
        column(collection, "path", |e| of(e).path.as_str()),
        column(collection, "licence", |e| of(e).licence.as_str()),
        column(collection, "bytes_in", |e| of(e).bytes),
        column(collection, "bytes", |e| e.bytes),
        column(collection, "sha256", |e| e.digest.to_string()),
        column(collection, "invalid_utf8", |e| of(e).invalid_utf8),
        column(collection, "decision", |e| if matches!(e.fate, Fate::Kept(_)) { "keep" } else { "drop" }),
        column(collection, "reason", |e| match e.fate {
            Fate::Dropped(reason) => Some(reason.name()),
            Fate::Kept(_) | Fate::Undecided => None,
        }),
        column(collection, "split", |e| match e.fate {
            Fate::Kept(split) => Some(split.name()),
            Fate::Dropped(_) | Fate::Undecided => None,
        }),
        column(collection, "tokens", |e| e.tokens),
    ])
}
