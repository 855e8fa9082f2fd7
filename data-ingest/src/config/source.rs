//! A source of raw data.

use std::path::Path;

use artifact::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::documents::chat::{Chat, ChatColumns};
use crate::formats::format::Format;
use crate::formats::html::Html;

/// One source: a `path`, a `url`, a repository of the `hub`, a `git` repository or a `crate`, and which of its files to
/// read.
///
/// A remote source without a digest here gets one in `dataset.lock`, beside this file, when it is first fetched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// The name of this source in errors, `plan` and documents. Default: the path or address as written, or the crate's
    /// name and version.
    pub name: Option<String>,
    /// A file, a folder or a glob (`notes/**/*.md`), relative to the folder of this file; `~` and `$VARS` are expanded.
    /// A file or folder of exactly that name is preferred to what its glob characters mean. In a folder, hidden files
    /// and what `.gitignore` or `.ignore` files in it exclude are skipped; symbolic links are followed, and a file that
    /// is reached twice is read once.
    pub path: Option<String>,
    /// An HTTP or HTTPS address of one file; or an object, a prefix or a glob in an object store:
    /// `s3://bucket/a/*.parquet`, `gs://bucket/a`, `az://container/a`, `abfs://container/a`. Credentials, region and
    /// endpoint come from the provider's environment variables.
    pub url: Option<String>,
    /// A repository of the Hugging Face Hub: `datasets/owner/name`, or `owner/name` for the files of a model. The token
    /// is `$HF_TOKEN` or that of the Hub's own programs.
    pub hub: Option<String>,
    /// A git repository: an `https://` or `ssh://` address, `user@host:path`, or a folder; needs `commit` or
    /// `revision`.
    pub git: Option<String>,
    /// The branch, tag or commit of a `hub` or `git` repository; its commit is recorded in the lock. Default: `main`
    /// for the Hub, none for git.
    pub revision: Option<String>,
    /// The commit of a `git` repository, in full.
    pub commit: Option<String>,
    /// Whether an object store is accessed without credentials, as public buckets allow. Default: false.
    pub anonymous: bool,
    /// The name of a crate that Cargo has unpacked on this machine; needs `version`.
    #[serde(rename = "crate")]
    pub krate: Option<String>,
    /// The crate's exact version, as in `Cargo.lock`.
    pub version: Option<String>,
    /// The expected digest of the content. For a file behind an HTTP address: of its bytes. Otherwise: of the lines
    /// that `sha256sum` prints for the collected files, sorted by path. Default: any; for a remote source, that of the
    /// lock.
    #[schemars(with = "Option<String>")]
    pub sha256: Option<Digest>,
    /// The licence of the text, as an SPDX expression. Default: that of a crate's manifest or of the Hub's card, else
    /// `unknown`.
    pub licence: Option<String>,
    /// Globs of the files to read; one without `/` matches in every folder, and an archive counts as a folder; one that
    /// is the name of an existing file means that file. Default:
    /// those of the dataset, else every file whose name has a known extension.
    pub include: Vec<String>,
    /// Globs of the files to skip, in addition to those of the dataset. Default: none.
    pub exclude: Vec<String>,
    /// The format of the files: `text` or `html` (one document per file), `jsonl`, `json` (objects in an array, one
    /// after another, or inside an object; or columns), `csv`, `tsv`, `parquet` or `arrow` (one document per row), or
    /// `warc` (one document per page), or `media` (one document per picture or sound, recognised by content: PNG, JPEG,
    /// WebP, GIF, SVG, WAV, FLAC, MP3, OGG Vorbis). Default: by each file's extension; a `.json` file is text unless a
    /// key asks for rows (`text_column`, `template`, `chat`, `json_path`, another column). `.gz`, `.zst`, `.xz` and
    /// `.bz2` are decompressed first; in `.zip` and `.tar` files (also compressed) every member is a file of the
    /// source, called `archive.zip!/folder/file.md`; archives inside archives are skipped.
    pub format: Option<Format>,
    /// Where the rows of a `.json` file are: keys separated by dots, a key with a dot in double quotes; arrays on the
    /// way are walked through (`data.paragraphs`). Default: the place with most of the columns that are asked for,
    /// which the run prints unless it is an array of objects or objects one after another.
    pub json_path: Option<String>,
    /// The encoding of text that has no byte-order mark, as in the Encoding Standard: `windows-1251`, `shift_jis`,
    /// `macintosh`. Default: UTF-8, or what can be told from the bytes; of web pages, what they declare.
    pub encoding: Option<String>,
    /// Which part of a web page is read: `main` (title and main text), `all` (title and all text) or `source` (the
    /// HTML, as code). Default: `main`.
    pub html: Html,
    /// The column of a table, or the key of a JSON object, that holds the text; `text = "body"` means the same.
    /// Default: `text`.
    #[serde(alias = "text")]
    pub text_column: Option<String>,
    /// A minijinja template that makes the text from several columns: `"{{ question }}\n\n{{ answer }}"`. A column of
    /// any name is written `{{ row["What is your question?"] }}`. A missing or null column may be tested
    /// (`{% if note %}`) but not printed. With `format = "media"`, `{{ media }}` is the place of the picture or sound,
    /// and `file.name`, `file.folder` and `file.path` are of its file. Default: none; with media, the text column and
    /// the media behind it.
    pub template: Option<String>,
    /// The columns of a Parquet or Arrow table that hold pictures or sounds: bytes, or structs with `bytes` as Hugging
    /// Face `datasets` writes them, or lists of these. `{{ image }}` in the `template` is their place in the text.
    /// Default: none.
    pub media_columns: Vec<String>,
    /// With `format = "media"`: a table in the source with a caption for each file (`metadata.csv`; `.tsv`, `.jsonl` or
    /// `.json`); its columns may be used in the `template`. Default: none; a caption is what stands beside `a.png` in
    /// `a.txt` (the column `text`) or in the object in `a.json`.
    pub captions: Option<String>,
    /// The column of `captions` that names the file: its path, its name, or its name without the extension.
    pub caption_key: Option<String>,
    /// The shape of conversations, which become the column `messages` instead of text: `messages` (OpenAI's),
    /// `sharegpt` or `alpaca` (columns `instruction`, `input`, `output`); or `preference` (columns `prompt`, `chosen`,
    /// `rejected`), for preference tuning. Default: none.
    pub chat: Option<Chat>,
    /// The columns of conversations that are not named as their shape says:
    /// `{ instruction = "question", output = "answer" }`. Default: none.
    pub chat_columns: Option<ChatColumns>,
    /// The column that holds a conversation's turns. Default: `messages`, or `conversations` with `chat = "sharegpt"`.
    pub messages_column: Option<String>,
    /// The column that names each document: its id is `<source>/<value>`. Default: none; ids consist of file and row.
    pub id_column: Option<String>,
    /// The column that holds each document's licence; if it is empty, the source's licence is used. Default: none.
    pub licence_column: Option<String>,
    /// The column that holds each document's source, for tables merged from others; if it is empty, this source's name
    /// is used. Default: none.
    pub source_column: Option<String>,
    /// The largest text, page or row that is read, in bytes, unpacked; larger ones are counted and skipped. Tables and
    /// archives are read in pieces and may have any size. Default: that of the dataset, else 64 MiB.
    pub max_file_bytes: Option<u64>,
}

