//! The configuration, read again while a server works.
//!
//! What was read holds from the next request on, all of it at once. A run that goes on keeps what it was given, with one
//! exception: what the configuration alone had allowed it, and allows no more, is refused from its next request on. Nothing
//! that was added widens a run that goes on, and its limits stay; runs that wait are prepared once more when their turn
//! comes. Exchanges under way end as they began: to end them as well, revoke the run or remove the secret with `--now`.

use std::sync::{Arc, PoisonError};

use orch_proxy::{Rule, RuleOrigin};
use serde::Serialize;

use crate::broker::Broker;
use crate::config::Config;
use crate::failure::Failure;
use crate::permissions::AllowedHost;
use crate::service::Service;
use crate::upstream::proxy_config;

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Sections that are different now.
    pub changed: Vec<&'static str>,
    /// Sections that are different in the file, and stay as they were until the server is started again.
    pub on_restart: Vec<&'static str>,
    /// Rules that runs which go on have lost.
    pub rules_taken_back: usize,
}

impl Service {
    /// Reads `config.yaml` again.
    ///
    /// # Errors
    /// When the file is not in order; then everything stays as it was.
    pub fn reload(&self) -> Result<Reloaded, Failure> {
        let config = Config::load(self.home()).and_then(|config| {
            config.catalog()?;
            Ok(config)
        });
        let kept =
            |failure: Failure| failure.hint("nothing has changed: the configuration from before holds");
        let reloaded = config.and_then(|config| self.broker().reload(config)).map_err(kept)?;
        self.budgets().configure(self.config());
        Ok(reloaded)
    }
}

impl Broker {
    /// Goes by this configuration from now on.
    ///
    /// # Errors
    /// When the proxy cannot be set up by it; then everything stays as it was.
    pub(crate) fn reload(&self, new: Config) -> Result<Reloaded, Failure> {
        // Held to the end, so that of two reloads one comes after the other, and nobody makes the way out meanwhile.
        let mut current = self.config.write().unwrap_or_else(PoisonError::into_inner);
        let (new, mut reloaded) = merged(&current, new);
        if let Some(internet) = self.internet.get()
            && internet.simulation.is_none()
        {
            internet.proxy.reconfigure(proxy_config(&new)).map_err(|e| {
                Failure::usage("config_invalid", format!("the egress proxy cannot go by config.yaml: {e}"))
            })?;
        }
        let new = Arc::new(new);
        *current = Arc::clone(&new);
        reloaded.rules_taken_back =
            self.router.grants().retain_rules(|rule| still_allowed(rule, &new.egress.allow));
        Ok(reloaded)
    }
}

/// Whether the configuration still allows what it had allowed. What others allowed is not its to take back.
pub(crate) fn still_allowed(rule: &Rule, allow: &[AllowedHost]) -> bool {
    rule.origin != RuleOrigin::Config || allow.iter().any(|host| host.is_of(rule))
}

