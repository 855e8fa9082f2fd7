//! What a run would collect: every source found, listed and hashed, before anything is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use artifact::{Context, Digest};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::config::{Declared, declared};
use crate::environment::Environment;
use crate::format::{Format, Kind};
use crate::html::Html;
use crate::mapping::Columns;
use crate::select::{self, Filter, IgnoreRules, SelectedFile, Selection, select};
use crate::{Config, Error, crates};

/// Files up to this size are hashed from one read; larger ones in pieces. A guess.
const WHOLE_READ_BYTES: u64 = 4 << 20;

/// Everything that a run would collect, by source.
#[derive(Debug, Clone)]
pub struct Inventory {
    pub(crate) sources: Vec<ListedSource>,
}

/// One source, with its files and their digests.
#[derive(Debug, Clone)]
pub(crate) struct ListedSource {
    /// Its name, unique in the inventory.
    pub name: String,
    /// Where it comes from, as `sources.json` tells it; never an absolute path.
    pub origin: Value,
    /// The licence of its text.
    pub licence: String,
    /// Which columns of a table become what.
    pub columns: Columns,
    /// What is taken of web pages.
    pub html: Html,
    /// The largest text, page or row that is taken, in bytes.
    pub max_file_bytes: u64,
    /// Which members of archives are taken, and how they are read.
    pub filter: Filter,
    /// Its files, sorted by their path inside the source.
    pub files: Vec<HashedFile>,
    /// The digest that `sha256` pins: of a download's bytes, else of the listing of the files.
    pub content: Digest,
    /// Text files above the size cap.
    pub too_large: u64,
    /// Files of another kind, and symbolic links.
    pub not_selected: u64,
}

/// A file and its digest.
#[derive(Debug, Clone)]
pub(crate) struct HashedFile {
    /// Its path inside the source.
    pub relative: String,
    /// Where its bytes are.
    pub place: Place,
    /// Its length; 0 where it is not downloaded yet.
    pub bytes: u64,
    /// What it is.
    pub kind: Kind,
    /// The digest of its bytes.
    pub sha256: Digest,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// On this machine.
    Disk(PathBuf),
    /// In the download cache, or still to be fetched.
    Download {
        /// The address.
        url: String,
        /// Where it lies or will lie, named by its digest.
        cached: PathBuf,
    },
}

/// What an inventory says about one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSummary {
    /// Its name: `serde 1.0.228`.
    pub name: String,
    /// The licence of its text.
    pub licence: String,
    /// The digest that `sha256` in `dataset.toml` pins.
    pub sha256: Digest,
    /// The number of its files.
    pub files: usize,
    /// Their length together; a file that is not downloaded yet counts 0.
    pub bytes: u64,
}

impl Inventory {
    /// Returns one digest a source, by name, for the recipe of the stage: of its content and of everything that was said
    /// about it (licence, format, column), so that a change of either names the source.
    pub fn inputs(&self) -> BTreeMap<String, Digest> {
        self.sources.iter().map(|source| (format!("source {}", source.name), source.input_digest())).collect()
    }

    /// Returns what there is to know about each source, sorted by name.
    pub fn summaries(&self) -> Vec<SourceSummary> {
        let summary = |source: &ListedSource| SourceSummary {
            name: source.name.clone(),
            licence: source.licence.clone(),
            sha256: source.content,
            files: source.files.len(),
            bytes: source.bytes(),
        };
        self.sources.iter().map(summary).collect()
    }
}

impl ListedSource {
    /// Returns the length of its files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn input_digest(&self) -> Digest {
        // Two files of equal content can be read in two ways.
        let kinds: Vec<Kind> = self.files.iter().map(|file| file.kind).collect();
        Digest::of_json(&json!({
            "origin": self.origin,
            "content": self.content,
            "licence": self.licence,
            "kinds": kinds,
            "columns": self.columns,
            "html": self.html,
            "members": self.filter.described(),
            "max_file_bytes": self.max_file_bytes,
            "too_large": self.too_large,
        }))
    }
}

/// Finds, lists and hashes every source that `config` names; downloads nothing (a download counts by its pinned digest).
///
/// # Errors
/// When a value makes no sense, a source is missing, unreadable or takes no file, or differs from what is pinned.
pub fn inventory(config: &Config, context: &Context) -> Result<Inventory, Error> {
    let environment = Environment::of_process();
    let declared = declared(config, &context.base, &environment)?;
    let cache = context.base.join(environment.expand(&config.cache, "collect.cache")?);
    let listed: Vec<Result<ListedSource, Error>> =
        declared.par_iter().map(|declared| list(declared, &cache, &environment, context)).collect();
    // Of several errors, the first source's is the one to tell, whichever thread was first.
    let mut sources = listed.into_iter().collect::<Result<Vec<_>, _>>()?;
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = sources.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(Error::SameName { name: pair[0].name.clone() });
    }
    Ok(Inventory { sources })
}

