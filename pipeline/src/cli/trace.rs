//! Arguments of `trace`.

use std::num::NonZeroUsize;

use clap::Args;

use super::StoreArgs;

/// Arguments of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// A run's name, a tag, its folder, or `latest`
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The text [default: standard input]
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,
    /// The fewest tokens of a passage [default: 8]
    #[arg(long, value_name = "N")]
    pub min_tokens: Option<NonZeroUsize>,
    /// The most passages, the least likely by chance first [default: 20]
    #[arg(long, value_name = "N")]
    pub passages: Option<usize>,
    /// The most documents that are listed for each passage [default: 3]
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    /// Print JSON instead, with the places of passages in bytes and in characters
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}
