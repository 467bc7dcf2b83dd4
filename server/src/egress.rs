//! The egress policy of other workloads: what `orch proxy` lets its clients do.
//!
//! Whoever starts it says what is allowed, on the command line and with a manifest; there is no agent who asks. Nothing
//! named is nothing allowed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orch_manifests::{Catalog, HostPattern, Policy, RunId, Scheme};
use orch_proxy::{
    Client, ClientName, ClientToken, Decision, Grant, Limits, LiveGrant, Methods, OnDecision, Placeholder,
    Proxy, Rule, RuleOrigin,
};
use orch_vault::{AuditEvent, OpenMode, PlannedUse, Vault, VaultLocation};
use tokio::time::Instant;

use crate::afterwards::{self, Spent, Tally};
use crate::agent::{Agent, manifest_failure};
use crate::config::Config;
use crate::failure::Failure;
use crate::keys::{KeyQuestion, KeySources, Keys, SecretGrant};
use crate::limits::of_egress;
use crate::permissions::AllowedHost;
use crate::policy::secret_bindings;
use crate::redact::Known;
use crate::secret::HeldSecrets;
use crate::telemetry::cleaned;
use crate::upstream::{internet, prove, proxy_config};

#[cfg(test)]
mod tests;

/// A client's grant outlives every process.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// The workspace of a local installation.
const WORKSPACE: &str = "default";

/// What is to be let through, as it was typed.
#[derive(Debug, Clone, Default)]
pub struct EgressRequest {
    /// `HOST[:PORT]`: everything at a host, over TLS.
    pub allow: Vec<String>,
    /// A manifest, the folder of one, or a policy file, whose `egress` is allowed as well.
    pub manifest: Option<PathBuf>,
    /// Hosts to which tunnels may carry anything.
    pub opaque: Vec<String>,
    /// `NAME@HOST`: secrets of the vault that clients may use without seeing them.
    pub secrets: Vec<String>,
    /// Requests of one client; none: without end.
    pub requests: Option<u64>,
    /// Requests and tunnels of one client at once.
    pub concurrent: u32,
}

/// A policy, and the way out under it.
pub struct ClientPolicy {
    proxy: Arc<Proxy>,
    rules: Vec<Rule>,
    trials: Vec<Vec<Rule>>,
    opaque: Vec<HostPattern>,
    secrets: Vec<SecretGrant>,
    limits: Limits,
    /// The secrets that clients hold, so that they can be brought up to date.
    held: HeldSecrets,
    /// The clients, and what is still to be counted of them.
    owed: Mutex<Vec<Owed>>,
}

/// A client whose uses are planned and not counted yet.
struct Owed {
    run: RunId,
    uses: Vec<PlannedUse>,
    grant: Arc<LiveGrant>,
    tally: Arc<Tally>,
}

impl Owed {
    fn events(&self) -> Vec<AuditEvent> {
        afterwards::of_run(&self.run, &self.uses, &self.tally, &Spent::new())
    }
}

/// Somebody who is to be a client.
pub struct NewClient {
    /// Under which name.
    pub name: ClientName,
    /// With which token.
    pub token: ClientToken,
    /// Hears of each of its decisions, without any value that it holds.
    pub told: OnDecision,
}

/// A client of a policy, ready for the listener.
pub struct EgressClient {
    /// The client.
    pub client: Client,
    /// What it finds in its environment in place of each secret: names and placeholders.
    pub placeholders: Vec<(String, String)>,
    /// What whoever started this should know.
    pub warnings: Vec<String>,
}

/// What a request comes to.
struct Allowed {
    rules: Vec<Rule>,
    opaque: Vec<HostPattern>,
    secrets: Vec<SecretGrant>,
    limits: Limits,
}

impl Allowed {
    fn read(config: &Config, catalog: &Catalog, request: &EgressRequest) -> Result<Self, Failure> {
        let mut rules = Vec::new();
        for text in &request.allow {
            let AllowedHost { host, port } =
                text.parse().map_err(|e: String| Failure::usage("bad_usage", format!("--allow {e}")))?;
            let (methods, paths) = (Methods::Any, Vec::new());
            rules.push(Rule { scheme: Scheme::Https, host, port, methods, paths, origin: RuleOrigin::Flag });
        }
        let policy = request.manifest.as_deref().map(load).transpose()?.unwrap_or_default();
        rules.extend(policy.egress.iter().map(|want| Rule::of_want(want, RuleOrigin::Manifest)));
        let opaque = request.opaque.iter().map(|text| opaque(text, &rules));
        let secrets = request.secrets.iter().map(|text| secret(text, catalog, &rules));
        Ok(Self {
            opaque: opaque.collect::<Result<_, _>>()?,
            secrets: secrets.collect::<Result<_, _>>()?,
            limits: of_egress(request.requests, request.concurrent, &policy.limits, config),
            rules,
        })
    }
}

