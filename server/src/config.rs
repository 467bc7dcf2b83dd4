//! The operator's configuration: `config.yaml` in the configuration folder.
//!
//! It alone can widen what the proxy reaches (pins, `connect_to`, extra roots), so it is read from that one place,
//! refused when another user could have written it, and every unknown or unusable key is an error with its line.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use orch_gateway::Timing;
use orch_manifests::{
    Catalog, Dialect, EgressWant, Endpoint, Format, Limits, OperatorProvider, Price, Route, Routes, Slug,
    format_duration,
};
use orch_runner::{Capacity, Machine, Requirement};
use orch_vault::KeyChoice;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use crate::budgets::{Budget, BudgetDocument};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::home::{Home, private};
use crate::http::{ForwardedHeader, Limits as HttpLimits, TrustedProxies};
use crate::records::{RawRecords, RecordsConfig};
use crate::telemetry::{OtelEnvironment, RawTelemetry, TelemetryConfig};

mod byok;
mod egress;
mod gateway;
mod limits;
mod routes;
mod sandbox;
#[cfg(test)]
mod tests;
mod timeouts;

pub use byok::{ByokConfig, PlatformConfig, PlatformKeys};
pub use egress::EgressConfig;
use egress::RawEgress;

/// Runs at once where the configuration does not say.
const MAX_RUNNING: u32 = 64;
/// The most that `server.max_running` may be. What there is room for is a matter of the [machine](Config::capacity).
const MOST_RUNNING: u32 = 50_000;
/// Waiting runs where the configuration does not say.
const MAX_QUEUED: usize = 10_000;
/// The most that `server.max_connections` may be; each takes a descriptor, and one more while it asks a provider.
const MOST_CONNECTIONS: usize = 100_000;
/// Largest configuration file, in bytes.
const SIZE_LIMIT: u64 = 1024 * 1024;

