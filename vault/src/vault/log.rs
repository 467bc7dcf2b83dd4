//! The audit log in parts, for whoever does not want all of it at once.

use std::ops::ControlFlow;

use super::Vault;
use crate::{AuditRecord, VaultError};

impl Vault {
    /// Hands over the audit log of this workspace and of the store itself, oldest first, until `take` has enough: all of
    /// it, or what follows the record with the sequence number `after`. Nothing else is kept in memory.
    ///
    /// From its beginning the whole chain is verified before the first record is handed over. What follows a record is
    /// verified as far as it is read: each record is authentic, in its place, and linked to the one before.
    ///
    /// # Errors
    /// As [`Vault::audit`].
    pub fn audit_after(
        &self,
        after: Option<u64>,
        take: &mut dyn FnMut(AuditRecord) -> ControlFlow<()>,
    ) -> Result<(), VaultError> {
        let Some(state) = &self.state else { return Ok(()) };
        if after.is_none() {
            state.walk_audit(&mut |_| ())?;
        }
        state.walk_audit_after(after, &mut |record| {
            if self.has_on_record(&record.workspace) { take(record) } else { ControlFlow::Continue(()) }
        })
    }

    /// Whether what is on record of a workspace is in this one's log: of the store itself, of this workspace, and of the
    /// parts of it that have names below its own (`acme/members/alice`). No workspace has a slash in its name.
    pub(super) fn has_on_record(&self, workspace: &str) -> bool {
        let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        workspace.is_empty() || workspace.strip_prefix(self.workspace.as_str()).is_some_and(below)
    }
}
