//! Where a provider is reached: scheme, host, port and base path.
//!
//! Endpoints come from the catalog and from the operator's configuration, never from a manifest or an agent, so unlike
//! a [`HostName`] their host may be an IP address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::host::{HostError, HostName};
use crate::path::{CanonicalPath, PathError};
use crate::text::{quote, written_as_text};

/// Why a base URL was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not `http://` or `https://`.
    #[error("{} is not a base URL: it starts with `https://` or `http://`", quote(.0))]
    Scheme(String),
    /// Holds `user:password@`.
    #[error("a base URL holds no user information: keys belong into the vault")]
    UserInfo,
    /// Holds a query or a fragment.
    #[error("{} has a query or a fragment, which a base URL cannot have", quote(.0))]
    QueryOrFragment(String),
    /// The port is not 1 to 65535.
    #[error("{} is not a port: it is a number from 1 to 65535", quote(.0))]
    Port(String),
    /// The host is neither a name nor an address in its plain spelling.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The path is not canonical enough to be a prefix of others.
    #[error("the path of the base URL is refused: {0}")]
    Path(#[from] PathError),
}

/// The two schemes that requests can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// 80 or 443.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl FromStr for Scheme {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            other => Err(EndpointError::Scheme(other.into())),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

written_as_text!(Scheme, "Scheme", {
    "type": "string",
    "enum": ["https", "http"],
});

/// The host of an endpoint. Only operators and the catalog may name an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name that is resolved and whose addresses are checked.
    Name(HostName),
    /// A pinned address.
    Ip(IpAddr),
}

impl FromStr for Host {
    type Err = HostError;

    /// Reads a name, an IPv4 address in plain dotted decimal, or an IPv6 address with or without brackets. Other
    /// spellings of addresses are refused: an operator who writes `127.1` should see what is meant.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match bare {
            Some(v6) => match v6.parse() {
                Ok(v6) => Ok(Self::Ip(IpAddr::V6(v6))),
                Err(_) => Err(HostError::Malformed {
                    text: text.into(),
                    reason: "what stands in brackets is an IPv6 address without a zone",
                }),
            },
            None => match text.parse() {
                Ok(ip) => Ok(Self::Ip(ip)),
                Err(_) => match text.parse() {
                    Ok(name) => Ok(Self::Name(name)),
                    Err(HostError::Address(_)) => Err(HostError::Malformed {
                        text: text.into(),
                        reason: "an address is written in its plain form, such as 10.0.0.5 or [fd00::5]",
                    }),
                    Err(error) => Err(error),
                },
            },
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// A base URL, taken apart. `base_path` is empty or starts with a slash and ends without one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Name or address.
    pub host: Host,
    /// The port, the scheme's own when the URL names none.
    pub port: u16,
    /// What every path of this endpoint starts with.
    pub base_path: String,
}

impl Endpoint {
    /// `host:port` as in a Host header: the port is left out when it is the scheme's own, IPv6 is in brackets.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The full path of something below the base path. `path` starts with a slash.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base_path)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| EndpointError::Scheme(text.into()))?;
        let scheme: Scheme =
            scheme.to_ascii_lowercase().parse().map_err(|_| EndpointError::Scheme(text.into()))?;
        if rest.contains(['?', '#']) {
            return Err(EndpointError::QueryOrFragment(text.into()));
        }
        let (authority, path) = rest.find(['/', '\\']).map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(EndpointError::UserInfo);
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None => scheme.default_port(),
            Some(port) => parse_port(port).ok_or_else(|| EndpointError::Port(port.into()))?,
        };
        let host = host.parse()?;
        let base_path = match path.trim_end_matches('/') {
            "" => String::new(),
            path => CanonicalPath::parse(path)?.path().to_owned(),
        };
        Ok(Self { scheme, host, port, base_path: base_path.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.base_path)
    }
}

written_as_text!(Endpoint, "BaseUrl", {
    "type": "string",
    "pattern": "^https?://",
});

/// Splits `host:port`; a colon inside brackets belongs to the address.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => {
            (&authority[..colon], Some(&authority[colon + 1..]))
        }
        _ => (authority, None),
    }
}

/// A port as plain digits. `u16::from_str` would read `+443` as well.
fn parse_port(text: &str) -> Option<u16> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok().filter(|port| *port != 0) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_taken_apart_and_written_back() {
        for (text, shown) in [
            ("https://api.openai.com/v1", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            ("HTTPS://API.OpenAI.com:443", "https://api.openai.com"),
            ("http://localhost:11434", "http://localhost:11434"),
            ("http://10.0.0.5:8000/v1", "http://10.0.0.5:8000/v1"),
            ("http://[FD00::5]:8000/v1//", "http://[fd00::5]:8000/v1"),
            ("https://[fd00::5]", "https://[fd00::5]"),
            ("https://x.example.:8443/a/./b", "https://x.example:8443/a/b"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse::<Endpoint>().unwrap(), endpoint);
        }
        let endpoint: Endpoint = "https://127.0.0.1:8443/v1".parse().unwrap();
        assert_eq!(endpoint.authority(), "127.0.0.1:8443");
        assert_eq!(endpoint.path("/chat/completions"), "/v1/chat/completions");
    }

    #[test]
    fn anything_ambiguous_is_refused() {
        for text in [
            "",
            "api.openai.com",
            "ftp://x.example",
            "https:/x.example",
            "https:x.example",
            "//x.example",
            "https://",
            "https:///v1",
            "https://user:pw@x.example",
            "https://x@",
            "https://x.example?a",
            "https://x.example#a",
            "https://x.example/v1?a=b",
            "https://x.example:0",
            "https://x.example:65536",
            "https://x.example:",
            "https://x.example:+443",
            "https://x.example: 443",
            "https://127.1",
            "https://0x7f000001",
            "https://2130706433",
            "https://0177.0.0.1",
            "https://[fe80::1%25eth0]",
            "https://[::1",
            "https://::1x",
            "https://x.example\\@evil.example",
            "https://x.exa\tmple",
            "https://x.example/\n",
            " https://x.example",
            "https://x.example/%2e%2e/..",
            "https://x.example/a%2fb",
            "https://x.example/%zz",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?} became {:?}", text.parse::<Endpoint>());
        }
    }
}
