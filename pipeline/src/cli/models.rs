//! Arguments of `import` and `export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::StoreArgs;

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
    /// A run's name, a tag, its folder, `latest`, an imported model, or a folder with a model
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

fn dtype(text: &str) -> Result<model::Dtype, String> {
    let named = model::Dtype::ALL.into_iter().find(|dtype| dtype.name() == text);
    named.ok_or_else(|| "expected f32, bf16 or f16".to_owned())
}
