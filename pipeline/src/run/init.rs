//! The model of `train.init`, as planning and the stages need it.

use anyhow::ensure;
use artifact::{Context, Digest, Sealed, Store};
use model::{ModelConfig, checkpoint};
use registry::{Model, Origin, headline};
use serde_json::json;
use tokenizer::Tokenizer;

use crate::config::{Config, Loaded};
use crate::platform::host::host;

use super::model_ref;

/// The model to start from.
#[derive(Debug)]
pub struct Init {
    /// Its place and size, in words.
    pub about: String,
    /// The digest of its files, on which the checkpoint depends.
    pub digest: Digest,
    /// The digest of its tokenizer, on which the tokens depend.
    pub tokenizer: Digest,
    /// Its shape, if it is on this machine.
    pub shape: Option<ModelConfig>,
    /// Its artifact; none while planning.
    pub sealed: Option<Sealed>,
    /// Whether the tokens come from another tokenizer than its own; false while planning.
    pub has_other_tokenizer: bool,
}

impl Init {
    /// Imports the model that `loaded` starts from, if any, into `store`, fetching what is missing.
    ///
    /// # Errors
    /// Returns an error if it does not exist, is invalid, or does not fit the rest of the configuration.
    pub fn import(loaded: &Loaded, store: &Store, context: &Context) -> anyhow::Result<Option<Self>> {
        let Some(origin) = origin(loaded)? else { return Ok(None) };
        let options = &loaded.config.collect.fetch_options();
        // A model in the store does not need the cache.
        let in_store = Model::known(&origin, options, context)?.filter(|known| known.is_in(store));
        let model = match in_store {
            Some(known) => known,
            None => Model::find(&origin, false, options, context)?,
        };
        let sealed = model.seal(store, host())?;
        let shape = Some(checkpoint::load_config(sealed.folder())?);
        let own = Tokenizer::from_folder(sealed.folder())?;
        let mut init = Self { sealed: Some(sealed), shape, ..Self::of(&model)? };
        init.check(&loaded.config, context)?;
        let given = &loaded.config.preprocess.tokenizer;
        init.has_other_tokenizer = !given.from_init
            && match &given.file {
                Some(file) => Tokenizer::from_file(&context.base.join(file))?.digest() != own.digest(),
                None => true,
            };
        Ok(Some(init))
    }

    /// Returns the model that `loaded` starts from, if any, without fetching or writing anything.
    ///
    /// # Errors
    /// Returns an error as [`Init::import`] does.
    pub fn plan(loaded: &Loaded, context: &Context) -> anyhow::Result<Option<Self>> {
        let Some(origin) = origin(loaded)? else { return Ok(None) };
        let Some(model) = Model::known(&origin, &loaded.config.collect.fetch_options(), context)? else {
            let written = loaded.config.train.init.as_deref().unwrap_or_default();
            let digest = Digest::of_json(&json!({ "not fetched yet": written }));
            let about = format!("{written}, not fetched yet");
            return Ok(Some(Self {
                about,
                digest,
                tokenizer: digest,
                shape: None,
                sealed: None,
                has_other_tokenizer: false,
            }));
        };
        let init = Self::of(&model)?;
        init.check(&loaded.config, context)?;
        Ok(Some(init))
    }

    fn of(model: &Model) -> anyhow::Result<Self> {
        let (digest, shape) = (model.digest(), model.config()?);
        let about = match &shape {
            Some(shape) => format!("{}: {}", model.place, headline(shape)),
            None => model.place.clone(),
        };
        Ok(Self {
            about,
            digest,
            tokenizer: model.tokenizer_digest().unwrap_or(digest),
            shape,
            sealed: None,
            has_other_tokenizer: false,
        })
    }

    /// Checks that the model's vocabulary has every token of the tokenizer, and that its context is long enough.
    fn check(&self, config: &Config, context: &Context) -> anyhow::Result<()> {
        let Some(shape) = &self.shape else { return Ok(()) };
        config.train.check_init(shape)?;
        let (given, known) = (&config.preprocess.tokenizer, shape.vocab_size);
        let (what, tokens) = match &given.file {
            _ if given.from_init => return Ok(()),
            Some(file) => {
                let tokenizer = Tokenizer::from_file(&context.base.join(file))?;
                (format!("preprocess.tokenizer.file = \"{}\"", file.display()), tokenizer.vocab_size())
            }
            None => ("the tokenizer of [preprocess.tokenizer]".to_owned(), given.vocab_size),
        };
        ensure!(
            tokens <= known,
            "{what} has {tokens} tokens, but the vocabulary of train.init ({}) has {known}: use the model's own \
             tokenizer, the default if [preprocess.tokenizer] is not given",
            self.about
        );
        Ok(())
    }
}

fn origin(loaded: &Loaded) -> anyhow::Result<Option<Origin>> {
    let Some(written) = &loaded.config.train.init else { return Ok(None) };
    ensure!(
        written != "latest",
        "train.init = \"latest\" would be another model after every run; name a run (`pipeline runs` lists them)"
    );
    model_ref::origin(written, &loaded.base, &loaded.layout()).map(Some)
}
