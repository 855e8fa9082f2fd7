//! The list of models.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::ServerState;
use crate::api_error::{ApiError, ErrorBody};
use crate::response::{ModelEntry, ModelList};

/// The name of a model in a path.
pub(super) struct ModelId(pub(super) String);

impl FromRequestParts<Arc<ServerState>> for ModelId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ServerState>) -> Result<Self, ApiError> {
        let path = Path::from_request_parts(parts, state).await;
        let invalid = |_| ApiError::request(StatusCode::BAD_REQUEST, "The model's name in the URL is not UTF-8.");
        path.map(|Path(id)| Self(id)).map_err(invalid)
    }
}

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
    ModelId(id): ModelId,
) -> Result<Json<ModelEntry>, ApiError> {
    Ok(Json(state.models.get(Some(&id))?.entry()))
}
