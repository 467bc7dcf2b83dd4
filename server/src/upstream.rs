//! What stands behind the proxy: the internet, or the simulated providers.
//!
//! Both kinds are the same proxy with the same guard; a simulation only adds where its origins are dialled and whose
//! certificates are trusted for them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use orch_gateway::simulate::{Origin, Scenario, Served, Simulation};
use orch_gateway::{Gateway, Timing};
use orch_manifests::{Catalog, HostName, HostPattern, Provider, Scheme, Slug};
use orch_proxy::{Credential, DnsError, Proxy, ProxyConfig, Resolve, SystemResolver};
use orch_vault::{Secret, Source};

use crate::config::{Config, EgressConfig};
use crate::credential::HeldCredential;
use crate::failure::Failure;

/// The proxy of runs, the gateway over it, and the simulation behind it, if it is one.
pub(crate) struct Upstream {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) gateway: Arc<Gateway>,
    /// The providers that the gateway knows.
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) simulation: Option<Simulation>,
}

impl Upstream {
    /// The internet, as the operator's configuration says.
    pub(crate) fn real(config: &Config, catalog: &Arc<Catalog>) -> Result<Self, Failure> {
        Ok(Self::over(internet(config)?, Arc::clone(catalog), config.timing, None))
    }

    fn over(
        proxy: Arc<Proxy>,
        catalog: Arc<Catalog>,
        timing: Timing,
        simulation: Option<Simulation>,
    ) -> Self {
        let gateway = Gateway::with_timing(Arc::clone(&proxy), Arc::clone(&catalog), timing);
        let gateway = Arc::new(gateway);
        Self { proxy, gateway, catalog, simulation }
    }

    /// Simulated providers. Nothing else is reachable: no name is looked up, and only the simulation's origins have
    /// an address.
    ///
    /// The operator's pins and providers are real places: a simulation knows the built-in ones only.
    pub(crate) async fn simulated(scenario: Scenario) -> Result<Self, Failure> {
        let catalog = Arc::new(Catalog::builtin());
        let names: Vec<&str> = catalog.providers().map(|provider| provider.slug.as_str()).collect();
        scenario
            .check_providers(names.iter().copied())
            .map_err(|e| Failure::usage("scenario_invalid", e.to_string()))?;
        let providers =
            catalog.providers().filter(|provider| is_simulated(provider)).map(Served::from).collect();
        let simulation = Simulation::start(scenario, providers)
            .await
            .map_err(|e| Failure::defect(format!("the simulated providers cannot start: {e}")))?;
        let config = ProxyConfig {
            connect_to: simulation.connect_to(),
            extra_roots: vec![simulation.ca()],
            ..ProxyConfig::default()
        };
        let resolver = Arc::new(NoResolver(DnsError::Failed("a simulated run looks up no names".to_owned())));
        Ok(Self::over(proxy(config, resolver)?, catalog, Timing::default(), Some(simulation)))
    }

    /// The keys that the simulation handed out, in place of real ones.
    pub(crate) fn simulated_keys(&self, wanted: &[&Provider]) -> BTreeMap<Slug, Arc<dyn Credential>> {
        let Some(simulation) = &self.simulation else { return BTreeMap::new() };
        let held = |provider: &&Provider| -> Option<(Slug, Arc<dyn Credential>)> {
            let key = simulation.key_for(provider.slug.as_str())?;
            let name = provider.env.first().cloned().unwrap_or_else(|| provider.slug.to_string());
            let secret = Secret::new(key.as_bytes().to_vec());
            let held = HeldCredential::given(name, Source::Simulated, provider.auth.clone(), secret);
            Some((provider.slug.clone(), Arc::new(held)))
        };
        wanted.iter().filter_map(held).collect()
    }

    /// The scripted hosts among those that a want names, in a simulated run; none when the run is real, and bound by
    /// its grant alone.
    pub(crate) fn scripted(&self, scheme: Scheme, host: &HostPattern, port: u16) -> Option<Vec<HostPattern>> {
        let simulation = self.simulation.as_ref()?;
        let https = scheme == Scheme::Https;
        let origins =
            simulation.origins().into_iter().filter(|o: &Origin| o.port == port && o.https == https);
        let names = origins.filter_map(|origin| origin.host.parse::<HostName>().ok());
        Some(names.filter(|name| host.matches(name)).map(HostPattern::Exact).collect())
    }

    /// Lets exchanges in flight end.
    pub(crate) async fn shutdown(self) {
        if let Some(simulation) = self.simulation {
            simulation.shutdown().await;
        }
    }
}

/// Whether a simulation plays it: not what is on a caller's own machine. What other tools sign in to is played with a made-up
/// token, and no file is read.
fn is_simulated(provider: &Provider) -> bool {
    !provider.local_only
}

/// How the operator's configuration wants the proxy.
pub(crate) fn proxy_config(config: &Config) -> ProxyConfig {
    let EgressConfig {
        extra_roots,
        allow: _,
        trial: _,
        connect_to,
        name_servers: _,
        upstream_proxy,
        timeouts,
    } = &config.egress;
    ProxyConfig {
        connect_to: connect_to.clone(),
        extra_roots: extra_roots.clone(),
        upstream: upstream_proxy.clone(),
        timeouts: *timeouts,
        ..ProxyConfig::default()
    }
}

/// The way to the internet, as the operator's configuration says.
///
/// # Errors
/// A root of the configuration that is not usable.
pub(crate) fn internet(config: &Config) -> Result<Arc<Proxy>, Failure> {
    let resolver = match config.egress.name_servers.as_slice() {
        [] => SystemResolver::new(),
        servers => SystemResolver::asking(servers),
    };
    let resolver: Arc<dyn Resolve> = match resolver {
        Ok(resolver) => Arc::new(resolver),
        // A machine without a resolver still reaches what is pinned; a name that has to be looked up says why not.
        Err(error) => Arc::new(NoResolver(error)),
    };
    proxy(proxy_config(config), resolver)
}

fn proxy(config: ProxyConfig, resolver: Arc<dyn Resolve>) -> Result<Arc<Proxy>, Failure> {
    Proxy::new(config, resolver)
        .map_err(|e| Failure::usage("config_invalid", format!("the egress proxy cannot start: {e}")))
}

/// Proves that the proxy puts secrets where they belong and takes them out of answers, before anything is started.
///
/// # Errors
/// It does not: nothing may be started.
pub(crate) async fn prove() -> Result<(), Failure> {
    Box::pin(orch_proxy::self_test()).await.map_err(|error| {
        Failure::defect(format!("{error}; nothing is started, because keys might not be safe"))
    })
}

/// Knows no name, and says why.
struct NoResolver(DnsError);

impl Resolve for NoResolver {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(async { Err(self.0.clone()) })
    }
}
