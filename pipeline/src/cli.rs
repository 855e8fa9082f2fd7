//! The command line and its help.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config;
use crate::platform::host::VERSION;
use crate::run::plan::Selection;

/// From raw data to a served generative model, reproducibly.
#[derive(Debug, Parser)]
#[command(name = "pipeline", version = VERSION, max_term_width = 100, after_help = "\
Examples:
  pipeline run pipeline.toml                        from raw data to a served model
  pipeline run --set train.learning_rate=3e-4       again, with another learning rate
  pipeline generate latest \"fn main() {\"            complete a prompt with the newest model
  pipeline chat latest                              talk with it
  pipeline serve latest                             serve it at http://127.0.0.1:8080

`pipeline help <COMMAND>` has details and examples.")]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run every stage whose inputs changed: collect, preprocess, train, optimize, evaluate, generate, serve
    #[command(after_help = "\
Examples:
  pipeline run                                      the pipeline.toml of this folder
  pipeline run --until train                        stop when the checkpoint is written
  pipeline run --from train --force                 train again although nothing changed
  pipeline run experiments/runs/code-001/pipeline.toml    repeat a run from its own folder

Stages whose inputs did not change are skipped. Ctrl-C stops at the next safe point, and the same command resumes; a \
second Ctrl-C aborts.")]
    Run(RunArgs),
    /// Print what `run` would do, why, and what training would cost; changes nothing
    #[command(after_help = "\
Examples:
  pipeline plan
  pipeline plan --set train.model.n_layer=12        what a deeper model would cost")]
    Plan(PlanArgs),
    /// List the runs
    Runs(StoreArgs),
    /// Show a run: its stages, figures and files
    #[command(after_help = "Example:\n  pipeline show latest")]
    Show(ShowArgs),
    /// Verify a run: rehash every artifact, or repeat the run and compare
    #[command(after_help = "\
Examples:
  pipeline verify latest                            do the files still have their digests?
  pipeline verify latest --rerun                    does a repeated run give the same bytes?")]
    Verify(VerifyArgs),
    /// Complete prompts with a model, in the terminal
    #[command(after_help = "\
Examples:
  pipeline generate latest \"fn main() {\"
  pipeline generate latest --temperature 0 --max-tokens 50 < prompt.txt
  pipeline generate latest --prompts prompts.txt --out samples.jsonl
  pipeline generate latest --regex \"(yes|no)\" \"Is it? \"
  pipeline generate latest --chat --system \"Answer in French.\" \"Who are you?\"")]
    Generate(GenerateArgs),
    /// Talk with a model in the terminal
    #[command(after_help = "\
Examples:
  pipeline chat latest
  pipeline chat latest --system \"Answer in French.\" --temperature 0.5

/help lists the commands of a conversation, such as /regenerate, /save and /load. Ctrl-C stops an answer.")]
    Chat(ChatArgs),
    /// Serve a model over HTTP, with OpenAI's completions and chat API and a web page
    #[command(after_help = "\
Examples:
  pipeline serve latest
  pipeline serve small code-001 --port 9000
  pipeline serve small --adapter support=experiments/runs/support
  pipeline serve --new-key alice
  pipeline serve --check --port 9000
  pipeline serve latest --host 0.0.0.0 --keys keys.jsonl --tls-cert cert.pem --tls-key key.pem
  curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \\
    -d '{\"prompt\": \"fn main() {\", \"max_tokens\": 50}'
  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'")]
    Serve(ServeArgs),
    /// Import a model from the Hub, a folder, a GGUF file or a run; checks a lossless round trip
    #[command(after_help = "\
Examples:
  pipeline import HuggingFaceTB/SmolLM2-135M
  pipeline import openai-community/gpt2@main --name small
  pipeline import ~/models/mine
  pipeline import ~/models/mine-q8_0.gguf

Then: pipeline generate small \"…\", pipeline serve small, or init = \"small\" in [train]. The commit is recorded \
in model.lock.")]
    Import(ImportArgs),
    /// Export a model for transformers or llama.cpp and what builds on them, and compare the two
    #[command(after_help = "\
