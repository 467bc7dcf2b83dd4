//! Uses of secrets that runs of dead processes had planned, and that nobody has counted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use orch_vault::{AuditEvent, OpenMode, PlannedUse, Vault, VaultLocation};

use crate::afterwards;
use crate::failure::Failure;
use crate::keeper::{Keeper, VaultAt};
use crate::store::RunRow;

/// Puts on record that the uses of these runs were not counted to their end. A vault that cannot hold that, or has to be
/// asked for, keeps no run from being reported.
pub(super) async fn count_lost(keeper: &Keeper, runs: &[RunRow]) {
    let mut workspaces: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in runs.iter().filter(|row| row.started.is_some()) {
        workspaces.entry(&row.workspace).or_default().insert(row.run.to_string());
    }
    for (workspace, runs) in workspaces {
        let lost = keeper.look(workspace, move |at| open(at, &runs)).await.unwrap_or_default();
        let _ = keeper.record_after(workspace, afterwards::of_lost(&lost)).await;
    }
}

fn open(at: VaultAt<'_>, runs: &BTreeSet<String>) -> Result<Vec<PlannedUse>, Failure> {
    match at {
        VaultAt::Open(vault) => uncounted(vault, runs),
        VaultAt::Rest(location) => {
            let custody = location.custody.clone().without_asking();
            let quiet = VaultLocation { custody, ..location.clone() };
            uncounted(&Vault::open(&quiet, OpenMode::ReadOnlyIfExists)?, runs)
        }
    }
}

/// What these runs had planned, but for those that have any count.
fn uncounted(vault: &Vault, runs: &BTreeSet<String>) -> Result<Vec<PlannedUse>, Failure> {
    let mut planned: BTreeMap<String, Vec<PlannedUse>> = BTreeMap::new();
    vault.audit_after(None, &mut |record| {
        match record.event {
            AuditEvent::UsePlanned { run, secret, host, grant } if runs.contains(&run) => {
                planned.entry(run.clone()).or_default().push(PlannedUse { run, secret, host, grant });
            }
            AuditEvent::UseCounted { run, .. } => {
                planned.remove(&run);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(planned.into_values().flatten().collect())
}
