//! The arguments of `orch secrets`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{BackupArgs, SecretArg, secret_arg};

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
    /// Put a new value in the place of one; what was said about it stays
    Rotate(Box<RotateArgs>),
    /// List what is stored; never a value
    List,
    /// Remove a secret, after saying who uses it
    Rm(RmArgs),
    /// Say where the value of a name would come from: flag, environment or vault
    Which(WhichArgs),
    /// Look at where secrets may go and for whom, and change that
    Grants(GrantsArgs),
    /// Store everything that a .env file holds, or nothing
    Import(ImportArgs),
    /// Write a backup, sealed under a passphrase; there is no export that shows values
    Export(BackupArgs),
}

/// Store a secret. The value is read from the terminal without echo, from standard input, a file or the environment.
#[derive(Args)]
#[command(
    after_help = "Without a flag about grants a secret keeps those that it had; with one, these replace them.\n\n\
                  A provider's key is checked with its provider before it is stored, which costs nothing and takes five \
                  seconds at most: one that the provider rejects is not stored (exit code 3). One that could not be \
                  checked, offline for example, is stored, and that is said. --no-check, or ORCH_KEY_CHECK=off, asks \
                  nobody. A server elsewhere asks by itself."
)]
pub(crate) struct SetArgs {
    /// Its name, such as OPENAI_API_KEY
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) value: ValueArgs,
    /// Refuse to use the value after this time, such as 30d
    #[arg(long, value_name = "DURATION")]
    pub(crate) expires: Option<String>,
    /// Accept line breaks, as PEM files and JSON credentials have them: it then never goes into a header
    #[arg(long)]
    pub(crate) multiline: bool,
    #[command(flatten)]
    pub(crate) proof: ProofArgs,
    /// Let the credential file of another tool (Qwen Code, Gemini CLI, Claude Code) be read at each use; at its usual place
    /// when no path is given. It is never written to
    #[arg(long, value_name = "PATH", num_args = 0..=1, conflicts_with_all = ["value", "from_file", "from_env", "multiline"])]
    pub(crate) credential_file: Option<Option<PathBuf>>,
    /// The Google Cloud project that calls with a credential file of Gemini CLI are for
    #[arg(long, value_name = "ID", requires = "credential_file")]
    pub(crate) project: Option<String>,
    /// Take a credential file although its provider's terms forbid its use in other products
    #[arg(long)]
    pub(crate) despite_terms: bool,
    #[command(flatten)]
    pub(crate) grants: GrantFlags,
}

/// Whether a provider is asked about its key.
#[derive(Args)]
pub(crate) struct ProofArgs {
    /// Do not ask the provider whether it accepts the key
    #[arg(long)]
    pub(crate) no_check: bool,
}

/// Put a new value in the place of one. Its grants stay, and the next request uses it.
#[derive(Args)]
pub(crate) struct RotateArgs {
    /// Its name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) value: ValueArgs,
    /// Refuse to use the value after this time; it lives as long as the one before when nothing is said
    #[arg(long, value_name = "DURATION")]
    pub(crate) expires: Option<String>,
    #[command(flatten)]
    pub(crate) proof: ProofArgs,
}

/// Where a value comes from.
#[derive(Args)]
pub(crate) struct ValueArgs {
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
    /// Accept a value of under 16 bytes: it cannot be cleaned out of responses
    #[arg(long)]
    pub(crate) allow_short: bool,
}

/// Where a value may go, and for whom. Each narrows; what is not said does not.
#[derive(Args)]
#[command(next_help_heading = "Where it may go, and for whom: one grant for each --host")]
pub(crate) struct GrantFlags {
    /// A host that the value may be sent to (names of the provider catalog are bound to their provider already)
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// A method that it may be sent with, such as GET
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Vec<String>,
    /// A pattern of paths that it may be sent to, such as /repos/**
    #[arg(long, value_name = "GLOB")]
    pub(crate) path: Vec<String>,
    /// The place in the request that it belongs in; header:authorization when nothing is said
    #[arg(long = "in", value_name = "header:NAME|query:NAME")]
    pub(crate) place: Option<String>,
    /// A request to the account of a provider's key that it may go with beside model calls, such as GET:/v1/files/**
    #[arg(long, value_name = "METHOD:GLOB")]
    pub(crate) account: Vec<String>,
    /// An agent that may use it without being asked about; others then need --secret at each run
    #[arg(long, value_name = "ORG/NAME")]
    pub(crate) agent: Vec<String>,
    /// How many runs may use it
    #[arg(long, value_name = "N", value_parser = count_of_runs, allow_negative_numbers = true)]
    pub(crate) runs: Option<u64>,
    /// How much model calls with it may cost together, in US dollars (for keys of providers)
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    pub(crate) max_cost: Option<String>,
}

#[derive(Args)]
pub(crate) struct RmArgs {
    /// Its name
    pub(crate) name: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// End the requests under way that carry it, too
    #[arg(long)]
    pub(crate) now: bool,
}

#[derive(Args)]
pub(crate) struct WhichArgs {
    /// A name such as OPENAI_API_KEY, or a provider such as openai
    pub(crate) name: String,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct GrantsArgs {
    /// The secret whose grants are listed; those of all when nothing is said
    pub(crate) name: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Option<GrantsCommand>,
}

#[derive(Subcommand)]
pub(crate) enum GrantsCommand {
    /// Let a secret go somewhere more, or somebody more use it
    Add(Box<AddGrantArgs>),
    /// Take a grant back; it holds from the next request on
    Rm(RmGrantArgs),
}

#[derive(Args)]
pub(crate) struct AddGrantArgs {
    /// The secret
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) grants: GrantFlags,
    /// Let it be used until this time, such as 30d
    #[arg(long, value_name = "DURATION", help_heading = None)]
    pub(crate) expires: Option<String>,
}

#[derive(Args)]
pub(crate) struct RmGrantArgs {
    /// The secret
    pub(crate) name: String,
    /// The grant's number
    pub(crate) id: String,
}

/// Store everything that a .env file holds, or nothing. No variable in it is replaced: a $ is a $.
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The file: lines of NAME=VALUE; - for standard input
    pub(crate) file: PathBuf,
    /// Say what would be stored, and store nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Replace values that are there already; what was said about them stays
    #[arg(long)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) proof: ProofArgs,
    /// Take other tools' tokens although their providers' terms forbid their use in other products
    #[arg(long)]
    pub(crate) despite_terms: bool,
}

fn count_of_runs(text: &str) -> Result<u64, &'static str> {
    text.parse().ok().filter(|runs| *runs > 0).ok_or("a whole number from 1 on, such as --runs 10")
}
