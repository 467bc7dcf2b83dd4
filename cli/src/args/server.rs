//! The arguments of the commands about a server: who one is there, what was recorded; and of what the parser generates.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

// Show the requests that models were asked, newest first; or what the agent of a run has logged; or all that is on record of
// one request.
#[derive(Args)]
pub(crate) struct LogsArgs {
    /// A run (run_…, or latest for the newest) for its log, or a request (req_…) for its record; requests when nothing is said
    #[arg(value_name = "RUN|REQUEST")]
    pub(crate) of: Option<String>,
    /// Go on: until the run has ended, or with new requests until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) requests: RequestsArgs,
}

// Which requests.
#[derive(Args)]
#[command(next_help_heading = "Which requests")]
pub(crate) struct RequestsArgs {
    /// Of this token, by id or name
    #[arg(long, value_name = "TOKEN", conflicts_with = "of")]
    pub(crate) token: Option<String>,
    /// Of this member of the workspace
    #[arg(long, value_name = "NAME", conflicts_with = "of")]
    pub(crate) member: Option<String>,
    /// Of this agent
    #[arg(long, value_name = "AGENT", conflicts_with = "of")]
    pub(crate) agent: Option<String>,
    /// Of this run
    #[arg(long, value_name = "RUN", conflicts_with = "of")]
    pub(crate) of_run: Option<String>,
    /// Answered by this provider, or sent there last
    #[arg(long, value_name = "PROVIDER", conflicts_with = "of")]
    pub(crate) provider: Option<String>,
    /// Answered by this model, or asked of it
    #[arg(long, value_name = "MODEL", conflicts_with = "of")]
    pub(crate) model: Option<String>,
    /// Made with this key, such as OPENAI_API_KEY
    #[arg(long, value_name = "NAME", conflicts_with = "of")]
    pub(crate) credential: Option<String>,
    /// Made with a key of the caller's own, of the workspace, or of the operator
    #[arg(long, value_enum, value_name = "WHOSE", conflicts_with = "of")]
    pub(crate) billing: Option<Billing>,
    /// Ended so
    #[arg(long, value_enum, value_name = "END", conflicts_with = "of")]
    pub(crate) status: Option<RequestStatus>,
    /// Failed with this class, such as rate_limited
    #[arg(long, value_name = "CLASS", conflicts_with = "of")]
    pub(crate) class: Option<String>,
    /// From this time on: a date, a time, or how long ago, such as 2026-01-31 or 7d
    #[arg(long, value_name = "TIME", conflicts_with = "of")]
    pub(crate) since: Option<String>,
    /// Until before this time
    #[arg(long, value_name = "TIME", conflicts_with = "of")]
    pub(crate) until: Option<String>,
    /// Of this workspace, instead of your own; the operator alone may see others
    #[arg(long, value_name = "NAME")]
    pub(crate) workspace: Option<String>,
    /// So many, the newest; 50 when nothing is said
    #[arg(long, value_name = "N", default_value_t = 50, hide_default_value = true, conflicts_with = "of",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    /// Print comma-separated values under a header
    #[arg(long, conflicts_with = "of")]
    pub(crate) csv: bool,
}

/// Whose key a request was made with.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Billing {
    /// The caller's own: it came with the request, or is a member's
    Own,
    /// The workspace's
    Team,
    /// The operator's
    Platform,
}

impl Billing {
    /// Its word in the HTTP contract.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Team => "team",
            Self::Platform => "platform",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum RequestStatus {
    /// The client got its whole answer
    Served,
    /// Any of those below
    Failed,
    /// No candidate answered
    AllFailed,
    /// Refused as it was asked
    Rejected,
    /// A limit or a budget ended it
    Limit,
    /// The answer broke off after it had begun
    Broken,
    /// The client went away
    Cancelled,
}

impl RequestStatus {
    /// Its word in the HTTP contract.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Failed => "failed",
            Self::AllFailed => "all_failed",
            Self::Rejected => "rejected",
            Self::Limit => "limit",
            Self::Broken => "broken",
            Self::Cancelled => "cancelled",
        }
    }
}

// Look at this installation and say what works and what does not. Each provider is asked whether it accepts its key, which
// costs nothing.
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
    /// Of this workspace, instead of your own; the operator alone may see others
    #[arg(long, value_name = "NAME")]
    pub(crate) workspace: Option<String>,
    /// Print comma-separated values under a header
    #[arg(long)]
    pub(crate) csv: bool,
}

/// What usage is added up by.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum By {
    Day,
    Agent,
    Model,
    Provider,
    Key,
    Billing,
    Member,
    Token,
}

impl By {
    /// Its word, the same on the command line and in the query.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Key => "key",
            Self::Billing => "billing",
            Self::Member => "member",
            Self::Token => "token",
        }
    }
}

// Keep the token of a server on this machine. It is asked for without echo, unless it is said where to read it.
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
