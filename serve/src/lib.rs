//! Stage serve: the HTTP server and its web page.
//!
//! In: a folder in the Hugging Face layout (a bundle or a checkpoint). Out: a server with OpenAI's completions and chat
//! API, and `service.json`, the record of a deployment check against a real server. Only this crate has an HTTP server;
//! requests are run together, in order of arrival, by [`inference::Scheduler`].
//!
//! Modules in reading order: `config`, `server` (start-up and graceful shutdown), `connections` (the accept loop, time
//! limits, TLS, draining), `routes` (one table of them), `host_check` (Host and Origin checks), `keys` (who may do
//! what, and how often), `models` (loaded and unloaded at run time), `request` and `chat_request` (parsing and
//! validation), `parameters`, `prompt`, `structured_output` and `json_body` (what the routes have in common), `work`,
//! `job` and `worker` (the queue and the thread that generates), `texts` (what the thread is generating),
//! `paced_events` and `answer` (whole or streamed), `tool_calls` (in an answer's text), `responses` (another shape of
//! them), `embeddings`, `attention`, `passages` (of the training data), `response`, `logprobs` and `api_error` (JSON
//! bodies), `metrics`, `spans` (of traces), `applications` (of the web page, whose files are in `page`), `ready_check`
//! (of a running server), `deployment_check` (the stage), `pages` (a server of what its caller makes).

mod answer;
mod api_error;
mod applications;
mod attention;
mod chat_request;
mod config;
mod connections;
mod deployment_check;
mod embeddings;
mod error;
mod event;
mod host_check;
mod job;
mod json_body;
mod keys;
mod logprobs;
mod metrics;
mod models;
mod paced_events;
mod pages;
mod parameters;
mod passages;
mod prompt;
mod random;
mod ready_check;
mod request;
mod response;
mod responses;
mod routes;
mod server;
mod spans;
mod structured_output;
mod texts;
mod tool_calls;
mod work;
mod worker;

pub use config::{Config, ModelEntry};
pub use connections::install_tls_provider;
pub use deployment_check::{NAME, VERSION, run};
pub use error::Error;
pub use keys::{Access, NewKey, Scope, new_key};
pub use models::ModelFolder;
pub use pages::{Page, PageRequest, serve_pages};
pub use ready_check::check_ready;
pub use routes::{Route, routes};
pub use server::{bind, serve, serve_models, serve_on};
pub use spans::SPAN_TARGET;
