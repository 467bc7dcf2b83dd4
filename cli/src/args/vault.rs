//! The arguments of `orch vault`.

use clap::{Args, Subcommand};

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
    /// Say where the vault is, how large it is and how often it changed
    Status,
    /// Decrypt everything and say whether it is what was written
    Verify,
    /// Show what happened: secrets set, used and removed
    Audit(AuditArgs),
}

#[derive(Args)]
pub(crate) struct AuditArgs {
    /// From this time on: a date, a time, or how long ago, such as 2026-01-31 or 7d
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
}
