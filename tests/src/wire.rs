//! HTTP/1.1 requests, read strictly.
//!
//! A library would tidy what it reads. The suite judges it: every byte of a request's head is kept as it came, and
//! anything but one well-formed request (RFC 9112) is a fault.

use std::fmt;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

const HEAD_LIMIT: usize = 64 * 1024;

/// A request exactly as it arrived.
#[derive(Clone)]
pub struct Received {
    /// The method, case kept.
    pub method: String,
    /// The target before any `?`.
    pub path: String,
    /// What follows the first `?`, if there was one.
    pub query: Option<String>,
    /// Names and values in order, case kept.
    pub headers: Vec<(String, String)>,
    /// The body without its transfer coding.
    pub body: Vec<u8>,
    /// The lines between the last chunk and the end.
    pub trailers: Vec<String>,
    /// The request line and headers, untouched.
    pub head: Vec<u8>,
}

impl Received {
    /// The value of a header that must appear at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = found.next().map(|(_, v)| v.as_str());
        assert!(found.next().is_none(), "header {name} was sent more than once:\n{self:?}");
        first
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("the body is not JSON ({e}):\n{self:?}"))
    }

    /// Whether `bytes` occur anywhere in the head or the body.
    pub fn carries(&self, bytes: &[u8]) -> bool {
        assert!(!bytes.is_empty(), "an empty needle is in everything");
        [&self.head, &self.body].iter().any(|part| part.windows(bytes.len()).any(|w| w == bytes))
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.head))?;
        f.write_str(&String::from_utf8_lossy(&self.body))
    }
}

/// Why a connection's next request could not be read.
#[derive(Debug)]
pub enum Fault {
    /// The caller closed between requests: the normal end.
    Closed,
    /// The caller closed inside a request.
    Truncated,
    /// Not one well-formed request; what is wrong with it.
    Malformed(String),
}

/// The reading half of a connection, with what was read ahead.
pub struct Reader<R> {
    from: R,
    ahead: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from `from`.
    pub fn new(from: R) -> Self {
        Self { from, ahead: Vec::new() }
    }

    /// The next request, whole.
    ///
    /// # Errors
    /// [`Fault::Closed`] at a clean end, else what is wrong.
    pub async fn request(&mut self) -> Result<Received, Fault> {
        let head = self.head().await?;
        let mut request = parse_head(head)?;
        (request.body, request.trailers) = self.body(&request).await?;
        Ok(request)
    }

    /// Returns when the caller hangs up; what it sends meanwhile is kept.
    pub async fn hung_up(&mut self) {
        while self.fill().await {}
    }

    async fn fill(&mut self) -> bool {
        self.ahead.reserve(16 * 1024);
        !matches!(self.from.read_buf(&mut self.ahead).await, Ok(0) | Err(_))
    }

    async fn head(&mut self) -> Result<Vec<u8>, Fault> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.ahead.split_off(end + 4);
                return Ok(std::mem::replace(&mut self.ahead, rest));
            }
            if self.ahead.len() > HEAD_LIMIT {
                return Err(Fault::Malformed(format!("the head exceeds {HEAD_LIMIT} bytes")));
            }
            if !self.fill().await {
                return Err(if self.ahead.is_empty() { Fault::Closed } else { Fault::Truncated });
            }
        }
    }

    async fn body(&mut self, request: &Received) -> Result<(Vec<u8>, Vec<String>), Fault> {
        let lengths = values(request, "content-length");
        let codings = values(request, "transfer-encoding");
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok((Vec::new(), Vec::new())),
            ([length], []) => {
                let length =
                    length.parse().map_err(|_| Fault::Malformed(format!("content-length is {length:?}")))?;
                Ok((self.exactly(length).await?, Vec::new()))
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => self.chunked().await,
            _ => Err(Fault::Malformed(format!("framing by {lengths:?} and {codings:?}"))),
        }
    }

    async fn chunked(&mut self) -> Result<(Vec<u8>, Vec<String>), Fault> {
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(&line, 16)
                .map_err(|_| Fault::Malformed(format!("chunk size is {line:?}")))?;
            if size == 0 {
                loop {
                    match self.line().await? {
                        end if end.is_empty() => return Ok((body, trailers)),
                        line => trailers.push(line),
                    }
                }
            }
            body.extend(self.exactly(size).await?);
            let end = self.line().await?;
            if !end.is_empty() {
                return Err(Fault::Malformed("a chunk is longer than its size".into()));
            }
        }
    }

    async fn line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let line = self.exactly(end + 2).await?;
                return String::from_utf8(line[..end].to_vec())
                    .map_err(|_| Fault::Malformed("a chunk line is not text".into()));
            }
            if !self.fill().await {
                return Err(Fault::Truncated);
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Fault> {
        while self.ahead.len() < length {
            if !self.fill().await {
                return Err(Fault::Truncated);
            }
        }
        let rest = self.ahead.split_off(length);
        Ok(std::mem::replace(&mut self.ahead, rest))
    }
}

