//! Asks a running server whether it is ready: for the health checks of containers.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::tls::TlsConfig;

use crate::Error;

/// Time for an answer. Heuristic, not measured: because a ready server answers within milliseconds, and what asks
/// usually waits a few seconds.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Returns if the server on a port of an address answers that it is ready, over HTTP or else over TLS. Its certificate
/// is not checked, as it names the server and not this address.
///
/// # Errors
/// [`Error::NotReady`] with the reason.
pub fn check_ready(host: &str, port: u16) -> Result<(), Error> {
    // What a server listens on is not always what it can be reached at.
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let tls = TlsConfig::builder().disable_verification(true).build();
    let agent = Agent::config_builder().proxy(None).tls_config(tls).http_status_as_error(false);
    let agent = agent.timeout_global(Some(TIMEOUT)).build().new_agent();
    let ask = |scheme: &str| -> Result<(u16, Value), ureq::Error> {
        let mut answer = agent.get(format!("{scheme}://{address}/ready")).call()?;
        let body = answer.body_mut().read_json().unwrap_or_default();
        Ok((answer.status().as_u16(), body))
    };
    // A server with TLS closes a connection that begins with HTTP.
    match ask("http").or_else(|error| ask("https").map_err(|_| error)) {
        Ok((200, _)) => Ok(()),
        Ok((code, body)) => {
            let reason = body["status"].as_str().map_or_else(|| format!("status {code}"), str::to_owned);
            Err(Error::NotReady { address, reason })
        }
        Err(error) => Err(Error::NotReady { address, reason: error.to_string() }),
    }
}
