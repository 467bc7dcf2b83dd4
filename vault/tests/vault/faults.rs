//! Full disks and I/O errors: whatever file call fails, an operation ends well or in a clear error, what was there is
//! there, and what was to be done was done as a whole or not at all.
//!
//! A child works on a real vault while a preloaded library lets one of its file calls fail, or all from one on; then
//! a process without faults looks at what is left, and does the same operation again.

use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use orch_vault::{ErrorKind, VaultError};

use crate::calls::failing_child;
use crate::shown::Shown;
use crate::support::*;

mod work;

use work::{Work, copies, location};

/// What the child is to do, how its calls fail, and which.
const PART: &str = "ORCH_VAULT_TEST_FAULT";
const MODES: [&str; 5] = ["no-space", "io", "full", "gone", "short"];
/// No operation takes this long.
const HUNG: Duration = Duration::from_secs(60);

/// The child's part.
#[test]
fn child_works() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let home = Path::new(&home);
    let part = std::env::var(PART).unwrap();
    let [work, mode, nth] = part.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
    let work = Work::named(work);
    let mut begun = work.begin(home).unwrap();
    order(&format!("arm/{mode}/{nth}"));
    let outcome = begun.act();
    order("disarm");
    println!("\noutcome: {}", said(&work, &outcome));
    let then = begun.goes_on();
    println!("\nthen: {}", said(&work, &then));
}

/// Tells the library.
fn order(text: &str) {
    std::fs::File::open(format!("/orch-faults/{text}")).unwrap_err();
}

fn said(work: &Work, outcome: &Result<(), VaultError>) -> String {
    match outcome {
        Ok(()) => "done".to_owned(),
        Err(VaultError::Sealed) => "sealed".to_owned(),
        // What was to make one failed, and nobody else does.
        Err(VaultError::ReadOnly) if work.creates() => "nothing".to_owned(),
        Err(error) if error.kind() == ErrorKind::Storage => format!("storage: {error:?}"),
        Err(error) => format!("WRONG {:?}: {error:?}", error.kind()),
    }
}

/// What came of one trial.
struct Trial {
    mode: String,
    /// How many calls there were, and which one failed.
    calls: usize,
    failed: String,
    outcome: String,
    then: String,
}

