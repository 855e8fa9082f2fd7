//! Importing an archive, which anyone may have made.
//!
//! Members are unpacked into a temporary folder beside the artifacts. Only regular files with the names that a manifest
//! lists are written, each with the length and the digest that it states; nothing reaches the store before all of it is
//! verified. The format has no links and no long names, so that the reader keeps no text of any claimed length.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use artifact::digest::Hasher;
use artifact::{FileEntry, Manifest, StoreLayout, file, manifest};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{ANSWERS, ARTIFACTS, RUN, RUN_FILES, TEMPORARY, answers, label};
use crate::run::record::{RECORD, Record, Run, is_numbered};
use crate::run::stage::Stage;
use crate::ui::console::printable;

/// The largest record, configuration, log, report or manifest, in bytes: heuristic, a report has at most 3 MB.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// The most artifacts of an archive: one for each stage, and the models that training reads.
const MAX_ARTIFACTS: usize = 32;

/// The result of an import.
#[derive(Debug)]
pub struct Imported {
    /// The run, as it is in the store.
    pub run: Run,
    /// Its name in the archive.
    pub original_name: String,
    /// How many of its artifacts the store did not have.
    pub added: usize,
    /// Whether the store has had this very run before.
    pub was_known: bool,
}

/// What an archive holds, verified.
struct Content {
    folder: TempDir,
    artifacts: BTreeMap<String, Artifact>,
    /// The files of the run, by name.
    texts: BTreeMap<String, Vec<u8>>,
}

struct Artifact {
    manifest: Manifest,
    /// The files that have not been unpacked yet.
    missing: BTreeMap<String, FileEntry>,
}

/// Imports the run in `archive` into a store, whose lock it takes. An archive that unpacks to more than `max_bytes` is
/// refused. If another run has the name, the run gets the next number.
///
/// # Errors
/// Returns an error if the archive is not one of a run, is damaged, or differs from its own manifests; if the store has
/// an artifact of the same fingerprint with other content; or on I/O errors. The store is then as it was.
pub fn unpack(archive: &Path, layout: &StoreLayout, max_bytes: u64) -> anyhow::Result<Imported> {
    let file = File::open(archive).with_context(|| format!("cannot open {}", archive.display()))?;
    let store = layout.artifacts();
    let _lock = store.lock()?;
    let content =
        read(file, store.root(), max_bytes).with_context(|| format!("{} cannot be imported", archive.display()))?;
    let text = content.texts.get(RECORD).with_context(|| format!("it has no {RUN}/{RECORD}"));
    let record = text.and_then(|text| record(text, &content.artifacts));
    let record = record.with_context(|| format!("{} cannot be imported", archive.display()))?;
    let added = install(&content, layout)?;
    keep_answers(&content, layout)?;
    let (run, was_known) = keep(&content, record.clone(), layout)?;
    Ok(Imported { run, original_name: record.name, added, was_known })
}

/// Unpacks and verifies an archive below `root`.
fn read(archive: impl Read, root: &Path, max_bytes: u64) -> anyhow::Result<Content> {
    let folder = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(root);
    let folder = folder.with_context(|| format!("cannot make a folder in {}", root.display()))?;
    let mut content = Content { folder, artifacts: BTreeMap::new(), texts: BTreeMap::new() };
    let mut archive = tar::Archive::new(zstd::Decoder::new(archive)?);
    let mut left = max_bytes;
    // Raw: a long name or an extension is a member of a type that is refused.
    for member in archive.entries()?.raw(true) {
        let mut member = member.context("it is damaged, or not a tar archive compressed with zstd")?;
        let bytes = member.size();
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        ensure!(member.header().entry_type() == tar::EntryType::Regular, "its member {name:?} is not a regular file");
        ensure!(bytes <= left, "it unpacks to more than {max_bytes} bytes; --max-gigabytes allows more");
        left -= bytes;
        content.member(&name, bytes, &mut member)?;
    }
    for (label, artifact) in &content.artifacts {
        if let Some(name) = artifact.missing.keys().next() {
            bail!("{ARTIFACTS}/{label}/{name} is missing from it");
        }
    }
    Ok(content)
}

