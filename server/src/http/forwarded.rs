//! What a proxy in front of a server reports of whoever asked it: `X-Forwarded-For` and `X-Forwarded-Proto`, or
//! `Forwarded` (RFC 7239).
//!
//! Each proxy appends to what it was sent, so only the end of a list is any proxy's word; what stands before it is the
//! client's, and may be anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use serde::Deserialize;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The header fields that a proxy writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`.
    XForwardedFor,
    /// `Forwarded`.
    Forwarded,
}

/// A report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// The last address that is none of the proxies'. None where the report has none, cannot be read, or says two
    /// things.
    pub(super) client: Option<IpAddr>,
    /// Whether it says that all was encrypted from the client to the last proxy.
    pub(super) https: bool,
}

/// What the header fields of a request report; none where no proxy has said anything. `trusted` tells whose word the
/// addresses in front of a proxy's are. Where it is known what the proxies write, all else is a client's and ignored.
pub(super) fn report(
    headers: &HeaderMap,
    written: Option<ForwardedHeader>,
    trusted: impl Fn(IpAddr) -> bool,
) -> Option<Report> {
    let has = |name: HeaderName, of: ForwardedHeader| {
        written.is_none_or(|written| written == of) && headers.contains_key(name)
    };
    let has_for = has(FOR, ForwardedHeader::XForwardedFor);
    let has_proto = has(PROTO, ForwardedHeader::XForwardedFor);
    let has_forwarded = has(FORWARDED, ForwardedHeader::Forwarded);
    if !has_for && !has_proto && !has_forwarded {
        return None;
    }
    let (mut clients, mut schemes) = (Vec::new(), Vec::new());
    if has_for {
        let hops = values(headers, FOR).map(|text| text.and_then(node));
        clients.push(client(&hops.collect::<Vec<_>>(), &trusted).map(|(_, address)| address));
    }
    if has_proto {
        schemes.extend(values(headers, PROTO).map(|text| text.is_some_and(is_https)));
    }
    if has_forwarded {
        let elements = elements(headers);
        let hops: Vec<_> = elements.iter().flatten().map(|element| element.node).collect();
        let found = client(&hops, &trusted);
        clients.push(found.map(|(_, address)| address));
        let told = elements.iter().flatten().skip(found.map_or(0, |(at, _)| at));
        match elements {
            Some(_) if told.clone().all(|element| element.https.is_none()) => {}
            Some(_) => schemes.extend(told.map(|element| element.https == Some(true))),
            None => schemes.push(false),
        }
    }
    // A proxy that knows one of the two passes the other on as its client wrote it.
    let agreed =
        clients.first().copied().flatten().filter(|first| clients.iter().all(|c| *c == Some(*first)));
    Some(Report { client: agreed, https: !schemes.is_empty() && schemes.iter().all(|https| *https) })
}

/// The last address that is not trusted, and where it stands; none when something unreadable or nothing comes first.
fn client(hops: &[Option<IpAddr>], trusted: impl Fn(IpAddr) -> bool) -> Option<(usize, IpAddr)> {
    let (at, last) = hops.iter().enumerate().rfind(|(_, hop)| !hop.is_some_and(&trusted))?;
    last.map(|address| (at, address))
}

/// The values of a list, over all of its lines; none for what is not text.
fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Option<&str>> {
    headers.get_all(name).iter().flat_map(|line| {
        let line = line.to_str().ok();
        let parts = line.into_iter().flat_map(|line| line.split(',')).map(str::trim);
        // Empty elements count for nothing (RFC 9110, section 5.6.1).
        parts.filter(|part| !part.is_empty()).map(Some).chain(line.is_none().then_some(None))
    })
}

fn is_https(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https")
}

/// An address, with or without a port and the brackets of IPv6. `unknown` and made-up names are no address.
fn node(text: &str) -> Option<IpAddr> {
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !port.is_empty() {
            port.strip_prefix(':')?.parse::<u16>().ok()?;
        }
        address.parse::<Ipv6Addr>().ok()?.into()
    } else if let Some((address, port)) = text.split_once(':').filter(|(_, port)| !port.contains(':')) {
        port.parse::<u16>().ok()?;
        address.parse::<Ipv4Addr>().ok()?.into()
    } else {
        text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip()))?
    };
    Some(address.to_canonical())
}

