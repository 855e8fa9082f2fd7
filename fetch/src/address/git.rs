//! Addresses of git repositories, and commit ids.

use url::Url;

/// A git repository: a URL, `user@host:path`, or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRepository {
    /// The address as git takes it. It holds no password, so it may be printed.
    pub(crate) location: String,
    /// The transport that git may use, by git's own name.
    pub(crate) transport: &'static str,
    /// The host and port to connect to; none for a folder.
    pub(crate) host: Option<(String, u16)>,
}

/// Returns whether a text is a folder rather than an address.
pub fn is_path(text: &str) -> bool {
    !text.contains("://") && !text.contains("::") && scp_host(text).is_none()
}

/// Returns whether a revision is a full commit id: of SHA-1, or of SHA-256.
pub fn is_commit(revision: &str) -> bool {
    matches!(revision.len(), 40 | 64) && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the host of `user@host:path`, the syntax that git has in common with scp.
fn scp_host(text: &str) -> Option<&str> {
    let (before, _) = text.split_once(':')?;
    let (user, host) = before.split_once('@')?;
    (!user.is_empty() && !host.is_empty() && !before.contains('/')).then_some(host)
}

impl GitRepository {
    /// Parses an address or an expanded path.
    ///
    /// # Errors
    /// Returns what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('-') {
            return Err(format!("`{text}` begins with `-`, and git would read it as an option"));
        }
        let location = text.to_owned();
        if is_path(text) {
            return Ok(Self { location, transport: "file", host: None });
        }
        if text.contains("::") && !text.contains("://") {
            return Err(format!("`{text}` names a transport helper, which could run any program"));
        }
        if let Some(host) = scp_host(text).filter(|_| !text.contains("://")) {
            if host.starts_with('-') {
                return Err(format!("the host of `{text}` begins with `-`, and ssh would read it as an option"));
            }
            return Ok(Self { location, transport: "ssh", host: Some((host.to_owned(), 22)) });
        }
        let url = Url::parse(text).map_err(|e| format!("`{text}` is not a URL ({e})"))?;
        let (transport, port) = match url.scheme() {
            "https" => ("https", 443),
            "http" => ("http", 80),
            "ssh" => ("ssh", 22),
            other => return Err(format!("`{other}://` is not supported; use https://, ssh:// or a path")),
        };
        if url.password().is_some() || (transport != "ssh" && !url.username().is_empty()) {
            let message = "contains a user name or password, which would be written into the lock and the corpus; use \
                           git's credential helpers instead";
            return Err(message.to_owned());
        }
        let host = url.host_str().filter(|host| !host.starts_with('-'));
        let host = host.ok_or_else(|| format!("`{text}` names no host"))?.to_owned();
        Ok(Self { location, transport, host: Some((host, url.port().unwrap_or(port))) })
    }
}
