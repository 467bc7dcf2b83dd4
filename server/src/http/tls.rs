//! The certificate of a server.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::failure::Failure;
use crate::home::private;

/// Where the certificate and its key are, as PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, followed by those between it and one that clients know.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, SEC1 or PKCS #1.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads them.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, Failure> {
        let wrong = |path: &std::path::Path, why: &dyn std::fmt::Display| {
            Failure::usage("tls_invalid", format!("{}: {why}", path.display()))
        };
        for path in [&self.certificate, &self.key] {
            private::check_provided(path).map_err(|why| wrong(path, &why))?;
        }
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| wrong(&self.certificate, &format!("cannot be read as PEM: {e}")))?;
        if chain.is_empty() {
            return Err(wrong(&self.certificate, &"holds no PEM certificate"));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| wrong(&self.key, &format!("holds no PEM private key: {e}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Failure::defect(format!("TLS has no protocol versions: {e}")))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|e| wrong(&self.certificate, &format!("does not fit the key: {e}")))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
