//! What the head of a client's request must look like, byte for byte, before a parser reads it (RFC 9112).
//!
//! Parsers forgive, each something else, and two that forgive differently see two different messages. What needs
//! forgiveness is refused here.

use http::Uri;

use crate::{Caps, Reason};

/// Bytes for a method and a version, and what stands between the parts of a request line.
const LINE_EXTRA: usize = 64;
/// Longest authority that may stand in a request line: a host name, a port, and a scheme in front.
const AUTHORITY: usize = 300;

/// How the message goes on after its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The connection is asked to become a tunnel; nothing of it is HTTP any more.
    Connect,
}

/// Most bytes that a head can have.
pub(crate) fn longest(caps: &Caps) -> usize {
    caps.header_bytes + caps.url + AUTHORITY + LINE_EXTRA
}

/// Checks a head, up to and with its empty line.
///
/// # Errors
/// What about it is not clearly one well-formed head.
pub(crate) fn check(head: &[u8], caps: &Caps) -> Result<Framing, Reason> {
    let text = head.strip_suffix(b"\r\n\r\n").ok_or_else(|| malformed("the head has no end"))?;
    let mut lines = split_lines(text)?.into_iter();
    let line = lines.next().unwrap_or_default();
    let Line { method, modern } = request_line(line, caps)?;

    let mut fields = Fields::default();
    let (mut count, mut bytes) = (0, 0);
    for line in lines {
        count += 1;
        bytes += line.len() + 2;
        fields.read(line)?;
    }
    if count > caps.header_count {
        let text = format!("request headers: {count} fields, more than {}", caps.header_count);
        return Err(Reason::new("headers_too_large", text));
    }
    if bytes > caps.header_bytes {
        return Err(too_large(caps));
    }
    fields.framing(method, modern)
}

/// The refusal of a head that is too long, or that has no end within [`longest`] bytes.
pub(crate) fn too_large(caps: &Caps) -> Reason {
    let text = format!("request headers: more than {} bytes", caps.header_bytes);
    Reason::new("headers_too_large", text)
}

/// Looks for the end of a head that comes in pieces, and for what no head holds.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Bytes that were looked at.
    seen: usize,
    /// Bytes of the line so far, and whether the last of them is a CR.
    line: usize,
    returned: bool,
}

impl Scan {
    /// Looks at what came since; `head` is all of it from the start. Says how long the head is, once that is clear.
    ///
    /// # Errors
    /// The head is broken already, whatever follows.
    pub(crate) fn look(&mut self, head: &[u8]) -> Result<Option<usize>, Reason> {
        while let Some(byte) = head.get(self.seen) {
            self.seen += 1;
            match (byte, self.returned) {
                (b'\n', true) if self.line == 1 && self.seen > 2 => return Ok(Some(self.seen)),
                (b'\n', true) if self.line > 1 => (self.line, self.returned) = (0, false),
                (b'\n', _) | (_, true) => {
                    return Err(malformed("a line ends with something else than CR LF"));
                }
                (0, _) => return Err(malformed("it has a byte that is zero")),
                (byte, false) => {
                    self.line += 1;
                    self.returned = *byte == b'\r';
                }
            }
        }
        Ok(None)
    }
}

fn malformed(what: &str) -> Reason {
    Reason::new("malformed_request", format!("the request is malformed: {what}"))
}

fn framing_refused(what: &str) -> Reason {
    Reason::new("framing_refused", what)
}

fn split_lines(text: &[u8]) -> Result<Vec<&[u8]>, Reason> {
    let mut lines = Vec::with_capacity(16);
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        if !rest[at..].starts_with(b"\r\n") {
            return Err(malformed("a line ends with something else than CR LF"));
        }
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    Ok(lines)
}

struct Line<'a> {
    method: &'a [u8],
    /// HTTP/1.1, and not 1.0.
    modern: bool,
}

