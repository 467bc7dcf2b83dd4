//! One function for each parser of what others wrote, which takes any bytes and must not panic. The fuzz targets
//! (`proxy/fuzz`) call them, and so do the property tests below, so that neither is left behind.
//!
//! A target says more than that nothing breaks: what was judged is compared with what others would read in the same
//! bytes, because a policy that reads a request in its own way decides about another one.
//!
//! There is no feature for this: `--cfg fuzzing` is what fuzzers set, and nothing else does.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use orch_manifests::{CanonicalPath, HostName, PathGlob};

use crate::SCRUBBED;
use crate::place::{Place, swap_in_query};
use crate::scrub::{ScrubStream, Scrubber};
use crate::target::{RequestTarget, host_field, origin_form};
use crate::{Guard, Placeholder, Reach};

/// A parser, and bytes that it accepts.
pub struct Target {
    /// Its name, that of its fuzz target.
    pub name: &'static str,
    /// Tries the bytes.
    pub try_bytes: fn(&[u8]),
    /// Bytes that it has much to do with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "url", try_bytes: url, seeds: url_seeds },
    Target { name: "path", try_bytes: path, seeds: path_seeds },
    Target { name: "answers", try_bytes: answers, seeds: answer_seeds },
    Target { name: "query", try_bytes: query, seeds: query_seeds },
    Target { name: "scrubber", try_bytes: scrubber, seeds: scrubber_seeds },
    Target { name: "framing", try_bytes: framing, seeds: crate::listener::fuzzing::framing_seeds },
    Target { name: "client_hello", try_bytes: client_hello, seeds: crate::listener::fuzzing::hello_seeds },
];

/// What a client of the listener writes.
pub fn framing(data: &[u8]) {
    crate::listener::fuzzing::framing(data);
}

/// What a TLS client writes into a tunnel.
pub fn client_hello(data: &[u8]) {
    crate::listener::fuzzing::client_hello(data);
}

fn lines(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Where a request wants to go: its URI, a line end, and perhaps a `Host` field. What is accepted is read in the same way
/// by the URL standard's parser and by the one that hyper uses.
pub fn url(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(parts.next().unwrap_or_default()) else { return };
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    if let Some(host) = parts.next() {
        let Ok(host) = HeaderValue::from_bytes(host) else { return };
        request.headers_mut().insert(header::HOST, host);
    }
    let (parts, ()) = request.into_parts();
    let Ok(target) = RequestTarget::parse(&parts) else { return };
    let RequestTarget { scheme, host, port, path } = &target;

    let standard = url::Url::parse(&parts.uri.to_string()).expect("what the proxy accepts is a URL");
    assert_eq!(standard.scheme(), scheme.as_str());
    assert_eq!(standard.host_str().map(|host| host.trim_end_matches('.')), Some(host.as_str()));
    assert!(matches!(standard.host(), Some(url::Host::Domain(_))), "an address passed for a name");
    assert_eq!(standard.port_or_known_default(), Some(*port));
    assert!(standard.username().is_empty() && standard.password().is_none());

    // What goes up says what was judged, to every reader.
    let field = host_field(*scheme, host.as_str(), *port).expect("a judged name is a field");
    let line = origin_form(path).expect("a judged path is a target");
    assert_eq!(line.path_and_query().map(http::uri::PathAndQuery::as_str), Some(path.as_str()));
    let written = format!("{scheme}://{}{}", field.to_str().expect("ASCII"), path.as_str());
    let again = url::Url::parse(&written).expect("what goes up is a URL");
    assert_eq!((again.host_str(), again.path()), (Some(host.as_str()), path.path()));
    assert_eq!(again.port_or_known_default(), Some(*port));
    let mut request = Request::new(());
    *request.uri_mut() = Uri::try_from(&written).expect("what goes up is a URI");
    let (parts, ()) = request.into_parts();
    let twice = RequestTarget::parse(&parts).expect("what goes up is accepted");
    assert_eq!((&twice.host, twice.port, &twice.path), (host, *port, path));
    assert_eq!(host.as_str().parse::<HostName>().as_ref(), Ok(host));
}

fn url_seeds() -> Vec<Vec<u8>> {
    lines(&[
        "https://api.example.com/v1/x?y=1",
        "http://API.example.com:80/%7euser/../a\napi.example.com",
        "https://xn--bcher-kva.example.:8443/a//b/./c;d?%41",
        "https://user@api.example.com/",
        "http://127.0.0.1:80/\n127.0.0.1",
        "http://0x7f.1/",
        "http://[::ffff:127.0.0.1]:8080/",
    ])
}

/// A path and query: canonical once is canonical for good, and leaves nothing to be read in two ways.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(glob) = text.parse::<PathGlob>() {
        assert_eq!(glob.as_str().parse::<PathGlob>().as_ref(), Ok(&glob));
    }
    let Ok(path) = CanonicalPath::parse(text) else { return };
    assert_eq!(CanonicalPath::parse(path.as_str()).as_ref(), Ok(&path));
    assert!(path.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
    assert!(!path.path().contains(['\\', '?']));
    let mut segments = path.path().split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        assert!(!matches!(segment, "." | ".."), "{path}");
        assert!(!segment.is_empty() || segments.peek().is_none(), "{path}");
    }
    // A query may hold what no URI does, and is refused before it goes up; requests come as URIs anyway.
    let Ok(uri) = Uri::try_from(path.as_str()) else {
        assert!(origin_form(&path).is_err());
        return;
    };
    assert_eq!((uri.path(), uri.query()), (path.path(), path.query()));
    let standard = url::Url::parse(&format!("http://a.example{path}")).expect("a canonical path is a URL's");
    assert_eq!(standard.path(), path.path());
    let below: PathGlob = "/**".parse().expect("a pattern");
    assert!(below.matches(&path));
    // A pattern is shorter than a path may be.
    if !path.path().contains('*') && path.path().len() <= 1024 {
        let exact: PathGlob = path.path().parse().expect("a path without stars is a pattern");
        assert!(exact.matches(&path), "{path}");
    }
}

