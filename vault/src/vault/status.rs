//! What a vault is like, without any of its secrets.

use super::{SlotInfo, Vault};
use crate::VaultError;

/// The size of a vault, and how often it changed. See [`Vault::status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultStatus {
    /// The workspace that was looked at.
    pub workspace: String,
    /// How many secrets it has.
    pub secrets: u64,
    /// How often the store was changed, by all workspaces.
    pub generation: u64,
    /// How many audit records there are, of all workspaces.
    pub audit_records: u64,
    /// The bytes of everything that is kept.
    pub live_bytes: u64,
    /// The bytes that the store's files have.
    pub disk_bytes: u64,
    /// Who can open it, in the order in which they were given that.
    pub slots: Vec<SlotInfo>,
}

impl Vault {
    /// The state of the vault; `None` when there is none.
    ///
    /// # Errors
    /// Tampering or storage.
    pub fn status(&self) -> Result<Option<VaultStatus>, VaultError> {
        let Some(state) = &self.state else { return Ok(None) };
        let extent = state.extent()?;
        Ok(Some(VaultStatus {
            workspace: self.workspace.clone(),
            secrets: self.list()?.len() as u64,
            generation: extent.generation,
            audit_records: extent.audit_records,
            live_bytes: extent.live_bytes,
            disk_bytes: extent.disk_bytes,
            slots: self.slots()?,
        }))
    }
}
