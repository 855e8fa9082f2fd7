//! The command line and its help.

pub mod data;
pub mod evaluate;
pub mod experiments;
pub mod generation;
pub mod judge;
pub mod models;
pub mod serve;
pub mod trace;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config;
use crate::platform::host::VERSION;
use crate::run::plan::Selection;

use data::DataCommand;
use evaluate::EvaluateArgs;
use experiments::{
    DiffArgs, ExportRunArgs, GcArgs, ImportRunArgs, ReproduceArgs, RmArgs, RunsArgs, ShowArgs, SweepArgs, TagArgs,
    UiArgs, WatchArgs,
};
use generation::{ChatArgs, GenerateArgs};
use judge::JudgeArgs;
use models::{ExportArgs, ImportArgs};
use serve::ServeArgs;
use trace::TraceArgs;

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
    /// Run every stage whose inputs changed: collect, preprocess, train, optimize, index, evaluate, generate, serve
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
    #[command(after_help = "\
Examples:
  pipeline runs --limit 10                          the newest
  pipeline runs --filter status=failed
  pipeline runs --filter 'train.model.n_layer>=4' --sort validation_loss --limit 5
  pipeline runs --json | jq '.[] | [.name, .status]'

Keys are those of the configuration and the figures of the stages; `pipeline show --json` prints both.")]
    Runs(RunsArgs),
    /// Show a run: its stages, figures and files; of one that stopped, where, why and what to do
    #[command(after_help = "Example:\n  pipeline show latest")]
    Show(ShowArgs),
    /// Watch a run: its stage, loss curve and speed, until it ends
    #[command(after_help = "Example:\n  pipeline watch                                    in a second terminal")]
    Watch(WatchArgs),
    /// Serve a read-only page of the runs: curves, also of a running training, reports and comparisons
    #[command(after_help = "Example:\n  pipeline ui                                       at http://127.0.0.1:8090")]
    Ui(UiArgs),
    /// Compare two runs: configuration, data, figures, samples, and which is better
    #[command(after_help = "\
Examples:
  pipeline diff code-001 code-002
  pipeline diff best latest --html diff.html        one page, for a browser or a colleague")]
    Diff(DiffArgs),
    /// Ask which of two models' anonymous answers is better, and rate the models by the votes
    #[command(after_help = "\
Examples:
  pipeline judge code-001 code-002                  in the terminal, with the prompts of code-001
  pipeline judge best models/other --prompts prompts.txt --seed 2
  pipeline judge code-001 code-002 --page           in a browser
  pipeline judge --table                            the ratings of all models that were judged

Each vote is written to votes.jsonl in the store at once: the same command continues where a session ended, and \
--seed N asks with other answers.")]
    Judge(JudgeArgs),
    /// Run many configurations and compare them: a grid, at random, or by successive halving
    #[command(after_help = "\
Examples:
  pipeline sweep sweep.toml --plan                  which trials there are
  pipeline sweep sweep.toml --seeds 5               each with 5 seeds: means with 95 % intervals

A sweep.toml for the pipeline.toml beside it:
  [parameters]
  train.learning_rate = [1e-3, 2e-3, 4e-3]
  train.model.n_layer = [2, 4]

Stages that trials have in common run once. A sweep that was stopped or killed continues with the same command.")]
    Sweep(SweepArgs),
    /// Give a run a tag, which names it everywhere and moves
    #[command(after_help = "\
Examples:
  pipeline tag code-007 best
  pipeline serve best
  pipeline tag code-007 best --remove")]
    Tag(TagArgs),
    /// Remove runs; their artifacts stay until `gc`
    #[command(after_help = "Example:\n  pipeline rm code-003 code-004")]
    Rm(RmArgs),
    /// List or remove the artifacts that no run, imported model or unfinished work needs
    #[command(after_help = "\
Examples:
  pipeline gc                                       what would be removed
  pipeline gc --yes                                 remove it")]
    Gc(GcArgs),
    /// Write a run with all its artifacts as one archive
    #[command(after_help = "Example:\n  pipeline export-run best --out best.tar.zst")]
    ExportRun(ExportRunArgs),
    /// Import a run from an archive of `export-run`; verifies every file
    #[command(after_help = "Example:\n  pipeline import-run best.tar.zst")]
    ImportRun(ImportRunArgs),
    /// Verify a run: rehash every artifact, or repeat the run and compare
    #[command(after_help = "\
Examples:
  pipeline verify latest                            do the files still have their digests?
  pipeline verify latest --rerun                    does a repeated run give the same bytes?")]
    Verify(VerifyArgs),
    /// Repeat a run in a temporary store, and say whether its bits agree, or only its figures, and why
    #[command(after_help = "Example:\n  pipeline reproduce latest")]
    Reproduce(ReproduceArgs),
    /// Ask a model tasks: multiple choice, last words, exact answers, with scores as lm-evaluation-harness has them
    #[command(after_help = "\
Examples:
  pipeline evaluate latest
  pipeline evaluate latest --tasks english,my-task.toml --num-fewshot 3
  pipeline evaluate openai-community/gpt2 --tasks lambada.yaml --limit 100 --json
  pipeline evaluate ~/models/mine-q8_0.gguf --text held-out.txt
  pipeline evaluate http://127.0.0.1:8080 --tasks code

Answers are kept in the store, so that the same command continues after an interruption.")]
    Evaluate(EvaluateArgs),
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
    /// Find the passages of a text that occur in a run's training data: where, and under which licence
    #[command(after_help = "\
Examples:
  pipeline trace latest \"fn main() {\"
  pipeline generate latest \"fn \" | pipeline trace latest --min-tokens 12
  pipeline trace latest --json < answer.txt

A passage is found as the tokens of training. The stage index has built what it needs; index.max_tokens of the \
configuration limits for how much training data it does.")]
    Trace(TraceArgs),
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

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A run's name, a tag, its folder, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
    /// Repeat the run in a temporary store and compare the digest of each artifact
    #[arg(long)]
    pub rerun: bool,
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
    /// Print the schema of `report.json` instead
    #[arg(long, conflicts_with = "markdown")]
    pub report: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The configuration whose data to look for, if it exists
    #[arg(value_name = "CONFIG", default_value = config::FILE_NAME)]
    pub config: PathBuf,
}
