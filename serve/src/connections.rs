//! Connections: the accept loop, its limits, and draining.
//!
//! Every connection is a task. Its time limits are in [`timed_io`] (slow or idle clients) and [`exchange`] (slow
//! answers); what it costs in memory is limited by the size of headers and bodies and the number of connections.

mod exchange;
mod in_flight;
mod timed_io;
mod tls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use artifact::Cancel;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::Config;
use crate::api_error::ApiError;
use exchange::Exchange;
pub(crate) use exchange::KeyName;
use in_flight::InFlight;
use timed_io::{Activity, TimedIo};
pub(crate) use tls::acceptor;
pub use tls::install_tls_provider;

/// How often cancellation is checked.
const POLL: Duration = Duration::from_millis(50);
/// Time for cancelled requests to send their error, and for idle connections to close.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// Pause after an error of accepting a connection, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections beyond the limit that are told so at the same time; others are closed without an answer.
const MAX_REFUSALS: usize = 64;
/// Time to tell a client that there are too many connections.
const REFUSAL_SECONDS: Duration = Duration::from_secs(1);
/// Headers of a request. Heuristic, not measured: because browsers behind proxies send 20 to 40.
const MAX_HEADERS: usize = 100;

/// Buffer of a connection beside the headers: the smallest that hyper accepts.
const BUFFER_BYTES: usize = 8192;

/// What every connection needs.
struct Connections {
    router: TowerToHyperService<Router>,
    http: http1::Builder,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    in_flight: InFlight,
}

/// Time limits of a connection.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// From the first byte of a request to the end of its headers, and of a TLS handshake.
    header: Duration,
    /// Without a request, or without the client reading its answer.
    idle: Duration,
    /// From the headers to the end of the answer.
    request: Duration,
}

impl Limits {
    fn new(config: &Config) -> Self {
        let seconds = Duration::from_secs;
        Self {
            header: seconds(config.header_seconds),
            idle: seconds(config.idle_seconds),
            request: seconds(config.request_seconds),
        }
    }
}

/// Answers requests until `stopping` is requested, then drains: in-flight requests may finish within
/// `shutdown_seconds`, while new ones are still answered (by routes that then refuse work). `abort` is requested for
/// those that take longer.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    config: &Config,
    stopping: &Cancel,
    abort: &Cancel,
) {
    let limits = Limits::new(config);
    let mut http = http1::Builder::new();
    // TimedIo closes connections earlier; with a limit of its own, hyper reads on after every answer.
    http.timer(TokioTimer::new()).header_read_timeout(limits.header + limits.idle);
    http.max_headers(MAX_HEADERS).max_header_size(config.max_header_bytes);
    http.max_buf_size(config.max_header_bytes + BUFFER_BYTES);
    let in_flight = InFlight::default();
    let router = TowerToHyperService::new(router);
    let connections = Arc::new(Connections { router, http, tls, limits, in_flight: in_flight.clone() });
    let graceful = GracefulShutdown::new();
    let accepting = accept(listener, &connections, config.max_connections, &graceful);
    let draining = async {
        requested(stopping).await;
        if tokio::time::timeout(Duration::from_secs(config.shutdown_seconds), in_flight.ended()).await.is_err() {
            tracing::warn!(seconds = config.shutdown_seconds, "in-flight requests took too long and are cancelled");
            abort.request();
            // Requests still open after this lose their connection.
            let _ = tokio::time::timeout(CLOSE_GRACE, in_flight.ended()).await;
        }
    };
    tokio::select! {
        () = accepting => {}
        () = draining => {}
    }
    let _ = tokio::time::timeout(CLOSE_GRACE, graceful.shutdown()).await;
}

/// Accepts connections forever.
async fn accept(
    listener: TcpListener,
    connections: &Arc<Connections>,
    max_connections: usize,
    graceful: &GracefulShutdown,
) {
    let (slots, refusals) = (Arc::new(Semaphore::new(max_connections)), Arc::new(Semaphore::new(MAX_REFUSALS)));
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            let (connections, watcher) = (Arc::clone(connections), graceful.watcher());
            tokio::spawn(async move {
                connections.run(stream, remote.to_string(), watcher).await;
                drop(slot);
            });
        } else if let Ok(slot) = Arc::clone(&refusals).try_acquire_owned() {
            let is_plain = connections.tls.is_none();
            tokio::spawn(async move {
                if is_plain {
                    let _ = tokio::time::timeout(REFUSAL_SECONDS, refuse(stream, max_connections)).await;
                }
                drop(slot);
            });
        }
    }
}

/// Answers that there are too many connections, whatever the request is.
async fn refuse(mut stream: TcpStream, max_connections: usize) -> io::Result<()> {
    let body = serde_json::to_string(&ApiError::too_many_connections(max_connections).body())?;
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\nRetry-After: \
         1\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await?;
    // Closing a socket with unread bytes would reset the connection before the client reads the answer.
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

impl Connections {
    async fn run(&self, stream: TcpStream, remote: String, watcher: Watcher) {
        // Tokens are sent as they come.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.talk(stream, remote, watcher).await };
        match tokio::time::timeout(self.limits.header, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.talk(stream, remote, watcher).await,
            Ok(Err(error)) => tracing::debug!(remote, %error, "the TLS handshake failed"),
            Err(_) => tracing::debug!(remote, "the TLS handshake took too long"),
        }
    }

    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        remote: String,
        watcher: Watcher,
    ) {
        let activity = Arc::new(Activity::default());
        let io = TokioIo::new(TimedIo::new(stream, Arc::clone(&activity), self.limits));
        let exchange = Exchange {
            remote: remote.as_str().into(),
            activity,
            in_flight: self.in_flight.clone(),
            limit: self.limits.request,
        };
        let service = service_fn(|request| exchange.answer(request, &self.router));
        let connection = self.http.serve_connection(io, service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(remote, %error, "the connection ended");
        }
    }
}

/// Returns once `cancel` is requested.
pub(crate) async fn requested(cancel: &Cancel) {
    while !cancel.is_requested() {
        tokio::time::sleep(POLL).await;
    }
}
