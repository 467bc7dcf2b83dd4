//! The one holder of the vault inside a server.
//!
//! `orch serve` keeps the vault open, and locked, for as long as it lives: one writer. An embedded run opens it for
//! each use. Either way all of its work is done on one thread of its own, and what the gateway needs for each call
//! over HTTP is kept at hand, opened: a call touches neither disk nor cipher.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use orch_manifests::{Catalog, Whose};
use orch_vault::{AuditEvent, OpenMode, PlannedUse, Vault, VaultLocation};

use crate::failure::{Failure, Kind};
use crate::secret::HeldSecrets;

mod failures;
mod providers;
mod ring;
#[cfg(test)]
mod tests;
mod thread;
mod witness;

use failures::Told;
pub(crate) use providers::ProviderKeys;
pub(crate) use ring::{Ring, name_of, platform_id};
use thread::{Custody, VaultThread};
use witness::SeenByToken;
pub(crate) use witness::{ClientWitness, Rings};

/// Opened keys, by whose they are. Written on the vault's thread alone, so that what is kept is what the vault says.
type Cache = Arc<RwLock<HashMap<Ring, Arc<ProviderKeys>>>>;

/// A vault as a reader finds it.
#[derive(Clone, Copy)]
pub enum VaultAt<'a> {
    /// Open already.
    Open(&'a Vault),
    /// On disk, to be opened when it is needed: whose keys are all elsewhere works without one.
    Rest(&'a VaultLocation),
}

/// Holds the vault, and what was opened of it. See the module.
pub struct Keeper {
    thread: VaultThread,
    catalog: Arc<Catalog>,
    cache: Cache,
    /// What runs and clients hold of the vault.
    held: Arc<HeldSecrets>,
    seen: Arc<SeenByToken>,
    told: Arc<Told>,
}

impl Keeper {
    /// Opens the vault for each use and closes it again. Touches nothing yet.
    #[must_use]
    pub fn new(location: VaultLocation, catalog: Arc<Catalog>) -> Self {
        Self::with_thread(VaultThread::new(location, false), catalog)
    }

    /// Opens the vault, creating what is missing, and keeps it until this is dropped; dropping waits for the work
    /// that was begun. The folders above it are the caller's to check.
    ///
    /// # Errors
    /// When the vault cannot be opened: another process has it, its key is missing, it was tampered with.
    pub async fn hold(location: VaultLocation, catalog: Arc<Catalog>) -> Result<Self, Failure> {
        let workspace = location.workspace.clone();
        let thread = VaultThread::new(location, true);
        thread.call(move |custody| custody.open(&workspace, OpenMode::Create, |_| Ok(()))).await?;
        Ok(Self::with_thread(thread, catalog))
    }

    fn with_thread(thread: VaultThread, catalog: Arc<Catalog>) -> Self {
        let (cache, held, seen, told) = Default::default();
        Self { thread, catalog, cache, held, seen, told }
    }

    /// Whether the vault can still be asked, as far as that is known without asking.
    ///
    /// # Errors
    /// `vault_closed` when what holds it has failed, `vault_thread` when that could not be started.
    pub fn health(&self) -> Result<(), Failure> {
        self.thread.health()
    }

    /// Reads something in a workspace's vault, on its thread.
    ///
    /// # Errors
    /// What `read` says, or that the vault is closed.
    pub async fn look<T: Send + 'static>(
        &self,
        workspace: &str,
        read: impl FnOnce(VaultAt<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let workspace = workspace.to_owned();
        self.thread
            .call(move |custody| match custody.keeps() {
                true => {
                    custody.open(&workspace, OpenMode::ReadOnlyIfExists, |vault| read(VaultAt::Open(vault)))
                }
                false => read(VaultAt::Rest(&custody.location(&workspace))),
            })
            .await
    }

    /// Does something with a workspace's vault, on its thread. What it changes holds from the next request on;
    /// requests under way end with what they began with. A vault that is not there is an empty one that refuses
    /// changes.
    ///
    /// # Errors
    /// What `act` says, or that the vault cannot be opened.
    pub async fn with<T: Send + 'static>(
        &self,
        workspace: &str,
        act: impl FnOnce(&mut Vault) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.change(workspace, OpenMode::WriteIfExists, act).await
    }

    /// The same with a vault that is made when it is not there.
    ///
    /// # Errors
    /// As [`Keeper::with`].
    pub async fn with_new<T: Send + 'static>(
        &self,
        workspace: &str,
        act: impl FnOnce(&mut Vault) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.change(workspace, OpenMode::Create, act).await
    }

    async fn change<T: Send + 'static>(
        &self,
        workspace: &str,
        mode: OpenMode,
        act: impl FnOnce(&mut Vault) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (workspace, catalog, cache) =
            (Arc::<str>::from(workspace), Arc::clone(&self.catalog), Arc::clone(&self.cache));
        let (held, seen, told) = (Arc::clone(&self.held), Arc::clone(&self.seen), Arc::clone(&self.told));
        self.thread
            .call(move |custody| {
                custody.open(&workspace, mode, |vault| {
                    let done = act(vault);
                    if done.is_ok() {
                        // A secret that was replaced is another one: its first use is on record anew. Before it is used.
                        seen.write().unwrap_or_else(PoisonError::into_inner).clear();
                        told.clear();
                    }
                    held.refresh(vault);
                    refresh((&cache, &held), &workspace, vault, &catalog);
                    done
                })
            })
            .await
    }

    /// Puts on record, durably, which secrets may be used and where. Uses that wait at the same time share one commit.
    ///
    /// # Errors
    /// When the vault cannot be written: then nothing may be used.
    pub async fn record_uses(&self, workspace: &str, uses: Vec<PlannedUse>) -> Result<(), Failure> {
        if uses.is_empty() {
            return Ok(());
        }
        self.thread.record(workspace.into(), uses.into_iter().map(AuditEvent::from).collect()).await
    }

    /// Puts what has happened already on record, durably, where there is a vault to hold that. What waits at the same
    /// time shares one commit. Nobody is asked for a passphrase on account of it.
    ///
    /// # Errors
    /// When the vault cannot be written.
    pub(crate) async fn record_after(&self, workspace: &str, events: Vec<AuditEvent>) -> Result<(), Failure> {
        if events.is_empty() {
            return Ok(());
        }
        self.thread.record(workspace.into(), events).await
    }

    /// The opened keys of a workspace for the providers of the catalog. Where the vault is held they are kept, until
    /// the vault changes or one of them expires. What was not given out is on record, once.
    ///
    /// # Errors
    /// When the vault cannot be read.
    #[cfg(test)]
    pub(crate) async fn providers(&self, workspace: &Arc<str>) -> Result<Arc<ProviderKeys>, Failure> {
        self.keys_of(&Ring::team(workspace)).await
    }

    /// The opened keys of somebody for the providers of the catalog; as [`Keeper::providers`].
    ///
    /// # Errors
    /// When the vault cannot be read.
    pub(crate) async fn keys_of(&self, ring: &Ring) -> Result<Arc<ProviderKeys>, Failure> {
        let opened = self.opened(ring).await;
        let failures = self.told.new_ones(&ring.part, &opened);
        // The call is answered, or refused, all the same.
        let _ = self.record_after(&ring.part, failures).await;
        opened
    }

    async fn opened(&self, ring: &Ring) -> Result<Arc<ProviderKeys>, Failure> {
        if let Some(keys) = fresh(&self.cache, ring) {
            return Ok(keys);
        }
        let (ring, catalog, cache) = (ring.clone(), Arc::clone(&self.catalog), Arc::clone(&self.cache));
        let held = Arc::clone(&self.held);
        self.thread.call(move |custody| open_keys(custody, &ring, &catalog, (&cache, &held))).await
    }

    /// Puts on record how often clients used the keys of each workspace since the last time.
    ///
    /// # Errors
    /// When a vault cannot be written. What was not recorded is lost with it.
    pub(crate) async fn record_clients(&self) -> Result<(), Failure> {
        let mut done = Ok(());
        for (workspace, events) in self.held.take_counts() {
            done = done.and(self.record_after(&workspace, events).await);
        }
        done
    }

    /// What is held of the vault.
    pub(crate) fn held(&self) -> &Arc<HeldSecrets> {
        &self.held
    }

    /// What this token was seen to use.
    fn seen(&self, token: &Arc<str>) -> Arc<witness::Seen> {
        if let Some(seen) = self.seen.read().unwrap_or_else(PoisonError::into_inner).get(token) {
            return Arc::clone(seen);
        }
        let mut tokens = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tokens.entry(Arc::clone(token)).or_default())
    }
}

