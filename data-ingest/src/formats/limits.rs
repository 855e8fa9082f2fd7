//! Hashing, counting and limiting of a file while it is read.
//!
//! Decompressors turn every fault into an error of their own, which does not distinguish a full disk or an interruption
//! from a damaged file. So faults are recorded here, below and above the decompressor, and queried afterwards.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use artifact::digest::Hasher;
use artifact::{Context, Digest};

use crate::Error;
use crate::documents::rejection::Reason;

/// Bytes that any file may unpack to. Heuristic, not measured: read in a moment.
const HARMLESS_BYTES: u64 = 64 << 20;
/// The largest compression ratio beyond that. Deflate reaches 1032 (zlib's technical notes); real text stays below 100.
const MAX_RATIO: u64 = 1000;

/// Why reading ended early.
pub(crate) enum ReadError {
    /// The run ends.
    Fatal(Error),
    /// The rest of the file cannot be read.
    Input(io::Error),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Input(error)
    }
}

/// A file that is being read.
pub(crate) struct InputFile<'a> {
    /// The file.
    pub path: &'a Path,
    context: &'a Context,
    /// Bytes that the stage has read before, for the progress.
    done_bytes: u64,
    max_unpacked_bytes: u64,
    hasher: RefCell<Hasher>,
    read_bytes: Rc<Cell<u64>>,
    unpacked_bytes: Cell<u64>,
    fatal: RefCell<Option<Error>>,
    bomb: Cell<bool>,
}

impl<'a> InputFile<'a> {
    /// Returns a file of which nothing has been read.
    pub fn new(path: &'a Path, max_unpacked_bytes: u64, done_bytes: u64, context: &'a Context) -> Self {
        Self {
            path,
            context,
            done_bytes,
            max_unpacked_bytes,
            hasher: RefCell::default(),
            read_bytes: Rc::default(),
            unpacked_bytes: Cell::new(0),
            fatal: RefCell::default(),
            bomb: Cell::new(false),
        }
    }

    /// Opens the file for sequential reading.
    pub fn open(&self) -> Result<HashingReader<'_, 'a>, Error> {
        let file = File::open(self.path).map_err(|e| artifact::Error::io("read", self.path, e))?;
        Ok(HashingReader { file, input: self, is_hashed: true })
    }

    /// Opens the file for random access, after hashing it.
    pub fn open_seekable(&self) -> Result<HashingReader<'_, 'a>, Error> {
        let mut whole = self.open()?;
        io::copy(&mut whole, &mut io::sink())
            .map_err(|e| self.fault(&e).err().unwrap_or_else(|| self.unreadable(e)))?;
        let mut seekable = HashingReader { is_hashed: false, ..whole };
        seekable.seek(SeekFrom::Start(0)).map_err(|e| self.unreadable(e))?;
        Ok(seekable)
    }

    /// Reads the rest of the file and returns the digest of all of it.
    pub fn finish(&self, mut rest: HashingReader<'_, 'a>) -> Result<Digest, Error> {
        io::copy(&mut rest, &mut io::sink()).map_err(|e| self.fault(&e).err().unwrap_or_else(|| self.unreadable(e)))?;
        Ok(self.digest())
    }

    /// Returns the digest of the bytes read so far, which is the whole file if [`InputFile::open_seekable`] was called.
    pub fn digest(&self) -> Digest {
        self.hasher.take().finish()
    }

    /// Returns a counter of the bytes read.
    pub fn read_bytes(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.read_bytes)
    }

    /// Classifies an error of decompression: the fault of the record, or an error that ends the run.
    pub fn fault(&self, error: &io::Error) -> Result<(Reason, String), Error> {
        if let Some(fatal) = self.fatal.take() {
            return Err(fatal);
        }
        if self.bomb.replace(false) {
            return Ok((Reason::Bomb, format!("it unpacks to more than {MAX_RATIO} times its size")));
        }
        Ok((Reason::Corrupt, error.to_string()))
    }

    fn stop(&self, error: impl Into<Error>) -> io::Error {
        *self.fatal.borrow_mut() = Some(error.into());
        io::Error::other("stopped")
    }

    fn unreadable(&self, error: io::Error) -> Error {
        artifact::Error::io("read", self.path, error).into()
    }
}

