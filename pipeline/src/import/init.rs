//! The model of `train.init`, as planning and the stages need it.

use anyhow::ensure;
use artifact::{Context, Digest, Sealed, Store};
use model::{ModelConfig, checkpoint};
use serde_json::json;
use tokenizer::Tokenizer;

use crate::config::{Config, Loaded};

use super::{Model, Origin, headline};

/// The model to start from.
#[derive(Debug)]
pub struct Init {
    /// Where it is and what it is, in words.
    pub about: String,
    /// The digest of its files: what the checkpoint depends on.
    pub digest: Digest,
    /// The digest of its tokenizer: what the tokens depend on.
    pub tokenizer: Digest,
    /// Its shape; none where that is not on this machine yet.
    pub shape: Option<ModelConfig>,
    /// Its artifact; none while it is only planned with.
    pub sealed: Option<Sealed>,
    /// Whether it will read the tokens of another tokenizer than its own; false while it is only planned with.
    pub reads_other_tokens: bool,
}

impl Init {
    /// Returns the model that `loaded` starts from, if any, with its artifact in `store`, fetching what must be.
    ///
    /// # Errors
    /// When it is not there, cannot be used, or does not fit the rest of the configuration.
    pub fn bring(loaded: &Loaded, store: &Store, context: &Context) -> anyhow::Result<Option<Self>> {
        let Some(origin) = origin(loaded)? else { return Ok(None) };
        let collect = &loaded.config.collect;
        // What is in the store needs no cache any more.
        let in_store = Model::known(&origin, collect, context)?.filter(|known| known.is_in(store));
        let model = in_store.map_or_else(|| Model::find(&origin, false, collect, context), Ok)?;
        let sealed = model.seal(store)?;
        let shape = Some(checkpoint::load_config(sealed.folder())?);
        let own = Tokenizer::from_file(&sealed.folder().join("tokenizer.json"))?;
        let mut init = Self { sealed: Some(sealed), shape, ..Self::of(&model)? };
        init.check(&loaded.config, context)?;
        let given = &loaded.config.preprocess.tokenizer;
        init.reads_other_tokens = !given.from_init
            && match &given.file {
                Some(file) => Tokenizer::from_file(&context.base.join(file))?.digest() != own.digest(),
                None => true,
            };
        Ok(Some(init))
    }

    /// Returns the model that `loaded` starts from, if any, without fetching or writing anything.
    ///
    /// # Errors
    /// As [`Init::bring`].
    pub fn plan(loaded: &Loaded, context: &Context) -> anyhow::Result<Option<Self>> {
        let Some(origin) = origin(loaded)? else { return Ok(None) };
        let Some(model) = Model::known(&origin, &loaded.config.collect, context)? else {
            let written = loaded.config.train.init.as_deref().unwrap_or_default();
            let digest = Digest::of_json(&json!({ "not fetched yet": written }));
            let about = format!("{written}, not fetched yet");
            return Ok(Some(Self {
                about,
                digest,
                tokenizer: digest,
                shape: None,
                sealed: None,
                reads_other_tokens: false,
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
            reads_other_tokens: false,
        })
    }

    /// Checks that the model knows every token that it will read, and reads as many at a time as it shall.
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
            None => ("the tokenizer to train by [preprocess.tokenizer]".to_owned(), given.vocab_size),
        };
        ensure!(
            tokens <= known,
            "{what} has {tokens} tokens, and the model of train.init ({}) knows {known}: take the model's own tokenizer, \
             which is the default where [preprocess.tokenizer] says nothing",
            self.about
        );
        Ok(())
    }
}

fn origin(loaded: &Loaded) -> anyhow::Result<Option<Origin>> {
    let Some(written) = &loaded.config.train.init else { return Ok(None) };
    ensure!(
        written != "latest",
        "train.init = \"latest\" would be another model after every run; name the run (`pipeline runs` lists them)"
    );
    Origin::of(written, &loaded.base, &loaded.store()).map(Some)
}
