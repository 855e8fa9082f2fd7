//! The routes of the server.

use std::sync::Arc;
use std::time::Duration;

use artifact::Cancel;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use generate::Generator;
use utoipa::OpenApi;

use crate::api_error::{ApiError, ErrorBody};
use crate::chat_request::{self, ChatRequest};
use crate::request::{self, CompletionRequest, Limits, ValidRequest};
use crate::response::{ChatBody, ChatChunk, CompletionBody, Health, ModelEntry, ModelList, ServedModel};
use crate::worker::Queue;
use crate::{Config, answer, host_check};

/// Timeout for receiving a request body. Heuristic, not measured: because it is far more than 1 MiB takes on a slow
/// connection.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The web page, with its style and script. The example prompts of the configuration replace [`EXAMPLES_PLACEHOLDER`].
const PAGE: &str = include_str!("page.html");
const EXAMPLES_PLACEHOLDER: &str = "/*EXAMPLE_PROMPTS*/[]";
/// The page may run its own script and style, and call this server; nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                           connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// State shared by all requests.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Encodes the prompts here; only the worker generates.
    pub(crate) generator: Arc<Generator>,
    pub(crate) model: ServedModel,
    /// Time at which the weights were written, in seconds since 1970.
    pub(crate) created: u64,
    pub(crate) queue: Queue,
    /// Requested when the server is shutting down.
    pub(crate) stopping: Cancel,
}

/// The `OpenAPI` description at `/openapi.json`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "pipeline serve",
        description = "Text from a model that `pipeline` trained or imported, with OpenAI's completions and chat API.",
    ),
    paths(health, models, model, complete, chat)
)]
struct Description;

/// Returns the server's routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let hosts = host_check::AllowedHosts::new(&shared.config);
    let cors = host_check::cors(&shared.config);
    let max_body_bytes = shared.config.max_body_bytes;
    let router = Router::new()
        .route("/", get(page))
        .route("/health", get(health))
        .route("/openapi.json", get(describe))
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route("/v1/completions", post(complete))
        .route("/v1/chat/completions", post(chat))
        .fallback(path_not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .with_state(shared);
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(middleware::from_fn_with_state(hosts, host_check::check_host))
        .layer(middleware::from_fn(host_check::add_security_headers))
}

async fn page(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let page = render_page(&shared.config.example_prompts);
    ([(header::CONTENT_SECURITY_POLICY, PAGE_POLICY), (header::CACHE_CONTROL, "no-cache")], Html(page))
}

fn render_page(example_prompts: &[String]) -> String {
    // A prompt must not close the script element.
    let examples = serde_json::Value::from(example_prompts).to_string().replace('<', "\\u003c");
    PAGE.replacen(EXAMPLES_PLACEHOLDER, &examples, 1)
}

async fn describe() -> impl IntoResponse {
    Json(Description::openapi())
}

/// Returns the server's state, its model and its load.
#[utoipa::path(
    get,
    path = "/health",
    responses(
        (status = 200, description = "The server is running.", body = Health),
        (status = 503, description = "The server is shutting down.", body = Health),
    ),
)]
async fn health(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let stopping = shared.stopping.is_requested();
    let (code, status) = if stopping { (StatusCode::SERVICE_UNAVAILABLE, "stopping") } else { (StatusCode::OK, "ok") };
    let model = shared.model.clone();
    let health = Health { status, version: env!("CARGO_PKG_VERSION"), model, requests: shared.queue.load() };
    (code, Json(health))
}

