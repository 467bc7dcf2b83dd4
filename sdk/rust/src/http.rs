//! HTTP from inside the sandbox: one request, one streamed answer.
//!
//! Every request leaves through `wasi:http` and is decided outside: the hosts that the manifest asked for and the
//! user granted are reachable, no other. A request that is refused fails with [`Error::Http`] and the host's code.
//! Redirects are not followed: where a redirect leads is a decision of its own.

#[cfg(target_family = "wasm")]
mod transport;

#[cfg(target_family = "wasm")]
pub use transport::Response;

use serde::Serialize;

use crate::{Error, Result};

/// A request to send. Built by value: `Request::post(url).header("accept", "text/plain").body("hi")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// A request with any method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Request {
        Request { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// A `GET` request.
    pub fn get(url: impl Into<String>) -> Request {
        Request::new("GET", url)
    }

    /// A `POST` request.
    pub fn post(url: impl Into<String>) -> Request {
        Request::new("POST", url)
    }

    /// Adds a header; a name given twice is sent twice.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Request {
        self.body = bytes.into();
        self
    }

    /// Sets the body to `value` as JSON, and the content type with it.
    ///
    /// Fails with [`Error::Protocol`] when the value has no JSON form (a map whose keys are not strings).
    pub fn json(self, value: &impl Serialize) -> Result<Request> {
        let body = serde_json::to_vec(value).map_err(|error| Error::Protocol(error.to_string()))?;
        Ok(self.header("content-type", "application/json").body(body))
    }
}

/// A URL cut at its separators and otherwise left alone.
///
/// There is deliberately no normalisation here: what a spelling means is judged once, outside of the sandbox.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    scheme: &'a str,
    authority: &'a str,
    path_and_query: &'a str,
}

impl<'a> Target<'a> {
    fn parse(url: &'a str) -> Result<Target<'a>> {
        let malformed = || Error::Url(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(malformed)?;
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        if scheme.is_empty() || authority.is_empty() {
            return Err(malformed());
        }
        Ok(Target { scheme, authority, path_and_query })
    }
}

/// `url` without its query and fragment: errors are logged, and queries are where people put keys.
fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_and_not_changed() {
        for (url, scheme, authority, path_and_query) in [
            ("https://api.example.com/v1/x?y=1", "https", "api.example.com", "/v1/x?y=1"),
            ("http://llm.orch.internal", "http", "llm.orch.internal", ""),
            ("https://h:8443?q=/a#frag", "https", "h:8443", "?q=/a"),
            ("http://0x7f.1/%2e%2e/A", "http", "0x7f.1", "/%2e%2e/A"),
            ("HTTPS://u:p@H./a//b", "HTTPS", "u:p@H.", "/a//b"),
            ("http://[::1]:80/", "http", "[::1]:80", "/"),
        ] {
            assert_eq!(Target::parse(url), Ok(Target { scheme, authority, path_and_query }), "{url}");
        }
        for url in ["", "example.com/x", "https:/example.com", "https://", "https:///path", "://host"] {
            assert_eq!(Target::parse(url), Err(Error::Url(url.to_owned())), "{url}");
        }
    }

    #[test]
    fn errors_do_not_show_queries() {
        assert_eq!(without_query("https://h/p?key=secret#f"), "https://h/p");
        assert_eq!(without_query("https://h/p#f?x"), "https://h/p");
    }

    #[test]
    fn json_sets_body_and_type() {
        let request = Request::post("https://h/").header("x-a", "1").json(&[1, 2]).unwrap();
        assert_eq!(request.method, "POST");
        assert_eq!(request.body, b"[1,2]");
        let names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-a", "content-type"]);
    }
}
