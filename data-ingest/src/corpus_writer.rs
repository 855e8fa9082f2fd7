//! Writes the corpus: `documents-00000.parquet`, `documents-00001.parquet`, ….

use std::fs::File;
use std::io::{self, Write};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    Column, DataFrame, DataType, Field, NamedFrom, ParquetCompression, ParquetWriter, PlSmallStr, PolarsError,
    PolarsResult, Schema, Series, StatisticsOptions, StructChunked,
};
use polars_arrow::array::{Array, ListArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::offset::Offsets;

use crate::Error;
use crate::documents::chat::{Conversation, Message};
use crate::documents::document::{Content, Document};
use crate::inventory::ListedSource;

/// Text per row group, which is in memory before it is written. Heuristic, not measured: large enough to compress well.
const ROW_GROUP_BYTES: usize = 8 << 20;
/// Text per file. Heuristic, not measured: small enough to copy, large enough for few files.
const SHARD_BYTES: usize = 64 << 20;
/// Rows in one row group, for corpora of very short documents.
const ROW_GROUP_ROWS: usize = 1 << 16;

/// Writes documents in order; only their bytes decide where one file ends and the next begins.
///
/// Compression takes as long as reading, so it runs on a thread of its own.
pub(crate) struct Writer {
    group: Group,
    /// The channel of row groups; none after the last.
    groups: Option<SyncSender<Group>>,
    thread: Option<JoinHandle<Result<usize, Error>>>,
}

/// A row group that is being filled.
#[derive(Default)]
struct Group {
    rows: Vec<Row>,
    bytes: usize,
}

struct Row {
    document: Document,
    source: String,
    licence: String,
}

impl Writer {
    /// Returns a writer into `folder`.
    pub fn new(folder: &Path) -> Self {
        // One row group is read while the previous one waits and the one before that is compressed.
        let (groups, received) = mpsc::sync_channel(1);
        let mut shards = Shards { folder: folder.to_owned(), open: None, count: 0 };
        let thread = thread::spawn(move || {
            received.into_iter().try_for_each(|group| shards.write(group))?;
            shards.close()?;
            Ok(shards.count)
        });
        Self { group: Group::default(), groups: Some(groups), thread: Some(thread) }
    }

    /// Adds a document of `from`, whose source and licence it has unless it has its own.
    pub fn push(&mut self, mut document: Document, from: &ListedSource) -> Result<(), Error> {
        self.group.bytes += document.bytes as usize;
        let source = document.source.take().unwrap_or_else(|| from.name.clone());
        let licence = document.licence.take().unwrap_or_else(|| from.licence.clone());
        self.group.rows.push(Row { document, source, licence });
        if self.group.bytes >= ROW_GROUP_BYTES || self.group.rows.len() >= ROW_GROUP_ROWS {
            let group = std::mem::take(&mut self.group);
            // The receiver is gone after an I/O error.
            if self.groups.as_ref().is_none_or(|groups| groups.send(group).is_err()) {
                self.end()?;
            }
        }
        Ok(())
    }

    /// Writes the rest and returns the number of files.
    pub fn finish(mut self) -> Result<usize, Error> {
        let group = std::mem::take(&mut self.group);
        if let Some(groups) = self.groups.as_ref().filter(|_| !group.rows.is_empty()) {
            // If the receiver is gone, the end of the thread says why.
            let _ = groups.send(group);
        }
        self.end()
    }

    /// Waits until everything is written, and returns the number of files.
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

/// The files, of which one is open.
struct Shards {
    folder: PathBuf,
    open: Option<OpenShard>,
    count: usize,
}

struct OpenShard {
    path: PathBuf,
    writer: BatchedWriter<ErrorKeepingFile>,
    io_error: IoErrorSlot,
    bytes: usize,
}

impl Shards {
    fn write(&mut self, group: Group) -> Result<(), Error> {
        let shard = match &mut self.open {
            Some(shard) => shard,
            none => {
                let path = self.folder.join(format!("documents-{:05}.parquet", self.count));
                self.count += 1;
                none.insert(OpenShard::create(path)?)
            }
        };
        shard.bytes += group.bytes;
        let written = frame(group.rows).and_then(|frame| shard.writer.write_batch(&frame));
        written.map_err(|e| shard.failed(e))?;
        if shard.bytes >= SHARD_BYTES { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), Error> {
        match self.open.take() {
            Some(shard) => shard.writer.finish().map(drop).map_err(|e| shard.failed(e)),
            None => Ok(()),
        }
    }
}

impl OpenShard {
    fn create(path: PathBuf) -> Result<Self, Error> {
        let file = File::create(&path).map_err(|e| artifact::Error::io("create", &path, e))?;
        let io_error = IoErrorSlot::default();
        let kept = ErrorKeepingFile { file, io_error: Arc::clone(&io_error) };
        let column = |(name, dtype): (&str, DataType)| (PlSmallStr::from(name), dtype);
        let schema: Schema = columns().into_iter().map(column).collect();
        // The smallest and largest text of a file are of no use.
        let statistics = StatisticsOptions { min_value: false, max_value: false, ..StatisticsOptions::default() };
        let writer = ParquetWriter::new(kept)
            .with_compression(ParquetCompression::Zstd(None))
            .with_statistics(statistics)
            .batched(&schema)
            .map_err(|source| Error::Parquet { path: path.clone(), source })?;
        Ok(Self { path, writer, io_error, bytes: 0 })
    }

    /// Returns the I/O error if there was one, else the error of polars.
    fn failed(&self, error: PolarsError) -> Error {
        match self.io_error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(io_error) => artifact::Error::io("write", &self.path, io_error).into(),
            None => Error::Parquet { path: self.path.clone(), source: error },
        }
    }
}

/// Returns the columns: exactly one of `text`, `raw` and `messages` is set; `bytes` and `sha256` are of that one, and
/// of `messages` as compact JSON.
fn columns() -> [(&'static str, DataType); 10] {
    [
        ("id", DataType::String),
        ("text", DataType::String),
        ("raw", DataType::Binary),
        ("messages", DataType::List(Box::new(message_type()))),
        ("tools", DataType::String),
        ("source", DataType::String),
        ("path", DataType::String),
        ("licence", DataType::String),
        ("bytes", DataType::UInt64),
        ("sha256", DataType::String),
    ]
}

fn message_type() -> DataType {
    let field = |name: &str, dtype| Field::new(name.into(), dtype);
    DataType::Struct(vec![
        field("role", DataType::String),
        field("content", DataType::String),
        field("weight", DataType::Float64),
        field("fields", DataType::String),
    ])
}

fn frame(rows: Vec<Row>) -> PolarsResult<DataFrame> {
    let height = rows.len();
    let strings = |of: &dyn Fn(&Row) -> String| rows.iter().map(of).collect::<Vec<String>>();
    let ids = strings(&|row| row.document.id.clone());
    let sources = strings(&|row| row.source.clone());
    let paths = strings(&|row| row.document.path.clone());
    let licences = strings(&|row| row.licence.clone());
    let digests = strings(&|row| row.document.sha256.to_string());
    let bytes: Vec<u64> = rows.iter().map(|row| row.document.bytes).collect();
    let mut texts: Vec<Option<String>> = Vec::with_capacity(height);
    let mut raws: Vec<Option<Vec<u8>>> = Vec::with_capacity(height);
    let mut chats: Vec<Option<Conversation>> = Vec::with_capacity(height);
    for row in rows {
        let (text, raw, chat) = match row.document.content {
            Content::Text(text) => (Some(text), None, None),
            Content::Raw(bytes) => (None, Some(bytes), None),
            Content::Chat(chat) => (None, None, Some(chat)),
        };
        texts.push(text);
        raws.push(raw);
        chats.push(chat);
    }
    let tools: Vec<Option<String>> =
        chats.iter().map(|chat| chat.as_ref()?.tools.as_ref().map(ToString::to_string)).collect();
    let columns: Vec<Series> = vec![
        Series::new("id".into(), ids),
        Series::new("text".into(), texts),
        Series::new("raw".into(), raws),
        messages(&chats)?,
        Series::new("tools".into(), tools),
        Series::new("source".into(), sources),
        Series::new("path".into(), paths),
        Series::new("licence".into(), licences),
        Series::new("bytes".into(), bytes),
        Series::new("sha256".into(), digests),
    ];
    DataFrame::new(height, columns.into_iter().map(Column::from).collect())
}

/// Returns conversations as a column of lists of structs: `role`, `content`, `weight`, and the other keys of a message
/// as a JSON object in `fields`.
fn messages(chats: &[Option<Conversation>]) -> PolarsResult<Series> {
    let all = || chats.iter().flatten().flat_map(|chat| &chat.messages);
    let fields = |message: &Message| {
        // Strings and JSON values always serialize.
        (!message.fields.is_empty()).then(|| serde_json::to_string(&message.fields).unwrap_or_default())
    };
    let columns = [
        Series::new("role".into(), all().map(|message| message.role.as_str()).collect::<Vec<_>>()),
        Series::new("content".into(), all().map(|message| message.content.as_deref()).collect::<Vec<_>>()),
        Series::new("weight".into(), all().map(|message| message.weight).collect::<Vec<_>>()),
        Series::new("fields".into(), all().map(fields).collect::<Vec<_>>()),
    ];
    let turns = StructChunked::from_series("".into(), columns[0].len(), columns.iter())?;
    let turns = turns.rechunk();
    let values = turns.downcast_iter().next().cloned().ok_or_else(|| PolarsError::NoData("no chunk".into()))?;
    let lengths = chats.iter().map(|chat| chat.as_ref().map_or(0, |chat| chat.messages.len()));
    let offsets = Offsets::<i64>::try_from_lengths(lengths)?.into();
    let validity: Bitmap = chats.iter().map(Option::is_some).collect();
    let dtype = ListArray::<i64>::default_datatype(values.dtype().clone());
    let lists = ListArray::<i64>::try_new(dtype, offsets, values.boxed(), Some(validity))?;
    Series::from_arrow("messages".into(), lists.boxed())?.cast(&DataType::List(Box::new(message_type())))
}

/// The last I/O error of a file.
type IoErrorSlot = Arc<Mutex<Option<io::Error>>>;

/// A file that keeps its I/O errors: polars passes on only their text, from which a full disk cannot be recognised
/// reliably.
struct ErrorKeepingFile {
    file: File,
    io_error: IoErrorSlot,
}

impl ErrorKeepingFile {
    fn keep<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            let copy = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            *self.io_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
        })
    }
}

impl Write for ErrorKeepingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        self.keep(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.keep(flushed)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_reported_as_such() {
        let mut shard = OpenShard::create("/dev/full".into()).unwrap();
        let content = Content::Text("text".to_owned());
        let (sha256, bytes) = content.measure();
        let (id, path) = ("a".into(), "a".into());
        let document = Document { id, path, sha256, bytes, content, licence: None, source: None };
        let row = Row { document, source: "a".into(), licence: "MIT".into() };
        let error = shard.writer.write_batch(&frame(vec![row]).unwrap()).map_err(|e| shard.failed(e)).unwrap_err();
        assert!(matches!(error, Error::Artifact(artifact::Error::DiskFull { .. })), "{error}");
    }
}
