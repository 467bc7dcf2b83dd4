//! The names under which a server may be asked.
//!
//! A page in a browser can make any name of its own resolve to a server's address, and would then speak to it as to
//! its own origin. Such a request carries the page's name, which is none of ours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

use crate::failure::{Failure, Kind};

/// The names of a server: its loopback names, the address that a connection was made to, and those that its operator
/// gave it.
#[derive(Debug, Clone, Default)]
pub struct Names {
    given: BTreeSet<String>,
}

impl Names {
    /// The loopback names and `given`: host names or addresses, without a port.
    ///
    /// # Errors
    /// When one of them is neither; the failure says which.
    pub fn new<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Self, Failure> {
        let parse = |text: &str| {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            let address = bare.parse::<IpAddr>().map(|address| address.to_string());
            let name = address.ok().or_else(|| {
                let name = text.trim_end_matches('.').to_ascii_lowercase();
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                (!name.is_empty() && name.len() <= 253 && name.chars().all(plain)).then_some(name)
            });
            name.ok_or_else(|| {
                Failure::usage("name_invalid", format!("{text:?} is no name that this server can have"))
                    .hint("a host name without scheme and port, such as --name orch.example.com")
            })
        };
        Ok(Self { given: given.into_iter().map(parse).collect::<Result<_, _>>()? })
    }

    /// Checks the name that a request was sent to; `local` is the address that its connection was made to.
    ///
    /// # Errors
    /// When it names none, several, or one that is not this server's.
    pub(super) fn check(&self, request: &Parts, local: Option<IpAddr>) -> Result<(), Failure> {
        let asked = asked_for(request)?;
        if let Some(asked) = &asked
            && self.knows(asked, local)
        {
            return Ok(());
        }
        let what = match asked {
            Some(name) => format!("this server is not {name:?}"),
            None => "the request does not say which server it is for".to_owned(),
        };
        Err(unknown(what))
    }

    fn knows(&self, asked: &str, local: Option<IpAddr>) -> bool {
        match asked.parse::<IpAddr>() {
            // No name can be made to resolve to something else where none is used.
            Ok(address) => {
                let address = address.to_canonical();
                address.is_loopback() || Some(address) == local || self.given.contains(&address.to_string())
            }
            Err(_) => asked == "localhost" || self.given.contains(asked),
        }
    }
}

/// The one name in `Host`, the target, or both, without port and brackets.
fn asked_for(request: &Parts) -> Result<Option<String>, Failure> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let host = hosts.next().map(|host| host.to_str().unwrap_or_default());
    if hosts.next().is_some() {
        return Err(unknown("the request names its server more than once".to_owned()));
    }
    let host = host.map(name_in).transpose()?;
    let target = request.uri.authority().map(|authority| name_in(authority.as_str())).transpose()?;
    match (host, target) {
        (Some(host), Some(target)) if host != target => {
            Err(unknown("the request names two different servers".to_owned()))
        }
        (host, target) => Ok(target.or(host)),
    }
}

fn name_in(text: &str) -> Result<String, Failure> {
    let authority: Option<Authority> = text.parse().ok().filter(|_| !text.contains('@'));
    let port = |rest: &str| {
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
    };
    let authority = authority
        .filter(|authority| text.strip_prefix(authority.host()).is_some_and(port))
        .ok_or_else(|| unknown("the request's server is not HOST[:PORT]".to_owned()))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    Ok(host.to_ascii_lowercase())
}

fn unknown(what: String) -> Failure {
    Failure::new(Kind::Server, "host_unknown", what)
        .hint("ask it by an address or a name that it has; `orch serve --name HOST` gives it another")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const LOCAL: &str = "192.0.2.7";

    fn check(target: &str, hosts: &[&[u8]]) -> Result<(), Failure> {
        let names = Names::new(["Orch.Example.com", "[2001:db8::5]"]).expect("names");
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        names.check(&parts, LOCAL.parse().ok())
    }

    #[test]
    fn a_server_answers_to_its_names() {
        for host in [
            "localhost",
            "LOCALHOST:7777",
            "localhost.",
            "127.0.0.1",
            "127.0.0.9:80",
            "[::1]",
            "[::1]:7777",
            "192.0.2.7:443",
            "[::ffff:192.0.2.7]",
            "orch.example.com",
            "ORCH.example.com.:8443",
            "[2001:db8::5]",
        ] {
            check("/v1/runs", &[host.as_bytes()]).unwrap_or_else(|e| panic!("{host}: {e}"));
        }
        check("http://localhost/v1/runs", &[]).expect("as HTTP/2 says it");
        check("http://localhost/v1/runs", &[b"localhost:80"]).expect("both the same");
    }

    #[test]
    fn and_to_no_other() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil-localhost",
            "192.0.2.8",
            "169.254.169.254",
            "0.0.0.0",
            "2130706433",
            "0x7f.1",
            "user@localhost",
            "localhost@evil.example",
            "",
            "localhost:port",
            "[::1",
            "a b",
            "sub.orch.example.com",
        ] {
            let failure = check("/", &[host.as_bytes()]).expect_err(host);
            assert_eq!(failure.code(), "host_unknown", "{host}");
        }
        assert!(check("/", &[b"local\xffhost"]).is_err());
    }

    #[test]
    fn one_request_is_for_one_server() {
        for (target, hosts) in [
            ("/", &[][..]),
            ("/", &[b"localhost".as_slice(), b"localhost"]),
            ("http://localhost/", &[b"evil.example".as_slice()]),
            ("http://evil.example/", &[b"localhost".as_slice()]),
        ] {
            assert_eq!(check(target, hosts).expect_err(target).code(), "host_unknown");
        }
    }

    #[test]
    fn what_is_no_name_cannot_be_given() {
        for text in ["", "https://orch.example.com", "orch.example.com:443", "a/b", "a b"] {
            assert_eq!(Names::new([text]).expect_err(text).code(), "name_invalid");
        }
    }
}