/// One element of `Forwarded`.
#[derive(Clone, Copy, Default)]
struct Element {
    node: Option<IpAddr>,
    https: Option<bool>,
}

/// The elements over all lines; none when one of the lines is not of the grammar, because then nobody can tell where
/// the client's words end and the proxy's begin.
fn elements(headers: &HeaderMap) -> Option<Vec<Element>> {
    let mut all = Vec::new();
    for line in headers.get_all(FORWARDED) {
        let mut rest = line.to_str().ok()?.trim_start();
        let mut element = Element::default();
        let mut pairs = 0;
        loop {
            if let Some((name, value, behind)) = pair(rest) {
                match name.to_ascii_lowercase().as_str() {
                    "for" if element.node.is_none() => element.node = node(&value),
                    "proto" if element.https.is_none() => element.https = Some(is_https(&value)),
                    // Said twice within one element (RFC 7239, section 4).
                    "for" | "proto" => return None,
                    _ => {}
                }
                pairs += 1;
                rest = behind.trim_start();
            }
            let ended = rest.is_empty() || rest.starts_with(',');
            if !ended && !rest.starts_with(';') {
                return None;
            }
            if ended && pairs > 0 {
                all.push(std::mem::take(&mut element));
                pairs = 0;
            }
            match rest.get(1..) {
                Some(behind) => rest = behind.trim_start(),
                None => break,
            }
        }
    }
    Some(all)
}

