//! Arguments of `judge`.

use std::path::PathBuf;

use clap::Args;

use super::StoreArgs;
use super::generation::SamplingArgs;

/// Arguments of `judge`.
#[allow(clippy::struct_excessive_bools, reason = "independent options")]
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// A run's name, a tag, its folder, `latest`, a folder with a model in Hugging Face layout, or a GGUF file
    #[arg(value_name = "A", required_unless_present = "table", requires = "b")]
    pub a: Option<String>,
    /// The model to judge it against
    #[arg(value_name = "B")]
    pub b: Option<String>,
    /// A file of prompts: one per line, or the `prompt` or `messages` of each object in a `.jsonl` file; `-` reads
    /// lines from standard input [default: those of the configuration of A, else of B]
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Ask at most N prompts
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Treat the prompts as users' messages and answer them, instead of continuing them
    #[arg(long)]
    pub chat: bool,
    /// Judge on a page in the browser instead of in the terminal
    #[arg(long)]
    pub page: bool,
    /// The port of the page, on this machine only; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8090, requires = "page")]
    pub port: u16,
    /// Print the ratings of all models that were judged, and ask nothing
    #[arg(long, conflicts_with_all = ["a", "b", "prompts", "limit", "page"])]
    pub table: bool,
    /// Print the ratings as JSON
    #[arg(long, requires = "table")]
    pub json: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Where to compute: auto, cpu, wgpu, … [default: the runs' configurations', else auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    #[command(flatten)]
    pub store: StoreArgs,
}
