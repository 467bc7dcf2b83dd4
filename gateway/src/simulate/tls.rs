//! The simulation's own certificate authority, and one certificate per simulated host.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use tokio_rustls::TlsAcceptor;

use super::SimulationError;

/// The authority's certificate and an acceptor that has one for each host.
pub(super) struct Identity {
    pub(super) ca: CertificateDer<'static>,
    pub(super) acceptor: TlsAcceptor,
}

impl Identity {
    /// Makes an authority that certifies each of `hosts` (DNS names or IP addresses) when it is first spoken to. The key
    /// exists only in this process's memory.
    pub(super) fn for_hosts(hosts: &[String]) -> Result<Identity, SimulationError> {
        // One key serves the authority and all hosts: what separates them is the name that is signed, and making a key
        // costs more than signing a certificate.
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority.distinguished_name = name("orch simulated authority");
        let ca = authority.self_signed(&key)?.der().clone();
        let provider = Arc::new(ring::default_provider());
        let signs = provider
            .key_provider
            .load_private_key(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))?;

        let (addresses, names): (Vec<String>, Vec<String>) =
            hosts.iter().cloned().partition(|host| host.parse::<IpAddr>().is_ok());
        let by_name = names.into_iter().map(|host| Ok((host.clone(), Certificate::of(vec![host])?)));
        let by_name = by_name.collect::<Result<HashMap<_, _>, SimulationError>>()?;
        let by_address = if addresses.is_empty() { None } else { Some(Certificate::of(addresses)?) };
        let certificates = Certificates { authority, key, signs, by_name, by_address };

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

/// A certificate that is made when it is first asked for. A run speaks to few of the hosts that it could speak to.
struct Certificate {
    params: CertificateParams,
    made: OnceLock<Option<Arc<CertifiedKey>>>,
}

impl Certificate {
    /// For these names. One that cannot be certified is found now.
    fn of(names: Vec<String>) -> Result<Certificate, SimulationError> {
        let common = name(names.first().map_or("", String::as_str));
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = common;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(Certificate { params, made: OnceLock::new() })
    }
}

/// Picks the certificate by SNI. A client that names no host or an unknown one gets no certificate at all, so a proxy
/// that sent the wrong name fails its handshake here as it would fail verification there. RFC 6066 forbids addresses
/// in SNI: without a name, the one certificate of all IP endpoints is offered if there are any.
struct Certificates {
    authority: CertificateParams,
    key: KeyPair,
    /// The same key, as TLS signs with it.
    signs: Arc<dyn SigningKey>,
    by_name: HashMap<String, Certificate>,
    by_address: Option<Certificate>,
}

impl Certificates {
    /// The certificate, made now unless it was before; none when there is no randomness to sign it with, which fails the
    /// handshake.
    fn made(&self, certificate: &Certificate) -> Option<Arc<CertifiedKey>> {
        let make = || {
            let issuer = Issuer::from_params(&self.authority, &self.key);
            let der = certificate.params.signed_by(&self.key, &issuer).ok()?.der().clone();
            Some(Arc::new(CertifiedKey::new(vec![der], Arc::clone(&self.signs))))
        };
        certificate.made.get_or_init(make).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificate = match hello.server_name() {
            Some(name) => self.by_name.get(&name.to_ascii_lowercase()),
            None => self.by_address.as_ref(),
        };
        self.made(certificate?)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}
