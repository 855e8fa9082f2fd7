//! The description of the interface at `/openapi.json`.

mod limits;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use limits::Sizes;
use model::ModelConfig;
use serde_json::Value;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{Modify, OpenApi};

use super::{
    ServerState, admin, applications, attention, embeddings, generation, health, models, passages, routes, tokens,
};
use crate::api_error::ApiError;
use crate::keys::Access;
use crate::response::ChatChunk;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "pipeline serve",
        description = "Text from a model that `pipeline` trained or imported, with OpenAI's completions and chat API.",
    ),
    paths(
        health::health,
        health::ready,
        health::metrics,
        applications::applications,
        models::models,
        models::model,
        generation::complete,
        generation::chat,
        generation::respond_once,
        embeddings::embed,
        attention::attend,
        passages::trace,
        tokens::tokenize,
        tokens::detokenize,
        admin::states,
        admin::load,
        admin::unload
    ),
    components(schemas(ChatChunk)),
    modifiers(&Common),
    security((), ("key" = [])),
)]
struct Description;

/// Describes the keys, which a server may ask for, and the errors that routes of one kind have in common.
struct Common;

/// Errors of every route that needs a key.
const KEYED: [(&str, &str); 2] =
    [("401", "The key is missing or not valid."), ("403", "The key does not have the scope of this route.")];

/// Errors of every route that reads a body for a model.
const INFERENCE: [(&str, &str); 8] = [
    ("404", "The model does not exist, or is not loaded."),
    ("408", "The body did not arrive in time."),
    ("413", "The body is too long."),
    ("415", "The body is not `application/json`."),
    ("429", "The queue is full, or the key's limit is used up; `Retry-After` says when to try again."),
    ("500", "The model failed."),
    ("503", "The model is being loaded, or the server is shutting down."),
    ("504", "The answer took too long."),
];

impl Modify for Common {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        description.components.get_or_insert_default().add_security_scheme("key", scheme);
        for route in routes() {
            let Some(path) = description.paths.paths.get_mut(route.path) else { continue };
            let operation = if route.method == "GET" { &mut path.get } else { &mut path.post };
            let Some(operation) = operation else { continue };
            let errors: &[&[_]] = match route.access {
                Access::Public => &[],
                Access::AnyKey | Access::Admin => &[&KEYED],
                Access::Inference => &[&KEYED, &INFERENCE],
            };
            for (status, text) in errors.concat() {
                let schema = Ref::from_schema_name("ErrorBody");
                let content = ContentBuilder::new().schema(Some(schema)).build();
                let response = ResponseBuilder::new().description(text).content("application/json", content).build();
                operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
            }
        }
    }
}

/// Describes the interface with the limits of this server.
pub(super) async fn describe(State(state): State<Arc<ServerState>>) -> Result<Json<Value>, ApiError> {
    let loaded = state.models.loaded();
    let same = |sizes: Vec<usize>| sizes.first().copied().filter(|first| sizes.iter().all(|size| size == first));
    let of =
        |number: fn(&ModelConfig) -> usize| same(loaded.iter().map(|model| number(model.generator.config())).collect());
    let sizes = Sizes {
        vocab_size: same(loaded.iter().map(|model| model.description.vocab_size).collect()),
        width: of(|config| config.d_model),
        layers: of(|config| config.n_layer),
        heads: of(|config| config.n_head),
    };
    let description = serde_json::to_value(Description::openapi());
    let mut description = description.map_err(|error| ApiError::server(format!("{error}.")))?;
    limits::add(&mut description, &state.config, &sizes);
    if state.keys.is_some() {
        limits::require_key(&mut description);
    }
    Ok(Json(description))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described() {
        let mut description = serde_json::to_value(Description::openapi()).unwrap();
        let sizes = Sizes { vocab_size: Some(100), width: Some(8), layers: Some(3), heads: Some(2) };
        limits::add(&mut description, &crate::Config::default(), &sizes);
        let described: BTreeSet<(String, String)> = description["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        // The page and the description itself.
        let is_other = |path| super::super::page::is_page(path) || path == "/openapi.json";
        let routes = super::super::routes().into_iter().filter(|route| !is_other(route.path));
        assert_eq!(described, routes.map(|route| (route.path.to_owned(), route.method.to_owned())).collect());
        let schemas = &description["components"]["schemas"];
        for name in ["CompletionRequest", "ChatRequest", "ChatChunk", "Usage", "ErrorBody", "ModelState", "Health"] {
            assert!(schemas[name].is_object(), "{name} is missing");
        }
        let request = &schemas["CompletionRequest"];
        assert_eq!(request["properties"]["temperature"]["maximum"], 2);
        assert_eq!(request["additionalProperties"], false);
        assert!(request["properties"]["user"].is_object() && request["properties"]["prompt"].is_object());
        for name in ["StreamOptions", "Prompts", "OneOrMany", "CompletionLogprobs", "ChatLogprobs"] {
            assert!(schemas[name].is_object(), "{name} is missing");
        }
        assert!(request.get("required").is_none(), "no parameter is required: {}", request["required"]);
        assert_eq!(schemas["ChatRequest"]["required"], serde_json::json!(["messages"]));
        let detokenized = &schemas["DetokenizeRequest"]["properties"]["tokens"]["items"];
        assert_eq!(detokenized["maximum"], 99);
        // Every limit has found its parameter.
        for (name, property) in [("ChatRequest", "messages"), ("ResponsesRequest", "tools"), ("TextOptions", "format")]
        {
            let text = schemas[name]["properties"][property].to_string();
            assert!(text.contains("required"), "{name}.{property}: {text}");
        }
        assert_eq!(schemas["EmbeddingRequest"]["required"], serde_json::json!(["input"]));
        assert_eq!(schemas["EmbeddingRequest"]["additionalProperties"], false);
        let dimensions = &schemas["EmbeddingRequest"]["properties"]["dimensions"];
        assert_eq!(dimensions["enum"], serde_json::json!([8, null]));
        assert_eq!(schemas["AttentionRequest"]["required"], serde_json::json!(["prompt"]));
        for (name, last) in [("layer", 2), ("head", 1)] {
            assert_eq!(schemas["AttentionRequest"]["properties"][name]["maximum"], last);
        }
        assert_eq!(schemas["TraceRequest"]["required"], serde_json::json!(["input"]));
        let responses = &description["paths"]["/v1/completions"]["post"]["responses"];
        let statuses: Vec<&String> = responses.as_object().unwrap().keys().collect();
        assert_eq!(statuses, ["200", "400", "401", "403", "404", "408", "413", "415", "429", "500", "503", "504"]);
        assert_eq!(description["components"]["securitySchemes"]["key"]["scheme"], "bearer");
    }
}