fn values<'a>(request: &'a Received, name: &str) -> Vec<&'a str> {
    request.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
}

fn parse_head(head: Vec<u8>) -> Result<Received, Fault> {
    let malformed = |what: String| Fault::Malformed(what);
    let text = std::str::from_utf8(&head).map_err(|_| malformed("the head is not UTF-8".into()))?;
    let stray = |line: &str| line.contains(['\r', '\n', '\0']);
    let mut lines = text.trim_end_matches("\r\n\r\n").split("\r\n");
    let first = lines.next().unwrap_or_default();
    let [method, target, "HTTP/1.1"] = first.split(' ').collect::<Vec<_>>()[..] else {
        return Err(malformed(format!("the request line is {first:?}")));
    };
    if !target.starts_with('/') || target.contains('#') || stray(first) {
        return Err(malformed(format!("the target is {target:?}, not in origin form")));
    }
    let mut headers = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err(malformed(format!("the header line is {line:?}")));
        };
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) || stray(value) {
            return Err(malformed(format!("the header line is {line:?}")));
        }
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q.to_owned())));
    let request = Received {
        method: method.to_owned(),
        path: path.to_owned(),
        query,
        headers,
        body: Vec::new(),
        trailers: Vec::new(),
        head: Vec::new(),
    };
    if values(&request, "host").len() != 1 {
        return Err(malformed("not exactly one Host header".into()));
    }
    Ok(Received { head, ..request })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Received, Fault> {
        Reader::new(bytes).request().await
    }

    #[tokio::test]
    async fn a_request_is_kept_exactly() {
        let bytes = b"POST /v1/x?a=1&b HTTP/1.1\r\nHost: a.test\r\nX-Odd-Case:  two words \r\ncontent-length: 3\r\n\r\nabc";
        let request = read(bytes).await.expect("well formed");
        assert_eq!(
            (request.method.as_str(), request.path.as_str(), request.query.as_deref()),
            ("POST", "/v1/x", Some("a=1&b"))
        );
        assert_eq!(request.headers[1], ("X-Odd-Case".into(), "two words".into()));
        assert_eq!(request.body, b"abc");
        assert!(request.carries(b"two words") && request.carries(b"abc") && !request.carries(b"abcd"));
    }

    #[tokio::test]
    async fn chunks_are_joined_and_pipelined_bytes_kept() {
        let bytes = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\nGET /next HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut reader = Reader::new(&bytes[..]);
        assert_eq!(reader.request().await.expect("first").body, b"abcde");
        assert_eq!(reader.request().await.expect("second").path, "/next");
        assert!(matches!(reader.request().await, Err(Fault::Closed)));
    }

    #[tokio::test]
    async fn what_is_not_one_well_formed_request_is_a_fault() {
        for bad in [
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\nb\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(matches!(read(bad.as_bytes()).await, Err(Fault::Malformed(_))), "accepted {bad:?}");
        }
        assert!(matches!(read(b"GET / HTTP/1.1\r\nhost").await, Err(Fault::Truncated)));
        assert!(matches!(
            read(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc").await,
            Err(Fault::Truncated)
        ));
    }
}
