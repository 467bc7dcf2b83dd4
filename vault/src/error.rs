//! What can go wrong with a vault. No variant carries a byte of a secret, a key or a row.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use time::OffsetDateTime;

use crate::{ExpectedVersion, GrantId, MetaError, SecretName, SlotKind, Spent, ValueError, Version};

/// Why an operation on the vault failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// Another process holds the store.
    #[error("the vault is in use by another process (waited {} ms for {})", .waited.as_millis(), .lock.display())]
    Locked {
        /// The lock file.
        lock: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A file or folder that others could have put there, read or changed, or that a vault cannot live on.
    #[error("{}: {problem}", .path.display())]
    Place {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The store has rows, and the file with its key is not there.
    #[error("the vault's key file is missing: {}", .path.display())]
    KeyMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The key file is not one, or is damaged.
    #[error("the vault's key file is damaged: {}: {problem}", .path.display())]
    KeyDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The key is sound, but it is another vault's.
    #[error("this key does not open this vault: {}", .path.display())]
    WrongKey {
        /// The file with the key that was tried.
        path: PathBuf,
    },
    /// The key of a slot is not where it should be, or cannot be had here.
    #[error("the key of the vault's {kind} slot is not at hand: {problem}")]
    SlotKeyMissing {
        /// The slot.
        kind: SlotKind,
        /// Why not.
        problem: String,
    },
    /// What should be the key of a slot is not one, or is another vault's.
    #[error("the {kind} does not hold this vault's key: {problem}")]
    SlotKeyWrong {
        /// The slot.
        kind: SlotKind,
        /// Why it is not.
        problem: &'static str,
    },
    /// The passphrase is not the vault's.
    #[error("the passphrase does not open this vault")]
    WrongPassphrase,
    /// A passphrase that nobody should rely on.
    #[error("the passphrase is refused: {problem}")]
    WeakPassphrase {
        /// Why.
        problem: &'static str,
    },
    /// Something asks for more work than any honest passphrase does, which would take this machine down.
    #[error("the vault's passphrase slot asks for {what} {found}; between {least} and {most} is accepted")]
    KdfBounds {
        /// Of what.
        what: &'static str,
        /// How much it asks for.
        found: u64,
        /// The least that is accepted.
        least: u64,
        /// The most that is accepted.
        most: u64,
    },
    /// This machine does not have the memory that a passphrase is derived with.
    #[error("there is no memory for the passphrase's key: it takes {} MiB", .kib.div_ceil(1024))]
    KdfMemory {
        /// How much it takes.
        kib: u32,
    },
    /// There are several slots, and none of them opens.
    #[error("none of the vault's key slots opens: {}", .problems.join("; "))]
    NoSlotOpens {
        /// Why, for each.
        problems: Vec<String>,
    },
    /// All slots are of kinds that this version does not know.
    #[error("this version of orch knows none of the vault's key slots: {}", .kinds.join(", "))]
    NoKnownSlot {
        /// Their kinds.
        kinds: Vec<String>,
    },
    /// The keychain of the operating system does not do what it was asked.
    #[error("the keychain cannot be used: {problem}")]
    Keychain {
        /// Why.
        problem: String,
    },
    /// A change to the key slots that would do harm, or that means nothing.
    #[error("{problem}")]
    Slots {
        /// What is wrong with it.
        problem: String,
    },
    /// The passphrase is another one's, or the backup's first bytes were altered: these look the same.
    #[error("the passphrase does not open this backup, or its beginning was altered")]
    WrongBackupPassphrase,
    /// The vault here is not the one that the backup was made of.
    #[error("the key file belongs to another vault than the backup: {}", .key_file.display())]
    AnotherVault {
        /// The key file.
        key_file: PathBuf,
    },
    /// The vault has grown beyond what a backup holds.
    #[error("a backup would have {bytes} bytes, and at most {most} are read again")]
    BackupTooLarge {
        /// How many it would have, about.
        bytes: u64,
        /// The most.
        most: u64,
    },
    /// What is not sound is neither backed up nor put in the place of anything.
    #[error("the vault is not sound: {}", .findings.join("; "))]
    Unsound {
        /// What was found.
        findings: Vec<String>,
    },
    /// Written by a newer version of this program.
    #[error("{what} has format {found}, and this version of orch knows formats up to {known}")]
    UnknownFormat {
        /// What was read.
        what: &'static str,
        /// The number found.
        found: u32,
        /// The highest number known here.
        known: u32,
    },
    /// What is stored is not what was written.
    #[error("the vault was tampered with or is damaged: {0}")]
    Tampered(Tampering),
    /// There is a key file, and of the vault that it was made for there is nothing.
    #[error(
        "the vault is gone, its anchor as well: its key file is there ({}), and no store ({})",
        .key_file.display(),
        .store.display()
    )]
    StoreGone {
        /// Where the store should be.
        store: PathBuf,
        /// The key file.
        key_file: PathBuf,
    },
    /// The storage engine or the file system failed.
    #[error("the vault's storage failed while {doing}")]
    Storage {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A change could not be made durable earlier in this process. What is on disk is only known again
    /// after a fresh start.
    #[error("the vault is closed for this process: an earlier change could not be written to disk")]
    Sealed,
    /// The secret is not at the version the caller expected.
    #[error("{name} was changed by somebody else: {}", describe_conflict(.expected, .found))]
    Conflict {
        /// The secret.
        name: SecretName,
        /// What the caller expected.
        expected: ExpectedVersion,
        /// What is there.
        found: Option<Version>,
    },
    /// The secret has reached the end of its life.
    #[error("{name} expired {at}")]
    Expired {
        /// The secret.
        name: SecretName,
        /// When it expired.
        at: OffsetDateTime,
    },
    /// There is no secret of this name.
    #[error("the vault holds no {name}")]
    Missing {
        /// The name.
        name: SecretName,
    },
    /// The secret has no such grant.
    #[error("{name} has no grant {grant}")]
    GrantMissing {
        /// The secret.
        name: SecretName,
        /// The grant.
        grant: GrantId,
    },
    /// What the secret's owner granted is used up.
    #[error("grant {grant} of {name} is used up: {why}")]
    UsedUp {
        /// The secret.
        name: SecretName,
        /// The grant.
        grant: GrantId,
        /// What of it.
        why: Spent,
    },
    /// The value is refused.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The metadata is refused.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A use to be recorded, or a workspace, has a text that is too long or not plain.
    #[error("{what} is empty, too long or not plain text")]
    Text {
        /// Which text.
        what: &'static str,
    },
    /// The vault was opened for reading, or there is none.
    #[error("the vault was opened for reading")]
    ReadOnly,
}

