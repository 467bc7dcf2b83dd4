//! The keys of one run: found, opened, and the store closed again.
//!
//! For providers of the catalog: flag, then environment, then vault. For other secrets the vault alone, because the
//! environment has no owner who said where they may go.

use std::collections::BTreeMap;
use std::sync::Arc;

use orch_manifests::{Auth, Catalog, Manifest, Provider, RunId, Slug, nearest_provider};
use orch_proxy::Credential;
use orch_vault::{
    AuditEvent, Depth, FlagKey, GrantId, KeyRef, Lookup as _, Missing, OpenMode, PlannedUse, Secret,
    SecretName, Source, Vault, VaultLocation, Wanted, resolve_keys,
};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::credential::{HeldCredential, Lease, usable};
use crate::failure::{Failure, Kind};
use crate::key_check::Misplaced;
use crate::permissions::Capability;

mod secrets;
mod sources;
#[cfg(test)]
mod tests;

pub(crate) use secrets::{BoundSecret, SecretGrant, Way};
pub(crate) use sources::Variables;
pub use sources::{CallerKeys, KeySources};

/// Reads a `--key`: `PROVIDER=KEY` when what stands before the first `=` is a provider of the catalog, else a key for
/// the primary provider. Keys may hold `=` themselves.
///
/// # Errors
/// When what stands before the `=` can only be meant as a provider and is none: a mistyped name must not send one
/// provider's key to another.
pub fn flag_key(whole: &Secret, catalog: &Catalog) -> Result<FlagKey, Failure> {
    whole.expose(|bytes| {
        let at = bytes.iter().position(|b| *b == b'=').filter(|at| *at <= LONGEST_NAME);
        // `Groq=gsk_…` is as clear as `groq=gsk_…`, and as a whole would go to whoever comes first. It may be a key as well.
        let word = at.and_then(|at| std::str::from_utf8(&bytes[..at]).ok());
        let word = word.map(|word| Zeroizing::new(word.to_ascii_lowercase()));
        let provider = word.as_ref().and_then(|word| catalog.anybody(word));
        if let (Some(provider), Some(at)) = (provider, at) {
            let secret = Secret::new(bytes[at + 1..].to_vec());
            return Ok(FlagKey { provider: Some(provider.slug.to_string()), secret });
        }
        let more = at.is_some_and(|at| bytes[at + 1..].iter().any(|b| *b != b'='));
        let near = word.filter(|_| more).and_then(|word| nearest_provider(catalog.everybody(), &word));
        if near.is_none() && !looks_named(bytes) {
            return Ok(FlagKey { provider: None, secret: Secret::new(bytes.to_vec()) });
        }
        let known: Vec<&str> = catalog.everybody().map(|provider| provider.slug.as_str()).collect();
        let failure = Failure::usage("provider_unknown", "--key: what stands before the = is no provider");
        let failure = match near {
            Some(near) => failure.hint(format!("did you mean {near}?")),
            None => failure,
        };
        Err(failure.hint(format!("known providers: {}", known.join(", "))))
    })
}

/// Longest name of a provider.
const LONGEST_NAME: usize = 64;
/// Longest word before a `=` that is taken for a provider's name though none has it.
const LONGEST_WORD: usize = 24;

/// Whether this reads as `PROVIDER=KEY`: a word of small letters before the `=`, which no key begins with, and more
/// than padding behind it.
fn looks_named(bytes: &[u8]) -> bool {
    let Some(at) = bytes.iter().position(|b| *b == b'=') else { return false };
    let word = bytes[..at].iter().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_'));
    word && (2..=LONGEST_WORD).contains(&at) && bytes[at + 1..].iter().any(|b| *b != b'=')
}