impl Source {
    /// Returns the keys that need rows and are set.
    pub(crate) fn keys_of_rows(&self) -> Vec<&'static str> {
        let keys = [
            ("text_column", self.text_column.is_some()),
            ("template", self.template.is_some()),
            ("chat", self.chat.is_some()),
            ("chat_columns", self.chat_columns.is_some()),
            ("messages_column", self.messages_column.is_some()),
            ("id_column", self.id_column.is_some()),
            ("licence_column", self.licence_column.is_some()),
            ("source_column", self.source_column.is_some()),
            ("json_path", self.json_path.is_some()),
            ("media_columns", !self.media_columns.is_empty()),
        ];
        keys.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect()
    }

    /// Returns true if its documents may have pictures or sounds.
    pub(crate) fn has_media(&self) -> bool {
        self.format == Some(Format::Media) || !self.media_columns.is_empty()
    }

    /// Returns the name of this source in messages and documents: the configured one, else one derived from its
    /// address.
    pub(crate) fn display_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        if let (Some(krate), Some(version)) = (&self.krate, &self.version) {
            return format!("{krate} {version}");
        }
        let address = self.url.clone().or_else(|| self.hub.clone());
        let path = || self.path.as_deref().or(self.git.as_deref()).map(portable_name);
        address.or_else(path).unwrap_or_default()
    }
}

/// Returns a name for a path that is the same on every machine: a relative path as written, else its last part.
pub(crate) fn portable_name(written: &str) -> String {
    let slashes = written.replace('\\', "/");
    let machine_bound = Path::new(written).is_absolute() || slashes.starts_with(['/', '~', '$']);
    let trimmed = slashes.trim_end_matches('/').trim_start_matches("./");
    if !machine_bound {
        return if trimmed.is_empty() { ".".to_owned() } else { trimmed.to_owned() };
    }
    // For a glob, the last folder before the first wildcard is more informative than the wildcard.
    let parts: Vec<&str> = trimmed.split('/').collect();
    let first_wild = parts.iter().position(|part| part.contains(['*', '?', '[', '{'])).unwrap_or(parts.len());
    let from = first_wild.saturating_sub(1).min(parts.len() - 1);
    parts[from..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_depend_on_the_machine() {
        let cases = [
            (".", "."),
            ("./", "."),
            ("notes/", "notes"),
            ("./a/**/*.md", "a/**/*.md"),
            ("/home/me/books", "books"),
            ("~/books/*.txt", "books/*.txt"),
            ("$DATA/books/a.txt", "a.txt"),
            ("/*.txt", "/*.txt"),
        ];
        for (written, expected) in cases {
            assert_eq!(portable_name(written), expected, "{written}");
        }
    }
}
