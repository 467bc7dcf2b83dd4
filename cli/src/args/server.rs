//! The arguments of the commands about a server: who one is there, what was recorded; and of what the parser generates.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

#[derive(Args)]
pub(crate) struct LogsArgs {
    /// The run, such as run_…; the newest one when nothing is said
    pub(crate) run: Option<String>,
    /// Go on until the run has ended
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Look at this installation and say what works and what does not. Each provider is asked whether it accepts its key, which
/// costs nothing.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Ask no provider about keys
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Args)]
pub(crate) struct UsageArgs {
    /// From this time on: a date, a time, or how long ago, such as 2026-01-31 or 7d
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Until before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// What a line stands for
    #[arg(long, value_enum, default_value = "day")]
    pub(crate) by: By,
}

/// What usage is added up by.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum By {
    Day,
    Agent,
    Model,
    Provider,
}

impl By {
    /// Its word, the same on the command line and in the query.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Provider => "provider",
        }
    }
}

/// Keep the token of a server on this machine. It is asked for without echo, unless it is said where to read it.
#[derive(Args)]
pub(crate) struct LoginArgs {
    /// The server's URL; what ORCH_SERVER or the configuration says when nothing is said
    pub(crate) url: Option<String>,
    /// Read the token from standard input
    #[arg(value_name = "-", value_parser = ["-"], hide_possible_values = true)]
    pub(crate) stdin: Option<String>,
    /// Read the token from a file
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct LogoutArgs {
    /// The server's URL; what ORCH_SERVER or the configuration says when nothing is said
    pub(crate) url: Option<String>,
}

#[derive(Args)]
pub(crate) struct TokensArgs {
    #[command(subcommand)]
    pub(crate) command: TokensCommand,
}

#[derive(Subcommand)]
pub(crate) enum TokensCommand {
    /// Make a token; it is printed once and cannot be shown again
    Create(NewTokenArgs),
    /// List the tokens; never their text
    List,
    /// Make a token worthless
    Revoke(RevokeArgs),
}

#[derive(Args)]
pub(crate) struct NewTokenArgs {
    /// What it is for, such as ci
    pub(crate) name: String,
    /// What it may be used for
    #[arg(long, value_enum, value_name = "SCOPE", required = true)]
    pub(crate) scope: Vec<TokenScope>,
    /// Refuse it after this time, such as 30d
    #[arg(long, value_name = "DURATION")]
    pub(crate) expires: Option<String>,
    /// The workspace it belongs to, instead of your own
    #[arg(long, value_name = "NAME")]
    pub(crate) workspace: Option<String>,
}

/// What a token may be used for.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TokenScope {
    /// Make, see and cancel runs; see agents
    Run,
    /// Ask models through the gateway
    Llm,
    /// Have providers search, fetch and run tools by themselves (beside llm)
    #[value(name = "llm:tools")]
    LlmTools,
    /// Publish agents
    Publish,
    /// Store, list and remove secrets
    Secrets,
    /// Answer what agents ask for
    Grants,
    /// All of it, tokens and metrics
    Admin,
}

impl TokenScope {
    /// Its word in the HTTP contract.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Llm => "llm",
            Self::LlmTools => "llm:tools",
            Self::Publish => "publish",
            Self::Secrets => "secrets",
            Self::Grants => "grants",
            Self::Admin => "admin",
        }
    }
}

#[derive(Args)]
pub(crate) struct RevokeArgs {
    /// The token's id, such as tok_…
    pub(crate) id: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Args)]
pub(crate) struct ManArgs {
    /// The folder, which must exist
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
}
