//! What the owner of a secret granted, as the broker enforces it: the vault keeps texts, and here they are parsed.

use http::Method;
use orch_manifests::{AgentName, HostPattern, PathGlob, Scheme};
use orch_proxy::{Asked, Methods, Place, Target};
use orch_vault::{Grant, GrantId, GrantTerms, ValuePlace};

/// One grant of a secret's owner.
pub(crate) struct OwnerGrant {
    /// As the vault has it.
    pub(crate) grant: Grant,
    /// Where the value may go with it; none: where the catalog says.
    pub(crate) target: Option<Target>,
    /// Where in the request; the `Authorization` header when nothing is said.
    pub(crate) place: Place,
    /// Requests to the provider's account that its key may go with.
    account: Vec<(Method, PathGlob)>,
    agents: Vec<AgentName>,
}

/// One of those requests as it is written: `GET:/v1/files/**`.
///
/// # Errors
/// Why it is none.
pub(crate) fn account_entry(text: &str) -> Result<(Method, PathGlob), String> {
    let (method, path) = text.split_once(':').ok_or("it is not METHOD:PATH")?;
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let method = known.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(method));
    let method = method.ok_or("its method is not one that can be granted")?;
    Ok((method, path.parse::<PathGlob>().map_err(|e| format!("its path: {e}"))?))
}

impl OwnerGrant {
    /// Parses a grant.
    ///
    /// # Errors
    /// What of it makes no sense: then it allows nothing.
    pub(crate) fn read(grant: &Grant) -> Result<Self, String> {
        let GrantTerms { host, methods, paths, place, account, agents, .. } = &grant.terms;
        let host: Option<HostPattern> = match host {
            Some(host) => Some(host.parse().map_err(|e| format!("the host {host:?}: {e}"))?),
            None => None,
        };
        let methods = methods.iter().map(|method| {
            method.parse::<Method>().map_err(|_| format!("{method:?} is not the name of a method"))
        });
        let paths =
            paths.iter().map(|path| path.parse::<PathGlob>().map_err(|e| format!("the path {path:?}: {e}")));
        let agents =
            agents.iter().map(|agent| agent.parse().map_err(|e| format!("the agent {agent:?}: {e}")));
        let place = match place {
            None => Place::Header(http::header::AUTHORIZATION),
            Some(ValuePlace::Header(name)) => {
                Place::Header(name.parse().map_err(|_| format!("{name:?} is not the name of a header"))?)
            }
            Some(ValuePlace::Query(name)) => Place::Query(name.clone()),
        };
        let (methods, paths) = (methods.collect::<Result<Vec<_>, _>>()?, paths.collect::<Result<_, _>>()?);
        let target = host.map(|host| Target { methods: methods.into(), paths, ..anything_at(host) });
        let account = account.iter().map(|entry| account_entry(entry).map_err(|e| format!("{entry:?}: {e}")));
        Ok(Self {
            grant: grant.clone(),
            target,
            place,
            account: account.collect::<Result<_, _>>()?,
            agents: agents.collect::<Result<_, _>>()?,
        })
    }

    /// Which one it is.
    pub(crate) fn id(&self) -> GrantId {
        self.grant.id
    }

    /// Whether its owner named this agent.
    pub(crate) fn names(&self, agent: &AgentName) -> bool {
        self.agents.contains(agent)
    }

    /// Whether this agent may have it, as far as its name says.
    pub(crate) fn is_for(&self, agent: &AgentName) -> bool {
        self.agents.is_empty() || self.names(agent)
    }

    /// Whether it is for runs alone: clients of the gateway are no agents, and no runs.
    pub(crate) fn is_for_runs(&self) -> bool {
        !self.agents.is_empty() || self.grant.terms.runs.is_some()
    }

    /// The agents that it is for, as they are written.
    pub(crate) fn agents(&self) -> &[String] {
        &self.grant.terms.agents
    }

    /// Whether it lets a provider's key go to any path of the account.
    pub(crate) fn opens_account(&self) -> bool {
        !self.account.is_empty()
    }

    /// Whether it lets a provider's key go along with this request to the account.
    pub(crate) fn covers_account(&self, asked: &Asked<'_>) -> bool {
        self.account.iter().any(|(method, path)| method == asked.method && path.matches(asked.path))
    }

    /// Whether it covers this request with the value in this place.
    pub(crate) fn covers(&self, asked: &Asked<'_>, place: &Place) -> bool {
        self.place == *place && self.target.as_ref().is_some_and(|target| target.covers(asked))
    }
}

/// Every request to a host over TLS.
pub(crate) fn anything_at(host: HostPattern) -> Target {
    Target {
        scheme: Scheme::Https,
        host,
        port: Scheme::Https.default_port(),
        methods: Methods::Any,
        paths: Vec::new(),
    }
}