impl Trial {
    fn run(work: &Work, home: &Path, mode: &str, nth: usize) -> Result<Trial, String> {
        let (done, waits) = mpsc::channel();
        let child = failing_child("faults::child_works", home)
            .env(PART, format!("{} {mode} {nth}", work.name()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let id = child.id();
        std::thread::spawn(move || done.send(child.wait_with_output()));
        let Ok(output) = waits.recv_timeout(HUNG) else {
            let pid = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            return Err("it hung".to_owned());
        };
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
        let errors = || format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let (Some(faults), Some(outcome), Some(then), true) =
            (line("faults: "), line("outcome: "), line("then: "), output.status.success())
        else {
            return Err(format!("it did not end well ({}): {}", output.status, errors()));
        };
        let (calls, failed) = faults.split_once(" calls, failed ").unwrap();
        Ok(Trial {
            mode: mode.to_owned(),
            calls: calls.parse().unwrap(),
            failed: failed.to_owned(),
            outcome,
            then,
        })
    }

    /// What is wrong with it, going by what is left.
    fn judge(&self, work: &Work, home: &Path, before: &Shown, after: &Shown) -> Result<(), String> {
        for outcome in [&self.outcome, &self.then] {
            if outcome.starts_with("WRONG") {
                return Err(format!("ended in {outcome}"));
            }
        }
        // Nobody knows what is on a disk that did not say that it had kept it.
        let sync_failed = self.failed.starts_with("sync");
        let own = ["data/vault/db", "data/vault.head"].map(|name| home.join(name).display().to_string());
        if sync_failed && own.iter().any(|path| self.failed.ends_with(path.as_str())) {
            if self.outcome == "done" {
                return Err("a failed sync was passed over".to_owned());
            }
            if self.then != "sealed" {
                return Err(format!("it goes on after a failed sync: {}", self.then));
            }
        }
        let mut left = match Shown::at(&location(home), &copies(home)) {
            Ok(left) => left,
            Err(_) if work.creates() && self.outcome != "done" && self.then != "done" => {
                return self.again(work, home);
            }
            Err(error) => return Err(format!("afterwards: {error}")),
        };
        let more = left.secrets.remove(work::MORE).is_some();
        if more {
            let last = left.events.pop();
            assert_eq!(last.as_deref(), Some("Set"));
        }
        if self.then == "done" && !more {
            return Err("what came after it was acknowledged and is lost".to_owned());
        }
        work.check(home, &mut left, before, after)?;
        let done = left == *after;
        if self.outcome == "done" && !done {
            return Err(format!("it was acknowledged, and is not there: {left:?}"));
        }
        match done {
            true if work.once() => Ok(()),
            _ if done || left == *before => self.again(work, home),
            _ => Err(format!("half of it is there: {left:?}")),
        }
    }

    /// What failed can be done once the disk is well again, and nothing of the failure stays.
    fn again(&self, work: &Work, home: &Path) -> Result<(), String> {
        let outcome = work.begin(home).and_then(|mut begun| begun.act());
        outcome.map_err(|error| format!("it cannot be done any more: {error:?}"))?;
        let left = files_under(home).into_iter().map(|path| path.display().to_string());
        let of_failures = [".new", ".next", ".old", ".unfinished", ".generating"];
        // A file that replaces nobody's has a random name until it is whole, which the next one does not sweep: where
        // the disk is gone, it cannot be removed.
        let of_random_name = |path: &str| self.mode == "gone" && path.ends_with(".new");
        let stays =
            |path: &String| of_failures.iter().any(|end| path.ends_with(end)) && !of_random_name(path);
        match left.into_iter().find(stays) {
            None => Ok(()),
            Some(path) => Err(format!("{path} stays")),
        }
    }
}

/// Lets calls of a piece of work fail, in ways that are spread over all in which they can; with 300 in
/// `ORCH_VAULT_TRIALS`, in all of them.
fn every_call_fails(name: &str) {
    let work = Work::named(name);
    let template = work.template();
    let nothing = Shown { secrets: [].into(), events: [].into(), slots: [].into(), copies: [].into() };
    // Of a copy: looking finishes what was cut off.
    let home = template.copied();
    let before = Shown::at(&location(&home.path()), &copies(&home.path())).unwrap_or(nothing);
    // Undisturbed, once: what there is to fail, and what it leads to.
    let home = template.copied();
    let smooth = Trial::run(&work, &home.path(), "io", 0).unwrap();
    assert_eq!((smooth.outcome.as_str(), smooth.then.as_str()), ("done", "done"));
    let mut after = Shown::at(&location(&home.path()), &copies(&home.path())).unwrap();
    assert!(after.secrets.remove(work::MORE).is_some() && after.events.pop().is_some());

    // A few more than there were: some calls are made because others failed.
    let ways: Vec<(&str, usize)> = (1..=smooth.calls).flat_map(|nth| MODES.map(|mode| (mode, nth))).collect();
    let wanted = match usize::try_from(trials_wanted()).unwrap() {
        many if many >= 300 => ways.len(),
        // A passphrase takes its time in each of them.
        few if work.asks_argon2() => ways.len().min(few / 5),
        few => ways.len().min(few / 2),
    };
    let mut offset = usize::try_from(std::process::id()).unwrap();
    let mut bad = Vec::new();
    let mut failures = 0;
    for trial in 0..wanted {
        offset += 1;
        let among = ways.len() * trial / wanted..ways.len() * (trial + 1) / wanted;
        let (mode, nth) = ways[among.start + offset % among.len()];
        let home = template.copied();
        let judged = Trial::run(&work, &home.path(), mode, nth).and_then(|trial| {
            failures += usize::from(trial.outcome != "done");
            let judged = trial.judge(&work, &home.path(), &before, &after);
            judged.map_err(|error| format!("{} ({}): {error}", trial.failed, trial.outcome))
        });
        if let Err(error) = judged {
            bad.push(format!("{name}, {mode} {nth}: {error}"));
        }
    }
    let of = format!("{wanted} of the {} ways in which {} calls can fail", ways.len(), smooth.calls);
    assert!(bad.is_empty(), "{} of {of} are bad:\n{}", bad.len(), bad.join("\n"));
    assert!(failures > 0, "nothing failed");
}

macro_rules! works {
    ($($test:ident: $name:literal,)*) => {$(
        #[test]
        fn $test() {
            every_call_fails($name);
        }
    )*};
}

works! {
    faults_while_a_vault_is_created: "create",
    faults_while_a_vault_is_opened_behind_its_store: "open-behind",
    faults_while_a_swap_is_finished: "finish",
    faults_while_a_secret_is_set: "set",
    faults_while_a_secret_is_replaced: "replace",
    faults_while_a_secret_is_rotated: "rotate",
    faults_while_a_secret_is_granted: "grant",
    faults_while_many_secrets_are_set: "set-all",
    faults_while_a_secret_is_removed: "remove",
    faults_while_uses_are_recorded: "uses",
    faults_while_a_vault_is_compacted: "compact",
    faults_while_a_backup_is_made: "backup",
    faults_while_a_backup_is_restored: "restore",
    faults_while_a_backup_is_restored_to_nothing: "restore-new",
    faults_while_keys_are_replaced: "rekey",
    faults_while_a_file_slot_is_added: "add-file",
    faults_while_a_credential_slot_is_added: "add-credential",
    faults_while_a_passphrase_slot_is_added: "add-passphrase",
    faults_while_a_slot_is_removed: "remove-slot",
}
