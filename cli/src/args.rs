//! The command line, as types.
//!
//! Values of keys become [`KeyArg`] at once: a type without Debug or Display, whose parser cannot fail, so that no
//! error message of the parser can repeat it.

use std::sync::Arc;

use clap::{Parser, Subcommand};
use orch_vault::Secret;

use crate::commands::proxy::ProxyArgs;
use crate::commands::serve::ServeArgs;

mod agents;
mod byok;
mod grants;
mod policy;
mod routing;
mod run;
mod secrets;
mod server;
mod slots;
mod vault;

pub(crate) use agents::{InfoArgs, PublishArgs, PullArgs};
pub(crate) use byok::{ByokArgs, ByokCommand, ClearArgs, ModelOfArgs, PolicyOfTeamArgs, SetKeyArgs, UseArgs};
pub(crate) use grants::{ForgetArgs, LastingArgs, LastingCommand, ListAnswersArgs};
pub(crate) use policy::{CheckArgs, ExplainArgs, LearnArgs, PolicyArgs, PolicyCommand, TestArgs};
pub(crate) use routing::{
    BudgetsArgs, BudgetsCommand, ConformArgs, ProvidersArgs, ProvidersCommand, ReleaseArgs, RoutesArgs,
    RoutesCommand,
};
pub(crate) use run::{KeyArgs, LimitArgs, RunArgs};
pub(crate) use secrets::{
    AddGrantArgs, GrantFlags, GrantsArgs, GrantsCommand, ImportArgs, ProofArgs, RmArgs, RmGrantArgs,
    RotateArgs, SecretsArgs, SecretsCommand, SetArgs, ValueArgs, WhichArgs,
};
pub(crate) use server::{
    Billing, By, CompletionsArgs, DoctorArgs, LoginArgs, LogoutArgs, LogsArgs, ManArgs, NewTokenArgs,
    RequestStatus, RequestsArgs, RevokeArgs, TokensArgs, TokensCommand, UsageArgs,
};
pub(crate) use slots::{AddSlotCommand, RmSlotArgs, SlotsArgs, SlotsCommand};
pub(crate) use vault::{AuditArgs, BackupArgs, PassphraseArgs, RestoreArgs, VaultArgs, VaultCommand};

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

// Only the command that is given is built: all of them are some hundred kilobytes. What is built then would put its own
// documentation in the place of what stands here, so that the arguments of commands have comments instead.
#[derive(Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Run an agent in the sandbox and print its answer
    Run(Box<RunArgs>),
    /// Keep keys in the encrypted vault
    Secrets(SecretsArgs),
    /// Bring your own key: the provider that is thought with first
    Byok(ByokArgs),
    /// Look after the vault: its state, its records, who can open it
    Vault(VaultArgs),
    /// Run agents and answer model calls for others, until it is told to stop
    Serve(Box<ServeArgs>),
    /// Let other programs reach what is allowed, and nothing else, until it is told to stop
    Proxy(Box<ProxyArgs>),
    /// Put a version of an agent where others can run it by name
    Publish(PublishArgs),
    /// Get a published agent as a folder
    Pull(PullArgs),
    /// List the agents that can be run by name
    List,
    /// Say what an agent is, what it wants and what it was granted
    Info(InfoArgs),
    /// See and take back what was granted or refused to agents for good
    Grants(LastingArgs),
    /// Say what an agent's policy allows, and learn one from a run
    Policy(PolicyArgs),
    /// Give several models one name, with fallbacks and shares
    Routes(RoutesArgs),
    /// Show which providers can be asked, and how their keys fare
    Providers(ProvidersArgs),
    /// Show what may be spent on models, and free what crashed processes hold of it
    Budgets(BudgetsArgs),
    /// Show the requests that models were asked, or what the agent of a run has logged
    Logs(Box<LogsArgs>),
    /// Add up runs, calls, tokens and costs
    Usage(UsageArgs),
    /// Keep the token of a server on this machine
    Login(LoginArgs),
    /// Forget the token of a server
    Logout(LogoutArgs),
    /// Say who the server takes you for
    Whoami,
    /// Make and revoke tokens of a server
    Tokens(TokensArgs),
    /// Look at this installation and say what works and what does not
    Doctor(DoctorArgs),
    /// Print a script that completes commands in a shell
    Completions(CompletionsArgs),
    /// Write the manual's pages into a folder
    #[command(hide = true)]
    Man(ManArgs),
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
