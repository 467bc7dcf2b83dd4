//! From what was granted to the grant that the proxy enforces, and to what the guest sees of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use orch_manifests::{
    AccountWant, Catalog, EgressWant, Host, HostPattern, Manifest, PathGlob, Provider, RunId, Scheme,
    ServerTools, Slug,
};
use orch_proxy::{Binding, Credential, Grant, Methods, Place, Placeholder, Rule, RuleOrigin, Target};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::door::GATEWAY_HOST;
use crate::failure::Failure;
use crate::keys::{BoundSecret, Keys, Way};
use crate::limits::RunLimits;
use crate::permissions::{self, AllowedHost, Capability};
use crate::upstream::Upstream;

mod account;
mod outlook;
mod search;
#[cfg(test)]
mod tests;

pub use account::account_rules;
pub use outlook::Outlook;
pub use search::search_rules;

/// Names that the environment of a guest gets from `orch`; a caller cannot give them another meaning.
const RESERVED_PREFIX: &str = "ORCH_";

/// A host that somebody allowed, and who.
pub(crate) struct Allowed {
    host: AllowedHost,
    origin: RuleOrigin,
}

/// The hosts of the command line and of the configuration, parsed.
pub(crate) fn allowed_hosts(flags: &[String], config: &[AllowedHost]) -> Result<Vec<Allowed>, Failure> {
    let mut allowed = Vec::with_capacity(flags.len() + config.len());
    for text in flags {
        let host = text.parse().map_err(|e: String| Failure::usage("bad_usage", format!("--allow {e}")))?;
        allowed.push(Allowed { host, origin: RuleOrigin::Flag });
    }
    allowed.extend(config.iter().map(|host| Allowed { host: host.clone(), origin: RuleOrigin::Config }));
    Ok(allowed)
}

/// The hosts that an agent asks for, each with who allowed it.
pub(crate) struct Wants {
    rows: Vec<Want>,
    /// What providers may do by themselves.
    server_tools: ServerTools,
    /// Paths of providers' accounts.
    account: Vec<AccountWant>,
    /// Providers that the web is searched with.
    search: Vec<Slug>,
}

struct Want {
    egress: EgressWant,
    /// Who allowed it; none when that is still to be asked.
    by: Option<RuleOrigin>,
}

impl Wants {
    /// Compares the manifest's wants with what was allowed. For a bare module the command line is the manifest.
    ///
    /// # Errors
    /// When the command line allows what the manifest does not ask for: a misspelt host, most likely. `said` are the
    /// capabilities that were granted for this run, and words for them.
    pub(crate) fn of(agent: &Agent, allowed: &[Allowed], said: &BTreeSet<String>) -> Result<Self, Failure> {
        let by_flag = || allowed.iter().filter(|allowed| allowed.origin == RuleOrigin::Flag);
        if agent.bare {
            let rows =
                by_flag().map(|allowed| Want { egress: whole(&allowed.host), by: Some(allowed.origin) });
            let server_tools = permissions::tools_said(said);
            let wants = Self { rows: rows.collect(), server_tools, account: Vec::new(), search: Vec::new() };
            permissions::check_wanted(
                "a module without a manifest",
                said,
                &wants.further().collect::<Vec<_>>(),
            )?;
            return Ok(wants);
        }
        let wants = &agent.manifest.egress;
        if let Some(Allowed { host, .. }) = by_flag().find(|a| !wants.iter().any(|want| a.host.covers(want)))
        {
            return Err(not_wanted(agent, host));
        }
        let rows = wants.iter().map(|want| Want {
            egress: want.clone(),
            by: allowed.iter().find(|allowed| allowed.host.covers(want)).map(|allowed| allowed.origin),
        });
        let llm = agent.manifest.llm.as_ref();
        let server_tools = llm.map(|llm| llm.server_tools).unwrap_or_default();
        let account = llm.map(|llm| llm.account.clone()).unwrap_or_default();
        let search = agent.manifest.search.clone();
        let wants = Self { rows: rows.collect(), server_tools, account, search };
        let further: Vec<_> = wants.further().collect();
        permissions::check_wanted(&agent.manifest.name.to_string(), said, &further)?;
        Ok(wants)
    }

    /// What is wanted of providers beside answers.
    fn further(&self) -> impl Iterator<Item = Capability> {
        let account = self.account.iter().cloned().map(Capability::Account);
        let search = self.search.iter().cloned().map(Capability::Search);
        self.server_tools.iter().map(Capability::ServerTool).chain(account).chain(search)
    }

    /// What providers may do by themselves, when all that is wanted was granted.
    pub(crate) fn server_tools(&self) -> ServerTools {
        self.server_tools
    }

    /// Everything that was asked for.
    pub(crate) fn all(&self) -> impl Iterator<Item = Capability> {
        self.rows.iter().map(|row| Capability::Egress(row.egress.clone())).chain(self.further())
    }

    /// What nobody has allowed yet.
    pub(crate) fn open(&self) -> impl Iterator<Item = Capability> {
        let open = self.rows.iter().filter(|row| row.by.is_none());
        open.map(|row| Capability::Egress(row.egress.clone())).chain(self.further())
    }

