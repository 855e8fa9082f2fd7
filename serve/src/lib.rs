//! Stage `serve`: the HTTP server and its web page.
//!
//! In: a folder in the Hugging Face layout (a bundle or a checkpoint). Out: a server that speaks OpenAI's completions,
//! and `service.json`, the record of a deployment check against a real one. Only this crate knows HTTP; text is made by
//! [`generate`], one request at a time, in the order the requests came.
//!
//! Reading order: `server` (life and death), `routes` (which path does what), `request` (what clients may ask),
//! `completions` (answers, whole or streamed), `queue` (the thread that writes), `guard` (whose requests are heard),
//! `check` (the stage).

mod check;
mod completions;
mod config;
mod guard;
mod problem;
mod queue;
mod request;
mod response;
mod routes;
mod server;

pub use check::{NAME, VERSION, run};
pub use config::Config;
pub use server::{bind, serve, serve_on};

/// What can go wrong around a server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration cannot be used.
    #[error("serve.{key} must be {expected}, not {found}")]
    Config {
        /// The key in the table `[serve]`.
        key: &'static str,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Another program listens there.
    #[error(
        "{address} is in use by another program; stop that one, or choose another port with `--port` or `serve.port` \
         (0 takes any free one)"
    )]
    AddressInUse {
        /// Host and port.
        address: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; `serve.host` must be an address of this machine")]
    Bind {
        /// Host and port.
        address: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The server could not be set up.
    #[error("cannot {operation}")]
    Start {
        /// What was tried.
        operation: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A request of the deployment check was not answered.
    #[error("deployment check: {request} was not answered")]
    Unanswered {
        /// Method and path.
        request: &'static str,
        /// What the client saw.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A request of the deployment check was answered wrongly.
    #[error("deployment check: {request} should answer {expected}, and answered {found}")]
    WrongAnswer {
        /// Method and path.
        request: &'static str,
        /// What would be right.
        expected: String,
        /// What came.
        found: String,
    },
    /// The record of the deployment check cannot be written as JSON.
    #[error("cannot write the deployment check as JSON")]
    Json(#[from] serde_json::Error),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The model cannot be loaded.
    #[error(transparent)]
    Generate(#[from] generate::Error),
    /// An artifact cannot be read or written.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
}