/// What exactly does not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Tampering {
    /// The store holds rows and no head.
    #[error("the head is missing")]
    HeadMissing,
    /// The head's bytes or its MAC are wrong.
    #[error("the head is not authentic")]
    Head,
    /// The rows are not the ones the head was written with: one was added, removed, altered, moved or replayed.
    #[error("the rows do not match the head (a row was added, removed, altered, moved or replayed)")]
    Root,
    /// The store is older than its anchor says, or gone.
    #[error("the store went back to an earlier state, or was removed (the anchor beside it is newer)")]
    RolledBack,
    /// The anchor is missing, not authentic, or of another line of events.
    #[error("the anchor beside the store is missing, not authentic, or does not fit the head")]
    Anchor,
    /// The slot header's bytes or its MAC are wrong.
    #[error("the key slot header is not authentic")]
    Slots,
    /// A row does not open: its commitment or its tag is wrong.
    #[error("a row is not authentic")]
    Row,
    /// A row opens and its content makes no sense.
    #[error("a row's content is not what its kind should hold")]
    RowContent,
    /// The last audit record is not the one that the head names.
    #[error("the end of the audit log does not match the head")]
    AuditTip,
    /// An audit record is missing, altered or out of order.
    #[error("audit record {0} is missing, altered or out of order")]
    Audit(u64),
    /// A backup was altered, cut off or put together from others.
    #[error("the backup is not authentic, or was cut off")]
    Backup,
    /// The storage engine cannot make sense of its own files.
    #[error("the storage engine cannot read its files")]
    Engine,
}