/// A reader of a file that hashes, counts and reports the bytes read.
pub(crate) struct HashingReader<'w, 'a> {
    file: File,
    input: &'w InputFile<'a>,
    is_hashed: bool,
}

impl HashingReader<'_, '_> {
    /// Returns the file itself.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Read for HashingReader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let input = self.input;
        if input.context.cancel.is_requested() {
            return Err(input.stop(Error::Interrupted));
        }
        let read = match self.file.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            read => read.map_err(|e| input.stop(artifact::Error::io("read", input.path, e)))?,
        };
        if self.is_hashed {
            input.hasher.borrow_mut().update(&buffer[..read]);
            input.read_bytes.set(input.read_bytes.get() + read as u64);
            input.context.progress.position(input.done_bytes + input.read_bytes.get());
        }
        Ok(read)
    }
}

impl Seek for HashingReader<'_, '_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        // Callers that seek have hashed the file before; otherwise the digest would be wrong.
        assert!(!self.is_hashed, "a file that is hashed is read in order");
        self.file.seek(to)
    }
}

/// Counts the bytes that are read.
pub(crate) struct CountingReader<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> CountingReader<R> {
    /// Returns a reader that counts, and its counter.
    pub fn new(inner: R) -> (Self, Rc<Cell<u64>>) {
        let bytes = Rc::<Cell<u64>>::default();
        (Self { inner, bytes: Rc::clone(&bytes) }, bytes)
    }
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}

/// A reader that fails after its allowance, which can be reset at any time.
pub(crate) struct AllowanceReader<R> {
    inner: R,
    left_bytes: Rc<Cell<u64>>,
}

impl<R: Read> AllowanceReader<R> {
    /// Returns a reader with an allowance of zero, and the allowance.
    pub fn new(inner: R) -> (Self, Rc<Cell<u64>>) {
        let left_bytes = Rc::<Cell<u64>>::default();
        (Self { inner, left_bytes: Rc::clone(&left_bytes) }, left_bytes)
    }
}

impl<R: Read> Read for AllowanceReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left_bytes.get();
        if left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..length])?;
        self.left_bytes.set(left - read as u64);
        Ok(read)
    }
}

/// The output of a decompressor, rejected if it is a bomb.
pub(crate) struct LimitedReader<'w, 'a, R> {
    inner: R,
    input: &'w InputFile<'a>,
    packed_bytes: Rc<Cell<u64>>,
    unpacked_bytes: u64,
    /// The error of `inner`: a decoder that is read after an error may return anything, or never return.
    failed: Option<(io::ErrorKind, String)>,
}

impl<'w, 'a, R: Read> LimitedReader<'w, 'a, R> {
    /// Returns a reader that fails once `inner` has exceeded the ratio to `packed_bytes`, and always after `inner` has
    /// failed.
    pub fn new(inner: R, input: &'w InputFile<'a>, packed_bytes: Rc<Cell<u64>>) -> Self {
        Self { inner, input, packed_bytes, unpacked_bytes: 0, failed: None }
    }
}

impl<R: Read> Read for LimitedReader<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let input = self.input;
        if input.context.cancel.is_requested() {
            return Err(input.stop(Error::Interrupted));
        }
        if let Some((kind, message)) = &self.failed {
            return Err(io::Error::new(*kind, message.clone()));
        }
        let read = self.inner.read(buffer).inspect_err(|e| {
            if e.kind() != io::ErrorKind::Interrupted {
                self.failed = Some((e.kind(), e.to_string()));
            }
        })? as u64;
        self.unpacked_bytes += read;
        let all = input.unpacked_bytes.get() + read;
        input.unpacked_bytes.set(all);
        if all > input.max_unpacked_bytes {
            let (path, limit) = (input.path.to_owned(), input.max_unpacked_bytes);
            return Err(input.stop(Error::Unpacked { path, limit }));
        }
        // Members of an archive may overlap, so that each is harmless but all together are not.
        let is_bomb = |unpacked: u64, packed: u64| unpacked > HARMLESS_BYTES && unpacked / MAX_RATIO > packed;
        if is_bomb(self.unpacked_bytes, self.packed_bytes.get()) || is_bomb(all, input.read_bytes.get()) {
            input.bomb.set(true);
            return Err(io::Error::other("a decompression bomb"));
        }
        Ok(read as usize)
    }
}
