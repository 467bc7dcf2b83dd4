//! From what was granted to the grant that the proxy enforces, and to what the guest sees of it.

use std::sync::Arc;

use orch_manifests::{Auth, Catalog, EgressWant, Host, HostPattern, Provider, RunId, Scheme};
use orch_proxy::{Binding, Credential, Grant, Methods, Place, Placeholder, Rule, RuleOrigin, Target};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::door::GATEWAY_HOST;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::limits::RunLimits;
use crate::permissions::{AllowedHost, Capability};
use crate::run::RunRequest;
use crate::upstream::Upstream;

/// Requests of one run that may be under way at once.
const CONCURRENT: u32 = 64;
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
        let host =
            AllowedHost::parse(text).map_err(|e| Failure::usage("bad_usage", format!("--allow {e}")))?;
        allowed.push(Allowed { host, origin: RuleOrigin::Flag });
    }
    allowed.extend(config.iter().map(|host| Allowed { host: host.clone(), origin: RuleOrigin::Config }));
    Ok(allowed)
}

/// What an agent asked for, each with the rule it becomes and whether somebody granted it already.
pub(crate) struct Permitted {
    rows: Vec<Row>,
}

struct Row {
    capability: Capability,
    granted: bool,
    rules: Vec<Rule>,
}

impl Permitted {
    /// Compares the manifest's wants with what was allowed. For a bare module the command line is the manifest.
    pub(crate) fn of(agent: &Agent, allowed: &[Allowed], upstream: &Upstream) -> Result<Self, Failure> {
        if agent.bare {
            let rows = allowed
                .iter()
                .filter(|allowed| allowed.origin == RuleOrigin::Flag)
                .map(|allowed| bare_row(&allowed.host, upstream))
                .collect::<Result<_, _>>()?;
            return Ok(Self { rows });
        }
        let wants = &agent.manifest.egress;
        for allowed in allowed.iter().filter(|allowed| allowed.origin == RuleOrigin::Flag) {
            if !wants.iter().any(|want| allowed.host.covers(want)) {
                return Err(Failure::usage(
                    "allow_not_wanted",
                    format!("--allow {}: {} does not ask for it", allowed.host.host(), agent.manifest.name),
                )
                .hint("an agent reaches only what its manifest asks for under `egress`"));
            }
        }
        let rows = wants
            .iter()
            .map(|want| {
                let by = allowed.iter().find(|allowed| allowed.host.covers(want));
                let origin = by.map_or(RuleOrigin::Manifest, |allowed| allowed.origin);
                Row {
                    capability: Capability::Egress(want.clone()),
                    granted: by.is_some(),
                    rules: rules(want, origin, upstream),
                }
            })
            .collect();
        Ok(Self { rows })
    }

    /// Everything that was asked for.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Capability> {
        self.rows.iter().map(|row| &row.capability)
    }

    /// What nobody has granted yet.
    pub(crate) fn ungranted(&self) -> impl Iterator<Item = Capability> {
        self.rows.iter().filter(|row| !row.granted).map(|row| row.capability.clone())
    }

    /// The same with everything granted: the user said yes to the rest.
    pub(crate) fn granted(mut self) -> Self {
        for row in &mut self.rows {
            row.granted = true;
        }
        self
    }
}

fn bare_row(host: &AllowedHost, upstream: &Upstream) -> Result<Row, Failure> {
    let pattern: HostPattern = host
        .host()
        .parse()
        .map_err(|e| Failure::usage("bad_usage", format!("--allow {}: {e}", host.host())))?;
    let want = EgressWant {
        host: pattern,
        port: host.port(),
        scheme: Scheme::Https,
        methods: Vec::new(),
        paths: Vec::new(),
    };
    let rules = rules(&want, RuleOrigin::Flag, upstream);
    Ok(Row { capability: Capability::Egress(want), granted: true, rules })
}

/// A want's rule. In a simulated run it is narrowed to the hosts that the scenario scripts.
fn rules(want: &EgressWant, origin: RuleOrigin, upstream: &Upstream) -> Vec<Rule> {
    let port = want.effective_port();
    let rule = |host: HostPattern, origin| Rule {
        scheme: want.scheme,
        host,
        port,
        methods: Methods::from(want.methods.clone()),
        paths: want.paths.clone(),
        origin,
    };
    match upstream.scripted(want.scheme, &want.host, port) {
        None => vec![rule(want.host.clone(), origin)],
        Some(hosts) => hosts.into_iter().map(|host| rule(host, RuleOrigin::Scenario)).collect(),
    }
}

