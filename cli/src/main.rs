//! The `orch` command: parse, wire, wait, report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use orch_server::{Environment, Failure, Kind};

mod args;
mod commands;
mod printer;
mod redact;
mod usage;
mod value;
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
    let printer = Printer::new(cli.json, &environment);
    let done = guarded(|| match cli.command {
        Command::Worker => Ok(orch_runner::worker_main()),
        Command::Compile => Ok(orch_runner::compile_main()),
        Command::Run(args) => commands::run::run(*args, printer),
        Command::Secrets(args) => commands::secrets::run(args.command, printer),
        Command::Serve(args) => commands::serve::run(*args, printer),
        Command::Doctor => commands::doctor::run(printer),
    });
    done.unwrap_or_else(|failure| {
        printer.failure(&failure);
        ExitCode::from(failure.kind().exit_code())
    })
}

/// A panic is a defect, and has the exit code of one. What panicked was said on stderr already.
fn guarded(command: impl FnOnce() -> Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    // Nothing is used afterwards that the command could have left half done.
    catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|_| Err(Failure::defect("orch panicked")))
}

/// Help and version go to stdout; a wrong command line is a failure like any other.
fn parse_failure(error: &clap::Error, environment: &Environment) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that is gone, as in `orch --help | head -1`, is no failure.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        // No command at all: the parser writes the help to stderr.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(Kind::Usage.exit_code())
        }
        _ => {
            // The parser failed, so whether JSON was asked for is only known from the words themselves.
            let json = std::env::args_os().any(|word| word == "--json");
            let failure = usage::failure(error);
            Printer::new(json, environment).failure(&failure);
            ExitCode::from(failure.kind().exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_defect() {
        let failure = guarded(|| panic!("on purpose")).expect_err("a defect");
        assert_eq!(failure.kind().exit_code(), 70);
    }
}
