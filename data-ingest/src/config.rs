//! What `[collect]` and `dataset.toml` may say, checked once.

use std::fs;
use std::path::{Path, PathBuf};

use artifact::Digest;
use fetch::Environment;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::documents::chat::Chat;
use crate::documents::mapping;
use crate::documents::tally::BadRecordLimit;
use crate::formats::format::Format;
use crate::formats::html::Html;
use crate::sources::remote;

/// The largest text file that is read, unless a source or its dataset says otherwise: 64 MiB. A guess: above any book
/// or source file, below what would crowd the memory of a laptop.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The file that describes a dataset, inside its folder.
const DATASET_FILE: &str = "dataset.toml";

/// The lock of sources that are written in `pipeline.toml`.
const LOCK_FILE: &str = "dataset.lock";

/// The table `[collect]`: which raw data the run starts from.
///
/// Either `dataset` or `sources`, never both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A folder with a `dataset.toml` (or that file itself), from the folder of `pipeline.toml`; `~` and `$VARS` are
    /// expanded. Default: none.
    pub dataset: Option<String>,
    /// The sources, written here instead of in a dataset of their own: `[[collect.sources]]`. Paths start from the folder
    /// of `pipeline.toml`. Default: none.
    pub sources: Vec<Source>,
    /// The folder that keeps downloads between runs, from the folder of `pipeline.toml`; `~` and `$VARS` are expanded.
    /// Default: `experiments/cache/downloads`.
    pub cache: String,
    /// The largest download, in bytes: of a file, or of a commit of a git repository; who sends more is cut off. Default:
    /// 10 GiB.
    pub max_download_bytes: u64,
    /// How often a download is tried before the run fails; each wait is up to twice the one before, from half a second up
    /// to 30 seconds. Default: 5.
    pub download_attempts: u32,
    /// The address of the Hugging Face Hub, or of a mirror that answers as it does. Default: `$HF_ENDPOINT`, else
    /// `https://huggingface.co`.
    pub hub_endpoint: Option<String>,
    /// Whether sources may be fetched from loopback, private and link-local addresses (endpoints of object stores that the
    /// environment names included), and hubs and object stores be asked without TLS: for a server of one's own network. Default: false, so that a dataset written by somebody else cannot
    /// bring what is behind your firewall into a corpus.
    pub allow_private: bool,
    /// Whether every source on another machine must be as `dataset.lock` says, with nothing added to it (`--locked`). Not a
    /// key of the file.
    #[serde(skip)]
    pub locked: bool,
    /// How many records of a source may be bad: a line that is no JSON, a conversation without an answer, a damaged member
    /// of an archive. They are left out, counted, and the first quoted in `sources.json`. A whole number is a count (0: none
    /// at all); a fraction a share of the source's records, which always allows 10. Default: 0.01.
    pub max_bad_records: BadRecordLimit,
    /// The most that one packed file or archive may unpack to, in bytes. Whatever unpacks to more than 1000 times its size
    /// is taken for a bomb and left, once it is beyond 64 MiB. Default: 64 GiB.
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
            max_bad_records: BadRecordLimit::Share(0.01),
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
                let message = "a run takes its data from `dataset` or from `sources`; remove one of them";
                return Err(Error::value("collect.dataset", message));
            }
            (None, true) => {
                let message = "missing: name a folder with a dataset.toml, or write [[collect.sources]]";
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

    /// Returns the options of fetching files from other machines.
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

    /// Returns the part of the configuration that decides the output beside the sources: what makes the stage fail.
    ///
    /// Everything that a source says is part of its own digest ([`crate::Inventory::inputs`]), wherever it is written, so
    /// a change names the source; where the dataset and the cache lie changes nothing.
    pub fn fingerprint_value(&self) -> serde_json::Value {
        serde_json::json!({
            "max_bad_records": self.max_bad_records,
            "max_unpacked_bytes": self.max_unpacked_bytes,
        })
    }
}

