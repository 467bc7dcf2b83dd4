//! The keys of one run: found, opened, put on record, and the store closed again.
//!
//! For providers of the catalog: flag, then environment, then vault. For other secrets the vault alone, because the
//! environment has no owner who said where they may go.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use orch_manifests::{Auth, Catalog, HostPattern, Manifest, Provider, RunId, Slug};
use orch_proxy::Credential;
use orch_vault::{
    Depth, ErrorKind, FlagKey, KeyRef, Lookup, Missing, OpenMode, PlannedUse, ResolutionError, Secret,
    SecretMeta, SecretName, Source, Vault, VaultError, VaultLocation, Wanted, resolve_keys,
};

use crate::credential::HeldCredential;
use crate::environment::Environment;
use crate::failure::{Failure, Kind};
use crate::permissions::Capability;

/// Reads a `--key`: `PROVIDER=KEY` when what stands before the first `=` is a provider of the catalog, else a key for
/// the primary provider. Keys may hold `=` themselves.
///
/// # Errors
/// When what stands before the `=` can only be meant as a provider and is none: a mistyped name must not send one
/// provider's key to another.
pub fn flag_key(whole: &Secret, catalog: &Catalog) -> Result<FlagKey, Failure> {
    whole.expose(|bytes| {
        let named = bytes.iter().position(|b| *b == b'=').and_then(|at| {
            let provider = catalog.provider(std::str::from_utf8(&bytes[..at]).ok()?)?;
            Some((provider.slug.to_string(), &bytes[at + 1..]))
        });
        match named {
            Some((provider, key)) => {
                Ok(FlagKey { provider: Some(provider), secret: Secret::new(key.to_vec()) })
            }
            None if looks_named(bytes) => {
                let known: Vec<&str> = catalog.providers().map(|provider| provider.slug.as_str()).collect();
                Err(Failure::usage("provider_unknown", "--key: what stands before the = is no provider")
                    .hint(format!("known providers: {}", known.join(", "))))
            }
            None => Ok(FlagKey { provider: None, secret: Secret::new(bytes.to_vec()) }),
        }
    })
}

/// Whether this reads as `PROVIDER=KEY`: a word of small letters before the `=`, which no key begins with, and more
/// than padding behind it.
fn looks_named(bytes: &[u8]) -> bool {
    let Some(at) = bytes.iter().position(|b| *b == b'=') else { return false };
    let word = bytes[..at].iter().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_'));
    word && (2..=24).contains(&at) && bytes[at + 1..].iter().any(|b| *b != b'=')
}

/// A secret that is not a provider's key, and where its owner lets it go.
pub(crate) struct BoundSecret {
    pub(crate) name: String,
    pub(crate) credential: Arc<dyn Credential>,
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) header: HeaderName,
}

/// What a run holds once its keys are open.
pub(crate) struct Keys {
    pub(crate) providers: BTreeMap<Slug, Arc<dyn Credential>>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) secrets: Vec<BoundSecret>,
    /// What somebody still has to grant.
    pub(crate) ungranted: Vec<Capability>,
}

impl Keys {
    /// Names of the keys and secrets that are too short to be taken out of what hosts answer.
    pub(crate) fn not_scrubbable(&self) -> impl Iterator<Item = &str> {
        let secrets = self.secrets.iter().map(|secret| &secret.credential);
        self.providers.values().chain(secrets).filter(|held| held.scrubber().is_none()).map(|held| held.id())
    }
}

/// `NAME@HOST` of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretGrant {
    pub(crate) name: String,
    pub(crate) host: HostPattern,
}

impl SecretGrant {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::usage("bad_usage", format!("--secret {text:?}: {why}"))
                .hint("--secret GITHUB_TOKEN@api.github.com")
        };
        let (name, host) = text.split_once('@').ok_or_else(|| wrong("it is not NAME@HOST".to_owned()))?;
        let host = host.parse().map_err(|e| wrong(format!("{e}")))?;
        Ok(Self { name: name.to_owned(), host })
    }
}

