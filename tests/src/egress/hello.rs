//! First messages of TLS clients: rustls's own, and ones that no library would write.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::fill::bytes;

/// The hello of rustls to this name, or without one.
pub fn of_rustls(name: Option<&str>) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.enable_sni = name.is_some();
    let name = ServerName::try_from(name.unwrap_or("api.example.com").to_owned()).expect("a row's name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut out = Vec::new();
    client.write_tls(&mut out).expect("memory takes it");
    out
}

/// Bytes as a row says, or a hello that is made by hand: `<<hello:NAME>>`, with `|` between names of one list and `+`
/// between extensions, and `<<ech:NAME>>` with an encrypted hello inside.
pub fn bytes_of(text: &str) -> Vec<u8> {
    let inner = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(">>"));
    if let Some(names) = inner("<<hello:") {
        let extensions =
            names.split('+').map(|names| (0, server_names(&names.split('|').collect::<Vec<_>>())));
        return hello(&extensions.collect::<Vec<_>>());
    }
    if let Some(name) = inner("<<ech:") {
        return hello(&[(0, server_names(&[name])), (0xfe0d, vec![0; 16])]);
    }
    bytes(text)
}

/// Cut as a row says: `bytes` (a packet each), `records` of 16 bytes, `tiny` records of one.
pub fn split(hello: &[u8], how: Option<&str>) -> Vec<Vec<u8>> {
    let records = |size: usize| {
        let parts = hello[5..].chunks(size).map(|part| [&hello[..3], &long(part)].concat());
        vec![parts.collect::<Vec<_>>().concat()]
    };
    match how {
        None => vec![hello.to_vec()],
        Some("bytes") => hello.iter().map(|byte| vec![*byte]).collect(),
        Some("records") => records(16),
        Some("tiny") => records(1),
        Some(other) => panic!("a hello is not cut into {other}"),
    }
}

fn server_names(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| [&[0][..], &long(&bytes(name))].concat()).collect();
    long(&list)
}

fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &long(content)].concat())
        .collect();
    // Version, random, no session, one suite, no compression.
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &long(&extensions)].concat();
    let message = [&[1, 0][..], &long(&body)].concat();
    [&[22, 3, 1][..], &long(&message)].concat()
}

/// A vector with its length in two bytes before it.
fn long(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short vector").to_be_bytes();
    [&length, content].concat()
}
