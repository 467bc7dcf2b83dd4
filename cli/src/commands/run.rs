//! `orch run`: what the command line says becomes a run; what the run tells becomes lines on the terminal.

use std::process::ExitCode;

use orch_server::Failure;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::RunArgs;
use crate::printer::Printer;
use crate::wire::broken_pipe;

mod body;
mod follow;
mod local;
mod question;
mod said;
mod served;
mod terminal;

pub(crate) use follow::{Next, RunEvent, RunResource, next_events};

pub(crate) fn run(args: &RunArgs, printer: Printer) -> Result<ExitCode, Failure> {
    if args.stream && printer.json() {
        return Err(Failure::usage("bad_usage", "--stream and --json both want standard output"));
    }
    if args.local { local::run(args, printer) } else { served::run(args, printer) }
}

/// Prints what a run answered: all of it as JSON, or the output, unless that went out as it was written.
fn print(report: &Value, stream: bool, printer: Printer) -> Result<(), Failure> {
    if printer.json() {
        printer.result_json(report)
    } else if stream {
        Ok(())
    } else {
        printer.result_json(report.get("output").unwrap_or(&Value::Null))
    }
    .or_else(broken_pipe)
}

/// Counts ctrl-c from now on, until the command ends.
struct Interrupts {
    count: watch::Receiver<u8>,
    /// A task of its own, because a question on the terminal holds up the run's.
    _counter: JoinSet<()>,
}

impl Interrupts {
    /// Must be called within a runtime.
    fn listen() -> Self {
        let (stop, count) = watch::channel(0_u8);
        let mut counter = JoinSet::new();
        counter.spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                stop.send_modify(|count| *count = count.saturating_add(1));
            }
            // Without the signal nobody can stop the run this way; nobody must take that for an interrupt.
            std::future::pending::<()>().await;
        });
        Self { count, _counter: counter }
    }
}

/// Resolves when ctrl-c was pressed more than `times` times.
async fn interrupted_more_than(times: u8, stop: &watch::Receiver<u8>) {
    let mut stop = stop.clone();
    if stop.wait_for(|count| *count > times).await.is_err() {
        std::future::pending::<()>().await;
    }
}
