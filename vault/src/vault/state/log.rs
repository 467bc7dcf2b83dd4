//! The audit log from one record on.

use std::ops::ControlFlow;

use super::State;
use crate::audit::{self, Tip};
use crate::error::Tampering;
use crate::vault::index::audit_key;
use crate::{AuditRecord, VaultError};

impl State {
    /// Visits the records behind `after`, or all of them, until a visit breaks off.
    pub(in crate::vault) fn walk_audit_after(
        &self,
        after: Option<u64>,
        visit: &mut dyn FnMut(AuditRecord) -> ControlFlow<()>,
    ) -> Result<(), VaultError> {
        self.check_open()?;
        let mut tip = match after {
            None => Tip::EMPTY,
            Some(after) if after >= self.tip.records => return Ok(()),
            Some(after) => Tip { records: after + 1, link: audit::link(&self.audit_row(after)?) },
        };
        while tip.records < self.tip.records {
            let (record, next) = audit::read(&self.vault, &self.ring, tip, &self.audit_row(tip.records)?)?;
            if visit(record).is_break() {
                return Ok(());
            }
            tip = next;
        }
        if tip == self.tip { Ok(()) } else { Err(Tampering::Audit(tip.records).into()) }
    }

    fn audit_row(&self, sequence: u64) -> Result<Vec<u8>, VaultError> {
        self.store.get(&audit_key(sequence))?.ok_or_else(|| Tampering::Audit(sequence).into())
    }
}
