//! A server that cannot prove who it is gets no request.

mod corpus;

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use artifact::Context;
use corpus::{chain, collect, context, one};
use data_ingest::{Config, Source};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Starts a server with a certificate that nobody but itself has signed (`tests/tls/make.sh`); returns its port, and what
/// it was asked in the one connection that it takes.
fn server() -> (u16, JoinHandle<Result<String, String>>) {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = StreamOwned::new(ServerConnection::new(config).unwrap(), socket).read(&mut request);
        read.map(|read| String::from_utf8_lossy(&request[..read]).into_owned()).map_err(|e| e.to_string())
    });
    (port, asked)
}

#[test]
fn a_certificate_of_an_unknown_issuer_is_refused() {
    let (port, asked) = server();
    let base = tempfile::tempdir().unwrap();
    let url = format!("https://127.0.0.1:{port}/a.txt");
    let source = Source { url: Some(url.clone()), ..Source::default() };
    let config = Config { allow_private: true, download_attempts: 1, ..one(source) };
    let error = collect(&config, &Context { offline: false, ..context(base.path()) }).unwrap_err();
    let told = chain(&error);
    assert!(told.starts_with(&format!("source {url}: cannot download {url} ")), "{told}");
    assert!(told.ends_with("invalid peer certificate: UnknownIssuer"), "{told}");
    // The server sees no request: an alert, or the end of the connection, whichever comes first.
    let seen = asked.join().unwrap();
    assert!(seen.is_err(), "{seen:?}");
}
