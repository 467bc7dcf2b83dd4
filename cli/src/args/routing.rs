//! The arguments of `orch routes`, `orch providers` and `orch budgets`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{KeyArg, key_arg};

#[derive(Args)]
pub(crate) struct RoutesArgs {
    #[command(subcommand)]
    pub(crate) command: RoutesCommand,
}

#[derive(Subcommand)]
pub(crate) enum RoutesCommand {
    /// List the routes: the server's and the workspace's
    List,
    /// Make a route, or put another in its place
    Set(SetRouteArgs),
    /// Remove a route
    Rm(RmRouteArgs),
}

/// The next call goes by it. Without priorities the order of the targets counts; targets of one priority share the calls by
/// weight.
#[derive(Args)]
pub(crate) struct SetRouteArgs {
    /// The name that stands where a model's name would
    pub(crate) name: String,
    /// Where it leads, as JSON: {"targets": [{"model": "gpt-4o"}, {"model": "claude-3-haiku"}]}
    pub(crate) route: String,
}

#[derive(Args)]
pub(crate) struct RmRouteArgs {
    /// The route
    pub(crate) name: String,
}

#[derive(Args)]
pub(crate) struct ProvidersArgs {
    #[command(subcommand)]
    pub(crate) command: ProvidersCommand,
}

#[derive(Subcommand)]
pub(crate) enum ProvidersCommand {
    /// List the providers, the keys that there are for each, and how those fare
    List,
    /// Forget what is known of how keys fare: they are asked again
    Reset(ResetArgs),
    /// Ask a provider for real, with a key, whether it does what the catalog says of it; costs a few tokens
    Check(ConformArgs),
}

#[derive(Args)]
#[command(
    after_help = "Four requests at most: a whole answer, a stream, a tool call, and a model that does not exist. What they \
                        cost at most is said before the first.\n\nExits with 0 when all is as it should be, 3 when there is no key or \
                        it is not taken, 5 when a provider fails a check. Whether keys are accepted, search providers' \
                        among them, is asked for nothing by orch doctor."
)]
pub(crate) struct ConformArgs {
    /// The provider, by any of its names, such as openai or azure-responses
    #[arg(value_name = "PROVIDER", required_unless_present = "all")]
    pub(crate) provider: Option<String>,
    /// Check every provider that has a key in the environment or the vault, one after another
    #[arg(long, conflicts_with_all = ["provider", "model", "key_file", "key_stdin", "key"])]
    pub(crate) all: bool,
    /// Ask this model; the cheapest that the catalog lists when nothing is said
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Read the key from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key_stdin", "key"])]
    pub(crate) key_file: Option<PathBuf>,
    /// Read the key from standard input
    #[arg(long, conflicts_with = "key")]
    pub(crate) key_stdin: bool,
    /// The key. Others can see it in the process list and the shell's history: prefer the forms above. Without any, the
    /// environment's, else the vault's
    #[arg(long, value_name = "KEY", value_parser = key_arg)]
    pub(crate) key: Option<Arc<KeyArg>>,
}

#[derive(Args)]
pub(crate) struct ResetArgs {
    /// A provider, for all of its keys, or the name of one key
    #[arg(value_name = "PROVIDER|KEY")]
    pub(crate) name: String,
}

#[derive(Args)]
pub(crate) struct BudgetsArgs {
    #[command(subcommand)]
    pub(crate) command: BudgetsCommand,
}

#[derive(Subcommand)]
pub(crate) enum BudgetsCommand {
    /// List the budgets: the server's and the workspace's, with what is used and held of each
    List,
    /// Free what is held for calls of processes that died; what calls under way hold stays
    Release(ReleaseArgs),
}

#[derive(Args)]
pub(crate) struct ReleaseArgs {
    /// The budget
    pub(crate) name: String,
    /// The workspace whose spending it is, instead of your own (operators only)
    #[arg(long, value_name = "NAME")]
    pub(crate) workspace: Option<String>,
}
