//! The corpus on disk: `documents-00000.parquet`, `documents-00001.parquet`, ….

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    Column, DataFrame, DataType, NamedFrom, ParquetCompression, ParquetWriter, PlSmallStr, PolarsError, PolarsResult,
    Schema, Series, StatisticsOptions,
};

use crate::Error;
use crate::read::{Content, Document};

/// Text in one row group: what is in memory before it is written. A guess: large enough to compress well.
const ROW_GROUP_BYTES: usize = 8 << 20;
/// Text in one file. A guess: small enough to pass around, large enough to be few.
const SHARD_BYTES: usize = 64 << 20;
/// Rows in one row group, for corpora of very short documents.
const ROW_GROUP_ROWS: usize = 1 << 16;

/// Writes documents in the order in which they come; their bytes alone decide where one file ends and the next begins.
pub(crate) struct Writer {
    folder: PathBuf,
    rows: Vec<Row>,
    rows_bytes: usize,
    open: Option<OpenShard>,
    shards: usize,
}

struct Row {
    document: Document,
    source: Arc<str>,
    licence: Arc<str>,
}

struct OpenShard {
    path: PathBuf,
    writer: BatchedWriter<File>,
    bytes: usize,
}

impl Writer {
    /// Returns a writer into `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), rows: Vec::new(), rows_bytes: 0, open: None, shards: 0 }
    }

    /// Adds a document.
    pub fn push(&mut self, document: Document, source: &Arc<str>, licence: &Arc<str>) -> Result<(), Error> {
        self.rows_bytes += document.content.as_bytes().len();
        self.rows.push(Row { document, source: Arc::clone(source), licence: Arc::clone(licence) });
        if self.rows_bytes >= ROW_GROUP_BYTES || self.rows.len() >= ROW_GROUP_ROWS {
            self.write_row_group()?;
        }
        Ok(())
    }

    /// Writes what is left and returns the number of files.
    pub fn finish(mut self) -> Result<usize, Error> {
        if !self.rows.is_empty() {
            self.write_row_group()?;
        }
        self.close()?;
        Ok(self.shards)
    }

    fn write_row_group(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.rows);
        let bytes = std::mem::take(&mut self.rows_bytes);
        let shard = match &mut self.open {
            Some(shard) => shard,
            none => {
                let path = self.folder.join(format!("documents-{:05}.parquet", self.shards));
                self.shards += 1;
                none.insert(OpenShard::create(path)?)
            }
        };
        shard.bytes += bytes;
        let written = frame(rows).and_then(|frame| shard.writer.write_batch(&frame));
        written.map_err(|e| failed(&shard.path, e))?;
        if shard.bytes >= SHARD_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        match self.open.take() {
            Some(shard) => shard.writer.finish().map(drop).map_err(|e| failed(&shard.path, e)),
            None => Ok(()),
        }
    }
}

impl OpenShard {
    fn create(path: PathBuf) -> Result<Self, Error> {
        let file = File::create(&path).map_err(|e| artifact::Error::io("create", &path, e))?;
        let column = |(name, dtype): (&str, DataType)| (PlSmallStr::from(name), dtype);
        let schema: Schema = COLUMNS.into_iter().map(column).collect();
        // The smallest and largest text of a file tell nobody anything.
        let statistics = StatisticsOptions { min_value: false, max_value: false, ..StatisticsOptions::default() };
        let writer = ParquetWriter::new(file)
            .with_compression(ParquetCompression::Zstd(None))
            .with_statistics(statistics)
            .batched(&schema)
            .map_err(|e| failed(&path, e))?;
        Ok(Self { path, writer, bytes: 0 })
    }
}

/// The columns: exactly one of `text` and `raw` is set; `bytes` and `sha256` are of that one.
const COLUMNS: [(&str, DataType); 8] = [
    ("id", DataType::String),
    ("text", DataType::String),
    ("raw", DataType::Binary),
    ("source", DataType::String),
    ("path", DataType::String),
    ("licence", DataType::String),
    ("bytes", DataType::UInt64),
    ("sha256", DataType::String),
];

fn frame(rows: Vec<Row>) -> PolarsResult<DataFrame> {
    let height = rows.len();
    let strings = |of: &dyn Fn(&Row) -> String| rows.iter().map(of).collect::<Vec<String>>();
    let ids = strings(&|row| row.document.id.clone());
    let sources = strings(&|row| row.source.to_string());
    let paths = strings(&|row| row.document.path.clone());
    let licences = strings(&|row| row.licence.to_string());
    let digests = strings(&|row| row.document.sha256.to_string());
    let bytes: Vec<u64> = rows.iter().map(|row| row.document.content.as_bytes().len() as u64).collect();
    let mut texts: Vec<Option<String>> = Vec::with_capacity(height);
    let mut raws: Vec<Option<Vec<u8>>> = Vec::with_capacity(height);
    for row in rows {
        let (text, raw) = match row.document.content {
            Content::Text(text) => (Some(text), None),
            Content::Raw(bytes) => (None, Some(bytes)),
        };
        texts.push(text);
        raws.push(raw);
    }
    let columns: Vec<Series> = vec![
        Series::new("id".into(), ids),
        Series::new("text".into(), texts),
        Series::new("raw".into(), raws),
        Series::new("source".into(), sources),
        Series::new("path".into(), paths),
        Series::new("licence".into(), licences),
        Series::new("bytes".into(), bytes),
        Series::new("sha256".into(), digests),
    ];
    DataFrame::new(height, columns.into_iter().map(Column::from).collect())
}

/// Returns the error for a file, telling the disk's refusal from everything else.
fn failed(path: &Path, error: PolarsError) -> Error {
    match error {
        PolarsError::IO { error, .. } => {
            let kind = error.kind();
            let source = Arc::into_inner(error).unwrap_or_else(|| kind.into());
            artifact::Error::io("write", path, source).into()
        }
        source => Error::Parquet { operation: "write", path: path.to_owned(), source },
    }
}
