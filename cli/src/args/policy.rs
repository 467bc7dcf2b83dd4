//! The arguments of `orch policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say which rule decides about a URL, or what is missing
    Explain(ExplainArgs),
    /// Judge a list of URLs by a manifest's egress, one answer a line
    Check(CheckArgs),
    /// Check a file of expectations about a policy
    Test(TestArgs),
    /// Write the egress section that would have allowed what was asked for
    Learn(LearnArgs),
}

/// Which rule decides about each URL: its number, its text and who wrote it; or which came nearest, what it lacks, and
/// the line that the manifest would need. Nothing is sent, and no name is looked up.
#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// What would be asked for
    #[arg(required = true, value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// The manifest, a folder with one, or a file with `egress` and `limits` alone
    #[arg(long, value_name = "FILE", conflicts_with = "agent")]
    pub(crate) manifest: Option<PathBuf>,
    /// An agent as `orch run` takes it
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// The method; GET when nothing is said
    #[arg(long, short, value_name = "METHOD")]
    pub(crate) method: Vec<String>,
    /// As if the run had this --allow
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) allow: Vec<String>,
}

/// Prints {"url","decision","reason"} for each URL, in their order. The policy is the manifest's `egress` as if it was
/// granted; no name is looked up, and a URL is allowed when a rule allows it with any method.
#[derive(Args)]
#[command(after_help = "\
Prints {\"url\",\"decision\",\"reason\"} for each line. The policy is the manifest's `egress` as if it
was granted; no name is looked up. A URL is allowed when a rule allows it with some method.")]
pub(crate) struct CheckArgs {
    /// The manifest, a folder with one, or a file with `egress` and `limits` alone
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: PathBuf,
    /// The URLs: a JSON string on each line; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) urls: PathBuf,
}

/// Runs expectations; exits with 1 when one is not met.
#[derive(Args)]
#[command(after_help = "\
FILE, in YAML:
  manifest: orch.yaml        # or `egress: [ … ]`
  tests:
    - { url: \"https://api.example.com/v1\", expect: allow, rule: 1 }
    - { url: \"https://api.example.com/\", method: PUT, expect: deny, code: path_not_allowed }")]
pub(crate) struct TestArgs {
    /// The file of expectations
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// The smallest `egress` section that allows what was asked for and nothing else, from what the egress proxy decided:
/// what was allowed as well as what was refused. Read it before you use it.
#[derive(Args)]
#[command(after_help = "\
It allows what was asked for and nothing else, but where three or more siblings of an identifier
became a `*`, or a tunnel was asked for; comments say so. Read it before you use it: a program may
have asked for what it should not.")]
pub(crate) struct LearnArgs {
    /// The run, such as run_…, here or at the server that commands go to; or @FILE with what `orch run --json` printed
    #[arg(value_name = "RUN|@FILE", required_unless_present = "log")]
    pub(crate) run: Option<String>,
    /// Learn from a log instead: what `orch proxy` writes on stderr with --log-decisions or --json, or a server's
    /// decisions.jsonl; - for standard input. With RUN, from that run's decisions alone
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
}