fn path_seeds() -> Vec<Vec<u8>> {
    lines(&[
        "/",
        "/repos/a/../b/%2e/c?d=e",
        "/%7Ea/%C3%A9;b=c//d/",
        "/repos/**",
        "/v1/*",
        "/a/..%2f",
        "/..;/a",
        "/%252e%252e/",
        "/%25%32%65%25%32%65/a",
    ])
}

/// What a resolver says, four or sixteen bytes an address: every address that may be dialled was in the answer, and none
/// of the answer is in the table.
pub fn answers(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let addresses: Vec<std::net::IpAddr> = if kind % 2 == 0 {
        data.as_chunks::<4>().0.iter().map(|octets| (*octets).into()).collect()
    } else {
        data.as_chunks::<16>().0.iter().map(|octets| (*octets).into()).collect()
    };
    let guard = Guard::new(Box::new(Vec::<ipnet::IpNet>::new()));
    let Ok(checked) = guard.check_all("a.example", addresses.clone(), 443, Reach::Public) else { return };
    assert_eq!(checked.len(), addresses.len());
    for (checked, address) in checked.iter().zip(&addresses) {
        assert_eq!(checked.get().ip(), *address);
        assert!(is_global(*address), "{address} may be dialled");
    }
}

/// The table once more, as ranges and by hand: what it lets through is plain global unicast.
fn is_global(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            let known = v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_documentation();
            let others = matches!((a, b, c), (0 | 240..=255, ..) | (100, 64..=127, _) | (198, 18 | 19, _))
                || matches!(
                    (a, b, c),
                    (192, 0, 0) | (192, 31, 196) | (192, 52, 193) | (192, 88, 99) | (192, 175, 48)
                )
                || (a, b, c, d) == (168, 63, 129, 16);
            !known && !others
        }
        std::net::IpAddr::V6(v6) => {
            let s = v6.segments();
            (0x2000..=0x3fff).contains(&s[0])
                && !(s[0] == 0x2001 && (s[1] < 0x200 || s[1] == 0xdb8))
                && s[0] != 0x2002
                && !(s[0] == 0x3fff && s[1] < 0x1000)
        }
    }
}

fn answer_seeds() -> Vec<Vec<u8>> {
    vec![
        vec![0, 1, 1, 1, 1, 8, 8, 8, 8],
        vec![0, 1, 1, 1, 1, 127, 0, 0, 1],
        [&[1][..], &[0x26, 0x06, 0x47, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11, 0x11]].concat(),
        [&[1][..], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]].concat(),
    ]
}

/// A secret in a query, between a name, a target and a value that are cut at line ends: it stands there once and encoded,
/// and nothing else has moved.
pub fn query(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let (Some(name), Some(target), Some(value)) = (parts.next(), parts.next(), parts.next()) else { return };
    let (Ok(name), Ok(uri)) = (std::str::from_utf8(name), Uri::try_from(target)) else { return };
    let placeholder = Placeholder::of("orch_ph_0");
    let mut request = Request::new(());
    *request.uri_mut() = uri.clone();
    let (mut parts, ()) = request.into_parts();
    let holds = Place::Query(name.to_owned()).holds(&parts.headers, &parts.uri, &placeholder);
    if swap_in_query(&mut parts, name, &placeholder, value).is_err() {
        assert_eq!(parts.uri, uri);
        return;
    }
    assert!(holds, "what is swapped is held");
    let before = uri.query().unwrap_or_default();
    let after = parts.uri.query().unwrap_or_default();
    assert_eq!((parts.uri.path(), after.matches('&').count()), (uri.path(), before.matches('&').count()));
    let changed: Vec<_> = before.split('&').zip(after.split('&')).filter(|(old, new)| old != new).collect();
    let [(old, new)] = changed[..] else {
        assert_eq!((before, value), (after, placeholder.as_str().as_bytes()));
        return;
    };
    let new = new.split_once('=').map(|(_, new)| new).unwrap_or_default();
    assert_eq!(old.split_once('=').map(|(_, old)| old), Some("orch_ph_0"));
    let decoded: Vec<u8> = url::form_urlencoded::parse(format!("a={new}").as_bytes())
        .map(|(_, value)| value.into_owned().into_bytes())
        .next()
        .unwrap_or_default();
    if let Ok(value) = std::str::from_utf8(value) {
        assert_eq!(decoded, value.as_bytes());
    }
}