/// `name=value` at the start of the text, the value unquoted, and what follows.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let token = |text: &str| text.find(|c| !is_token(c)).unwrap_or(text.len());
    let (name, behind) = text.split_at(token(text));
    let behind = behind.strip_prefix('=').filter(|_| !name.is_empty())?;
    let Some(quoted) = behind.strip_prefix('"') else {
        let (value, rest) = behind.split_at(token(behind));
        return (!value.is_empty()).then(|| (name, value.to_owned(), rest));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((name, value, &quoted[at + 1..])),
            _ => value.push(c),
        }
    }
    None
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&str, &str)]) -> Option<Report> {
        written(None, fields)
    }

    /// Trusted is all of 10.0.0.0/8.
    fn written(by: Option<ForwardedHeader>, fields: &[(&str, &str)]) -> Option<Report> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, http::HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        report(&headers, by, |address| matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10))
    }

    fn client_of(fields: &[(&str, &str)]) -> Option<String> {
        of(fields).expect("a report").client.map(|address| address.to_string())
    }

    #[test]
    fn the_last_address_that_is_no_proxy_s_is_the_client() {
        for (list, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
            ("198.51.100.9, 192.0.2.1,10.0.0.2 , 10.0.0.3", "192.0.2.1"),
            ("what the client wrote, 192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, , 10.0.0.2,", "192.0.2.1"),
        ] {
            assert_eq!(client_of(&[("x-forwarded-for", list)]).as_deref(), Some(client), "{list}");
        }
        let lines = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "198.51.100.2, 10.0.0.1")];
        assert_eq!(client_of(&lines).as_deref(), Some("198.51.100.2"));
    }

    #[test]
    fn what_is_no_address_is_nobody_s() {
        for list in [
            "unknown",
            "192.0.2.1, unknown",
            "192.0.2.1, _hidden, 10.0.0.1",
            "192.0.2.1 10.0.0.2",
            "192.0.2.1, é",
            "192.0.2.1:port",
            "192.0.2.1:99999",
            "[2001:db8::1",
            "[2001:db8::1]x",
            "[192.0.2.1]",
            "192.0.2.300",
            "192.0.2.1/32",
            "10.0.0.1, 10.0.0.2",
            "",
        ] {
            assert_eq!(client_of(&[("x-forwarded-for", list)]), None, "{list}");
        }
    }

    #[test]
    fn the_standard_s_field_is_read_as_well() {
        for (field, client, https) in [
            ("for=192.0.2.1", Some("192.0.2.1"), false),
            ("For=\"[2001:db8::1]:4711\";Proto=https", Some("2001:db8::1"), true),
            ("for=\"192.0.2.1:80\" ; proto=HTTPS", Some("192.0.2.1"), true),
            ("for=198.51.100.1;proto=http, for=192.0.2.1;proto=https", Some("192.0.2.1"), true),
            ("for=192.0.2.1;proto=https, for=10.0.0.1;proto=https", Some("192.0.2.1"), true),
            // Between the two proxies everybody could read along.
            ("for=192.0.2.1;proto=https, for=10.0.0.1;proto=http", Some("192.0.2.1"), false),
            ("for=192.0.2.1;proto=https, for=10.0.0.1", Some("192.0.2.1"), false),
            ("by=10.0.0.9;host=\"a,b;for=1.1.1.1\";for=192.0.2.1", Some("192.0.2.1"), false),
            ("for=\"1\\92.0.2.1\"", Some("192.0.2.1"), false),
            (", for=192.0.2.1,", Some("192.0.2.1"), false),
            ("for=_hidden;proto=https", None, true),
            ("for=unknown", None, false),
            ("proto=https", None, true),
        ] {
            let report = of(&[("forwarded", field)]).expect("a report");
            let found = report.client.map(|address| address.to_string());
            assert_eq!((found.as_deref(), report.https), (client, https), "{field}");
        }
    }

    #[test]
    fn a_client_s_quote_does_not_swallow_what_the_proxy_appended() {
        for field in [
            "for=\"198.51.100.1, for=192.0.2.1;proto=https",
            "for=198.51.100.1;x=\", for=\"[2001:db8::1]\";proto=https",
            "for=198.51.100.1;for=192.0.2.1;proto=https",
            "for=192.0.2.1;proto=http;proto=https",
            "for = 192.0.2.1;proto=https",
            "for=192.0.2.1 proto=https",
            "192.0.2.1;proto=https",
            "for=;proto=https",
        ] {
            assert_eq!(of(&[("forwarded", field)]), Some(Report { client: None, https: false }), "{field}");
        }
    }

    #[test]
    fn two_reports_count_when_they_agree() {
        let both = |one, other| client_of(&[("x-forwarded-for", one), ("forwarded", other)]);
        assert_eq!(both("192.0.2.1", "for=192.0.2.1, for=10.0.0.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(both("192.0.2.1", "for=198.51.100.1"), None);
        assert_eq!(both("unknown", "for=192.0.2.1"), None);
        assert_eq!(both("192.0.2.1", "\""), None);
    }

    #[test]
    fn what_the_proxy_does_not_write_is_ignored() {
        use ForwardedHeader::{Forwarded, XForwardedFor};
        let client = [192, 0, 2, 1].into();
        let old = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];
        let new = [("forwarded", "for=192.0.2.1;proto=https")];
        let fine = Some(Report { client: Some(client), https: true });
        for hostile in ["x", "for=198.51.100.1;proto=http", "for=\""] {
            let fields = [&old[..], &[("forwarded", hostile)]].concat();
            assert_eq!(written(Some(XForwardedFor), &fields), fine, "{hostile}");
        }
        for hostile in [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-proto", "http")] {
            let fields = [&new[..], &[hostile]].concat();
            assert_eq!(written(Some(Forwarded), &fields), fine, "{hostile:?}");
        }
        assert_eq!(written(Some(Forwarded), &old), None);
        assert_eq!(written(Some(XForwardedFor), &new), None);
    }

    #[test]
    fn everything_is_encrypted_or_not() {
        let https = |fields: &[(&str, &str)]| of(fields).expect("a report").https;
        assert!(https(&[("x-forwarded-proto", "https")]) && https(&[("x-forwarded-proto", "HTTPS, https")]));
        for proto in ["http", "https, http", "http, https", "", "wss", "httpsx"] {
            assert!(!https(&[("x-forwarded-proto", proto)]), "{proto}");
        }
        assert!(!https(&[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")]));
        assert!(!https(&[("x-forwarded-proto", "https"), ("forwarded", "proto=http")]));
        assert!(https(&[("x-forwarded-proto", "https"), ("forwarded", "for=192.0.2.1")]));
        assert!(!https(&[("x-forwarded-for", "192.0.2.1")]));
        assert_eq!(of(&[("x-forwarded-host", "a.example"), ("x-real-ip", "192.0.2.1")]), None);
    }
}
