//! A server of pages that its caller makes, on this machine alone.

use std::net::TcpListener;
use std::sync::Arc;

use artifact::Cancel;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};

use crate::host_check::{self, AllowedHosts};
use crate::server::{RUNTIME_GRACE, runtime};
use crate::{Config, Error, connections};

/// A page, or another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its type: `text/html; charset=utf-8`.
    pub content_type: &'static str,
    /// Its `Content-Security-Policy`.
    pub policy: &'static str,
    /// Its content.
    pub body: Vec<u8>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// The path: `/index.html`.
    pub path: String,
    /// The query after the path, without its `?`.
    pub query: String,
    /// The JSON of a POST request; none of a GET request.
    pub body: Option<Vec<u8>>,
}

/// Returns the page of a request, none if there is no such page.
type Answer = Arc<dyn Fn(&PageRequest) -> Option<Page> + Send + Sync>;

/// The largest body that is read: heuristic, far more than any answer of a form.
const MAX_BODY_BYTES: usize = 1 << 16;

/// Serves pages on a listener from [`crate::bind`] until `cancel` is requested. `answer` gets each GET request and each
/// POST request of JSON, which pages of other origins cannot send; it may read files, and take its time.
///
/// # Errors
/// Returns an error if the server's threads cannot be started.
pub fn serve_pages(
    listener: TcpListener,
    config: &Config,
    cancel: &Cancel,
    answer: impl Fn(&PageRequest) -> Option<Page> + Send + Sync + 'static,
) -> Result<(), Error> {
    let failed = |operation| move |source| Error::Start { operation, source };
    let runtime = runtime()?;
    let answer: Answer = Arc::new(answer);
    let router = Router::new()
        .fallback(respond)
        .with_state(answer)
        .layer(middleware::from_fn_with_state(AllowedHosts::new(config), host_check::check_host))
        .layer(middleware::from_fn(host_check::add_security_headers));
    let served = runtime.block_on(async {
        listener.set_nonblocking(true).map_err(failed("listen"))?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed("listen"))?;
        connections::serve(listener, router, None, config, cancel, &Cancel::default()).await;
        Ok(())
    });
    runtime.shutdown_timeout(RUNTIME_GRACE);
    served
}

async fn respond(State(answer): State<Answer>, request: Request) -> Response {
    let is_post = request.method() == Method::POST;
    if !is_post && request.method() != Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    let is_json = request.headers().get(header::CONTENT_TYPE).is_some_and(|found| found == "application/json");
    if is_post && !is_json {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let mut body = None;
    if is_post {
        let Ok(read) = axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES).await else {
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        };
        body = Some(read.to_vec());
    }
    let asked = PageRequest { path, query, body };
    // Files are read, which must not keep other connections waiting.
    match tokio::task::spawn_blocking(move || answer(&asked)).await {
        Ok(Some(page)) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(page.content_type)),
                (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page.policy)),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (headers, page.body).into_response()
        }
        Ok(None) if is_post => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
