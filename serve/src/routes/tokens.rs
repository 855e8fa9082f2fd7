//! From text to tokens and back, with the shapes of vLLM's routes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ServerState, body};
use crate::api_error::{ApiError, ErrorBody};
use crate::json_body;
use crate::models::LoadedModel;

/// A text to encode.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenizeRequest {
    /// The model's name; optional.
    #[serde(rename = "model")]
    _model: Option<String>,
    /// The text. Special tokens in it are read as such, as in the prompt of a completion.
    prompt: String,
}

/// The tokens of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenizeBody {
    /// The number of tokens.
    count: usize,
    /// The model's context length in tokens.
    max_model_len: usize,
    /// The tokens.
    tokens: Vec<u32>,
}

/// Tokens to decode.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DetokenizeRequest {
    /// The model's name; optional.
    #[serde(rename = "model")]
    _model: Option<String>,
    /// The tokens.
    tokens: Vec<u32>,
}

/// The text of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DetokenizeBody {
    /// The text.
    prompt: String,
}

/// Returns the tokens of a text.
#[utoipa::path(
    post,
    path = "/tokenize",
    request_body = TokenizeRequest,
    responses(
        (status = 200, description = "The tokens.", body = TokenizeBody),
        (status = 400, description = "A parameter is invalid.", body = ErrorBody),
    ),
)]
pub(super) async fn tokenize(
    State(state): State<Arc<ServerState>>,
    request: Request,
) -> Result<Json<TokenizeBody>, ApiError> {
    let (model, TokenizeRequest { prompt, .. }) = parse(&state, request).await?;
    let tokenizer = Arc::clone(&model);
    let tokens = tokio::task::spawn_blocking(move || tokenizer.generator.tokenizer().encode_prompt(&prompt)).await;
    let tokens = tokens
        .map_err(|_| ApiError::server("The text could not be encoded; see the server's log.".to_owned()))?
        .map_err(|error| ApiError::parameter("prompt", "invalid_value", format!("{error}.")))?;
    Ok(Json(TokenizeBody { count: tokens.len(), max_model_len: model.description.context_length, tokens }))
}

/// Returns the text of tokens.
#[utoipa::path(
    post,
    path = "/detokenize",
    request_body = DetokenizeRequest,
    responses(
        (status = 200, description = "The text.", body = DetokenizeBody),
        (status = 400, description = "A parameter is invalid, or a token is not in the vocabulary.", body = ErrorBody),
    ),
)]
pub(super) async fn detokenize(
    State(state): State<Arc<ServerState>>,
    request: Request,
) -> Result<Json<DetokenizeBody>, ApiError> {
    let (model, DetokenizeRequest { tokens, .. }) = parse(&state, request).await?;
    let size = model.description.vocab_size;
    let invalid = |message| ApiError::parameter("tokens", "invalid_value", message);
    if let Some(token) = tokens.iter().find(|token| **token as usize >= size) {
        let message = format!("`tokens` must be below {size}, the size of the vocabulary, not {token}.");
        return Err(invalid(message));
    }
    let prompt = model.generator.tokenizer().decode(&tokens).map_err(|error| invalid(format!("{error}.")))?;
    Ok(Json(DetokenizeBody { prompt }))
}

/// Reads a request, and finds its model.
async fn parse<T: DeserializeOwned>(state: &ServerState, request: Request) -> Result<(Arc<LoadedModel>, T), ApiError> {
    let (model, body) = body::read(state, request).await?;
    let body = json_body::json(&body)?;
    let parsed = json_body::deserialize(&body, &model.config).map_err(|error| {
        if error.detail.param.as_deref() != Some("tokens") || error.detail.code != Some("invalid_type") {
            return error;
        }
        let size = model.description.vocab_size;
        let message = format!("`tokens` must be an array of integers from 0 to {}.", size - 1);
        ApiError::parameter("tokens", "invalid_type", message)
    })?;
    Ok((model, parsed))
}
