//! TLS by rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::Error;

/// Makes the TLS provider of the server that of the process, for HTTP clients that are built without one. Nothing
/// happens if there is one already.
pub fn install_tls_provider() {
    let _ = ring::default_provider().install_default();
}

/// Returns what accepts TLS connections with the certificate chain and the private key in two PEM files.
///
/// # Errors
/// Returns an error that names the file that cannot be read, or the certificate that does not fit its key.
pub(crate) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, Error> {
    let failed = |path: &Path, reason: String| Error::Tls { path: path.to_owned(), reason };
    let unreadable = |path: &Path, error: &rustls::pki_types::pem::Error| failed(path, error.to_string());
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| unreadable(certificate, &error))?;
    if chain.is_empty() {
        return Err(failed(certificate, "it has no CERTIFICATE section".to_owned()));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| failed(certificate, e.to_string()))?;
    let config = builder.with_no_client_auth().with_single_cert(chain, key_der);
    let mut config = config.map_err(|error| failed(certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
