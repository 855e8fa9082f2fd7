//! Whether the server is alive and ready, and its metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::ServerState;
use crate::metrics::CONTENT_TYPE;
use crate::response::{Load, ServedModel};

/// The server's state.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, `loading`, `unloaded` (no model is to be loaded at the start) or `stopping`.
    status: &'static str,
    /// The program's version.
    version: &'static str,
    /// The model that answers requests that name none; absent while it is being loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<ServedModel>,
    /// All models that are loaded.
    models: Vec<ServedModel>,
    /// The load of all workers.
    requests: Load,
}

/// Whether the server is ready.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ok`, `loading`, `unloaded` (no model is to be loaded at the start) or `stopping`.
    status: &'static str,
}

impl ServerState {
    fn status(&self) -> &'static str {
        if self.stopping.is_requested() { "stopping" } else { self.models.readiness() }
    }
}

/// Returns the server's state, its models and its load. The status is 200 as long as the server runs.
#[utoipa::path(
    get,
    path = "/health",
    responses((status = 200, description = "The server is running.", body = Health)),
)]
pub(super) async fn health(State(state): State<Arc<ServerState>>) -> Json<Health> {
    let loaded = state.models.loaded();
    let mut requests = Load { running: 0, waiting: 0, max_queue: 0 };
    // Adapters have the queue of their base.
    for load in loaded.iter().filter(|model| model.description.base.is_none()).map(|model| model.queue.load()) {
        requests.running += load.running;
        requests.waiting += load.waiting;
        requests.max_queue += load.max_queue;
    }
    let models: Vec<ServedModel> = loaded.iter().map(|model| model.description.clone()).collect();
    let (status, version) = (state.status(), env!("CARGO_PKG_VERSION"));
    Json(Health { status, version, model: models.first().cloned(), models, requests })
}

/// Returns whether the server takes requests: what a load balancer asks.
#[utoipa::path(
    get,
    path = "/ready",
    responses(
        (status = 200, description = "The models are loaded.", body = Readiness),
        (
            status = 503,
            description = "Models are being loaded, none is to be, or the server is shutting down.",
            body = Readiness,
        ),
    ),
)]
pub(super) async fn ready(State(state): State<Arc<ServerState>>) -> impl IntoResponse {
    let status = state.status();
    let code = if status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Readiness { status }))
}

/// Returns the metrics for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    responses((status = 200, description = "Metrics in the format OpenMetrics.", content_type = CONTENT_TYPE)),
)]
pub(super) async fn metrics(State(state): State<Arc<ServerState>>) -> impl IntoResponse {
    for model in state.models.loaded() {
        model.queue.measure();
    }
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], state.metrics.encode())
}
