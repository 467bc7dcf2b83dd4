//! The proxies in front of a server whose word counts for where a request comes from.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use super::forwarded::{self, ForwardedHeader};
use crate::caller::{Client, Peer};

/// Addresses of proxies that the operator trusts; none unless they are said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// What they write; where that is not known, all that there is has to agree.
    written: Option<ForwardedHeader>,
}

impl TrustedProxies {
    /// Adds an address, or a network such as `10.0.0.0/28`.
    ///
    /// # Errors
    /// When it is neither, or is so wide that anybody could say who they are; the text says why.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().into(),
            Err(_) => text
                .parse::<IpNet>()
                .map_err(|_| format!("{text:?} is no address and no network such as 10.0.0.0/28"))?,
        };
        if network.addr() != network.network() {
            return Err(format!(
                "{text} has more bits than its prefix: is it {} or {}?",
                network.addr(),
                network.trunc()
            ));
        }
        if network.prefix_len() == 0 {
            return Err(format!("{text} is everybody, who could then say to be anybody"));
        }
        if network.addr().to_canonical() != network.addr() {
            return Err(format!("{text} is an IPv4 network, and is written as one"));
        }
        self.networks.push(network);
        Ok(())
    }

    /// Says which header they write: what stands in the other is a client's.
    pub fn report_in(&mut self, header: ForwardedHeader) {
        self.written = Some(header);
    }

    /// Whether this is one of them.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Where a request comes from that came over this connection: what a trusted proxy says, or the connection's other
    /// end.
    pub(super) fn origin(&self, peer: Peer, headers: &HeaderMap) -> Peer {
        let Peer::Tcp { address, .. } = peer else { return peer };
        if !self.contain(address.ip()) {
            return peer;
        }
        let proxy = address.ip();
        match forwarded::report(headers, self.written, |address| self.contain(address)) {
            // Whether it came to the proxy in the open is not known, so it may have.
            None => Peer::Proxied { client: Client::Unsaid(proxy), private: false },
            Some(report) => Peer::Proxied {
                client: report.client.map_or(Client::Unclear(proxy), Client::At),
                // The way has two parts, and the second is this connection.
                private: report.https && peer.is_private(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> TrustedProxies {
        let mut proxies = TrustedProxies::default();
        for text in texts {
            proxies.add(text).expect(text);
        }
        proxies
    }

    fn tcp(address: &str, tls: bool) -> Peer {
        Peer::Tcp { address: address.parse().expect("an address"), tls }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| ((*name).parse().expect("a name"), value.parse().expect("a value")))
            .collect()
    }

    #[test]
    fn addresses_and_networks_are_trusted() {
        let proxies = proxies(&["192.0.2.7", "10.1.0.0/16", "2001:db8:1::/48", "::ffff:198.51.100.1"]);
        for trusted in ["192.0.2.7", "10.1.255.1", "2001:db8:1:ffff::1", "::ffff:10.1.0.1", "198.51.100.1"] {
            assert!(proxies.contain(trusted.parse().expect("an address")), "{trusted}");
        }
        for other in ["192.0.2.8", "10.2.0.1", "2001:db8:2::1", "::1"] {
            assert!(!proxies.contain(other.parse().expect("an address")), "{other}");
        }
        assert!(!TrustedProxies::default().contain([127, 0, 0, 1].into()));
    }

    #[test]
    fn what_is_no_network_or_everybody_is_refused() {
        for (text, why) in [
            ("", "no address"),
            ("proxy.example", "no address"),
            ("10.0.0.0/33", "no address"),
            ("10.0.0.1:80", "no address"),
            ("10.0.0.5/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "everybody"),
            ("::/0", "everybody"),
            ("::ffff:10.0.0.0/104", "IPv4"),
        ] {
            let said = TrustedProxies::default().add(text).expect_err(text);
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let proxies = proxies(&["10.0.0.0/8"]);
        let fields = headers(&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")]);
        let stranger = tcp("198.51.100.1:9", false);
        assert_eq!(proxies.origin(stranger, &fields), stranger);
        assert_eq!(proxies.origin(Peer::Unix, &fields), Peer::Unix);
        assert_eq!(
            TrustedProxies::default().origin(tcp("10.0.0.1:9", false), &fields),
            tcp("10.0.0.1:9", false)
        );
        let client = Client::At([192, 0, 2, 1].into());
        assert_eq!(proxies.origin(tcp("10.0.0.1:9", true), &fields), Peer::Proxied { client, private: true });
        let mapped = tcp("[::ffff:10.0.0.1]:9", true);
        assert_eq!(proxies.origin(mapped, &fields), Peer::Proxied { client, private: true });
    }

    #[test]
    fn a_report_without_sense_is_nobody_s_request() {
        let proxies = proxies(&["10.0.0.0/8"]);
        let proxy = tcp("10.0.0.1:9", true);
        let nobody = Peer::Proxied { client: Client::Unclear([10, 0, 0, 1].into()), private: false };
        for list in ["unknown", "192.0.2.1, x", "10.0.0.3", ""] {
            assert_eq!(proxies.origin(proxy, &headers(&[("x-forwarded-for", list)])), nobody, "{list}");
        }
        let added = headers(&[("x-forwarded-for", "192.0.2.1"), ("forwarded", "x")]);
        assert_eq!(proxies.origin(proxy, &added), nobody);
        let own = Peer::Proxied { client: Client::Unsaid([10, 0, 0, 1].into()), private: false };
        assert_eq!(proxies.origin(proxy, &HeaderMap::new()), own, "nothing was forwarded");
    }

    #[test]
    fn private_is_what_nobody_reads_on_either_part_of_the_way() {
        let proxies = proxies(&["10.0.0.0/8", "127.0.0.1"]);
        let private = |proxy: Peer, proto: &'static str| {
            let fields = headers(&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", proto)]);
            proxies.origin(proxy, &fields).is_private()
        };
        assert!(private(tcp("10.0.0.1:9", true), "https") && private(tcp("127.0.0.1:9", false), "https"));
        assert!(!private(tcp("10.0.0.1:9", false), "https"), "from the proxy to here");
        assert!(!private(tcp("10.0.0.1:9", true), "http") && !private(tcp("127.0.0.1:9", false), "http"));
        let silent = headers(&[("x-forwarded-for", "192.0.2.1")]);
        assert!(!proxies.origin(tcp("127.0.0.1:9", false), &silent).is_private(), "nothing was said");
        // What a proxy was asked in the open it may pass on without a word, and over TLS.
        for proxy in [tcp("127.0.0.1:9", false), tcp("127.0.0.1:9", true), tcp("10.0.0.1:9", true)] {
            assert!(!proxies.origin(proxy, &HeaderMap::new()).is_private(), "{proxy:?}");
        }
    }
}
