//! `serve`: models over HTTP until Ctrl-C or SIGTERM.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use artifact::Cancel;
use serve::{ModelEntry, ModelFolder, NewKey, Scope};

use crate::cli::StoreArgs;
use crate::cli::serve::{ScopeArg, ServeArgs};
use crate::config::{self, Config, Loaded};
use crate::platform::interrupt;
use crate::run::stage::Stage;
use crate::run::{gates, names, record};
use crate::ui::console::Console;

use super::{Folder, Model, print_out};

/// Where `--new-key` puts a key without `--keys`.
const KEYS: &str = "keys.jsonl";

/// Runs the command.
pub fn run(arguments: &ServeArgs) -> anyhow::Result<()> {
    if let Some(name) = &arguments.new_key {
        return new_key(name, arguments);
    }
    if arguments.check {
        return check(arguments);
    }
    let console = Console::new();
    #[cfg(feature = "otel")]
    let traces = crate::platform::traces::Traces::from_environment(&console)?;
    #[cfg(feature = "otel")]
    let layer = traces.layer();
    #[cfg(not(feature = "otel"))]
    let layer = None;
    // The access log has a line for each request.
    super::log_and_trace(&console, &format!("serve=info,serve::texts=warn,{}=off", serve::SPAN_TARGET), layer);
    // What stands for a GGUF file must be there as long as its model may be loaded.
    let (models, _folders, run) = models(arguments)?;
    let device = arguments.device.as_deref().unwrap_or(&run.device);
    let mut config = run.serve;
    let draft_model = config.draft_model.as_ref().map(|name| super::model(name, &arguments.store)).transpose()?;
    config.draft_model = draft_model.as_ref().map(|model| model.folder.path().display().to_string());
    if let Some(host) = &arguments.host {
        config.host.clone_from(host);
    }
    if let Some(port) = arguments.port {
        config.port = port;
    }
    config.keys = arguments.keys.clone().or(config.keys);
    config.applications = arguments.applications.clone().or(config.applications);
    config.allow_anonymous |= arguments.allow_anonymous;
    if arguments.tls_cert.is_some() {
        config.tls_cert.clone_from(&arguments.tls_cert);
        config.tls_key.clone_from(&arguments.tls_key);
    }
    let cancel = interrupt::listen(move || console.line("Draining in-flight requests."))?;
    until_stopped(models, &config, device, &cancel)
}

/// Prints the address, and serves models until `cancel` is requested.
pub fn until_stopped(
    models: Vec<ModelFolder>,
    config: &serve::Config,
    device: &str,
    cancel: &Cancel,
) -> anyhow::Result<()> {
    let listener = serve::bind(config)?;
    let address = listener.local_addr().context("cannot determine the address of the server")?;
    let scheme = if config.tls_cert.is_some() { "https" } else { "http" };
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    print_out!("serving {} at {scheme}://{address}; Ctrl-C stops it", names.join(", "))?;
    Ok(serve::serve_models(listener, models, config, device, cancel)?)
}

/// Returns the model of a run, under the configured name.
pub fn one(folder: &Path, index: Option<PathBuf>, config: &serve::Config) -> Vec<ModelFolder> {
    vec![ModelFolder { name: config.model_name.clone(), folder: folder.to_owned(), base: None, index, load: true }]
}

