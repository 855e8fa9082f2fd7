//! A pass applies some steps to every document of a file of the corpus and writes the result to a folder.
//!
//! Files are independent of one another, so they can be processed in any order and on several machines; a folder with
//! its final name is complete. Three threads form a pipeline of bounded channels: one reads batches, this one applies
//! the steps on all cores, one writes. Only a few batches are in memory, however large the corpus is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use artifact::{Context, Digest, Sealed, file};
use rayon::prelude::*;

use crate::Error;
use crate::dedup::{minhash, repeated};
use crate::engine::corpus::{self, Reader};
use crate::engine::documents::Documents;
use crate::engine::layout::{SIGNALS, folder};
use crate::engine::record::{Body, Document, Record};
use crate::engine::signals;
use crate::engine::spool;
use crate::engine::steps::{Scratch, Steps};

/// The text of a batch read from a spool, in bytes; a batch of the corpus is a row group. Heuristic, not measured:
/// large enough for all cores, small enough for several batches in memory.
const BATCH_BYTES: u64 = 8 << 20;

/// Capacity of the channel between two threads, in batches.
const QUEUED_BATCHES: usize = 1;

/// The work of a pass.
pub(crate) struct Pass {
    /// The steps.
    pub steps: Steps,
    /// Whether it is the first pass, which also writes the identity of each document.
    pub is_first: bool,
    /// If set, also writes `MinHash` bands, for the near deduplication that follows.
    pub bands: Option<minhash::Signer>,
    /// If set, also writes hashes of lines and paragraphs, for the search for repeated ones that follows.
    pub lines: Option<repeated::Config>,
}

