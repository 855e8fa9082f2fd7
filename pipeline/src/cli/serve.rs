//! Arguments of `serve`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::StoreArgs;

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
    /// Require a key of this file, but for the page, `/health`, `/ready` and `/openapi.json`
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
    /// Serve models of runs that did not pass their gates, too
    #[arg(long)]
    pub force: bool,
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
