//! The models of `train.init`, `train.distill.teacher` and `evaluate.reference_model` and
//! `evaluate.risk.classifier`, as planning and the stages need them.

use anyhow::ensure;
use artifact::{Context, Digest, Sealed, Store};
use model::{ModelConfig, checkpoint};
use registry::{Model, Origin, headline};
use serde_json::json;
use tokenizer::Tokenizer;

use crate::config::{Config, Loaded};
use crate::platform::host::host;

use super::model_ref;
use super::stage::Stage;

/// The key that names a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `train.init`: the model to start from.
    Init,
    /// `train.distill.teacher`: the model to learn from.
    Teacher,
    /// `evaluate.reference_model`: the model to compare with.
    Reference,
    /// `evaluate.risk.classifier.model`: the model that judges samples.
    Classifier,
}

impl Role {
    /// Returns the dotted key, which also names the input of its stage.
    pub fn key(self) -> &'static str {
        match self {
            Self::Init => "train.init",
            Self::Teacher => "train.distill.teacher",
            Self::Reference => "evaluate.reference_model",
            Self::Classifier => "evaluate.risk.classifier.model",
        }
    }

    fn written(self, config: &Config) -> Option<&str> {
        match self {
            Self::Init => config.train.init.as_deref(),
            Self::Teacher => config.train.distill.as_ref().map(|distill| distill.teacher.as_str()),
            Self::Reference => config.evaluate.reference_model.as_deref(),
            Self::Classifier => config.evaluate.risk.classifier.as_ref().map(|classifier| classifier.model.as_str()),
        }
    }
}

/// A model that a stage reads.
#[derive(Debug)]
pub struct InputModel {
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

/// The models that stages read.
#[derive(Debug, Default)]
pub struct InputModels {
    /// The model to start from.
    pub init: Option<InputModel>,
    /// The model to learn from.
    pub teacher: Option<InputModel>,
    /// The model to compare with.
    pub reference: Option<InputModel>,
    /// The model that judges samples.
    pub classifier: Option<InputModel>,
}

impl InputModels {
    /// Imports the models that `loaded` names for stages up to `last` into `store`, fetching what is missing.
    ///
    /// # Errors
    /// Returns an error if one does not exist, is invalid, or does not fit the rest of the configuration.
    pub fn import(loaded: &Loaded, last: Stage, store: &Store, context: &Context) -> anyhow::Result<Self> {
        Self::of(last, |role| InputModel::import(role, loaded, store, context))
    }

    /// Returns the models that `loaded` names for stages up to `last`, without fetching or writing anything.
    ///
    /// # Errors
    /// Returns an error as [`InputModels::import`] does.
    pub fn plan(loaded: &Loaded, last: Stage, context: &Context) -> anyhow::Result<Self> {
        Self::of(last, |role| InputModel::plan(role, loaded, context))
    }

    fn of(last: Stage, find: impl Fn(Role) -> anyhow::Result<Option<InputModel>>) -> anyhow::Result<Self> {
        // The tokenizer of `init` may be that of the tokens.
        let find = |role, first| if last < first { Ok(None) } else { find(role) };
        Ok(Self {
            init: find(Role::Init, Stage::Preprocess)?,
            teacher: find(Role::Teacher, Stage::Preprocess)?,
            reference: find(Role::Reference, Stage::Evaluate)?,
            classifier: find(Role::Classifier, Stage::Evaluate)?,
        })
    }
}

impl InputModel {
    fn import(role: Role, loaded: &Loaded, store: &Store, context: &Context) -> anyhow::Result<Option<Self>> {
        let Some(origin) = origin(role, loaded)? else { return Ok(None) };
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
        let mut input = Self { sealed: Some(sealed), shape, ..Self::of(&model)? };
        input.check(role, &loaded.config, context)?;
        let given = &loaded.config.preprocess.tokenizer;
        input.has_other_tokenizer = !given.from_init
            && match &given.file {
                Some(file) => Tokenizer::from_file(&context.base.join(file))?.digest() != own.digest(),
                None => true,
            };
        Ok(Some(input))
    }

    fn plan(role: Role, loaded: &Loaded, context: &Context) -> anyhow::Result<Option<Self>> {
        let Some(origin) = origin(role, loaded)? else { return Ok(None) };
        let Some(model) = Model::known(&origin, &loaded.config.collect.fetch_options(), context)? else {
            let written = role.written(&loaded.config).unwrap_or_default();
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
        let input = Self::of(&model)?;
        input.check(role, &loaded.config, context)?;
        Ok(Some(input))
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

    /// Checks that the model's context is long enough and, of the model to start from, that its vocabulary has every
    /// token of the tokenizer.
    fn check(&self, role: Role, config: &Config, context: &Context) -> anyhow::Result<()> {
        let Some(shape) = self.shape.as_ref().filter(|_| [Role::Init, Role::Teacher].contains(&role)) else {
            return Ok(());
        };
        config.train.check_context(shape, role.key())?;
        if role == Role::Teacher {
            // Stage train compares its tokenizer with that of the tokens.
            return Ok(());
        }
        config.train.pruned_shape(shape)?;
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

fn origin(role: Role, loaded: &Loaded) -> anyhow::Result<Option<Origin>> {
    let Some(written) = role.written(&loaded.config) else { return Ok(None) };
    ensure!(
        written != "latest",
        "{} = \"latest\" would be another model after every run; name a run (`pipeline runs` lists them)",
        role.key()
    );
    model_ref::origin(written, &loaded.base, &loaded.layout()).map(Some)
}
