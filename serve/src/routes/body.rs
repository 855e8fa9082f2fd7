//! Reading the body of a request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::ServerState;
use crate::Config;
use crate::api_error::ApiError;
use crate::models::LoadedModel;

/// How many times the limit is read of a body that is too long, so that a client that sends it as a whole gets the
/// answer: closing a connection with unread bytes resets it.
const DISCARDED: usize = 8;

/// Returns the body of a request, which must be JSON, arrive in time and not be too long, and the model that it names.
///
/// # Errors
/// Returns an error if it is not, does not or is, if there is no such model, or if the server is shutting down.
pub(super) async fn read(state: &ServerState, request: Request) -> Result<(Arc<LoadedModel>, Vec<u8>), ApiError> {
    if state.stopping.is_requested() {
        return Err(ApiError::stopping());
    }
    if !is_json(request.headers()) {
        let message = "The body must be JSON, with the header `Content-Type: application/json`.";
        return Err(ApiError::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let Config { body_seconds, max_body_bytes, log_prompts, .. } = state.config;
    let body = tokio::time::timeout(Duration::from_secs(body_seconds), collect(request.into_body(), max_body_bytes))
        .await
        .map_err(|_| ApiError::request(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time."))??;
    if log_prompts {
        tracing::info!(target: "serve::access", body = &*String::from_utf8_lossy(&body), "body");
    }
    Ok((state.models.get(model_name(&body).as_deref())?, body))
}

/// Collects a body of at most `limit` bytes.
async fn collect(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let (mut collected, mut length) = (Vec::new(), 0_usize);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| ApiError::request(StatusCode::BAD_REQUEST, "The body could not be read."))?;
        length += chunk.len();
        if length <= limit {
            collected.extend_from_slice(&chunk);
        } else if length > limit.saturating_mul(DISCARDED) {
            break;
        }
    }
    if length > limit {
        let message = format!("The body is longer than {limit} bytes.");
        return Err(ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(collected)
}

/// Returns the name of the model that a body asks for: the last one, as for every key that is repeated. Whether the
/// rest is valid is for its parser to say.
fn model_name(body: &[u8]) -> Option<String> {
    struct Named(Option<String>);

    impl<'de> Deserialize<'de> for Named {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Parameters)
        }
    }

    struct Parameters;

    impl<'de> Visitor<'de> for Parameters {
        type Value = Named;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut parameters: A) -> Result<Named, A::Error> {
            let mut name = None;
            while let Some(key) = parameters.next_key::<String>()? {
                if key == "model" {
                    name = parameters.next_value::<Value>()?.as_str().map(str::to_owned);
                } else {
                    parameters.next_value::<IgnoredAny>()?;
                }
            }
            Ok(Named(name))
        }
    }

    serde_json::from_slice::<Named>(body).ok()?.0
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::model_name;

    #[test]
    fn the_last_name_of_a_model_counts() {
        for (body, name) in [
            (r#"{"model": "a", "prompt": ["x", {"model": "y"}]}"#, Some("a")),
            (r#"{"model": "a", "model": "b"}"#, Some("b")),
            (r#"{"model": "a", "model": null}"#, None),
            (r#"{"model": 1}"#, None),
            (r#"["model", "a"]"#, None),
            (r#"{"model": "a""#, None),
        ] {
            assert_eq!(model_name(body.as_bytes()).as_deref(), name, "{body}");
        }
    }
}
