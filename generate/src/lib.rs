//! Stage generate, and the text generation library that `evaluate` and `serve` call.
//!
//! In: a folder in the Hugging Face layout (a bundle or a checkpoint) and prompts. Out: text, streamed while it is
//! generated, and `samples.jsonl`. Decoding and sampling are those of [`inference`]; this crate adds text: prompts, the
//! chat template, detokenization and stop strings. It never trains, and knows neither HTTP nor the terminal.
//!
//! Modules in reading order: `config`, `options` (settings of one completion), `prompt`, `generator` (the model with
//! its tokenizer), `session` (prompt to completion), `grammar` (constraints on the text), `text_stream` and
//! `stop_strings` (tokens to text), `prompts`, `stage`.

mod config;
mod error;
mod generator;
mod grammar;
mod options;
mod prompt;
mod prompts;
mod session;
mod stage;
mod stop_strings;
mod text_stream;

pub use config::Config;
pub use error::Error;
pub use generator::{Completion, Generator};
pub use grammar::{Grammar, GrammarLimits, Part, Tagged};
pub use inference::{Constraint, FinishReason, Guidance, Logprobs, Sampling};
pub use options::{CompletionOptions, SamplingChoice};
pub use prompt::{Prompt, negative_conversation};
pub use prompts::{read_prompts, unmarked};
pub use session::Session;
pub use stage::{NAME, VERSION, inputs, run};
pub use text_stream::TextStream;
pub use tokenizer::{Conversation, Message};