/// The configuration, parsed and checked.
#[derive(Debug)]
pub struct Config {
    /// A server to run on.
    pub server_url: Option<String>,
    /// Certificate authorities for that server, beside the public ones.
    pub server_roots: Vec<CertificateDer<'static>>,
    /// Names that `orch serve` answers to, beside those of its addresses.
    pub server_names: Vec<String>,
    /// Proxies in front of `orch serve`, whose word counts for where a request comes from.
    pub trusted_proxies: TrustedProxies,
    /// Runs that `orch serve` executes at once, where there is [room](Config::capacity) for them.
    pub max_running: u32,
    /// Accepted runs that may wait for their turn.
    pub max_queued: usize,
    /// Connections to `orch serve` at once.
    pub max_connections: usize,
    /// Connections to `orch serve` at once from one address, or by its unix socket.
    pub max_connections_per_peer: usize,
    /// The operator's providers: new ones, and built-in ones that are reached at exactly this host and port.
    pub providers: Vec<OperatorProvider>,
    /// Logical model names, for every workspace.
    pub routes: Arc<Routes>,
    /// Whose keys serve the members of workspaces.
    pub byok: ByokConfig,
    /// What the operator lends to workspaces.
    pub platform: PlatformConfig,
    /// The way out.
    pub egress: EgressConfig,
    /// How long providers may take over model calls.
    pub timing: Timing,
    /// Limits of agents that set none.
    pub default_limits: Limits,
    /// Limits that nothing may exceed.
    pub limit_ceilings: Limits,
    /// What workspaces, agents, tokens and keys may spend by the day, by the month, and in total.
    pub(crate) budgets: Vec<Budget>,
    /// What is recorded of calls beside what always is.
    pub(crate) records: RecordsConfig,
    /// Layers of the sandbox without which nothing is run.
    pub sandbox_required: Requirement,
    /// Which key slot a new vault gets.
    pub vault_key: KeyChoice,
    /// Where telemetry goes.
    pub(crate) telemetry: TelemetryConfig,
    /// Where OpenTelemetry's own variables say it goes; no matter of the file.
    pub(crate) otel: OtelEnvironment,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    server: RawServer,
    providers: BTreeMap<String, RawProvider>,
    byok: byok::RawByok,
    platform: byok::RawPlatform,
    egress: RawEgress,
    gateway: gateway::RawGateway,
    #[serde(deserialize_with = "routes::named")]
    routes: BTreeMap<String, Route>,
    limits: RawLimits,
    budgets: BTreeMap<String, BudgetDocument>,
    records: RawRecords,
    sandbox: sandbox::RawSandbox,
    vault: RawVault,
    telemetry: RawTelemetry,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawServer {
    url: Option<String>,
    ca_file: Option<String>,
    names: Vec<String>,
    trusted_proxies: Vec<String>,
    forwarded_header: Option<ForwardedHeader>,
    max_running: Option<u32>,
    max_queued: Option<usize>,
    max_connections: Option<usize>,
    max_connections_per_peer: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProvider {
    base_url: Option<Endpoint>,
    dialect: Option<String>,
    env: Option<String>,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    free: bool,
    #[serde(default)]
    prices: BTreeMap<String, Price>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    defaults: limits::RawLimits,
    ceilings: limits::RawLimits,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawVault {
    key: Option<String>,
}

impl Config {
    /// What an operator should be told whenever something starts by this configuration.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let remote =
            |upstream: &orch_proxy::UpstreamProxy| upstream.resolution == orch_proxy::Resolution::Remote;
        let unjudged = "egress.upstream_proxy.resolve is remote: the upstream proxy looks up hosts, and no address is \
                        judged before it connects";
        self.egress
            .upstream_proxy
            .as_ref()
            .filter(|upstream| remote(upstream))
            .map(|_| unjudged.to_owned())
            .into_iter()
            .chain(self.records.bodies.iter().map(|(workspace, kept)| {
                format!("records.bodies: in the workspace {workspace} {}", kept.said())
            }))
            .chain(self.impatience())
            .chain(self.otel.warnings(&self.telemetry))
            .collect()
    }

    /// A wait for a stream that the way out does not have.
    fn impatience(&self) -> Option<String> {
        let (gateway, egress) = (self.timing.idle, self.egress.timeouts.idle);
        (gateway > egress).then(|| {
            let [gateway, egress] = [gateway, egress].map(format_duration);
            format!(
                "gateway.timeouts.idle is {gateway}, but egress.timeouts.idle ends a stream after {egress}"
            )
        })
    }

    /// The same, with what the environment says of telemetry where the file is silent.
    #[must_use]
    pub fn with_environment(self, environment: &Environment) -> Self {
        Self { otel: OtelEnvironment::read(environment), ..self }
    }

    /// Reads the configuration of this home; no file is the default configuration.
    ///
    /// # Errors
    /// When the file is not the user's own, is malformed, or says something that cannot be done.
    pub fn load(home: &Home) -> Result<Self, Failure> {
        let path = home.config_file();
        let Some(text) = private::read(&path, SIZE_LIMIT, "the configuration")? else {
            return Ok(Self::default());
        };
        Self::parse(&text, &path.display().to_string(), home.config_folder())
    }

    /// Parses configuration text; `label` names it in errors, `folder` is where relative paths start.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, label: &str, folder: &Path) -> Result<Self, Failure> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let raw: Option<Raw> = serde_yaml::from_str(text).map_err(|error| malformed(label, &error))?;
        let raw = raw.unwrap_or_default();
        let wrong = |field: &str, why: &str| {
            Failure::usage("config_invalid", format!("{label}: {field}: {why}")).detail("field", field)
        };

        let vault_key = match raw.vault.key.as_deref() {
            None => KeyChoice::Auto,
            Some(word) => KeyChoice::of_word(word).ok_or_else(|| {
                wrong(
                    "vault.key",
                    &format!("{word:?} is not auto, keychain, file, passphrase or systemd-credential"),
                )
            })?,
        };

        let bounds = |table: &str, raw: &limits::RawLimits| {
            raw.parse().map_err(|(field, why)| wrong(&format!("{table}.{field}"), &why))
        };
        let required = raw.sandbox.parse().map_err(|why| wrong("sandbox.require", &why))?;
        let mut config = Self {
            vault_key,
            sandbox_required: required,
            server_url: raw.server.url,
            server_names: raw.server.names,
            max_running: raw.server.max_running.unwrap_or(MAX_RUNNING),
            max_queued: raw.server.max_queued.unwrap_or(MAX_QUEUED),
            max_connections: raw.server.max_connections.unwrap_or(HttpLimits::default().connections),
            max_connections_per_peer: raw
                .server
                .max_connections_per_peer
                .unwrap_or(HttpLimits::default().connections_per_peer),
            default_limits: bounds("limits.defaults", &raw.limits.defaults)?,
            limit_ceilings: bounds("limits.ceilings", &raw.limits.ceilings)?,
            ..Self::default()
        };
        for (name, document) in &raw.budgets {
            let budget = Budget::of(name, document, true);
            config.budgets.push(budget.map_err(|(field, why)| {
                let dot = if field.is_empty() { "" } else { "." };
                wrong(&format!("budgets.{name}{dot}{field}"), &why)
            })?);
        }
        let records = raw.records.parse();
        config.records = records.map_err(|(field, why)| wrong(&format!("records.{field}"), &why))?;
        let telemetry = raw.telemetry.parse();
        config.telemetry = telemetry.map_err(|(field, why)| wrong(&format!("telemetry.{field}"), &why))?;
        for (name, provider) in raw.providers {
            let field = format!("providers.{name}");
            let slug: Slug = name.parse().map_err(|e| wrong(&field, &format!("{e}")))?;
            let dialect = provider.dialect.map(|text| text.parse::<Dialect>()).transpose();
            config.providers.push(OperatorProvider {
                slug,
                dialect: dialect.map_err(|e| wrong(&format!("{field}.dialect"), &e.to_string()))?,
                base_url: provider.base_url,
                env: provider.env.into_iter().collect(),
                models: provider.models,
                free: provider.free,
                prices: provider.prices,
            });
        }
        if !raw.routes.is_empty() {
            let catalog = config.catalog()?;
            let routes = routes::checked(raw.routes, &catalog);
            config.routes = Arc::new(routes.map_err(|(field, why)| wrong(&field, &why))?);
        }
        config.byok = raw.byok.parse().map_err(|(field, why)| wrong(&field, &why))?;
        let platform = raw.platform.parse(|| config.catalog().ok());
        config.platform = platform.map_err(|(field, why)| wrong(&field, &why))?;
        // Also where it has no value: that must not read as "none", and serde takes it for that.
        let on_trial = raw.egress.has_trial() || text.contains("trial");
        let egress = raw.egress.parse(folder);
        config.egress = egress.map_err(|(field, why)| wrong(&format!("egress.{field}"), &why))?;
        if on_trial {
            let list = EgressWant::list_in(text, Format::Yaml, label, &["egress", "trial"]);
            config.egress.trial = list.map_err(|e| Failure::usage("config_invalid", e.to_string()))?;
        }
        config.timing =
            raw.gateway.parse().map_err(|(field, why)| wrong(&format!("gateway.{field}"), &why))?;
        for (index, proxy) in raw.server.trusted_proxies.iter().enumerate() {
            let field = format!("server.trusted_proxies[{index}]");
            config.trusted_proxies.add(proxy).map_err(|e| wrong(&field, &e))?;
        }
        if let Some(header) = raw.server.forwarded_header {
            config.trusted_proxies.report_in(header);
        }
        if let Some(file) = raw.server.ca_file {
            config.server_roots = read_roots(&folder.join(file)).map_err(|e| wrong("server.ca_file", &e))?;
        }
        if !(1..=MOST_RUNNING).contains(&config.max_running) {
            return Err(wrong("server.max_running", &format!("it is between 1 and {MOST_RUNNING}")));
        }
        for (field, value) in [
            ("server.max_connections", config.max_connections),
            ("server.max_connections_per_peer", config.max_connections_per_peer),
        ] {
            if !(1..=MOST_CONNECTIONS).contains(&value) {
                return Err(wrong(field, &format!("it is between 1 and {MOST_CONNECTIONS}")));
            }
        }
        Ok(config)
    }
}

impl Config {
    /// How many runs this machine has room for at once, of those that may be executed.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        Machine::read().capacity(self.max_running)
    }
}

