//! The arguments of `orch vault`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SlotsArgs;

#[derive(Args)]
pub(crate) struct VaultArgs {
    /// The vault of this machine, even where a server is configured
    #[arg(long, global = true, display_order = 899)]
    pub(crate) local: bool,
    #[command(subcommand)]
    pub(crate) command: VaultCommand,
}

#[derive(Subcommand)]
pub(crate) enum VaultCommand {
    /// Say where the vault is, how large it is, how often it changed and what opens it
    Status,
    /// Decrypt everything and say whether it is what was written
    Verify,
    /// Show what happened: secrets set, used and removed, keys changed
    Audit(AuditArgs),
    /// Write everything to a new file, sealed under a passphrase
    Backup(BackupArgs),
    /// Put the vault of a backup in the place of this one, or of none
    Restore(RestoreArgs),
    /// Rewrite the store without what has piled up behind its rows
    Compact,
    /// Look at who can open the vault, and change that
    Slots(SlotsArgs),
    /// Give the vault new keys; nothing that is stored is touched, and no value changes
    Rekey,
}

/// Write all secrets and records to a new file that opens on any machine, with the passphrase alone.
#[derive(Args)]
pub(crate) struct BackupArgs {
    /// The file, which must not exist
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
}

/// Put the vault of a backup in the place of this one. What is here now is gone then. Key slots do not come back: what
/// was restored is opened as a new vault would be, by what vault.key in the configuration says.
#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// The file of the backup
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Where the passphrase of a backup is; asked for without echo when nothing is said.
#[derive(Args)]
pub(crate) struct PassphraseArgs {
    /// Read the passphrase from a file that nobody else can read (0600), or from standard input with -
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_stdin")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Read the passphrase from standard input
    #[arg(long)]
    pub(crate) passphrase_stdin: bool,
}

#[derive(Args)]
pub(crate) struct AuditArgs {
    /// From this time on: a date, a time, or how long ago, such as 2026-01-31 or 7d
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
}
