//! Secrets that are not a provider's key: where their owner lets them go, and what an agent may have of that.
//!
//! The owner is who stored the secret, or gave it at this run with `--secret NAME@HOST`. A manifest asks and narrows.

use std::sync::Arc;

use orch_manifests::{Auth, Catalog, HostPattern, Manifest, Provider};
use orch_proxy::{Credential, Place, Target};
use orch_vault::{GrantId, Secret, SecretName, Source};
use time::OffsetDateTime;

use super::KeyQuestion;
use super::sources::KeySources;
use crate::credential::{HeldCredential, Lease};
use crate::failure::{Failure, Kind};
use crate::owner::{OwnerGrant, anything_at};
use crate::permissions::Capability;
use crate::secret::Current;

/// A secret, and where it may go.
pub(crate) struct BoundSecret {
    pub(crate) name: SecretName,
    pub(crate) credential: Arc<dyn Credential>,
    pub(crate) ways: Vec<Way>,
}

/// One way for a secret to go.
pub(crate) struct Way {
    pub(crate) target: Target,
    pub(crate) place: Place,
    /// The owner's grant of it; none when the caller said so for this run.
    pub(crate) grant: Option<GrantId>,
}

/// `NAME@HOST` of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretGrant {
    name: SecretName,
    host: HostPattern,
}

impl SecretGrant {
    /// Parses `NAME@HOST`.
    ///
    /// # Errors
    /// When it is not that, or names a provider's key, whose place the catalog decides.
    pub(crate) fn parse(text: &str, catalog: &Catalog) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::usage("bad_usage", format!("--secret {text:?}: {why}"))
                .hint("--secret GITHUB_TOKEN@api.github.com")
        };
        let (name, host) = text.split_once('@').ok_or_else(|| wrong("it is not NAME@HOST".to_owned()))?;
        let name: SecretName = name.parse().map_err(|e| wrong(format!("{e}")))?;
        let host = host.parse().map_err(|e| wrong(format!("{e}")))?;
        if let Some(provider) = catalog.provider_of_key(name.as_str()) {
            return Err(Failure::usage(
                "secret_of_provider",
                format!(
                    "--secret {text:?}: {name} is the key of {}, which goes to that provider and nowhere else",
                    provider.name
                ),
            ));
        }
        Ok(Self { name, host })
    }

    /// Where the secret may go.
    pub(crate) fn host(&self) -> &HostPattern {
        &self.host
    }

    /// The secret.
    pub(crate) fn name(&self) -> &SecretName {
        &self.name
    }
}

/// One secret that the agent asks for.
pub(super) struct Asked {
    pub(super) name: SecretName,
    /// The hosts that the manifest narrows it to; none when it leaves that to the owner.
    hosts: Option<Vec<HostPattern>>,
}

/// What the manifest asks for; for a bare module the command line is the manifest.
///
/// # Errors
/// When the caller grants a secret that the manifest does not ask for.
pub(super) fn asked(manifest: &Manifest, bare: bool, grants: &[SecretGrant]) -> Result<Vec<Asked>, Failure> {
    let mut asked: Vec<Asked> = Vec::new();
    for want in &manifest.secrets {
        let name = want.name.as_str().parse().map_err(|e| {
            Failure::usage("secret_name_invalid", format!("the manifest's secret {}: {e}", want.name))
        })?;
        asked.push(Asked { name, hosts: (!want.hosts.is_empty()).then(|| want.hosts.clone()) });
    }
    for grant in grants {
        if asked.iter().any(|known| known.name == grant.name) {
            continue;
        }
        if !bare {
            return Err(Failure::usage(
                "secret_not_wanted",
                format!("--secret {}: {} does not ask for that secret", grant.name, manifest.name),
            )
            .hint("an agent gets only what its manifest asks for under `secrets`"));
        }
        asked.push(Asked { name: grant.name.clone(), hosts: None });
    }
    Ok(asked)
}

