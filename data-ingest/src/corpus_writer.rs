//! Writes the corpus: `documents-00000.parquet`, `documents-00001.parquet`, …, and where documents have pictures and
//! sounds, `images-*.parquet` and `sounds-*.parquet` with each of them once.

mod documents;
mod media;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema};
use artifact::Digest;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::Error;
use crate::documents::document::{Document, Medium};
use crate::inventory::ListedSource;

/// Text, pictures or sounds per row group, which is in memory before it is written. Heuristic, not measured: large
/// enough to compress well.
const ROW_GROUP_BYTES: usize = 8 << 20;
/// The same per file. Heuristic, not measured: small enough to copy, large enough for few files.
const SHARD_BYTES: usize = 64 << 20;
/// Rows in one row group, for corpora of very short documents.
const ROW_GROUP_ROWS: usize = 1 << 16;
/// Rows after which a page may end, which it does at 1 MiB: few enough that a reader of long documents needs little
/// memory.
const PAGE_STEP_ROWS: usize = 32;
/// The level of compression. Level 1 makes files of text a fifth larger.
const ZSTD_LEVEL: i32 = 3;
/// Columns whose values repeat. The values of the others rarely do, and a dictionary of them costs time for nothing.
const DICTIONARY_COLUMNS: [&[&str]; 6] =
    [&["tools"], &["source"], &["path"], &["licence"], &["messages", "list", "element", "role"], &["kind"]];

/// Writes documents and media in order; only their bytes decide where one file ends and the next begins.
///
/// Compression takes as long as reading, so it runs on a thread of its own.
pub(crate) struct Writer {
    documents: Group<Row>,
    pictures: Group<Arc<Medium>>,
    sounds: Group<Arc<Medium>>,
    /// The digests of the media so far.
    stored: HashSet<Digest>,
    /// The channel of row groups; none after the last.
    groups: Option<SyncSender<RowGroup>>,
    thread: Option<JoinHandle<Result<usize, Error>>>,
}

/// A row group that is being filled.
struct Group<T> {
    rows: Vec<T>,
    bytes: usize,
}

/// A row group that is full.
enum RowGroup {
    Documents(Group<Row>),
    Pictures(Group<Arc<Medium>>),
    Sounds(Group<Arc<Medium>>),
}

struct Row {
    document: Document,
    /// What stands at the places of its text.
    media: Vec<Digest>,
    source: String,
    licence: String,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), bytes: 0 }
    }
}

impl<T> Group<T> {
    /// Adds a row, and returns all of them once there are enough.
    fn push(&mut self, row: T, bytes: u64) -> Option<Self> {
        self.bytes += bytes as usize;
        self.rows.push(row);
        let is_full = self.bytes >= ROW_GROUP_BYTES || self.rows.len() >= ROW_GROUP_ROWS;
        is_full.then(|| std::mem::take(self))
    }
}

impl Writer {
    /// Returns a writer into `folder` of documents that may have media.
    pub fn new(folder: &Path, has_media: bool) -> Self {
        // One row group is read while the previous one waits and the one before that is compressed.
        let (groups, received) = mpsc::sync_channel(1);
        let shards =
            |name, schema| Shards { folder: folder.to_owned(), name, schema: Arc::new(schema), open: None, count: 0 };
        let mut documents = shards("documents", documents::schema(has_media));
        let mut pictures = shards("images", media::schema(true));
        let mut sounds = shards("sounds", media::schema(false));
        let thread = thread::spawn(move || {
            received.into_iter().try_for_each(|group| match group {
                RowGroup::Documents(group) => documents.write(documents::batch(&group.rows, has_media), group.bytes),
                RowGroup::Pictures(group) => pictures.write(media::batch(&group.rows, true), group.bytes),
                RowGroup::Sounds(group) => sounds.write(media::batch(&group.rows, false), group.bytes),
            })?;
            [&mut documents, &mut pictures, &mut sounds].into_iter().try_for_each(Shards::close)?;
            Ok(documents.count)
        });
        Self {
            documents: Group::default(),
            pictures: Group::default(),
            sounds: Group::default(),
            stored: HashSet::new(),
            groups: Some(groups),
            thread: Some(thread),
        }
    }

    /// Adds a document of `from`, whose source and licence it has unless it has its own. Returns those of its media
    /// that no earlier document had.
    pub fn push(&mut self, mut document: Document, from: &ListedSource) -> Result<Vec<Arc<Medium>>, Error> {
        let source = document.source.take().unwrap_or_else(|| from.name.clone());
        let licence = document.licence.take().unwrap_or_else(|| from.licence.clone());
        let media = std::mem::take(&mut document.media);
        let digests = media.iter().map(|medium| medium.sha256).collect();
        let mut new = media;
        new.retain(|medium| self.stored.insert(medium.sha256));
        for medium in &new {
            let (medium, bytes) = (Arc::clone(medium), medium.bytes.len() as u64);
            let full = if medium.kind.is_picture() {
                self.pictures.push(medium, bytes).map(RowGroup::Pictures)
            } else {
                self.sounds.push(medium, bytes).map(RowGroup::Sounds)
            };
            full.map_or(Ok(()), |group| self.send(group))?;
        }
        let bytes = document.bytes;
        if let Some(group) = self.documents.push(Row { document, media: digests, source, licence }, bytes) {
            self.send(RowGroup::Documents(group))?;
        }
        Ok(new)
    }

