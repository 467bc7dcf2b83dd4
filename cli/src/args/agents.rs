//! The arguments of the commands about published agents.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub(crate) struct PublishArgs {
    /// A folder with orch.yaml, or a manifest file
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
}

#[derive(Args)]
pub(crate) struct PullArgs {
    /// org/name, or org/name@version
    pub(crate) agent: String,
    /// The folder to write into; the agent's name when nothing is said
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// Write over files that are there already
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct InfoArgs {
    /// org/name, or org/name@version
    pub(crate) agent: String,
}