impl ClientPolicy {
    /// Reads what is to be let through.
    ///
    /// # Errors
    /// When a flag or the manifest makes no sense, names a host that nothing allows, or the configuration's certificates
    /// cannot be used.
    pub fn open(config: &Config, catalog: &Catalog, request: &EgressRequest) -> Result<Self, Failure> {
        let Allowed { rules, opaque, secrets, limits } = Allowed::read(config, catalog, request)?;
        let trial = config.egress.trial.iter();
        let trials =
            trial.map(|wants| wants.iter().map(|want| Rule::of_want(want, RuleOrigin::Config)).collect());
        let (proxy, trials) = (internet(config)?, trials.collect());
        let (held, owed) = (HeldSecrets::default(), Mutex::default());
        Ok(Self { proxy, rules, trials, opaque, secrets, limits, held, owed })
    }

    /// Reads anew what is to be let through, and the values of secrets. It holds from each client's next request on; what
    /// is under way ends as it began. Which secrets there are, tokens, limits, policies on trial and name servers stay as
    /// they were. Says what is allowed now.
    ///
    /// # Errors
    /// As [`ClientPolicy::open`] has them, or the vault cannot be opened; then everything stays as it was.
    pub fn reload(
        &self,
        config: &Config,
        catalog: &Catalog,
        request: &EgressRequest,
        vault: &VaultLocation,
    ) -> Result<Vec<String>, Failure> {
        let Allowed { rules, .. } = Allowed::read(config, catalog, request)?;
        // Without a secret nobody is asked to open it.
        let vault =
            (!self.secrets.is_empty()).then(|| Vault::open(vault, OpenMode::ReadOnlyIfExists)).transpose()?;
        self.proxy.reconfigure(proxy_config(config)).map_err(|e| {
            Failure::usage("config_invalid", format!("the egress proxy cannot go by config.yaml: {e}"))
        })?;
        if let Some(vault) = vault {
            self.held.refresh(&vault);
        }
        for client in self.owed.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            client.grant.replace_rules(rules.clone());
        }
        Ok(rules.iter().map(describe).collect())
    }

    /// Proves that the proxy puts secrets where they belong and takes them out of answers. To be asked before anybody is
    /// served.
    ///
    /// # Errors
    /// It does not: nothing may be started.
    pub async fn prove(&self) -> Result<(), Failure> {
        prove().await
    }

    /// The way out.
    #[must_use]
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// What is allowed, one line for each rule.
    #[must_use]
    pub fn allowed(&self) -> Vec<String> {
        self.rules.iter().map(describe).collect()
    }

    /// Clients under this policy: their secrets are opened, and that they may use them is put on record. The vault is
    /// closed again when this returns.
    ///
    /// # Errors
    /// When a secret is not there or may not be used, or the vault cannot be read or written.
    pub fn clients(
        &self,
        new: Vec<NewClient>,
        sources: KeySources<'_>,
        vault: &VaultLocation,
    ) -> Result<Vec<EgressClient>, Failure> {
        let nobody = Agent::bare("proxy", bytes::Bytes::new())?;
        let sources = sources.held_in(&self.held);
        let mut planned = Keys::default();
        let mut clients = Vec::new();
        for new in new {
            let run = RunId::random();
            let question = KeyQuestion {
                run: &run,
                manifest: &nobody.manifest,
                bare: true,
                wanted: &[],
                searched: &[],
                flags: &[],
                secret_grants: &self.secrets,
                names_prove: true,
                lends: false,
            };
            let mut keys = question.open_secrets(&sources)?;
            let uses = std::mem::take(&mut keys.uses);
            planned.uses.extend(uses.iter().cloned());
            clients.push(self.client(new, run, &keys, uses));
        }
        // Recording opens it anew.
        drop(sources);
        planned.record_uses(vault)?;
        Ok(clients)
    }

    /// Puts on record how often each client used what it may use, and what it was refused. Does so once.
    ///
    /// # Errors
    /// When the vault cannot be written: then its record of these clients is not complete.
    pub fn conclude(&self, vault: &VaultLocation) -> Result<(), Failure> {
        let owed = std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner));
        // Without a secret the vault was never opened, and nobody is asked to open it now.
        if owed.iter().all(|client| client.uses.is_empty()) {
            return Ok(());
        }
        let events: Vec<AuditEvent> = owed.iter().flat_map(Owed::events).collect();
        Ok(Vault::open(vault, OpenMode::ReadOnlyIfExists)?.record(events)?)
    }

    fn client(&self, new: NewClient, run: RunId, keys: &Keys, uses: Vec<PlannedUse>) -> EgressClient {
        let (mut bindings, mut placeholders) = (Vec::new(), Vec::new());
        for secret in &keys.secrets {
            let placeholder = Placeholder::random();
            placeholders.push((secret.name.to_string(), placeholder.to_string()));
            bindings.extend(secret_bindings(secret, &placeholder));
        }
        let grant = Grant {
            run: run.clone(),
            // Clients share neither connections nor turns: none waits for what another has under way.
            workspace: format!("{WORKSPACE}, client {}", new.name),
            rules: self.rules.clone(),
            trials: self.trials.clone(),
            bindings,
            limits: self.limits,
            expires: Instant::now() + FOREVER,
        };
        let NewClient { name, token, told } = new;
        let (known, tally) = (Known::of(keys), Arc::new(Tally::of(&uses)));
        let counting = Arc::clone(&tally);
        let hearing = move |decision: &Decision| {
            let clean = cleaned(decision, &known);
            counting.count(&clean);
            told(&clean);
        };
        let grant = LiveGrant::telling(grant, Box::new(hearing));
        let owed = Owed { run, uses, grant: Arc::clone(&grant), tally };
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).push(owed);
        let client = Client { name, token, grant, opaque: self.opaque.clone() };
        EgressClient { client, placeholders, warnings: keys.warnings() }
    }
}

