//! The commands about data and their arguments.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::StoreArgs;

/// The commands about data.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// List the datasets
    Ls,
    /// Inspect an address or a folder, and write a dataset.toml for it in datasets/
    #[command(after_help = "\
Examples:
  pipeline data add ~/notes
  pipeline data add datasets/roneneldan/TinyStories --name stories
  pipeline data add https://example.org/reviews.csv.gz --licence CC-BY-4.0
  pipeline data add git+https://example.org/code.git@v1.2")]
    Add(AddArgs),
    /// Fetch remote sources and record their digests in dataset.lock
    #[command(after_help = "\
Examples:
  pipeline data lock stories
  pipeline data lock stories --update         fetch all of it again, and print what changed")]
    Lock(LockArgs),
    /// Write the dataset card: sources, licences, documents, bytes and tokens, as Markdown
    #[command(after_help = "Example:\n  pipeline data card stories")]
    Card(CardArgs),
    /// Page through the documents of a dataset, or through the tokens of a run and which of them are learned
    #[command(after_help = "\
Examples:
  pipeline data peek rust-crates --page 3
  pipeline data peek latest --tokens                  what the model learns, and what is only context
  pipeline data peek latest --tokens --split validation --json")]
    Peek(PeekArgs),
    /// Show the lengths, licences, languages and duplicates of a dataset
    #[command(after_help = "Example:\n  pipeline data stats rust-crates")]
    Stats(StatsArgs),
    /// Print which documents and tokens other thresholds would keep, from recorded measurements; reads no text
    #[command(after_help = "\
Examples:
  pipeline data what-if gopher_quality.min_words=30
  pipeline data what-if fineweb.max_short_line_fraction=false c4.min_sentences=3")]
    WhatIf(WhatIfArgs),
    /// Page through dropped documents, with the reason and the measured value
    #[command(after_help = "\
Examples:
  pipeline data dropped
  pipeline data dropped --by gopher_repetition --page 2")]
    Dropped(DroppedArgs),
}

/// Arguments of `data add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// A file, folder or glob; an address of HTTP, an object store, git or the Hugging Face Hub
    pub address: String,
    /// The dataset's name [default: the last part of the address]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The licence of its text, as an SPDX expression
    #[arg(long, value_name = "LICENCE")]
    pub licence: Option<String>,
    /// Never use the network
    #[arg(long)]
    pub offline: bool,
}

/// Arguments of `data lock`.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// A folder with a dataset.toml, or its name in datasets/
    pub name: String,
    /// Fetch locked sources again and record their present digests: these sources, or all
    #[arg(long, value_name = "SOURCE", num_args = 0..)]
    pub update: Option<Vec<String>>,
}

/// Arguments of `data card`.
#[derive(Debug, Args)]
pub struct CardArgs {
    /// A folder with a dataset.toml, or its name in datasets/
    pub name: String,
    /// The file to write [default: CARD.md in the dataset's folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Never use the network
    #[arg(long)]
    pub offline: bool,
}

/// Which corpus.
#[derive(Debug, Args)]
pub struct CorpusArgs {
    /// A folder with a dataset.toml, or its name in datasets/; else a run's name, or `latest`
    #[arg(default_value = "latest")]
    pub name: String,
    /// Never use the network
    #[arg(long)]
    pub offline: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `data peek`.
#[derive(Debug, Args)]
pub struct PeekArgs {
    #[command(flatten)]
    pub corpus: CorpusArgs,
    /// The page
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub page: usize,
    /// Documents per page
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub count: usize,
    /// Show whole texts
    #[arg(long)]
    pub full: bool,
    /// Show the tokens of a run as text: learned text (it counts towards the loss), other text and special tokens
    #[arg(long)]
    pub tokens: bool,
    /// The split whose tokens to show
    #[arg(long, value_enum, default_value_t, requires = "tokens")]
    pub split: SplitName,
    /// Print a JSON object per document, with the token ids
    #[arg(long, requires = "tokens")]
    pub json: bool,
}

/// A split of the tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum SplitName {
    /// What training reads.
    #[default]
    Train,
    /// What the loss is measured on during training.
    Validation,
    /// What is only evaluated at the end.
    Test,
}

impl SplitName {
    /// Returns the name in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Arguments of `data stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    #[command(flatten)]
    pub corpus: CorpusArgs,
}

/// Arguments of `data what-if`.
#[derive(Debug, Args)]
pub struct WhatIfArgs {
    /// A key of [preprocess] and its value: `gopher_quality.min_words=30` (false disables a criterion)
    #[arg(value_name = "KEY=VALUE", required = true)]
    pub overrides: Vec<String>,
    /// A run's name, a tag, its folder, or `latest`
    #[arg(long, default_value = "latest")]
    pub run: String,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `data dropped`.
#[derive(Debug, Args)]
pub struct DroppedArgs {
    /// Only documents that this step dropped: `gopher_repetition`, `near_duplicates`, …
    #[arg(long, value_name = "STEP")]
    pub by: Option<String>,
    /// The page
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub page: usize,
    /// Documents per page
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub count: usize,
    /// Show whole texts
    #[arg(long)]
    pub full: bool,
    /// A run's name, a tag, its folder, or `latest`
    #[arg(long, default_value = "latest")]
    pub run: String,
    #[command(flatten)]
    pub store: StoreArgs,
}
