//! The arguments of `orch vault slots`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Args)]
pub(crate) struct SlotsArgs {
    #[command(subcommand)]
    pub(crate) command: SlotsCommand,
}

#[derive(Subcommand)]
pub(crate) enum SlotsCommand {
    /// List the key slots, each of which opens the vault alone
    List,
    /// Add a slot; there is one of each kind
    #[command(subcommand)]
    Add(AddSlotCommand),
    /// Remove a slot and its key; the last one stays
    Rm(RmSlotArgs),
}

#[derive(Subcommand)]
pub(crate) enum AddSlotCommand {
    /// A key in a 0600 file outside of the vault
    File,
    /// A passphrase, asked for without echo
    Passphrase {
        /// Read the new passphrase from a file, or - for standard input; one newline at its end is not part of it
        #[arg(long, value_name = "FILE | -")]
        passphrase_file: Option<PathBuf>,
        /// Take the place of the passphrase that there is
        #[arg(long)]
        replace: bool,
    },
    /// A key in the keychain of the operating system
    Keychain,
    /// A key that systemd hands to a service, as the credential orch-vault-key
    SystemdCredential {
        /// Write the key to this new file, for `systemd-creds encrypt --name=orch-vault-key`
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Take the place of the credential that there is
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Args)]
pub(crate) struct RmSlotArgs {
    /// Its id, as `slots list` shows it, its beginning, or its kind
    pub(crate) slot: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}
