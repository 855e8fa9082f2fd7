//! Authorisation of a request: the key in its `Authorization` header.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Key, Keys, Scope};
use crate::api_error::ApiError;
use crate::connections::KeyName;
use crate::spans;

/// What a request to a route needs, on a server with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Public,
    /// A key.
    AnyKey,
    /// A key with the scope `inference`; its limit of requests per minute counts.
    Inference,
    /// A key with the scope `admin`, also on a server without keys.
    Admin,
}

impl Access {
    /// Returns the name of the scope.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::AnyKey => "any",
            Self::Inference => "inference",
            Self::Admin => "admin",
        }
    }
}

/// Refuses requests to a route that needs a key, unless they have one with its scope. Without a file of keys, all
/// routes but those of administration are open.
pub(crate) async fn authorize(
    State((keys, access)): State<(Option<Arc<Keys>>, Access)>,
    request: Request,
    next: Next,
) -> Response {
    spans::set_route(&request);
    match check(keys.as_deref(), access, request.headers()) {
        Ok(key) => {
            let mut answer = next.run(request).await;
            if let Some(key) = key {
                answer.extensions_mut().insert(KeyName(Arc::clone(&key.name)));
            }
            answer
        }
        Err(error) => error.into_response(),
    }
}

fn check(keys: Option<&Keys>, access: Access, headers: &HeaderMap) -> Result<Option<Arc<Key>>, ApiError> {
    let scope = match access {
        Access::Public => return Ok(None),
        Access::AnyKey => None,
        Access::Inference => Some(Scope::Inference),
        Access::Admin => Some(Scope::Admin),
    };
    let Some(keys) = keys else {
        return if access == Access::Admin { Err(ApiError::no_keys()) } else { Ok(None) };
    };
    let secret = secret(headers).ok_or_else(ApiError::missing_key)?;
    let key = keys.find(secret).ok_or_else(ApiError::unknown_key)?;
    if scope.is_some_and(|scope| !key.entry.scopes.contains(&scope)) {
        return Err(ApiError::missing_scope(&key.name, access.name()));
    }
    if access == Access::Inference {
        key.count().map_err(|wait| ApiError::rate_limited(&key.name, wait))?;
    }
    Ok(Some(key))
}

/// Returns the secret in `Authorization: Bearer …`.
fn secret(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
}