/// Opens one secret and binds it. Beside it is what somebody still has to grant: each host that the caller did not
/// name, unless the owner named the agent and names can be relied on.
pub(super) fn open(
    asked: &Asked,
    question: &KeyQuestion<'_>,
    sources: &KeySources<'_>,
) -> Result<(BoundSecret, Vec<Capability>), Failure> {
    let KeyQuestion { manifest, bare, secret_grants: grants, names_prove, .. } = *question;
    let Asked { name, hosts: narrowed } = asked;
    let secret = sources.in_vault(name)?.ok_or_else(|| {
        Failure::new(
            Kind::NoKey,
            "secret_missing",
            format!("{} needs the secret {name}, and the vault does not hold it", manifest.name),
        )
        .hint(format!("orch secrets set {name} --host HOST"))
    })?;
    let current = secret.current().map_err(|error| unusable(name, &error.to_string()))?;
    let by_caller: Vec<HostPattern> =
        grants.iter().filter(|grant| grant.name == *name).map(|grant| grant.host.clone()).collect();
    // Without a manifest the command line is all that is asked for, however much the row would allow.
    let owners: &[OwnerGrant] = if bare { &[] } else { &current.grants };
    let (mut ways, mut ungranted) = (Vec::new(), Vec::new());
    for host in narrow(&by_caller, narrowed.as_deref()) {
        // A caller says hosts only; where in a request it stands there is what the owner said of that host.
        let there = |grant: &&OwnerGrant| {
            grant.target.as_ref().is_some_and(|target| target.host.covers(&host) || host.covers(&target.host))
        };
        let place = current.grants.iter().find(there).map(|grant| grant.place.clone());
        let place = place.or_else(|| only_place(&current)).unwrap_or(AUTHORIZATION);
        ways.push(Way { target: anything_at(host), place, grant: None });
    }
    let mut left_out = LeftOut::default();
    for grant in owners {
        let Some(target) = &grant.target else { continue };
        let hosts = narrow(std::slice::from_ref(&target.host), narrowed.as_deref());
        if hosts.is_empty() || !left_out.keeps(grant, manifest) {
            continue;
        }
        for host in hosts {
            let owner_named_it = grant.names(&manifest.name) && names_prove;
            let capability = Capability::Secret { name: name.to_string(), host: host.to_string() };
            let said = owner_named_it || by_caller.iter().any(|said| said.covers(&host));
            if !said && !ungranted.contains(&capability) {
                ungranted.push(capability);
            }
            let target = Target { host, ..target.clone() };
            ways.push(Way { target, place: grant.place.clone(), grant: Some(grant.id()) });
        }
    }
    if ways.is_empty() {
        return Err(left_out.refusal(name, manifest, narrowed.as_deref()));
    }
    if current.summary.never_in_header && ways.iter().any(|way| matches!(way.place, Place::Header(_))) {
        return Err(unusable(name, "its owner says that it never goes into a header"));
    }
    let granted = ways.iter().filter_map(|way| way.grant).collect();
    let held =
        HeldCredential::lent(secret, Auth::None, Lease::Secret(granted, by_caller), Some(question.run));
    Ok((BoundSecret { name: name.clone(), credential: Arc::new(held), ways }, ungranted))
}

/// Where a value stands when nothing is said.
const AUTHORIZATION: Place = Place::Header(http::header::AUTHORIZATION);

/// The one place that all of the owner's grants name.
fn only_place(current: &Current) -> Option<Place> {
    let mut places = current.grants.iter().map(|grant| &grant.place);
    let first = places.next()?;
    places.all(|place| place == first).then(|| first.clone())
}

/// The owner's grants that would fit, and do not let this run.
#[derive(Default)]
struct LeftOut {
    /// For other agents.
    agents: Vec<String>,
    /// Used up.
    spent: Option<String>,
}

impl LeftOut {
    /// Whether the grant lets this run; why not is kept.
    fn keeps(&mut self, grant: &OwnerGrant, manifest: &Manifest) -> bool {
        if !grant.is_for(&manifest.name) {
            self.agents.extend(grant.agents().iter().cloned());
            return false;
        }
        match grant.grant.open(OffsetDateTime::now_utc()) {
            Ok(()) => true,
            Err(why) => {
                self.spent = Some(format!("grant {}: {why}", grant.id()));
                false
            }
        }
    }

    fn refusal(self, name: &SecretName, manifest: &Manifest, narrowed: Option<&[HostPattern]>) -> Failure {
        let agent = &manifest.name;
        let host = narrowed.and_then(<[_]>::first).map_or_else(|| "HOST".to_owned(), ToString::to_string);
        let (code, text) = if let Some(why) = self.spent {
            ("secret_used_up", format!("what was granted of {name} is used up: {why}"))
        } else if self.agents.is_empty() {
            let text = format!("nobody said where {name} may be sent to, or not where {agent} asks");
            ("secret_unbound", text)
        } else {
            ("secret_not_for_agent", format!("{name} is for {}, and not for {agent}", self.agents.join(", ")))
        };
        Failure::new(Kind::Denied, code, text)
            .hint(format!("for this run: --secret {name}@{host}"))
            .hint(format!("for good: orch secrets grants add {name} --host {host} --agent {agent}"))
    }
}

/// Which of the owner's grants lets a run use a provider's key: none is needed when there are none.
///
/// # Errors
/// The owner bound the key to grants, and none of them is for this run.
pub(super) fn key_grant(current: &Current, manifest: &Manifest) -> Result<Option<GrantId>, Failure> {
    current.check_is_key()?;
    if !current.summary.bound {
        return Ok(None);
    }
    let mut left_out = LeftOut::default();
    match current.grants.iter().find(|grant| left_out.keeps(grant, manifest)) {
        Some(grant) => Ok(Some(grant.id())),
        None => {
            let name = &current.summary.name;
            let LeftOut { agents, spent } = left_out;
            let (code, text) = match spent {
                Some(why) => ("secret_used_up", format!("what was granted of {name} is used up: {why}")),
                None if agents.is_empty() => (
                    "secret_not_granted",
                    format!("every grant of {name} was taken back, and it is for nobody since"),
                ),
                None => (
                    "secret_not_for_agent",
                    format!("{name} is for {}, and not for {}", agents.join(", "), manifest.name),
                ),
            };
            Err(Failure::new(Kind::Denied, code, text)
                .hint(format!("orch secrets grants add {name} --agent {}", manifest.name)))
        }
    }
}

