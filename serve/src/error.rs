//! Errors of this crate.

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
    /// The server could not be started.
    #[error("cannot {operation}")]
    Start {
        /// The operation that failed.
        operation: &'static str,
        /// The I/O error.
        #[source]
        source: std::io::Error,
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
    /// The record of the deployment check cannot be written as JSON.
    #[error("cannot write the deployment check as JSON")]
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