    /// The rules of a run whose open wants were granted. In a simulated run each is narrowed to the hosts that the
    /// scenario scripts.
    pub(crate) fn granted(self, upstream: &Upstream) -> Vec<Rule> {
        let origin = |by: Option<RuleOrigin>| by.unwrap_or(RuleOrigin::Manifest);
        let hosts = self.rows.iter().flat_map(|row| rules(&row.egress, origin(row.by), upstream));
        let accounts = self.account.iter().filter_map(|want| {
            let provider = upstream.catalog.provider(want.provider.as_str())?;
            Some(rules(&account::at(provider, want)?, RuleOrigin::Account, upstream))
        });
        let searchers = self.search.iter().filter_map(|slug| upstream.catalog.searcher(slug.as_str()));
        let searches =
            searchers.flat_map(search::wants).flat_map(|want| rules(&want, RuleOrigin::Manifest, upstream));
        hosts.chain(accounts.flatten()).chain(searches).collect()
    }

    /// The paths of providers' accounts, when all that is wanted was granted.
    pub(crate) fn account(&self) -> &[AccountWant] {
        &self.account
    }
}

/// Everything at a host, for the agent that no manifest narrows.
fn whole(host: &AllowedHost) -> EgressWant {
    EgressWant {
        host: host.host.clone(),
        port: Some(host.port),
        scheme: Scheme::Https,
        methods: Vec::new(),
        paths: Vec::new(),
    }
}

fn not_wanted(agent: &Agent, host: &AllowedHost) -> Failure {
    let name = &agent.manifest.name;
    let asked: Vec<String> =
        agent.manifest.egress.iter().map(|want| AllowedHost::for_want(want).to_string()).collect();
    let asked = if asked.is_empty() { "no host".to_owned() } else { asked.join(", ") };
    Failure::usage("allow_not_wanted", format!("--allow {host}: {name} does not ask for it")).hint(format!(
        "an agent reaches only what its manifest asks for under `egress`; {name} asks for {asked}"
    ))
}

fn rules(want: &EgressWant, origin: RuleOrigin, upstream: &Upstream) -> Vec<Rule> {
    let rule = Rule::of_want(want, origin);
    match upstream.scripted(rule.scheme, &rule.host, rule.port) {
        None => vec![rule],
        Some(hosts) => hosts
            .into_iter()
            .map(|host| Rule { host, origin: RuleOrigin::Scenario, ..rule.clone() })
            .collect(),
    }
}

/// A placeholder of the run, and the variable that the guest finds it in.
pub(crate) struct Issued {
    /// The variable.
    pub(crate) name: String,
    /// What stands there.
    pub(crate) placeholder: Placeholder,
    /// The provider whose key it stands for; none for other secrets.
    pub(crate) provider: Option<Slug>,
}

/// One placeholder per key and secret, under the name that client libraries look for.
pub(crate) fn issue(keys: &Keys, catalog: &Catalog) -> Vec<Issued> {
    let mut issued = Vec::new();
    let all: BTreeSet<&Slug> = keys.providers.keys().chain(keys.searchers.keys()).collect();
    for slug in all {
        let canonical = catalog.anybody(slug.as_str()).and_then(|provider| provider.env.first());
        if let Some(name) = canonical {
            issued.push(Issued {
                name: name.clone(),
                placeholder: Placeholder::random(),
                provider: Some(slug.clone()),
            });
        }
    }
    for secret in &keys.secrets {
        issued.push(Issued {
            name: secret.name.to_string(),
            placeholder: Placeholder::random(),
            provider: None,
        });
    }
    issued
}

/// The guest's whole environment, in the order in which later entries win.
pub(crate) fn guest_environment(
    run: &RunId,
    manifest: &Manifest,
    callers: &[(String, String)],
    issued: &[Issued],
    models: bool,
) -> Result<Vec<(String, String)>, Failure> {
    let mut env: Vec<(String, String)> = vec![
        ("ORCH_RUN_ID".into(), run.to_string()),
        ("ORCH_AGENT".into(), manifest.name.to_string()),
        ("ORCH_VERSION".into(), manifest.version.to_string()),
    ];
    if models {
        let gateway = format!("http://{GATEWAY_HOST}");
        for name in ["ORCH_LLM_URL", "OPENAI_BASE_URL"] {
            env.push((name.into(), format!("{gateway}/v1")));
        }
        for name in ["ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL"] {
            env.push((name.into(), gateway.clone()));
        }
    }
    env.extend(issued.iter().map(|issued| (issued.name.clone(), issued.placeholder.to_string())));
    let said = manifest.env.iter().chain(callers.iter().map(|(n, v)| (n, v)));
    for (name, value) in said {
        if name.starts_with(RESERVED_PREFIX) || issued.iter().any(|issued| issued.name == *name) {
            return Err(Failure::usage(
                "env_reserved",
                format!("the variable {name} is set by orch and cannot be given another value"),
            ));
        }
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value.clone()));
    }
    Ok(env)
}