/// Everything that decides which keys a run gets.
pub(crate) struct KeyQuestion<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) manifest: &'a Manifest,
    /// Whether the command line is the manifest.
    pub(crate) bare: bool,
    /// Providers that the run may use, the plan's primary first.
    pub(crate) wanted: &'a [&'a Provider],
    pub(crate) flags: Vec<FlagKey>,
    pub(crate) environment: &'a Environment,
    pub(crate) vault: &'a VaultLocation,
    pub(crate) secret_grants: &'a [SecretGrant],
}

impl KeyQuestion<'_> {
    /// Finds and opens the keys, records the planned uses of what came from the vault, and closes the vault.
    pub(crate) fn open(mut self) -> Result<Keys, Failure> {
        let source = Sources { environment: self.environment, location: self.vault, vault: OnceCell::new() };
        let wanted: Vec<Wanted<'_>> = self
            .wanted
            .iter()
            .filter(|provider| provider.auth != Auth::None)
            .map(|provider| Wanted { provider: provider.slug.as_str(), names: &provider.env })
            .collect();
        let flags: Vec<_> = self.flags.iter().map(FlagKey::name).collect();
        let resolution = resolve_keys(&wanted, &flags, &source, Depth::First).map_err(resolution_failure)?;

        let primary = wanted.first().map(|want| want.provider.to_owned());
        let mut uses = Vec::new();
        let mut providers: BTreeMap<Slug, Arc<dyn Credential>> = BTreeMap::new();
        for found in resolution.found {
            let provider = self
                .wanted
                .iter()
                .find(|provider| provider.slug.as_str() == found.provider)
                .ok_or_else(|| Failure::defect("a key was resolved for a provider that nobody wanted"))?;
            let secret = match found.source {
                Source::Flag => take_flag(&mut self.flags, &found, primary.as_deref())?,
                Source::Env => self.environment.key(&found.name).ok_or_else(|| gone(&found))?,
                Source::Vault => {
                    let name = secret_name(&found.name)?;
                    uses.push(PlannedUse {
                        run: self.run.to_string(),
                        secret: name.clone(),
                        host: provider.endpoint.host.to_string(),
                    });
                    source.open(&name)?.ok_or_else(|| gone(&found))?.0
                }
                Source::Simulated => return Err(gone(&found)),
            };
            check_value(&found.name, &secret)?;
            let held = HeldCredential::new(found.name, found.source, provider.auth.clone(), secret);
            providers.insert(provider.slug.clone(), Arc::new(held));
        }

        let (secrets, ungranted) = self.open_secrets(&source, &mut uses)?;
        source.record(&uses)?;
        Ok(Keys { providers, missing: resolution.missing, secrets, ungranted })
    }

    /// The simulation's keys, and a random value for each other secret: neither environment nor vault is touched.
    pub(crate) fn simulated(self, providers: BTreeMap<Slug, Arc<dyn Credential>>) -> Result<Keys, Failure> {
        if !self.flags.is_empty() {
            return Err(Failure::usage("bad_usage", "a simulated run uses simulated keys; leave --key out"));
        }
        let mut secrets = Vec::new();
        for want in &self.manifest.secrets {
            let mut bits = [0_u8; 24];
            ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bits)
                .map_err(|_| Failure::defect("the operating system gives no randomness"))?;
            let value = format!("orch-simulated-{}", data_encoding::HEXLOWER.encode(&bits));
            let name = want.name.to_string();
            let secret = Secret::new(value.into_bytes());
            secrets.push(BoundSecret {
                credential: Arc::new(HeldCredential::new(
                    name.clone(),
                    Source::Simulated,
                    Auth::None,
                    secret,
                )),
                name,
                hosts: want.hosts.clone(),
                header: http::header::AUTHORIZATION,
            });
        }
        Ok(Keys { providers, missing: Vec::new(), secrets, ungranted: Vec::new() })
    }

    fn open_secrets(
        &self,
        source: &Sources<'_>,
        uses: &mut Vec<PlannedUse>,
    ) -> Result<(Vec<BoundSecret>, Vec<Capability>), Failure> {
        let asked: Vec<(String, Option<Vec<HostPattern>>)> = if self.bare {
            self.secret_grants.iter().map(|grant| (grant.name.clone(), None)).collect()
        } else {
            if let Some(grant) = self
                .secret_grants
                .iter()
                .find(|g| !self.manifest.secrets.iter().any(|w| w.name.as_str() == g.name))
            {
                return Err(Failure::usage(
                    "secret_not_wanted",
                    format!("--secret {}: {} does not ask for that secret", grant.name, self.manifest.name),
                ));
            }
            let hosts =
                |want: &'_ orch_manifests::SecretWant| (!want.hosts.is_empty()).then(|| want.hosts.clone());
            self.manifest.secrets.iter().map(|want| (want.name.to_string(), hosts(want))).collect()
        };

        let (mut bound, mut ungranted) = (Vec::new(), Vec::new());
        for (name, manifest_hosts) in asked {
            let (secret, meta) = source.open(&secret_name(&name)?)?.ok_or_else(|| {
                Failure::new(
                    Kind::NoKey,
                    "secret_missing",
                    format!("{} needs the secret {name}", self.manifest.name),
                )
                .hint(format!("orch secrets set {name} --host HOST"))
            })?;
            let by_caller: Vec<HostPattern> =
                self.secret_grants.iter().filter(|g| g.name == name).map(|g| g.host.clone()).collect();
            // Without a manifest the command line is all that is asked for, however much the row would allow.
            let owner = if self.bare { by_caller.clone() } else { owner_hosts(&name, &meta, &by_caller)? };
            let hosts = narrow(&owner, manifest_hosts.as_deref());
            if hosts.is_empty() {
                return Err(Failure::new(
                    Kind::Denied,
                    "secret_unbound",
                    format!(
                        "nobody said where {name} may be sent to, or not where {} asks",
                        self.manifest.name
                    ),
                )
                .hint(format!("--secret {name}@HOST, or orch secrets set {name} --host HOST")));
            }
            let agent = self.manifest.name.to_string();
            if !meta.agents.contains(&agent) {
                // What the caller says is a grant for the hosts that it names, not for the others of the row.
                let by_row = hosts.iter().filter(|host| !by_caller.iter().any(|said| said.covers(host)));
                ungranted.extend(
                    by_row.map(|host| Capability::Secret { name: name.clone(), host: host.to_string() }),
                );
            }
            for host in &hosts {
                uses.push(PlannedUse {
                    run: self.run.to_string(),
                    secret: secret_name(&name)?,
                    host: host.to_string(),
                });
            }
            let header = match meta.header.as_deref() {
                Some(header) => header.parse().map_err(|_| {
                    Failure::usage("secret_invalid", format!("{name}: {header:?} is not a header name"))
                })?,
                None => http::header::AUTHORIZATION,
            };
            let credential = Arc::new(HeldCredential::new(name.clone(), Source::Vault, Auth::None, secret));
            bound.push(BoundSecret { name, credential, hosts, header });
        }
        Ok((bound, ungranted))
    }
}