/// Returns the models of the command line, else those of `[[serve.models]]`, their folders, and the configuration.
fn models(arguments: &ServeArgs) -> anyhow::Result<(Vec<ModelFolder>, Vec<Folder>, Config)> {
    let load = |path: &Path| config::load_without_data(path).map(Loaded::into_config);
    let given = arguments.config.as_deref().map(load).transpose()?;
    if let [name] = &arguments.models[..] {
        let model = model(name, arguments)?;
        let config = given.or(model.config).unwrap_or_default();
        let mut models = one(model.folder.path(), model.index, &config.serve);
        for (name, adapter) in &arguments.adapters {
            let (folder, base) = (adapter_folder(adapter, &arguments.store)?, Some(config.serve.model_name.clone()));
            models.push(ModelFolder { name: name.clone(), folder, base, index: None, load: true });
        }
        return Ok((models, vec![model.folder], config));
    }
    if !arguments.adapters.is_empty() {
        bail!("--adapter is for one model: for several, add [[serve.models]] with `base` to the configuration");
    }
    let (mut models, mut folders) = (Vec::new(), Vec::new());
    let mut add = |name: String, model: Model, load: bool| {
        let Model { folder, index, .. } = model;
        models.push(ModelFolder { name, folder: folder.path().to_owned(), base: None, index, load });
        folders.push(folder);
    };
    if !arguments.models.is_empty() {
        let mut of_first = None;
        for name in &arguments.models {
            let mut model = self::model(name, arguments)?;
            of_first = of_first.or(Some(model.config.take()));
            add(short_name(name)?, model, true);
        }
        return Ok((models, folders, given.or(of_first.flatten()).unwrap_or_default()));
    }
    let config = match given {
        Some(config) => config,
        None => load(Path::new(config::FILE_NAME)).context("no model is named, and pipeline.toml names none")?,
    };
    if config.serve.models.is_empty() {
        bail!(
            "no model is named: name one, such as `pipeline serve latest`, or add [[serve.models]] to the configuration"
        );
    }
    for ModelEntry { name, model, base, load } in &config.serve.models {
        if base.is_some() {
            let folder = adapter_folder(model, &arguments.store)?;
            models.push(ModelFolder { name: name.clone(), folder, base: base.clone(), index: None, load: *load });
        } else {
            let Model { folder, index, .. } = self::model(model, arguments)?;
            let path = folder.path().to_owned();
            models.push(ModelFolder { name: name.clone(), folder: path, base: None, index, load: *load });
            folders.push(folder);
        }
    }
    Ok((models, folders, config))
}

/// Returns the model that `name` means, unless it is that of a run which did not pass its gates.
fn model(name: &str, arguments: &ServeArgs) -> anyhow::Result<Model> {
    let model = super::model(name, &arguments.store)?;
    if let Some(run) = &model.run {
        gates::check_run(run, arguments.force)?;
    }
    Ok(model)
}

/// Returns the folder of an adapter in PEFT's layout: `name` itself, that in a checkpoint, or that of a run.
fn adapter_folder(name: &str, arguments: &StoreArgs) -> anyhow::Result<PathBuf> {
    let find = |folder: &Path| {
        let folders = [folder.to_owned(), folder.join(train::ADAPTER)];
        folders.into_iter().find(|folder| folder.join(model::lora::CONFIG).is_file())
    };
    let folder = Path::new(name);
    if let Some(found) = find(folder) {
        return Ok(found);
    }
    if folder.is_dir() && !folder.join(record::RECORD).is_file() {
        bail!("{name} has no {}: it is neither an adapter nor a checkpoint with one", model::lora::CONFIG);
    }
    let run = names::find_with(&super::layout(arguments)?, name, Stage::Train)?;
    let checkpoint = registry::verified(&run.artifact(Stage::Train)?)?;
    find(&checkpoint).with_context(|| format!("the run {name} has no adapter: it was trained without [train.lora]"))
}

/// Returns the name under which one of several models is served: the last part of a path, without `.gguf`.
fn short_name(model: &str) -> anyhow::Result<String> {
    let name = Path::new(model).file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{model} has no name to serve it under"))?;
    Ok(name.strip_suffix(".gguf").unwrap_or(name).to_owned())
}

/// Fails unless a running server is ready.
fn check(arguments: &ServeArgs) -> anyhow::Result<()> {
    let mut config = match arguments.config.as_deref() {
        Some(path) => config::load_without_data(path)?.config.serve,
        None => super::here()?.map(|loaded| loaded.config.serve).unwrap_or_default(),
    };
    config.host = arguments.host.clone().unwrap_or(config.host);
    config.port = arguments.port.unwrap_or(config.port);
    Ok(serve::check_ready(&config.host, config.port)?)
}

/// Makes a key and prints its secret.
fn new_key(name: &str, arguments: &ServeArgs) -> anyhow::Result<()> {
    let configured = match arguments.config.as_deref() {
        Some(path) => config::load_without_data(path)?.into_config().serve.keys,
        None => super::here()?.and_then(|loaded| loaded.into_config().serve.keys),
    };
    let path = arguments.keys.clone().or(configured).unwrap_or_else(|| PathBuf::from(KEYS));
    let scope = |scope: &ScopeArg| match scope {
        ScopeArg::Inference => Scope::Inference,
        ScopeArg::Admin => Scope::Admin,
    };
    let scopes = arguments.scope.iter().map(scope).collect();
    let key = NewKey { name: name.to_owned(), scopes, requests_per_minute: arguments.requests_per_minute };
    let secret = serve::new_key(&path, key)?;
    print_out!("{secret}")?;
    let path = path.display();
    Console::new().line(&format!(
        "The key of {name}, shown only this once; its hash is in {path}. Next: pipeline serve MODEL --keys {path}"
    ));
    Ok(())
}
