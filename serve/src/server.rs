//! A server's life and death.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use artifact::Cancel;
use generate::Generator;

use crate::queue::Queue;
use crate::response::{ModelFacts, seconds_since_1970};
use crate::routes::{Shared, router};
use crate::{Config, Error};

/// How often the wish to stop is looked for.
const POLL: Duration = Duration::from_millis(50);
/// What is left for requests that were dropped to say so, and for the writing thread to notice.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Takes the configured address.
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

/// Serves the model in `folder` until `cancel` is requested. The caller turns signals into that request.
///
/// # Errors
/// When the address is taken or the model cannot be loaded.
pub fn serve(folder: &Path, config: &Config, device: &str, cancel: &Cancel) -> Result<(), Error> {
    // Before the model is loaded: an address that is taken should not take half a minute to say so.
    serve_on(bind(config)?, folder, config, device, cancel)
}

/// Serves on an address that [`bind`] took, so that the caller can say which one it is.
///
/// Once `cancel` is requested no connection is accepted any more. Requests under way may finish within
/// `shutdown_seconds`; those that do not are told that the server is stopping.
///
/// # Errors
/// When the model cannot be loaded.
pub fn serve_on(
    listener: TcpListener,
    folder: &Path,
    config: &Config,
    device: &str,
    cancel: &Cancel,
) -> Result<(), Error> {
    config.validate()?;
    let generator = Generator::open(folder, device)?;
    let shape = generator.model().config();
    let facts = ModelFacts {
        id: config.model_name.clone(),
        family: shape.family.model_type(),
        parameters: shape.parameters(),
        context_length: shape.context_length,
        vocab_size: generator.tokenizer().vocab_size(),
        device: model::device::describe(device).map_err(generate::Error::from)?,
    };
    let written = std::fs::metadata(model::hub_layout::weights_entry(folder)).and_then(|file| file.modified());
    let created = seconds_since_1970(written.unwrap_or_else(|_| SystemTime::now()));

    let failed = |operation| move |source| Error::Start { operation, source };
    // Two threads move bytes; the work is on the writing thread and those of the device.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(failed("start the server's threads"))?;
    let abort = Cancel::default();
    let (queue, writer) =
        Queue::start(generator, config.max_queue, abort.clone()).map_err(failed("start the writing thread"))?;
    let shared = Arc::new(Shared { config: config.clone(), facts, created, queue, stopping: cancel.clone() });
    let served = runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tracing::info!(address = %listener.local_addr()?, "serving");
        answer(listener, shared, config, cancel, &abort).await;
        Ok(())
    });
    // Connections that are still open end here, and with them the last ways to the writing thread.
    runtime.shutdown_timeout(POLL);
    abort.request();
    wait(writer);
    served.map_err(failed("listen"))
}

/// Answers until told to stop, and then for as long as requests under way may take.
async fn answer(
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
    config: &Config,
    cancel: &Cancel,
    abort: &Cancel,
) {
    let stopped = requested(cancel.clone());
    // `axum::serve` never fails: it sits out what goes wrong while accepting.
    let server = axum::serve(listener, router(shared)).with_graceful_shutdown(requested(cancel.clone())).into_future();
    let mut server = std::pin::pin!(server);
    tokio::select! {
        _ = &mut server => return,
        () = stopped => {}
    }
    let allowed = Duration::from_secs(config.shutdown_seconds);
    if tokio::time::timeout(allowed, &mut server).await.is_err() {
        tracing::warn!(seconds = config.shutdown_seconds, "requests under way took too long and are dropped");
        abort.request();
        // Whatever is left after this is cut off with its connection.
        let _ = tokio::time::timeout(LAST_WORDS, &mut server).await;
    }
}

async fn requested(cancel: Cancel) {
    while !cancel.is_requested() {
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for the writing thread, but not for a device that hangs.
fn wait(writer: JoinHandle<()>) {
    let start = Instant::now();
    while !writer.is_finished() && start.elapsed() < LAST_WORDS {
        std::thread::sleep(POLL / 10);
    }
    if writer.is_finished() {
        // Its panics are caught inside; one that was not has been printed.
        let _ = writer.join();
    } else {
        tracing::warn!("the writing thread did not stop in time and is left behind");
    }
}
