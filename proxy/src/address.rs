//! Which addresses may be dialled. [`judge`] is the table alone; [`Guard`] adds what only this machine knows, and is
//! the only maker of [`CheckedAddr`], the only thing that the proxy dials.

mod embedded;
mod interfaces;
mod table;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;

use crate::resolve::accept;
use crate::{DnsError, EgressError};

pub use interfaces::{Interfaces, SystemInterfaces};
pub use table::Class;

/// Why an address is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// A row of the table holds it.
    #[error("{reason} ({prefix})")]
    Table {
        /// The row's prefix: the longest that holds the address.
        prefix: IpNet,
        /// What kind of place it is.
        class: Class,
        /// The row's reason.
        reason: &'static str,
    },
    /// It is an IPv4 address in an IPv6 spelling, and that IPv4 address is refused.
    #[error("it stands for {inner}: {cause}")]
    Inner {
        /// The IPv4 address that packets would reach.
        inner: IpAddr,
        /// Why that one is refused.
        cause: Box<BadAddress>,
    },
    /// It belongs to one of this machine's interfaces.
    #[error("it is an address of this machine")]
    OwnInterface,
    /// `orch` itself listens there.
    #[error("orch itself listens there")]
    OwnListener,
}

/// Judges an address by the table alone, for a request that any guest could make.
///
/// # Errors
/// The row that refuses it.
pub fn judge(address: IpAddr) -> Result<(), BadAddress> {
    if let IpAddr::V6(v6) = address
        && let Some(inner) = embedded::inner(v6)
    {
        let inner = IpAddr::V4(inner);
        judge(inner).map_err(|cause| BadAddress::Inner { inner, cause: Box::new(cause) })?;
    }
    match table::row(address) {
        None => Ok(()),
        Some(row) => Err(row.refusal()),
    }
}

/// How a destination came to be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// By a name that anybody could have registered.
    Public,
    /// By an operator's pin or `connect_to`, which may be loopback or private, but never metadata, link-local, a
    /// special range, an embedded spelling, or a listener of `orch` itself.
    Pinned,
}

/// An address that a [`Guard`] let pass, moments ago. Connections are made to these and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedAddr(SocketAddr);

impl CheckedAddr {
    /// The address.
    #[must_use]
    pub fn get(self) -> SocketAddr {
        self.0
    }
}

/// The table, this machine's interfaces and `orch`'s own listeners, together.
pub struct Guard {
    interfaces: Box<dyn Interfaces>,
    listeners: OwnListeners,
}

impl Guard {
    /// A guard that asks `interfaces` for the machine's own addresses.
    #[must_use]
    pub fn new(interfaces: Box<dyn Interfaces>) -> Self {
        Self { interfaces, listeners: OwnListeners::default() }
    }

    /// Where `orch` enters the sockets that it listens on.
    #[must_use]
    pub fn listeners(&self) -> &OwnListeners {
        &self.listeners
    }

    /// Judges one address.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check(&self, address: SocketAddr, reach: Reach) -> Result<CheckedAddr, BadAddress> {
        let ip = address.ip();
        match reach {
            Reach::Public => {
                judge(ip)?;
                if self.interfaces.is_own(ip) {
                    return Err(BadAddress::OwnInterface);
                }
            }
            Reach::Pinned => {
                if let Some(row) = table::row(ip)
                    && !row.class.may_be_pinned()
                {
                    return Err(row.refusal());
                }
                // ISATAP identifiers hide in prefixes that no row refuses.
                if let IpAddr::V6(v6) = ip
                    && let Some(inner) = embedded::inner(v6)
                    && let Some(row) = table::row(IpAddr::V4(inner))
                {
                    return Err(BadAddress::Inner { inner: inner.into(), cause: Box::new(row.refusal()) });
                }
            }
        }
        if self.listeners.holds(address, &|ip| self.is_here(ip)) {
            return Err(BadAddress::OwnListener);
        }
        Ok(CheckedAddr(address))
    }

    /// Judges every address of a name and refuses the name when any of them is bad: a name that mixes good and bad
    /// answers is an attack, and which one a dialler picks would be chance.
    pub(crate) fn check_all(
        &self,
        host: &str,
        addresses: Vec<IpAddr>,
        port: u16,
        reach: Reach,
    ) -> Result<Vec<CheckedAddr>, EgressError> {
        let dns = |cause: DnsError| EgressError::Dns { host: host.to_owned(), cause };
        accept(addresses)
            .map_err(dns)?
            .into_iter()
            .map(|ip| {
                self.check(SocketAddr::new(ip, port), reach).map_err(|cause| EgressError::Address {
                    host: host.to_owned(),
                    address: ip,
                    cause,
                })
            })
            .collect()
    }

    fn is_here(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.interfaces.is_own(ip)
    }
}

/// The sockets that `orch` listens on, so that no request can come back in through them.
#[derive(Clone, Default)]
pub struct OwnListeners {
    /// How often each is entered.
    bound: Arc<RwLock<HashMap<SocketAddr, usize>>>,
}

impl OwnListeners {
    /// Enters a listener by the address that its socket reports; it is removed when the result is dropped.
    #[must_use = "the listener is forgotten when this is dropped"]
    pub fn register(&self, bound: SocketAddr) -> ListenerEntry {
        let bound = SocketAddr::new(bound.ip().to_canonical(), bound.port());
        *self.bound.write().unwrap_or_else(PoisonError::into_inner).entry(bound).or_default() += 1;
        ListenerEntry { listeners: self.clone(), bound }
    }

    fn holds(&self, address: SocketAddr, is_here: &dyn Fn(IpAddr) -> bool) -> bool {
        let ip = address.ip().to_canonical();
        let bound = self.bound.read().unwrap_or_else(PoisonError::into_inner);
        bound.keys().any(|bound| {
            bound.port() == address.port()
                && (bound.ip() == ip || (bound.ip().is_unspecified() && is_here(ip)))
        })
    }
}

/// A registration in [`OwnListeners`].
pub struct ListenerEntry {
    listeners: OwnListeners,
    bound: SocketAddr,
}

impl Drop for ListenerEntry {
    fn drop(&mut self) {
        let mut bound = self.listeners.bound.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = bound.get_mut(&self.bound) {
            *count -= 1;
            if *count == 0 {
                bound.remove(&self.bound);
            }
        }
    }
}

#[cfg(test)]
mod tests;