/// The new configuration, but for what only a start can change.
fn merged(old: &Config, mut new: Config) -> (Config, Reloaded) {
    // The resolver is made with the way out.
    let asked = std::mem::replace(&mut new.egress.name_servers, old.egress.name_servers.clone());
    let Config {
        server_url,
        server_roots,
        server_names,
        trusted_proxies,
        max_running,
        max_queued,
        max_connections,
        max_connections_per_peer,
        providers,
        routes,
        byok: _,
        platform,
        egress: _,
        timing,
        default_limits: _,
        limit_ceilings: _,
        budgets: _,
        records: _,
        sandbox_required: _,
        vault_key,
        telemetry,
        otel,
    } = old;
    let changed = [
        ("routes", *routes != new.routes),
        ("byok", old.byok != new.byok),
        ("egress", old.egress != new.egress),
        ("limits.defaults", old.default_limits != new.default_limits),
        ("limits.ceilings", old.limit_ceilings != new.limit_ceilings),
        ("budgets", old.budgets != new.budgets),
        ("records", old.records != new.records),
        ("sandbox", old.sandbox_required != new.sandbox_required),
    ];
    let on_restart = [
        ("egress.name_servers", asked != old.egress.name_servers),
        ("gateway", *timing != new.timing),
        ("providers", *providers != new.providers),
        // Its keys may be the environment's, which is read once.
        ("platform", *platform != new.platform),
        (
            "server",
            (server_url, server_roots, server_names, trusted_proxies)
                != (&new.server_url, &new.server_roots, &new.server_names, &new.trusted_proxies)
                || (max_running, max_queued, max_connections, max_connections_per_peer)
                    != (
                        &new.max_running,
                        &new.max_queued,
                        &new.max_connections,
                        &new.max_connections_per_peer,
                    ),
        ),
        ("vault", *vault_key != new.vault_key),
        ("telemetry", *telemetry != new.telemetry),
    ];
    let names =
        |all: &[(&'static str, bool)]| all.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    let reloaded = Reloaded { changed: names(&changed), on_restart: names(&on_restart), rules_taken_back: 0 };
    let config = Config {
        // The same ones stay what they are to those who hold them.
        routes: if *routes == new.routes { Arc::clone(routes) } else { new.routes },
        byok: new.byok,
        platform: platform.clone(),
        egress: new.egress,
        timing: *timing,
        default_limits: new.default_limits,
        limit_ceilings: new.limit_ceilings,
        budgets: new.budgets,
        records: new.records,
        sandbox_required: new.sandbox_required,
        server_url: server_url.clone(),
        server_roots: server_roots.clone(),
        server_names: server_names.clone(),
        trusted_proxies: trusted_proxies.clone(),
        max_running: *max_running,
        max_queued: *max_queued,
        max_connections: *max_connections,
        max_connections_per_peer: *max_connections_per_peer,
        providers: providers.clone(),
        vault_key: *vault_key,
        telemetry: telemetry.clone(),
        otel: otel.clone(),
    };
    (config, reloaded)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use orch_manifests::Scheme;
    use orch_proxy::Methods;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "config.yaml", Path::new("/nowhere")).expect(text)
    }

    fn rule(host: &str, port: u16, origin: RuleOrigin) -> Rule {
        let host = host.parse().expect("a host");
        Rule { scheme: Scheme::Https, host, port, methods: Methods::Any, paths: Vec::new(), origin }
    }

    #[test]
    fn what_only_a_start_can_change_is_named_and_stays() {
        let old = config("egress: { allow: [a.example] }\nserver: { max_running: 3 }");
        let new = "gateway: { timeouts: { idle: 7m } }\negress: { allow: [b.example], timeouts: { idle: 1s }, name_servers: [10.0.0.2] }\nlimits: { ceilings: { requests: 5 } }\n\
            server: { max_running: 4 }\nproviders: { ollama: { base_url: \"http://10.0.0.5:11434/v1\" } }";
        let (merged_config, reloaded) = merged(&old, config(new));
        assert_eq!(reloaded.changed, ["egress", "limits.ceilings"]);
        assert_eq!(reloaded.on_restart, ["egress.name_servers", "gateway", "providers", "server"]);
        assert!(merged_config.egress.name_servers.is_empty());
        assert_eq!((merged_config.max_running, merged_config.providers.len()), (3, 0));
        assert_eq!(merged_config.limit_ceilings.requests, Some(5));
        // Said again, for as long as it is so.
        let (_, again) = merged(&merged_config, config(new));
        assert_eq!(
            (again.changed, again.on_restart),
            (Vec::new(), vec!["egress.name_servers", "gateway", "providers", "server"])
        );
    }

    #[test]
    fn only_what_the_configuration_gave_can_it_take_back() {
        let allow = config("egress: { allow: [a.example, \"*.b.example:8443\"] }").egress.allow;
        for (host, port, kept) in [
            ("a.example", 443, true),
            ("a.example", 8443, false),
            ("*.b.example", 8443, true),
            ("x.b.example", 8443, false),
            ("c.example", 443, false),
        ] {
            assert_eq!(still_allowed(&rule(host, port, RuleOrigin::Config), &allow), kept, "{host}:{port}");
            for other in [RuleOrigin::Flag, RuleOrigin::Manifest, RuleOrigin::Scenario] {
                assert!(still_allowed(&rule(host, port, other), &allow));
            }
        }
    }
}
