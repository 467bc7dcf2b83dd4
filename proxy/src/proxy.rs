//! The proxy itself: what it is made of, which way leads to an origin, and how that is changed while it works.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use orch_manifests::{Host, HostName, Scheme};
use tokio_rustls::TlsConnector;

use crate::dial::{Dialler, Route, Via};
use crate::pool::Pool;
use crate::turns::Turns;
use crate::{Caps, Guard, ProxyConfig, ProxyError, Resolve, SystemInterfaces, Timeouts, tls};

/// The one door out. Guests' requests go through [`Proxy::forward`], the gateway's through [`Proxy::send`]; both are
/// bounded by a [`crate::LiveGrant`] and leave a [`crate::Decision`] in its ledger.
///
/// Dropping it closes idle connections; responses that are still being read keep theirs until they end.
pub struct Proxy {
    resolver: Arc<dyn Resolve>,
    guard: Arc<Guard>,
    turns: Arc<Turns>,
    setup: RwLock<Arc<Setup>>,
}

/// How a proxy is set up at one time. An exchange keeps the one that it began with to its end.
pub(crate) struct Setup {
    pub(crate) dialler: Dialler,
    pub(crate) pool: Arc<Pool>,
    pub(crate) caps: Caps,
    pub(crate) timeouts: Timeouts,
    connect_to: HashMap<(HostName, u16), SocketAddr>,
    config: ProxyConfig,
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
        let (guard, turns) = (Arc::new(guard), Arc::default());
        let pool = Pool::new(config.pool, config.caps);
        let setup = Setup::new(config, pool, &resolver, &guard, &turns)?;
        Ok(Arc::new(Self { resolver, guard, turns, setup: RwLock::new(Arc::new(setup)) }))
    }

    /// The address guard, where `orch` enters its own listeners.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Sets the proxy up anew. Requests from now on go by this; exchanges under way end as they began. Connections that
    /// were opened before are not used again, unless nothing but times has changed; those that are idle are closed.
    /// Says whether anything has changed.
    ///
    /// # Errors
    /// An extra root that is not usable; then all stays as it was.
    pub fn reconfigure(&self, config: ProxyConfig) -> Result<bool, ProxyError> {
        let before = self.setup();
        if before.config == config {
            return Ok(false);
        }
        let only_times = ProxyConfig { timeouts: before.timeouts, ..config.clone() } == before.config;
        let pool = match only_times {
            true => Arc::clone(&before.pool),
            false => Pool::new(config.pool, config.caps),
        };
        let setup = Setup::new(config, pool, &self.resolver, &self.guard, &self.turns)?;
        *self.setup.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(setup);
        Ok(true)
    }

    /// What holds for a request that begins now.
    pub(crate) fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.setup.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Setup {
    fn new(
        config: ProxyConfig,
        pool: Arc<Pool>,
        resolver: &Arc<dyn Resolve>,
        guard: &Arc<Guard>,
        turns: &Arc<Turns>,
    ) -> Result<Self, ProxyError> {
        let tls = TlsConnector::from(tls::client_config(&config.extra_roots)?);
        let dialler = Dialler {
            resolver: Arc::clone(resolver),
            guard: Arc::clone(guard),
            tls,
            timeouts: config.timeouts,
            turns: Arc::clone(turns),
            upstream: config.upstream.clone(),
        };
        Ok(Self {
            dialler,
            pool,
            caps: config.caps,
            timeouts: config.timeouts,
            connect_to: config.connect_to.iter().cloned().collect(),
            config,
        })
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
