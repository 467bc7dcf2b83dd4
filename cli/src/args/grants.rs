//! The arguments of `orch grants`.

use clap::{Args, Subcommand};

#[derive(Args)]
pub(crate) struct LastingArgs {
    #[command(subcommand)]
    pub(crate) command: LastingCommand,
}

#[derive(Subcommand)]
pub(crate) enum LastingCommand {
    /// List what agents were granted or refused for good, here and at the server that commands go to
    List(ListAnswersArgs),
    /// Forget the answers about an agent; it asks again, unless it is granted in another way
    Rm(ForgetArgs),
}

#[derive(Args)]
pub(crate) struct ListAnswersArgs {
    /// Only what is kept in this home; no server is asked
    #[arg(long)]
    pub(crate) local: bool,
}

/// What was granted holds no more for the runs that begin from then on.
#[derive(Args)]
pub(crate) struct ForgetArgs {
    /// The agent, in all of its versions; or the digest of one as `orch grants list` shows it
    #[arg(value_name = "AGENT|DIGEST")]
    pub(crate) whose: String,
    /// Only what is kept in this home; no server is asked
    #[arg(long)]
    pub(crate) local: bool,
}
