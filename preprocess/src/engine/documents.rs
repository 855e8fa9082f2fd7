//! All documents after the steps so far: where they are stored, and which step dropped them.
//!
//! Only a few bytes of each document are in memory; the rest is read when it is needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artifact::Digest;

use crate::dedup::{Duplicate, Shard};
use crate::engine::layout;
use crate::engine::parquet::{Reader, Table};
use crate::engine::record::Body;
use crate::engine::split::Split;
use crate::engine::spool::{Entry, Spool};
use crate::{Config, Error, Step};

/// The documents of a corpus.
pub(crate) struct Documents {
    work: PathBuf,
    /// The folders of the finished passes, in order.
    passes: Vec<PathBuf>,
    /// The output of the last pass, by file of the corpus.
    spools: Vec<Spool>,
    /// The number of the first document of each file.
    first: Vec<u32>,
    /// The step that dropped each document, from 1; 0 if none did.
    dropped_by: Vec<u16>,
    /// For each duplicate, the document that was kept in its place.
    duplicate_of: BTreeMap<u32, u32>,
    has_chats: bool,
    /// Documents that are in another split than their digest says, so that none is empty.
    moved: BTreeMap<Digest, Split>,
}

impl Documents {
    /// Returns the state before the first pass; `work` is the working folder.
    pub fn new(work: &Path) -> Self {
        Self {
            work: work.to_owned(),
            passes: Vec::new(),
            spools: Vec::new(),
            first: Vec::new(),
            dropped_by: Vec::new(),
            duplicate_of: BTreeMap::new(),
            has_chats: false,
            moved: BTreeMap::new(),
        }
    }

    /// Loads the output of a pass over `files` files from `root`.
    pub fn after_pass(&mut self, root: PathBuf, files: usize) -> Result<(), Error> {
        self.spools = (0..files).map(|file| Spool::open(&layout::folder(&root, file))).collect::<Result<_, Error>>()?;
        self.passes.push(root);
        self.first.clear();
        self.dropped_by.clear();
        let mut count = 0;
        for spool in &self.spools {
            self.first.push(u32::try_from(count).unwrap_or(u32::MAX));
            count += spool.len();
            if u32::try_from(count).is_err() {
                return Err(Error::TooManyDocuments { path: self.work.clone() });
            }
            let index = spool.index()?;
            self.has_chats |= index.iter().any(|entry| entry.is_chat);
            self.dropped_by.extend(index.iter().map(|entry| entry.dropped_by));
        }
        Ok(())
    }

    /// Returns the working folder.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Returns the folders of the finished passes.
    pub fn passes(&self) -> &[PathBuf] {
        &self.passes
    }

    /// Returns the number of files.
    pub fn files(&self) -> usize {
        self.spools.len()
    }

    /// Returns the number of documents.
    pub fn len(&self) -> usize {
        self.dropped_by.len()
    }

    /// Puts the documents with this digest into another split.
    pub fn put_into(&mut self, split: Split, digest: Digest) {
        self.moved.insert(digest, split);
    }

    /// Returns the split of document `at` of `file`, or `None` if it was dropped.
    pub fn split(&self, config: &Config, file: usize, at: usize, entry: &Entry) -> Option<Split> {
        let of = || self.moved.get(&entry.digest).copied().unwrap_or_else(|| Split::of(entry, config));
        (self.dropped_by(file, at) == 0).then(of)
    }

    /// Returns true if any document is a conversation.
    pub fn has_chats(&self) -> bool {
        self.has_chats
    }

    /// Returns the steps that may have dropped documents, in the order of their numbers.
    pub fn steps(&self, config: &Config) -> Vec<Step> {
        let mut steps = config.steps();
        steps.extend(self.has_chats.then_some(Step::ChatTemplate));
        steps
    }

    /// Returns the spool of a file.
    pub fn spool(&self, file: usize) -> &Spool {
        &self.spools[file]
    }

    /// Reads the index of a file.
    pub fn index(&self, file: usize) -> Result<Vec<Entry>, Error> {
        self.spools[file].index()
    }

    /// Reads one document of a file.
    pub fn body(&self, file: usize, at: usize) -> Result<Body, Error> {
        self.spools[file].body(at)
    }

    /// Returns the file that contains a document, and its index there.
    pub fn place(&self, document: u32) -> (usize, usize) {
        let file = self.first.partition_point(|first| *first <= document) - 1;
        (file, (document - self.first[file]) as usize)
    }

    /// Returns the number of the first document of a file.
    pub fn first(&self, file: usize) -> u32 {
        self.first[file]
    }

    /// Returns the number of a document.
    pub fn number(&self, file: usize, at: usize) -> u32 {
        self.first[file] + at as u32
    }

    /// Returns the step that dropped a document, from 1; 0 if none did.
    pub fn dropped_by(&self, file: usize, at: usize) -> u16 {
        self.dropped_by[self.number(file, at) as usize]
    }

    /// Returns the locations of the records that the last pass wrote for comparisons.
    pub fn shards(&self) -> Vec<Shard> {
        let root = self.passes.last().unwrap_or(&self.work);
        let shard = |(file, spool): (usize, &Spool)| Shard {
            folder: layout::folder(root, file),
            first: self.first[file],
            documents: spool.len() as u32,
        };
        self.spools.iter().enumerate().map(shard).collect()
    }

    /// Drops document `at` of `file`, unless a step did before. Returns true if it was kept until now.
    pub fn drop(&mut self, file: usize, at: usize, step: u16) -> bool {
        let number = self.number(file, at) as usize;
        let was_kept = self.dropped_by[number] == 0;
        if was_kept {
            self.dropped_by[number] = step;
        }
        was_kept
    }

    /// Drops documents that the step numbered `step` found to be duplicates of others.
    pub fn drop_duplicates(&mut self, duplicates: Vec<Duplicate>, step: u16) {
        for Duplicate { document, of } in duplicates {
            self.dropped_by[document as usize] = step;
            self.duplicate_of.insert(document, of);
        }
    }

    /// Returns the document that was kept in place of this one.
    pub fn duplicate_of(&self, document: u32) -> Option<u32> {
        self.duplicate_of.get(&document).copied()
    }

    /// Returns the documents that were kept in place of others.
    pub fn kept_for_others(&self) -> impl Iterator<Item = u32> + '_ {
        self.duplicate_of.values().copied()
    }

    /// Returns a column of texts that the first pass wrote for a file.
    pub fn texts(&self, file: usize, column: &str) -> Result<Vec<String>, Error> {
        let texts = self.column(file, column)?.texts(column)?;
        Ok(texts.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
    }

    /// Returns the piece number of each document of a file; 0 for documents that were not cut.
    pub fn pieces(&self, file: usize) -> Result<Vec<u32>, Error> {
        let pieces = self.column(file, "piece")?.numbers("piece")?;
        Ok(pieces.iter().map(|piece| piece.unwrap_or(0.0) as u32).collect())
    }

    fn column(&self, file: usize, name: &str) -> Result<Table, Error> {
        let signals = Reader::open(layout::folder(&self.passes[0], file).join(layout::SIGNALS))?;
        signals.read(Some(&[name]), (0, signals.rows()))
    }
}