/// A placeholder of the run, and the variable that the guest finds it in.
pub(crate) struct Issued {
    /// The variable.
    pub(crate) name: String,
    /// What stands there.
    pub(crate) placeholder: Placeholder,
    /// The provider whose key it stands for; none for other secrets.
    pub(crate) provider: Option<orch_manifests::Slug>,
}

/// One placeholder per key and secret, under the name that client libraries look for.
pub(crate) fn issue(keys: &Keys, catalog: &Catalog) -> Vec<Issued> {
    let mut issued = Vec::new();
    for slug in keys.providers.keys() {
        let canonical = catalog.provider(slug.as_str()).and_then(|provider| provider.env.first());
        if let Some(name) = canonical {
            issued.push(Issued {
                name: name.clone(),
                placeholder: Placeholder::random(),
                provider: Some(slug.clone()),
            });
        }
    }
    for secret in &keys.secrets {
        issued.push(Issued { name: secret.name.clone(), placeholder: Placeholder::random(), provider: None });
    }
    issued
}

/// The guest's whole environment, in the order in which later entries win.
pub(crate) fn guest_environment(
    run: &RunId,
    request: &RunRequest,
    issued: &[Issued],
    models: bool,
) -> Result<Vec<(String, String)>, Failure> {
    let manifest = &request.agent.manifest;
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
    let said = manifest.env.iter().chain(request.env.iter().map(|(n, v)| (n, v)));
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
    pub(crate) issued: &'a [Issued],
    pub(crate) catalog: &'a Catalog,
    pub(crate) limits: &'a RunLimits,
    pub(crate) expires: Instant,
}

/// The grant: rules for hosts, bindings for secrets, bounds and an end.
pub(crate) fn grant(terms: &Terms<'_>, permitted: Permitted) -> Grant {
    let Terms { run, workspace, keys, issued, catalog, limits, expires } = *terms;
    let provider_keys = issued.iter().filter_map(|issued| {
        let provider = catalog.provider(issued.provider.as_ref()?.as_str())?;
        let credential = keys.providers.get(&provider.slug)?;
        Some(provider_binding(provider, issued.placeholder.clone(), credential.clone()))
    });
    let secrets = keys.secrets.iter().filter_map(|secret| {
        let issued = issued.iter().find(|issued| issued.provider.is_none() && issued.name == secret.name)?;
        Some(Binding {
            placeholder: issued.placeholder.clone(),
            credential: secret.credential.clone(),
            targets: secret.hosts.iter().map(secret_target).collect(),
            place: Place::Header(secret.header.clone()),
        })
    });
    Grant {
        run: run.clone(),
        workspace: workspace.to_owned(),
        rules: permitted.rows.into_iter().flat_map(|row| row.rules).collect(),
        bindings: provider_keys.flatten().chain(secrets).collect(),
        requests: limits.requests,
        concurrent: CONCURRENT,
        expires,
    }
}

/// A provider's key is bound to the catalog's inference paths, in the header that the provider reads.
fn provider_binding(
    provider: &Provider,
    placeholder: Placeholder,
    credential: Arc<dyn Credential>,
) -> Option<Binding> {
    let place = match &provider.auth {
        Auth::None => return None,
        Auth::Bearer => Place::Header(http::header::AUTHORIZATION),
        Auth::Header(name) => Place::Header(name.clone()),
    };
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
            Some(Target {
                scheme: provider.endpoint.scheme,
                host: HostPattern::Exact(host.clone()),
                port: provider.endpoint.port,
                methods: Methods::Only(vec![inference.method.clone()]),
                paths: vec![inference.path.parse().ok()?],
            })
        })
        .collect();
    Some(Binding { placeholder, credential, targets, place })
}

/// A secret goes over TLS only, to the host that its owner named, whatever method and path the rules allow there.
fn secret_target(host: &HostPattern) -> Target {
    Target {
        scheme: Scheme::Https,
        host: host.clone(),
        port: Scheme::Https.default_port(),
        methods: Methods::Any,
        paths: Vec::new(),
    }
}
