//! Errors of this crate.

use std::path::PathBuf;

/// An error of the server or its deployment check.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration is invalid.
    #[error("serve.{key} must be {expected}, not {found}")]
    Config {
        /// The key in the table `[serve]`.
        key: &'static str,
        /// The valid values.
        expected: String,
        /// The value.
        found: String,
    },
    /// Another program listens on the address.
    #[error(
        "{address} is in use by another program; stop that one, or choose another port with `--port` or `serve.port` \
         (0 takes any free one)"
    )]
    AddressInUse {
        /// Host and port.
        address: String,
    },
    /// The server cannot listen on the address.
    #[error("cannot listen on {address}; `serve.host` must be an address of this machine")]
    Bind {
        /// Host and port.
        address: String,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// Other machines can reach the address, and no keys are required.
    #[error(
        "{address} can be reached from other machines, so requests must need a key: make one with `pipeline serve \
         --new-key NAME` and add `--keys keys.jsonl`; or let everybody use the model with `--allow-anonymous`"
    )]
    Unprotected {
        /// Host and port.
        address: String,
    },
    /// Two models have the same name.
    #[error("two models are named `{name}`; give one of them another name in `[[serve.models]]`")]
    RepeatedName {
        /// The name.
        name: String,
    },
    /// The base of an adapter cannot be used.
    #[error("the adapter `{name}` cannot be loaded over `{base}`, which {reason}")]
    AdapterBase {
        /// The name of the adapter.
        name: String,
        /// The name of its base.
        base: String,
        /// Why not.
        reason: &'static str,
    },
    /// Loading a model panicked, as it does when memory runs out.
    #[error(
        "the model `{name}` cannot be loaded: the log has the panic; if memory ran out, free some and load it again"
    )]
    LoadPanicked {
        /// The name of the model.
        name: String,
    },
    /// The file of keys cannot be read or written.
    #[error("{}{}: {reason}", path.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Keys {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// An application of the web page is invalid.
    #[error("{}: {reason}", path.display())]
    Application {
        /// The file, or the folder.
        path: PathBuf,
        /// What is wrong, with the key.
        reason: String,
    },
    /// A certificate or its private key cannot be used.
    #[error("{}: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The server could not be started.
    #[error("cannot {operation}")]
    Start {
        /// The operation that failed.
        operation: &'static str,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// A running server is not ready.
    #[error("the server at {address} is not ready: {reason}")]
    NotReady {
        /// Host and port.
        address: String,
        /// What it answers, or why it cannot be asked.
        reason: String,
    },
    /// A request of the deployment check was not answered.
    #[error("deployment check: {request} was not answered")]
    Unanswered {
        /// Method and path.
        request: &'static str,
        /// The client's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A request of the deployment check got a wrong answer.
    #[error("deployment check: {request} should answer {expected}, but answered {found}")]
    WrongAnswer {
        /// Method and path.
        request: &'static str,
        /// The expected answer.
        expected: String,
        /// The answer.
        found: String,
    },
    /// A record cannot be written as JSON.
    #[error("cannot write JSON")]
    Json(#[from] serde_json::Error),
    /// The caller cancelled.
    #[error("interrupted")]
    Interrupted,
    /// The model cannot be loaded.
    #[error(transparent)]
    Generate(#[from] generate::Error),
    /// An artifact cannot be read or written.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
}

impl From<model::Error> for Error {
    fn from(error: model::Error) -> Self {
        Self::Generate(error.into())
    }
}

/// Returns an error's text with those of its causes.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        // Some errors repeat their cause.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text.trim_end_matches('.').to_owned()
}
