//! What `orch run` costs as a whole process (the summarizer on simulated providers, its component compiled before), and
//! `orch secrets set` (a vault that a key file opens).
//!
//! `cargo bench -p orch --bench run`. Beside it, in turns, the same binary that only prints its version: what any start
//! of the program costs on this machine at this moment.

use std::process::ExitCode;
use std::time::Duration;

use orch_tests::home::Home;
use orch_tests::orch::Orch;
use orch_tests::paired::compare;

const LIMIT: Duration = Duration::from_millis(100);
const LIMIT_OF_SET: Duration = Duration::from_millis(60);
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
    let run = compared.medians()[0].wall <= LIMIT;
    println!("{compared}");
    println!("{:>32}: {LIMIT:?}, {}", "limit of the run", said(run));

    let set = || {
        let value = "sk-0123456789abcdef0123456789abcdef";
        let set =
            Orch::new(env!("CARGO_BIN_EXE_orch"), &home).args(["secrets", "set", "OPENAI_API_KEY", "-"]);
        set.stdin(value).run().expect(0);
    };
    // The first one makes the vault.
    set();
    let compared =
        compare(ROUNDS, OPS, ("orch secrets set", set), ("orch --version", || orch(&["--version"])));
    let set = compared.medians()[0].wall <= LIMIT_OF_SET;
    println!("{compared}");
    println!("{:>32}: {LIMIT_OF_SET:?}, {}", "limit of secrets set", said(set));
    if run && set { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn said(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
