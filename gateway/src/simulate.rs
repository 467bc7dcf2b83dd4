//! The simulated provider: what `--simulate` puts where the internet would be.
//!
//! A real HTTPS server on loopback, with a certificate authority that lives only in this process, plays every
//! provider that the run may use. Nothing above it is special: the same broker, proxy, TLS, policy and credential
//! injection as in a real run, because the proxy's `connect_to` leads the providers' own names here while name, SNI
//! and certificate stay theirs. The server *checks* the random key it handed out for each provider, in the place
//! where that provider wants it, so a simulated run proves that injection works.
//!
//! # Promises
//! - **Deterministic.** Equal requests get equal bytes, in this process and in the next: ids are hashes of the
//!   request, `created` is fixed, no clock and no random number is read for an answer. Only the keys and
//!   certificates are random. Headers that carry a key are no part of what is hashed.
//! - **An answer that means something.** Summaries are extracted from the text that was sent, translations are
//!   pseudo-translations that say so, tools are called with arguments from the question that fit the tool's schema,
//!   and their results are what is answered.
//! - **As strict as the real thing** where that catches a client's mistakes: required fields, roles, ranges,
//!   unanswered tool calls, `anthropic-version`, unknown fields.
//! - **Failures on request**: see [`Scenario`].
//!
//! # Why the wire formats are written twice
//! This module does not use `crate::dialect`. A simulator that reads and writes through the gateway's own parsers
//! would agree with their mistakes; one that is written from the providers' documentation disagrees with them, and
//! the tests notice.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use orch_manifests::HostName;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

mod answer;
mod anthropic;
mod bedrock;
mod chat;
mod cohere;
mod embeddings;
mod extract;
mod failure;
mod gemini;
mod keys;
mod ollama;
mod openai;
mod reply;
mod responses;
mod scenario;
mod schema;
mod served;
mod server;
mod text;
mod tls;
mod tokens;
mod tools;
mod translate;
mod world;

pub use scenario::{
    Attempts, Outcome, Rule, Scenario, ScenarioError, Scripted, ScriptedBody, ScriptedHost, Who,
};
pub use served::{KeyPlace, Origin, Served, Wire};

use keys::Keys;
use world::World;

/// How long [`Simulation::shutdown`] lets exchanges in flight finish before it cuts them.
const DRAIN: Duration = Duration::from_secs(1);

/// A running simulated provider. Dropping it stops it at once; [`Simulation::shutdown`] lets exchanges finish.
pub struct Simulation {
    addr: SocketAddr,
    ca: CertificateDer<'static>,
    world: Arc<World>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Simulation {
    /// Binds a loopback port and starts to serve `providers` and the hosts that `scenario` scripts.
    ///
    /// `providers` are those of the run's plan (or the whole catalog): every host among them gets a certificate from
    /// this simulation's own authority. Must be called within a Tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// When no loopback port can be bound, when the system has no randomness, or when a host name cannot be put into
    /// a certificate.
    pub async fn start(scenario: Scenario, providers: Vec<Served>) -> Result<Simulation, SimulationError> {
        let keys = Keys::random(&providers)?;
        let world = Arc::new(World::new(scenario, providers, keys));
        let hosts: Vec<String> = world.origins().into_iter().map(|origin| origin.host).collect();
        let identity = tls::Identity::for_hosts(&hosts)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(SimulationError::Bind)?;
        let addr = listener.local_addr().map_err(SimulationError::Bind)?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(server::serve(listener, identity.acceptor, Arc::clone(&world), stopped));
        Ok(Simulation { addr, ca: identity.ca, world, stop, tasks })
    }

    /// The loopback address that every one of [`Simulation::origins`] has to be dialled at.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The authority that signed the certificates of all simulated hosts: a root to trust for this run only.
    #[must_use]
    pub fn ca(&self) -> CertificateDer<'static> {
        self.ca.clone()
    }

    /// The random key that this simulation accepts from `provider` (a catalog slug): at least 32 characters, starting
    /// with `orch-simulated-`. `None` when that provider is not served or takes no key.
    #[must_use]
    pub fn key_for(&self, provider: &str) -> Option<&str> {
        self.world.keys.get(provider)
    }

    /// Every scheme, host and port that leads here: the providers' and the scripted hosts'. What is not among them is
    /// to be refused in a simulated run.
    #[must_use]
    pub fn origins(&self) -> Vec<Origin> {
        self.world.origins()
    }

    /// The same as the proxy's `connect_to` takes it: each named origin, and where it really is. An endpoint that is an
    /// address has no name to lead elsewhere and is left out.
    #[must_use]
    pub fn connect_to(&self) -> Vec<((HostName, u16), SocketAddr)> {
        let named = |origin: Origin| Some(((origin.host.parse().ok()?, origin.port), self.addr));
        self.origins().into_iter().filter_map(named).collect()
    }

    /// The scenario that is being played.
    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.world.scenario
    }

    /// Stops accepting, lets exchanges in flight finish for up to a second, then cuts what is left and waits until
    /// every task has ended.
    pub async fn shutdown(mut self) {
        // An error means that the acceptor has ended already, which is what is asked for.
        let _ = self.stop.send(true);
        let drained = tokio::time::timeout(DRAIN, self.tasks.join_next()).await;
        if drained.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

/// Why a simulation did not start.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// No loopback port could be bound.
    #[error("the simulated provider cannot listen on loopback: {0}")]
    Bind(#[source] std::io::Error),
    /// A certificate could not be made, for instance for a name that is no DNS name.
    #[error("the simulated provider cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused its own certificate or configuration.
    #[error("the simulated provider cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The system has no randomness for keys.
    #[error("the system gave no random bytes for the simulated keys")]
    NoRandomness,
}

#[cfg(test)]
mod tests;