fn load(path: &Path) -> Result<Policy, Failure> {
    Policy::load(path).map_err(|error| manifest_failure(&error))
}

fn describe(rule: &Rule) -> String {
    let Rule { scheme, host, port, methods, paths, .. } = rule;
    let port = if *port == scheme.default_port() { String::new() } else { format!(":{port}") };
    let mut line = format!("{scheme}://{host}{port}");
    if let Methods::Only(methods) = methods {
        let methods: Vec<&str> = methods.iter().map(http::Method::as_str).collect();
        line = format!("{line} {}", methods.join(", "));
    }
    if !paths.is_empty() {
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        line = format!("{line} {}", paths.join(" "));
    }
    line
}

fn overlaps(rule: &Rule, host: &HostPattern) -> bool {
    rule.scheme == Scheme::Https && (rule.host.covers(host) || host.covers(&rule.host))
}

fn opaque(text: &str, rules: &[Rule]) -> Result<HostPattern, Failure> {
    let host: HostPattern = text
        .parse()
        .map_err(|e| Failure::usage("bad_usage", format!("--allow-opaque {text:?} is not HOST: {e}")))?;
    let whole = |rule: &&Rule| rule.methods == Methods::Any && rule.paths.is_empty();
    if rules.iter().filter(whole).any(|rule| overlaps(rule, &host)) {
        return Ok(host);
    }
    Err(Failure::usage("opaque_not_allowed", format!("--allow-opaque {host}: nothing allows tunnels to it"))
        .hint(format!("--allow {host} --allow-opaque {host}")))
}

fn secret(text: &str, catalog: &Catalog, rules: &[Rule]) -> Result<SecretGrant, Failure> {
    let grant = SecretGrant::parse(text, catalog)?;
    let host = grant.host();
    let there = |rule: &Rule| overlaps(rule, host) && rule.port == Scheme::Https.default_port();
    if rules.iter().any(there) {
        return Ok(grant);
    }
    let name = grant.name();
    let text = format!("--secret {name}@{host}: nothing allows requests to https://{host}");
    Err(Failure::usage("secret_unreachable", text).hint(format!("--allow {host} --secret {name}@{host}")))
}
