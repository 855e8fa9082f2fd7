//! HTTPS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serve::{Config, check_ready};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::server::Server;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

#[test]
fn https_is_served_and_http_is_not() {
    let config = Config {
        tls_cert: Some(file("cert.pem")),
        tls_key: Some(file("key.pem")),
        header_seconds: 1,
        ..Config::default()
    };
    let server = Server::loading(config, &[("pipeline", false)], |_| ());
    let pem = std::fs::read(file("cert.pem")).unwrap();
    let agent = |trusted: bool| {
        let roots: Vec<Certificate<'static>> =
            if trusted { vec![Certificate::from_pem(&pem).unwrap()] } else { Vec::new() };
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build();
        let agent = Agent::config_builder().proxy(None).tls_config(tls).http_status_as_error(false);
        agent.timeout_global(Some(Duration::from_secs(20))).build().new_agent()
    };
    let url = format!("https://localhost:{}/health", server.address.port());
    assert_eq!(agent(true).get(&url).call().unwrap().status(), 200);
    assert!(agent(false).get(&url).call().is_err(), "the certificate is not trusted");
    assert!(agent(true).get(url.replace("https", "http")).call().is_err(), "HTTP is not answered");
    let port = server.address.port();
    let error = check_ready("127.0.0.1", port).unwrap_err().to_string();
    assert_eq!(error, format!("the server at 127.0.0.1:{port} is not ready: unloaded"));
    // A client that says nothing does not hold up others.
    let silent = server.connect();
    assert_eq!(agent(true).get(&url).call().unwrap().status(), 200);
    drop(silent);
}

#[test]
fn wrong_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let start = |certificate: &Path, key: &Path| {
        let (tls_cert, tls_key) = (Some(certificate.to_owned()), Some(key.to_owned()));
        let config = Config { port: 0, tls_cert, tls_key, ..Config::default() };
        serve::serve(folder.path(), &config, "cpu", &artifact::Cancel::default()).unwrap_err().to_string()
    };
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    for (error, expected) in [
        (start(&folder.path().join("none.pem"), &key), "none.pem"),
        (start(&key, &key), "key.pem: it has no CERTIFICATE section"),
        (start(&cert, &cert), "cert.pem: "),
    ] {
        assert!(error.contains(expected), "{error}");
    }
}
