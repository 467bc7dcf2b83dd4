//! The proxy itself: what it is made of, and which way leads to an origin.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use orch_manifests::{Host, HostName, Scheme};
use tokio_rustls::TlsConnector;

use crate::dial::{Dialler, Route, Via};
use crate::pool::Pool;
use crate::{Caps, Guard, ProxyConfig, ProxyError, Resolve, SystemInterfaces, Timeouts, tls};

/// The one door out. Guests' requests go through [`Proxy::forward`], the gateway's through [`Proxy::send`]; both are
/// bounded by a [`crate::LiveGrant`] and leave a [`crate::Decision`] in its ledger.
///
/// Dropping it closes idle connections; responses that are still being read keep theirs until they end.
pub struct Proxy {
    pub(crate) dialler: Dialler,
    pub(crate) pool: Arc<Pool>,
    pub(crate) caps: Caps,
    pub(crate) timeouts: Timeouts,
    connect_to: HashMap<(HostName, u16), SocketAddr>,
}

impl Proxy {
    /// A proxy that knows this machine's interfaces from the system.
    ///
    /// # Errors
    /// An extra root that is not usable.
    pub fn new(config: ProxyConfig, resolver: Arc<dyn Resolve>) -> Result<Arc<Self>, ProxyError> {
        Self::with_guard(config, resolver, Guard::new(Box::new(SystemInterfaces)))
    }

    /// A proxy with a guard of the caller's making.
    ///
    /// # Errors
    /// An extra root that is not usable.
    pub fn with_guard(
        config: ProxyConfig,
        resolver: Arc<dyn Resolve>,
        guard: Guard,
    ) -> Result<Arc<Self>, ProxyError> {
        let ProxyConfig { connect_to, extra_roots, timeouts, caps, pool } = config;
        let tls = TlsConnector::from(tls::client_config(&extra_roots)?);
        Ok(Arc::new(Self {
            dialler: Dialler { resolver, guard, tls, timeouts },
            pool: Pool::new(pool, caps),
            caps,
            timeouts,
            connect_to: connect_to.into_iter().collect(),
        }))
    }

    /// The address guard, where `orch` enters its own listeners.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.dialler.guard
    }

    /// The way to an origin: `connect_to` where the operator set it, else by name, or by pin.
    pub(crate) fn route(&self, scheme: Scheme, host: Host, port: u16, pinned: bool) -> Route {
        let set = match &host {
            // Looking up in a map of nothing is common enough to skip building its key.
            Host::Name(name) if !self.connect_to.is_empty() => {
                self.connect_to.get(&(name.clone(), port)).copied()
            }
            _ => None,
        };
        let via = match set {
            Some(address) => Via::ConnectTo(address),
            None if pinned => Via::Pin,
            None => Via::Name,
        };
        Route { scheme, host, port, via }
    }
}