/// Environment and vault; the vault is opened when it is first asked.
struct Sources<'a> {
    environment: &'a Environment,
    location: &'a VaultLocation,
    vault: OnceCell<Vault>,
}

impl Sources<'_> {
    fn vault(&self) -> Result<&Vault, VaultError> {
        if let Some(vault) = self.vault.get() {
            return Ok(vault);
        }
        let vault = Vault::open(self.location, OpenMode::ReadOnlyIfExists)?;
        Ok(self.vault.get_or_init(|| vault))
    }

    fn open(&self, name: &SecretName) -> Result<Option<(Secret, SecretMeta)>, Failure> {
        let opened = self.vault().and_then(|vault| vault.open_secret(name)).map_err(|e| vault_failure(&e))?;
        Ok(opened.map(|(secret, meta, _)| (secret, meta)))
    }

    fn record(mut self, uses: &[PlannedUse]) -> Result<(), Failure> {
        match self.vault.get_mut() {
            Some(vault) if !uses.is_empty() => vault.record_uses(uses).map_err(|e| vault_failure(&e)),
            _ => Ok(()),
        }
    }
}

impl Lookup for Sources<'_> {
    fn env(&self, name: &str) -> bool {
        self.environment.has_key(name)
    }

    fn vault(&self, name: &str) -> Result<Option<u64>, VaultError> {
        let Ok(name) = name.parse::<SecretName>() else { return Ok(None) };
        Ok(Sources::vault(self)?.version(&name)?.map(orch_vault::Version::get))
    }
}

