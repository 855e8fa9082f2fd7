//! Server start-up and graceful shutdown.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use artifact::Cancel;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::models::{ModelFolder, Models};
use crate::routes::{self, ServerState};
use crate::{Config, Error, applications, connections};

/// Time for the connections' tasks to end after the last answer.
pub(crate) const RUNTIME_GRACE: Duration = Duration::from_millis(50);

/// Binds the configured address.
///
/// # Errors
/// [`Error::AddressInUse`] or [`Error::Bind`], with the address; [`Error::Unprotected`] if other machines can reach it
/// and nothing says that they may.
pub fn bind(config: &Config) -> Result<TcpListener, Error> {
    config.validate()?;
    let host = if config.host.contains(':') { format!("[{}]", config.host) } else { config.host.clone() };
    let address = format!("{host}:{}", config.port);
    let listener = TcpListener::bind((config.host.as_str(), config.port)).map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => Error::AddressInUse { address: address.clone() },
        _ => Error::Bind { address: address.clone(), source },
    })?;
    let bound =
        listener.local_addr().map_err(|source| Error::Start { operation: "read the server's address", source })?;
    if !bound.ip().is_loopback() && config.keys.is_none() && !config.allow_anonymous {
        return Err(Error::Unprotected { address });
    }
    Ok(listener)
}

/// Serves the model in `folder` until `cancel` is requested; the caller turns signals into that request.
///
/// # Errors
/// Returns an error if the address is in use or the model cannot be loaded.
pub fn serve(folder: &Path, config: &Config, device: &str, cancel: &Cancel) -> Result<(), Error> {
    // Bound before the model is loaded, so that an address in use is reported at once.
    serve_on(bind(config)?, folder, config, device, cancel)
}

/// Serves the model in `folder` on a listener from [`bind`], so that the caller knows the address.
///
/// # Errors
/// As [`serve_models`].
pub fn serve_on(
    listener: TcpListener,
    folder: &Path,
    config: &Config,
    device: &str,
    cancel: &Cancel,
) -> Result<(), Error> {
    let (name, folder) = (config.model_name.clone(), folder.to_owned());
    let model = ModelFolder { name, folder, base: None, index: None, load: true };
    serve_models(listener, vec![model], config, device, cancel)
}

/// Serves several models on a listener from [`bind`]. Requests are answered while the models are being loaded, by
/// saying so.
///
/// Once `cancel` is requested, in-flight requests may finish within `shutdown_seconds`, and further ones are refused;
/// those that take longer get the error that the server is shutting down.
///
/// # Errors
/// Returns an error if the keys, certificates or applications cannot be read, or a model cannot be loaded.
pub fn serve_models(
    listener: TcpListener,
    models: Vec<ModelFolder>,
    config: &Config,
    device: &str,
    cancel: &Cancel,
) -> Result<(), Error> {
    config.validate()?;
    let failed = |operation| move |source| Error::Start { operation, source };
    let keys = config.keys.as_deref().map(Keys::open).transpose()?.map(Arc::new);
    let applications = applications::load(config.applications.as_deref())?;
    let tls = match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => Some(connections::acceptor(certificate, key)?),
        _ => None,
    };
    let runtime = runtime()?;
    let (abort, metrics) = (Cancel::default(), Arc::new(Metrics::new()));
    let models = Arc::new(Models::new(models, config, device, Arc::clone(&metrics), abort.clone())?);
    let (keys_of_state, models_of_state) = (keys.clone(), Arc::clone(&models));
    let served = runtime.block_on(async {
        listener.set_nonblocking(true).map_err(failed("listen"))?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed("listen"))?;
        let first = Arc::clone(&models);
        let loading = tokio::task::spawn_blocking(move || first.load_first());
        let state = ServerState {
            config: config.clone(),
            models: models_of_state,
            keys: keys_of_state,
            metrics,
            applications,
            stopping: cancel.clone(),
        };
        let router = routes::router(Arc::new(state));
        tokio::select! {
            () = connections::serve(listener, router, tls, config, cancel, &abort) => Ok(()),
            error = load_error(loading) => Err(error),
            () = follow(keys.as_deref()) => Ok(()),
        }
    });
    // Closes the remaining connections.
    runtime.shutdown_timeout(RUNTIME_GRACE);
    abort.request();
    models.stop();
    served
}

/// Returns the threads of a server: one for I/O, since with more, each token of a stream wakes several, which costs
/// more than sending it. Computation is on the worker threads and the device's own threads.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(1).thread_name("http").enable_all().build();
    built.map_err(|source| Error::Start { operation: "start the server's threads", source })
}

/// Returns the error of loading the models; never if they are loaded.
async fn load_error(loading: JoinHandle<Result<(), Error>>) -> Error {
    match loading.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(error)) => error,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Reads keys again when they change; never returns.
async fn follow(keys: Option<&Keys>) {
    match keys {
        Some(keys) => keys.follow().await,
        None => std::future::pending().await,
    }
}
