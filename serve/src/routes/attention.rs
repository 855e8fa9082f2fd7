//! The route that answers with weights of attention.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};

use super::{ServerState, body};
use crate::api_error::{ApiError, ErrorBody};
use crate::attention::{self, AttentionBody, AttentionRequest};

/// Returns what the model attends to at the last token of a text: the weights of each query head of a layer.
#[utoipa::path(
    post,
    path = "/attention",
    request_body = AttentionRequest,
    responses(
        (status = 200, description = "The weights.", body = AttentionBody),
        (
            status = 400,
            description = "A parameter is invalid (`param` names it), the text is longer than the model's context \
                           (`code` is `context_length_exceeded`), or the model is on a device that does not give the \
                           weights (`code` is `attention_not_available`).",
            body = ErrorBody,
        ),
    ),
)]
pub(super) async fn attend(
    State(state): State<Arc<ServerState>>,
    request: Request,
) -> Result<Json<AttentionBody>, ApiError> {
    let (model, body) = body::read(&state, request).await?;
    let request = attention::parse(&body, &model.config)?;
    model.queue.check_room()?;
    let encoder = Arc::clone(&model);
    // Encoding a long text takes too long for the threads of I/O.
    let encoded = tokio::task::spawn_blocking(move || request.encode(&encoder.generator, &encoder.config)).await;
    let failed = |_| ApiError::server("The text could not be encoded; see the server's log.".to_owned());
    let (work, shown) = encoded.map_err(failed)??;
    Ok(Json(attention::answer(model.queue.push(work)?, shown, &model.config.model_name).await?))
}
