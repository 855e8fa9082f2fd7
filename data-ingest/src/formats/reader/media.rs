//! Files of pictures and sounds, and the captions that come before them.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::sync::Arc;

use super::Job;
use crate::Error;
use crate::documents::batch::{Batch, Raw, RawMedia};
use crate::documents::rejection::{At, Reason, Skip};
use crate::formats::archive::{self, Entry};
use crate::formats::captions::Captions;
use crate::formats::decompress::unpack;
use crate::formats::format::{self, Archive, Kind};
use crate::formats::limits::{InputFile, ReadError};
use crate::inventory::HashedFile;

/// The captions of a source.
#[derive(Default)]
pub(super) struct SourceCaptions {
    /// Those in files of their own.
    files: RefCell<Captions>,
    /// Those in the archive that is being read.
    members: RefCell<Captions>,
    /// Those in earlier archives that no file had.
    unused: Cell<u64>,
    /// Whether the table of captions was found.
    has_table: Cell<bool>,
}

impl Job<'_> {
    /// Reads the captions that are files of their own.
    pub fn captions(&self, batch: &mut Batch<'_>) -> Result<(), Error> {
        for file in self.source.files.iter().filter(|file| file.kind == Kind::Captions) {
            let input = InputFile::new(file.place.path(), self.max_unpacked_bytes, 0, self.context);
            let mut opened = input.open()?;
            let read = self.limited(&mut opened);
            self.add_captions(&self.captions.files, (&file.relative, &file.relative), read, &input, batch)?;
            if input.finish(opened)? != file.sha256 {
                return Err(Error::Changed { name: self.source.name.clone(), path: input.path.to_owned() });
            }
        }
        Ok(())
    }

    /// Reads the captions inside an archive, which may come after what they belong to.
    pub(super) fn member_captions(
        &self,
        file: &HashedFile,
        archive: Archive,
        batch: &mut Batch<'_>,
    ) -> Result<(), Error> {
        let earlier = self.captions.members.take();
        self.captions.unused.set(self.captions.unused.get() + earlier.unused());
        let input = InputFile::new(file.place.path(), self.max_unpacked_bytes, 0, self.context);
        let visit = |entry: Entry<'_>| match entry {
            Entry::File(path, reader) if self.source.filter.member(&file.relative, &path) == Some(Kind::Captions) => {
                let name = format!("{}!/{path}", file.relative);
                self.add_captions(&self.captions.members, (&path, &name), self.limited(reader), &input, batch)
            }
            // What is damaged is reported when the archive is read for its pictures and sounds.
            Entry::Damaged(_, error) => input.fault(&error).map(drop),
            Entry::File(..) | Entry::Skipped(_) => Ok(()),
        };
        match archive {
            Archive::Zip => archive::zip(input.open_seekable()?, &input, visit),
            Archive::Tar => {
                let packing = format::packing(&file.relative).0;
                match unpack(input.open()?, packing, input.read_bytes(), &input) {
                    Ok(stream) => archive::tar(stream, &input, visit),
                    Err(error) => input.fault(&error).map(drop),
                }
            }
        }
    }

    /// Reads a file that may be a picture or a sound.
    pub(super) fn media(&self, reader: impl Read, name: &Arc<str>, batch: &mut Batch<'_>) -> Result<(), ReadError> {
        let bytes = self.limited(reader)?;
        let (archive, path) = name.split_once("!/").map_or((None, &**name), |(archive, path)| (Some(archive), path));
        if bytes.len() as u64 > self.source.max_file_bytes {
            return Ok(batch.skip(Skip::TooLarge)?);
        }
        let mut captions = Vec::new();
        if archive.is_some() {
            captions = self.captions.members.borrow_mut().find(path);
        }
        if captions.is_empty() {
            captions = self.captions.files.borrow_mut().find(path);
        }
        Ok(batch.push(Raw::Media(RawMedia { file: Arc::clone(name), bytes: Arc::new(bytes), captions }))?)
    }

    /// Counts the captions that no picture or sound had.
    ///
    /// # Errors
    /// Returns an error if the table of captions was not found.
    pub fn count_unused_captions(&self, batch: &mut Batch<'_>) -> Result<(), Error> {
        let SourceCaptions { files, members, unused, has_table } = &self.captions;
        if let (Some((path, _)), false) = (&self.source.columns.captions, has_table.get()) {
            let key = format!("source {}: captions", self.source.name);
            let message = format!("`{path}` is not among its files; write its path inside the folder or the archive");
            return Err(Error::value(&key, &message));
        }
        let all = unused.get() + files.borrow().unused() + members.borrow().unused();
        (0..all).try_for_each(|_| batch.skip(Skip::NoMedia))
    }

    /// Reads at most one byte more than a file may have.
    fn limited(&self, reader: impl Read) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        reader.take(self.source.max_file_bytes + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Adds a file with captions, given by its path among the pictures and its name in errors.
    fn add_captions(
        &self,
        captions: &RefCell<Captions>,
        (path, name): (&str, &str),
        read: io::Result<Vec<u8>>,
        input: &InputFile<'_>,
        batch: &mut Batch<'_>,
    ) -> Result<(), Error> {
        let mut report = |at, reason, message| batch.bad(name, at, reason, message);
        let label = self.source.encoding.as_deref();
        let bytes = match read {
            Ok(bytes) if bytes.len() as u64 > self.source.max_file_bytes => {
                return report(At::File, Reason::TooLong, "captions longer than max_file_bytes".to_owned());
            }
            Ok(bytes) => bytes,
            Err(error) => {
                let (reason, message) = input.fault(&error)?;
                return report(At::File, reason, message);
            }
        };
        let mut captions = captions.borrow_mut();
        match &self.source.columns.captions {
            Some((_, key)) => {
                self.captions.has_table.set(true);
                let names: Vec<&str> = self.mapping.names().collect();
                match captions.add_table(path, bytes, (key, &names), label, &mut report) {
                    Ok(()) => Ok(()),
                    Err(ReadError::Fatal(error)) => Err(error),
                    Err(ReadError::Input(error)) => report(At::File, Reason::Malformed, error.to_string()),
                }
            }
            None => captions.add_sidecar(path, bytes, label, &mut report),
        }
    }
}
