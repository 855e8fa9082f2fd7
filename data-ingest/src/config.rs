//! The table `[collect]` and `dataset.toml`, validated once.

use std::fs;
use std::path::{Path, PathBuf};

use artifact::Digest;
use fetch::{Environment, GitRepository, HubRepository, ObjectPattern};
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use settings::ConfigSource;

use crate::Error;
use crate::documents::chat::Chat;
use crate::documents::counts::BadRecordLimit;
use crate::documents::mapping;
use crate::formats::format::Format;
use crate::formats::html::Html;

/// The largest text file that is read, unless a source or its dataset says otherwise: 64 MiB. Heuristic, not measured:
/// above any book or source file, and small beside the memory of a laptop.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The file that describes a dataset, inside its folder.
const DATASET_FILE: &str = "dataset.toml";

/// The lock of sources that are written in `pipeline.toml`.
const LOCK_FILE: &str = "dataset.lock";

/// The table `[collect]`: the raw data of the run.
///
/// Either `dataset` or `sources`, never both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A folder with a `dataset.toml`, or that file, relative to the folder of `pipeline.toml`; `~` and `$VARS` are
    /// expanded. Default: none.
    pub dataset: Option<String>,
    /// The sources, here instead of in a dataset of their own: `[[collect.sources]]`. Paths are relative to the folder
    /// of `pipeline.toml`. Default: none.
    pub sources: Vec<Source>,
    /// The folder that keeps downloads between runs, relative to the folder of `pipeline.toml`; `~` and `$VARS` are
    /// expanded. Default: `experiments/cache/downloads`.
    pub cache: String,
    /// The largest download in bytes, of a file or of a commit of a git repository; larger ones are aborted. Default:
    /// 10 GiB.
    pub max_download_bytes: u64,
    /// Attempts per download before the run fails; the delay between two doubles with jitter, from half a second to 30
    /// seconds. Default: 5.
    pub download_attempts: u32,
    /// The address of the Hugging Face Hub, or of a mirror with the same API. Default: `$HF_ENDPOINT`, else
    /// `https://huggingface.co`.
    pub hub_endpoint: Option<String>,
    /// Whether sources may be fetched from loopback, private and link-local addresses (also endpoints of object stores
    /// that the environment names), and hubs and object stores without TLS: for servers in your own network. Default:
    /// false, so that a dataset by someone else cannot read what is behind your firewall.
    pub allow_private: bool,
    /// Whether every remote source must match `dataset.lock`, with nothing added to it (`--locked`). Not a key of the
    /// file.
    #[serde(skip)]
    pub locked: bool,
    /// How many records of a source may be bad: invalid JSON, a conversation without an answer, a damaged member of an
    /// archive. They are left out and counted, and the first ones are quoted in `sources.json`. A whole number is a
    /// count (0: none); a fraction is a fraction of the source's records, which always allows 10. Default: 0.01.
    pub max_bad_records: BadRecordLimit,
    /// The most that one compressed file or archive may unpack to, in bytes. Beyond 64 MiB, a file that unpacks to more
    /// than 1000 times its size is treated as a decompression bomb and skipped. Default: 64 GiB.
    pub max_unpacked_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dataset: None,
            sources: Vec::new(),
            cache: "experiments/cache/downloads".to_owned(),
            max_download_bytes: 10 << 30,
            download_attempts: 5,
            hub_endpoint: None,
            allow_private: false,
            locked: false,
            max_bad_records: BadRecordLimit::Fraction(0.01),
            max_unpacked_bytes: 64 << 30,
        }
    }
}

impl Config {
    /// Checks the values that can be checked without looking at any file.
    ///
    /// # Errors
    /// [`Error::Value`], which names the key.
    pub fn validate(&self) -> Result<(), Error> {
        match (&self.dataset, self.sources.is_empty()) {
            (Some(_), false) => {
                let message = "`dataset` and `sources` cannot both be given; remove one of them";
                return Err(Error::value("collect.dataset", message));
            }
            (None, true) => {
                let message = "missing: set it to a folder with a dataset.toml, or add [[collect.sources]]";
                return Err(Error::value("collect.dataset", message));
            }
            _ => {}
        }
        if self.max_download_bytes == 0 {
            return Err(Error::value("collect.max_download_bytes", "must be at least 1"));
        }
        if self.download_attempts == 0 {
            return Err(Error::value("collect.download_attempts", "must be at least 1"));
        }
        if self.max_unpacked_bytes == 0 {
            return Err(Error::value("collect.max_unpacked_bytes", "must be at least 1"));
        }
        self.sources.iter().enumerate().try_for_each(|(i, source)| source.validate(&format!("collect.sources[{i}]")))
    }

