//! Errors as OpenAI's clients expect them: a status, and `{"error": {message, type, param, code}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) detail: Detail,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What went wrong.
    pub(crate) error: Detail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Detail {
    /// A sentence for people.
    pub(crate) message: String,
    /// The kind: `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The parameter that was wrong, where one was.
    pub(crate) param: Option<String>,
    /// A name for programs, where there is one.
    pub(crate) code: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, message: String) -> Self {
        Self { status, detail: Detail { message, kind, param: None, code: None } }
    }

    /// Returns a problem of the request as a whole.
    pub(crate) fn request(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message.into())
    }

    /// Returns a problem with a parameter.
    pub(crate) fn parameter(name: &str, code: &'static str, message: String) -> Self {
        let mut problem = Self::request(StatusCode::BAD_REQUEST, message);
        problem.detail.param = Some(name.to_owned());
        problem.detail.code = Some(code);
        problem
    }

    /// Returns the answer to a request for a model that is not here.
    pub(crate) fn model_not_found(asked: &str, here: &str) -> Self {
        let message = format!("The model `{asked}` does not exist here; this server has `{here}`.");
        let mut problem = Self::parameter("model", "model_not_found", message);
        problem.status = StatusCode::NOT_FOUND;
        problem
    }

    /// Returns the answer to one request too many.
    pub(crate) fn queue_full(max_queue: usize) -> Self {
        let message = format!("{max_queue} requests are waiting already; try again in a moment.");
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        problem.detail.code = Some("queue_full");
        problem
    }

    /// Returns the answer of a server that is going away.
    pub(crate) fn stopping() -> Self {
        let message = "This server is stopping.".to_owned();
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        problem.detail.code = Some("stopping");
        problem
    }

    /// Returns a failure that is not the client's doing.
    pub(crate) fn server(message: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// Returns the answer's body.
    pub(crate) fn body(self) -> ErrorBody {
        ErrorBody { error: self.detail }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.body())).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
