//! Atomic and durable file operations.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Component, Path, PathBuf};

use crate::Error;

/// Writes `bytes` to `path` atomically: a reader sees the old or the new file, never a part, even after a crash. A
/// temporary file beside it is written, flushed to the disk and renamed.
///
/// # Errors
/// On I/O errors; the old file is kept.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_atomically_with(path, |writer| writer.write_all(bytes).map_err(|e| Error::io("write", path, e)))
}

/// Like [`write_atomically`], for content larger than memory: `write` gets a buffered writer of the new file.
///
/// # Errors
/// On I/O errors, or if `write` fails; the old file is kept.
pub fn write_atomically_with<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<(), E> {
    // The parent of a bare name is the empty path, not a folder.
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |e| Error::io("write", path, e);
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut writer = BufWriter::with_capacity(1 << 18, temporary.as_file());
    write(&mut writer)?;
    writer.flush().map_err(failed)?;
    drop(writer);
    temporary.as_file().sync_all().map_err(failed)?;
    make_readable(temporary.as_file()).map_err(failed)?;
    temporary.persist(path).map_err(|e| failed(e.error))?;
    sync_folder(folder)?;
    Ok(())
}

/// Flushes a file's content to the disk.
///
/// # Errors
/// On I/O errors.
pub fn sync(path: &Path) -> Result<(), Error> {
    // Write access, since some systems refuse to flush a file opened for reading only.
    let file = File::options().append(true).open(path).map_err(|e| Error::io("open", path, e))?;
    file.sync_all().map_err(|e| Error::io("write", path, e))
}

/// Flushes a folder's entries to the disk, so that a rename in it survives a power failure.
///
/// # Errors
/// On I/O errors.
pub fn sync_folder(path: &Path) -> Result<(), Error> {
    if cfg!(unix) {
        let folder = File::open(path).map_err(|e| Error::io("open", path, e))?;
        folder.sync_all().map_err(|e| Error::io("write", path, e))?;
    }
    Ok(())
}

/// Creates a folder and its parents.
///
/// # Errors
/// On I/O errors.
pub fn create_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|e| Error::io("create folder", path, e))
}

// Temporary files are readable only by their owner; artifacts are readable by all users with access to the folder.
#[cfg(unix)]
fn make_readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_: &File) -> std::io::Result<()> {
    Ok(())
}

/// Returns `path` without its `.` components, for display.
pub fn tidy(path: &Path) -> PathBuf {
    let tidied: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    if tidied.as_os_str().is_empty() { PathBuf::from(".") } else { tidied }
}