/// What a run holds once its keys are open.
#[derive(Default)]
pub(crate) struct Keys {
    /// The key that stands for each provider.
    pub(crate) providers: BTreeMap<Slug, Arc<dyn Credential>>,
    /// Further keys of providers, which the vault has under the same name with a number.
    pub(crate) further: BTreeMap<Slug, Vec<Arc<dyn Credential>>>,
    /// The keys with which the agent searches the web itself.
    pub(crate) searchers: BTreeMap<Slug, Arc<dyn Credential>>,
    /// The keys that may go to their providers' accounts, for the wants of the manifest.
    pub(crate) accounts: BTreeMap<Slug, Arc<dyn Credential>>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) secrets: Vec<BoundSecret>,
    /// What somebody still has to grant.
    pub(crate) ungranted: Vec<Capability>,
    /// Keys of other providers than the primary that are there and cannot be used, and why.
    pub(crate) unusable: Vec<String>,
    /// Keys of the vault that cannot be used, where others may come before them or in their place.
    pub(crate) refused: BTreeMap<Slug, Refused>,
    /// Providers that the agent searches with and that the vault has no usable key for, where another may come in its place.
    pub(crate) unsearched: BTreeMap<Slug, Unsearched>,
    /// Uses of keys that were lent, with the part of the vault that they lie in, as `uses`.
    pub(crate) lent_uses: Vec<(Arc<str>, PlannedUse)>,
    /// What the terms of the primary provider forbid, which whoever gave its key was not asked about.
    pub(crate) forbidden: Option<String>,
    /// What the vault's audit has to hold before the first request.
    pub(crate) uses: Vec<PlannedUse>,
    /// Keys of the vault that the run goes without, as its audit has them.
    pub(crate) failed: Vec<AuditEvent>,
}

/// A key of the vault that cannot be used.
pub(crate) struct Refused {
    /// Why.
    pub(crate) failure: Failure,
    /// Whether no run goes on without it, unless there is another of its provider.
    pub(crate) needed: bool,
}

/// What there is in the place of a key to search with.
pub(crate) struct Unsearched {
    /// What refuses the run where no other key comes.
    pub(crate) failure: Failure,
    /// Whether there is one, which cannot be used.
    pub(crate) has_key: bool,
}

impl Keys {
    /// Goes on without a key of the vault: says so, and what its audit has to hold.
    pub(crate) fn leave(&mut self, run: &RunId, failure: &Failure) {
        self.unusable.push(failure.message().to_owned());
        self.failed.push(AuditEvent::OpenFailed { run: run.to_string(), reason: failure.code().to_owned() });
    }

    /// The keys of a provider, the one that stands for all of them first.
    pub(crate) fn of(&self, provider: &Slug) -> Vec<Arc<dyn Credential>> {
        let further = self.further.get(provider).into_iter().flatten();
        self.providers.get(provider).into_iter().chain(further).cloned().collect()
    }

    /// Every key of a provider.
    pub(crate) fn of_providers(&self) -> impl Iterator<Item = &Arc<dyn Credential>> {
        self.providers.values().chain(self.further.values().flatten()).chain(self.searchers.values())
    }

    /// What the user should know about the keys before the run.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let credentials = self.of_providers().chain(self.secrets.iter().map(|secret| &secret.credential));
        let short = credentials.filter(|credential| credential.scrubber().is_none()).map(|credential| {
            format!(
                "{} is shorter than 16 bytes ({}) and cannot be cleaned out of responses: whoever it is sent to can tell it to the agent",
                credential.id(),
                credential.source()
            )
        });
        let unusable = self.unusable.iter().map(|why| format!("not used: {why}"));
        unusable.chain(self.forbidden.clone()).chain(short).collect()
    }
}

