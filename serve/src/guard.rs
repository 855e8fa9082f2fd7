//! Whose requests are heard.
//!
//! A server on one's own machine is within reach of every web page that one visits. Three things keep pages out unless
//! the configuration lets them in: no CORS headers, JSON bodies only (a page cannot send one elsewhere without asking
//! first, and CORS says no), and host names checked, since a page can point its own name at this machine (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::Config;
use crate::problem::Problem;

/// The names that requests may call this server by.
#[derive(Debug, Clone)]
pub(crate) struct AllowedHosts(Arc<[String]>);

impl AllowedHosts {
    /// Returns the names that the configuration lets in.
    pub(crate) fn new(config: &Config) -> Self {
        let names = ["localhost".to_owned(), config.host.clone()];
        Self(names.into_iter().chain(config.allowed_hosts.iter().cloned()).collect())
    }

    /// Tells whether a `Host` header is one of them, or an address: no page can make an address its name.
    fn allow(&self, host: &str) -> bool {
        let name = name_of(host);
        name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || self.0.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(name))
    }
}

/// Returns a `Host` header less its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Lets a request through when it calls this server by an allowed name.
pub(crate) async fn check_host(State(hosts): State<AllowedHosts>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default().to_owned());
    let host = request.uri().authority().map(|authority| authority.host().to_owned()).or(header);
    match host {
        Some(host) if !hosts.allow(&host) => {
            let name = name_of(&host);
            let message =
                format!("This server does not answer to the name `{name}`; `serve.allowed_hosts` could let it.");
            Problem::request(StatusCode::FORBIDDEN, message).into_response()
        }
        // Browsers always send the header; HTTP/1.0 clients need not.
        _ => next.run(request).await,
    }
}

/// Adds headers that keep a browser to what an answer is.
pub(crate) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Returns the CORS headers for the configured origins; none where there are none.
pub(crate) fn cors(config: &Config) -> Option<CorsLayer> {
    if config.cors_origins.is_empty() {
        return None;
    }
    let origin = if config.cors_origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(config.cors_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let headers = [header::CONTENT_TYPE, header::AUTHORIZATION];
    Some(CorsLayer::new().allow_origin(origin).allow_methods([Method::GET, Method::POST]).allow_headers(headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_addresses_are_not() {
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
            assert_eq!(hosts.allow(host), expected, "{host}");
        }
        let every = AllowedHosts::new(&Config { allowed_hosts: vec!["*".to_owned()], ..Config::default() });
        assert!(every.allow("evil.example"));
    }
}