/// The input of a pass.
pub(crate) enum Input<'a> {
    /// The corpus.
    Corpus(&'a Sealed),
    /// The output of an earlier pass.
    Documents(&'a Documents),
}

/// A document after the steps, with the digest, bands and hashes that the pass computes in addition to signals.
struct Done {
    record: Record,
    digest: Digest,
    bands: Option<Vec<u64>>,
    lines: Option<repeated::Hashes>,
}

/// Documents of one file of the corpus, in order.
struct Batch<T> {
    file: usize,
    documents: T,
    /// The bytes of input it accounts for in the progress display.
    bytes: u64,
    is_last: bool,
}

impl Pass {
    /// Processes the files in `wanted` that are not finished yet, each into a folder `<root>/<number>`.
    ///
    /// # Errors
    /// Returns an error if the input cannot be read, on I/O errors, and if the run is interrupted.
    pub fn run(&self, input: &Input<'_>, root: &Path, wanted: &[usize], context: &Context) -> Result<(), Error> {
        file::create_folder(root)?;
        let left: Vec<usize> = wanted.iter().copied().filter(|file| !folder(root, *file).is_dir()).collect();
        if left.is_empty() {
            return Ok(());
        }
        context.progress.begin(self.steps.description(), input.bytes(&left), "bytes");
        let (to_map, read) = sync_channel(QUEUED_BATCHES);
        let (to_write, mapped) = sync_channel(QUEUED_BATCHES);
        let left = left.as_slice();
        thread::scope(|scope| {
            // Each end of a channel is moved into the thread that uses it, so that it is dropped when the thread ends.
            let reader = scope.spawn(move || input.read(left, &to_map, context));
            let writer = scope.spawn(move || self.write(root, mapped, context));
            self.map(&read, &to_write);
            // Closed channels end the reader and the writer.
            drop((read, to_write));
            let joined = |result: thread::Result<Result<(), Error>>| match result {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            // Of several errors, the first cause is returned: a failed writer ends the mapper, which ends the reader.
            joined(writer.join()).and(joined(reader.join()))
        })
    }

    fn map(&self, read: &Receiver<Batch<Vec<Record>>>, done: &SyncSender<Batch<Vec<Done>>>) {
        for Batch { file, documents, bytes, is_last } in read {
            let mapped: Vec<Vec<Done>> = documents
                .into_par_iter()
                .with_min_len(8)
                .map_init(Scratch::default, |scratch, record| {
                    let records = self.steps.apply(record, scratch);
                    records.into_iter().map(|record| self.finish(record, scratch)).collect()
                })
                .collect();
            let documents = mapped.into_iter().flatten().collect();
            if done.send(Batch { file, documents, bytes, is_last }).is_err() {
                break;
            }
        }
    }

    fn finish(&self, record: Record, scratch: &mut Scratch) -> Done {
        let is_kept = record.dropped_by == 0;
        let bands =
            self.bands.as_ref().filter(|_| is_kept).map(|signer| signer.bands(&record.body.text(), scratch.minhash()));
        let lines = self
            .lines
            .as_ref()
            .filter(|_| is_kept)
            .map(|config| repeated::hashes(config, &record.body.text(), scratch.repeated()));
        Done { digest: record.body.digest(), record, bands: bands.flatten(), lines }
    }

    fn write(&self, root: &Path, mapped: Receiver<Batch<Vec<Done>>>, context: &Context) -> Result<(), Error> {
        let mut open: Option<Output> = None;
        let mut done_bytes = 0;
        for Batch { file, documents, bytes, is_last } in mapped {
            let output = match &mut open {
                Some(output) => output,
                none => none.insert(Output::create(self, root, file)?),
            };
            output.push(documents)?;
            done_bytes += bytes;
            context.progress.position(done_bytes);
            if let Some(output) = open.take_if(|_| is_last) {
                output.finish()?;
            }
        }
        Ok(())
    }
}

impl Input<'_> {
    fn bytes(&self, files: &[usize]) -> u64 {
        match self {
            Self::Corpus(corpus) => {
                let names = corpus::files(corpus);
                let entry = |file: &usize| corpus.manifest().files.get(&names[*file]).map_or(0, |entry| entry.bytes);
                files.iter().map(entry).sum()
            }
            Self::Documents(documents) => files.iter().map(|file| documents.spool(*file).text_bytes()).sum(),
        }
    }

    fn read(&self, files: &[usize], to: &SyncSender<Batch<Vec<Record>>>, context: &Context) -> Result<(), Error> {
        for file in files {
            let mut send = |documents, bytes, is_last| {
                if context.cancel.is_requested() {
                    return Err(Error::Interrupted);
                }
                // A closed channel means that another thread failed; its error is returned.
                Ok(to.send(Batch { file: *file, documents, bytes, is_last }).is_ok())
            };
            let is_open = match self {
                Self::Corpus(corpus) => read_corpus(corpus, *file, &mut send)?,
                Self::Documents(documents) => read_spool(documents, *file, &mut send)?,
            };
            if !is_open {
                break;
            }
        }
        Ok(())
    }
}

type Send<'a> = dyn FnMut(Vec<Record>, u64, bool) -> Result<bool, Error> + 'a;

fn read_corpus(corpus: &Sealed, file: usize, send: &mut Send<'_>) -> Result<bool, Error> {
    let name = &corpus::files(corpus)[file];
    let reader = Reader::open(corpus, name)?;
    let groups = reader.row_groups();
    let file_bytes = corpus.manifest().files.get(name).map_or(0, |entry| entry.bytes);
    for (i, group) in groups.iter().enumerate() {
        let rows = reader.rows(*group)?;
        let records = rows.into_iter().map(Record::of).collect();
        if !send(records, file_bytes / groups.len() as u64, i + 1 == groups.len())? {
            return Ok(false);
        }
    }
    // A file without rows gets a folder too.
    if groups.is_empty() { send(Vec::new(), 0, true) } else { Ok(true) }
}

fn read_spool(documents: &Documents, file: usize, send: &mut Send<'_>) -> Result<bool, Error> {
    let spool = documents.spool(file);
    let index = spool.index()?;
    for range in spool::runs(&index, BATCH_BYTES) {
        let is_last = range.end == index.len();
        let bytes = index[range.clone()].iter().map(|entry| entry.length).sum();
        let bodies = spool.bodies(&index[range.clone()])?;
        let record = |(body, at)| Record {
            // Its identity is in the signals of the first pass.
            document: Document::default(),
            number: documents.number(file, at),
            piece: 0,
            body,
            dropped_by: documents.dropped_by(file, at),
            signals: Vec::new(),
        };
        let records = bodies.into_iter().zip(range).map(record).collect();
        if !send(records, bytes, is_last)? {
            return Ok(false);
        }
    }
    if index.is_empty() { send(Vec::new(), 0, true) } else { Ok(true) }
}

/// The output folder of one file of the corpus.
struct Output {
    temporary: PathBuf,
    folder: PathBuf,
    spool: spool::Writer,
    signals: signals::Writer,
    bands: Option<minhash::Writer>,
    lines: Option<repeated::Writer>,
    documents: u32,
}

impl Output {
    fn create(pass: &Pass, root: &Path, file: usize) -> Result<Self, Error> {
        let folder = folder(root, file);
        let temporary = folder.with_extension("unfinished");
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(|e| artifact::Error::io("remove", &temporary, e))?;
        }
        file::create_folder(&temporary)?;
        Ok(Self {
            spool: spool::Writer::create(&temporary)?,
            signals: signals::Writer::create(&temporary.join(SIGNALS), pass.steps.columns(), pass.is_first)?,
            bands: pass.bands.as_ref().map(|_| minhash::Writer::create(&temporary)).transpose()?,
            lines: pass.lines.as_ref().map(|_| repeated::Writer::create(&temporary)).transpose()?,
            temporary,
            folder,
            documents: 0,
        })
    }

    fn push(&mut self, documents: Vec<Done>) -> Result<(), Error> {
        for done in &documents {
            self.spool.push(&done.record, done.digest)?;
            if let (Some(writer), Some(bands)) = (&mut self.bands, &done.bands) {
                writer.push(self.documents, bands)?;
            }
            if let (Some(writer), Some(lines)) = (&mut self.lines, &done.lines) {
                writer.push(self.documents, lines)?;
            }
            self.documents += 1;
        }
        let records: Vec<Record> = documents.into_iter().map(|done| done.record).collect();
        self.signals.write(&records)
    }

    fn finish(self) -> Result<(), Error> {
        self.spool.finish()?;
        self.signals.finish()?;
        self.bands.map(minhash::Writer::finish).transpose()?;
        self.lines.map(repeated::Writer::finish).transpose()?;
        fs::rename(&self.temporary, &self.folder).map_err(|e| artifact::Error::io("rename", &self.temporary, e))?;
        Ok(file::sync_folder(self.folder.parent().unwrap_or(&self.folder))?)
    }
}

impl Record {
    fn of(row: corpus::Row) -> Self {
        let body = match row.content {
            corpus::Content::Body(body) => body,
            corpus::Content::Raw(bytes) => Body::Text(String::from_utf8_lossy(&bytes).into_owned()),
        };
        Self { document: row.document, number: 0, piece: 0, body, dropped_by: 0, signals: Vec::new() }
    }
}
