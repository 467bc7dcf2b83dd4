//! The arguments of `orch vault`.

use clap::{Args, Subcommand};

use super::SlotsArgs;

#[derive(Args)]
pub(crate) struct VaultArgs {
    #[command(subcommand)]
    pub(crate) command: VaultCommand,
}

#[derive(Subcommand)]
pub(crate) enum VaultCommand {
    /// Look at who can open the vault, and change that
    Slots(SlotsArgs),
    /// Give the vault new keys; nothing that is stored is touched, and no value changes
    Rekey,
}
