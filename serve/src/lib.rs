//! Stage serve: the HTTP server and its web page.
//!
//! In: a folder in the Hugging Face layout (a bundle or a checkpoint). Out: a server with OpenAI's completions and chat
//! API, and `service.json`, the record of a deployment check against a real server. Only this crate has an HTTP server;
//! requests are run together, in order of arrival, by [`inference::Scheduler`].
//!
//! Modules in reading order: `config`, `server` (start-up and graceful shutdown), `routes`, `host_check` (Host and
//! Origin checks), `request` and `chat_request` (parsing and validation), `job` and `worker` (the queue and the thread
//! that generates), `texts` (what the thread is generating), `answer` (whole or streamed), `response` and `api_error`
//! (JSON bodies), `deployment_check` (the stage).

mod answer;
mod api_error;
mod chat_request;
mod config;
mod deployment_check;
mod error;
mod host_check;
mod job;
mod request;
mod response;
mod routes;
mod server;
mod texts;
mod worker;

pub use config::Config;
pub use deployment_check::{NAME, VERSION, run};
pub use error::Error;
pub use server::{bind, serve, serve_on};
