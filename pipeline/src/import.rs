//! Models that are not made here: where one is, what it consists of, and its way into the store.
//!
//! `train.init`, `pipeline import` and `pipeline export` name a model as people do: a folder, a model of the hub, a run, or
//! the name of an earlier import. Wherever it is, its files become an artifact of their own, in the Hugging Face layout,
//! whose digest says what is in them and not where they were.

pub mod names;
pub mod origin;
pub mod parity;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use artifact::manifest::digest_of;
use artifact::{Context, Digest, FileEntry, Outcome, Recipe, Sealed, Store, Unsealed};
use burn::tensor::Device;
use fetch::{Environment, RemoteContext};
use model::{ModelConfig, checkpoint, hub_layout};
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use crate::platform::host::host;
use crate::platform::interrupt::Interrupted;
use artifact::file::tidy;
use artifact::format;

pub use self::origin::Origin;

/// The folder of imported models in the store.
const NAME: &str = "import";

/// Raised when an import would be laid out in another way.
const VERSION: u32 = 1;

/// The file whose digest decides what preprocess does with a model's tokenizer.
const TOKENIZER: &str = "tokenizer.json";

/// The lock of models of the hub, beside the configuration that names them.
const LOCK: &str = "model.lock";

/// A model, before its files are in the store.
#[derive(Debug, Clone)]
pub struct Model {
    /// Where it is, in words.
    pub place: String,
    files: BTreeMap<String, File>,
}

#[derive(Debug, Clone)]
struct File {
    entry: FileEntry,
    place: PathBuf,
    /// Whether nobody but this program writes to it, so that a second name for it does instead of a copy.
    is_ours: bool,
}

impl Model {
    /// Finds the files of the model at `origin`, fetching them where they are on the hub. With `anew`, the hub is asked what
    /// the revision is now, whatever the lock has.
    ///
    /// # Errors
    /// When the model is not there, is not laid out as one, or cannot be fetched.
    pub fn find(origin: &Origin, anew: bool, collect: &data_ingest::Config, context: &Context) -> anyhow::Result<Self> {
        match origin {
            Origin::Hub(hub) => {
                let choose =
                    |names: &[&str]| hub_layout::select(names).map_err(|problem| format!("the model {problem}"));
                let (options, environment) = (collect.fetch_options(), Environment::of_process());
                let remote = RemoteContext::new(&options, context, &environment)?;
                let snapshot = hub.fetch(&lock(context), anew, &choose, &remote)?;
                Ok(Self::of_snapshot(hub.written(), snapshot))
            }
            _ => Self::here(origin),
        }
    }

    /// Finds the model at `origin` as [`Model::find`] does, but fetches nothing: of a model of the hub, what the lock has.
    ///
    /// # Errors
    /// As [`Model::find`].
    pub fn known(origin: &Origin, collect: &data_ingest::Config, context: &Context) -> anyhow::Result<Option<Self>> {
        match origin {
            Origin::Hub(hub) => {
                let (options, environment) = (collect.fetch_options(), Environment::of_process());
                let remote = RemoteContext::new(&options, context, &environment)?;
                let snapshot = hub.locked(&lock(context), &remote)?;
                Ok(snapshot.map(|snapshot| Self::of_snapshot(hub.written(), snapshot)))
            }
            _ => Self::here(origin).map(Some),
        }
    }

    fn of_snapshot(written: &str, snapshot: fetch::Snapshot) -> Self {
        let fetch::Snapshot { commit, files, .. } = snapshot;
        let short = commit.get(..12).unwrap_or(&commit);
        let file = |file: fetch::SnapshotFile| {
            let entry = FileEntry { bytes: file.bytes, sha256: file.sha256, volatile: false };
            (file.path, File { entry, place: file.place, is_ours: true })
        };
        Self { place: format!("{written} of the hub, commit {short}"), files: files.into_iter().map(file).collect() }
    }

    fn here(origin: &Origin) -> anyhow::Result<Self> {
        let (folder, place) = match origin {
            Origin::Folder(folder) => (folder.clone(), format!("folder {}", folder.display())),
            Origin::Sealed { sealed, place } => return Ok(Self::of_sealed(sealed, place.clone())),
            Origin::Hub(hub) => anyhow::bail!("{} is not on this machine", hub.written()),
        };
        let listed = fs::read_dir(&folder).map_err(|e| artifact::Error::io("list", &folder, e))?;
        let names: Vec<String> =
            listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let chosen = hub_layout::select(&names).map_err(|problem| anyhow::anyhow!("{} {problem}", folder.display()))?;
        let file = |name: String| {
            let path = folder.join(&name);
            let (sha256, bytes) = Digest::of_file(&path)?;
            Ok((name, File { entry: FileEntry { bytes, sha256, volatile: false }, place: path, is_ours: false }))
        };
        Ok(Self { place, files: chosen.into_iter().map(file).collect::<Result<_, artifact::Error>>()? })
    }

    /// Returns the model in an artifact: of a checkpoint, without the optimizer's state and what else training left.
    fn of_sealed(sealed: &Sealed, place: String) -> Self {
        let files = &sealed.manifest().files;
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        let chosen = hub_layout::select(&names).unwrap_or_default();
        let file = |name: String| {
            let entry = FileEntry { volatile: false, ..files[&name].clone() };
            let place = sealed.folder().join(&name);
            (name, File { entry, place, is_ours: true })
        };
        Self { place, files: chosen.into_iter().map(file).collect() }
    }