fn list(
    declared: &Declared,
    cache: &Path,
    environment: &Environment,
    context: &Context,
) -> Result<ListedSource, Error> {
    let Declared { key, folder, source, max_file_bytes } = declared;
    let name = source.known_as();
    let mut licence = source.licence.clone();
    let (origin, selection, found) = if let (Some(url), Some(sha256)) = (&source.url, source.sha256) {
        let origin = json!({ "kind": "url", "url": url });
        (origin, Selection::default(), Some(vec![download(declared, url, sha256, cache)]))
    } else if let (Some(krate), Some(version)) = (&source.krate, &source.version) {
        let folder = crates::folder(krate, version, environment)?;
        let found = crates::licence(&folder)?;
        if let Some(expected) = licence.replace(found.clone()).filter(|expected| *expected != found) {
            return Err(Error::Licence { name, path: folder.join("Cargo.toml"), expected, found });
        }
        let origin = json!({ "kind": "crate", "crate": krate, "version": version });
        (origin, select(declared, &folder, IgnoreRules::Passed)?, None)
    } else {
        let written = source.path.as_deref().unwrap_or_default();
        let path = folder.join(environment.expand(written, &format!("{key}.path"))?);
        let origin = json!({ "kind": "path", "path": name });
        (origin, select(declared, &path, IgnoreRules::Obeyed)?, None)
    };
    let files = match found {
        Some(files) => files,
        None => hash(&selection.files, context)?,
    };
    if files.is_empty() {
        return Err(Error::NothingSelected { name, passed_over: selection.passed_over() });
    }
    // A download is one file, and what it pins is that file's own digest, checked when it arrives and when it is read.
    let content = source.sha256.filter(|_| source.url.is_some()).unwrap_or_else(|| content_digest(&files));
    if let Some(expected) = source.sha256.filter(|expected| *expected != content) {
        return Err(Error::Pinned { name, key: key.clone(), expected, found: content });
    }
    Ok(ListedSource {
        name,
        origin,
        licence: licence.unwrap_or_else(|| "unknown".to_owned()),
        columns: source.columns(),
        html: source.html,
        max_file_bytes: *max_file_bytes,
        filter: Filter::new(declared)?,
        files,
        content,
        too_large: selection.too_large,
        not_selected: selection.not_selected + selection.links,
    })
}

fn download(declared: &Declared, url: &str, sha256: Digest, cache: &Path) -> HashedFile {
    let address = url.split(['?', '#']).next().unwrap_or(url);
    let after_host = address.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let relative = after_host.rsplit('/').find(|part| !part.is_empty()).unwrap_or("index").to_owned();
    let kind = select::kind(declared.source.format, &relative).unwrap_or(Kind::File(Format::Text));
    let cached = cache.join(sha256.to_string());
    let bytes = fs::metadata(&cached).map_or(0, |metadata| metadata.len());
    HashedFile { relative, place: Place::Download { url: url.to_owned(), cached }, bytes, kind, sha256 }
}

fn hash(files: &[SelectedFile], context: &Context) -> Result<Vec<HashedFile>, Error> {
    let hashed: Vec<Result<HashedFile, Error>> = files.par_iter().map(|file| hash_file(file, context)).collect();
    hashed.into_iter().collect()
}

fn hash_file(file: &SelectedFile, context: &Context) -> Result<HashedFile, Error> {
    if context.cancel.is_requested() {
        return Err(Error::Interrupted);
    }
    let path = &file.path;
    let (sha256, bytes) = if file.bytes <= WHOLE_READ_BYTES {
        let bytes = fs::read(path).map_err(|e| artifact::Error::io("read", path, e))?;
        (Digest::of(&bytes), bytes.len() as u64)
    } else {
        Digest::of_file(path)?
    };
    let place = Place::Disk(path.clone());
    Ok(HashedFile { relative: file.relative.clone(), place, bytes, kind: file.kind, sha256 })
}

/// Returns the digest of files as `sha256sum` lists them: one line `<digest>  <path>` a file, sorted by path.
fn content_digest(files: &[HashedFile]) -> Digest {
    let mut listing = String::new();
    for file in files {
        // Writing to a string cannot fail.
        let _ = writeln!(listing, "{}  {}", file.sha256, file.relative);
    }
    Digest::of(listing.as_bytes())
}
