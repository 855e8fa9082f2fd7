//! What can go wrong while a model is imported or exported.

use std::fmt;
use std::path::PathBuf;

use artifact::Digest;

/// An error of an import or export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder or a set of files is not a model in Hugging Face layout.
    #[error("{place} {problem}")]
    NotAModel {
        /// Where it is.
        place: String,
        /// What is missing or wrong.
        problem: String,
    },
    /// A model's files are there, but wrong.
    #[error("cannot use the model {place}")]
    Unusable {
        /// Where it is.
        place: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A file of a model is not valid JSON, or its content is not supported.
    #[error("cannot use {file}")]
    File {
        /// The file, and of which model it is.
        file: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file changed between two reads.
    #[error(
        "{} changed while it was being read (its SHA-256 was {expected}, is {found}); run the same command again",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its first digest.
        expected: Digest,
        /// Its second digest.
        found: Digest,
    },
    /// Nothing on this machine has that name, and it is not the name of a model of the Hub.
    #[error("there is no model `{written}`: {tried}; a model of the Hub is written owner/name")]
    Unknown {
        /// What was written.
        written: String,
        /// Where it was looked for.
        tried: String,
    },
    /// A name of a model of the Hub is malformed.
    #[error("{written}: {problem}")]
    HubName {
        /// What was written.
        written: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A path is a file that is no model, instead of a folder.
    #[error("{} is not a GGUF file; name the folder of a model in Hugging Face layout", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A path to export to has no name.
    #[error("{} does not end with a name; name the output with --output", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// A model of the Hub is needed on this machine.
    #[error("{written} is on the Hub; import it first: pipeline import {written}")]
    OnHub {
        /// The model.
        written: String,
    },
    /// A name for an import cannot name a file.
    #[error("--name {name}: use letters, digits, `.`, `_` and `-`")]
    Name {
        /// The name.
        name: String,
    },
    /// The artifact of an imported model was deleted.
    #[error("the model {name} was deleted; import it again: {place}")]
    Deleted {
        /// The name.
        name: String,
        /// Where the model was found.
        place: String,
        /// The store's error.
        #[source]
        source: Box<artifact::Error>,
    },
    /// A folder to export to has files in it.
    #[error(
        "{} is not empty; name another folder with --output, or replace the model in it with --force",
        folder.display()
    )]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// A file to export to exists.
    #[error("{} exists; name another file with --output, or replace it with --force", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A folder to export to is the model's own.
    #[error("{} is the model itself; name another folder with --output", folder.display())]
    Itself {
        /// The folder.
        folder: PathBuf,
    },
    /// The tokenizer or what declares how it is used is read differently from a written model.
    #[error(
        "{written} would not be used as {original}: {difference}; compare their tokenizer.json, tokenizer_config.json, \
         chat_template.jinja, generation_config.json and config.json"
    )]
    TextDiffers {
        /// The folder that was written.
        written: String,
        /// The model that it should equal.
        original: String,
        /// The first difference: what is found, and what is expected.
        difference: String,
    },
    /// A tokenizer would encode differently in llama.cpp.
    #[error("the tokenizer cannot be written as GGUF: {problem}; use --format hf")]
    GgufTokenizer {
        /// What llama.cpp does differently.
        problem: String,
    },
    /// The device failed while two models were compared.
    #[error("the device failed while models were compared: {0}")]
    Device(String),
    /// Decoding failed while two models were compared.
    #[error(transparent)]
    Inference(#[from] inference::Error),
    /// The store or a file.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// A download.
    #[error(transparent)]
    Fetch(Box<fetch::Error>),
    /// A checkpoint.
    #[error(transparent)]
    Model(Box<model::Error>),
    /// A tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
}

impl From<fetch::Error> for Error {
    fn from(error: fetch::Error) -> Self {
        Self::Fetch(Box::new(error))
    }
}

impl From<model::Error> for Error {
    fn from(error: model::Error) -> Self {
        Self::Model(Box::new(error))
    }
}

/// A chain of error texts: the error of files in a temporary folder, with their original names.
#[derive(Debug)]
pub struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl Cause {
    /// Returns the texts of `error` and its sources, each passed through `change`.
    pub(crate) fn of(error: &dyn std::error::Error, change: &dyn Fn(&str) -> String) -> Self {
        Self {
            text: change(&error.to_string()),
            source: error.source().map(|source| Box::new(Self::of(source, change))),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