fn query_seeds() -> Vec<Vec<u8>> {
    lines(&[
        "key\n/?key=orch_ph_0\na&b=c",
        "a b\n/x?z=1&a+b=orch_ph_0&y\nv",
        "key\n/?%6bey=orch_ph_0\n\u{e9}%",
    ])
}

/// A secret and a text that holds it in some form, cut anywhere: what comes out holds it in none. The bytes: the secret's length, the secret, the form, how it is cut, and the text around it.
pub fn scrubber(data: &[u8]) {
    let [length, form, cut, rest @ ..] = data else { return };
    let Some((secret, text)) = rest.split_at_checked(16 + usize::from(length % 32)) else { return };
    // The mark would spell it, or a part of it.
    if secret.iter().any(|byte| b"[]".contains(byte)) || holds(SCRUBBED.as_bytes(), secret) {
        return;
    }
    let spelled = spellings(secret);
    let middle = text.len() / 2;
    let own = &spelled[usize::from(*form) % spelled.len()];
    let text = [&text[..middle], own, &text[middle..]].concat();
    let scrubber = Arc::new(Scrubber::new(secret).expect("it is long enough"));

    let whole = scrubbed(&scrubber, [text.as_slice()]);
    let cut = scrubbed(&scrubber, text.chunks(1 + usize::from(*cut)));
    // Where the secret ends in a percent sign, how much of `%2525` belongs to it depends on what is there already; what is
    // left is digits of an escape.
    for out in [&whole, &cut] {
        assert!(holds(out, SCRUBBED.as_bytes()), "nothing was taken out");
        for form in &spelled {
            assert!(!holds(out, form), "{} is left", String::from_utf8_lossy(form));
        }
    }
    assert_eq!(Some(whole), scrubber.clean(&text));
}

fn scrubbed<'a>(scrubber: &Arc<Scrubber>, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stream = ScrubStream::new(std::slice::from_ref(scrubber), false);
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&stream.push(Bytes::copy_from_slice(chunk)));
    }
    out.extend_from_slice(&stream.finish());
    out
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The spellings that the promise lists, each without the digits that depend on what stands around it.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let percent = |bytes: &[u8], escape: fn(u8) -> bool| -> Vec<u8> {
        let one = |byte: &u8| if escape(*byte) { format!("%{byte:02X}").into_bytes() } else { vec![*byte] };
        bytes.iter().flat_map(one).collect()
    };
    let once = percent(secret, |byte| !byte.is_ascii_alphanumeric());
    let twice = percent(&once, |byte| byte == b'%');
    let mut forms = vec![
        secret.to_vec(),
        data_encoding::HEXLOWER.encode(secret).into_bytes(),
        data_encoding::HEXUPPER.encode(secret).into_bytes(),
        percent(secret, |_| true),
        percent(&twice, |byte| byte == b'%'),
        once,
        twice,
        secret.iter().flat_map(|byte| format!("\\u{byte:04x}").into_bytes()).collect(),
    ];
    for before in 0..3 {
        let padded = [&b"xy"[..before], secret].concat();
        let (first, end) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        for encoding in [data_encoding::BASE64_NOPAD, data_encoding::BASE64URL_NOPAD] {
            forms.push(encoding.encode(&padded).as_bytes()[first..end].to_vec());
        }
    }
    if let Ok(text) = std::str::from_utf8(secret) {
        let json = serde_json::Value::from(text).to_string();
        forms.push(json.as_bytes()[1..json.len() - 1].to_vec());
    }
    forms
}

fn scrubber_seeds() -> Vec<Vec<u8>> {
    let seed = |form: u8, cut: u8| {
        [&[8, form, cut][..], b"sk-Ab/9+zQ\"x\\y%41~ 7_end", b"data: {\"a\":\"\\u0041 100%\"}\n\n"].concat()
    };
    (0..14).map(|form| seed(form, form % 5)).collect()
}

#[cfg(test)]
mod tests;