/// A bare flag is filed under the primary provider.
fn take_flag(flags: &mut Vec<FlagKey>, found: &KeyRef, primary: Option<&str>) -> Result<Secret, Failure> {
    let at = flags
        .iter()
        .position(|flag| flag.provider.as_deref().or(primary) == Some(found.provider.as_str()))
        .ok_or_else(|| gone(found))?;
    Ok(flags.swap_remove(at).secret)
}

/// What no header can carry would fail at the first request; it is better said before anything starts.
fn check_value(name: &str, secret: &Secret) -> Result<(), Failure> {
    let plain = secret.expose(|bytes| !bytes.is_empty() && bytes.iter().all(|b| (0x21..=0x7e).contains(b)));
    if plain {
        return Ok(());
    }
    Err(Failure::new(
        Kind::NoKey,
        "key_unusable",
        format!(
            "the key for {name} is empty or holds blanks, line breaks or other characters that no key has"
        ),
    )
    .hint("copy the key again, without quotes and blanks around it"))
}

fn secret_name(name: &str) -> Result<SecretName, Failure> {
    name.parse()
        .map_err(|e| Failure::usage("secret_name_invalid", format!("{name:?} is not a secret's name: {e}")))
}

/// Where the owner lets a secret go: what stands in its row, and what the caller says on the command line.
fn owner_hosts(
    name: &str,
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
    let Some(manifest) = manifest else { return owner.to_vec() };
    let mut hosts: Vec<HostPattern> = Vec::new();
    for host in owner {
        for asked in manifest {
            let narrowed = if host == asked || asked.covers(host) {
                host
            } else if host.covers(asked) {
                asked
            } else {
                continue;
            };
            if !hosts.contains(narrowed) {
                hosts.push(narrowed.clone());
            }
        }
    }
    hosts
}

fn gone(found: &KeyRef) -> Failure {
    Failure::new(
        Kind::NoKey,
        "key_gone",
        format!("the key {} ({}) was there and is gone", found.name, found.source),
    )
}

fn resolution_failure(error: ResolutionError) -> Failure {
    match error {
        ResolutionError::Vault(error) => vault_failure(&error),
        other => Failure::usage("bad_usage", other.to_string()),
    }
}

/// A vault's error with its exit code and what to do about it.
pub fn vault_failure(error: &VaultError) -> Failure {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        message.push_str(": ");
        message.push_str(&inner.to_string());
        cause = inner.source();
    }
    let (kind, code, hint) = match error.kind() {
        ErrorKind::Locked => {
            (Kind::Vault, "vault_locked", Some("another orch is using the vault: try again when it is done"))
        }
        ErrorKind::Key => (
            Kind::Vault,
            "vault_key",
            Some("put the vault's own key file back; without it nothing in the vault can be read"),
        ),
        ErrorKind::Tampered => (
            Kind::Vault,
            "vault_tampered",
            Some(
                "nothing was changed: restore the vault's folder and the .head file beside it together, or move both away and set the secrets again",
            ),
        ),
        ErrorKind::Format => {
            (Kind::Vault, "vault_format", Some("use the orch that wrote it, or a newer one"))
        }
        ErrorKind::Storage => (Kind::Vault, "vault_storage", None),
        ErrorKind::Place => (Kind::Vault, "vault_place", None),
        ErrorKind::Conflict => {
            (Kind::Usage, "vault_conflict", Some("look at it again with: orch secrets list"))
        }
        ErrorKind::Expired => {
            (Kind::NoKey, "secret_expired", Some("set a new value with: orch secrets set NAME"))
        }
        _ => (Kind::Usage, "secret_refused", None),
    };
    let failure = Failure::new(kind, code, message);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
