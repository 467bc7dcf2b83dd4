//! The simulation's own certificate authority, and one certificate per simulated host.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::SimulationError;

/// The authority's certificate and an acceptor that holds the hosts' ones.
pub(super) struct Identity {
    pub(super) ca: CertificateDer<'static>,
    pub(super) acceptor: TlsAcceptor,
}

impl Identity {
    /// Makes an authority and a certificate for each of `hosts` (DNS names or IP addresses). The keys exist only in
    /// this process's memory.
    pub(super) fn for_hosts(hosts: &[String]) -> Result<Identity, SimulationError> {
        let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority.distinguished_name = name("orch simulated authority");
        let ca = authority.self_signed(&authority_key)?.der().clone();
        let issuer = Issuer::new(authority, authority_key);

        // One key serves all hosts: what separates them is the name that is signed, and making a key costs more than
        // signing a certificate.
        let host_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let provider = Arc::new(ring::default_provider());
        let signing_key = provider
            .key_provider
            .load_private_key(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(host_key.serialize_der())))?;

        let certify = |sans: Vec<String>| -> Result<Arc<CertifiedKey>, SimulationError> {
            let mut params = CertificateParams::new(sans.clone())?;
            params.distinguished_name = name(sans.first().map_or("", String::as_str));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            let der = params.signed_by(&host_key, &issuer)?.der().clone();
            Ok(Arc::new(CertifiedKey::new(vec![der], Arc::clone(&signing_key))))
        };

        let (addresses, names): (Vec<String>, Vec<String>) =
            hosts.iter().cloned().partition(|host| host.parse::<IpAddr>().is_ok());
        let mut by_name = HashMap::new();
        for host in names {
            by_name.insert(host.clone(), certify(vec![host])?);
        }
        let by_address = if addresses.is_empty() { None } else { Some(certify(addresses)?) };
        let certificates = Certificates { by_name, by_address };

        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Identity { ca, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Picks the certificate by SNI. A client that names no host or an unknown one gets no certificate at all, so a proxy
/// that sent the wrong name fails its handshake here as it would fail verification there. RFC 6066 forbids addresses
/// in SNI: without a name, the one certificate of all IP endpoints is offered if there are any.
struct Certificates {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    by_address: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match hello.server_name() {
            Some(name) => self.by_name.get(&name.to_ascii_lowercase()).cloned(),
            None => self.by_address.clone(),
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}