impl Tampering {
    /// The stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Tampering::HeadMissing => "head_missing",
            Tampering::Head => "head_not_authentic",
            Tampering::Root => "root_mismatch",
            Tampering::RolledBack => "rolled_back",
            Tampering::Anchor => "anchor_mismatch",
            Tampering::Slots => "slots_not_authentic",
            Tampering::Row => "row_not_authentic",
            Tampering::RowContent => "row_content",
            Tampering::AuditTip => "audit_end_mismatch",
            Tampering::Audit(_) => "audit_broken",
            Tampering::Backup => "backup_not_authentic",
            Tampering::Engine => "files_unreadable",
        }
    }
}

/// The kind of a failure; the edge maps it to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another process holds the store (exit 7).
    Locked,
    /// The key is missing, damaged or another vault's (exit 7).
    Key,
    /// What is stored is not what was written (exit 7).
    Tampered,
    /// Written by a newer version (exit 7).
    Format,
    /// I/O failed, now or earlier (exit 7).
    Storage,
    /// Owner, mode, symlink, kind of file or of file system (exit 7).
    Place,
    /// A change to the key slots that is refused (exit 7).
    Slots,
    /// A compare-and-swap lost (exit 2).
    Conflict,
    /// A value, metadata or text that is refused, or a change to a vault opened for reading (exit 2).
    Usage,
    /// The secret has expired (exit 3).
    Expired,
    /// There is no such secret, or no such grant of it (exit 2).
    Missing,
    /// A grant allows no more (exit 4).
    UsedUp,
}

impl VaultError {
    /// Which kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            VaultError::Locked { .. } => ErrorKind::Locked,
            VaultError::Place { .. } => ErrorKind::Place,
            VaultError::KeyMissing { .. }
            | VaultError::KeyDamaged { .. }
            | VaultError::WrongKey { .. }
            | VaultError::SlotKeyMissing { .. }
            | VaultError::SlotKeyWrong { .. }
            | VaultError::WrongPassphrase
            | VaultError::KdfMemory { .. }
            | VaultError::NoSlotOpens { .. }
            | VaultError::Keychain { .. }
            | VaultError::WrongBackupPassphrase
            | VaultError::AnotherVault { .. } => ErrorKind::Key,
            VaultError::Slots { .. } | VaultError::WeakPassphrase { .. } => ErrorKind::Slots,
            VaultError::UnknownFormat { .. } | VaultError::NoKnownSlot { .. } => ErrorKind::Format,
            VaultError::Tampered(_)
            | VaultError::KdfBounds { .. }
            | VaultError::Unsound { .. }
            | VaultError::StoreGone { .. } => ErrorKind::Tampered,
            VaultError::Storage { .. } | VaultError::Sealed | VaultError::BackupTooLarge { .. } => {
                ErrorKind::Storage
            }
            VaultError::Conflict { .. } => ErrorKind::Conflict,
            VaultError::Expired { .. } => ErrorKind::Expired,
            VaultError::Missing { .. } | VaultError::GrantMissing { .. } => ErrorKind::Missing,
            VaultError::UsedUp { .. } => ErrorKind::UsedUp,
            VaultError::Value(_) | VaultError::Meta(_) | VaultError::Text { .. } | VaultError::ReadOnly => {
                ErrorKind::Usage
            }
        }
    }

    pub(crate) fn place(path: impl Into<PathBuf>, problem: impl Into<String>) -> VaultError {
        VaultError::Place { path: path.into(), problem: problem.into() }
    }

    pub(crate) fn slots(problem: impl Into<String>) -> VaultError {
        VaultError::Slots { problem: problem.into() }
    }

    pub(crate) fn key_missing(kind: SlotKind, problem: impl Into<String>) -> VaultError {
        VaultError::SlotKeyMissing { kind, problem: problem.into() }
    }

    pub(crate) fn storage(doing: &'static str, source: impl Into<io::Error>) -> VaultError {
        VaultError::Storage { doing, source: source.into() }
    }
}

impl From<Tampering> for VaultError {
    fn from(what: Tampering) -> VaultError {
        VaultError::Tampered(what)
    }
}

fn describe_conflict(expected: &ExpectedVersion, found: &Option<Version>) -> String {
    let found =
        found.map_or_else(|| "there is none".to_owned(), |version| format!("version {version} is there"));
    match expected {
        ExpectedVersion::Any => found,
        ExpectedVersion::Absent => format!("none was expected, {found}"),
        ExpectedVersion::Exactly(version) => format!("version {version} was expected, {found}"),
    }
}
