//! Host and Origin checks against DNS rebinding and cross-site requests.
//!
//! Every web page that a user visits can send requests to a server on the user's machine. Three measures keep pages out
//! unless the configuration allows them: no CORS headers by default, JSON bodies only (a page cannot send one to
//! another origin without a CORS preflight), and a check of the `Host` header, since a page can make its own domain
//! name resolve to this machine (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::Config;
use crate::api_error::ApiError;
use crate::connections::request_id;

/// The names that a `Host` header may have.
#[derive(Debug, Clone)]
pub(crate) struct AllowedHosts(Arc<[String]>);

impl AllowedHosts {
    /// Returns the names that the configuration allows.
    pub(crate) fn new(config: &Config) -> Self {
        let names = ["localhost".to_owned(), config.host.clone()];
        Self(names.into_iter().chain(config.allowed_hosts.iter().cloned()).collect())
    }

    /// Returns true if a `Host` header is an allowed name or an IP address, which no page can register as its domain.
    fn allows(&self, host: &str) -> bool {
        let name = without_port(host);
        name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || self.0.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(name))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Refuses requests whose `Host` header is not allowed.
pub(crate) async fn check_host(State(hosts): State<AllowedHosts>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default().to_owned());
    let host = request.uri().authority().map(|authority| authority.host().to_owned()).or(header);
    match host {
        Some(host) if !hosts.allows(&host) => {
            let name = without_port(&host);
            let message =
                format!("This server does not answer to the name `{name}`; `serve.allowed_hosts` can allow it.");
            ApiError::request(StatusCode::FORBIDDEN, message).into_response()
        }
        // Browsers always send the header; HTTP/1.0 clients need not.
        _ => next.run(request).await,
    }
}

/// Adds security headers: browsers must not guess content types nor send referrers.
pub(crate) async fn add_security_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Returns the CORS layer for the configured origins, if there are any.
pub(crate) fn cors(config: &Config) -> Option<CorsLayer> {
    if config.cors_origins.is_empty() {
        return None;
    }
    let origin = if config.cors_origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(config.cors_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    // Clients send headers of their own, OpenAI's about a dozen.
    let cors = CorsLayer::new().allow_origin(origin).allow_headers(AllowHeaders::mirror_request());
    Some(cors.allow_methods([Method::GET, Method::POST]).expose_headers([request_id::HEADER, header::RETRY_AFTER]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_names_and_addresses_pass() {
        let config =
            Config { host: "box.local".to_owned(), allowed_hosts: vec!["Model".to_owned()], ..Config::default() };
        let hosts = AllowedHosts::new(&config);
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("127.0.0.1:8080", true),
            ("192.168.1.7", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("box.local:8080", true),
            ("model", true),
            ("evil.example", false),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(hosts.allows(host), expected, "{host}");
        }
        let every = AllowedHosts::new(&Config { allowed_hosts: vec!["*".to_owned()], ..Config::default() });
        assert!(every.allows("evil.example"));
    }
}
