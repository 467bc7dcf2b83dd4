//! What is looked at before anybody has said who they are: the size of a request's head, the name that it was sent to,
//! where it comes from, and how many of its kind are under way.

use std::net::IpAddr;

use http::request::Parts;

use super::peers::{PeerKey, Peers, Place};
use super::{Limits, Names, TrustedProxies};
use crate::caller::{Client, Peer};
use crate::failure::{Failure, Kind};

/// How a server receives requests.
pub(super) struct Reception {
    names: Names,
    proxies: TrustedProxies,
    /// Requests under way of those who come through proxies.
    clients: Peers,
    head_bytes: usize,
}

impl Reception {
    pub(super) fn new(names: Names, proxies: TrustedProxies, limits: &Limits) -> Self {
        Self {
            names,
            proxies,
            clients: Peers::new(limits.connections_per_peer),
            head_bytes: limits.head_bytes,
        }
    }

    /// The proxies that are believed.
    pub(super) fn proxies(&self) -> &TrustedProxies {
        &self.proxies
    }

    /// Where a request comes from that came over a connection of this peer.
    pub(super) fn origin(&self, peer: Peer, request: &Parts) -> Peer {
        self.proxies.origin(peer, &request.headers)
    }

    /// Checks a request's head; `local` is the address that its connection was made to, where names matter.
    ///
    /// # Errors
    /// When the head is too large, or the request is for another server.
    pub(super) fn check(&self, request: &Parts, local: Option<IpAddr>) -> Result<(), Failure> {
        check_size(request, self.head_bytes)?;
        if local.is_some() { self.names.check(request, local) } else { Ok(()) }
    }

    /// A place for one more request of somebody who comes through a proxy. Its connections are not theirs, so it is their
    /// requests that are counted, or one of them could have them all under way. What a proxy sends without a report is
    /// not: it may be its health check, and its connections are bounded.
    ///
    /// # Errors
    /// When they have as many under way as anybody may have connections.
    pub(super) fn enter(&self, peer: Peer) -> Result<Option<Place>, Failure> {
        let Peer::Proxied { client: Client::At(_) | Client::Unclear(_), .. } = peer else { return Ok(None) };
        let Some(key) = PeerKey::of_peer(peer) else { return Ok(None) };
        self.clients.enter(key).map(Some).ok_or_else(|| {
            Failure::new(Kind::Server, "rate_limited", "too many requests at once from this address")
        })
    }
}

/// The parsers take a little more, so that whoever is over the limit is told so in words.
fn check_size(request: &Parts, most: usize) -> Result<(), Failure> {
    let fields = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    let target = request.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target + fields.sum::<usize>() <= most {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Server,
        "head_too_large",
        format!("the request's target and header fields are larger than {} KiB", most >> 10),
    ))
}
