//! Arguments of `evaluate`.

use std::path::PathBuf;

use clap::Args;

use super::StoreArgs;

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct EvaluateArgs {
    /// A run's name, its folder, `latest`, an imported model, a folder with a model in Hugging Face layout, a GGUF
    /// file, a model of the Hub (owner/name), or the http(s) address of a server with OpenAI's completions API
    pub model: String,
    /// The tasks: english, chinese, code, `python_functions`, .toml files, or .yaml files of lm-evaluation-harness
    /// [default: those of the run's configuration, else those that come with this program]
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    pub tasks: Vec<String>,
    /// The number of examples before a question; a task that has 0 keeps it [default: each task's own, else 0]
    #[arg(long, value_name = "N")]
    pub num_fewshot: Option<usize>,
    /// Ask only the first N items of each task
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Let tasks run code that the model writes: without network, and with limits on time, memory, processes and files
    #[arg(long)]
    pub allow_code_execution: bool,
    /// Also measure the loss on the text in this file
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Print the results as JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write the answer to each item to this file as JSON lines
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Forget what the model answered before
    #[arg(long)]
    pub force: bool,
    /// The name of the model on a server [default: the first that it lists]
    #[arg(long, value_name = "NAME")]
    pub api_model: Option<String>,
    /// The key of a server
    #[arg(long, value_name = "KEY", env = "OPENAI_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Where to compute: auto, cpu, wgpu, … [default: the run's configuration's, else auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Never use the network: a model of the Hub must be in the cache
    #[arg(long)]
    pub offline: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}
