//! Where a server is: `https://host[:port]`, or `http://` on this machine alone.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use orch_server::Failure;
use url::{Host, Url};

/// The URL of a server, checked: only a host and a port, and without TLS only on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    https: bool,
    host: Host<String>,
    port: u16,
}

impl ServerUrl {
    /// Whether the connection is encrypted.
    pub(crate) fn https(&self) -> bool {
        self.https
    }

    /// The name or address, without the brackets of IPv6.
    pub(crate) fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The port, said or the scheme's own.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the `host` header says: the port is left out when it is the scheme's own.
    pub(crate) fn authority(&self) -> String {
        if self.port == default_port(self.https) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether the name can only mean this machine.
    pub(crate) fn on_this_machine(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        }
    }

    /// Whether bytes for this server may be sent to this address: without TLS they must not leave the machine,
    /// whatever the resolver says about `localhost`.
    pub(crate) fn may_dial(&self, address: IpAddr) -> bool {
        self.https || address.is_loopback()
    }
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

impl FromStr for ServerUrl {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            // What was typed is not repeated: it may hold a password, or be a token in the wrong place.
            Failure::usage("server_url_invalid", format!("that is not a server's URL: {why}"))
                .hint("a server's URL is like https://orch.example.com or http://127.0.0.1:7777")
        };
        let url = Url::parse(text.trim()).map_err(|e| wrong(&e.to_string()))?;
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(wrong("it does not begin with https:// or http://")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it holds a user or a password; a server wants a token: orch login"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it goes on behind the host and the port"));
        }
        let host = url.host().ok_or_else(|| wrong("it names no host"))?.to_owned();
        let port = url.port().unwrap_or_else(|| default_port(https));
        let server = Self { https, host, port };
        if !https && !server.on_this_machine() {
            return Err(Failure::usage(
                "server_url_insecure",
                format!(
                    "{server} is another machine, and without TLS tokens and keys could be read on the way"
                ),
            )
            .hint(format!("https://{}", server.authority())));
        }
        Ok(server)
    }
}

impl fmt::Display for ServerUrl {
    /// The canonical text, under which a token is stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ServerUrl, Failure> {
        text.parse()
    }

    #[test]
    fn a_url_has_one_canonical_text() {
        for (text, canonical) in [
            ("https://Orch.Example.com", "https://orch.example.com"),
            ("https://orch.example.com:443/", "https://orch.example.com"),
            ("https://orch.example.com:8443", "https://orch.example.com:8443"),
            ("http://127.0.0.1:7777", "http://127.0.0.1:7777"),
            ("http://0x7f.1:80/", "http://127.0.0.1"),
            ("http://[::1]:7777", "http://[::1]:7777"),
            ("http://localhost:1", "http://localhost:1"),
            ("https://10.0.0.1", "https://10.0.0.1"),
        ] {
            assert_eq!(parse(text).expect(text).to_string(), canonical);
        }
    }

    #[test]
    fn without_tls_only_this_machine_is_spoken_to() {
        for text in [
            "http://orch.example.com",
            "http://10.0.0.1:80",
            "http://0.0.0.0:1",
            "http://localhost.example.com",
            "http://[::ffff:127.0.0.1]:1",
            "http://127.0.0.1.nip.io",
        ] {
            assert_eq!(parse(text).expect_err(text).code(), "server_url_insecure", "{text}");
        }
        let local = parse("http://localhost:1").expect("this machine");
        assert!(local.may_dial(IpAddr::from([127, 0, 0, 1])));
        assert!(!local.may_dial(IpAddr::from([192, 0, 2, 1])), "whatever the resolver says");
    }

    #[test]
    fn what_is_no_server_is_refused_and_not_repeated() {
        for text in [
            "",
            "orch.example.com",
            "ftp://orch.example.com",
            "https://user:hunter2@orch.example.com",
            "https://orch.example.com/hunter2",
            "https://orch.example.com?hunter2",
            "https://orch.example.com#hunter2",
            "orch_hunter2",
            "https://",
        ] {
            let failure = parse(text).expect_err(text);
            assert_eq!(failure.code(), "server_url_invalid", "{text}");
            assert!(!failure.message().contains("hunter2"), "{failure}");
        }
    }
}
