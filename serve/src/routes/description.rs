//! The description of the interface at `/openapi.json`.

use axum::Json;
use axum::response::IntoResponse;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{admin, generation, health, models, tokens};

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
        models::models,
        models::model,
        generation::complete,
        generation::chat,
        generation::respond_once,
        tokens::tokenize,
        tokens::detokenize,
        admin::states,
        admin::load,
        admin::unload
    ),
    modifiers(&Keys),
    security((), ("key" = [])),
)]
struct Description;

/// Describes the keys, which a server may ask for.
struct Keys;

impl Modify for Keys {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        description.components.get_or_insert_default().add_security_scheme("key", scheme);
    }
}

pub(super) async fn describe() -> impl IntoResponse {
    Json(Description::openapi())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described() {
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let described: BTreeSet<(String, String)> = description["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        // The page and the description itself.
        let others = ["/", "/openapi.json"];
        let routes = super::super::routes().into_iter().filter(|route| !others.contains(&route.path));
        assert_eq!(described, routes.map(|route| (route.path.to_owned(), route.method.to_owned())).collect());
        let schemas = &description["components"]["schemas"];
        for name in ["CompletionRequest", "ChatRequest", "ChatChunk", "Usage", "ErrorBody", "ModelState", "Health"] {
            assert!(schemas[name].is_object(), "{name} is missing");
        }
        let request = &schemas["CompletionRequest"];
        assert_eq!(request["properties"]["temperature"]["maximum"], 2);
        assert!(request.get("required").is_none(), "no parameter is required: {}", request["required"]);
        assert_eq!(schemas["ChatRequest"]["required"], serde_json::json!(["messages"]));
        assert_eq!(description["components"]["securitySchemes"]["key"]["scheme"], "bearer");
    }
}
