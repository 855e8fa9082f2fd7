//! Server start-up and graceful shutdown.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use artifact::Cancel;
use generate::Generator;

use crate::response::{ServedModel, seconds_since_1970};
use crate::routes::{Shared, router};
use crate::worker::Queue;
use crate::{Config, Error};

/// How often cancellation is checked.
const POLL: Duration = Duration::from_millis(50);
/// Time for cancelled requests to send their error, and for the worker to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// The default size of the KV cache, in contexts of the model. Heuristic, not measured: because most texts are much
/// shorter than the context.
const DEFAULT_CACHED_CONTEXTS: usize = 4;

/// Binds the configured address.
///
/// # Errors
/// [`Error::AddressInUse`] or [`Error::Bind`], with the address.
pub fn bind(config: &Config) -> Result<TcpListener, Error> {
    config.validate()?;
    TcpListener::bind((config.host.as_str(), config.port)).map_err(|source| {
        let host = if config.host.contains(':') { format!("[{}]", config.host) } else { config.host.clone() };
        let address = format!("{host}:{}", config.port);
        match source.kind() {
            ErrorKind::AddrInUse => Error::AddressInUse { address },
            _ => Error::Bind { address, source },
        }
    })
}

/// Serves the model in `folder` until `cancel` is requested; the caller turns signals into that request.
///
/// # Errors
/// Returns an error if the address is in use or the model cannot be loaded.
pub fn serve(folder: &Path, config: &Config, device: &str, cancel: &Cancel) -> Result<(), Error> {
    // Bound before the model is loaded, so that an address in use is reported at once.
    serve_on(bind(config)?, folder, config, device, cancel)
}

/// Serves on a listener from [`bind`], so that the caller knows the address.
///
/// Once `cancel` is requested, no new connections are accepted. In-flight requests may finish within
/// `shutdown_seconds`; the others get the error that the server is shutting down.
///
/// # Errors
/// Returns an error if the model cannot be loaded.
pub fn serve_on(
    listener: TcpListener,
    folder: &Path,
    config: &Config,
    device: &str,
    cancel: &Cancel,
) -> Result<(), Error> {
    config.validate()?;
    let generator = Generator::open_with_cache(folder, device, |model| {
        config.kv_cache_tokens.unwrap_or(DEFAULT_CACHED_CONTEXTS * model.context_length)
    })?;
    let generator = Arc::new(generator);
    let shape = generator.config();
    let model = ServedModel {
        id: config.model_name.clone(),
        family: shape.family.model_type(),
        parameters: shape.parameters(),
        context_length: shape.context_length,
        vocab_size: generator.tokenizer().vocab_size(),
        chat: generator.has_chat_template(),
        device: model::device::describe(device)?,
    };
    let written = std::fs::metadata(model::hub_layout::weights_entry(folder)).and_then(|file| file.modified());
    let created = seconds_since_1970(written.unwrap_or_else(|_| SystemTime::now()));

    let failed = |operation| move |source| Error::Start { operation, source };
    // Two threads for I/O; computation is on the worker thread and the device's own threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(failed("start the server's threads"))?;
    let abort = Cancel::default();
    let (queue, worker) =
        Queue::start(Arc::clone(&generator), config, abort.clone()).map_err(failed("start the worker thread"))?;
    let shared =
        Arc::new(Shared { config: config.clone(), generator, model, created, queue, stopping: cancel.clone() });
    let served = runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tracing::info!(address = %listener.local_addr()?, "serving");
        accept_until_cancelled(listener, shared, config, cancel, &abort).await;
        Ok(())
    });
    // Closes the remaining connections, and with them the last senders of the worker's queue.
    runtime.shutdown_timeout(POLL);
    abort.request();
    join_worker(worker);
    served.map_err(failed("listen"))
}

/// Answers requests until `cancel` is requested, then drains in-flight requests.
async fn accept_until_cancelled(
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
    config: &Config,
    cancel: &Cancel,
    abort: &Cancel,
) {
    let stopped = requested(cancel.clone());
    // `axum::serve` never returns an error: it retries after errors of accepting a connection.
    let server = axum::serve(listener, router(shared)).with_graceful_shutdown(requested(cancel.clone())).into_future();
    let mut server = std::pin::pin!(server);
    tokio::select! {
        _ = &mut server => return,
        () = stopped => {}
    }
    let timeout = Duration::from_secs(config.shutdown_seconds);
    if tokio::time::timeout(timeout, &mut server).await.is_err() {
        tracing::warn!(seconds = config.shutdown_seconds, "in-flight requests took too long and are cancelled");
        abort.request();
        // Requests still open after this lose their connection.
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, &mut server).await;
    }
}

async fn requested(cancel: Cancel) {
    while !cancel.is_requested() {
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for the worker, but not for a device that hangs.
fn join_worker(worker: JoinHandle<()>) {
    let start = Instant::now();
    while !worker.is_finished() && start.elapsed() < SHUTDOWN_GRACE {
        std::thread::sleep(POLL / 10);
    }
    if worker.is_finished() {
        // The worker catches panics of requests; any other panic has been printed.
        let _ = worker.join();
    } else {
        tracing::warn!("the worker thread did not stop in time and is abandoned");
    }
}
