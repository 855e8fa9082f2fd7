//! A model that is not trained here: its files, and its way into the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use artifact::file::{self, tidy};
use artifact::manifest::digest_of;
use artifact::{Context, Digest, FileEntry, Host, Outcome, Recipe, Sealed, Store, Unsealed, format};
use burn::tensor::Device;
use fetch::{Environment, RemoteContext};
use model::{ModelConfig, checkpoint, hub_layout};
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use crate::{Cause, Error, Origin, TextParity, gguf};

/// The folder of imported models in the store.
pub const STAGE: &str = "import";

/// Raised when the layout of an import changes.
const VERSION: u32 = 2;

/// The lock of models of the Hub, beside the configuration that names them.
const LOCK: &str = "model.lock";

/// A model, before its files are in the store.
#[derive(Debug, Clone)]
pub struct Model {
    /// Where it is, in words.
    pub place: String,
    /// The folder that the files are in, where they are in one by their names.
    folder: Option<PathBuf>,
    /// The files of a model in Hugging Face layout, or one GGUF file, which is converted on its way into the store.
    files: BTreeMap<String, File>,
}

#[derive(Debug, Clone)]
struct File {
    entry: FileEntry,
    place: PathBuf,
    /// Whether only this program writes to it, so that a hard link serves instead of a copy.
    is_ours: bool,
}

impl File {
    fn of(place: PathBuf) -> Result<Self, artifact::Error> {
        let (sha256, bytes) = Digest::of_file(&place)?;
        Ok(Self { entry: FileEntry { bytes, sha256, volatile: false }, place, is_ours: false })
    }
}

impl Model {
    /// Finds the files of the model at `origin`, and fetches them if they are on the Hub. With `refresh`, the revision
    /// is resolved again, whatever the lock has.
    ///
    /// # Errors
    /// Returns an error if the model does not exist, is not in Hugging Face layout, or cannot be fetched.
    pub fn find(origin: &Origin, refresh: bool, options: &fetch::Options, context: &Context) -> Result<Self, Error> {
        match origin {
            Origin::Hub(hub) => {
                let choose =
                    |names: &[&str]| hub_layout::select(names).map_err(|problem| format!("the model {problem}"));
                let environment = Environment::of_process();
                let remote = RemoteContext::new(options, context, &environment)?;
                let snapshot = hub.fetch(&lock(context), refresh, &choose, &remote)?;
                Ok(Self::of_snapshot(hub.written(), snapshot))
            }
            _ => Self::here(origin),
        }
    }

    /// Finds the model at `origin` as [`Model::find`] does, but fetches nothing: of a model of the Hub, what the lock
    /// has.
    ///
    /// # Errors
    /// Returns an error as [`Model::find`] does.
    pub fn known(origin: &Origin, options: &fetch::Options, context: &Context) -> Result<Option<Self>, Error> {
        match origin {
            Origin::Hub(hub) => {
                let environment = Environment::of_process();
                let remote = RemoteContext::new(options, context, &environment)?;
                let snapshot = hub.locked(&lock(context), &remote)?;
                Ok(snapshot.map(|snapshot| Self::of_snapshot(hub.written(), snapshot)))
            }
            _ => Self::here(origin).map(Some),
        }
    }