impl Content {
    fn member(&mut self, name: &str, bytes: u64, reader: &mut impl Read) -> anyhow::Result<()> {
        let unknown = || format!("its member {name:?} is not part of a run");
        let (top, rest) = name.split_once('/').with_context(unknown)?;
        if top == RUN {
            let text = text(name, bytes, reader)?;
            ensure!(RUN_FILES.contains(&rest), unknown());
            ensure!(self.texts.insert(rest.to_owned(), text).is_none(), "it has two members {name:?}");
            return Ok(());
        }
        if top == ANSWERS {
            let artifact = rest.strip_suffix(".jsonl").filter(|label| self.artifacts.contains_key(*label));
            let artifact = artifact.with_context(|| format!("its member {name:?} is of no artifact before it"))?;
            let path = self.answers(artifact);
            file::create_folder(path.parent().unwrap_or(&path))?;
            let mut out = File::create_new(&path).with_context(|| format!("it has two members {name:?}"))?;
            let written = io::copy(reader, &mut out).with_context(|| format!("its member {name:?} is damaged"))?;
            ensure!(written == bytes, "it ends inside its member {name:?}");
            return Ok(());
        }
        ensure!(top == ARTIFACTS, unknown());
        let (artifact, file) = rest.split_once('/').with_context(unknown)?;
        if file == manifest::FILE_NAME {
            ensure!(!self.artifacts.contains_key(artifact), "it has two members {name:?}");
            ensure!(self.artifacts.len() < MAX_ARTIFACTS, "it has more than {MAX_ARTIFACTS} artifacts");
            let text = text(name, bytes, reader)?;
            let found = self.begin(artifact, &text).with_context(|| format!("{name:?} is not a valid manifest"))?;
            self.artifacts.insert(artifact.to_owned(), found);
            return Ok(());
        }
        let entry = self.artifacts.get_mut(artifact).and_then(|artifact| artifact.missing.remove(file));
        let entry = entry.with_context(|| format!("its member {name:?} is in no manifest before it"))?;
        ensure!(bytes == entry.bytes, "its member {name:?} has {bytes} bytes, but its manifest says {}", entry.bytes);
        let path = self.folder.path().join(artifact).join(file);
        write(&path, &entry, reader).with_context(|| format!("its member {name:?} is not as its manifest says"))
    }

    /// Returns where the answers of the model in an artifact are unpacked.
    fn answers(&self, label: &str) -> PathBuf {
        // No artifact's folder has this name, which has no `-`.
        self.folder.path().join(ANSWERS).join(label)
    }

    /// Checks a manifest, which says what files follow, and begins the artifact's folder.
    fn begin(&self, artifact: &str, text: &[u8]) -> anyhow::Result<Artifact> {
        // Before the name is used as one: stages are ours, and digests have only digits.
        let (stage, digits) = artifact.rsplit_once('-').context("its folder is not named by a stage")?;
        let is_stage = stage == registry::STAGE || Stage::ALL.iter().any(|known| known.name() == stage);
        ensure!(
            is_stage && digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit()),
            "its folder is not named by a stage"
        );
        let folder = self.folder.path().join(artifact);
        file::create_folder(&folder)?;
        file::write_atomically(&folder.join(manifest::FILE_NAME), text)?;
        let manifest = Manifest::read(&folder)?;
        ensure!(manifest.fingerprint == manifest.recipe.fingerprint(), "its fingerprint is not that of its recipe");
        ensure!(manifest.digest == manifest::digest_of(&manifest.files), "its digest is not that of its files");
        ensure!(label(&manifest) == artifact, "its folder has the name of another artifact");
        let shown = json!([manifest.headline, manifest.counts.get(artifact::NOTICES)]);
        ensure!(!has_commands(&shown), "its texts have characters that command a terminal");
        if let Some(name) = manifest.files.keys().find(|name| !is_plain(name)) {
            bail!("it names a file {name:?} outside its folder, or a hidden one");
        }
        let missing = manifest.files.clone();
        Ok(Artifact { manifest, missing })
    }
}

/// Returns true if `name` is a path of plain names, none of which begins with a dot.
pub(super) fn is_plain(name: &str) -> bool {
    let is_portable = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ':', '\0']);
    let components = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    name != manifest::FILE_NAME && components && name.split('/').all(is_portable)
}

/// Returns true if a text would do more to a terminal than be read; recipes are never printed as they are.
fn has_commands(value: &Value) -> bool {
    match value {
        Value::String(text) => printable(text) != *text,
        Value::Array(values) => values.iter().any(has_commands),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| name != "recipe" && (printable(name) != *name || has_commands(value)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn text(name: &str, bytes: u64, reader: &mut impl Read) -> anyhow::Result<Vec<u8>> {
    ensure!(bytes <= MAX_TEXT_BYTES, "its member {name:?} has {bytes} bytes, more than {MAX_TEXT_BYTES}");
    let mut text = Vec::new();
    reader.read_to_end(&mut text).with_context(|| format!("its member {name:?} is damaged"))?;
    ensure!(text.len() as u64 == bytes, "it ends inside its member {name:?}");
    Ok(text)
}

/// Writes a file that must have the length and the digest of `entry`.
fn write(path: &Path, entry: &FileEntry, reader: &mut impl Read) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        file::create_folder(parent)?;
    }
    let failed = |e| artifact::Error::io("write", path, e);
    let mut file = File::create_new(path).map_err(failed)?;
    let (mut hasher, mut written) = (Hasher::default(), 0);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(failed)?;
        written += read as u64;
    }
    file.sync_all().map_err(failed)?;
    ensure!(written == entry.bytes, "the archive ends after {written} of {} bytes", entry.bytes);
    let found = hasher.finish();
    ensure!(found == entry.sha256, "its SHA-256 is {found}, but the manifest has {}", entry.sha256);
    Ok(())
}

