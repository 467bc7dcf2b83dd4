//! Secrets that are not a provider's key: where their owner lets them go, and what an agent may have of that.
//!
//! The owner is who stored the secret, or gave it at this run with `--secret NAME@HOST`. A manifest asks and narrows.

use std::sync::Arc;

use http::HeaderName;
use orch_manifests::{Auth, Catalog, HostPattern, Manifest};
use orch_proxy::Credential;
use orch_vault::{Secret, SecretMeta, SecretName, Source};

use super::KeyQuestion;
use super::sources::KeySources;
use crate::credential::HeldCredential;
use crate::failure::{Failure, Kind};
use crate::permissions::Capability;

/// A secret, and where it may go.
pub(crate) struct BoundSecret {
    pub(crate) name: SecretName,
    pub(crate) credential: Arc<dyn Credential>,
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) header: HeaderName,
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
    let (secret, meta) = sources.in_vault(name)?.ok_or_else(|| {
        Failure::new(
            Kind::NoKey,
            "secret_missing",
            format!("{} needs the secret {name}, and the vault does not hold it", manifest.name),
        )
        .hint(format!("orch secrets set {name} --host HOST"))
    })?;
    let by_caller: Vec<HostPattern> =
        grants.iter().filter(|grant| grant.name == *name).map(|grant| grant.host.clone()).collect();
    // Without a manifest the command line is all that is asked for, however much the row would allow.
    let owner = if bare { by_caller.clone() } else { owner_hosts(name, &meta, &by_caller)? };
    let hosts = narrow(&owner, narrowed.as_deref());
    if hosts.is_empty() {
        return Err(Failure::new(
            Kind::Denied,
            "secret_unbound",
            format!("nobody said where {name} may be sent to, or not where {} asks", manifest.name),
        )
        .hint(format!("--secret {name}@HOST, or orch secrets set {name} --host HOST")));
    }
    let named = meta.agents.iter().any(|agent| *agent == manifest.name.to_string());
    if !meta.agents.is_empty() && !named && by_caller.is_empty() {
        return Err(Failure::new(
            Kind::Denied,
            "secret_not_for_agent",
            format!("{name} is for {}, and not for {}", meta.agents.join(", "), manifest.name),
        )
        .hint(format!("for this run: --secret {name}@{}", hosts[0])));
    }
    let ungranted = hosts
        .iter()
        .filter(|host| {
            let owner_named_it = named && names_prove;
            !owner_named_it && !by_caller.iter().any(|said| said.covers(host))
        })
        .map(|host| Capability::Secret { name: name.to_string(), host: host.to_string() })
        .collect();
    Ok((bind(name, secret, &meta, hosts)?, ungranted))
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
    let held = HeldCredential::new(name.to_string(), Source::Simulated, Auth::None, value);
    BoundSecret { name: name.clone(), credential: Arc::new(held), hosts, header: http::header::AUTHORIZATION }
}

fn bind(
    name: &SecretName,
    secret: Secret,
    meta: &SecretMeta,
    hosts: Vec<HostPattern>,
) -> Result<BoundSecret, Failure> {
    let unusable = |why: String| Failure::usage("secret_invalid", format!("{name}: {why}"));
    if meta.never_in_header {
        return Err(unusable("its owner says that it never goes into a header".to_owned()));
    }
    let header = match meta.header.as_deref() {
        Some(header) => header.parse().map_err(|_| unusable(format!("{header:?} is not a header name")))?,
        None => http::header::AUTHORIZATION,
    };
    let held = HeldCredential::new(name.to_string(), Source::Vault, Auth::None, secret);
    Ok(BoundSecret { name: name.clone(), credential: Arc::new(held), hosts, header })
}

/// Where the owner lets a secret go: what stands in its row, and what the caller says on the command line.
fn owner_hosts(
    name: &SecretName,
    meta: &SecretMeta,
    by_caller: &[HostPattern],
) -> Result<Vec<HostPattern>, Failure> {
    let mut hosts = by_caller.to_vec();
    for host in &meta.hosts {
        hosts.push(
            host.parse().map_err(|e| {
                Failure::usage("secret_invalid", format!("{name}: {host:?} is not a host: {e}"))
            })?,
        );
    }
    Ok(hosts)
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
