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
            let ours = record.workspace.is_empty() || record.workspace == self.workspace;
            if ours { take(record) } else { ControlFlow::Continue(()) }
        })
    }
}
