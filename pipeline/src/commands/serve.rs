//! `serve`: a model over HTTP until Ctrl-C.

use crate::cli::ServeArgs;
use crate::console::Console;
use crate::interrupt;

/// Runs the command.
pub fn run(arguments: &ServeArgs) -> anyhow::Result<()> {
    let console = Console::new();
    super::log_to(&console);
    let model = super::model(&arguments.model, &arguments.store)?;
    let mut config = model.config.map(|config| config.serve).unwrap_or_default();
    if let Some(host) = &arguments.host {
        config.host.clone_from(host);
    }
    if let Some(port) = arguments.port {
        config.port = port;
    }
    config.validate()?;
    let cancel = interrupt::listen(move || console.line("answering what was asked, then stopping"))?;
    Ok(serve::serve(&model.folder, &config, &arguments.device, &cancel)?)
}