fn fresh(cache: &Cache, ring: &Ring) -> Option<Arc<ProviderKeys>> {
    let keys = cache.read().unwrap_or_else(PoisonError::into_inner).get(ring).cloned();
    keys.filter(|keys| keys.are_fresh())
}

fn open_keys(
    custody: &mut Custody,
    ring: &Ring,
    catalog: &Catalog,
    (cache, held): (&Cache, &HeldSecrets),
) -> Result<Arc<ProviderKeys>, Failure> {
    // Others may have asked for the same at the same time.
    if let Some(keys) = fresh(cache, ring) {
        return Ok(keys);
    }
    let keep = custody.keeps();
    custody.open(&ring.part, OpenMode::ReadOnlyIfExists, |vault| {
        let keys = Arc::new(ProviderKeys::open(vault, held, catalog, ring)?);
        if keep {
            let mut cache = cache.write().unwrap_or_else(PoisonError::into_inner);
            cache.insert(ring.clone(), Arc::clone(&keys));
        }
        Ok(keys)
    })
}

/// Replaces what is kept of a part of the vault by what it says now. What cannot be opened is not kept: the next call finds
/// out why.
fn refresh((cache, held): (&Cache, &HeldSecrets), part: &Arc<str>, vault: &Vault, catalog: &Catalog) {
    for whose in Whose::ALL {
        let ring = Ring { whose, part: Arc::clone(part) };
        if !cache.read().unwrap_or_else(PoisonError::into_inner).contains_key(&ring) {
            continue;
        }
        // A vault that could not be opened again has no keys to say so for good.
        let keys = match vault.exists() {
            true => ProviderKeys::open(vault, held, catalog, &ring),
            false => Err(Failure::new(Kind::Vault, "vault_closed", "the vault is not open")),
        };
        let mut cache = cache.write().unwrap_or_else(PoisonError::into_inner);
        match keys {
            Ok(keys) => cache.insert(ring, Arc::new(keys)),
            Err(_) => cache.remove(&ring),
        };
    }
}
