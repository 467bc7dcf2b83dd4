//! `orch logs`: the requests that models were asked, what is on record of one, and what the agent of a run has logged.

use std::process::ExitCode;

use orch_manifests::RunId;
use orch_server::Failure;

use crate::args::LogsArgs;
use crate::printer::Printer;
use crate::wire::{Installation, with_client};

mod requests;
mod run_log;

/// What the log of the newest run is asked for by.
const LATEST: &str = "latest";
/// How the names of requests begin.
const REQUEST: &str = "req_";

/// Whose record is asked for.
enum Of {
    Requests,
    Request(String),
    Run(Option<RunId>),
}

pub(crate) fn run(args: &LogsArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let of = match args.of.as_deref() {
        None => Of::Requests,
        Some(LATEST) => Of::Run(None),
        Some(request) if is_request(request) => Of::Request(request.to_owned()),
        Some(run) => Of::Run(Some(run.parse().map_err(|e| {
            Failure::usage("bad_usage", format!("{e}"))
                .hint("the newest run: orch logs latest")
                .hint("requests: orch logs")
        })?)),
    };
    let asked = &args.requests;
    if asked.csv && printer.json() {
        return Err(Failure::usage(
            "bad_usage",
            "--csv and --json are two forms of the same: say one of them",
        ));
    }
    if args.follow && matches!(of, Of::Request(_)) {
        return Err(Failure::usage(
            "bad_usage",
            "a request is over, and nothing follows: leave out --follow",
        ));
    }
    with_client(&here, async |client| match of {
        Of::Requests => requests::list(client, asked, args.follow, printer).await,
        Of::Request(request) => requests::one(client, &request, asked, printer).await,
        Of::Run(run) => run_log::show(client, run, args.follow, printer).await,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn is_request(text: &str) -> bool {
    text.strip_prefix(REQUEST)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}
