//! The routes that generate text.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::{ServerState, body};
use crate::answer::{self, Shape};
use crate::api_error::{ApiError, ErrorBody};
use crate::chat_request::{self, ChatRequest};
use crate::json_body;
use crate::models::LoadedModel;
use crate::parameters::Limits;
use crate::request::{self, CompletionRequest, ValidRequest};
use crate::response::{ChatBody, CompletionBody};
use crate::responses::{self, ResponsesRequest};
use crate::work::Work;

/// An event of a stream.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "describes what `axum` writes")]
pub(crate) struct ServerSentEvent {
    /// The kind of event; absent but for responses.
    event: Option<String>,
    /// A chunk as JSON, or `[DONE]`.
    data: String,
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
            content((CompletionBody = "application/json"), (ServerSentEvent = "text/event-stream")),
        ),
        (status = 400, description = "A parameter is invalid; `param` names it.", body = ErrorBody),
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
            content((ChatBody = "application/json"), (ServerSentEvent = "text/event-stream")),
        ),
        (
            status = 400,
            description = "A parameter is invalid (`param` names it), the template refuses the conversation, or the \
                           model has none (`code` is `no_chat_template`).",
            body = ErrorBody,
        ),
    ),
)]
pub(super) async fn chat(State(state): State<Arc<ServerState>>, request: Request) -> Result<Response, ApiError> {
    respond(&state, request, chat_request::parse).await
}

/// Answers a conversation with a response: items of the types `message` and `function_call`. Nothing is stored, so
/// `previous_response_id` is refused.
#[utoipa::path(
    post,
    path = "/v1/responses",
    request_body = ResponsesRequest,
    responses(
        (
            status = 200,
            description = "The response; with `stream`, server-sent events that end with `response.completed` or \
                           `response.incomplete`.",
            content((serde_json::Value = "application/json"), (ServerSentEvent = "text/event-stream")),
        ),
        (status = 400, description = "A parameter is invalid; `param` names it.", body = ErrorBody),
    ),
)]
pub(super) async fn respond_once(
    State(state): State<Arc<ServerState>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (model, body) = body::read(&state, request).await?;
    let body = json_body::json(&body)?;
    ResponsesRequest::refuse_unsupported(&body)?;
    let request: ResponsesRequest = json_body::deserialize(&body, &model.config)?;
    let is_streamed = request.stream.unwrap_or(false);
    let (chat, echo) = request.into_chat(&model.config.model_name)?;
    let renamed = |error| chat.renamed(error);
    let request = chat_request::parse(&chat.body, &model.limits()).map_err(renamed)?;
    let tools = request.tools.clone();
    let (work, _) = encode(&model, request).await.map_err(renamed)?;
    responses::answer(echo, tools, is_streamed, model.queue.push(work)?).await
}

/// Reads a request's body, parses it with `parse`, and answers it.
async fn respond(
    state: &ServerState,
    request: Request,
    parse: fn(&[u8], &Limits<'_>) -> Result<ValidRequest, ApiError>,
) -> Result<Response, ApiError> {
    let (model, body) = body::read(state, request).await?;
    let limits = model.limits();
    let request = parse(&body, &limits)?;
    let streaming = request.settings.streaming;
    let (work, shape) = encode(&model, request).await?;
    answer::answer(work, shape, streaming, &model.queue, &model.config.model_name).await
}

/// Encodes the prompts of a request, unless the queue is full.
async fn encode(model: &Arc<LoadedModel>, request: ValidRequest) -> Result<(Work, Shape), ApiError> {
    model.queue.check_room()?;
    let model = Arc::clone(model);
    // Rendering and encoding a long prompt takes too long for the threads of I/O.
    let encoded = tokio::task::spawn_blocking(move || request.encode(&model.generator, &model.config)).await;
    encoded.map_err(|_| ApiError::server("The prompt could not be encoded; see the server's log.".to_owned()))?
}