/// Parses the record, all of whose artifacts must be in the archive.
fn record(text: &[u8], artifacts: &BTreeMap<String, Artifact>) -> anyhow::Result<Record> {
    let record: Record = serde_json::from_slice(text).context("its record is not one of this version")?;
    let is_known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    // Numbered, so that it is neither `latest` nor a tag.
    ensure!(
        !record.name.starts_with('.') && record.name.chars().all(is_known) && is_numbered(&record.name),
        "its run has the name {:?}, which is not one of a run",
        record.name
    );
    ensure!(!has_commands(&json!(record)), "its record has characters that command a terminal");
    for stage in &record.stages {
        let (name, fingerprint) = (stage.stage.name(), stage.fingerprint);
        let found = artifacts.get(&format!("{name}-{}", fingerprint.short())).map(|artifact| &artifact.manifest);
        let is_same = found.is_some_and(|found| {
            found.fingerprint == fingerprint && found.digest == stage.digest && found.recipe == stage.recipe
        });
        ensure!(is_same, "it does not have the {} that its record names", stage.stage.artifact());
    }
    Ok(record)
}

/// Moves the artifacts that a store does not have into it; returns their number.
fn install(content: &Content, layout: &StoreLayout) -> anyhow::Result<usize> {
    let store = layout.artifacts();
    let mut new: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (label, Artifact { manifest, .. }) in &content.artifacts {
        let target = store.folder(&manifest.recipe);
        match store.find(&manifest.recipe)? {
            Some(sealed) => ensure!(
                sealed.digest() == manifest.digest,
                "the store has an artifact {label} with other content, made with other rounding or changed since; \
                 import into another store: --store FOLDER"
            ),
            None => new.push((content.folder.path().join(label), target)),
        }
    }
    for (from, to) in &new {
        let stage = to.parent().unwrap_or(to);
        file::create_folder(stage)?;
        if to.is_dir() {
            // Unfinished work on what is finished now, or an artifact that lost files.
            fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
        }
        file::sync_folder(from)?;
        fs::rename(from, to).with_context(|| format!("cannot move an artifact to {}", to.display()))?;
        file::sync_folder(stage)?;
    }
    Ok(new.len())
}

/// Moves the answers of models into a store that has none of them.
fn keep_answers(content: &Content, layout: &StoreLayout) -> anyhow::Result<()> {
    for (label, artifact) in &content.artifacts {
        let (from, to) = (content.answers(label), answers::of_artifact(layout, artifact.manifest.digest));
        if from.is_file() && !to.exists() {
            file::create_folder(&layout.answers())?;
            fs::rename(&from, &to).with_context(|| format!("cannot move answers to {}", to.display()))?;
        }
    }
    Ok(())
}

/// Writes the run's folder, the record last; a run that the store has already is not written again.
fn keep(content: &Content, mut record: Record, layout: &StoreLayout) -> anyhow::Result<(Run, bool)> {
    let folder = layout.runs().join(&record.name);
    if let Ok(run) = Run::open(&folder)
        && serde_json::to_value(&run.record)? == serde_json::to_value(&record)?
    {
        return Ok((run, true));
    }
    file::create_folder(&layout.runs())?;
    let folder = match fs::create_dir(&folder) {
        Ok(()) => folder,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let base = record.name.rsplit_once('-').filter(|(_, digits)| digits.bytes().all(|b| b.is_ascii_digit()));
            let (name, folder) = Run::reserve(layout, base.map_or(record.name.as_str(), |(base, _)| base))?;
            record.name = name;
            folder
        }
        Err(e) => return Err(artifact::Error::io("create folder", folder, e).into()),
    };
    for (name, text) in content.texts.iter().filter(|(name, _)| *name != RECORD) {
        file::write_atomically(&folder.join(name), text)?;
    }
    let run = Run { folder, record };
    run.save()?;
    Ok((run, false))
}
