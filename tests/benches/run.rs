//! What `orch run` costs as a whole process: the summarizer on simulated providers, its component compiled before.
//!
//! `cargo bench -p orch --bench run`. Beside it, in turns, the same binary that only prints its version: what any start
//! of the program costs on this machine at this moment.

use std::process::ExitCode;
use std::time::Duration;

use orch_tests::home::Home;
use orch_tests::orch::Orch;
use orch_tests::paired::compare;

const LIMIT: Duration = Duration::from_millis(100);
const ROUNDS: usize = 11;
const OPS: u32 = 10;
const INPUT: &str =
    r#"{"text":"A broker holds the keys. A worker runs the agent. Nothing else crosses between them."}"#;

#[expect(clippy::print_stdout, reason = "a benchmark's output is its result")]
fn main() -> ExitCode {
    let home = Home::new();
    let orch = |args: &[&str]| {
        Orch::new(env!("CARGO_BIN_EXE_orch"), &home).args(args).run().expect(0);
    };
    let compared = compare(
        ROUNDS,
        OPS,
        ("orch run, simulated, cached", || {
            orch(&["run", "--local", "orch/summarizer", "--simulate", "--input", INPUT]);
        }),
        ("orch --version", || orch(&["--version"])),
    );
    let [run, _] = compared.medians();
    let met = run.wall <= LIMIT;
    println!("{compared}");
    println!("{:>32}: {LIMIT:?}, {}", "limit of the run", if met { "met" } else { "missed" });
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
