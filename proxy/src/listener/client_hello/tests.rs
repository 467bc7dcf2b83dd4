use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

const HOST: &str = "api.example.com";

/// What a client of our own sends first.
fn hello(name: ServerName<'static>) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn real() -> Vec<u8> {
    hello(HOST.try_into().unwrap())
}

/// The handshake message of a record.
fn message(record: &[u8]) -> &[u8] {
    &record[RECORD_HEADER..]
}

fn record(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[HANDSHAKE, 3, 1], &length[..], content].concat()
}

fn long(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(content)].concat()
}

fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|(kind, name)| [&[*kind][..], &long(name)].concat()).collect();
    extension(SERVER_NAME, &long(&list))
}

/// A hello with these extensions, and nothing else of interest.
fn with(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body =
        [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 0x01], &[1, 0], &long(&extensions.concat())].concat();
    finished(&body)
}

fn finished(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    record(&[&[CLIENT_HELLO][..], &length[1..], body].concat())
}

fn read(bytes: &[u8]) -> Result<Option<String>, HelloError> {
    HelloReader::default().feed(bytes)
}

/// The same in pieces; the result of the last that was fed.
fn read_pieces(pieces: &[&[u8]]) -> Result<Option<String>, HelloError> {
    let mut reader = HelloReader::default();
    for piece in pieces {
        if let Some(name) = reader.feed(piece)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[test]
fn a_real_client_s_name_is_read() {
    assert_eq!(read(&real()), Ok(Some(HOST.to_owned())));
    let plain = with(&[names(&[(0, b"API.example.com")]), extension(16, b"\0\x03\x02h2")]);
    assert_eq!(read(&plain), Ok(Some("API.example.com".to_owned())));
}

#[test]
fn what_was_fed_is_kept_as_it_came() {
    let (hello, mut reader) = (real(), HelloReader::default());
    let more = [hello.as_slice(), b"\x17\x03\x03\0\x01x"].concat();
    assert!(reader.feed(&more).unwrap().is_some());
    assert_eq!(reader.into_seen(), (hello, b"\x17\x03\x03\0\x01x".to_vec()));
}

#[test]
fn names_that_are_not_exactly_one_are_refused() {
    let host = HOST.as_bytes();
    for (hello, error) in [
        (with(&[]), HelloError::NoName),
        (with(&[extension(16, b"")]), HelloError::NoName),
        (with(&[extension(SERVER_NAME, &long(b""))]), HelloError::NoName),
        (with(&[names(&[(0, host), (0, b"evil.example")])]), HelloError::ManyNames),
        (with(&[names(&[(0, host), (0, host)])]), HelloError::ManyNames),
        (with(&[names(&[(1, host)])]), HelloError::ManyNames),
        (with(&[names(&[(0, b"10.0.0.1")])]), HelloError::Address),
        (with(&[names(&[(0, b"::1")])]), HelloError::Address),
        (with(&[names(&[(0, host)]), extension(0xfe0d, b"x")]), HelloError::Encrypted),
        (with(&[extension(0xfe0d, b"x"), names(&[(0, host)])]), HelloError::Encrypted),
        (with(&[names(&[(0, host)]), extension(0xffce, b"x")]), HelloError::Encrypted),
    ] {
        assert_eq!(read(&hello), Err(error), "{hello:?}");
    }
    // rustls sends no name for an address.
    let address: std::net::IpAddr = "192.0.2.1".parse().unwrap();
    assert_eq!(read(&hello(ServerName::from(address))), Err(HelloError::NoName));
}

#[test]
fn broken_messages_are_refused() {
    let host = names(&[(0, HOST.as_bytes())]);
    let real = real();
    let twice = with(&[host.clone(), names(&[(0, b"evil.example")])]);
    let nul = with(&[names(&[(0, b"api.example.com\0.evil")])]);
    let empty = with(&[names(&[(0, b"")])]);
    let trailing = record(&[message(&real), b"\x01"].concat());
    let server = record(&[&[2][..], &message(&real)[1..]].concat());
    let no_suites = finished(&[&[3, 3][..], &[7; 32], &[0], &[0, 0], &[1, 0], &long(&host)].concat());
    let session = finished(&[&[3, 3][..], &[7; 32], &[33], &[1; 33], &[0, 2, 0x13, 1], &[1, 0]].concat());
    let mut longer = with(&[host]);
    let at = longer.len() - HOST.len() - 1;
    longer[at] += 1;
    for hello in [twice, nul, empty, trailing, server, no_suites, session, longer] {
        assert!(matches!(read(&hello), Err(HelloError::Malformed(_))), "{:?} {hello:?}", read(&hello));
    }
    // A record of nothing, one that is too long, and another kind in between.
    let half = &message(&real)[..50];
    for records in [
        vec![record(half), record(b"")],
        vec![vec![HANDSHAKE, 3, 1, 0x40, 1]],
        vec![record(half), b"\x15\x03\x01\0\x02\x01\0".to_vec()],
    ] {
        assert!(matches!(read(&records.concat()), Err(HelloError::Malformed(_))), "{records:?}");
    }
}

#[test]
fn what_is_no_tls_shows_at_once() {
    for bytes in
        [&b"G"[..], b"GET / HTTP/1.1\r\n", b"SSH-2.0-x\r\n", b"\x80\x2e\x01\x03\x01", b"\x16\x02", b"\0"]
    {
        assert_eq!(read(bytes), Err(HelloError::NotTls), "{bytes:?}");
    }
    assert_eq!(read(b"\x16\x03"), Ok(None));
    assert_eq!(read(b""), Ok(None));
}

#[test]
fn it_ends_somewhere() {
    // A message that says it is too long, one that never ends, and records of one byte.
    assert_eq!(read(&record(b"\x01\x01\0\x01x")), Err(HelloError::TooLarge));
    let endless = record(&[&b"\x01\0\xff\xff"[..], &[0; 12]].concat());
    let mut reader = HelloReader::default();
    reader.feed(&endless).unwrap();
    let more = record(&[0]);
    let fed = (0..MAX_BYTES).find_map(|_| reader.feed(&more).err());
    assert_eq!(fed, Some(HelloError::TooLarge));
    let (seen, behind) = reader.into_seen();
    assert!(seen.len() + behind.len() < MAX_BYTES + endless.len() + 2 * more.len());
}

proptest! {
    #[test]
    fn any_fragmentation_gives_the_same_name(
        records in vec(1_usize..400, 1..12),
        segments in vec(1_usize..90, 1..40),
    ) {
        let hello = real();
        // The message over records of these lengths, and the bytes over segments of those.
        let (mut rest, mut bytes) = (message(&hello), Vec::new());
        for length in records.iter().cycle() {
            let (part, more) = rest.split_at((*length).min(rest.len()));
            bytes.extend(record(part));
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        let (mut rest, mut pieces) = (bytes.as_slice(), Vec::new());
        for length in segments.iter().cycle() {
            let (piece, more) = rest.split_at((*length).min(rest.len()));
            pieces.push(piece);
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(read_pieces(&pieces), Ok(Some(HOST.to_owned())));
        pieces.pop();
        prop_assert_eq!(read_pieces(&pieces), Ok(None));
    }

    #[test]
    fn nothing_makes_it_panic(bytes in vec(any::<u8>(), 0..300), more in vec(any::<u8>(), 0..300)) {
        let _ = read_pieces(&[&bytes, &more]);
        // As the inside of a message, where most of it is read.
        let _ = read(&finished(&bytes));
        let _ = read(&with(std::slice::from_ref(&bytes)));
        let _ = read(&with(&[extension(SERVER_NAME, &bytes)]));
    }

    #[test]
    fn a_changed_byte_never_makes_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut hello = real();
        let at = at.index(hello.len());
        hello[at] = byte;
        if let Ok(Some(name)) = read(&hello) {
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
