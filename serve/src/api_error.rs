//! Error answers in OpenAI's shape: a status, and `{"error": {message, type, param, code}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) detail: ErrorDetail,
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
        Self { status, detail: ErrorDetail { message, kind, param: None, code: None } }
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

    /// Returns the error for a model name that this server does not serve.
    pub(crate) fn model_not_found(requested: &str, served: &str) -> Self {
        let message = format!("The model `{requested}` does not exist; this server has `{served}`.");
        let mut error = Self::parameter("model", "model_not_found", message);
        error.status = StatusCode::NOT_FOUND;
        error
    }

    /// Returns the error for a conversation with a model that has no chat template.
    pub(crate) fn no_chat_template() -> Self {
        let message = "This model has no chat template. Use /v1/completions, or put a chat_template.jinja beside its \
                       config.json, or fine-tune it with train.chat_template.";
        Self::parameter("messages", "no_chat_template", message.to_owned())
    }

    /// Returns the error for a request that needs more of the KV cache than there is.
    pub(crate) fn cache_too_small(cause: &inference::Error) -> Self {
        Self::parameter("max_tokens", "kv_cache_exceeded", format!("The request is too long: {cause}."))
    }

    /// Returns the error for a full queue.
    pub(crate) fn queue_full(max_queue: usize) -> Self {
        let message = format!("{max_queue} requests are already waiting; try again in a moment.");
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        error.detail.code = Some("queue_full");
        error
    }

    /// Returns the error for requests during shutdown.
    pub(crate) fn stopping() -> Self {
        let message = "This server is shutting down.".to_owned();
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        error.detail.code = Some("stopping");
        error
    }

    /// Returns an error that the client did not cause.
    pub(crate) fn server(message: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// Returns the answer's body.
    pub(crate) fn body(self) -> ErrorBody {
        ErrorBody { error: self.detail }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.body())).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
