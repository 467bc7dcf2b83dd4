//! `orch vault`: who can open the vault, and its keys.

use std::process::ExitCode;

use orch_server::Failure;

use crate::args::{VaultArgs, VaultCommand};
use crate::printer::Printer;
use crate::wire::Installation;

mod slots;

pub(crate) fn run(args: &VaultArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    match &args.command {
        VaultCommand::Slots(args) => slots::run(&here, args, printer),
        VaultCommand::Rekey => slots::rekey(&here, printer),
    }?;
    Ok(ExitCode::SUCCESS)
}
