//! Fails on its own account, with a status that nothing else uses.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("leaving with 7");
    ExitCode::from(7)
}
