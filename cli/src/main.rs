//! The `orch` command: parse, wire, wait, report.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use orch_server::{Environment, Failure};

mod args;
mod commands;
mod printer;
mod wire;

use args::{Cli, Command};
use printer::Printer;

fn main() -> ExitCode {
    // Whatever this process creates is its user's alone, and so is what the libraries in it create.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let environment = Environment::Process;
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return parse_failure(&error, &environment),
    };
    let printer = Printer::new(cli.json(), &environment);
    let done = match cli.command {
        Command::Worker => return orch_runner::worker_main(),
        Command::Compile => return orch_runner::compile_main(),
        Command::Run(args) => commands::run::run(*args, printer),
        Command::Secrets(args) => commands::secrets::run(args.command, printer),
        Command::Doctor(_) => commands::doctor::run(printer),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(failure.kind().exit_code())
        }
    }
}

/// Help and version go to stdout; a wrong command line is a failure like any other.
fn parse_failure(error: &clap::Error, environment: &Environment) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that is gone, as in `orch --help | head -1`, is no failure.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            // The parser failed, so whether JSON was asked for is only known from the words themselves.
            let json = std::env::args_os().any(|word| word == "--json");
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            let failure = Failure::usage("bad_usage", text);
            Printer::new(json, environment).failure(&failure);
            ExitCode::from(failure.kind().exit_code())
        }
    }
}
