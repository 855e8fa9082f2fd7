//! The routes that generate text.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::{ServerState, body};
use crate::answer;
use crate::api_error::{ApiError, ErrorBody};
use crate::chat_request::{self, ChatRequest};
use crate::request::{self, CompletionRequest, Limits, ValidRequest};
use crate::response::{ChatBody, ChatChunk, CompletionBody};

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
        (status = 401, description = "The key is missing or not valid.", body = ErrorBody),
        (status = 403, description = "The key does not have the scope `inference`.", body = ErrorBody),
        (status = 404, description = "The model does not exist, or is not loaded.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too long.", body = ErrorBody),
        (status = 415, description = "The body is not `application/json`.", body = ErrorBody),
        (status = 429, description = "The queue is full, or the key's limit is used up.", body = ErrorBody),
        (status = 500, description = "Generation failed.", body = ErrorBody),
        (status = 504, description = "The answer took too long.", body = ErrorBody),
        (status = 503, description = "The model is being loaded, or the server is shutting down.", body = ErrorBody),
    ),
)]
pub(super) async fn complete(State(state): State<Arc<ServerState>>, request: Request) -> Result<Response, ApiError> {
    respond(&state, request, request::parse).await
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
        (status = 401, description = "The key is missing or not valid.", body = ErrorBody),
        (status = 403, description = "The key does not have the scope `inference`.", body = ErrorBody),
        (status = 404, description = "The model does not exist, or is not loaded.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too long.", body = ErrorBody),
        (status = 415, description = "The body is not `application/json`.", body = ErrorBody),
        (status = 429, description = "The queue is full, or the key's limit is used up.", body = ErrorBody),
        (status = 500, description = "Generation failed.", body = ErrorBody),
        (status = 504, description = "The answer took too long.", body = ErrorBody),
        (status = 503, description = "The model is being loaded, or the server is shutting down.", body = ErrorBody),
    ),
)]
pub(super) async fn chat(State(state): State<Arc<ServerState>>, request: Request) -> Result<Response, ApiError> {
    respond(&state, request, chat_request::parse).await
}

/// Reads a request's body, parses it with `parse`, and answers it.
async fn respond(
    state: &ServerState,
    request: Request,
    parse: fn(&[u8], &Limits<'_>) -> Result<ValidRequest, ApiError>,
) -> Result<Response, ApiError> {
    let body = body::read(state, request).await?;
    let model = state.models.get(body::model_name(&body).as_deref())?;
    let limits = Limits { config: &model.config, declared: model.generator.declared_sampling() };
    let request = parse(&body, &limits)?;
    let streaming = request.settings.streaming;
    let encoder = Arc::clone(&model);
    // Rendering and encoding a long prompt takes too long for the threads of I/O.
    let encoded = tokio::task::spawn_blocking(move || request.encode(&encoder.generator, &encoder.config)).await;
    let (work, shape) = encoded
        .map_err(|_| ApiError::server("The prompt could not be encoded; see the server's log.".to_owned()))??;
    answer::answer(work, shape, streaming, &model.queue, &model.config.model_name).await
}
