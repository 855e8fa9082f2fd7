//! A server whose certificate is not trusted gets no request.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use fetch::Options;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::{chain, fetch_url, online, options};

/// Starts a server with a self-signed certificate (`tls/make.sh`); returns its port, and what it read from the one
/// connection that it accepts.
fn server() -> (u16, JoinHandle<Result<String, String>>) {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let read = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = StreamOwned::new(ServerConnection::new(config).unwrap(), socket).read(&mut request);
        read.map(|read| String::from_utf8_lossy(&request[..read]).into_owned()).map_err(|e| e.to_string())
    });
    (port, read)
}

#[test]
fn a_certificate_of_an_unknown_issuer_is_rejected() {
    let (port, read) = server();
    let base = tempfile::tempdir().unwrap();
    let url = format!("https://127.0.0.1:{port}/a.txt");
    let options = Options { download_attempts: 1, ..options() };
    let error = chain(&fetch_url(&url, None, &options, &online(base.path())).unwrap_err());
    assert!(error.starts_with(&format!("source s: cannot download {url} ")), "{error}");
    assert!(error.ends_with("invalid peer certificate: UnknownIssuer"), "{error}");
    // The server reads no request: an alert, or the end of the connection, whichever comes first.
    let read = read.join().unwrap();
    assert!(read.is_err(), "{read:?}");
}
