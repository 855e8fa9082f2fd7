//! The route that answers with the passages of a text that occur in the training data.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};

use super::{ServerState, body};
use crate::api_error::{ApiError, ErrorBody};
use crate::passages::{self, TraceBody, TraceRequest};

/// Returns the passages of a text that occur verbatim in the model's training data, and the documents that have them. A
/// model without an index of its training data gets status 404 and the code `trace_not_available`.
#[utoipa::path(
    post,
    path = "/trace",
    request_body = TraceRequest,
    responses(
        (status = 200, description = "The passages.", body = TraceBody),
        (
            status = 400,
            description = "A parameter is invalid (`param` names it), or the text is too long (`code` is \
                           `context_length_exceeded`).",
            body = ErrorBody,
        ),
    ),
)]
pub(super) async fn trace(
    State(state): State<Arc<ServerState>>,
    request: Request,
) -> Result<Json<TraceBody>, ApiError> {
    let (model, body) = body::read(&state, request).await?;
    let request = passages::parse(&body, &model.config)?;
    let answer = move || match &model.index {
        Ok(index) => request.answer(index, &model.config.model_name),
        Err(reason) => Err(ApiError::no_trace(reason)),
    };
    // The index is read from the disk where it is not in memory yet.
    let answer = tokio::task::spawn_blocking(answer).await;
    let failed = |_| ApiError::server("The text could not be traced; see the server's log.".to_owned());
    Ok(Json(answer.map_err(failed)??))
}