Examples:
  pipeline export latest --format hf
  pipeline export code-001 --format hf --output mine --dtype bf16
  pipeline export latest --format gguf --quant q8_0")]
    Export(ExportArgs),
    /// Inspect datasets and filtering decisions
    #[command(subcommand)]
    Data(DataCommand),
    /// Write a commented pipeline.toml for your own files into the current folder
    #[command(after_help = "Example:\n  cd ~/my-project && pipeline init && pipeline run")]
    Init(InitArgs),
    /// Print the JSON schema of pipeline.toml, or the reference of its keys
    #[command(after_help = "Example:\n  pipeline schema > pipeline.schema.json")]
    Schema(SchemaArgs),
    /// Show what this machine has: devices, cores, memory, disk, caches, and whether the data is available
    Doctor(DoctorArgs),
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration
    #[arg(value_name = "CONFIG", default_value = config::FILE_NAME)]
    pub config: PathBuf,
    /// Override a key: train.learning_rate=3e-4 (may be repeated)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Never use the network: downloads must be in the cache
    #[arg(long)]
    pub offline: bool,
    /// Fail if a remote source differs from dataset.lock, or is not in it
    #[arg(long)]
    pub locked: bool,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub selection: Selection,
    /// Serve the model when all stages are done, until Ctrl-C
    #[arg(long)]
    pub serve: bool,
    /// Process shard I of N of the per-document steps of preprocess. Run on several machines with a shared store; a
    /// later run merges the shards. auto/N takes I from a Slurm array or an indexed Kubernetes job
    #[arg(long, value_name = "I/N", conflicts_with_all = ["serve", "from", "until", "force"])]
    pub shard: Option<String>,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub selection: Selection,
}

/// Which store.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The folder of artifacts and runs [default: that of ./pipeline.toml, else ./experiments]
    #[arg(long, value_name = "FOLDER")]
    pub store: Option<PathBuf>,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A run's name, its folder, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A run's name, its folder, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
    /// Repeat the run in a temporary store and compare the digest of each artifact
    #[arg(long)]
    pub rerun: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// A run's name, its folder, `latest`, a folder with a model in Hugging Face layout, or a GGUF file
    pub model: String,
    /// The prompt; read from standard input if neither it nor --prompts is given, as a conversation with --chat on a
    /// terminal
    pub prompt: Option<String>,
    /// A file of prompts: one per line, or the `prompt` or `messages` of each object in a `.jsonl` file
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// Treat the prompt as a user's message and answer it, instead of continuing it
    #[arg(long)]
    pub chat: bool,
    /// Write the samples to this file as JSON lines instead of printing them
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub grammar: GrammarArgs,
    #[command(flatten)]
    pub drafts: DraftArgs,
    /// Where to compute: auto, cpu, wgpu, … [default: the run's configuration's, else auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// A run's name, its folder, `latest`, a folder with a model in Hugging Face layout, or a GGUF file
    pub model: String,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub grammar: GrammarArgs,
    #[command(flatten)]
    pub drafts: DraftArgs,
    /// Where to compute: auto, cpu, wgpu, … [default: the run's configuration's, else auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Sampling settings; the defaults are those of the run's configuration, then those of the model's
/// `generation_config.json`.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Stop after this many tokens
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// 0 takes the most likely token; higher is more varied
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Sample from the K most likely tokens (0: all)
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Sample from the most likely tokens whose probabilities add up to P
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Sample from tokens with at least this fraction of the most likely one's probability
    #[arg(long, value_name = "M")]
    pub min_p: Option<f32>,
    /// Sample from the tokens closest to the expected information whose probabilities add up to P
    #[arg(long, value_name = "P")]
    pub typical_p: Option<f32>,
    /// Above 1, makes tokens that have occurred less likely
    #[arg(long, value_name = "R")]
    pub repetition_penalty: Option<f32>,
    /// Above 0, makes a token of the text less likely each time it occurs
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub frequency_penalty: Option<f32>,
    /// Above 0, makes every token of the text less likely
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub presence_penalty: Option<f32>,
    /// Add BIAS to the logit of a token, by its id (may be repeated)
    #[arg(long, value_name = "TOKEN=BIAS", value_parser = logit_bias)]
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// End before this text (may be repeated)
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// End before this token, by its id (may be repeated)
    #[arg(long, value_name = "TOKEN")]
    pub stop_token: Vec<u32>,
    /// Keep only the last N tokens of a prompt; by default a prompt longer than the model's context is an error
    #[arg(long, value_name = "N")]
    pub truncate_prompt_tokens: Option<usize>,
    /// The system prompt of the conversation; `generate` then answers the prompt as with --chat
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

/// What the text must obey: at most one.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub struct GrammarArgs {
    /// Write JSON that is valid after the schema in this file
    #[arg(long, value_name = "FILE")]
    pub json_schema: Option<PathBuf>,
    /// Write a text that this regular expression matches as a whole
    #[arg(long, value_name = "REGEX")]
    pub regex: Option<String>,
    /// Write a text of the grammar in this file, in the Lark notation of llguidance
    #[arg(long, value_name = "FILE")]
    pub grammar: Option<PathBuf>,
}

