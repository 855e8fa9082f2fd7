//! One way to ask a server over HTTP: redirects counted and checked hop by hop, a token sent to its own host only.

use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body, Proxy};
use url::{Origin, Url};

use crate::Error;
use crate::address::{self, GuardedResolver, Refused};
use crate::download::{Answer, Failure, Incoming};

/// How often a server may send its caller elsewhere. A guess: the hub and release pages of forges do it twice.
pub(crate) const MAX_REDIRECTS: usize = 8;
/// How long a server may take to answer, and to send the next piece. A guess.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A token, and the only host that may see it.
#[derive(Clone)]
pub(crate) struct Bearer {
    origin: Origin,
    token: String,
}

impl Bearer {
    /// Returns a token for the host of `endpoint`, by this scheme and port.
    pub fn new(endpoint: &Url, token: String) -> Self {
        Self { origin: endpoint.origin(), token }
    }
}

/// What asks.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    allow_private: bool,
}

impl Client {
    /// Returns a client; `allow_private` says whether it may ask loopback and private addresses.
    pub fn new(allow_private: bool) -> Self {
        Self::behind(Proxy::try_from_env(), allow_private)
    }

    fn behind(proxy: Option<Proxy>, allow_private: bool) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            // A packed body could be neither resumed nor compared with a digest.
            .accept_encoding("identity")
            .user_agent(concat!("pipeline/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build();
        let connector = ureq::unversioned::transport::DefaultConnector::default();
        let agent = Agent::with_parts(config, connector, GuardedResolver::new(allow_private));
        Self { agent, allow_private }
    }

    /// Asks for `url` with `headers` and returns the answer, whatever its status, after following redirects.
    ///
    /// `name` is the source's, for errors.
    pub fn get(
        &self,
        name: &str,
        url: &Url,
        headers: &[(&str, &str)],
        bearer: Option<&Bearer>,
    ) -> Result<Response<Body>, Failure> {
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            address::check_literal(&at, self.allow_private).map_err(|refused| refuse(name, url, &at, &refused))?;
            let mut request = self.agent.get(at.as_str());
            for (header, value) in headers {
                request = request.header(*header, *value);
            }
            if let Some(bearer) = bearer.filter(|bearer| bearer.origin == at.origin()) {
                request = request.header("Authorization", format!("Bearer {}", bearer.token));
            }
            let response = request.call().map_err(|error| classify(name, url, &at, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            at = next_hop(&at, &response).map_err(|refused| refuse(name, url, &at, &refused))?;
        }
        Err(Error::Redirects { name: name.to_owned(), url: address::shown(url), limit: MAX_REDIRECTS }.into())
    }
}

fn next_hop(at: &Url, response: &Response<Body>) -> Result<Url, Refused> {
    let location = response.headers().get("location").and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| Refused("it redirects, and does not say where to".to_owned()))?;
    let next = at.join(location).map_err(|e| Refused(format!("it redirects to what is no address ({e})")))?;
    let next = address::parse(next.as_str())?;
    if at.scheme() == "https" && next.scheme() == "http" {
        return Err(Refused(format!("it redirects to {}, which is not encrypted", address::shown(&next))));
    }
    Ok(next)
}

fn refuse(name: &str, asked: &Url, at: &Url, refused: &Refused) -> Error {
    let by_way = if asked == at { String::new() } else { format!("it redirects to {}, and ", address::shown(at)) };
    Error::Refused { name: name.to_owned(), url: address::shown(asked), reason: format!("{by_way}{refused}") }
}

fn classify(name: &str, asked: &Url, at: &Url, error: ureq::Error) -> Failure {
    match error {
        ureq::Error::BadUri(text) => refuse(name, asked, at, &Refused(format!("`{text}` is no address"))).into(),
        ureq::Error::Io(error) => match error.downcast::<Refused>() {
            Ok(refused) => refuse(name, asked, at, &refused).into(),
            Err(error) => Failure::passing(error),
        },
        other => Failure::passing(other),
    }
}

/// Returns the failure that a status stands for, unless it is one of success.
pub(crate) fn failed(name: &str, url: &Url, response: &Response<Body>) -> Option<Failure> {
    let status = response.status().as_u16();
    match status {
        200..=299 => None,
        408 | 425 | 429 | 500..=599 => {
            Some(Failure::Passing(format!("HTTP status {status}").into(), retry_after(response)))
        }
        _ => Some(Error::Status { name: name.to_owned(), url: address::shown(url), status }.into()),
    }
}

/// Returns how long the server asks to wait, where it says so in seconds.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    header(response, "retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

/// Returns a header's value, where it is text.
pub(crate) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Asks for the file at `url` from byte `from` on; `validator` is what the part before came with.
pub(crate) fn open(
    client: &Client,
    name: &str,
    url: &Url,
    bearer: Option<&Bearer>,
    from: u64,
    validator: Option<&str>,
) -> Result<Answer, Failure> {
    let range = format!("bytes={from}-");
    let mut headers = Vec::with_capacity(2);
    if from > 0 {
        headers.push(("Range", range.as_str()));
        headers.extend(validator.map(|validator| ("If-Range", validator)));
    }
    let response = client.get(name, url, &headers, bearer)?;
    let start = match response.status().as_u16() {
        416 if from > 0 => return Ok(Answer::NothingMore),
        206 if range_start(&response) != Some(from) => {
            return Err(Failure::Stale("the server has another range than asked for"));
        }
        206 => from,
        _ => 0,
    };
    if let Some(failure) = failed(name, url, &response) {
        return Err(failure);
    }
    let found = strong_validator(&response);
    if start > 0 && validator.is_some() && found.is_some() && found.as_deref() != validator {
        return Err(Failure::Stale("the file changed while it was being downloaded"));
    }
    let chunked = header(&response, "transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    let body = response.into_body();
    let total = body.content_length().map(|rest| start + rest);
    // The size cap counts for itself.
    let body = Box::new(body.into_with_config().limit(u64::MAX).reader());
    Ok(Answer::Body(Incoming { start, total, delimited: total.is_some() || chunked, validator: found, body }))
}

/// Returns what `If-Range` may hold: an `ETag` that promises equal bytes, else when the file was last changed.
fn strong_validator(response: &Response<Body>) -> Option<String> {
    let etag = header(response, "etag").filter(|etag| !etag.starts_with("W/"));
    etag.or_else(|| header(response, "last-modified")).map(str::to_owned)
}

/// Returns where the body of a 206 answer begins: the `N` of `Content-Range: bytes N-…`.
fn range_start(response: &Response<Body>) -> Option<u64> {
    header(response, "content-range")?.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Reply, Server};

    /// Asks for `url` through a proxy that sends its callers to `location`, and returns the error.
    fn check(url: &str, location: &str, expected: &str) {
        let answer = location.to_owned();
        let proxy = Server::proxy(move |_| Reply::redirect(&answer));
        let client = Client::behind(Some(Proxy::new(&proxy.url).unwrap()), false);
        let error = match client.get("x", &address::parse(url).unwrap(), &[], None) {
            Err(Failure::Lasting(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(error, format!("source x: {url} {expected}"), "{location}");
        assert!(proxy.requests().len() <= MAX_REDIRECTS + 1);
    }

    #[test]
    fn every_hop_is_checked() {
        let hint = "if that is meant, set `allow_private = true` in [collect]";
        for (location, ip, kind) in [
            (
                "http://169.254.169.254/latest",
                "169.254.169.254",
                "a link-local address, where clouds keep their metadata",
            ),
            ("http://127.0.0.1:1/", "127.0.0.1", "a loopback address"),
            ("http://localhost:1/", "127.0.0.1", "a loopback address"),
            ("//[::ffff:a00:1]/x", "::ffff:10.0.0.1", "a private address"),
        ] {
            let hop = Url::parse("http://a.example/").unwrap().join(location).unwrap();
            let expected = format!("is refused: it redirects to {}, and {ip} is {kind}; {hint}", address::shown(&hop));
            check("http://a.example/b", location, &expected);
        }
        check("http://a.example/b", "file:///etc/passwd", "is refused: `file://` is neither http:// nor https://");
        check("http://a.example/b", "/again", "redirects more than 8 times");
    }

    #[test]
    fn a_redirect_does_not_leave_tls() {
        let answer = Response::builder().header("location", "http://a.example/c?key=secret");
        let answer = answer.body(Body::builder().data("")).unwrap();
        let refused = next_hop(&Url::parse("https://a.example/b").unwrap(), &answer).unwrap_err().to_string();
        assert_eq!(refused, "it redirects to http://a.example/c, which is not encrypted");
    }
}