impl Default for Config {
    /// What holds without a file: nothing is widened.
    fn default() -> Self {
        Self {
            server_url: None,
            server_roots: Vec::new(),
            server_names: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
            max_running: MAX_RUNNING,
            max_queued: MAX_QUEUED,
            max_connections: HttpLimits::default().connections,
            max_connections_per_peer: HttpLimits::default().connections_per_peer,
            providers: Vec::new(),
            routes: Arc::default(),
            byok: ByokConfig::default(),
            platform: PlatformConfig::default(),
            egress: EgressConfig::default(),
            timing: Timing::default(),
            default_limits: Limits::default(),
            limit_ceilings: Limits::default(),
            budgets: Vec::new(),
            records: RecordsConfig::default(),
            sandbox_required: Requirement::default(),
            vault_key: KeyChoice::Auto,
            telemetry: TelemetryConfig::default(),
            otel: OtelEnvironment::default(),
        }
    }
}

impl Config {
    /// The built-in catalog with the operator's providers.
    ///
    /// # Errors
    /// When a provider is incomplete or claims what belongs to another.
    pub fn catalog(&self) -> Result<Catalog, Failure> {
        Catalog::builtin()
            .with_operator(self.providers.clone())
            .map_err(|e| Failure::usage("config_invalid", format!("config.yaml: providers: {e}")))
    }
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    private::check_provided(path).map_err(|why| format!("{}: {why}", path.display()))?;
    let file = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", path.display());
    let roots = CertificateDer::pem_file_iter(path)
        .map_err(|e| file(&e))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| file(&e))?;
    if roots.is_empty() { Err(format!("{} holds no PEM certificate", path.display())) } else { Ok(roots) }
}

/// serde_yaml says the place and the field; the nearest known field is added.
fn malformed(label: &str, error: &serde_yaml::Error) -> Failure {
    let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
    let text = error.to_string();
    // The location stands in front already.
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let failure = Failure::usage("config_invalid", format!("{label}{place}: {text}"));
    match nearest_field(text) {
        Some(nearest) => failure.hint(format!("did you mean `{nearest}`?")),
        None => failure,
    }
}

/// The known field closest to the unknown one that serde names: "unknown field `x`, expected one of `a`, `b`".
fn nearest_field(text: &str) -> Option<String> {
    let (unknown, known) = text.split_once("unknown field ")?.1.split_once(", expected ")?;
    let unknown = unknown.trim_matches('`');
    let close = |field: &&str| strsim::damerau_levenshtein(unknown, field) <= (unknown.len() / 3).max(2);
    let fields = known.split('`').skip(1).step_by(2).filter(close);
    fields.min_by_key(|field| strsim::damerau_levenshtein(unknown, field)).map(str::to_owned)
}
