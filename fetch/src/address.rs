//! Addresses: parsing, printing, and which of them may be connected to. Nothing in here sends a request.

pub mod git;
pub mod glob;
pub(crate) mod guard;
pub mod hub;
pub mod object_store;

use url::Url;

/// An address that may not be requested, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub(crate) String);

/// Returns an HTTP or HTTPS address, without its fragment.
///
/// # Errors
/// Returns an error if the text is not a URL, or has another scheme.
pub fn parse_url(text: &str) -> Result<Url, Refused> {
    let mut url = Url::parse(text).map_err(|e| Refused(format!("not a URL ({e})")))?;
    url.set_fragment(None);
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(Refused(format!("`{other}://` is neither http:// nor https://"))),
    }
}

/// Returns an address as it may be printed: without query and password, which may be secrets.
pub(crate) fn printable(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}
