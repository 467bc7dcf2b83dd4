//! TLS towards upstreams: rustls with ring named as the provider, so that no process-wide default can change it.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// What ALPN calls HTTP/2 (RFC 9113, section 3.1).
pub(crate) const HTTP2: &[u8] = b"h2";

/// Why a proxy could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// A certificate of `extra_roots` cannot be a root.
    #[error("extra root certificate {index} is not usable: {cause}")]
    Root {
        /// Its position in the list, from 0.
        index: usize,
        /// What rustls said.
        cause: String,
    },
    /// rustls refused the configuration.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// Mozilla's roots and these; TLS 1.2 and 1.3; HTTP/2 on offer before HTTP/1.1.
pub(crate) fn client_config(
    extra_roots: &[CertificateDer<'static>],
) -> Result<Arc<ClientConfig>, ProxyError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for (index, root) in extra_roots.iter().enumerate() {
        roots.add(root.clone()).map_err(|e| ProxyError::Root { index, cause: e.to_string() })?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| ProxyError::Tls(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
