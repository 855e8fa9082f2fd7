//! The table `[collect]` and `dataset.toml`, validated once.

mod bad_record_limit;
mod remote;
pub(crate) mod source;

use std::fs;
use std::path::{Path, PathBuf};

use fetch::Environment;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use settings::ConfigSource;

use crate::Error;
use crate::documents::mapping;
use crate::formats::format::Format;
use crate::formats::html::Html;

pub use bad_record_limit::BadRecordLimit;
pub use source::Source;

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
        self.sources
            .iter()
            .enumerate()
            .try_for_each(|(i, source)| validate_source(source, &format!("collect.sources[{i}]")))
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

/// Validates a source; `key` is the place where it is declared.
fn validate_source(source: &Source, key: &str) -> Result<(), Error> {
    let fail = |name: &str, message: &str| Err(Error::value(&format!("{key}.{name}"), message));
    let origins = [
        ("path", &source.path),
        ("url", &source.url),
        ("hub", &source.hub),
        ("git", &source.git),
        ("crate", &source.krate),
    ];
    let given: Vec<&str> = origins.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect();
    match given[..] {
        [] => {
            return fail("path", "missing: a source has a `path`, `url`, `hub` or `git`, or a `crate` with `version`");
        }
        [_] => {}
        [_, other, ..] => {
            return fail(other, "a source has exactly one of `path`, `url`, `hub`, `git` and `crate`");
        }
    }
    let others = [
        ("name", &source.name),
        ("text_column", &source.text_column),
        ("messages_column", &source.messages_column),
        ("id_column", &source.id_column),
        ("licence_column", &source.licence_column),
        ("source_column", &source.source_column),
        ("json_path", &source.json_path),
        ("captions", &source.captions),
        ("caption_key", &source.caption_key),
    ];
    for (name, value) in origins.iter().chain(&others) {
        if value.as_deref().is_some_and(|value| value.trim().is_empty()) {
            return fail(name, "must not be empty");
        }
    }
    match (&source.krate, &source.version) {
        (Some(_), None) => return fail("version", "missing: the crate's exact version, as Cargo.lock has it"),
        (None, Some(_)) => return fail("version", "only a `crate` has a version; see `revision` and `commit`"),
        (Some(name), Some(version)) if [name, version].iter().any(|part| part.contains(['/', '\\'])) => {
            return fail("crate", "a crate's name and version must not contain a slash");
        }
        _ => {}
    }
    remote::validate(source).or_else(|(name, message)| fail(name, &message))?;
    if source.max_file_bytes == Some(0) {
        return fail("max_file_bytes", "must be at least 1");
    }
    if source.json_path.is_some() && source.format.is_some_and(|format| format != Format::Json) {
        return fail("json_path", "only files of the format `json` have a path to their rows");
    }
    if let Some(format) = source.format.filter(|format| format.is_one_document() && *format != Format::Media)
        && let [key, ..] = source.keys_of_rows()[..]
    {
        let name = if format == Format::Html { "html" } else { "text" };
        let message = format!("needs rows, but `format = \"{name}\"` makes each file one document; remove one of them");
        return fail(key, &message);
    }
    if source.html != Html::Main && source.format.is_some_and(|format| !matches!(format, Format::Html | Format::Warc)) {
        return fail("html", "only files of the formats `html` and `warc` have web pages");
    }
    if source
        .encoding
        .as_ref()
        .is_some_and(|label| encoding_rs::Encoding::for_label_no_replacement(label.as_bytes()).is_none())
    {
        return fail("encoding", "is not an encoding of the Encoding Standard, such as `windows-1252` or `shift_jis`");
    }
    let is_table = |format: Format| matches!(format, Format::Parquet | Format::Arrow);
    if source.encoding.is_some() && source.format.is_some_and(is_table) {
        return fail("encoding", "text in Parquet and Arrow files is always UTF-8");
    }
    validate_media(source).or_else(|(name, message)| fail(name, &message))?;
    mapping::validate(source).or_else(|(name, message)| fail(name, &message))
}

/// Validates the keys of pictures and sounds; returns the wrong key and the reason.
fn validate_media(source: &Source) -> Result<(), (&'static str, String)> {
    let wrong = |key, message: &str| Err((key, message.to_owned()));
    let is_media = source.format == Some(Format::Media);
    match (&source.captions, &source.caption_key) {
        (Some(_), _) if !is_media => return wrong("captions", "needs `format = \"media\"`"),
        (Some(_), None) => return wrong("caption_key", "missing: the column of `captions` that names the file"),
        (None, Some(_)) => return wrong("caption_key", "needs `captions`"),
        _ => {}
    }
    if source.chat.is_some() && source.has_media() {
        return wrong("chat", "conversations with pictures or sounds are not read; use a `template`");
    }
    if source.media_columns.is_empty() {
        return Ok(());
    }
    if source.format.is_some_and(|format| !matches!(format, Format::Parquet | Format::Arrow)) {
        return wrong("media_columns", "only Parquet and Arrow tables have columns of pictures and sounds");
    }
    let is_empty = source.media_columns.iter().any(|name| name.trim().is_empty());
    if is_empty { wrong("media_columns", "a name must not be empty") } else { Ok(()) }
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
    /// The first key with globs of the source's own.
    pub own_globs: Option<&'static str>,
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
            own_globs: own_globs(source),
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
        validate_source(&source, &key)?;
        let own_globs = own_globs(&source);
        if source.include.is_empty() {
            source.include.clone_from(&dataset.include);
        }
        source.exclude.extend(dataset.exclude.iter().cloned());
        let max_file_bytes = source.max_file_bytes.or(dataset.max_file_bytes).unwrap_or(MAX_FILE_BYTES);
        Ok(Declared { key, folder: folder.clone(), source, own_globs, max_file_bytes })
    };
    let sources = dataset.source.into_iter().enumerate().map(declare).collect::<Result<_, Error>>()?;
    let (title, description) = (dataset.name, dataset.description);
    Ok(Declarations { title, description, lock: path.with_extension("lock"), sources })
}

fn own_globs(source: &Source) -> Option<&'static str> {
    let keys = [("include", &source.include), ("exclude", &source.exclude)];
    keys.into_iter().find(|(_, globs)| !globs.is_empty()).map(|(key, _)| key)
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
            "d/dataset.toml:2: `source[0].max_file_bytes`: invalid type: string \"1\", \
             expected an integer of at least 0",
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
}