/// Lists the models: always one.
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
        (status = 404, description = "The model does not exist.", body = ErrorBody),
    ),
)]
async fn model(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Json<ModelEntry>, ApiError> {
    let entry = shared.entry();
    if id == entry.id { Ok(Json(entry)) } else { Err(ApiError::model_not_found(&id, &entry.id)) }
}

/// Completes prompts.
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
        (status = 400, description = "A parameter is invalid; `param` names it.", body = ErrorBody),
        (status = 404, description = "The model does not exist.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too long.", body = ErrorBody),
        (status = 415, description = "The body is not `application/json`.", body = ErrorBody),
        (status = 429, description = "The queue is full.", body = ErrorBody),
        (status = 500, description = "Generation failed.", body = ErrorBody),
        (status = 503, description = "The server is shutting down.", body = ErrorBody),
    ),
)]
async fn complete(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, ApiError> {
    respond(shared, request, request::parse).await
}

/// Answers a conversation, rendered by the model's own chat template. What a message contains is never read as a
/// special token.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    request_body = ChatRequest,
    responses(
        (
            status = 200,
            description = "The answers; with `stream`, server-sent events with their parts that end with `[DONE]`.",
            content((ChatBody = "application/json"), (ChatChunk = "text/event-stream")),
        ),
        (
            status = 400,
            description = "A parameter is invalid (`param` names it), the template refuses the conversation, or the \
                           model has none (`code` is `no_chat_template`).",
            body = ErrorBody,
        ),
        (status = 404, description = "The model does not exist.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too long.", body = ErrorBody),
        (status = 415, description = "The body is not `application/json`.", body = ErrorBody),
        (status = 429, description = "The queue is full.", body = ErrorBody),
        (status = 500, description = "Generation failed.", body = ErrorBody),
        (status = 503, description = "The server is shutting down.", body = ErrorBody),
    ),
)]
async fn chat(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, ApiError> {
    respond(shared, request, chat_request::parse).await
}

/// Reads a request's body, parses it with `parse`, and answers it.
async fn respond(
    shared: Arc<Shared>,
    request: Request,
    parse: fn(&[u8], &Limits<'_>) -> Result<ValidRequest, ApiError>,
) -> Result<Response, ApiError> {
    if shared.stopping.is_requested() {
        return Err(ApiError::stopping());
    }
    if !is_json(request.headers()) {
        let message = "The body must be JSON, with the header `Content-Type: application/json`.";
        return Err(ApiError::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &()))
        .await
        .map_err(|_| ApiError::request(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time."))?
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let limit = shared.config.max_body_bytes;
                ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, format!("The body is longer than {limit} bytes."))
            }
            status => ApiError::request(status, "The body could not be read."),
        })?;
    let limits = Limits { config: &shared.config, declared: shared.generator.declared_sampling() };
    let request = parse(&body, &limits)?;
    let streaming = request.settings.streaming;
    let encoder = Arc::clone(&shared);
    // Rendering and encoding a long prompt takes too long for the threads of I/O.
    let encoded = tokio::task::spawn_blocking(move || request.encode(&encoder.generator, &encoder.config)).await;
    let (work, shape) = encoded
        .map_err(|_| ApiError::server("The prompt could not be encoded; see the server's log.".to_owned()))??;
    answer::answer(work, shape, streaming, &shared.queue, &shared.config.model_name).await
}

async fn path_not_found(method: Method, uri: Uri) -> ApiError {
    ApiError::request(StatusCode::NOT_FOUND, format!("Invalid URL ({method} {})", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::request(StatusCode::METHOD_NOT_ALLOWED, format!("Not allowed to {method} on {}.", uri.path()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

impl Shared {
    fn entry(&self) -> ModelEntry {
        ModelEntry { id: self.model.id.clone(), object: "model", created: self.created, owned_by: "pipeline" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_loads_nothing_from_elsewhere() {
        for external in ["http://", "https://", "src=\"/", "@import", "url(/"] {
            // The SVG namespace is a URL that nothing is loaded from.
            let page = PAGE.replace("http://www.w3.org/2000/svg", "");
            assert!(!page.contains(external), "the page contains {external}");
        }
    }

    #[test]
    fn example_prompts_are_in_the_page_and_escaped() {
        let page = render_page(&["fn main() {".to_owned(), "</script>\"".to_owned()]);
        assert!(page.contains(r#"const EXAMPLES = ["fn main() {","\u003c/script>\""];"#), "{page}");
        assert!(render_page(&[]).contains("const EXAMPLES = [];"));
    }

    #[test]
    fn openapi_description_has_every_path_and_schema() {
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let paths: Vec<&String> = description["paths"].as_object().unwrap().keys().collect();
        assert_eq!(paths, ["/health", "/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{id}"]);
        let schemas = &description["components"]["schemas"];
        for name in [
            "CompletionRequest",
            "CompletionBody",
            "Choice",
            "ChatRequest",
            "ChatBody",
            "ChatChunk",
            "Usage",
            "ErrorBody",
            "ModelList",
            "Health",
        ] {
            assert!(schemas[name].is_object(), "{name} is missing");
        }
        let request = &schemas["CompletionRequest"];
        assert_eq!(request["properties"]["temperature"]["maximum"], 2);
        assert!(request.get("required").is_none(), "no parameter is required: {}", request["required"]);
        assert_eq!(schemas["ChatRequest"]["required"], serde_json::json!(["messages"]));
    }
}
