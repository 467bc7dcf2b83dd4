//! What a run passes before it is accepted, and once more when it had to wait for its turn: its checks, its keys, and what
//! its workspace granted.

use std::sync::{Arc, PoisonError};

use super::Service;
use super::live::{LiveRun, Once};
use crate::afterwards;
use crate::agent::Agent;
use crate::failure::Failure;
use crate::keeper::VaultAt;
use crate::keys::{KeySources, Variables};
use crate::permissions::Remembered;
use crate::prepare::{Prepared, Standing};
use crate::run::{Event, Observer as _, RunRequest};
use crate::store::AgentRow;

/// Input of this many bytes is parsed where the request is.
const SMALL: usize = 16 << 10;

impl Service {
    /// The checks of a run: what takes time off the async threads, keys on the vault's. What refuses it is put on
    /// record, and no use yet.
    ///
    /// # Errors
    /// Whatever refuses it.
    pub(super) async fn prepare(
        self: &Arc<Self>,
        request: RunRequest,
        live: &Arc<LiveRun>,
    ) -> Result<Prepared, Failure> {
        let prepared = self.check(request, live).await;
        if let Err(failure) = &prepared
            && let Some(event) = afterwards::of_refusal(&live.run, failure)
            && let Some(event) = self.refusals.admitted(&live.workspace, event)
        {
            // The refusal is what is reported.
            let _ = self.keeper.record_after(&live.workspace, vec![event]).await;
        }
        prepared
    }

    async fn check(self: &Arc<Self>, request: RunRequest, live: &Arc<LiveRun>) -> Result<Prepared, Failure> {
        let workspace = live.workspace.as_str();
        let upstream = self.broker.upstream(request.simulate.as_ref()).await?;
        let granted = self.granted(workspace, &request.agent).await?;
        let routing = self.routings.of(workspace, &self.config().routes).await?;
        let checked = if is_small(&request) {
            self.broker.check(live.run.clone(), request, upstream, routing, &Once(live))?
        } else {
            let (service, live) = (Arc::clone(self), Arc::clone(live));
            let check =
                move || service.broker.check(live.run.clone(), request, upstream, routing, &Once(&live));
            tokio::task::spawn_blocking(check)
                .await
                .map_err(|e| Failure::defect(format!("the checks of a run ended early: {e}")))??
        };
        let simulated = checked.is_simulated();
        let lending = match simulated {
            true => None,
            false => self.lending(workspace, checked.byok(), checked.brings_keys()).await?,
        };
        let mut checked = checked;
        if let Some(lending) = lending.as_ref().filter(|lending| !lending.takes_given())
            && checked.leave_env_keys()
        {
            Once(live).event(Event::Note(&lending.left_out()));
        }
        let lends = lending.is_some();
        let (catalog, held) = (Arc::clone(self.catalog()), Arc::clone(self.keeper.held()));
        let (checked, mut keys) = self
            .keeper
            .look(workspace, move |vault| {
                let variables = Variables::Callers(checked.env_keys());
                let sources = match vault {
                    VaultAt::Open(vault) => KeySources::open(variables, &catalog, vault, &held),
                    VaultAt::Rest(location) => KeySources::at_rest(variables, &catalog, location),
                };
                let keys = checked.open_keys(&sources, (false, lends))?;
                drop(sources);
                Ok((checked, keys))
            })
            .await?;
        if let Some(lending) = &lending {
            self.lend(lending, live, &mut keys).await?;
        }
        let standing = Standing { workspace, local: false, granted, book: None };
        self.broker.admit(checked, keys, &standing, &Once(live))
    }

    /// Puts on record which secrets of the vault a run may use, now that it is about to, and which it did not get.
    ///
    /// # Errors
    /// When the vault cannot be written: then the run must not be executed.
    pub(super) async fn record_uses(&self, prepared: &Prepared) -> Result<(), Failure> {
        let keys = &prepared.keys;
        self.keeper.record_after(&prepared.workspace, keys.failed.clone()).await?;
        for (part, planned) in &keys.lent_uses {
            self.keeper.record_uses(part, vec![planned.clone()]).await?;
        }
        self.keeper.record_uses(&prepared.workspace, keys.uses.clone()).await
    }

    /// What the workspace's owner granted this agent, in any version.
    async fn granted(&self, workspace: &str, agent: &Agent) -> Result<Remembered, Failure> {
        let manifest = &agent.manifest;
        if manifest.egress.is_empty() && manifest.secrets.is_empty() && !agent.bare {
            return Ok(Remembered::default());
        }
        let mut rows = self.store.grants_of(workspace, &manifest.name).await?;
        // The newest comes last.
        rows.reverse();
        Ok(Remembered::of(
            rows.into_iter().map(|row| (row.agent, row.digest, row.capabilities.into_iter().collect())),
        ))
    }

    /// Stores the content of an agent, once.
    pub(super) async fn keep_agent(&self, agent: &Arc<Agent>) -> Result<(), Failure> {
        let known = |service: &Self| {
            service.kept_agents.lock().unwrap_or_else(PoisonError::into_inner).contains(&agent.digest)
        };
        if known(self) {
            return Ok(());
        }
        let module = self.store.blobs().put(agent.module.clone()).await?;
        self.store
            .put_agent(AgentRow {
                digest: agent.digest,
                name: agent.manifest.name.clone(),
                version: agent.manifest.version.clone(),
                manifest: agent.text.to_string(),
                format: agent.format,
                module,
                bare: agent.bare,
            })
            .await?;
        self.library.remember(agent);
        self.kept_agents.lock().unwrap_or_else(PoisonError::into_inner).insert(agent.digest);
        Ok(())
    }
}

/// Whether the documents of a request are checked sooner than another thread could begin.
fn is_small(request: &RunRequest) -> bool {
    let manifest = &request.agent.manifest;
    let schemas = manifest.input.is_some() || manifest.output.is_some();
    !schemas && request.mounts.is_empty() && request.input.as_ref().is_none_or(|input| input.len() <= SMALL)
}
