//! Error answers in OpenAI's shape: a status, and `{"error": {message, type, param, code}}`.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Characters of a model's name that an error repeats. Heuristic, not measured: names are shorter.
const SHOWN_NAME: usize = 100;

/// What else can be done about a prompt that is too long, on routes with that parameter.
pub(crate) const TRUNCATE: &str = ", or keep only its end with `truncate_prompt_tokens`";

/// Why a request failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) detail: ErrorDetail,
    /// When the same request may succeed, in seconds.
    retry_after: Option<u64>,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// The error.
    pub(crate) error: ErrorDetail,
}

/// The error.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// A description for humans.
    pub(crate) message: String,
    /// The kind: `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The invalid parameter, if one parameter is the cause.
    pub(crate) param: Option<String>,
    /// An identifier for programs, if there is one.
    pub(crate) code: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: String) -> Self {
        let detail = ErrorDetail { message, kind, param: None, code: None };
        Self { status, detail, retry_after: None }
    }

    /// Returns an error of the request as a whole.
    pub(crate) fn request(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message.into())
    }

    /// Returns an error of one parameter.
    pub(crate) fn parameter(name: &str, code: &'static str, message: String) -> Self {
        let mut error = Self::request(StatusCode::BAD_REQUEST, message);
        error.detail.param = Some(name.to_owned());
        error.detail.code = Some(code);
        error
    }

    /// Returns the error for a setting that is out of range.
    pub(crate) fn setting(invalid: &inference::InvalidSetting) -> Self {
        let inference::InvalidSetting { name, expected, found } = invalid;
        Self::parameter(name, "invalid_value", format!("`{name}` must be {expected}, not {found}."))
    }

    /// Returns the error for a model name that this server does not serve.
    pub(crate) fn model_not_found(requested: &str, served: &str) -> Self {
        let requested: String = requested.chars().take(SHOWN_NAME).collect();
        let message = format!("The model `{requested}` does not exist; this server has `{served}`.");
        let mut error = Self::parameter("model", "model_not_found", message);
        error.status = StatusCode::NOT_FOUND;
        error
    }

    /// Returns the error for a model that the server could load, but has not.
    pub(crate) fn not_loaded(model: &str) -> Self {
        let mut error = Self::parameter("model", "model_not_loaded", format!("The model `{model}` is not loaded."));
        error.status = StatusCode::NOT_FOUND;
        error
    }

    /// Returns the error for an adapter whose base is not loaded.
    pub(crate) fn base_not_loaded(adapter: &str, base: &str) -> Self {
        let message = format!("`{adapter}` is an adapter of `{base}`, which is not loaded; load that model first.");
        Self::request(StatusCode::CONFLICT, message).with_code("base_not_loaded")
    }

    /// Returns the error for a conversation with a model that has no chat template.
    pub(crate) fn no_chat_template() -> Self {
        let message = "This model has no chat template. Use /v1/completions, or put a chat_template.jinja beside its \
                       config.json, or fine-tune it with train.chat_template.";
        Self::parameter("messages", "no_chat_template", message.to_owned())
    }

    /// Returns the error for a prompt that is longer than the model's context, or than this server allows.
    pub(crate) fn context_length_exceeded(name: &str, tokens: usize, limit: usize) -> Self {
        let message =
            format!("`{name}` has {tokens} tokens, and this model reads at most {limit}; shorten it{TRUNCATE}.");
        Self::parameter(name, "context_length_exceeded", message)
    }

    /// Returns the error for a grammar that proves too complex while it is applied.
    pub(crate) fn constraint(cause: &inference::Error) -> Self {
        let mut error = Self::request(StatusCode::BAD_REQUEST, format!("Generation failed: {cause}."));
        error.detail.code = Some("invalid_grammar");
        error
    }

    /// Returns the error for a request that needs more of the KV cache than there is.
    pub(crate) fn cache_too_small(name: &str, cause: &inference::Error) -> Self {
        let message = format!("The request is too long: {cause} (`serve.kv_cache_tokens` of the server).");
        Self::parameter(name, "kv_cache_exceeded", message)
    }

    /// Returns the error for a model whose device gives no weights of attention.
    pub(crate) fn no_attention(cause: &inference::Error) -> Self {
        Self::parameter("model", "attention_not_available", format!("The attention cannot be shown: {cause}."))
    }

    /// Returns the error for a model whose training data cannot be looked up.
    pub(crate) fn no_trace(reason: &str) -> Self {
        let message = format!("No text can be traced to the training data of this model: {reason}.");
        let mut error = Self::parameter("model", "trace_not_available", message);
        error.status = StatusCode::NOT_FOUND;
        error
    }

    /// Returns the error for a full queue.
    pub(crate) fn queue_full(max_queue: usize) -> Self {
        let message = format!("{max_queue} requests are already waiting; try again in a moment.");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        error.with_code("queue_full").with_retry_after(1)
    }

    /// Returns the error for a key that has used up its requests per minute.
    pub(crate) fn rate_limited(key: &str, wait: Duration) -> Self {
        let seconds = (wait.as_secs_f64().ceil() as u64).max(1);
        let message = format!("The key `{key}` has used up its requests per minute; try again in {seconds} s.");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        error.with_code("rate_limit_exceeded").with_retry_after(seconds)
    }

    /// Returns the error for a connection beyond the limit.
    pub(crate) fn too_many_connections(max_connections: usize) -> Self {
        let message = format!("All {max_connections} connections are in use; try again in a moment.");
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        error.with_code("too_many_connections").with_retry_after(1)
    }

    /// Returns the error for a request whose answer takes too long.
    pub(crate) fn too_slow(limit: Duration) -> Self {
        let message = format!(
            "The answer took longer than {} s, the limit of this server; ask for fewer tokens.",
            limit.as_secs()
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message).with_code("request_timeout")
    }

    /// Returns the error for a request without a key.
    pub(crate) fn missing_key() -> Self {
        let message = "This server needs an API key: send it as `Authorization: Bearer KEY`.";
        Self::request(StatusCode::UNAUTHORIZED, message).with_code("invalid_api_key")
    }

    /// Returns the error for a key that the server does not know.
    pub(crate) fn unknown_key() -> Self {
        Self::request(StatusCode::UNAUTHORIZED, "The API key is not valid.").with_code("invalid_api_key")
    }

    /// Returns the error for a key without the scope of a route.
    pub(crate) fn missing_scope(key: &str, scope: &str) -> Self {
        let message = format!("The key `{key}` does not have the scope `{scope}`, which this route needs.");
        Self::request(StatusCode::FORBIDDEN, message).with_code("insufficient_scope")
    }

    /// Returns the error for an administrative route of a server without keys.
    pub(crate) fn no_keys() -> Self {
        let message = "This route needs a key with the scope `admin`, and this server has no keys: start it with \
                       `--keys FILE`; `pipeline serve --new-key NAME --scope admin` makes one.";
        Self::request(StatusCode::FORBIDDEN, message).with_code("insufficient_scope")
    }

    /// Returns the error for a model that is still being loaded.
    pub(crate) fn loading(model: &str) -> Self {
        let message = format!("The model `{model}` is being loaded; try again in a moment.");
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        error.with_code("model_loading").with_retry_after(1)
    }

    /// Returns the error for requests during shutdown.
    pub(crate) fn stopping() -> Self {
        let message = "This server is shutting down.".to_owned();
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        error.with_code("stopping").with_retry_after(1)
    }

    /// Returns an error that the client did not cause.
    pub(crate) fn server(message: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    fn with_code(mut self, code: &'static str) -> Self {
        self.detail.code = Some(code);
        self
    }

    fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Returns the answer's body.
    pub(crate) fn body(self) -> ErrorBody {
        ErrorBody { error: self.detail }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status, self.retry_after);
        let mut response = (status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
