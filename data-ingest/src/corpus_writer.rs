//! Writes the corpus: `documents-00000.parquet`, `documents-00001.parquet`, ….

use std::fs::File;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use arrow_array::{
    Array, ArrayRef, Float64Array, LargeBinaryArray, LargeListArray, LargeStringArray, RecordBatch, StructArray,
    UInt64Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

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
/// Rows after which a page may end, which it does at 1 MiB: few enough that a reader of long documents needs little
/// memory.
const PAGE_STEP_ROWS: usize = 32;
/// The level of compression. Level 1 makes files of text a fifth larger.
const ZSTD_LEVEL: i32 = 3;
/// Columns whose values repeat. The values of the others rarely do, and a dictionary of them costs time for nothing.
const DICTIONARY_COLUMNS: [&[&str]; 5] =
    [&["tools"], &["source"], &["path"], &["licence"], &["messages", "list", "element", "role"]];

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
            received.into_iter().try_for_each(|group| shards.write(&group))?;
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
    writer: ArrowWriter<File>,
    bytes: usize,
}

impl Shards {
    fn write(&mut self, group: &Group) -> Result<(), Error> {
        let shard = match &mut self.open {
            Some(shard) => shard,
            none => {
                let path = self.folder.join(format!("documents-{:05}.parquet", self.count));
                self.count += 1;
                none.insert(OpenShard::create(path)?)
            }
        };
        shard.bytes += group.bytes;
        shard.write(&group.rows)?;
        if shard.bytes >= SHARD_BYTES { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), Error> {
        self.open.take().map_or(Ok(()), OpenShard::close)
    }
}

impl OpenShard {
    fn create(path: PathBuf) -> Result<Self, Error> {
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
        let writer = ArrowWriter::try_new_with_options(file, Arc::new(schema()), options);
        let writer = writer.map_err(|e| failed(&path, e))?;
        Ok(Self { path, writer, bytes: 0 })
    }

    /// Writes one row group.
    fn write(&mut self, rows: &[Row]) -> Result<(), Error> {
        let batch = batch(rows).map_err(ParquetError::from);
        let written = batch.and_then(|batch| self.writer.write(&batch)).and_then(|()| self.writer.flush());
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

/// Returns the columns: exactly one of `text`, `raw` and `messages` is set; `bytes` and `sha256` are of that one, and
/// of `messages` as compact JSON; `weight` is of a conversation.
fn schema() -> Schema {
    let messages = DataType::LargeList(Arc::new(Field::new("element", DataType::Struct(message_fields()), true)));
    let columns = [
        ("id", DataType::LargeUtf8),
        ("text", DataType::LargeUtf8),
        ("raw", DataType::LargeBinary),
        ("messages", messages),
        ("tools", DataType::LargeUtf8),
        ("weight", DataType::Float64),
        ("source", DataType::LargeUtf8),
        ("path", DataType::LargeUtf8),
        ("licence", DataType::LargeUtf8),
        ("bytes", DataType::UInt64),
        ("sha256", DataType::LargeUtf8),
    ];
    Schema::new(columns.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec())
}

fn message_fields() -> Fields {
    let fields = [
        ("role", DataType::LargeUtf8),
        ("content", DataType::LargeUtf8),
        ("weight", DataType::Float64),
        ("fields", DataType::LargeUtf8),
    ];
    fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec().into()
}

fn batch(rows: &[Row]) -> Result<RecordBatch, ArrowError> {
    let text =
        |of: &dyn Fn(&Row) -> String| -> ArrayRef { Arc::new(LargeStringArray::from_iter_values(rows.iter().map(of))) };
    let texts: LargeStringArray = rows
        .iter()
        .map(|row| match &row.document.content {
            Content::Text(text) => Some(text),
            Content::Raw(_) | Content::Chat(_) => None,
        })
        .collect();
    let raws: LargeBinaryArray = rows
        .iter()
        .map(|row| match &row.document.content {
            Content::Raw(bytes) => Some(bytes),
            Content::Text(_) | Content::Chat(_) => None,
        })
        .collect();
    let chats: Vec<Option<&Conversation>> = rows
        .iter()
        .map(|row| match &row.document.content {
            Content::Chat(chat) => Some(chat),
            Content::Text(_) | Content::Raw(_) => None,
        })
        .collect();
    let tools: LargeStringArray =
        chats.iter().map(|chat| chat.as_ref()?.tools.as_ref().map(ToString::to_string)).collect();
    let weights: Float64Array = chats.iter().map(|chat| chat.as_ref()?.weight).collect();
    let columns: Vec<ArrayRef> = vec![
        text(&|row| row.document.id.clone()),
        Arc::new(texts),
        Arc::new(raws),
        messages(&chats)?,
        Arc::new(tools),
        Arc::new(weights),
        text(&|row| row.source.clone()),
        text(&|row| row.document.path.clone()),
        text(&|row| row.licence.clone()),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.document.bytes))),
        text(&|row| row.document.sha256.to_string()),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns)
}

/// Returns conversations as a column of lists of structs: `role`, `content`, `weight`, and the other keys of a message
/// as a JSON object in `fields`.
fn messages(chats: &[Option<&Conversation>]) -> Result<ArrayRef, ArrowError> {
    let all = || chats.iter().flatten().flat_map(|chat| &chat.messages);
    let fields = |message: &Message| {
        // Strings and JSON values always serialize.
        (!message.fields.is_empty()).then(|| serde_json::to_string(&message.fields).unwrap_or_default())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(LargeStringArray::from_iter_values(all().map(|message| &message.role))),
        Arc::new(all().map(|message| message.content.as_ref()).collect::<LargeStringArray>()),
        Arc::new(all().map(|message| message.weight).collect::<Float64Array>()),
        Arc::new(all().map(fields).collect::<LargeStringArray>()),
    ];
    let turns = StructArray::try_new(message_fields(), columns, None)?;
    let lengths = chats.iter().map(|chat| chat.map_or(0, |chat| chat.messages.len()));
    let nulls: NullBuffer = chats.iter().map(Option::is_some).collect::<Vec<_>>().into();
    let element = Arc::new(Field::new("element", turns.data_type().clone(), true));
    let lists = LargeListArray::try_new(element, OffsetBuffer::from_lengths(lengths), Arc::new(turns), Some(nulls))?;
    Ok(Arc::new(lists))
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
        shard.write(&[row]).unwrap();
        let error = shard.close().unwrap_err();
        assert!(matches!(error, Error::Artifact(artifact::Error::DiskFull { .. })), "{error}");
    }
}
