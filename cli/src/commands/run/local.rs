//! A run in this process alone (`--local`): the broker, and nothing beside it.

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use orch_server::{Agent, Failure, Kind, RunRequest};

use super::said::Said;
use super::terminal::Terminal;
use super::{Interrupts, interrupted_more_than, print};
use crate::args::RunArgs;
use crate::printer::Printer;
use crate::wire::{Installation, runtime_of_one_run};

pub(super) fn run(args: &RunArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let request = request(args, &here, printer)?;
    let stream = args.stream;
    let socket = here.home.server_socket();
    let broker = here.broker()?;
    let report = runtime_of_one_run()?.block_on(async {
        let interrupts = Interrupts::listen();
        let stop = interrupts.count.clone();
        let terminal = Terminal::new(if stream { printer.without_status() } else { printer }, stop.clone());
        let done = tokio::select! {
            done = broker.run(request, &terminal, stop.clone()) => done,
            // Whoever interrupts twice does not want to wait for anything.
            () = interrupted_more_than(1, &stop) => {
                Err(Failure::new(Kind::Interrupted, "interrupted", "interrupted; the agent was killed"))
            }
        };
        // Whoever interrupts does not wait for a collector.
        if *stop.borrow() == 0 {
            broker.end_export().await;
        }
        terminal.finish();
        done
    });
    let report = report.map_err(|failure| match failure.code() {
        // The server holds the vault for as long as it runs.
        "vault_locked" if UnixStream::connect(&socket).is_ok() => {
            failure.hint("the server of this home holds the vault: run the agent there, without --local")
        }
        _ => failure,
    })?;
    let report = serde_json::to_value(&report)
        .map_err(|e| Failure::defect(format!("the report cannot be written as JSON: {e}")))?;
    print(&report, stream, printer)?;
    Ok(ExitCode::SUCCESS)
}

fn request(args: &RunArgs, here: &Installation, printer: Printer) -> Result<RunRequest, Failure> {
    let said = Said::read(args, here, printer)?;
    Ok(RunRequest {
        input: said.input,
        keys: said.keys,
        provider: said.provider,
        model: said.model,
        prefer: said.prefer,
        env: said.env,
        allow: said.allow,
        secrets: said.secrets,
        granted: said.granted,
        trial: said.trial,
        mounts: said.mounts,
        limits: said.limits,
        stream: said.stream,
        simulate: said.simulate,
        ..RunRequest::new(Agent::load(&args.agent, &here.catalog)?)
    })
}