/// One source: a `path`, a `url`, a repository of the `hub`, a `git` repository or a `crate`, and what to take from it.
///
/// What is fetched from another machine and has no digest here gets one in `dataset.lock`, beside the file that this is
/// written in, when it is fetched for the first time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// The name that errors, `plan` and the documents give this source. Default: the path or address as written, or the
    /// crate's name and version.
    pub name: Option<String>,
    /// A file, a folder or a glob (`notes/**/*.md`); relative paths start from the folder of the file this is written in;
    /// `~` and `$VARS` are expanded. In a folder, hidden files, symbolic links and what `.gitignore` or `.ignore` files
    /// inside it exclude are passed over.
    pub path: Option<String>,
    /// An HTTP or HTTPS address of one file; or an object, a prefix or a glob in an object store: `s3://bucket/a/*.parquet`,
    /// `gs://bucket/a`, `az://container/a`, `abfs://container/a`. The provider's environment variables give credentials,
    /// region and endpoint.
    pub url: Option<String>,
    /// A repository of the Hugging Face Hub: `datasets/owner/name`, or `owner/name` for the files of a model. A token is
    /// taken from where the hub's own programs look for it (`$HF_TOKEN`, or what logging in left).
    pub hub: Option<String>,
    /// A git repository: an `https://` or `ssh://` address, `user@host:path`, or a folder; needs `commit` or `revision`.
    pub git: Option<String>,
    /// The branch, tag or commit of a `hub` or `git` repository; the commit that it is goes into the lock. Default: `main`
    /// for the hub, none for git.
    pub revision: Option<String>,
    /// The commit of a `git` repository, with all its digits.
    pub commit: Option<String>,
    /// Whether an object store is asked without credentials, as public buckets allow. Default: false.
    pub anonymous: bool,
    /// The name of a crate that cargo has unpacked on this machine; needs `version`.
    #[serde(rename = "crate")]
    pub krate: Option<String>,
    /// The crate's exact version, as `Cargo.lock` has it.
    pub version: Option<String>,
    /// The digest the content must have. Of a file behind an HTTP address: of its bytes. Of anything else: of the lines that
    /// `sha256sum` prints for the collected files, sorted by path. Default: whatever is found; of another machine, whatever
    /// was found when the lock was written.
    #[schemars(with = "Option<String>")]
    pub sha256: Option<Digest>,
    /// The licence of the text, as an SPDX expression. Default: that of a crate's own manifest or of the hub's card, else
    /// `unknown`.
    pub licence: Option<String>,
    /// Globs of the files to take; one without `/` matches in every folder, and an archive counts as a folder. Default:
    /// those of the dataset, else every file whose name says that it holds text, code, a page, a table or other files.
    pub include: Vec<String>,
    /// Globs of the files to leave, in addition to those of the dataset. Default: none.
    pub exclude: Vec<String>,
    /// How to read the files: `text` or `html` (one document a file), `jsonl`, `json` (an array of objects), `csv`, `tsv`,
    /// `parquet` or `arrow` (one document a row), or `warc` (one document a page). Default: by each file's extension. `.gz`,
    /// `.zst`, `.xz` and `.bz2` are unpacked first; in `.zip` and `.tar` files (packed or not) every member is a file of the
    /// source, called `archive.zip!/folder/file.md`, but archives inside archives are left.
    pub format: Option<Format>,
    /// What is taken of web pages: `main` (title and main text), `all` (title and all text) or `source` (the HTML, as code).
    /// Default: `main`.
    pub html: Html,
    /// The column of a table, or the key of a JSON object, that holds the text; `text = "body"` says the same. Default:
    /// `text`.
    #[serde(alias = "text")]
    pub text_column: Option<String>,
    /// A minijinja template that makes the text of several columns: `"{{ question }}\n\n{{ answer }}"`. A column that is
    /// missing or null may be asked for (`{% if note %}`) and not written. Default: none.
    pub template: Option<String>,
    /// The shape of conversations, which become the column `messages` instead of text: `messages` (as OpenAI takes them),
    /// `sharegpt` or `alpaca` (columns `instruction`, `input`, `output`); or `preference` (columns `prompt`, `chosen`,
    /// `rejected`), for preference tuning. Default: none.
    pub chat: Option<Chat>,
    /// The column that holds a conversation's turns. Default: `messages`, or `conversations` with `chat = "sharegpt"`.
    pub messages_column: Option<String>,
    /// The column that names each document: its id is `<source>/<value>`. Default: none, ids tell file and row.
    pub id_column: Option<String>,
    /// The column that holds each document's licence; where it is empty, the source's counts. Default: none.
    pub licence_column: Option<String>,
    /// The column that holds each document's source, for tables put together of others; where it is empty, this source's
    /// name counts. Default: none.
    pub source_column: Option<String>,
    /// The largest text, page or row that is read, in bytes, unpacked; larger ones are counted and left. Tables and archives
    /// are read in pieces and may have any size. Default: that of the dataset, else 64 MiB.
    pub max_file_bytes: Option<u64>,
}