impl Keys {
    /// Puts on record, durably, which of the vault's secrets this run may use and where, and which it did not get.
    ///
    /// # Errors
    /// When the vault cannot be written: then the run must not start.
    pub(crate) fn record_uses(&self, vault: &VaultLocation) -> Result<(), Failure> {
        if self.uses.is_empty() && self.failed.is_empty() {
            return Ok(());
        }
        let mut vault = Vault::open(vault, OpenMode::ReadOnlyIfExists)?;
        vault.record(self.failed.clone())?;
        Ok(vault.record_uses(&self.uses)?)
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
    /// Providers that the agent searches the web with.
    pub(crate) searched: &'a [&'a Provider],
    pub(crate) flags: &'a [FlagKey],
    pub(crate) secret_grants: &'a [SecretGrant],
    /// Whether an agent's name says who it is. On a server anybody may upload an agent of any name, so what a secret's
    /// owner said about the name does not stand in for a grant of exactly this content.
    pub(crate) names_prove: bool,
    /// Whether other keys may come before those of the vault, or in their place: then one that cannot be used refuses nothing
    /// yet, and is handed on.
    pub(crate) lends: bool,
}

impl KeyQuestion<'_> {
    /// Finds and opens the keys; the store is closed again when this returns.
    pub(crate) fn open(self, sources: &KeySources<'_>) -> Result<Keys, Failure> {
        let asked = secrets::asked(self.manifest, self.bare, self.secret_grants)?;
        let primary = self.wanted.iter().find(|provider| provider.auth != Auth::None);
        let primary = primary.map(|provider| provider.slug.to_string());
        let is_wanted = |slug: &Slug| self.wanted.iter().any(|provider| provider.slug == *slug);
        let is_searched = |slug: &Slug| self.searched.iter().any(|provider| provider.slug == *slug);
        let searched = self.searched.iter().filter(|provider| !is_wanted(&provider.slug));
        let all: Vec<&Provider> = self.wanted.iter().chain(searched).copied().collect();
        let wanted: Vec<Wanted<'_>> = all
            .iter()
            .filter(|provider| provider.auth != Auth::None)
            .map(|provider| Wanted { provider: provider.slug.as_str(), names: &provider.env })
            .collect();
        let flags: Vec<_> = self.flags.iter().map(FlagKey::name).collect();
        let resolution = resolve_keys(&wanted, &flags, sources, Depth::First)?;

        let mut keys = Keys { missing: resolution.missing, ..Keys::default() };
        for found in resolution.found {
            let provider = all
                .iter()
                .find(|provider| provider.slug.as_str() == found.provider)
                .ok_or_else(|| Failure::defect("a key was resolved for a provider that nobody wanted"))?;
            let taken = match self.take(&found, provider, primary.as_deref(), sources) {
                Ok(taken) => taken,
                Err(failure) if self.lends && of_the_vault(&failure, &found) => {
                    let slug = &provider.slug;
                    if is_searched(slug) {
                        let unsearched = Unsearched { failure: failure.clone(), has_key: true };
                        keys.unsearched.insert(slug.clone(), unsearched);
                    }
                    if is_wanted(slug) {
                        let needed = primary.as_deref() == Some(found.provider.as_str());
                        keys.refused.insert(slug.clone(), Refused { failure, needed });
                    }
                    continue;
                }
                // Whose key was not asked for by name may go without it.
                Err(failure)
                    if may_go_without(&failure, &found, primary.as_deref())
                        && !is_searched(&provider.slug) =>
                {
                    match found.source {
                        Source::Vault => keys.leave(self.run, &failure),
                        _ => keys.unusable.push(failure.message().to_owned()),
                    }
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if primary.as_deref() == Some(provider.slug.as_str()) {
                keys.forbidden = forbidden(&found, provider);
            }
            keys.uses.extend(taken.planned);
            keys.ungranted.extend(taken.ungranted);
            let credential: Arc<dyn Credential> = Arc::new(taken.credential);
            if self.wants_account(provider) {
                // Whoever gave the key for this run decides what it is for; the vault's is its owner's.
                let account = taken.account.map(|account| Arc::new(account) as Arc<dyn Credential>);
                keys.accounts
                    .insert(provider.slug.clone(), account.unwrap_or_else(|| Arc::clone(&credential)));
            }
            if is_searched(&provider.slug) {
                keys.searchers.insert(provider.slug.clone(), Arc::clone(&credential));
            }
            if !is_wanted(&provider.slug) {
                continue;
            }
            keys.providers.insert(provider.slug.clone(), credential);
            if found.source == Source::Vault {
                self.take_further(&found, provider, sources, &mut keys)?;
            }
        }
        for lacking in self.searched {
            let slug = &lacking.slug;
            if keys.searchers.contains_key(slug) || keys.unsearched.contains_key(slug) {
                continue;
            }
            let failure = no_key_to_search_with(self.manifest, lacking);
            if !self.lends {
                return Err(failure);
            }
            keys.unsearched.insert(slug.clone(), Unsearched { failure, has_key: false });
        }
        keys.missing
            .retain(|missing| self.wanted.iter().any(|wanted| wanted.slug.as_str() == missing.provider));
        for asked in asked {
            let (bound, ungranted) = secrets::open(&asked, &self, sources)?;
            let planned = |way: &Way| self.planned_use(&bound.name, &way.target.host, way.grant);
            keys.uses.extend(bound.ways.iter().map(planned));
            keys.ungranted.extend(ungranted);
            keys.secrets.push(bound);
        }
        Ok(keys)
    }

    /// The secrets that the command line names, and no key: for a client of the proxy, who is no agent.
    pub(crate) fn open_secrets(self, sources: &KeySources<'_>) -> Result<Keys, Failure> {
        let mut keys = Keys::default();
        for asked in secrets::asked(self.manifest, self.bare, self.secret_grants)? {
            let (bound, _) = secrets::open(&asked, &self, sources)?;
            let planned = |way: &Way| self.planned_use(&bound.name, &way.target.host, way.grant);
            keys.uses.extend(bound.ways.iter().map(planned));
            keys.secrets.push(bound);
        }
        Ok(keys)
    }

    /// The simulation's keys, and a random value for each other secret: neither environment nor vault is touched.
    pub(crate) fn simulated(self, providers: &BTreeMap<Slug, Arc<dyn Credential>>) -> Result<Keys, Failure> {
        if !self.flags.is_empty() {
            return Err(Failure::usage("bad_usage", "a simulated run uses simulated keys; leave --key out"));
        }
        let is_searched = |slug: &Slug| self.searched.iter().any(|provider| provider.slug == *slug);
        let is_wanted = |slug: &Slug| self.wanted.iter().any(|provider| provider.slug == *slug);
        let of = |keep: &dyn Fn(&Slug) -> bool| {
            let kept = providers.iter().filter(|(slug, _)| keep(slug));
            kept.map(|(slug, key)| (slug.clone(), Arc::clone(key))).collect()
        };
        let (searchers, providers) = (of(&is_searched), of(&is_wanted));
        let mut keys = Keys { providers, searchers, ..Keys::default() };
        for asked in secrets::asked(self.manifest, self.bare, self.secret_grants)? {
            keys.secrets.push(secrets::simulated(&asked, self.secret_grants, random_secret()?));
        }
        Ok(keys)
    }

    fn wants_account(&self, provider: &Provider) -> bool {
        let mut wants = self.manifest.llm.iter().flat_map(|llm| &llm.account);
        wants.any(|want| provider.goes_by(want.provider.as_str()))
    }

    fn planned_use(&self, secret: &SecretName, host: &impl ToString, grant: Option<GrantId>) -> PlannedUse {
        PlannedUse { run: self.run.to_string(), secret: secret.clone(), host: host.to_string(), grant }
    }

    /// Takes the key that was found from where it is.
    fn take(
        &self,
        found: &KeyRef,
        provider: &Provider,
        primary: Option<&str>,
        sources: &KeySources<'_>,
    ) -> Result<Taken, Failure> {
        let given = match found.source {
            Source::Flag => flag(self.flags, found, primary),
            Source::Env => sources.in_environment(&found.name),
            Source::Vault => {
                return self.take_from_vault(found, provider, sources, self.wants_account(provider));
            }
            Source::Simulated => None,
        };
        let secret = given.ok_or_else(|| gone(found))?;
        check_value(found, provider, &secret)?;
        let auth = provider.auth.clone();
        let credential = HeldCredential::given(found.name.clone(), found.source, auth, secret);
        Ok(Taken { credential, account: None, planned: Vec::new(), ungranted: None })
    }

    /// Takes the further keys of a provider that the vault has beside the one that was found. No run waits for one, and
    /// none is asked for.
    fn take_further(
        &self,
        found: &KeyRef,
        provider: &Provider,
        sources: &KeySources<'_>,
        keys: &mut Keys,
    ) -> Result<(), Failure> {
        for name in Provider::further_keys(&found.name) {
            let Some(version) = sources.vault(&name)? else { continue };
            let further = KeyRef { name, version: Some(version), shadows: Vec::new(), ..found.clone() };
            // The account is reached with the first key alone.
            match self.take_from_vault(&further, provider, sources, false) {
                Ok(Taken { credential, planned, ungranted: None, .. }) => {
                    keys.uses.extend(planned);
                    keys.further.entry(provider.slug.clone()).or_default().push(Arc::new(credential));
                }
                Ok(Taken { ungranted: Some(_), .. }) => {
                    keys.unusable
                        .push(format!("{}: its owner has not granted it to this agent", further.name));
                }
                Err(failure) if matches!(failure.kind(), Kind::NoKey | Kind::Denied) => {
                    keys.leave(self.run, &failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn take_from_vault(
        &self,
        found: &KeyRef,
        provider: &Provider,
        sources: &KeySources<'_>,
        wants_account: bool,
    ) -> Result<Taken, Failure> {
        let name = secret_name(&found.name)?;
        let secret = sources.in_vault(&name)?.ok_or_else(|| gone(found))?;
        let current = secret.current().map_err(|_| gone(found))?;
        check_value(found, provider, &current.secret)?;
        let grant = secrets::key_grant(&current, self.manifest)?;
        // A name that proves nothing does not stand in for a grant of exactly this content.
        let by_name = grant.and_then(|id| current.grants.iter().find(|grant| grant.id() == id));
        let by_name = by_name.is_some_and(|grant| grant.names(&self.manifest.name) && !self.names_prove);
        let opening = match wants_account {
            true => secrets::account_grants(&current, self.manifest, provider)?,
            false => Vec::new(),
        };
        let account = wants_account.then(|| {
            let lease = Lease::Account(opening.clone());
            HeldCredential::lent(Arc::clone(&secret), provider.auth.clone(), lease, Some(self.run))
        });
        let credential =
            HeldCredential::lent(secret, provider.auth.clone(), Lease::Key(grant), Some(self.run));
        let site = credential.site();
        let there = site.and_then(|site| provider.at(&site).ok());
        let host = &there.as_deref().unwrap_or(provider).endpoint.host;
        let ungranted =
            by_name.then(|| Capability::Secret { name: name.to_string(), host: host.to_string() });
        // Each grant that may be used counts the run.
        let grants = std::iter::once(grant).chain(opening.into_iter().map(Some).filter(|id| *id != grant));
        let planned = grants.map(|grant| self.planned_use(&name, host, grant)).collect();
        Ok(Taken { credential, account, planned, ungranted })
    }
}

/// A provider's key, and what comes with it.
struct Taken {
    credential: HeldCredential,
    /// The same toward the account, where the vault's owner says how far.
    account: Option<HeldCredential>,
    planned: Vec<PlannedUse>,
    ungranted: Option<Capability>,
}

fn no_key_to_search_with(manifest: &Manifest, provider: &Provider) -> Failure {
    let text =
        format!("{} searches the web with {}, and there is no key for it", manifest.name, provider.name);
    let failure = Failure::new(Kind::NoKey, "key_missing", text);
    match provider.key_name() {
        Some(name) => failure.hint(format!("orch secrets set {name}")),
        None => failure,
    }
}

/// What the terms of a provider forbid of a key that nobody stored: of one that was, its owner was told.
fn forbidden(found: &KeyRef, provider: &Provider) -> Option<String> {
    let Auth::TokenFile(tool) = &provider.auth else { return None };
    let why = tool.forbids().filter(|_| found.source != Source::Vault)?;
    Some(format!("{} ({}) is used at your own risk: {why}", found.name, found.source.as_str()))
}

fn gone(KeyRef { name, source, .. }: &KeyRef) -> Failure {
    Failure::new(Kind::NoKey, "key_gone", format!("the key {name} ({source}) was there and is gone"))
}

/// A bare flag is filed under the primary provider. It is copied: a run that waits for its turn looks again.
fn flag(flags: &[FlagKey], found: &KeyRef, primary: Option<&str>) -> Option<Secret> {
    let of = |flag: &&FlagKey| flag.provider.as_deref().or(primary) == Some(found.provider.as_str());
    let flag = flags.iter().find(of)?;
    Some(flag.secret.expose(|bytes| Secret::new(bytes.to_vec())))
}

/// Whether a run goes on without this key: it is no use, and nobody asked for this provider first or gave the key
/// for this run. A vault that cannot be trusted ends every run.
fn may_go_without(failure: &Failure, found: &KeyRef, primary: Option<&str>) -> bool {
    let of_this_key = matches!(failure.kind(), Kind::NoKey | Kind::Denied);
    of_this_key && found.source != Source::Flag && primary != Some(found.provider.as_str())
}

/// Whether it is about one key of the vault, and not about all of it.
fn of_the_vault(failure: &Failure, found: &KeyRef) -> bool {
    found.source == Source::Vault && matches!(failure.kind(), Kind::NoKey | Kind::Denied)
}

/// What no header can carry, and a JSON credential that is none, would fail at the first request; another provider's key would
/// be given away by it. It is better said before anything starts.
pub(crate) fn check_value(found: &KeyRef, provider: &Provider, secret: &Secret) -> Result<(), Failure> {
    let KeyRef { name, source, .. } = found;
    let what = format!("the key {name} ({})", source.as_str());
    usable(provider, secret, found.source == Source::Vault)
        .map_err(|wrong| wrong.failure(&what, provider))?;
    let Some(misplaced) = Misplaced::judge(provider, secret) else { return Ok(()) };
    let text = format!("{what} is {}, and is not sent to {}", misplaced.what(), provider.name);
    let failure = Failure::new(Kind::NoKey, "key_unusable", text).detail("name", name.as_str());
    Err(match (source, &misplaced) {
        (_, Misplaced::Json) => failure.hint(format!("{} takes a plain key", provider.name)),
        (Source::Flag, Misplaced::Of(other)) => {
            failure.hint(format!("say whose it is: --key {}=…", other.slug))
        }
        (_, Misplaced::Of(other)) => {
            let own = other.key_name().unwrap_or_default();
            failure.hint(format!("give it by its own name, {own}: orch byok set {}", other.slug))
        }
    })
}

fn secret_name(name: &str) -> Result<SecretName, Failure> {
    name.parse()
        .map_err(|e| Failure::usage("secret_name_invalid", format!("{name:?} is not a secret's name: {e}")))
}

fn random_secret() -> Result<Secret, Failure> {
    let mut bits = [0_u8; 24];
    SystemRandom::new()
        .fill(&mut bits)
        .map_err(|_| Failure::defect("the operating system gives no randomness"))?;
    Ok(Secret::new(format!("orch-simulated-{}", data_encoding::HEXLOWER.encode(&bits)).into_bytes()))
}
