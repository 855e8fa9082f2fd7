//! Loading and unloading models at run time. Only models that the server was started with: no request names a path.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};

use super::ServerState;
use crate::api_error::{ApiError, ErrorBody};
use crate::models::ModelState;

/// Lists all models that the server was started with, loaded or not.
#[utoipa::path(
    get,
    path = "/admin/models",
    responses((status = 200, description = "What every model is doing.", body = Vec<ModelState>)),
)]
pub(super) async fn states(State(state): State<Arc<ServerState>>) -> Json<Vec<ModelState>> {
    Json(state.models.states())
}

/// Loads a model, and answers when it is loaded; at once if it is loaded or being loaded already.
#[utoipa::path(
    post,
    path = "/admin/models/{id}/load",
    params(("id" = String, Path, description = "The model's name.")),
    responses(
        (status = 200, description = "What the model is doing.", body = ModelState),
        (status = 404, description = "The model does not exist.", body = ErrorBody),
        (status = 500, description = "The model cannot be loaded.", body = ErrorBody),
        (status = 503, description = "The server is shutting down.", body = ErrorBody),
    ),
)]
pub(super) async fn load(
    State(state): State<Arc<ServerState>>,
    Path(id): Path<String>,
) -> Result<Json<ModelState>, ApiError> {
    if state.stopping.is_requested() {
        return Err(ApiError::stopping());
    }
    if state.models.begin_loading(&id)? {
        let (models, name) = (Arc::clone(&state.models), id.clone());
        let loaded = tokio::task::spawn_blocking(move || models.load(&name)).await;
        let failed = |reason: String| ApiError::server(format!("The model `{id}` cannot be loaded: {reason}."));
        loaded.map_err(|_| failed("see the server's log".to_owned()))?.map_err(|error| failed(error.to_string()))?;
    }
    Ok(Json(state.models.state(&id)?))
}

/// Unloads a model: requests that it is answering finish, further ones are refused.
#[utoipa::path(
    post,
    path = "/admin/models/{id}/unload",
    params(("id" = String, Path, description = "The model's name.")),
    responses(
        (status = 200, description = "What the model is doing.", body = ModelState),
        (status = 404, description = "The model does not exist.", body = ErrorBody),
        (status = 503, description = "The model is being loaded.", body = ErrorBody),
    ),
)]
pub(super) async fn unload(
    State(state): State<Arc<ServerState>>,
    Path(id): Path<String>,
) -> Result<Json<ModelState>, ApiError> {
    state.models.unload(&id)?;
    Ok(Json(state.models.state(&id)?))
}
