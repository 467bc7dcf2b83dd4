//! What a message must look like before it is passed on, in both directions. Framing is hyper's and the connection is
//! the proxy's own, so everything that speaks about either is taken out here and written anew.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, request, response};

use crate::{Caps, Reason};

/// Fields about the connection rather than the message (RFC 9110, section 7.6.1), besides those that `Connection`
/// names. `Trailer` stays: it announces fields that pass through.
static HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
];

/// Fields that tell upstreams who the client is. The proxy knows nothing that would be true, and a guest's word could
/// be taken for the proxy's.
static CLAIMS: [HeaderName; 13] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("x-cluster-client-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("cf-connecting-ip"),
    HeaderName::from_static("fastly-client-ip"),
];

/// Fields that some servers believe more than the request line.
const OVERRIDES: [&str; 5] =
    ["x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"];

/// Left over from HTTP/1.1 (an upgrade to HTTP/2; hyper sends bodies without waiting for a 100).
static REQUEST_ONLY: [HeaderName; 2] = [HeaderName::from_static("http2-settings"), header::EXPECT];

/// What upstreams say about other ways to reach them.
static RESPONSE_ONLY: [HeaderName; 1] = [header::ALT_SVC];

/// Fields that change what a message is, or speak for somebody.
static NOT_TRAILERS: [HeaderName; 10] = [
    header::CONTENT_LENGTH,
    header::HOST,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::TRAILER,
    header::AUTHORIZATION,
    header::SET_COOKIE,
    header::COOKIE,
    header::EXPECT,
    header::RANGE,
];

/// Refuses what cannot be passed on, before anything is looked up.
pub(crate) fn check_request(parts: &request::Parts, caps: &Caps) -> Result<(), Reason> {
    check_method(&parts.method)?;
    if parts.headers.contains_key(header::UPGRADE) || parts.headers.contains_key("http2-settings") {
        return Err(Reason::new(
            "upgrade_refused",
            "connection upgrades (WebSocket, h2c) are not offered yet",
        ));
    }
    check_size(&parts.headers, caps)
        .map_err(|what| Reason::new("headers_too_large", format!("request headers: {what}")))?;
    check_length(parts.uri.path_and_query().map_or(0, |target| target.as_str().len()), caps)
}

/// Refuses a path and query of too many bytes.
pub(crate) fn check_length(length: usize, caps: &Caps) -> Result<(), Reason> {
    if length > caps.url {
        let text = format!("the URL has {length} bytes, more than {}", caps.url);
        return Err(Reason::new("url_too_long", text));
    }
    Ok(())
}

/// Refuses the methods that nobody can allow.
pub(crate) fn check_method(method: &Method) -> Result<(), Reason> {
    // CONNECT opens a tunnel that nobody can look into; TRACE and its kin echo credentials back; PRI is no method but the
    // beginning of an HTTP/2 preface (RFC 9113, section 3.4).
    let banned = ["CONNECT", "TRACE", "TRACK", "DEBUG", "PRI"];
    if *method == Method::CONNECT || banned.iter().any(|name| method.as_str().eq_ignore_ascii_case(name)) {
        return Err(Reason::new("method_refused", format!("{method} is never forwarded")));
    }
    Ok(())
}

/// The body's length as announced, if it is.
///
/// # Errors
/// More than one value, a value that is not a plain number, or a value beside `Transfer-Encoding`: two readers could
/// see two different messages (RFC 9112, section 6.3).
pub(crate) fn announced_length(headers: &HeaderMap) -> Result<Option<u64>, Reason> {
    let conflict = |text| Err(Reason::new("framing_refused", text));
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return conflict("Content-Length occurs more than once");
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return conflict("Content-Length stands beside Transfer-Encoding");
    }
    let digits = line.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return conflict("Content-Length is not a number");
    }
    match std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()) {
        Some(length) => Ok(Some(length)),
        None => conflict("Content-Length is too large a number"),
    }
}

/// Refuses what would make servers read another method or path than was judged. For requests that somebody allowed with
/// certain methods or paths only.
///
/// # Errors
/// The refusal, which names `who` allowed it.
pub(crate) fn check_overrides(headers: &HeaderMap, who: &str) -> Result<(), Reason> {
    // Servers that hand fields on as variables (CGI, WSGI) take both for the same.
    let folded = |byte: u8| if byte == b'_' { b'-' } else { byte };
    let overrides = |name: &&HeaderName| {
        OVERRIDES.iter().any(|listed| name.as_str().bytes().map(folded).eq(listed.bytes()))
    };
    match headers.keys().find(overrides) {
        None => Ok(()),
        Some(name) => {
            let text = format!(
                "the field {name} makes servers read another method or path, and {who} allows certain ones only"
            );
            Err(Reason::new("override_header_refused", text))
        }
    }
}

/// Takes out of a request what is not for the upstream.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    strip(headers, &[&CLAIMS, &REQUEST_ONLY]);
}

/// A request with a credential in it, or to an origin that got one before: the answer must be one that can be searched
/// for the secret. A range could start in the middle of it, and compression would hide it.
pub(crate) fn make_scrubbable(headers: &mut HeaderMap) {
    headers.remove(header::RANGE);
    headers.remove(header::IF_RANGE);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// Refuses a response that cannot be passed on.
pub(crate) fn check_response(parts: &response::Parts, caps: &Caps) -> Result<(), String> {
    if parts.status.is_informational() {
        return Err(format!("it answered {} as the final status", parts.status.as_u16()));
    }
    check_size(&parts.headers, caps).map_err(|what| format!("response headers: {what}"))?;
    let codings = || parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    if codings().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) || codings().count() > 1 {
        return Err("its transfer coding is not chunked".to_owned());
    }
    Ok(())
}

/// Whether the body is a stream of events (WHATWG HTML, section 9.2).
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let essence = |value: &HeaderValue| {
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    };
    headers.get(header::CONTENT_TYPE).is_some_and(essence)
}

/// Takes out of a response what is not for the guest.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    strip(headers, &[&RESPONSE_ONLY]);
}

/// Trailers may carry fields about the content, nothing that changes what the message is (RFC 9110, section 6.5.1).
pub(crate) fn strip_trailers(headers: &mut HeaderMap) {
    strip(headers, &[&NOT_TRAILERS, &CLAIMS]);
}

/// Takes out these fields, those about the connection, and the proxy's own. Fields are compared with the lists, not
/// looked up one by one: there are fewer of them.
fn strip(headers: &mut HeaderMap, lists: &[&[HeaderName]]) {
    let listed = |name: &HeaderName| {
        is_ours(name) || HOP_BY_HOP.contains(name) || lists.iter().any(|list| list.contains(name))
    };
    let doomed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // Nobody may make the proxy drop what says how long the message is; framing is checked on its own.
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::HOST)
        .chain(headers.keys().filter(|name| listed(name)).cloned())
        .collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Fields between worker and broker, and the older spelling of hop-by-hop ones.
fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("orch-") || name.as_str().starts_with("proxy-")
}

fn check_size(headers: &HeaderMap, caps: &Caps) -> Result<(), String> {
    if headers.len() > caps.header_count {
        return Err(format!("{} fields, more than {}", headers.len(), caps.header_count));
    }
    // As on the wire: name, colon, space, value, line end.
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > caps.header_bytes {
        return Err(format!("{bytes} bytes, more than {}", caps.header_bytes));
    }
    Ok(())
}