fn request_line<'a>(line: &'a [u8], caps: &Caps) -> Result<Line<'a>, Reason> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("its first line is not METHOD SP TARGET SP VERSION"));
    };
    if method.is_empty() || method.len() > 32 || !method.iter().all(|byte| is_token(*byte)) {
        return Err(malformed("its method"));
    }
    let modern = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(Reason::new("version_refused", "the proxy speaks HTTP/1.1 and HTTP/1.0")),
    };
    if target.len() > caps.url + AUTHORITY {
        let text = format!("the URL has {} bytes, more than {}", target.len(), caps.url);
        return Err(Reason::new("url_too_long", text));
    }
    // A fragment is the client's own business, and parsers drop it without a word; browsers read a backslash as a slash,
    // but in a query as itself.
    let odd = |byte: &u8| !(0x21..=0x7e).contains(byte) || *byte == b'#';
    let place = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    if target.is_empty() || target.iter().any(odd) || place.contains(&b'\\') {
        return Err(malformed("its target has bytes that no URL has, a fragment, or a backslash"));
    }
    // The parser behind this would say no without a word.
    if Uri::try_from(target).is_err() {
        return Err(malformed("its target is no URL"));
    }
    Ok(Line { method, modern })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The fields that say where a message goes and how long it is.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    lengths: usize,
    length: u64,
    codings: usize,
    coding: &'a [u8],
}

impl<'a> Fields<'a> {
    fn read(&mut self, line: &'a [u8]) -> Result<(), Reason> {
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(malformed("a field goes on in the next line (obs-fold)"));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = match colon {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => return Err(malformed("a field has no colon")),
        };
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(malformed("the name of a field"));
        }
        if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err(malformed("a field's value has control characters"));
        }
        let value = value.trim_ascii();
        // Servers that hand fields on as variables (CGI, WSGI) take `_` for `-`.
        let is = |wanted: &str| {
            let folded = name.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() });
            folded.eq(wanted.bytes())
        };
        let framing = ["host", "content-length", "transfer-encoding"].into_iter().find(|wanted| is(wanted));
        if framing.is_some() && name.contains(&b'_') {
            return Err(framing_refused(
                "a field's name only looks like one that says how long the message is",
            ));
        }
        match framing {
            Some("host") => self.hosts += 1,
            Some("content-length") => {
                self.lengths += 1;
                self.length = number(value)?;
            }
            Some(_) => {
                self.codings += 1;
                self.coding = value;
            }
            None => {}
        }
        Ok(())
    }

    fn framing(&self, method: &[u8], modern: bool) -> Result<Framing, Reason> {
        if self.hosts > 1 || (modern && self.hosts == 0) {
            let what = if self.hosts > 1 { "more than one Host field" } else { "no Host field" };
            return Err(Reason::new("authority_conflict", format!("the request has {what}")));
        }
        if self.lengths > 1 {
            return Err(framing_refused("Content-Length occurs more than once"));
        }
        if self.codings > 1 {
            return Err(framing_refused("Transfer-Encoding occurs more than once"));
        }
        if self.lengths > 0 && self.codings > 0 {
            return Err(framing_refused("Content-Length stands beside Transfer-Encoding"));
        }
        if self.codings > 0 && !(modern && self.coding.eq_ignore_ascii_case(b"chunked")) {
            return Err(framing_refused("the only transfer coding is chunked, of HTTP/1.1"));
        }
        if method == b"CONNECT" {
            if self.length > 0 || self.codings > 0 {
                return Err(framing_refused("CONNECT has no body"));
            }
            return Ok(Framing::Connect);
        }
        Ok(if self.codings > 0 { Framing::Chunked } else { Framing::Length(self.length) })
    }
}

