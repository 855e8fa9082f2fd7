//! Spools: documents on disk between two passes. Each file of the corpus has a folder with `texts`, the concatenated
//! bytes of the documents, and `index`, an entry of [`ENTRY_BYTES`] for each.
//!
//! A spool is internal to this stage, and is deleted when the artifact is sealed.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use artifact::Digest;

use crate::Error;
use crate::engine::record::{Body, Record};

/// The length of an entry of an index.
const ENTRY_BYTES: usize = 64;

/// The entry of a document in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The digest of its content.
    pub digest: Digest,
    /// The offset of its bytes.
    pub offset: u64,
    /// The number of its bytes.
    pub length: u64,
    /// The length of its text in bytes: less than `length` for a conversation, which is stored as JSON.
    pub text_bytes: u64,
    /// The step that dropped it, from 1; 0 if none did.
    pub dropped_by: u16,
    /// Whether it is a conversation.
    pub is_chat: bool,
}

impl Entry {
    fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..32].copy_from_slice(self.digest.as_bytes());
        bytes[32..40].copy_from_slice(&self.offset.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.length.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.text_bytes.to_le_bytes());
        bytes[56..58].copy_from_slice(&self.dropped_by.to_le_bytes());
        bytes[58] = u8::from(self.is_chat);
        bytes
    }

    fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let number = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[..32]);
        Self {
            digest: Digest::from_bytes(digest),
            offset: number(32),
            length: number(40),
            text_bytes: number(48),
            dropped_by: u16::from_le_bytes([bytes[56], bytes[57]]),
            is_chat: bytes[58] != 0,
        }
    }

    /// Returns the first 64 bits of the digest, which serve as a uniform random number.
    pub fn draw(&self) -> u64 {
        self.digest.as_bytes()[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

/// Writes one spool.
pub(crate) struct Writer {
    texts: BufWriter<File>,
    index: BufWriter<File>,
    folder: PathBuf,
    offset: u64,
}

impl Writer {
    /// Creates the files in the existing folder `folder`.
    pub fn create(folder: &Path) -> Result<Self, Error> {
        let create = |name: &str| {
            let path = folder.join(name);
            let file = File::create(&path).map_err(|e| artifact::Error::io("create", path, e))?;
            Ok::<_, Error>(BufWriter::with_capacity(1 << 18, file))
        };
        Ok(Self { texts: create(TEXTS)?, index: create(INDEX)?, folder: folder.to_owned(), offset: 0 })
    }

    /// Adds a record whose content has the digest `digest`.
    pub fn push(&mut self, record: &Record, digest: Digest) -> Result<(), Error> {
        let bytes = record.body.to_bytes();
        let entry = Entry {
            digest,
            offset: self.offset,
            length: bytes.len() as u64,
            text_bytes: record.body.bytes(),
            dropped_by: record.dropped_by,
            is_chat: matches!(record.body, Body::Chat(_)),
        };
        let written = self.texts.write_all(&bytes).and_then(|()| self.index.write_all(&entry.to_bytes()));
        written.map_err(|e| artifact::Error::io("write", self.folder.join(TEXTS), e))?;
        self.offset += entry.length;
        Ok(())
    }

    /// Flushes the files to disk.
    pub fn finish(mut self) -> Result<(), Error> {
        for (file, name) in [(&mut self.texts, TEXTS), (&mut self.index, INDEX)] {
            let flushed = file.flush().and_then(|()| file.get_ref().sync_all());
            flushed.map_err(|e| artifact::Error::io("write", self.folder.join(name), e))?;
        }
        Ok(())
    }
}

const TEXTS: &str = "texts";
const INDEX: &str = "index";

/// A spool with random access from any thread.
#[derive(Debug)]
pub(crate) struct Spool {
    texts: Mutex<File>,
    index: Mutex<File>,
    path: PathBuf,
    folder: PathBuf,
    documents: usize,
    bytes: u64,
}

impl Spool {
    /// Opens the spool in `folder`.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let open = |name: &str| {
            let path = folder.join(name);
            let file = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
            file.map_err(|e| artifact::Error::io("open", path, e))
        };
        let ((bytes, texts), (length, index)) = (open(TEXTS)?, open(INDEX)?);
        Ok(Self {
            texts: Mutex::new(texts),
            index: Mutex::new(index),
            path: folder.join(TEXTS),
            folder: folder.to_owned(),
            documents: usize::try_from(length).unwrap_or(usize::MAX) / ENTRY_BYTES,
            bytes,
        })
    }

    /// Returns the number of documents.
    pub fn len(&self) -> usize {
        self.documents
    }

    /// Returns the total length of all texts, in bytes.
    pub fn text_bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the whole index.
    pub fn index(&self) -> Result<Vec<Entry>, Error> {
        let path = self.folder.join(INDEX);
        let bytes = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
        Ok(bytes.as_chunks::<ENTRY_BYTES>().0.iter().map(Entry::from_bytes).collect())
    }

    /// Reads one document.
    pub fn body(&self, at: usize) -> Result<Body, Error> {
        let mut bytes = [0; ENTRY_BYTES];
        read_at(&self.index, (at * ENTRY_BYTES) as u64, &mut bytes)
            .map_err(|e| artifact::Error::io("read", self.folder.join(INDEX), e))?;
        let entry = Entry::from_bytes(&bytes);
        let bytes = self.bytes(entry.offset, entry.length)?;
        Body::from_bytes(bytes, entry.is_chat).ok_or_else(|| Error::Spool { path: self.path.clone() })
    }

    /// Reads consecutive documents with one read.
    pub fn bodies(&self, entries: &[Entry]) -> Result<Vec<Body>, Error> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(Vec::new()) };
        let bytes = self.bytes(first.offset, last.offset + last.length - first.offset)?;
        let body = |entry: &Entry| {
            let at = (entry.offset - first.offset) as usize;
            Body::from_bytes(bytes[at..at + entry.length as usize].to_vec(), entry.is_chat)
        };
        let bodies: Option<Vec<Body>> = entries.iter().map(body).collect();
        bodies.ok_or_else(|| Error::Spool { path: self.path.clone() })
    }

    fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length as usize];
        read_at(&self.texts, offset, &mut bytes).map_err(|e| artifact::Error::io("read", &self.path, e))?;
        Ok(bytes)
    }
}

fn read_at(file: &Mutex<File>, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(into)
}

/// Divides `entries` into runs of about `bytes`, each of at least one document.
pub(crate) fn runs(entries: &[Entry], bytes: u64) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (at, entry) in entries.iter().enumerate() {
        sum += entry.length;
        if sum >= bytes || at + 1 == entries.len() {
            runs.push(start..at + 1);
            (start, sum) = (at + 1, 0);
        }
    }
    runs
}