    /// Returns the options of fetching remote files.
    pub fn fetch_options(&self) -> fetch::Options {
        fetch::Options {
            table: crate::NAME,
            cache: self.cache.clone(),
            max_download_bytes: self.max_download_bytes,
            download_attempts: self.download_attempts,
            hub_endpoint: self.hub_endpoint.clone(),
            allow_private: self.allow_private,
            locked: self.locked,
        }
    }

    /// Returns the keys that decide the output apart from the sources: the limits on which the stage fails.
    ///
    /// Everything about a source is part of its own digest ([`crate::Inventory::inputs`]), so that a change names the
    /// source; the places of the dataset and the cache change nothing.
    pub fn fingerprint_value(&self) -> serde_json::Value {
        serde_json::json!({
            "max_bad_records": self.max_bad_records,
            "max_unpacked_bytes": self.max_unpacked_bytes,
        })
    }
}

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
    /// In a folder, hidden files, symbolic links and what `.gitignore` or `.ignore` files in it exclude are skipped.
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
    /// Globs of the files to read; one without `/` matches in every folder, and an archive counts as a folder. Default:
    /// those of the dataset, else every file whose name has a known extension.
    pub include: Vec<String>,
    /// Globs of the files to skip, in addition to those of the dataset. Default: none.
    pub exclude: Vec<String>,
    /// The format of the files: `text` or `html` (one document per file), `jsonl`, `json` (an array of objects), `csv`,
    /// `tsv`, `parquet` or `arrow` (one document per row), or `warc` (one document per page). Default: by each file's
    /// extension. `.gz`, `.zst`, `.xz` and `.bz2` are decompressed first; in `.zip` and `.tar` files (also compressed)
    /// every member is a file of the source, called `archive.zip!/folder/file.md`; archives inside archives are
    /// skipped.
    pub format: Option<Format>,
    /// Which part of a web page is read: `main` (title and main text), `all` (title and all text) or `source` (the
    /// HTML, as code). Default: `main`.
    pub html: Html,
    /// The column of a table, or the key of a JSON object, that holds the text; `text = "body"` means the same.
    /// Default: `text`.
    #[serde(alias = "text")]
    pub text_column: Option<String>,
    /// A minijinja template that makes the text from several columns: `"{{ question }}\n\n{{ answer }}"`. A missing or
    /// null column may be tested (`{% if note %}`) but not printed. Default: none.
    pub template: Option<String>,
    /// The shape of conversations, which become the column `messages` instead of text: `messages` (OpenAI's),
    /// `sharegpt` or `alpaca` (columns `instruction`, `input`, `output`); or `preference` (columns `prompt`, `chosen`,
    /// `rejected`), for preference tuning. Default: none.
    pub chat: Option<Chat>,
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
    /// Validates the source; `key` is the place where it is declared.
    pub(crate) fn validate(&self, key: &str) -> Result<(), Error> {
        let fail = |name: &str, message: &str| Err(Error::value(&format!("{key}.{name}"), message));
        let origins =
            [("path", &self.path), ("url", &self.url), ("hub", &self.hub), ("git", &self.git), ("crate", &self.krate)];
        let given: Vec<&str> = origins.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect();
        match given[..] {
            [] => {
                return fail(
                    "path",
                    "missing: a source has a `path`, `url`, `hub` or `git`, or a `crate` with `version`",
                );
            }
            [_] => {}
            [_, other, ..] => {
                return fail(other, "a source has exactly one of `path`, `url`, `hub`, `git` and `crate`");
            }
        }
        let others = [
            ("name", &self.name),
            ("text_column", &self.text_column),
            ("messages_column", &self.messages_column),
            ("id_column", &self.id_column),
            ("licence_column", &self.licence_column),
            ("source_column", &self.source_column),
        ];
        for (name, value) in origins.iter().chain(&others) {
            if value.as_deref().is_some_and(|value| value.trim().is_empty()) {
                return fail(name, "must not be empty");
            }
        }
        match (&self.krate, &self.version) {
            (Some(_), None) => return fail("version", "missing: the crate's exact version, as Cargo.lock has it"),
            (None, Some(_)) => return fail("version", "only a `crate` has a version; see `revision` and `commit`"),
            (Some(name), Some(version)) if [name, version].iter().any(|part| part.contains(['/', '\\'])) => {
                return fail("crate", "a crate's name and version must not contain a slash");
            }
            _ => {}
        }
        validate_remote(self).or_else(|(name, message)| fail(name, &message))?;
        if self.max_file_bytes == Some(0) {
            return fail("max_file_bytes", "must be at least 1");
        }
        mapping::validate(self).or_else(|(name, message)| fail(name, &message))
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

/// Validates the keys of remote sources; returns the wrong key and the reason.
fn validate_remote(source: &Source) -> Result<(), (&'static str, String)> {
    if source.revision.is_some() && source.hub.is_none() && source.git.is_none() {
        return Err(("revision", "only a `hub` or `git` repository has revisions".to_owned()));
    }
    match (&source.git, &source.commit, &source.revision) {
        (None, Some(_), _) => return Err(("commit", "only a `git` repository has a `commit`".to_owned())),
        (Some(_), None, None) => {
            return Err(("commit", "missing: the commit, or a `revision` to resolve".to_owned()));
        }
        (Some(_), Some(_), Some(_)) => {
            return Err(("revision", "a source has a `commit` or a `revision`, not both".to_owned()));
        }
        (Some(_), Some(commit), None) if !fetch::is_commit(commit) => {
            return Err(("commit", format!("`{commit}` is not 40 hexadecimal digits in lower case")));
        }
        _ => {}
    }
    if let Some(hub) = &source.hub {
        HubRepository::parse(hub).map_err(|message| ("hub", message))?;
    }
    if let Some(git) = source.git.as_deref().filter(|git| git.starts_with('-') || !fetch::is_path(git)) {
        GitRepository::parse(git).map_err(|message| ("git", message))?;
    }
    let not_anonymous = || ("anonymous", "only an object store can be accessed anonymously".to_owned());
    let Some(url) = &source.url else {
        return if source.anonymous { Err(not_anonymous()) } else { Ok(()) };
    };
    match ObjectPattern::parse(url, source.anonymous) {
        Some(objects) => objects.map(|_| ()).map_err(|message| ("url", message)),
        None if source.anonymous => Err(not_anonymous()),
        None => {
            let parsed = fetch::parse_url(url).map_err(|refused| ("url", format!("`{url}`: {refused}")))?;
            if parsed.username().is_empty() && parsed.password().is_none() {
                return Ok(());
            }
            Err(("url", "contains a user name or password, which would be written into the corpus".to_owned()))
        }
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

/// The content of `dataset.toml`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Dataset {
    name: Option<String>,
    description: Option<String>,
    include: Vec<String>,
    exclude: Vec<String>,
    max_file_bytes: Option<u64>,
    source: Vec<Source>,
}

/// Everything that a configuration declares.
#[derive(Debug, Clone)]
pub(crate) struct Declarations {
    /// The dataset's name, if it has one.
    pub title: Option<String>,
    /// The dataset's description.
    pub description: Option<String>,
    /// The lock of the sources: `dataset.lock`, beside the file that declares them.
    pub lock: PathBuf,
    /// The sources, in the order of the file.
    pub sources: Vec<Declared>,
}

/// A source with what its dataset adds to it.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    /// Where it is declared, for errors: `collect.sources[0]` or `datasets/x/dataset.toml: source[0]`.
    pub key: String,
    /// The folder that its path is relative to.
    pub folder: PathBuf,
    /// The source, with the dataset's globs merged in.
    pub source: Source,
    /// The largest text file that is read, in bytes.
    pub max_file_bytes: u64,
}

/// Returns the sources that `config` declares.
pub(crate) fn declared(config: &Config, base: &Path, environment: &Environment) -> Result<Declarations, Error> {
    config.validate()?;
    let Some(dataset) = &config.dataset else {
        let declare = |(i, source): (usize, &Source)| Declared {
            key: format!("collect.sources[{i}]"),
            folder: base.to_owned(),
            source: source.clone(),
            max_file_bytes: source.max_file_bytes.unwrap_or(MAX_FILE_BYTES),
        };
        let sources = config.sources.iter().enumerate().map(declare).collect();
        return Ok(Declarations { title: None, description: None, lock: base.join(LOCK_FILE), sources });
    };
    let mut path = base.join(environment.expand(dataset, "collect.dataset")?);
    if path.is_dir() {
        path.push(DATASET_FILE);
    }
    let text = fs::read_to_string(&path).map_err(|e| artifact::Error::io("read dataset", &path, e))?;
    let dataset = parse(&text, &path)?;
    let folder = path.parent().unwrap_or(base).to_owned();
    if dataset.source.is_empty() {
        return Err(Error::value(&format!("{}: source", path.display()), "missing: it has no [[source]]"));
    }
    let declare = |(i, mut source): (usize, Source)| {
        let key = format!("{}: source[{i}]", path.display());
        source.validate(&key)?;
        if source.include.is_empty() {
            source.include.clone_from(&dataset.include);
        }
        source.exclude.extend(dataset.exclude.iter().cloned());
        let max_file_bytes = source.max_file_bytes.or(dataset.max_file_bytes).unwrap_or(MAX_FILE_BYTES);
        Ok(Declared { key, folder: folder.clone(), source, max_file_bytes })
    };
    let sources = dataset.source.into_iter().enumerate().map(declare).collect::<Result<_, Error>>()?;
    let (title, description) = (dataset.name, dataset.description);
    Ok(Declarations { title, description, lock: path.with_extension("lock"), sources })
}

fn parse(text: &str, path: &Path) -> Result<Dataset, Error> {
    let keys = |schema: schemars::Schema| -> Vec<String> {
        schema
            .get("properties")
            .and_then(|keys| keys.as_object())
            .into_iter()
            .flat_map(|keys| keys.keys().cloned())
            .collect()
    };
    let mut known = keys(schema_for!(Dataset));
    known.extend(keys(schema_for!(Source)).into_iter().map(|key| format!("source.{key}")));
    Ok(ConfigSource::new(path, text).parse(&known, &[])?.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_dataset(text: &str, expected: &str) {
        let found = match parse(text, Path::new("d/dataset.toml")) {
            Ok(dataset) => format!("{} sources", dataset.source.len()),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn errors_name_key_and_line() {
        check_dataset("name = \"x\"\n[[source]]\npath = \".\"\n", "1 sources");
        check_dataset("[[source]]\npath = \"a.csv\"\ntext = \"body\"\n", "1 sources");
        check_dataset(
            "[[source]]\npath = \".\"\n  licens = \"MIT\"\n",
            "d/dataset.toml:3: unknown key `source.licens`; did you mean `source.licence`?",
        );
        check_dataset("[[sources]]\npath = \".\"\n", "d/dataset.toml:1: unknown key `sources`; did you mean `source`?");
        check_dataset(
            "[[source]]\nmax_file_bytes = \"1\"\n",
            "d/dataset.toml:2: `source[0].max_file_bytes`: invalid type: string \"1\", expected u64",
        );
        check_dataset(
            "[[source]]\nsha256 = \"12\"\n",
            "d/dataset.toml:2: `source[0].sha256`: `12` is not a SHA-256 digest (64 hexadecimal digits)",
        );
    }

    fn check_source(source: &Source, expected: &str) {
        let config = Config { sources: vec![source.clone()], ..Config::default() };
        let found = config.validate().map_or_else(|e| e.to_string(), |()| "valid".to_owned());
        assert!(found.starts_with(expected) && !expected.is_empty(), "{found}\n{expected}");
    }

    #[test]
    fn a_source_has_exactly_one_origin() {
        let some = |text: &str| Some(text.to_owned());
        let path = Source { path: some("."), ..Source::default() };
        check_source(&path, "valid");
        check_source(&Source::default(), "collect.sources[0].path: missing");
        check_source(&Source { krate: some("serde"), ..path.clone() }, "collect.sources[0].crate: a source has");
        check_source(&Source { version: some("1"), ..path.clone() }, "collect.sources[0].version: only a `crate`");
        check_source(&Source { path: some(" "), ..path.clone() }, "collect.sources[0].path: must not be empty");
        check_source(
            &Source { max_file_bytes: Some(0), ..path },
            "collect.sources[0].max_file_bytes: must be at least",
        );
        let krate = Source { krate: some("serde"), ..Source::default() };
        check_source(&krate, "collect.sources[0].version: missing");
        let outside = Source { version: some("../.."), ..krate.clone() };
        check_source(&outside, "collect.sources[0].crate: a crate's name and version must not contain a slash");
        check_source(&Source { version: some("1.0.0"), ..krate }, "valid");
    }

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
