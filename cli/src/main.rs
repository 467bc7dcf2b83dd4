//! The `orch` command: parse, wire, wait, report.

use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use orch_server::{Environment, Failure, Kind};

mod agent_ref;
mod args;
mod client;
mod commands;
mod custody;
mod moment;
mod printer;
mod table;
mod upload;
mod usage;
mod value;
mod wire;

use args::{Cli, Command};
use printer::Printer;

/// A request to a server passes from thread to thread, and so does its memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Whatever this process creates is its user's alone, and so is what the libraries in it create.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Before anything secret is read. Where it does not work, `orch doctor` says so.
    let _ = orch_vault::harden_process();
    // The processes that orch starts for itself are unknown to the parser, and so to all that it generates.
    match std::env::args_os().nth(1).as_deref().and_then(OsStr::to_str) {
        Some("__worker") => return orch_runner::worker_main(),
        Some("__compile") => return orch_runner::compile_main(),
        _ => {}
    }
    let environment = Environment::Process;
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return parse_failure(&error, &environment),
    };
    let printer = Printer::new(cli.json, &environment);
    let done = guarded(|| match cli.command {
        Command::Run(args) => commands::run::run(&args, printer),
        Command::Serve(args) => commands::serve::run(*args, printer),
        Command::Proxy(args) => commands::proxy::run(*args, printer),
        Command::Secrets(args) => commands::secrets::run(args, printer),
        Command::Byok(args) => commands::byok::run(&args, printer),
        Command::Vault(args) => commands::vault::run(&args, printer),
        Command::Publish(args) => commands::publish::run(&args, printer),
        Command::Pull(args) => commands::pull::run(&args, printer),
        Command::List => commands::list::run(printer),
        Command::Info(args) => commands::info::run(&args, printer),
        Command::Grants(args) => commands::grants::run(&args.command, printer),
        Command::Policy(args) => commands::policy::run(&args.command, printer),
        Command::Routes(args) => commands::routes::run(&args.command, printer),
        Command::Providers(args) => commands::providers::run(&args.command, printer),
        Command::Budgets(args) => commands::budgets::run(&args.command, printer),
        Command::Logs(args) => commands::logs::run(&args, printer),
        Command::Usage(args) => commands::usage::run(&args, printer),
        Command::Login(args) => commands::login::login(&args, printer),
        Command::Logout(args) => commands::login::logout(&args, printer),
        Command::Whoami => commands::login::whoami(printer),
        Command::Tokens(args) => commands::tokens::run(&args.command, printer),
        Command::Doctor(args) => commands::doctor::run(&args, printer),
        Command::Completions(args) => commands::generate::completions(&args, printer),
        Command::Man(args) => commands::generate::man(&args, printer),
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
