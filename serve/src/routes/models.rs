//! The list of models.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};

use super::ServerState;
use crate::api_error::{ApiError, ErrorBody};
use crate::response::{ModelEntry, ModelList};

/// Lists the models that are loaded.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, description = "The models.", body = ModelList)))]
pub(super) async fn models(State(state): State<Arc<ServerState>>) -> Json<ModelList> {
    let data = state.models.loaded().iter().map(|model| model.entry()).collect();
    Json(ModelList { object: "list", data })
}

/// Describes a model.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    params(("id" = String, Path, description = "The model's name.")),
    responses(
        (status = 200, description = "The model.", body = ModelEntry),
        (status = 404, description = "The model does not exist, or is not loaded.", body = ErrorBody),
        (status = 503, description = "The model is being loaded.", body = ErrorBody),
    ),
)]
pub(super) async fn model(
    State(state): State<Arc<ServerState>>,
    Path(id): Path<String>,
) -> Result<Json<ModelEntry>, ApiError> {
    Ok(Json(state.models.get(Some(&id))?.entry()))
}
