//! Loading and unloading models at run time. Only models that the server was started with: no request names a path.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use utoipa::IntoResponses;

use super::ServerState;
use super::models::ModelId;
use crate::api_error::{ApiError, ErrorBody};
use crate::error::causes;
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

/// The answers to a change of a model.
#[expect(dead_code, reason = "describes the answers of two routes")]
#[derive(IntoResponses)]
enum Changed {
    /// What the model is doing.
    #[response(status = 200)]
    Done(ModelState),
    /// The model does not exist.
    #[response(status = 404)]
    Unknown(ErrorBody),
    /// It is an adapter of a model that is not loaded.
    #[response(status = 409)]
    NoBase(ErrorBody),
    /// The model cannot be loaded.
    #[response(status = 500)]
    Failed(ErrorBody),
    /// The model is being loaded, or the server is shutting down.
    #[response(status = 503)]
    Busy(ErrorBody),
}

/// Loads a model, and answers when it is loaded; at once if it is loaded or being loaded already.
#[utoipa::path(
    post,
    path = "/admin/models/{id}/load",
    params(("id" = String, Path, description = "The model's name.")),
    responses(Changed),
)]
pub(super) async fn load(
    State(state): State<Arc<ServerState>>,
    ModelId(id): ModelId,
) -> Result<Json<ModelState>, ApiError> {
    if state.stopping.is_requested() {
        return Err(ApiError::stopping());
    }
    if state.models.begin_loading(&id)? {
        let (models, name) = (Arc::clone(&state.models), id.clone());
        let loaded = tokio::task::spawn_blocking(move || models.load(&name)).await;
        let failed = |reason: String| ApiError::server(format!("The model `{id}` cannot be loaded: {reason}."));
        loaded.map_err(|_| failed("see the server's log".to_owned()))?.map_err(|error| failed(causes(&error)))?;
    }
    Ok(Json(state.models.state(&id)?))
}

/// Unloads a model and its adapters: requests that they are answering finish, further ones are refused.
#[utoipa::path(
    post,
    path = "/admin/models/{id}/unload",
    params(("id" = String, Path, description = "The model's name.")),
    responses(Changed),
)]
pub(super) async fn unload(
    State(state): State<Arc<ServerState>>,
    ModelId(id): ModelId,
) -> Result<Json<ModelState>, ApiError> {
    state.models.unload(&id)?;
    Ok(Json(state.models.state(&id)?))
}
