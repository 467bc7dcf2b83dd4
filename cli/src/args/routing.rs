//! The arguments of `orch routes`, `orch providers` and `orch budgets`.

use clap::{Args, Subcommand};

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
