//! The arguments of `orch byok`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{KeyArg, ProofArgs, SecretArg, key_arg, secret_arg};

#[derive(Args)]
pub(crate) struct ByokArgs {
    /// Use the vault of this machine, even where a server is configured
    #[arg(long, global = true, display_order = 899)]
    pub(crate) local: bool,
    #[command(subcommand)]
    pub(crate) command: ByokCommand,
}

#[derive(Subcommand)]
pub(crate) enum ByokCommand {
    /// Store your key for a provider, and think with that provider first; asks for the key when none is given
    Set(SetKeyArgs),
    /// Think with a provider first that has a key already
    Use(UseArgs),
    /// Say which of the active provider's models comes first
    Model(ModelOfArgs),
    /// Say which provider is active, where its key comes from and who is billed
    Status,
    /// Remove your key for a provider, and go back to the next one that has a key
    Clear(ClearArgs),
    /// Show or set whose keys serve the members of a workspace
    Policy(PolicyOfTeamArgs),
}

/// Store your key for a provider. It is read from the terminal without echo, from standard input or a file.
#[derive(Args)]
pub(crate) struct SetKeyArgs {
    /// The provider, such as openai
    pub(crate) provider: String,
    /// - for standard input
    #[arg(value_name = "-", value_parser = secret_arg, conflicts_with_all = ["key", "key_file"])]
    pub(crate) stdin: Option<Arc<SecretArg>>,
    /// The key. Others can see it in the process list and the shell's history: prefer the other forms
    #[arg(long, value_name = "KEY", value_parser = key_arg, conflicts_with = "key_file")]
    pub(crate) key: Option<Arc<KeyArg>>,
    /// Read the key, or the provider's JSON credential, from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) proof: ProofArgs,
    /// Take another tool's token although its provider's terms forbid its use in other products
    #[arg(long)]
    pub(crate) despite_terms: bool,
}

#[derive(Args)]
pub(crate) struct UseArgs {
    /// The provider; `none` for no preference
    pub(crate) provider: String,
}

#[derive(Args)]
pub(crate) struct ModelOfArgs {
    /// The model; `default` for what agents name themselves
    pub(crate) model: String,
    /// Take a name that the catalog does not list
    #[arg(long)]
    pub(crate) unlisted: bool,
}

#[derive(Args)]
pub(crate) struct ClearArgs {
    /// The provider
    pub(crate) provider: String,
    /// End the requests under way that carry the key, too
    #[arg(long)]
    pub(crate) now: bool,
}

#[derive(Args)]
pub(crate) struct PolicyOfTeamArgs {
    /// disabled, prefer_team, require_team or prefer_own; the policy is shown when nothing is said
    pub(crate) policy: Option<String>,
    /// Leave it to the server's configuration again
    #[arg(long, conflicts_with = "policy")]
    pub(crate) reset: bool,
}
