//! The documents of a split: what stage preprocess recorded of each in `signals.parquet`, found by `order.parquet`.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, RecordBatch, StringArray, UInt32Array};
use artifact::Sealed;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use serde::{Deserialize, Serialize};

use crate::Error;

const ORDER: &str = "order.parquet";
const SIGNALS: &str = "signals.parquet";

/// A document of the training data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Document {
    /// Its id in the corpus.
    pub id: String,
    /// The number of the piece if the document was cut, else 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub piece: u32,
    /// The source that it came from.
    pub source: String,
    /// Its path or address within the source.
    pub path: String,
    /// Its licence.
    pub licence: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(piece: &u32) -> bool {
    *piece == 0
}

/// Returns the documents `range` of a split of a tokens artifact, in the order of its shards. Only they are in memory.
///
/// Tokens that were not written by stage preprocess do not say where their documents came from: they have their number
/// as id, and nothing else.
///
/// # Errors
/// Returns an error if the files differ from their manifest, or do not match each other or the split.
pub fn documents(tokens: &Sealed, split: &str, range: Range<usize>) -> Result<Vec<Document>, Error> {
    if !tokens.manifest().files.contains_key(ORDER) {
        return Ok(range.map(|index| Document { id: index.to_string(), ..Document::default() }).collect());
    }
    let order = tokens.verified(ORDER)?;
    let rows = rows(&order, split, &range)?;
    if rows.len() != range.len() {
        let (found, expected) = (rows.len(), range.len());
        let problem = format!("of documents {range:?} of split {split} it has {found}, expected {expected}");
        return Err(Error::Table { path: order, problem });
    }
    let signals = tokens.verified(SIGNALS)?;
    let mut wanted: HashMap<u32, Option<Document>> = rows.iter().map(|row| (*row, None)).collect();
    fill_in(&signals, &mut wanted)?;
    let found = |row: &u32| {
        wanted[row].clone().ok_or_else(|| {
            let problem = format!("it has no row {row}, which {ORDER} names");
            Error::Table { path: signals.clone(), problem }
        })
    };
    rows.iter().map(found).collect()
}

/// Returns the rows in the signals of some documents of a split.
fn rows(path: &Path, split: &str, range: &Range<usize>) -> Result<Vec<u32>, Error> {
    let (mut index, mut wanted) = (0, Vec::new());
    for_each_batch(path, &["split", "row"], |batch| {
        let (splits, rows) = (texts(path, batch, "split")?, numbers(path, batch, "row")?);
        for at in (0..batch.num_rows()).filter(|at| splits.value(*at) == split) {
            wanted.extend(range.contains(&index).then(|| rows.value(at)));
            index += 1;
        }
        Ok(())
    })?;
    Ok(wanted)
}

/// Fills in the documents of the wanted rows.
fn fill_in(path: &Path, wanted: &mut HashMap<u32, Option<Document>>) -> Result<(), Error> {
    let mut first = 0;
    for_each_batch(path, &["id", "piece", "source", "path", "licence"], |batch| {
        let column = |name| texts(path, batch, name);
        let (ids, sources, paths, licences) = (column("id")?, column("source")?, column("path")?, column("licence")?);
        let pieces = numbers(path, batch, "piece")?;
        let text = |column: &StringArray, at| if column.is_null(at) { "" } else { column.value(at) }.to_owned();
        for at in 0..batch.num_rows() {
            if let Some(document) = u32::try_from(first + at).ok().and_then(|row| wanted.get_mut(&row)) {
                *document = Some(Document {
                    id: text(ids, at),
                    piece: if pieces.is_null(at) { 0 } else { pieces.value(at) },
                    source: text(sources, at),
                    path: text(paths, at),
                    licence: text(licences, at),
                });
            }
        }
        first += batch.num_rows();
        Ok(())
    })
}

/// Passes some columns of a Parquet file to `each`, in batches of rows.
fn for_each_batch(
    path: &Path,
    columns: &[&str],
    mut each: impl FnMut(&RecordBatch) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |source| Error::Parquet { path: path.to_owned(), source };
    let file = File::open(path).map_err(|e| artifact::Error::io("open", path, e))?;
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(failed)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    for batch in builder.with_projection(mask).build().map_err(failed)? {
        each(&batch.map_err(|error| failed(ParquetError::from(error)))?)?;
    }
    Ok(())
}

fn texts<'a>(path: &Path, batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, Error> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt());
    column.ok_or_else(|| Error::Table { path: path.to_owned(), problem: format!("it has no column {name} of texts") })
}

fn numbers<'a>(path: &Path, batch: &'a RecordBatch, name: &str) -> Result<&'a UInt32Array, Error> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<UInt32Type>());
    column.ok_or_else(|| Error::Table { path: path.to_owned(), problem: format!("it has no column {name} of numbers") })
}
