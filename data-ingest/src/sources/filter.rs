//! Which files a source is made of, and how they are read, by their names and sizes.

use crate::Error;
use crate::config::{Declared, Source};
use crate::formats::captions;
use crate::formats::format::{self, Format, Kind};
use crate::sources::globs::Globs;

/// How the format of a source's files is determined.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The configured format.
    format: Option<Format>,
    /// Whether a key asks for rows.
    has_rows: bool,
    /// The table of captions of pictures and sounds.
    captions: Option<String>,
}

impl Reading {
    /// Returns how the files of a source are read.
    pub fn of(source: &Source) -> Self {
        let (has_rows, captions) = (!source.keys_of_rows().is_empty(), source.captions.clone());
        Self { format: source.format, has_rows, captions }
    }

    /// Returns the kind of a file: an archive by its name, else the source's format, else by its name.
    pub fn kind(&self, relative: &str) -> Option<Kind> {
        let name = relative.rsplit('/').next().unwrap_or(relative);
        if self.is_captions(relative) {
            return Some(Kind::Captions);
        }
        match (format::of_name(name), self.format) {
            (Some(Kind::Archive(archive)), _) => Some(Kind::Archive(archive)),
            (_, Some(format)) => Some(Kind::File(format)),
            (Some(Kind::File(Format::Text)), None) if self.has_rows && format::is_json(name) => {
                Some(Kind::File(Format::Json))
            }
            (by_name, None) => by_name,
        }
    }
}

impl Reading {
    /// Returns true if a file beside pictures and sounds has captions for them.
    fn is_captions(&self, relative: &str) -> bool {
        self.format == Some(Format::Media)
            && match &self.captions {
                Some(table) => table == relative,
                None => captions::is_sidecar(relative),
            }
    }
}

/// A source's globs, size limit and format.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    include: Option<Globs>,
    /// The archives that `include` names, or some of whose members it names.
    opened: Globs,
    exclude: Globs,
    reading: Reading,
    max_file_bytes: u64,
    written: (Vec<String>, Vec<String>),
}

impl Filter {
    /// Returns the filter of a source.
    pub fn new(declared: &Declared) -> Result<Self, Error> {
        let Declared { key, source, max_file_bytes, .. } = declared;
        let compile = |patterns: &[String], name: &str| {
            let patterns: Vec<String> = patterns.iter().map(|pattern| in_every_folder(pattern)).collect();
            Globs::new(&patterns, &format!("{key}.{name}"))
        };
        let include = match source.include[..] {
            [] => None,
            _ => Some(compile(&source.include, "include")?),
        };
        let archives: Vec<String> = source.include.iter().map(|pattern| up_to_archive(pattern)).collect();
        let opened = compile(&archives, "include")?;
        let exclude = compile(&source.exclude, "exclude")?;
        let written = (source.include.clone(), source.exclude.clone());
        let reading = Reading::of(source);
        Ok(Self { include, opened, exclude, reading, max_file_bytes: *max_file_bytes, written })
    }

    /// Returns the filter of the members of an archive.
    pub fn described(&self) -> serde_json::Value {
        serde_json::json!({ "include": self.written.0, "exclude": self.written.1, "format": self.reading.format })
    }

    /// Decides which patterns are names of files that exist.
    pub fn settle(&mut self, names: &[&str]) -> Result<(), Error> {
        let mut all = self.include.iter_mut().chain([&mut self.opened, &mut self.exclude]);
        all.try_for_each(|globs| globs.settle(names))
    }

    /// Returns the kind of a file, unless it is skipped; `named` is true if a glob in the source's address names it.
    pub fn kind_of(&self, relative: &str, named: bool) -> Option<Kind> {
        // A glob that names a file's extension selects it as text if the extension is unknown.
        let named = named || self.include.is_some();
        let kind = self.reading.kind(relative).or(named.then_some(Kind::File(Format::Text)))?;
        let is_included = match kind {
            Kind::Archive(_) => self.include.is_none() || self.opened.is_match(relative),
            Kind::File(_) => self.include.as_ref().is_none_or(|include| include.is_match(relative)),
            // The globs name pictures and sounds.
            Kind::Captions => true,
        };
        (is_included && !self.exclude.is_match(relative)).then_some(kind)
    }

    /// Returns the kind of the member `path` of an archive, unless it is skipped: hidden, excluded, not included, or of
    /// no known kind. Globs may name it with the archive or without.
    pub fn member(&self, archive: &str, path: &str) -> Option<Kind> {
        let whole = format!("{archive}/{path}");
        let is_in = |set: &Globs| set.is_match(&whole) || set.is_match(path);
        let is_hidden = path.split('/').any(|part| part.starts_with('.'));
        if is_hidden || is_in(&self.exclude) {
            return None;
        }
        if self.reading.is_captions(path) {
            return Some(Kind::Captions);
        }
        if !self.include.as_ref().is_none_or(is_in) {
            return None;
        }
        // A glob that names the archive selects known formats in it; one that names the member selects it at least as
        // text.
        let is_named = |include: &Globs| include.is_match(path) || !include.is_match(archive);
        let named = self.include.as_ref().is_some_and(is_named);
        self.reading.kind(path).or(named.then_some(Kind::File(Format::Text)))
    }

    /// Returns true if a file is larger than its source allows.
    pub fn is_too_large(&self, kind: Kind, bytes: u64) -> bool {
        matches!(kind, Kind::File(format) if format.is_one_document()) && bytes > self.max_file_bytes
    }
}

/// Returns the kind of a file that a source names; it is selected whatever its extension.
pub(crate) fn named_outright(declared: &Declared, filter: &Filter, name: &str) -> Result<Kind, Error> {
    let kind = filter.reading.kind(name).unwrap_or(Kind::File(Format::Text));
    match (kind, declared.own_globs) {
        (Kind::File(_), Some(key)) => {
            let message = "selects files of a folder or an archive, and the source is one file; remove it";
            Err(Error::value(&format!("{}.{key}", declared.key), message))
        }
        _ => Ok(kind),
    }
}

/// Returns a pattern of `include` or `exclude` with the rules of `.gitignore`: without `/` it matches in every folder.
fn in_every_folder(pattern: &str) -> String {
    let pattern = pattern.trim_end_matches('/');
    match pattern.strip_prefix('/') {
        Some(from_the_root) => from_the_root.to_owned(),
        None if pattern.contains('/') => pattern.to_owned(),
        None => format!("**/{pattern}"),
    }
}

/// Returns the part of a pattern into an archive (`*.zip/docs/*.md`) up to that archive; other patterns unchanged.
fn up_to_archive(pattern: &str) -> String {
    let parts: Vec<&str> = pattern.split('/').collect();
    let archive = parts.iter().position(|part| matches!(format::of_name(part), Some(Kind::Archive(_))));
    match archive {
        Some(at) if at + 1 < parts.len() => format!("/{}", parts[..=at].join("/").trim_start_matches('/')),
        _ => pattern.to_owned(),
    }
}
