//! Secrets at rest: sealed rows, key custody, resolution order.
//!
//! A value that enters the vault can be used, replaced or removed, and never read back by a person.
//! Everything that touches disk is sealed: values, but also names, masks, hosts and times. What is left
//! in the clear is how many rows there are, and roughly how large they are.
//!
//! # Layers
//!
//! ```text
//! vault      operations: set, list, open, remove, record uses; one batch per change
//! anchor     the last head's mark, in a file beside the store
//! head       generation, root over all rows, audit tip, previous head; MACed
//! root       the bucketed Merkle root, cheap to update on a set
//! audit      hash-chained, MACed, sealed records
//! row        sealed rows: version, alg, term, salt, ciphertext, tag, commitment
//! backup     one file with everything, under a passphrase
//! slots      who can open the vault: the slot header and the ring of numbered root keys
//! custody    where the keys of slots are: keyfile, passphrase, credential, keychain
//! crypto     every call into ring
//! memory     where keys and values are while they are used: locked, undumped, wiped
//! store      a batch is durable when it is acknowledged (sled, our own lock and fsync)
//! place      owner, modes, symlinks, filesystem type, the lock file
//! ```
//!
//! # What is promised
//!
//! A row that was moved, swapped, truncated, replayed, deleted or altered is found: by its commitment
//! and tag, or by the root in the head, or by the audit chain. A store that went back as a whole is found
//! by the anchor, unless its anchor went back with it. An acknowledged change survives a kill and a power
//! cut.
//!
//! Not promised: protection from root, or from programs that run as the same user.

mod anchor;
mod audit;
mod backup;
mod credential;
mod crypto;
mod custody;
mod error;
#[cfg(all(fuzzing, target_os = "linux"))]
pub mod fuzzing;
#[cfg(all(test, not(fuzzing), target_os = "linux"))]
#[allow(unreachable_pub, reason = "public to fuzz targets")]
mod fuzzing;
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), allow(dead_code, reason = "fuzz targets need some of them"))]
#[allow(clippy::unwrap_used, reason = "known answers, and no part of a release")]
mod golden;
mod grant;
mod head;
mod keychain;
mod keyfile;
mod memory;
mod meta;
mod name;
mod passphrase;
mod place;
mod resolution;
mod root;
mod row;
mod secret;
mod slots;
mod store;
mod vault;

pub use audit::{AuditEvent, AuditRecord};
pub use backup::LARGEST as LARGEST_BACKUP;
pub use custody::{AskPassphrase, Custody, KeyChoice, PassphraseFor};
pub use error::{ErrorKind, Tampering, VaultError};
pub use grant::{Grant, GrantId, GrantTerms, GrantUse, Spent, ValuePlace};
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub use keychain::OsKeychain;
pub use keychain::{Keychain, KeychainError};
pub use memory::{MemoryProtection, harden_process, memory_protection};
pub use meta::{ExpectedVersion, MetaError, SecretMeta, SecretSummary, ValueError, Version};
pub use name::{NameError, SecretName};
pub use place::BackupFile;
pub use resolution::{
    Candidate, Depth, FlagKey, FlagName, KeyRef, Layers, Lookup, Missing, Resolution, ResolutionError,
    Source, Wanted, resolve_keys,
};
pub use secret::Secret;
pub use slots::{SlotId, SlotKind};
pub use vault::{
    Clock, Entry, Finding, NewSlot, OpenMode, PlannedUse, Rekeyed, RemovedSlot, Rotation, RowKindName,
    RowName, SlotInfo, SystemClock, Vault, VaultLocation, VaultStatus, Verification,
};