    fn send(&mut self, group: RowGroup) -> Result<(), Error> {
        // The receiver is gone after an I/O error.
        if self.groups.as_ref().is_none_or(|groups| groups.send(group).is_err()) {
            self.end()?;
        }
        Ok(())
    }

    /// Writes the rest and returns the number of files of documents.
    pub fn finish(mut self) -> Result<usize, Error> {
        let (documents, pictures, sounds) =
            (std::mem::take(&mut self.documents), std::mem::take(&mut self.pictures), std::mem::take(&mut self.sounds));
        if !documents.rows.is_empty() {
            self.send(RowGroup::Documents(documents))?;
        }
        if !pictures.rows.is_empty() {
            self.send(RowGroup::Pictures(pictures))?;
        }
        if !sounds.rows.is_empty() {
            self.send(RowGroup::Sounds(sounds))?;
        }
        self.end()
    }

    /// Waits until everything is written, and returns the number of files of documents.
    fn end(&mut self) -> Result<usize, Error> {
        self.groups = None;
        let result = self.thread.take().map_or(Ok(Ok(0)), JoinHandle::join);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for Writer {
    /// Waits for the thread, so that nothing is written after a run has ended early.
    fn drop(&mut self) {
        self.groups = None;
        // The run already ends with an error.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The files of one kind of rows, of which one is open.
struct Shards {
    folder: PathBuf,
    name: &'static str,
    schema: Arc<Schema>,
    open: Option<OpenShard>,
    count: usize,
}

struct OpenShard {
    path: PathBuf,
    writer: ArrowWriter<File>,
    bytes: usize,
}

impl Shards {
    /// Writes one row group.
    fn write(&mut self, batch: Result<RecordBatch, ArrowError>, bytes: usize) -> Result<(), Error> {
        let shard = match &mut self.open {
            Some(shard) => shard,
            none => {
                let path = self.folder.join(format!("{}-{:05}.parquet", self.name, self.count));
                self.count += 1;
                none.insert(OpenShard::create(path, Arc::clone(&self.schema))?)
            }
        };
        shard.bytes += bytes;
        shard.write(batch)?;
        if shard.bytes >= SHARD_BYTES { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), Error> {
        self.open.take().map_or(Ok(()), OpenShard::close)
    }
}

impl OpenShard {
    fn create(path: PathBuf, schema: Arc<Schema>) -> Result<Self, Error> {
        let file = File::create(&path).map_err(|e| artifact::Error::io("create", &path, e))?;
        let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(|e| failed(&path, e))?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            // The smallest and largest text of a file are of no use.
            .set_statistics_enabled(EnabledStatistics::None)
            .set_write_batch_size(PAGE_STEP_ROWS)
            .set_max_row_group_row_count(None)
            .set_dictionary_enabled(false);
        for column in DICTIONARY_COLUMNS {
            let column = ColumnPath::new(column.iter().map(ToString::to_string).collect());
            properties = properties.set_column_dictionary_enabled(column, true);
        }
        // Without Arrow's own schema every reader uses its own types of text.
        let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(file, schema, options);
        let writer = writer.map_err(|e| failed(&path, e))?;
        Ok(Self { path, writer, bytes: 0 })
    }

    fn write(&mut self, batch: Result<RecordBatch, ArrowError>) -> Result<(), Error> {
        let written = batch
            .map_err(ParquetError::from)
            .and_then(|batch| self.writer.write(&batch))
            .and_then(|()| self.writer.flush());
        written.map_err(|e| failed(&self.path, e))
    }

    fn close(self) -> Result<(), Error> {
        self.writer.close().map(drop).map_err(|e| failed(&self.path, e))
    }
}

/// Returns the I/O error if it is one, by which a full disk is recognised.
fn failed(path: &Path, error: ParquetError) -> Error {
    let path = path.to_owned();
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => artifact::Error::io("write", &path, *cause).into(),
            Err(cause) => Error::Parquet { path, source: ParquetError::External(cause) },
        },
        source => Error::Parquet { path, source },
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::documents::document::Content;

    #[test]
    fn a_full_disk_is_reported_as_such() {
        let mut shard = OpenShard::create("/dev/full".into(), Arc::new(documents::schema(false))).unwrap();
        let content = Content::Text("text".to_owned());
        let (sha256, bytes) = content.measure();
        let (id, path) = ("a".into(), "a".into());
        let document = Document { id, path, sha256, bytes, content, media: Vec::new(), licence: None, source: None };
        let row = Row { document, media: Vec::new(), source: "a".into(), licence: "MIT".into() };
        shard.write(documents::batch(&[row], false)).unwrap();
        let error = shard.close().unwrap_err();
        assert!(matches!(error, Error::Artifact(artifact::Error::DiskFull { .. })), "{error}");
    }
}
