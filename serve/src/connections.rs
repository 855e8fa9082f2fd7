//! Connections: the accept loop, its limits, and draining.
//!
//! Every connection is a task. Its time limits are in [`timed_io`] (slow or idle clients) and [`exchange`] (slow
//! answers); what it costs in memory is limited by the size of headers and bodies and the number of connections.

mod exchange;
mod in_flight;
pub(crate) mod request_id;
mod timed_io;
mod tls;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use artifact::Cancel;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::Config;
use crate::api_error::ApiError;
use exchange::Exchange;
pub(crate) use exchange::KeyName;
use in_flight::InFlight;
use timed_io::{Activity, Phase, TimedIo};
pub(crate) use tls::acceptor;
pub use tls::install_tls_provider;

/// How often cancellation is checked.
const POLL: Duration = Duration::from_millis(50);
/// Time for cancelled requests to send their error, for new connections to send a request, and for all to close.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// Time for a request that is on its way on an idle connection, before the server closes it.
const IDLE_GRACE: Duration = Duration::from_millis(100);
/// Time for a client to read the answer and close, after the server has sent all.
const LINGER: Duration = Duration::from_secs(1);
/// Pause after an error of accepting a connection, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections beyond the limit that are told so at the same time; others are closed without an answer.
const MAX_REFUSALS: usize = 64;
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
    /// Requests that are being answered.
    in_flight: InFlight,
    /// Connections within the limit.
    open: InFlight,
    slots: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    /// The number of `slots`.
    capacity: usize,
    /// Requested when answers end their connections.
    stopping: Cancel,
    /// Becomes true when connections without a request are to be closed.
    closing: watch::Sender<bool>,
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
/// those that take longer. Every connection that a client has opened by then is answered before it is closed.
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
    let connections = Arc::new(Connections {
        router: TowerToHyperService::new(router),
        http,
        tls,
        limits,
        in_flight: InFlight::default(),
        open: InFlight::default(),
        slots: Arc::new(Semaphore::new(config.max_connections)),
        refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
        capacity: config.max_connections,
        stopping: stopping.clone(),
        closing: watch::Sender::new(false),
    });
    let in_flight = &connections.in_flight;
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
        () = connections.accept(&listener) => {}
        () = draining => {}
    }
    connections.accept_last(listener);
    connections.closing.send_replace(true);
    // Twice the time: for a request, and for reading its answer.
    let _ = tokio::time::timeout(CLOSE_GRACE + LINGER, connections.open.ended()).await;
}

impl Connections {
    /// Accepts connections forever.
    async fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => self.spawn(stream, remote.to_string()),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Accepts what waits in the backlog, whose connections the operating system would reset, and stops listening.
    fn accept_last(self: &Arc<Self>, listener: TcpListener) {
        // Asks the system itself: tokio knows only what its last poll has found.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, remote)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.spawn(stream, remote.to_string());
            }
        }
    }

    /// Answers a connection in a task of its own, if there are not too many.
    fn spawn(self: &Arc<Self>, stream: TcpStream, remote: String) {
        let connections = Arc::clone(self);
        let one = self.open.begin();
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            tokio::spawn(async move {
                connections.run(stream, remote).await;
                drop((slot, one));
            });
        } else if let Ok(slot) = Arc::clone(&self.refusals).try_acquire_owned() {
            tokio::spawn(async move {
                if connections.tls.is_none() {
                    refuse(stream, connections.capacity).await;
                }
                drop((slot, one));
            });
        }
    }

    async fn run(&self, stream: TcpStream, remote: String) {
        // Tokens are sent as they come.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.talk(stream, remote).await };
        match tokio::time::timeout(self.limits.header, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.talk(stream, remote).await,
            Ok(Err(error)) => tracing::debug!(remote, %error, "the TLS handshake failed"),
            Err(_) => tracing::debug!(remote, "the TLS handshake took too long"),
        }
    }

    async fn talk(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, remote: String) {
        let activity = Arc::new(Activity::default());
        let io = TokioIo::new(TimedIo::new(stream, Arc::clone(&activity), self.limits));
        let exchange = Exchange {
            remote: remote.as_str().into(),
            activity: Arc::clone(&activity),
            in_flight: self.in_flight.clone(),
            limit: self.limits.request,
            stopping: self.stopping.clone(),
        };
        let service = service_fn(|request| Box::pin(exchange.answer(request, &self.router)));
        let mut connection = self.http.serve_connection(io, service);
        let ended = tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(ended),
            () = self.time_to_close(&activity) => None,
        };
        let ended = if let Some(ended) = ended {
            ended
        } else {
            // Closes at once if no request has begun, else after the answer.
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|context| connection.poll_without_shutdown(context)).await
        };
        if let Err(error) = ended {
            tracing::debug!(remote, %error, "the connection ended");
        }
        close(connection.into_parts().io.into_inner()).await;
    }

    /// Returns when the server closes and this connection has had time for a request that is on its way.
    async fn time_to_close(&self, activity: &Activity) {
        // The sender is here, so the channel cannot be closed.
        let _ = self.closing.subscribe().wait_for(|is_closing| *is_closing).await;
        tokio::time::sleep(match activity.phase() {
            // A client connects to send a request.
            Phase::New { .. } => CLOSE_GRACE,
            Phase::Idle { .. } => IDLE_GRACE,
            Phase::Headers { .. } | Phase::Answering => Duration::ZERO,
        })
        .await;
    }
}

/// Answers that there are too many connections, whatever the request is.
async fn refuse(mut stream: TcpStream, max_connections: usize) {
    let body = serde_json::to_string(&ApiError::too_many_connections(max_connections).body()).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\nRetry-After: \
         1\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if let Ok(Ok(())) = tokio::time::timeout(LINGER, stream.write_all((head + &body).as_bytes())).await {
        close(stream).await;
    }
}

/// Closes a connection after the client has done so. Closing a socket with unread bytes, such as those of a body that
/// is refused, would reset the connection before the client reads the answer.
async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let linger = async {
        let mut ignored = [0; 4096];
        if stream.shutdown().await.is_ok() {
            while stream.read(&mut ignored).await.is_ok_and(|bytes| bytes > 0) {}
        }
    };
    let _ = tokio::time::timeout(LINGER, linger).await;
}

/// Returns once `cancel` is requested.
pub(crate) async fn requested(cancel: &Cancel) {
    while !cancel.is_requested() {
        tokio::time::sleep(POLL).await;
    }
}
