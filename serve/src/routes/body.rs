//! Reading the body of a request.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::ServerState;
use crate::Config;
use crate::api_error::ApiError;

/// Returns the body of a request, which must be JSON, arrive in time and not be too long.
///
/// # Errors
/// Returns an error if it is not, does not or is, or if the server is shutting down.
pub(super) async fn read(state: &ServerState, request: Request) -> Result<Bytes, ApiError> {
    if state.stopping.is_requested() {
        return Err(ApiError::stopping());
    }
    if !is_json(request.headers()) {
        let message = "The body must be JSON, with the header `Content-Type: application/json`.";
        return Err(ApiError::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let Config { body_seconds, max_body_bytes, log_prompts, .. } = state.config;
    let body = tokio::time::timeout(Duration::from_secs(body_seconds), Bytes::from_request(request, &()))
        .await
        .map_err(|_| ApiError::request(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time."))?
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let message = format!("The body is longer than {max_body_bytes} bytes.");
                ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            status => ApiError::request(status, "The body could not be read."),
        })?;
    if log_prompts {
        tracing::info!(target: "serve::access", body = %String::from_utf8_lossy(&body), "body");
    }
    Ok(body)
}

/// Returns the name of the model that a body asks for. Whether the rest is valid is for its parser to say.
pub(super) fn model_name(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        model: Option<String>,
    }
    serde_json::from_slice::<Named>(body).ok()?.model
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}