impl Source {
    /// Checks the values; `key` is where this source is written.
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
                return fail(other, "a source has a `path`, `url`, `hub`, `git` or `crate`, and only one of them");
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
                return fail("crate", "a crate's name and version hold no slash");
            }
            _ => {}
        }
        remote::validate(self).or_else(|(name, message)| fail(name, &message))?;
        if self.max_file_bytes == Some(0) {
            return fail("max_file_bytes", "must be at least 1");
        }
        mapping::validate(self).or_else(|(name, message)| fail(name, &message))
    }

    /// Returns the name of this source in messages and documents: the configured one, else one made from its address.
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

/// Returns a path's name that is the same on every machine: as written where it is relative, else its last part.
pub(crate) fn portable_name(written: &str) -> String {
    let slashes = written.replace('\\', "/");
    let machine_bound = Path::new(written).is_absolute() || slashes.starts_with(['/', '~', '$']);
    let trimmed = slashes.trim_end_matches('/').trim_start_matches("./");
    if !machine_bound {
        return if trimmed.is_empty() { ".".to_owned() } else { trimmed.to_owned() };
    }
    // Of a glob, the last folder before the first wildcard says more than the wildcard.
    let parts: Vec<&str> = trimmed.split('/').collect();
    let first_wild = parts.iter().position(|part| part.contains(['*', '?', '[', '{'])).unwrap_or(parts.len());
    let from = first_wild.saturating_sub(1).min(parts.len() - 1);
    parts[from..].join("/")
}

/// What `dataset.toml` holds.
#[derive(Debug, Default, Deserialize)]
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
    /// The dataset's name, where it has one.
    pub title: Option<String>,
    /// What the dataset says of itself.
    pub description: Option<String>,
    /// The lock that belongs to the sources: `dataset.lock`, beside the file that they are written in.
    pub lock: PathBuf,
    /// The sources, in the order in which they are written.
    pub sources: Vec<Declared>,
}

/// A source with everything its surroundings add to it.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    /// Where it is written, for errors: `collect.sources[0]` or `datasets/x/dataset.toml: source[0]`.
    pub key: String,
    /// The folder its relative path starts from.
    pub folder: PathBuf,
    /// What it says, with the dataset's globs merged in.
    pub source: Source,
    /// The largest text file that is read, in bytes.
    pub max_file_bytes: u64,
}

/// Returns the sources that `config` names, and what belongs to all of them.
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
    toml::from_str(text).map_err(|error| {
        let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Error::Dataset { path: path.to_owned(), line, column, message: explain(error.message()) }
    })
}

/// Returns serde's message about an unknown key with the nearest known one instead of the list of all.
fn explain(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field"), quoted.next()) {
        (true, Some(unknown)) => {
            let nearest = quoted.max_by(|a, b| similarity(unknown, a).total_cmp(&similarity(unknown, b)));
            match nearest {
                Some(known) => format!("unknown key `{unknown}`; the nearest known one is `{known}`"),
                None => format!("unknown key `{unknown}`"),
            }
        }
        _ => message.trim_end().replace('\n', "; "),
    }
}

fn similarity(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
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
    fn a_wrong_key_or_value_is_named_with_its_line() {
        check_dataset("name = \"x\"\n[[source]]\npath = \".\"\n", "1 sources");
        check_dataset("[[source]]\npath = \"a.csv\"\ntext = \"body\"\n", "1 sources");
        check_dataset(
            "[[source]]\npath = \".\"\n  licens = \"MIT\"\n",
            "d/dataset.toml line 3, column 3: unknown key `licens`; the nearest known one is `licence`",
        );
        check_dataset(
            "[[sources]]\npath = \".\"\n",
            "d/dataset.toml line 1, column 3: unknown key `sources`; the nearest known one is `source`",
        );
        check_dataset(
            "[[source]]\nmax_file_bytes = \"1\"\n",
            "d/dataset.toml line 2, column 18: invalid type: string \"1\", expected u64",
        );
        check_dataset(
            "[[source]]\nsha256 = \"12\"\n",
            "d/dataset.toml line 2, column 10: `12` is not a SHA-256 digest (64 hexadecimal digits)",
        );
    }

    fn check_source(source: &Source, expected: &str) {
        let config = Config { sources: vec![source.clone()], ..Config::default() };
        let found = config.validate().map_or_else(|e| e.to_string(), |()| "valid".to_owned());
        assert!(found.starts_with(expected) && !expected.is_empty(), "{found}\n{expected}");
    }

    #[test]
    fn a_source_has_one_origin_and_what_it_needs() {
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
        check_source(&outside, "collect.sources[0].crate: a crate's name and version hold no slash");
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