fn number(digits: &[u8]) -> Result<u64, Reason> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(framing_refused("Content-Length is not a number"));
    }
    let text = std::str::from_utf8(digits).ok();
    let number: Option<u64> = text.and_then(|text| text.parse().ok());
    // What does not fit a signed number is read as another one by somebody.
    number
        .filter(|number| i64::try_from(*number).is_ok())
        .ok_or_else(|| framing_refused("Content-Length is too large a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(head: &str) -> Result<Framing, &'static str> {
        check(head.as_bytes(), &Caps::default()).map_err(|reason| reason.code)
    }

    #[test]
    fn plain_heads_say_how_long_the_message_is() {
        for (head, framing) in [
            ("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Framing::Length(0)),
            ("GET http://a.example/ HTTP/1.0\r\n\r\n", Framing::Length(0)),
            ("POST http://a/ HTTP/1.1\r\nhOsT:a\r\nContent-Length: 12\r\n\r\n", Framing::Length(12)),
            ("POST http://a/ HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n", Framing::Chunked),
            ("GET http://a/?q=\\ HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0)),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 0\r\n\r\n", Framing::Connect),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\nX:\r\nY: \u{e9}\t\r\n\r\n", Framing::Length(0)),
        ] {
            assert_eq!(code(head), Ok(framing), "{head:?}");
        }
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        for (head, expected) in [
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "framing_refused",
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                "framing_refused",
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                "framing_refused",
            ),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", "framing_refused"),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", "framing_refused"),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
                "framing_refused",
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n",
                "framing_refused",
            ),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\nContent_Length: 1\r\n\r\n", "framing_refused"),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                "framing_refused",
            ),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", "framing_refused"),
            ("GET http://a/ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "framing_refused"),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "framing_refused"),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "authority_conflict"),
            ("GET http://a/ HTTP/1.1\r\n\r\n", "authority_conflict"),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", "malformed_request"),
            ("GET http://a/ HTTP/1.1\r\nHost : a\r\n\r\n", "malformed_request"),
            ("GET http://a/ HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "malformed_request"),
            ("GET http://a/ HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "malformed_request"),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "malformed_request"),
            ("GET  http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"),
            ("GET http://a/\tHTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"),
            ("GET http://a/#x HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"),
            ("GET http://a\\@b/ HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"),
            ("GET http://a/\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"),
            ("GET http://a/\\?q HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"),
            ("GET http://a%2e/ HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"),
            ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"),
            ("CONNECT a:1:2 HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"),
            ("G(T http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "malformed_request"),
            ("\r\nGET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_request"),
            ("GET http://a/\r\nHost: a\r\n\r\n", "malformed_request"),
            ("PRI * HTTP/2.0\r\n\r\n", "version_refused"),
            ("GET http://a/ HTTP/1.2\r\nHost: a\r\n\r\n", "version_refused"),
            ("GET http://a/ http/1.1\r\nHost: a\r\n\r\n", "version_refused"),
        ] {
            assert_eq!(code(head), Err(expected), "{head:?}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let many = "X: y\r\n".repeat(100);
        assert_eq!(
            code(&format!("GET http://a/ HTTP/1.1\r\nHost: a\r\n{many}\r\n")),
            Err("headers_too_large")
        );
        let long = "y".repeat(65 << 10);
        assert_eq!(
            code(&format!("GET http://a/ HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")),
            Err("headers_too_large")
        );
        let url = "y".repeat(17 << 10);
        assert_eq!(code(&format!("GET http://a/{url} HTTP/1.1\r\nHost: a\r\n\r\n")), Err("url_too_long"));
    }

    #[test]
    fn the_end_is_found_however_the_head_is_split() {
        let head = b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
        let more = [head.as_slice(), b"GET \n"].concat();
        for step in 1..more.len() {
            let (mut scan, mut end) = (Scan::default(), None);
            for upto in (step..more.len() + step).step_by(step) {
                end = scan.look(&more[..upto.min(more.len())]).unwrap();
                if end.is_some() {
                    break;
                }
            }
            assert_eq!(end, Some(head.len()), "{step}");
        }
    }

    #[test]
    fn a_broken_head_shows_before_its_end() {
        for fine in ["", "G", "GET http://a/ HTTP/1.1\r", "GET http://a/ HTTP/1.1\r\nX: y\r\n"] {
            assert_eq!(Scan::default().look(fine.as_bytes()).unwrap(), None, "{fine:?}");
        }
        for broken in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\rX", "\r\n", "\n", "GET /\0", "\r\r\n"] {
            assert!(Scan::default().look(broken.as_bytes()).is_err(), "{broken:?}");
        }
    }
}
