//! Files inside archives, read one after another without writing them to disk.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Read, Seek};
use std::rc::Rc;

use artifact::Digest;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::Error;
use crate::documents::rejection::Skip;
use crate::formats::limits::{AllowanceReader, InputFile, LimitedReader};

/// The most members that are read. Heuristic, not measured: about ten times the files of the Linux kernel.
const MAX_MEMBERS: usize = 1_000_000;
/// The most bytes between two members of a tar: long names and extended attributes. Heuristic, not measured.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// An entry of an archive.
pub(crate) enum Entry<'r> {
    /// A file: its path inside the archive, with `/` on every system, and its bytes.
    File(String, Box<dyn Read + 'r>),
    /// A skipped member.
    Skipped(Skip),
    /// A member, by its path, or the rest of the archive, cannot be read.
    Damaged(Option<String>, io::Error),
}

/// Walks through a ZIP archive in the order of its directory.
pub(crate) fn zip<'w>(
    file: impl Read + Seek + 'w,
    input: &'w InputFile<'_>,
    mut visit: impl FnMut(Entry<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut archive = match ZipArchive::new(file) {
        Ok(archive) => archive,
        Err(error) => return visit(Entry::Damaged(None, io_error(error))),
    };
    let mut names = Names::default();
    for i in 0..archive.len() {
        if i == MAX_MEMBERS {
            return visit(Entry::Damaged(None, too_many()));
        }
        let entry = match archive.by_index_data(i) {
            Ok(entry) => entry,
            Err(error) => {
                visit(Entry::Damaged(None, io_error(error)))?;
                continue;
            }
        };
        let name = entry.name().map_or_else(|_| String::from_utf8_lossy(entry.name_raw()).into_owned(), Into::into);
        let skip = match names.check(&name) {
            Ok(path) if entry.encrypted() => Err((Skip::Encrypted, path)),
            Ok(path) if entry.is_symlink() => Err((Skip::Link, path)),
            Ok(path) => Ok(path),
            Err(skip) => Err((skip, name.clone())),
        };
        let path = match skip {
            _ if entry.is_dir() => continue,
            Err((skip, _)) => {
                visit(Entry::Skipped(skip))?;
                continue;
            }
            Ok(path) => path,
        };
        // The directory's length of a member is not trusted beyond the size of the file.
        let packed_bytes = Rc::new(Cell::new(entry.compressed_size().min(input.read_bytes().get())));
        match archive.by_index(i) {
            Ok(member) => {
                visit(Entry::File(path, Box::new(LimitedReader::new(member, input, packed_bytes))))?;
            }
            Err(error) => visit(Entry::Damaged(Some(path), io_error(error)))?,
        }
    }
    Ok(())
}

/// Walks through a tar archive.
pub(crate) fn tar<'w>(
    stream: impl Read + 'w,
    input: &'w InputFile<'_>,
    mut visit: impl FnMut(Entry<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let (stream, left_bytes) = AllowanceReader::new(stream);
    let mut archive = tar::Archive::new(stream);
    let mut names = Names::default();
    // The reader keeps names of any claimed length in memory, so it gets few bytes between two members.
    left_bytes.set(MAX_HEADER_BYTES);
    let entries = match archive.entries() {
        Ok(entries) => entries,
        Err(error) => return visit(Entry::Damaged(None, error)),
    };
    for (i, entry) in entries.enumerate() {
        let mut entry = match entry {
            Err(_) if left_bytes.get() == 0 => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "a member's header is too long");
                return visit(Entry::Damaged(None, error));
            }
            Err(error) => return visit(Entry::Damaged(None, error)),
            Ok(_) if i == MAX_MEMBERS => return visit(Entry::Damaged(None, too_many())),
            Ok(entry) => entry,
        };
        left_bytes.set(u64::MAX);
        let kind = entry.header().entry_type();
        if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            match names.check(&String::from_utf8_lossy(&entry.path_bytes())) {
                Ok(path) => {
                    // A sparse file is mostly holes, which take no space in the archive.
                    let reader: Box<dyn Read + '_> = if kind.is_gnu_sparse() {
                        Box::new(LimitedReader::new(&mut entry, input, input.read_bytes()))
                    } else {
                        let left_bytes = entry.size();
                        Box::new(CompleteReader { inner: &mut entry, left_bytes })
                    };
                    visit(Entry::File(path, reader))?;
                }
                Err(skip) => visit(Entry::Skipped(skip))?,
            }
        } else if kind.is_symlink() || kind.is_hard_link() {
            visit(Entry::Skipped(Skip::Link))?;
        }
        let is_sparse = kind.is_gnu_sparse();
        let drained = if is_sparse { Ok(0) } else { io::copy(&mut entry, &mut io::sink()) };
        if let Err(error) = drained {
            return visit(Entry::Damaged(None, error));
        }
        left_bytes.set(if is_sparse { u64::MAX } else { MAX_HEADER_BYTES });
    }
    Ok(())
}

/// Reports an archive that ends inside a member; the reader of crate tar ends as if the member were complete.
struct CompleteReader<R> {
    inner: R,
    left_bytes: u64,
}

impl<R: Read> Read for CompleteReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && self.left_bytes > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends inside this member"));
        }
        self.left_bytes = self.left_bytes.saturating_sub(read as u64);
        Ok(read)
    }
}

fn io_error(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

fn too_many() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "more than 1,000,000 members")
}

/// The names seen in an archive, by their digests.
#[derive(Default)]
struct Names(HashSet<Digest>);

impl Names {
    /// Returns a member's path, with `/` between its parts, unless it leaves the archive or is a duplicate.
    fn check(&mut self, name: &str) -> Result<String, Skip> {
        let name = name.replace('\\', "/");
        let has_drive = name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic();
        if name.starts_with('/') || has_drive || name.contains('\0') {
            return Err(Skip::Outside);
        }
        let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.is_empty() || parts.contains(&"..") {
            return Err(Skip::Outside);
        }
        let path = parts.join("/");
        if self.0.insert(Digest::of(path.as_bytes())) { Ok(path) } else { Err(Skip::RepeatedName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_outside_the_archive_are_rejected() {
        let mut names = Names::default();
        let cases = [
            ("a.txt", Ok("a.txt")),
            ("./a/./b.txt", Ok("a/b.txt")),
            ("a\\c.txt", Ok("a/c.txt")),
            ("a//d.txt", Ok("a/d.txt")),
            ("ü.txt", Ok("ü.txt")),
            ("c.txt:d", Ok("c.txt:d")),
            ("./a.txt", Err(Skip::RepeatedName)),
            ("", Err(Skip::Outside)),
            (".", Err(Skip::Outside)),
            ("../a.txt", Err(Skip::Outside)),
            ("a/../../b.txt", Err(Skip::Outside)),
            ("a/..", Err(Skip::Outside)),
            ("..\\a.txt", Err(Skip::Outside)),
            ("/etc/passwd", Err(Skip::Outside)),
            ("\\server\\a", Err(Skip::Outside)),
            ("C:\\a.txt", Err(Skip::Outside)),
            ("c:a.txt", Err(Skip::Outside)),
            ("a\0.txt", Err(Skip::Outside)),
        ];
        for (name, expected) in cases {
            assert_eq!(names.check(name).as_deref().map_err(|skip| *skip), expected, "{name}");
        }
    }
}