    /// Returns the digest of the files: that of the artifact they become.
    pub fn digest(&self) -> Digest {
        digest_of(&self.files.iter().map(|(name, file)| (name.clone(), file.entry.clone())).collect())
    }

    /// Returns the digest of the tokenizer.
    pub fn tokenizer_digest(&self) -> Option<Digest> {
        self.files.get(TOKENIZER).map(|file| file.entry.sha256)
    }

    /// Returns the length of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.entry.bytes).sum()
    }

    /// Returns the model's shape; none where its `config.json` is not on this machine.
    ///
    /// # Errors
    /// Names the key that is wrong or not supported.
    pub fn config(&self) -> anyhow::Result<Option<ModelConfig>> {
        let Some(file) = self.files.get("config.json") else { return Ok(None) };
        let Ok(text) = fs::read(&file.place) else { return Ok(None) };
        let unusable = || format!("cannot use config.json of {}", self.place);
        let value: Value = serde_json::from_slice(&text).with_context(unusable)?;
        ModelConfig::from_hugging_face(&value).map(Some).with_context(unusable)
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            stage: NAME.to_owned(),
            stage_version: VERSION,
            config: json!({}),
            inputs: self.files.iter().map(|(name, file)| (name.clone(), file.entry.sha256)).collect(),
            seed: 0,
            device_class: None,
        }
    }

    /// Tells whether the model's artifact is in `store`.
    pub fn is_in(&self, store: &Store) -> bool {
        store.find(&self.recipe()).is_ok_and(|found| found.is_some())
    }

    /// Returns the artifact of the model in `store`, made and checked now if it is not there: every tensor must be there
    /// with its shape, and the model must know every token.
    ///
    /// # Errors
    /// Names the file, and the tensor, key or size that is wrong.
    pub fn seal(&self, store: &Store) -> anyhow::Result<Sealed> {
        let recipe = self.recipe();
        if let Some(sealed) = store.find(&recipe)? {
            return Ok(sealed);
        }
        let started = Instant::now();
        let out = store.begin(recipe)?;
        out.clear()?;
        let outcome = self.bring(&out).and_then(|()| checked(out.folder()));
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                // What cannot be used would only take room; why it cannot is what matters.
                let _ = out.clear();
                let error = without_folder(&error, out.folder());
                return Err(error.context(format!("cannot use the model {}", self.place)));
            }
        };
        Ok(out.seal(outcome, started.elapsed().as_secs_f64(), host())?)
    }

    /// Brings every file into the folder of an artifact, and compares it with its digest on the way.
    fn bring(&self, out: &Unsealed) -> anyhow::Result<()> {
        for (name, file) in &self.files {
            let to = out.path(name);
            if !file.is_ours || fs::hard_link(&file.place, &to).is_err() {
                fs::copy(&file.place, &to).map_err(|e| artifact::Error::io("copy", &file.place, e))?;
            }
            let found = Digest::of_file(&to)?.0;
            let expected = file.entry.sha256;
            anyhow::ensure!(
                found == expected,
                "{} changed while it was being read (its SHA-256 was {expected}, is {found}); run the same command again",
                file.place.display()
            );
        }
        Ok(())
    }
}

/// Returns an error whose texts name the files in `folder`, which is no more, as they were called where they came from.
fn without_folder(error: &anyhow::Error, folder: &Path) -> anyhow::Error {
    let prefix = format!("{}{}", folder.display(), std::path::MAIN_SEPARATOR);
    let texts: Vec<String> = error.chain().map(|cause| cause.to_string().replace(&prefix, "")).collect();
    let mut texts = texts.into_iter().rev();
    let root = anyhow::Error::msg(texts.next().unwrap_or_default());
    texts.fold(root, anyhow::Error::context)
}

/// Returns the lock of the models that the configuration in the context's folder names.
fn lock(context: &Context) -> PathBuf {
    tidy(&context.base.join(LOCK))
}

/// Reads the model in `folder` whole, and returns what there is to say of it.
fn checked(folder: &Path) -> anyhow::Result<Outcome> {
    let config = checkpoint::load_config(folder)?;
    let tokenizer = Tokenizer::from_file(&folder.join(TOKENIZER))?;
    tokenizer
        .check_vocabulary(config.vocab_size)
        .context("tokenizer.json is that of another model than config.json describes")?;
    checkpoint::load(folder, &Device::flex())?;
    let figures = json!({
        "parameters": config.parameters(),
        "context_length": config.context_length,
        "vocab_size": config.vocab_size,
        "tokens": tokenizer.vocab_size(),
    });
    Ok(Outcome {
        counts: figures.as_object().cloned().unwrap_or_default(),
        headline: headline(&config),
        ..Outcome::default()
    })
}

/// Returns a model's family and size in words.
pub fn headline(config: &ModelConfig) -> String {
    format!("{}, {} parameters", config.family.model_type(), format::count(config.parameters() as f64))
}

/// Returns the error to show for one of this module.
pub fn failure(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(fetch::Error::Interrupted) => Interrupted::default().into(),
        _ => error,
    }
}
