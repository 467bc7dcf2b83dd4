//! The command line, as types.
//!
//! Values of keys become [`KeyArg`] at once: a type without Debug or Display, whose parser cannot fail, so that no
//! error message of the parser can repeat it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use orch_vault::Secret;

use crate::commands::serve::ServeArgs;

/// Run AI agents that nobody has to trust, with keys that the agents never see.
#[derive(Parser)]
#[command(name = "orch", version, max_term_width = 100, propagate_version = true)]
#[command(
    after_help = "Try it, with no key and no network:\n  orch run --local orch/summarizer --simulate --input '{\"text\": \"…\"}'"
)]
pub(crate) struct Cli {
    /// Print the result as one JSON object, and errors as JSON
    #[arg(long, global = true, display_order = 900)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run an agent in the sandbox and print its answer
    Run(Box<RunArgs>),
    /// Keep keys in the encrypted vault
    Secrets(SecretsArgs),
    /// Run agents and answer model calls for others, until it is told to stop
    Serve(Box<ServeArgs>),
    /// Look at this installation and say what works and what does not
    Doctor,
    /// The sandbox process (started by orch itself)
    #[command(name = "__worker", hide = true)]
    Worker,
    /// The compiler process (started by orch itself)
    #[command(name = "__compile", hide = true)]
    Compile,
}

/// What to run, on what, with which keys and which permissions.
#[derive(Args)]
pub(crate) struct RunArgs {
    /// A folder with orch.yaml, a manifest file, a .wasm file, or org/name (orch/summarizer and orch/translator come
    /// with orch); what exists as a path is a path
    pub(crate) agent: String,

    /// Run on this machine, with your own keys
    #[arg(long)]
    pub(crate) local: bool,

    /// The input: JSON, @FILE, or - for standard input
    #[arg(long, short, alias = "data", value_name = "JSON|@FILE|-")]
    pub(crate) input: Option<String>,

    /// Pass the agent's output through as it is written, before it is checked
    #[arg(long)]
    pub(crate) stream: bool,

    /// Use the built-in simulated providers: no key, no network. SCENARIO is one of ok, rate-limit, server-error,
    /// out-of-money, bad-key, slow, cut, or a scenario file
    #[arg(long, value_name = "SCENARIO", num_args = 0..=1, require_equals = true, default_missing_value = "ok")]
    pub(crate) simulate: Option<String>,

    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) grants: GrantArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// Keys for this run. Without any, the environment is looked at, then the vault.
#[derive(Args)]
#[command(next_help_heading = "Keys")]
pub(crate) struct KeyArgs {
    /// Read the primary provider's key from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key_stdin", "key"])]
    pub(crate) key_file: Option<PathBuf>,
    /// Read the primary provider's key from standard input
    #[arg(long, conflicts_with = "key")]
    pub(crate) key_stdin: bool,
    /// A key, for the primary provider or the named one. Others can see it in the process list and the shell's
    /// history: prefer the forms above, or `orch secrets set`
    #[arg(long, value_name = "[PROVIDER=]KEY", value_parser = key_arg)]
    pub(crate) key: Vec<Arc<KeyArg>>,
}

/// Which model answers.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// Use only this provider's candidates of the agent's plan
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<String>,
    /// Use this model (or provider/model) instead of the agent's plan
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
}

/// What the agent may do beyond thinking.
#[derive(Args)]
#[command(next_help_heading = "Permissions")]
pub(crate) struct GrantArgs {
    /// Let the agent reach a host that its manifest asks for
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) allow: Vec<String>,
    /// Let the agent use a secret of the vault toward a host
    #[arg(long, value_name = "NAME@HOST")]
    pub(crate) secret: Vec<String>,
    /// Give the agent a folder
    #[arg(long, value_name = "HOST::GUEST[:ro|rw]")]
    pub(crate) mount: Vec<String>,
    /// Set a variable inside the sandbox
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
}

/// Tighter or wider limits than the manifest's, within the configured ceilings.
#[derive(Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Wall time, such as 90s or 5m
    #[arg(long, value_name = "DURATION")]
    pub(crate) time: Option<String>,
    /// Memory, such as 256MiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Money for model calls, in US dollars, such as 0.50
    #[arg(long, value_name = "USD")]
    pub(crate) max_cost: Option<String>,
}

#[derive(Args)]
pub(crate) struct SecretsArgs {
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

/// A `--key`, whole: which part names a provider is for the catalog to say.
pub(crate) struct KeyArg(Secret);

impl KeyArg {
    /// Looks at the key.
    pub(crate) fn secret(&self) -> &Secret {
        &self.0
    }
}

/// A value on the command line, or `-`.
pub(crate) enum SecretArg {
    Stdin,
    Value(Secret),
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the parser's signature; it must not fail, or its error would show the key"
)]
fn key_arg(text: &str) -> Result<Arc<KeyArg>, std::convert::Infallible> {
    Ok(Arc::new(KeyArg(Secret::new(text.as_bytes().to_vec()))))
}

#[expect(clippy::unnecessary_wraps, reason = "as above")]
fn secret_arg(text: &str) -> Result<Arc<SecretArg>, std::convert::Infallible> {
    Ok(Arc::new(match text {
        "-" => SecretArg::Stdin,
        value => SecretArg::Value(Secret::new(value.as_bytes().to_vec())),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_parser_is_consistent() {
        Cli::command().debug_assert();
    }
}
