//! The applications of the web page.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::ServerState;
use crate::applications::Application;

/// The list of applications.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ApplicationList {
    /// Always `list`.
    object: &'static str,
    /// The applications, in the order of the page.
    data: Vec<Application>,
}

/// Lists the applications of the web page: prompts with a form.
#[utoipa::path(
    get,
    path = "/applications",
    responses((status = 200, description = "The applications.", body = ApplicationList)),
)]
pub(super) async fn applications(State(state): State<Arc<ServerState>>) -> Json<ApplicationList> {
    Json(ApplicationList { object: "list", data: state.applications.clone() })
}
