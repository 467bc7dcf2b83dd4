//! Where a request wants to go, parsed once. Everything after this works on these types and no longer on text.

use std::borrow::Cow;

use http::{HeaderValue, Uri, header, request};
use orch_manifests::{CanonicalPath, HostError, HostName, Scheme};

use crate::{Asked, Reason};

mod url;

/// A guest request's parsed target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTarget {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// The one authority's host.
    pub host: HostName,
    /// The one authority's port.
    pub port: u16,
    /// The path and query as they go upstream.
    pub path: CanonicalPath,
}

impl RequestTarget {
    /// Reads the absolute URI of a request. A `Host` field may be there when it says the same.
    pub(crate) fn parse(parts: &request::Parts) -> Result<Self, Reason> {
        let scheme = match parts.uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(_) => return Err(Reason::new("scheme_refused", "only http and https are forwarded")),
            None => return Err(Reason::new("target_refused", "the request has no scheme")),
        };
        let authority = parts
            .uri
            .authority()
            .ok_or_else(|| Reason::new("target_refused", "the request has no authority"))?;
        let (host, port) = parse_authority(authority.as_str(), scheme)?;
        let mut hosts = parts.headers.get_all(header::HOST).iter();
        if let Some(line) = hosts.next() {
            // Nearly always spelled alike, and then it reads alike.
            let same = line.as_bytes() == authority.as_str().as_bytes()
                || line
                    .to_str()
                    .ok()
                    .and_then(|text| parse_authority(text, scheme).ok())
                    .is_some_and(|(other, other_port)| other == host && other_port == port);
            if !same || hosts.next().is_some() {
                let text = "the Host field and the request's authority are not one and the same";
                return Err(Reason::new("authority_conflict", text));
            }
        }
        Ok(Self { scheme, host, port, path: parse_path(&parts.uri)? })
    }

    /// What policy is asked about it.
    #[must_use]
    pub fn asked<'a>(&'a self, method: &'a http::Method) -> Asked<'a> {
        Asked { scheme: self.scheme, host: &self.host, port: self.port, method, path: &self.path }
    }
}

/// Where a CONNECT request wants to go. A `Host` field may be there when it says the same, with or without the port.
pub(crate) fn parse_connect(parts: &request::Parts) -> Result<(HostName, u16), Reason> {
    let wrong = || Reason::new("target_refused", "CONNECT wants HOST:PORT and nothing else");
    let authority = parts.uri.authority().ok_or_else(wrong)?;
    if parts.uri.scheme().is_some() || parts.uri.path_and_query().is_some() || authority.port().is_none() {
        return Err(wrong());
    }
    let (host, port) = parse_authority(authority.as_str(), Scheme::Https)?;
    for line in parts.headers.get_all(header::HOST) {
        let text = line.to_str().unwrap_or_default();
        let portless = !text.contains(':');
        let same = parse_authority(text, Scheme::Https)
            .is_ok_and(|(other, other_port)| other == host && (portless || other_port == port));
        if !same {
            let text = "the Host field and the request's authority are not one and the same";
            return Err(Reason::new("authority_conflict", text));
        }
    }
    Ok((host, port))
}

/// The path and query of a URI in canonical form.
pub(crate) fn parse_path(uri: &Uri) -> Result<CanonicalPath, Reason> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    parse_target(target)
}

/// The same for a request that the gateway built, which may name a resource of the provider in one segment.
pub(crate) fn parse_own_path(uri: &Uri) -> Result<CanonicalPath, Reason> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    CanonicalPath::parse_own(target).map_err(|error| Reason::new("path_refused", error.to_string()))
}

/// An empty path is the root (RFC 9110, section 4.2.3), also where a query follows it.
fn parse_target(target: &str) -> Result<CanonicalPath, Reason> {
    let target = match target.as_bytes().first() {
        None => Cow::Borrowed("/"),
        Some(b'?') => Cow::Owned(format!("/{target}")),
        Some(_) => Cow::Borrowed(target),
    };
    CanonicalPath::parse(&target).map_err(|error| Reason::new("path_refused", error.to_string()))
}

/// A canonical path in the form in which it stands on the request line (RFC 9112, section 3.2.1).
pub(crate) fn origin_form(path: &CanonicalPath) -> Result<Uri, Reason> {
    Uri::try_from(path.as_str()).map_err(|error| Reason::new("path_refused", error.to_string()))
}

/// The value of the one `Host` field: the port only where it is not the scheme's own.
pub(crate) fn host_field(scheme: Scheme, host: &str, port: u16) -> Result<HeaderValue, Reason> {
    let text = if port == scheme.default_port() { host.to_owned() } else { format!("{host}:{port}") };
    HeaderValue::try_from(text).map_err(|error| Reason::new("target_refused", error.to_string()))
}

fn parse_authority(text: &str, scheme: Scheme) -> Result<(HostName, u16), Reason> {
    let refused = |why: &str| Reason::new("target_refused", format!("the authority {why}"));
    if text.contains('@') {
        return Err(refused("has user information"));
    }
    if text.starts_with('[') {
        return Err(Reason::new(
            "ip_literal_refused",
            "an IP address is reachable only where an operator pinned it",
        ));
    }
    let (host, port) = match text.split_once(':') {
        None => (text, scheme.default_port()),
        Some((host, digits)) => {
            // Without zeros in front: nobody writes them, and a port has one spelling.
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
            let port = plain.then(|| digits.parse().ok()).flatten();
            (host, port.ok_or_else(|| refused("has a port that is not a plain number from 1 to 65535"))?)
        }
    };
    let host = host.parse::<HostName>().map_err(|error| {
        let code = if matches!(error, HostError::Address(_)) { "ip_literal_refused" } else { "host_refused" };
        Reason::new(code, error.to_string())
    })?;
    Ok((host, port))
}