/// The grants by which a provider's key may go to paths of its account, for a manifest that wants some.
///
/// # Errors
/// When its owner granted this agent none.
pub(super) fn account_grants(
    current: &Current,
    manifest: &Manifest,
    provider: &Provider,
) -> Result<Vec<GrantId>, Failure> {
    let mut left_out = LeftOut::default();
    let opening = current.grants.iter().filter(|grant| grant.opens_account());
    let kept: Vec<GrantId> =
        opening.filter(|grant| left_out.keeps(grant, manifest)).map(OwnerGrant::id).collect();
    if !kept.is_empty() {
        return Ok(kept);
    }
    let (name, agent) = (&current.summary.name, &manifest.name);
    let wants = manifest.llm.iter().flat_map(|llm| &llm.account);
    let wants = wants.filter(|want| provider.goes_by(want.provider.as_str()));
    let entries: Vec<String> = wants
        .flat_map(|want| {
            want.methods.iter().flat_map(|method| want.paths.iter().map(move |path| (method, path)))
        })
        .map(|(method, path)| format!("--account '{method}:{path}'"))
        .collect();
    let text = format!(
        "{agent} wants paths of {}'s account, and the owner of {name} granted it none",
        provider.slug
    );
    Err(Failure::new(Kind::Denied, "account_not_granted", text)
        .hint(format!("orch secrets grants add {name} --agent {agent} {}", entries.join(" "))))
}

/// A random value in a secret's place, for a simulated run.
pub(super) fn simulated(asked: &Asked, grants: &[SecretGrant], value: Secret) -> BoundSecret {
    let Asked { name, hosts: narrowed } = asked;
    let by_caller: Vec<HostPattern> =
        grants.iter().filter(|grant| grant.name == *name).map(|grant| grant.host.clone()).collect();
    // Nobody looks into the vault, so what the manifest asks stands for what the owner would have said.
    let hosts = match narrowed {
        Some(asked) if by_caller.is_empty() => asked.clone(),
        _ => narrow(&by_caller, narrowed.as_deref()),
    };
    let way = |host| Way {
        target: anything_at(host),
        place: Place::Header(http::header::AUTHORIZATION),
        grant: None,
    };
    let held = HeldCredential::given(name.to_string(), Source::Simulated, Auth::None, value);
    let ways = hosts.into_iter().map(way).collect();
    BoundSecret { name: name.clone(), credential: Arc::new(held), ways }
}

fn unusable(name: &SecretName, why: &str) -> Failure {
    Failure::usage("secret_invalid", format!("{name}: {why}"))
}

/// The manifest may only narrow: a host survives when the manifest names it, or names a pattern that covers it.
fn narrow(owner: &[HostPattern], manifest: Option<&[HostPattern]>) -> Vec<HostPattern> {
    let mut hosts: Vec<HostPattern> = Vec::new();
    let mut keep = |host: &HostPattern| {
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    };
    for host in owner {
        let Some(manifest) = manifest else {
            keep(host);
            continue;
        };
        for asked in manifest {
            if asked.covers(host) {
                keep(host);
            } else if host.covers(asked) {
                keep(asked);
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<HostPattern> {
        texts.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    #[test]
    fn a_manifest_narrows_and_never_widens() {
        for (owner, manifest, left) in [
            (&["a.example", "b.example"][..], None, &["a.example", "b.example"][..]),
            (&["a.example", "b.example"], Some(&["b.example"][..]), &["b.example"]),
            (&["*.a.example"], Some(&["x.a.example"]), &["x.a.example"]),
            (&["x.a.example"], Some(&["*.a.example"]), &["x.a.example"]),
            (&["*.a.example"], Some(&["a.example"]), &[]),
            (&["a.example"], Some(&["b.example", "c.example"]), &[]),
            (&["a.example", "a.example"], Some(&["a.example"]), &["a.example"]),
            (&[], Some(&["a.example"]), &[]),
        ] {
            let manifest = manifest.map(patterns);
            assert_eq!(
                narrow(&patterns(owner), manifest.as_deref()),
                patterns(left),
                "{owner:?} {manifest:?}"
            );
        }
    }

    #[test]
    fn a_grant_is_a_name_and_a_host() {
        let catalog = Catalog::builtin();
        let grant = SecretGrant::parse("TOKEN@*.a.example", &catalog).expect("a grant");
        assert_eq!((grant.name.as_str(), grant.host.to_string()), ("TOKEN", "*.a.example".to_owned()));
        for bad in ["TOKEN", "TOKEN@", "@a.example", "TOKEN@10.0.0.1", "TOKEN@*.com", "to ken@a.example"] {
            assert_eq!(SecretGrant::parse(bad, &catalog).expect_err(bad).code(), "bad_usage");
        }
        for key in ["OPENAI_API_KEY", "GOOGLE_API_KEY"] {
            let failure = SecretGrant::parse(&format!("{key}@evil.example"), &catalog).expect_err(key);
            assert_eq!(failure.code(), "secret_of_provider", "{failure}");
        }
    }
}
