//! Fails on its own account, with status 7, of which WASI 0.2 carries only that it is not 0.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("leaving with 7");
    ExitCode::from(7)
}