/// Speculative decoding, which makes texts faster and changes none.
#[derive(Debug, Default, Args)]
pub struct DraftArgs {
    /// A smaller model with the same tokenizer that proposes tokens: a run, an imported model, or a folder
    #[arg(long, value_name = "MODEL")]
    pub draft_model: Option<String>,
    /// Propose up to N tokens at once, by the draft model or else from earlier text
    /// [default: the configuration's; 4 with --draft-model]
    #[arg(long, value_name = "N")]
    pub draft_tokens: Option<usize>,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A run's name, its folder, `latest`, a folder with a model in Hugging Face layout, or a GGUF file. Several are
    /// served side by side under their own names; without one, those of `[[serve.models]]`
    #[arg(value_name = "MODEL")]
    pub models: Vec<String>,
    /// Serve an adapter of the model beside it, under a name: the folder of one in PEFT's layout, or a run that trained
    /// one (may be repeated)
    #[arg(long = "adapter", value_name = "NAME=ADAPTER", value_parser = adapter, requires = "models")]
    pub adapters: Vec<(String, String)>,
    /// The configuration whose `[serve]` to use [default: that of the model's run; without a model, pipeline.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address to listen on [default: the configuration's, else 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// The port to listen on; 0 picks a free one [default: the configuration's, else 8080]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Where to compute: auto, cpu, wgpu, … [default: the run's configuration's, else auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Require a key of this file for every request
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Let everybody who can reach the address use the model, also from other machines
    #[arg(long)]
    pub allow_anonymous: bool,
    /// The certificate chain for HTTPS, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A folder of applications for the web page, one TOML file each, besides those of the program
    #[arg(long, value_name = "DIR")]
    pub applications: Option<PathBuf>,
    /// Ask the server at `--host` and `--port` whether it is ready, over HTTP or else TLS, and exit: with 0 if it is
    #[arg(long, conflicts_with_all = ["models", "keys", "tls_cert", "allow_anonymous", "new_key"])]
    pub check: bool,
    /// Make a key, add its hash to the file of `--keys` [default: keys.jsonl], print the secret, and exit
    #[arg(long, value_name = "NAME", conflicts_with_all = ["models", "host", "port", "tls_cert", "allow_anonymous"])]
    pub new_key: Option<String>,
    /// What the new key may be used for: inference, admin
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "inference", requires = "new_key")]
    pub scope: Vec<ScopeArg>,
    /// How many requests the new key may make in a minute [default: no limit]
    #[arg(long, value_name = "N", requires = "new_key")]
    pub requests_per_minute: Option<NonZeroU32>,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Parses the name and the place of an adapter.
fn adapter(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((name, place)) if !(name.is_empty() || name.contains('/') || place.is_empty()) => {
            Ok((name.to_owned(), place.to_owned()))
        }
        _ => Err("must be a name without a slash, `=`, and a folder or a run".to_owned()),
    }
}

/// A scope of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeArg {
    /// Generating text.
    Inference,
    /// Loading and unloading models.
    Admin,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A folder in Hugging Face layout, a GGUF file, a model of the Hub (owner/name or owner/name@revision), or a run
    pub model: String,
    /// The name to give it [default: the last part of its path]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Resolve the revision again, even if model.lock has it
    #[arg(long, conflicts_with = "offline")]
    pub update: bool,
    /// Never use the network: the model must be in the cache
    #[arg(long)]
    pub offline: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A run's name, its folder, `latest`, an imported model, or a folder with a model
    pub model: String,
    /// The layout: hf, Hugging Face's; or gguf, llama.cpp's
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: ExportFormat,
    /// The folder or GGUF file to write [default: one named after the model, in exports]
    #[arg(long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// The number type of the weights in a folder: f32, bf16 or f16 [default: that of the model]
    #[arg(long, value_name = "DTYPE", value_parser = dtype)]
    pub dtype: Option<model::Dtype>,
    /// The number type of the weights in a GGUF file: f32, f16, bf16, `q8_0`, `q4_0`, `q4_k_m` or `q6_k`
    /// [default: that of the model]
    #[arg(long, value_name = "TYPE", conflicts_with = "dtype")]
    pub quant: Option<model::gguf::Quantization>,
    /// Replace the model in a folder that is not empty, or the file; other files stay
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// A layout to export to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// config.json, safetensors and the tokenizer's files
    Hf,
    /// One file with the weights and the tokenizer
    Gguf,
}

fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let parts = text.split_once('=').and_then(|(token, bias)| Some((token.parse().ok()?, bias.parse().ok()?)));
    parts
        .filter(|(_, bias): &(u32, f32)| bias.is_finite())
        .ok_or_else(|| "expected the id of a token, `=` and a number".to_owned())
}

fn dtype(text: &str) -> Result<model::Dtype, String> {
    let named = model::Dtype::ALL.into_iter().find(|dtype| dtype.name() == text);
    named.ok_or_else(|| "expected f32, bf16 or f16".to_owned())
}

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
    /// A run's name, its folder, or `latest`
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
    /// A run's name, its folder, or `latest`
    #[arg(long, default_value = "latest")]
    pub run: String,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder to write it into
    #[arg(default_value = ".")]
    pub folder: PathBuf,
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Print the reference as Markdown instead
    #[arg(long)]
    pub markdown: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The configuration whose data to look for, if it exists
    #[arg(value_name = "CONFIG", default_value = config::FILE_NAME)]
    pub config: PathBuf,
}
