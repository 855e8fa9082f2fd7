//! Which path does what.

use std::sync::Arc;
use std::time::Duration;

use artifact::Cancel;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use utoipa::OpenApi;

use crate::problem::{ErrorBody, Problem};
use crate::queue::Queue;
use crate::request::CompletionRequest;
use crate::response::{CompletionBody, Health, ModelEntry, ModelFacts, ModelList};
use crate::{Config, completions, guard};

/// How long a body may take to arrive. A guess: far more than 1 MiB needs on a slow line.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The web page; everything it needs is in it.
const PAGE: &str = include_str!("page.html");
/// What the page may do: run its own script and style, and talk to this server.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                           connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What every request can see.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) facts: ModelFacts,
    /// When the weights were written, in seconds since 1970.
    pub(crate) created: u64,
    pub(crate) queue: Queue,
    /// Whether the server is going away.
    pub(crate) stopping: Cancel,
}

/// The description of this interface at `/openapi.json`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "pipeline serve",
        description = "Text from a model that `pipeline` trained, in the shapes of OpenAI's completions.",
    ),
    paths(health, models, model, complete)
)]
struct Description;

/// Returns the server's paths.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let hosts = guard::AllowedHosts::new(&shared.config);
    let cors = guard::cors(&shared.config);
    let max_body_bytes = shared.config.max_body_bytes;
    let router = Router::new()
        .route("/", get(page))
        .route("/health", get(health))
        .route("/openapi.json", get(describe))
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route("/v1/completions", post(complete))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .with_state(shared);
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(middleware::from_fn_with_state(hosts, guard::check_host)).layer(middleware::from_fn(guard::harden))
}

async fn page() -> impl IntoResponse {
    ([(header::CONTENT_SECURITY_POLICY, PAGE_POLICY), (header::CACHE_CONTROL, "no-cache")], Html(PAGE))
}

async fn describe() -> impl IntoResponse {
    Json(Description::openapi())
}

/// Tells whether the server is well, what it serves and what it is doing.
#[utoipa::path(
    get,
    path = "/health",
    responses(
        (status = 200, description = "All is well.", body = Health),
        (status = 503, description = "The server is stopping.", body = Health),
    ),
)]
async fn health(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let stopping = shared.stopping.is_requested();
    let (code, status) = if stopping { (StatusCode::SERVICE_UNAVAILABLE, "stopping") } else { (StatusCode::OK, "ok") };
    let model = shared.facts.clone();
    let health = Health { status, version: env!("CARGO_PKG_VERSION"), model, requests: shared.queue.load() };
    (code, Json(health))
}

/// Lists the models: one.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, description = "The models.", body = ModelList)))]
async fn models(State(shared): State<Arc<Shared>>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: vec![shared.entry()] })
}

/// Describes a model.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    params(("id" = String, Path, description = "The model's name.")),
    responses(
        (status = 200, description = "The model.", body = ModelEntry),
        (status = 404, description = "There is no such model.", body = ErrorBody),
    ),
)]
async fn model(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Json<ModelEntry>, Problem> {
    let entry = shared.entry();
    if id == entry.id { Ok(Json(entry)) } else { Err(Problem::model_not_found(&id, &entry.id)) }
}

/// Continues prompts.
#[utoipa::path(
    post,
    path = "/v1/completions",
    request_body = CompletionRequest,
    responses(
        (
            status = 200,
            description = "The texts; with `stream`, server-sent events of the same shape that end with `[DONE]`.",
            content((CompletionBody = "application/json"), (CompletionBody = "text/event-stream")),
        ),
        (status = 400, description = "A parameter is wrong; `param` names it.", body = ErrorBody),
        (status = 404, description = "There is no such model.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too long.", body = ErrorBody),
        (status = 415, description = "The body is not `application/json`.", body = ErrorBody),
        (status = 429, description = "Too many requests are waiting.", body = ErrorBody),
        (status = 500, description = "The model could not write.", body = ErrorBody),
        (status = 503, description = "The server is stopping.", body = ErrorBody),
    ),
)]
async fn complete(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Problem> {
    if shared.stopping.is_requested() {
        return Err(Problem::stopping());
    }
    if !is_json(request.headers()) {
        let message = "The body must be JSON, with the header `Content-Type: application/json`.";
        return Err(Problem::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &()))
        .await
        .map_err(|_| Problem::request(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time."))?
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let limit = shared.config.max_body_bytes;
                Problem::request(StatusCode::PAYLOAD_TOO_LARGE, format!("The body is longer than {limit} bytes."))
            }
            status => Problem::request(status, "The body could not be read."),
        })?;
    let request = CompletionRequest::parse(&body, &shared.config)?;
    completions::answer(&request, &shared.queue, &shared.config.model_name).await
}

async fn no_such_path(method: Method, uri: Uri) -> Problem {
    Problem::request(StatusCode::NOT_FOUND, format!("Invalid URL ({method} {})", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::request(StatusCode::METHOD_NOT_ALLOWED, format!("Not allowed to {method} on {}.", uri.path()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

impl Shared {
    fn entry(&self) -> ModelEntry {
        ModelEntry { id: self.facts.id.clone(), object: "model", created: self.created, owned_by: "pipeline" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for elsewhere in ["http://", "https://", "src=\"/", "@import", "url(/"] {
            // An SVG names its own language by an address; nothing is fetched from there.
            let page = PAGE.replace("http://www.w3.org/2000/svg", "");
            assert!(!page.contains(elsewhere), "the page mentions {elsewhere}");
        }
    }

    #[test]
    fn the_description_has_every_path_and_shape() {
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let paths: Vec<&String> = description["paths"].as_object().unwrap().keys().collect();
        assert_eq!(paths, ["/health", "/v1/completions", "/v1/models", "/v1/models/{id}"]);
        let schemas = &description["components"]["schemas"];
        for name in ["CompletionRequest", "CompletionBody", "Choice", "Usage", "ErrorBody", "ModelList", "Health"] {
            assert!(schemas[name].is_object(), "{name} is missing");
        }
        let request = &schemas["CompletionRequest"];
        assert_eq!(request["properties"]["temperature"]["maximum"], 2);
        assert!(request.get("required").is_none(), "everything may be left out: {}", request["required"]);
    }
}
