//! Where connections come from, and how many of each place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::caller::{Client, Peer};

/// What counts as one peer: an IPv4 address, or an IPv6 network of 64 bits, of which anybody has all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PeerKey {
    /// Whoever has it.
    Address(IpAddr),
    /// All whom the proxy there passes on without saying so that it can be told who they are. Anybody can bring that
    /// about, so it is never counted as the proxy.
    BehindProxy(IpAddr),
}

impl PeerKey {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self::Address(network(address))
    }

    /// As what the requests of this peer count; none for the owner's own.
    pub(crate) fn of_peer(peer: Peer) -> Option<Self> {
        match peer {
            Peer::InProcess | Peer::Unix => None,
            Peer::Tcp { address, .. } => Some(Self::of(address.ip())),
            Peer::Proxied { client: Client::At(address) | Client::Unsaid(address), .. } => {
                Some(Self::of(address))
            }
            Peer::Proxied { client: Client::Unclear(proxy), .. } => Some(Self::BehindProxy(network(proxy))),
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Counts connections by peer.
#[derive(Clone)]
pub(super) struct Peers {
    most: usize,
    counts: Arc<Mutex<HashMap<PeerKey, usize>>>,
}

/// A peer's place, until it is dropped.
pub(super) struct Place {
    peer: PeerKey,
    peers: Peers,
}

impl Peers {
    pub(super) fn new(most: usize) -> Self {
        Self { most, counts: Arc::default() }
    }

    /// A place for one more connection; none when this peer has as many as it may.
    pub(super) fn enter(&self, peer: PeerKey) -> Option<Place> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { peer, peers: self.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> PeerKey {
        PeerKey::of(text.parse().expect("an address"))
    }

    #[test]
    fn an_ipv6_network_is_one_peer_and_a_mapped_address_is_an_ipv4_one() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn whose_request_is_unclear_is_not_counted_as_the_proxy() {
        let proxy = [10, 0, 0, 1].into();
        let of = |client| PeerKey::of_peer(Peer::Proxied { client, private: false });
        assert_eq!(of(Client::Unsaid(proxy)), Some(key("10.0.0.1")));
        assert_ne!(of(Client::Unclear(proxy)), Some(key("10.0.0.1")));
        assert_eq!(of(Client::At([192, 0, 2, 1].into())), Some(key("192.0.2.1")));
        assert_eq!(PeerKey::of_peer(Peer::Unix), None);
    }

    #[test]
    fn a_peer_has_its_places_and_no_more() {
        let peers = Peers::new(2);
        let first = peers.enter(key("192.0.2.1")).expect("a place");
        let _second = peers.enter(key("192.0.2.1")).expect("a place");
        assert!(peers.enter(key("192.0.2.1")).is_none());
        assert!(peers.enter(key("192.0.2.2")).is_some(), "others have their own");
        drop(first);
        assert!(peers.enter(key("192.0.2.1")).is_some());
        assert_eq!(peers.counts.lock().expect("unpoisoned").len(), 1, "who has left is forgotten");
    }
}
