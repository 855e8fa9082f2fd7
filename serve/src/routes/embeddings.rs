//! The route that answers with embeddings.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};

use super::{ServerState, body};
use crate::api_error::{ApiError, ErrorBody};
use crate::embeddings::{self, EmbeddingList, EmbeddingRequest};

/// Returns embeddings of texts: the mean of the hidden states of a text's tokens after the last norm, with length 1.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    request_body = EmbeddingRequest,
    responses(
        (status = 200, description = "The embeddings.", body = EmbeddingList),
        (
            status = 400,
            description = "A parameter is invalid (`param` names it), or an input is longer than the model's context \
                           (`code` is `context_length_exceeded`).",
            body = ErrorBody,
        ),
    ),
)]
pub(super) async fn embed(
    State(state): State<Arc<ServerState>>,
    request: Request,
) -> Result<Json<EmbeddingList>, ApiError> {
    let (model, body) = body::read(&state, request).await?;
    let request = embeddings::parse(&body, &model.config)?;
    model.queue.check_room()?;
    let encoder = Arc::clone(&model);
    // Encoding long texts takes too long for the threads of I/O.
    let encoded = tokio::task::spawn_blocking(move || request.encode(&encoder.generator, &encoder.config)).await;
    let failed = |_| ApiError::server("The input could not be encoded; see the server's log.".to_owned());
    let (work, encoding) = encoded.map_err(failed)??;
    Ok(Json(embeddings::answer(model.queue.push(work)?, encoding, &model.config.model_name).await?))
}