/// What a grant is made of beside the rules.
pub(crate) struct Terms<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) workspace: &'a str,
    pub(crate) keys: &'a Keys,
    /// What was granted of providers' accounts.
    pub(crate) account: &'a [AccountWant],
    pub(crate) issued: &'a [Issued],
    pub(crate) catalog: &'a Catalog,
    pub(crate) limits: &'a RunLimits,
    /// The operator's policy on trial, and the caller's.
    pub(crate) trials: [Option<&'a [EgressWant]>; 2],
    pub(crate) expires: Instant,
}

/// The grant: rules for hosts, bindings for secrets, bounds and an end.
pub(crate) fn grant(terms: &Terms<'_>, rules: Vec<Rule>) -> Grant {
    let Terms { run, workspace, keys, account, issued, catalog, limits, trials, expires } = *terms;
    let provider_keys = issued.iter().filter_map(|issued| {
        let provider = catalog.provider(issued.provider.as_ref()?.as_str())?;
        let credential = keys.providers.get(&provider.slug)?;
        let site = credential.site();
        let there = site.and_then(|site| provider.at(&site).ok());
        let provider = there.as_deref().unwrap_or(provider);
        let own = provider_binding(provider, issued.placeholder.clone(), credential.clone())?;
        let wanted = account.iter().filter(|want| provider.goes_by(want.provider.as_str()));
        let further: Vec<Binding> = match keys.accounts.get(&provider.slug) {
            None => Vec::new(),
            Some(key) => wanted
                .flat_map(|want| account::bindings(provider, want, &issued.placeholder, key, &own.place))
                .collect(),
        };
        Some(further.into_iter().chain([own]))
    });
    let searches = issued.iter().filter_map(|issued| {
        let provider = catalog.searcher(issued.provider.as_ref()?.as_str())?;
        let credential = keys.searchers.get(&provider.slug)?.clone();
        search::binding(provider, issued.placeholder.clone(), credential)
    });
    let secrets = keys.secrets.iter().filter_map(|secret| {
        let issued =
            issued.iter().find(|issued| issued.provider.is_none() && issued.name == secret.name.as_str())?;
        Some(secret_bindings(secret, &issued.placeholder))
    });
    Grant {
        run: run.clone(),
        workspace: workspace.to_owned(),
        rules,
        trials: on_trial(trials),
        bindings: provider_keys.flatten().chain(searches).chain(secrets.flatten()).collect(),
        limits: limits.network,
        expires,
    }
}

/// The rules of each policy on trial. Who wrote them matters to nobody: they allow nothing.
fn on_trial(trials: [Option<&[EgressWant]>; 2]) -> Vec<Vec<Rule>> {
    let origins = [RuleOrigin::Config, RuleOrigin::Flag];
    let rules = |(policy, origin): (Option<&[EgressWant]>, _)| {
        Some(policy?.iter().map(|want| Rule::of_want(want, origin)).collect())
    };
    trials.into_iter().zip(origins).filter_map(rules).collect()
}

/// Where a provider reads its key; none where it wants none.
fn place(provider: &Provider) -> Option<Place> {
    Some(Place::Header(provider.auth.header()?.0))
}

/// A provider's key is bound to the catalog's inference paths, in the header that the provider reads.
fn provider_binding(
    provider: &Provider,
    placeholder: Placeholder,
    credential: Arc<dyn Credential>,
) -> Option<Binding> {
    let place = place(provider)?;
    // A pin, whether name or address, is for requests that the gateway builds: even where a guest may reach that host,
    // the key does not go with its own requests, which no plan, budget or receipt covers. The placeholder is bound all
    // the same, since showing it is how a guest asks the passthrough for this key.
    let host = match &provider.endpoint.host {
        Host::Name(host) if !provider.pinned => Some(host),
        _ => None,
    };
    let targets = host
        .into_iter()
        .flat_map(|host| provider.inference.iter().map(move |inference| (host, inference)))
        .filter_map(|(host, inference)| {
            let paths: Vec<PathGlob> =
                inference.patterns().iter().map(|path| path.parse().ok()).collect::<Option<_>>()?;
            // No path at all would stand for every one.
            if paths.is_empty() {
                return None;
            }
            Some(Target {
                scheme: provider.endpoint.scheme,
                host: HostPattern::Exact(host.clone()),
                port: provider.endpoint.port,
                methods: Methods::Only(vec![inference.method.clone()]),
                paths,
            })
        })
        .collect();
    Some(Binding { placeholder, credential, targets, place })
}

/// A secret is bound to what its owner granted, place by place.
pub(crate) fn secret_bindings(secret: &BoundSecret, placeholder: &Placeholder) -> Vec<Binding> {
    let mut bindings: Vec<Binding> = Vec::new();
    for Way { target, place, .. } in &secret.ways {
        match bindings.iter_mut().find(|binding| binding.place == *place) {
            Some(binding) => binding.targets.push(target.clone()),
            None => bindings.push(Binding {
                placeholder: placeholder.clone(),
                credential: secret.credential.clone(),
                targets: vec![target.clone()],
                place: place.clone(),
            }),
        }
    }
    bindings
}
