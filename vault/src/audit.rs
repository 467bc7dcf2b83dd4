//! What happened: sealed, hash-chained, MACed records.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{SecretName, Version};

/// One thing that happened. Names and keyed digests, never values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditEvent {
    /// The vault was created.
    Created,
    /// A secret was set.
    Set {
        /// Its name.
        secret: SecretName,
        /// Its new version.
        version: Version,
        /// The keyed digest of the value.
        fingerprint: String,
        /// Where it may go.
        hosts: Vec<String>,
    },
    /// A secret was removed.
    Removed {
        /// Its name.
        secret: SecretName,
        /// The version that was removed.
        version: Version,
    },
    /// A run may use a secret at a host. Written before the first use.
    UsePlanned {
        /// The run.
        run: String,
        /// The secret's name.
        secret: SecretName,
        /// The host.
        host: String,
    },
    /// An event of a later version of this program.
    #[serde(other)]
    Unknown,
}

/// One record of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its place in the log of the whole store, from 0.
    pub sequence: u64,
    /// When it was written, by this machine's clock. Only the order of the records is protected against a
    /// wrong clock.
    pub time: OffsetDateTime,
    /// The workspace it belongs to.
    pub workspace: String,
    /// What happened.
    pub event: AuditEvent,
}
