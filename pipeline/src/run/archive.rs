//! A run with all its artifacts as one file: a tar archive, compressed with zstd.
//!
//! `run/` has the files of the run's folder, `artifacts/<stage>-<12 digits of the fingerprint>/` the artifacts, each
//! with its manifest before its files, `answers/` what their models answered to tasks outside of runs. The archive of a
//! run is always the same: members are sorted and have no times and no owners.

mod unpack;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use artifact::{Digest, Manifest, Sealed, file, gc, manifest};

use crate::config;

use super::answers;
use super::record::{LOG, RECORD, Run};

pub use unpack::unpack;

/// The start of the names of the folders that archives are unpacked into.
pub const TEMPORARY: &str = ".import-";

/// The folder of the run's own files.
const RUN: &str = "run";

/// The folder of artifacts.
const ARTIFACTS: &str = "artifacts";

/// The folder of the answers of models, each file with the name of an artifact's folder.
const ANSWERS: &str = "answers";

/// The files of a run's folder that are kept.
const RUN_FILES: [&str; 4] = [RECORD, config::FILE_NAME, LOG, "report.html"];

/// zstd's own default: weights hardly compress at any level.
const LEVEL: i32 = 3;

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// How many artifacts.
    pub artifacts: usize,
    /// The size of their files, in bytes.
    pub bytes: u64,
}

/// Writes a run and every artifact that it needs into the file `out`, atomically. Each file is verified first.
///
/// # Errors
/// Returns an error if the run has no artifact, one is missing or differs from its record, or on I/O errors.
pub fn pack(run: &Run, out: &Path) -> anyhow::Result<Packed> {
    let name = &run.record.name;
    ensure!(!run.record.stages.is_empty(), "run {name} has no finished stage to export");
    for stage in &run.record.stages {
        let sealed = Sealed::open(&run.artifact_folder(stage)).with_context(|| format!("run {name} is incomplete"))?;
        ensure!(
            sealed.digest() == stage.digest,
            "the {} of run {name} was overwritten by a later run; `pipeline verify {name}` has details",
            stage.stage.artifact()
        );
    }
    let roots: BTreeSet<Digest> = run.record.stages.iter().map(|stage| stage.fingerprint).collect();
    let needed = gc::survey(&run.layout().artifacts(), &roots, true)?.needed;
    let artifacts: Vec<Sealed> = needed.iter().map(|entry| Sealed::open(&entry.folder)).collect::<Result<_, _>>()?;
    for sealed in &artifacts {
        if let Some(error) = sealed.verify().into_iter().next() {
            return Err(anyhow::Error::new(error).context(format!("run {name} cannot be exported")));
        }
    }
    file::write_atomically_with(out, |writer| write(run, &artifacts, writer, out))?;
    Ok(Packed { artifacts: artifacts.len(), bytes: needed.iter().map(|entry| entry.bytes).sum() })
}

fn write(run: &Run, artifacts: &[Sealed], writer: impl Write, out: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", out.display());
    let mut builder = tar::Builder::new(zstd::Encoder::new(writer, LEVEL).with_context(failed)?);
    for name in RUN_FILES {
        let path = run.folder.join(name);
        if path.is_file() {
            append(&mut builder, &format!("{RUN}/{name}"), &path)?;
        }
    }
    for sealed in artifacts {
        let folder = format!("{ARTIFACTS}/{}", label(sealed.manifest()));
        for name in std::iter::once(manifest::FILE_NAME).chain(sealed.manifest().files.keys().map(String::as_str)) {
            append(&mut builder, &format!("{folder}/{name}"), &sealed.folder().join(name))?;
        }
    }
    for sealed in artifacts {
        let path = answers::of_artifact(&run.layout(), sealed.digest());
        if path.is_file() {
            append(&mut builder, &format!("{ANSWERS}/{}.jsonl", label(sealed.manifest())), &path)?;
        }
    }
    builder.into_inner().and_then(zstd::Encoder::finish).with_context(failed)?;
    Ok(())
}

fn append(builder: &mut tar::Builder<impl Write>, name: &str, path: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot add {}", path.display());
    let file = File::open(path).with_context(failed)?;
    let bytes = file.metadata().with_context(failed)?.len();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_path(name).with_context(failed)?;
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    // A log may grow meanwhile; a file that shrinks would leave the archive damaged.
    let mut counted = file.take(bytes);
    builder.append(&header, &mut counted).with_context(failed)?;
    if counted.limit() > 0 {
        bail!("{} changed while it was read", path.display());
    }
    Ok(())
}

/// Returns the name of an artifact's folder in an archive.
fn label(manifest: &Manifest) -> String {
    format!("{}-{}", manifest.recipe.stage, manifest.fingerprint.short())
}

#[cfg(test)]
mod tests;
