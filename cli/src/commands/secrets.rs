//! `orch secrets`: what the vault holds, never what it says.

use std::process::ExitCode;

use orch_server::Failure;

use crate::args::{SecretsArgs, SecretsCommand};
use crate::commands::vault;
use crate::printer::Printer;
use crate::wire::Installation;

mod grants;
mod import;
mod keeping;
mod list;
mod proof;
mod rm;
mod rotate;
mod row;
mod said;
mod set;
mod which;

pub(crate) use keeping::Keeping;
pub(crate) use proof::{check_terms, proven};
pub(crate) use which::layers;

/// What is said is checked before any server is looked for.
pub(crate) fn run(args: SecretsArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let find = || Keeping::find(&here, args.local);
    match args.command {
        SecretsCommand::Set(args) => set::run(&here, find, &args, printer),
        SecretsCommand::Rotate(args) => rotate::run(&here, find, &args, printer),
        SecretsCommand::List => list::run(&here, &find()?, printer),
        SecretsCommand::Rm(args) => rm::run(&here, find, &args, printer),
        SecretsCommand::Which(args) => which::run(&here, find, &args, printer),
        SecretsCommand::Grants(args) => grants::run(&here, find, args, printer),
        SecretsCommand::Import(args) => import::run(&here, find, &args, printer),
        SecretsCommand::Export(args) => vault::backup(find, &args, printer),
    }?;
    Ok(ExitCode::SUCCESS)
}
