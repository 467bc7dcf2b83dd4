//! What durability costs: a `set`, from the call to its acknowledgement, beside an append and fsync of 4 KiB in the
//! same folder, taken in turns so that both meet the same disk; and what a use of a secret costs.
//!
//! The medians are compared with the targets, and one above its target fails. The disk is the one under the
//! temporary folder (`TMPDIR`).
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it reports to a terminal and may fail loudly")]

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use orch_vault::{ExpectedVersion, OpenMode, Secret, SecretMeta, SecretName, Vault, VaultLocation};

const ROUNDS: usize = 300;
const USES: usize = 2000;
/// How many secrets there are.
const SECRETS: usize = 50;
/// A `set` may take as long as this many appends.
const SET_TARGET: u32 = 3;
const USE_TARGET: Duration = Duration::from_micros(20);

fn main() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let location = VaultLocation {
        store: folder.path().join("vault"),
        key_file: folder.path().join("keys").join("vault.key"),
        workspace: "default".to_owned(),
        custody: orch_vault::Custody::default(),
    };
    let mut vault = Vault::open(&location, OpenMode::Create).unwrap();
    let names: Vec<SecretName> =
        (0..SECRETS).map(|number| format!("SECRET_{number}").parse().unwrap()).collect();
    for name in &names {
        set(&mut vault, name, 0);
    }

    let mut log = File::create(folder.path().join("log")).unwrap();
    let (mut sets, mut appends) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begun = Instant::now();
        log.write_all(&[7; 4096]).unwrap();
        log.sync_all().unwrap();
        appends.push(begun.elapsed());
        let begun = Instant::now();
        set(&mut vault, &names[round % SECRETS], round);
        sets.push(begun.elapsed());
    }
    let append = median(&mut appends);
    let mut met = verdict("append and fsync of 4 KiB", append, Duration::MAX);
    met &= verdict("set, durable", median(&mut sets), append * SET_TARGET);

    let mut uses = Vec::new();
    for round in 0..USES {
        let begun = Instant::now();
        black_box(vault.open_secret(&names[round % SECRETS]).unwrap());
        uses.push(begun.elapsed());
    }
    // What a run holds was opened once; this is the opening.
    met &= verdict("use of a secret, decrypted", median(&mut uses), USE_TARGET);
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn set(vault: &mut Vault, name: &SecretName, round: usize) {
    let value = Secret::new(format!("sk-{round:040}").into_bytes());
    vault.set(name, value, SecretMeta::default(), ExpectedVersion::Any).unwrap();
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn verdict(name: &str, median: Duration, target: Duration) -> bool {
    match target {
        Duration::MAX => println!("{name:<40} {median:>10.1?}"),
        target => println!("{name:<40} {median:>10.1?} (target {target:.1?})"),
    }
    median <= target
}
