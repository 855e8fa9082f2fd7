//! The routes of the server: one table of what there is and what it needs.

mod admin;
mod applications;
mod attention;
mod body;
mod description;
mod embeddings;
mod generation;
mod health;
mod models;
mod page;
mod passages;
mod tokens;

use std::sync::Arc;

use artifact::Cancel;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{MethodRouter, get, post};
use axum::{Router, middleware};

use crate::api_error::ApiError;
use crate::applications::Application;
use crate::keys::{Access, Keys, authorize};
use crate::metrics::Metrics;
use crate::models::Models;
use crate::{Config, host_check};

/// A route of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path, with parameters in braces.
    pub path: &'static str,
    /// What a request needs.
    pub access: Access,
}

/// State shared by all requests.
pub(crate) struct ServerState {
    pub(crate) config: Config,
    pub(crate) models: Arc<Models>,
    pub(crate) keys: Option<Arc<Keys>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) applications: Vec<Application>,
    /// Requested when the server is shutting down.
    pub(crate) stopping: Cancel,
}

type Handler = MethodRouter<Arc<ServerState>>;

/// Returns every route with its handler.
fn table() -> Vec<(Route, Handler)> {
    use Access::{Admin, AnyKey, Inference, Public};
    let get = |path, access, handler: Handler| (Route { method: "GET", path, access }, handler);
    let post = |path, access, handler: Handler| (Route { method: "POST", path, access }, handler);
    let mut table = vec![
        get("/page/settings.json", Public, self::get(page::settings)),
        get("/health", Public, self::get(health::health)),
        get("/ready", Public, self::get(health::ready)),
        get("/openapi.json", Public, self::get(description::describe)),
        get("/applications", AnyKey, self::get(applications::applications)),
        get("/metrics", AnyKey, self::get(health::metrics)),
        get("/v1/models", AnyKey, self::get(models::models)),
        get("/v1/models/{id}", AnyKey, self::get(models::model)),
        post("/v1/completions", Inference, self::post(generation::complete)),
        post("/v1/chat/completions", Inference, self::post(generation::chat)),
        post("/v1/responses", Inference, self::post(generation::respond_once)),
        post("/v1/embeddings", Inference, self::post(embeddings::embed)),
        post("/attention", Inference, self::post(attention::attend)),
        post("/trace", Inference, self::post(passages::trace)),
        post("/tokenize", Inference, self::post(tokens::tokenize)),
        post("/detokenize", Inference, self::post(tokens::detokenize)),
        get("/admin/models", Admin, self::get(admin::states)),
        post("/admin/models/{id}/load", Admin, self::post(admin::load)),
        post("/admin/models/{id}/unload", Admin, self::post(admin::unload)),
    ];
    table.extend(page::files().map(|(path, handler)| get(path, Public, handler)));
    table
}

/// Returns the routes of every server.
pub fn routes() -> Vec<Route> {
    table().into_iter().map(|(route, _)| route).collect()
}

/// Returns the server's router.
pub(crate) fn router(state: Arc<ServerState>) -> Router {
    let hosts = host_check::AllowedHosts::new(&state.config);
    let cors = host_check::cors(&state.config);
    let mut router = Router::new();
    for (route, handler) in table() {
        let needs = (state.keys.clone(), route.access);
        router = router.route(route.path, handler.route_layer(middleware::from_fn_with_state(needs, authorize)));
    }
    let router = router.fallback(path_not_found).method_not_allowed_fallback(method_not_allowed).with_state(state);
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(middleware::from_fn_with_state(hosts, host_check::check_host))
        .layer(middleware::from_fn(host_check::add_security_headers))
}

async fn path_not_found(method: Method, uri: Uri) -> ApiError {
    ApiError::request(StatusCode::NOT_FOUND, format!("Invalid URL ({method} {})", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::request(StatusCode::METHOD_NOT_ALLOWED, format!("Not allowed to {method} on {}.", uri.path()))
}
