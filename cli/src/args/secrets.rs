//! The arguments of `orch secrets`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{SecretArg, secret_arg};

#[derive(Args)]
pub(crate) struct SecretsArgs {
    /// Use the vault of this machine, even where a server is configured
    #[arg(long, global = true, display_order = 899)]
    pub(crate) local: bool,
    #[command(subcommand)]
    pub(crate) command: SecretsCommand,
}

#[derive(Subcommand)]
pub(crate) enum SecretsCommand {
    /// Store a value, or a new version of it; asks for it when none is given
    Set(Box<SetArgs>),
    /// List what is stored; never a value
    List,
    /// Remove a secret
    Rm(RmArgs),
    /// Say where the value of a name would come from: flag, environment or vault
    Which(WhichArgs),
}

/// Store a secret. The value is read from the terminal without echo, from standard input, a file or the environment.
#[derive(Args)]
pub(crate) struct SetArgs {
    /// Its name, such as OPENAI_API_KEY
    pub(crate) name: String,
    /// The value, or - for standard input. Others can see a value given here in the process list and the shell's
    /// history
    #[arg(value_name = "VALUE | -", value_parser = secret_arg)]
    pub(crate) value: Option<Arc<SecretArg>>,
    /// Read the value from a file
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    pub(crate) from_file: Option<PathBuf>,
    /// Take the value from the environment variable of the same name
    #[arg(long, conflicts_with_all = ["value", "from_file"])]
    pub(crate) from_env: bool,
    /// A host that the value may be sent to (names of the provider catalog are bound to their provider already)
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// The request header that the value belongs in; header:authorization when nothing is said
    #[arg(long = "in", value_name = "header:NAME")]
    pub(crate) place: Option<String>,
    /// An agent that may use it without being asked about; others then need --secret at each run
    #[arg(long, value_name = "ORG/NAME")]
    pub(crate) agent: Vec<String>,
    /// Refuse to use it after this time, such as 30d
    #[arg(long, value_name = "DURATION")]
    pub(crate) expires: Option<String>,
    /// Accept a value of under 16 bytes: it cannot be cleaned out of responses
    #[arg(long)]
    pub(crate) allow_short: bool,
}

#[derive(Args)]
pub(crate) struct RmArgs {
    /// Its name
    pub(crate) name: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct WhichArgs {
    /// A name such as OPENAI_API_KEY, or a provider such as openai
    pub(crate) name: String,
}
