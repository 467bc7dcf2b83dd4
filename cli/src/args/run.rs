//! The arguments of `orch run`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{KeyArg, key_arg};

// What to run, on what, with which keys and which permissions.
#[derive(Args)]
pub(crate) struct RunArgs {
    /// A folder with orch.yaml, a manifest file, a .wasm file, or org/name (orch/summarizer and orch/translator come
    /// with orch); what exists as a path is a path
    pub(crate) agent: String,

    /// Run on this machine, with your own keys, in this process alone
    #[arg(long)]
    pub(crate) local: bool,

    /// The input: JSON, @FILE, or - for standard input
    #[arg(long, short, alias = "data", value_name = "JSON|@FILE|-")]
    pub(crate) input: Option<String>,

    /// Pass the agent's output through as it is written, before it is checked
    #[arg(long)]
    pub(crate) stream: bool,

    /// Print the run's id and leave; the run goes on, on the server
    #[arg(long, conflicts_with_all = ["local", "stream"])]
    pub(crate) detach: bool,

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

// Keys for this run. Without any, the environment is looked at, then the vault.
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
    /// Send the keys of this environment along to a server on another machine, for this run only
    #[arg(long, conflicts_with = "local")]
    pub(crate) send_env_keys: bool,
}

// Which model answers.
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

// What the agent may do beyond thinking.
#[derive(Args)]
#[command(next_help_heading = "Permissions")]
pub(crate) struct GrantArgs {
    /// Let the agent reach a host that its manifest asks for
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) allow: Vec<String>,
    /// Try a narrower policy beside the one in force: write down what it would refuse, and refuse nothing more. FILE is
    /// a manifest, or has an `egress` list alone
    #[arg(long, value_name = "FILE")]
    pub(crate) trial_policy: Option<PathBuf>,
    /// Let the agent use a secret of the vault toward a host
    #[arg(long, value_name = "NAME@HOST")]
    pub(crate) secret: Vec<String>,
    /// Grant what the manifest asks of model providers beside answers: llm.server_tools:KIND[,KIND], llm.account:PROVIDER:METHOD:PATH[,METHOD:PATH]
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) grant: Vec<String>,
    /// Give the agent a folder
    #[arg(long, value_name = "HOST::GUEST[:ro|rw]")]
    pub(crate) mount: Vec<String>,
    /// Set a variable inside the sandbox
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
}

// Tighter or wider limits than the manifest's, within the configured ceilings.
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
