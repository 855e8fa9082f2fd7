//! `serve`: a model over HTTP until Ctrl-C.

use std::path::Path;

use anyhow::Context as _;
use artifact::Cancel;

use crate::cli::ServeArgs;
use crate::platform::interrupt;
use crate::ui::console::Console;

use super::print_out;

/// Runs the command.
pub fn run(arguments: &ServeArgs) -> anyhow::Result<()> {
    let console = Console::new();
    super::log_to(&console, "serve::worker=info");
    let model = super::model(&arguments.model, &arguments.store)?;
    let run = model.config.unwrap_or_default();
    let device = arguments.device.as_deref().unwrap_or(&run.device);
    let mut config = run.serve;
    if let Some(host) = &arguments.host {
        config.host.clone_from(host);
    }
    if let Some(port) = arguments.port {
        config.port = port;
    }
    let cancel = interrupt::listen(move || console.line("Draining in-flight requests."))?;
    until_stopped(&model.folder, &config, device, &cancel)
}

/// Prints the address, and serves the model in `folder` until `cancel` is requested.
pub fn until_stopped(folder: &Path, config: &serve::Config, device: &str, cancel: &Cancel) -> anyhow::Result<()> {
    let listener = serve::bind(config)?;
    let address = listener.local_addr().context("cannot determine the address of the server")?;
    print_out!("serving {} at http://{address}; Ctrl-C stops it", config.model_name)?;
    Ok(serve::serve_on(listener, folder, config, device, cancel)?)
}
