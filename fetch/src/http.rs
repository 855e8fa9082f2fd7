//! The HTTP client: redirects are counted and checked one by one, and a token is sent to its own host only.

use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body, Proxy};
use url::{Origin, Url};

use crate::Error;
use crate::address::guard::{AddressPolicy, GuardedResolver};
use crate::address::{Refused, parse_url, printable};
use crate::retry::Failure;

/// The maximum number of redirects. Heuristic, not measured: the hub and the release pages of forges redirect twice.
const MAX_REDIRECTS: usize = 8;
/// The timeout of connecting, of the response and of each read. Heuristic, not measured: slow mirrors answer within a
/// few seconds.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A token, and the only origin that it is sent to.
#[derive(Clone)]
pub(crate) struct Bearer {
    origin: Origin,
    token: String,
}

impl Bearer {
    /// Returns a token for the scheme, host and port of `endpoint`.
    pub fn new(endpoint: &Url, token: String) -> Self {
        Self { origin: endpoint.origin(), token }
    }
}

/// An HTTP client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    policy: AddressPolicy,
}

impl Client {
    /// Returns a client that uses the proxy of the environment and connects where `policy` allows.
    pub fn new(policy: AddressPolicy) -> Self {
        Self::behind(Proxy::try_from_env(), policy)
    }

    fn behind(proxy: Option<Proxy>, policy: AddressPolicy) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            // A compressed body could be neither resumed nor compared with a digest.
            .accept_encoding("identity")
            .user_agent(concat!("pipeline/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .timeout_per_read(Some(TIMEOUT))
            .build();
        let connector = ureq::unversioned::transport::DefaultConnector::default();
        let agent = Agent::with_parts(config, connector, GuardedResolver::new(policy));
        Self { agent, policy }
    }

    /// Sends a GET request and returns the response, whatever its status, after following redirects.
    ///
    /// `name` is the source's, for errors.
    pub fn get(
        &self,
        name: &str,
        url: &Url,
        headers: &[(&str, &str)],
        bearer: Option<&Bearer>,
    ) -> Result<Response<Body>, Failure> {
        let mut hop = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            self.policy.check_literal(&hop).map_err(|refused| refuse(name, url, &hop, &refused))?;
            let mut request = self.agent.get(hop.as_str());
            for (header, value) in headers {
                request = request.header(*header, *value);
            }
            if let Some(bearer) = bearer.filter(|bearer| bearer.origin == hop.origin()) {
                request = request.header("Authorization", format!("Bearer {}", bearer.token));
            }
            let response = request.call().map_err(|error| classify(name, url, &hop, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            hop = next_hop(&hop, &response).map_err(|refused| refuse(name, url, &hop, &refused))?;
        }
        Err(Error::TooManyRedirects { name: name.to_owned(), url: printable(url), limit: MAX_REDIRECTS }.into())
    }
}

fn next_hop(hop: &Url, response: &Response<Body>) -> Result<Url, Refused> {
    let location = header(response, "location");
    let location = location.ok_or_else(|| Refused("it redirects without a location".to_owned()))?;
    let next = hop.join(location).map_err(|e| Refused(format!("it redirects to an invalid URL ({e})")))?;
    let next = parse_url(next.as_str())?;
    if hop.scheme() == "https" && next.scheme() == "http" {
        return Err(Refused(format!("it redirects to {}, which is not encrypted", printable(&next))));
    }
    Ok(next)
}

fn refuse(name: &str, requested: &Url, hop: &Url, refused: &Refused) -> Error {
    let via = if requested == hop { String::new() } else { format!("it redirects to {}, and ", printable(hop)) };
    Error::Refused { name: name.to_owned(), url: printable(requested), reason: format!("{via}{refused}") }
}

fn classify(name: &str, requested: &Url, hop: &Url, error: ureq::Error) -> Failure {
    match error {
        ureq::Error::BadUri(text) => refuse(name, requested, hop, &Refused(format!("`{text}` is not a URL"))).into(),
        ureq::Error::Io(error) => match error.downcast::<Refused>() {
            Ok(refused) => refuse(name, requested, hop, &refused).into(),
            Err(error) => Failure::retryable(error),
        },
        other => Failure::retryable(other),
    }
}

/// Returns the failure of a status other than success.
pub(crate) fn check_status(name: &str, url: &Url, response: &Response<Body>) -> Result<(), Failure> {
    let status = response.status().as_u16();
    match status {
        200..=299 => Ok(()),
        408 | 425 | 429 | 500..=599 => {
            Err(Failure::Retryable(format!("HTTP status {status}").into(), retry_after(response)))
        }
        _ => Err(Error::Status { name: name.to_owned(), url: printable(url), status }.into()),
    }
}

/// Returns the wait that the server asks for, where it is in seconds.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    header(response, "retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

/// Returns a header's value, if it is text.
pub(crate) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::server::{Reply, Server};

    const PUBLIC_ONLY: AddressPolicy = AddressPolicy { allow_private: false, table: "collect" };

    /// Requests `url` through a proxy that redirects to `location`, and compares the error.
    fn check(url: &str, location: &str, expected: &str) {
        let answer = location.to_owned();
        let proxy = Server::proxy(move |_| Reply::redirect(&answer));
        let client = Client::behind(Some(Proxy::new(&proxy.url).unwrap()), PUBLIC_ONLY);
        let error = match client.get("x", &parse_url(url).unwrap(), &[], None) {
            Err(Failure::Fatal(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(error, format!("source x: {url} {expected}"), "{location}");
        assert!(proxy.requests().len() <= MAX_REDIRECTS + 1);
    }

    #[test]
    fn every_redirect_is_checked() {
        let hint = "if that is intended, set `allow_private = true` in [collect]";
        for (location, ip, kind) in [
            (
                "http://169.254.169.254/latest",
                "169.254.169.254",
                "a link-local address, used by cloud metadata services",
            ),
            ("http://127.0.0.1:1/", "127.0.0.1", "a loopback address"),
            ("http://localhost:1/", "127.0.0.1", "a loopback address"),
            ("//[::ffff:a00:1]/x", "::ffff:10.0.0.1", "a private address"),
        ] {
            let hop = Url::parse("http://a.example/").unwrap().join(location).unwrap();
            let expected = format!("is refused: it redirects to {}, and {ip} is {kind}; {hint}", printable(&hop));
            check("http://a.example/b", location, &expected);
        }
        check("http://a.example/b", "file:///etc/passwd", "is refused: `file://` is neither http:// nor https://");
        check("http://a.example/b", "/again", "redirects more than 8 times");
    }

    #[test]
    fn a_redirect_from_https_to_http_is_refused() {
        let answer = Response::builder().header("location", "http://a.example/c?key=secret");
        let answer = answer.body(Body::builder().data("")).unwrap();
        let refused = next_hop(&Url::parse("https://a.example/b").unwrap(), &answer).unwrap_err().to_string();
        assert_eq!(refused, "it redirects to http://a.example/c, which is not encrypted");
    }
}