    /// Returns the model in a GGUF file.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn of_gguf(path: &Path) -> Result<Self, Error> {
        let files = BTreeMap::from([(hub_layout::GGUF.to_owned(), File::of(path.to_owned())?)]);
        Ok(Self { place: format!("GGUF file {}", path.display()), folder: None, files })
    }

    /// Returns true if the model and its tokenizer are one GGUF file.
    fn is_gguf(&self) -> bool {
        self.files.len() == 1 && self.files.contains_key(hub_layout::GGUF)
    }

    fn of_snapshot(written: &str, snapshot: fetch::Snapshot) -> Self {
        let fetch::Snapshot { commit, files, .. } = snapshot;
        let short = commit.get(..12).unwrap_or(&commit);
        let file = |file: fetch::SnapshotFile| {
            let entry = FileEntry { bytes: file.bytes, sha256: file.sha256, volatile: false };
            (file.path, File { entry, place: file.place, is_ours: true })
        };
        let place = format!("{written} of the Hub, commit {short}");
        Self { place, folder: None, files: files.into_iter().map(file).collect() }
    }

    fn here(origin: &Origin) -> Result<Self, Error> {
        let (folder, place) = match origin {
            Origin::Folder(folder) => (folder.clone(), format!("folder {}", folder.display())),
            Origin::Gguf(path) => return Self::of_gguf(path),
            Origin::Sealed { sealed, place } => return Ok(Self::of_sealed(sealed, place.clone())),
            Origin::Hub(hub) => return Err(Error::OnHub { written: hub.written().to_owned() }),
        };
        let chosen = files_of(&folder)?;
        let file = |name: String| Ok((name.clone(), File::of(folder.join(&name))?));
        let files = chosen.into_iter().map(file).collect::<Result<_, artifact::Error>>()?;
        Ok(Self { place, folder: Some(folder), files })
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
        Self { place, folder: Some(sealed.folder().to_owned()), files: chosen.into_iter().map(file).collect() }
    }

    /// Returns the digest of the files: that of the artifact they become.
    pub fn digest(&self) -> Digest {
        digest_of(&self.files.iter().map(|(name, file)| (name.clone(), file.entry.clone())).collect())
    }

    /// Returns the digest of the tokenizer and of what declares how it is used; none where there is no tokenizer.
    pub fn tokenizer_digest(&self) -> Option<Digest> {
        // The ids that end a text and the sampling settings do not change the tokens.
        let other = [hub_layout::CONFIG, hub_layout::GENERATION_CONFIG];
        let is_other = |name: &str| (hub_layout::is_weights(name) && !self.is_gguf()) || other.contains(&name);
        let files: BTreeMap<_, _> = self.files.iter().filter(|(name, _)| !is_other(name)).collect();
        let has_tokenizer = !files.is_empty();
        let entries = files.into_iter().map(|(name, file)| (name.clone(), file.entry.clone()));
        has_tokenizer.then(|| digest_of(&entries.collect()))
    }

    /// Returns the length of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.entry.bytes).sum()
    }

    /// Returns the model's shape; none where its `config.json` is not on this machine.
    ///
    /// # Errors
    /// Names the key that is wrong or not supported.
    pub fn config(&self) -> Result<Option<ModelConfig>, Error> {
        let Some(file) = self.files.get("config.json") else { return Ok(None) };
        let Ok(text) = fs::read(&file.place) else { return Ok(None) };
        let file = || format!("config.json of {}", self.place);
        let value: Value =
            artifact::json::from_slice(&text).map_err(|error| Error::File { file: file(), source: Box::new(error) })?;
        let config = ModelConfig::from_hugging_face(&value);
        config.map(Some).map_err(|error| Error::File { file: file(), source: Box::new(error) })
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            stage: STAGE.to_owned(),
            stage_version: VERSION,
            config: json!({}),
            inputs: self.files.iter().map(|(name, file)| (name.clone(), file.entry.sha256)).collect(),
            seed: 0,
            device_class: None,
        }
    }

    /// Returns true if the model's artifact is in `store`.
    pub fn is_in(&self, store: &Store) -> bool {
        store.find(&self.recipe()).is_ok_and(|found| found.is_some())
    }

    /// Returns the artifact of the model in `store`, made and checked now if it is not there: every tensor must be
    /// there with its shape, the model must know every token, and the tokenizer and the chat template must do the same
    /// as in the folder that they come from.
    ///
    /// # Errors
    /// Names the file, and the tensor, key, size or text that is wrong.
    pub fn seal(&self, store: &Store, host: Host) -> Result<Sealed, Error> {
        let recipe = self.recipe();
        if let Some(sealed) = store.find(&recipe)? {
            return Ok(sealed);
        }
        let started = Instant::now();
        let out = store.begin(recipe)?;
        out.clear()?;
        let copied = match self.files.get(hub_layout::GGUF) {
            Some(file) if self.is_gguf() => gguf::convert(&file.place, out.folder()),
            _ => self.copy_to(&out),
        };
        let outcome = copied.and_then(|()| checked(out.folder())).and_then(|outcome| {
            self.folder.as_ref().map_or(Ok(()), |folder| TextParity::of(folder, out.folder()).map(drop))?;
            Ok(outcome)
        });
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                // An invalid model would only take space.
                let prefix = format!("{}{}", out.folder().display(), std::path::MAIN_SEPARATOR);
                let _ = out.discard();
                // The folder is gone, so the files are named as in their original place.
                let source = Cause::of(&error, &|text| text.replace(&prefix, ""));
                return Err(Error::Unusable { place: self.place.clone(), source });
            }
        };
        Ok(out.seal(outcome, started.elapsed().as_secs_f64(), host)?)
    }

    /// Links or copies every file into the folder of an artifact, and compares it with its digest.
    fn copy_to(&self, out: &Unsealed) -> Result<(), Error> {
        for (name, file) in &self.files {
            let to = out.path(name);
            file::create_folder(to.parent().unwrap_or(out.folder()))?;
            if !file.is_ours || fs::hard_link(&file.place, &to).is_err() {
                fs::copy(&file.place, &to).map_err(|e| artifact::Error::io("copy", &file.place, e))?;
            }
            let found = Digest::of_file(&to)?.0;
            let expected = file.entry.sha256;
            if found != expected {
                return Err(Error::Changed { path: file.place.clone(), expected, found });
            }
        }
        Ok(())
    }
}

/// Returns the names of the files that a model in `folder` consists of.
pub(crate) fn files_of(folder: &Path) -> Result<Vec<String>, Error> {
    let listed = fs::read_dir(folder).map_err(|e| artifact::Error::io("list", folder, e))?;
    let mut names: Vec<String> =
        listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.extend(tokenizer::named_templates(folder));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    hub_layout::select(&names).map_err(|problem| Error::NotAModel { place: folder.display().to_string(), problem })
}

/// Returns the lock of the models that the configuration in the context's folder names.
fn lock(context: &Context) -> PathBuf {
    tidy(&context.base.join(LOCK))
}

/// Reads the model in `folder` whole, and returns what there is to say of it.
fn checked(folder: &Path) -> Result<Outcome, Error> {
    let config = checkpoint::load_config(folder)?;
    let tokenizer = Tokenizer::from_folder(folder)?;
    tokenizer.check_vocabulary(config.vocab_size).map_err(|error| Error::File {
        file: "tokenizer.json, which belongs to another model than config.json".to_owned(),
        source: Box::new(error),
    })?;
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
