//! What the egress proxy decided for runs without a server: a file for each of the newest, because there is no store.
//!
//! `decisions/RUN.json` in the data folder, 0600. They hold what a server's store holds of a run: names of hosts, paths
//! without queries and reasons, never values or bodies. `orch policy learn` reads them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use orch_manifests::RunId;
use orch_proxy::{Decision, Maker};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;
use crate::home::{Home, private};

/// The format that this version writes and reads.
const VERSION: u32 = 1;
/// Runs whose decisions are kept; the oldest go.
const RUNS_KEPT: usize = 50;
/// Largest file that is read, in bytes: a ledger keeps at most 1536 decisions of about a kilobyte each.
const SIZE_LIMIT: u64 = 16 << 20;

/// The decisions of one run on this machine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalDecisions {
    version: u32,
    /// The run.
    pub run: RunId,
    /// The agent's name.
    pub agent: String,
    /// What was decided, oldest first, as a server's API has it.
    pub decisions: Vec<Value>,
}

impl LocalDecisions {
    /// What is on record of a run without a server; none when nothing is.
    ///
    /// # Errors
    /// When there is a file that cannot be read, is another user's, or is not of a known version.
    pub fn load(home: &Home, run: &RunId) -> Result<Option<Self>, Failure> {
        let path = file(home, run);
        let Some(text) = private::read(&path, SIZE_LIMIT, "the decisions of the run")? else {
            return Ok(None);
        };
        let unusable =
            |why: String| Failure::usage("decisions_invalid", format!("{}: {why}", path.display()));
        let value: Value = serde_json::from_str(&text).map_err(|e| unusable(e.to_string()))?;
        match value.get("version").and_then(Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            _ => return Err(unusable(format!("its version is not {VERSION}, the one that this orch knows"))),
        }
        serde_json::from_value(value).map(Some).map_err(|e| unusable(e.to_string()))
    }

    /// Puts on record what was decided about a run's own requests. A run that made none leaves no file.
    pub(crate) fn keep(home: &Home, run: &RunId, agent: &str, decisions: &[Decision]) -> Result<(), Failure> {
        if decisions.iter().all(|decision| decision.maker != Maker::Guest) {
            return Ok(());
        }
        let folder = folder(home);
        home.ensure(&folder)?;
        let kept = Self {
            version: VERSION,
            run: run.clone(),
            agent: agent.to_owned(),
            decisions: decisions.iter().filter_map(|decision| serde_json::to_value(decision).ok()).collect(),
        };
        let text = serde_json::to_string(&kept)
            .map_err(|e| Failure::defect(format!("decisions cannot be written as JSON: {e}")))?;
        let path = file(home, run);
        private::change(&path, "decisions_unwritable", || Ok(text))?;
        // Its lock was for nobody: a run has one process.
        let _ = fs::remove_file(path.with_extension("lock"));
        forget_old(&folder);
        Ok(())
    }
}

fn folder(home: &Home) -> PathBuf {
    home.data().join("decisions")
}

fn file(home: &Home, run: &RunId) -> PathBuf {
    folder(home).join(format!("{run}.json"))
}

/// Removes all but the newest. Others may do so at the same time, and what cannot be removed stays for the next run.
fn forget_old(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|ext| ext == "json"))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    for (_, path) in files.iter().rev().skip(RUNS_KEPT) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use orch_proxy::Outcome;
    use time::OffsetDateTime;

    use super::*;
    use crate::environment::Environment;

    fn home(at: &Path) -> Home {
        let set = BTreeMap::from([("ORCH_HOME".to_owned(), at.display().to_string())]);
        Home::locate(&Environment::Fixed(set)).expect("a home")
    }

    fn decision(run: &RunId, maker: Maker) -> Decision {
        Decision {
            time: OffsetDateTime::UNIX_EPOCH,
            run: run.clone(),
            method: "GET".to_owned(),
            scheme: Some(orch_manifests::Scheme::Https),
            host: "a.example.com".to_owned(),
            port: 443,
            path: "/".to_owned(),
            maker,
            request_id: None,
            verdict: Outcome::Denied,
            rule: None,
            trial: None,
            reason: None,
            address: None,
            injected: Vec::new(),
            inert_placeholders: 0,
            status: None,
            duration_us: 0,
        }
    }

    #[test]
    fn the_newest_runs_are_found_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = home(&dir.path().join("h"));
        let runs: Vec<RunId> = (0..RUNS_KEPT + 3).map(|_| RunId::random()).collect();
        for (second, run) in runs.iter().enumerate() {
            LocalDecisions::keep(&home, run, "acme/x", &[decision(run, Maker::Guest)]).expect("kept");
            let file = fs::File::options().write(true).open(file(&home, run)).expect("there");
            assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
            let then = SystemTime::now() - std::time::Duration::from_secs(1000 - second as u64);
            file.set_modified(then).expect("made older");
        }
        let newest = RunId::random();
        LocalDecisions::keep(&home, &newest, "acme/x", &[decision(&newest, Maker::Guest)]).expect("kept");
        let there = |run: &RunId| LocalDecisions::load(&home, run).expect("readable");
        let found = there(&newest).expect("the newest");
        assert_eq!((found.agent.as_str(), &found.decisions[0]["host"]), ("acme/x", &"a.example.com".into()));
        assert!(runs[..4].iter().all(|run| there(run).is_none()), "the oldest are gone");
        assert!(runs[4..].iter().all(|run| there(run).is_some()));
        let files = fs::read_dir(folder(&home)).expect("there").count();
        assert_eq!(files, RUNS_KEPT, "neither more files nor locks");
    }

    #[test]
    fn a_run_that_asked_for_nothing_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let (home, run) = (home(&dir.path().join("h")), RunId::random());
        LocalDecisions::keep(&home, &run, "acme/x", &[decision(&run, Maker::Gateway)])
            .expect("nothing to keep");
        assert!(!folder(&home).exists());
        assert!(LocalDecisions::load(&home, &run).expect("no file").is_none());
    }

    #[test]
    fn what_another_version_wrote_is_not_guessed_at() {
        let dir = tempfile::tempdir().expect("a folder");
        let (home, run) = (home(&dir.path().join("h")), RunId::random());
        LocalDecisions::keep(&home, &run, "acme/x", &[decision(&run, Maker::Guest)]).expect("kept");
        for text in [r#"{"version":2}"#, "{}", "x", r#"{"version":1,"run":"x"}"#] {
            fs::write(file(&home, &run), text).expect("written");
            assert_eq!(LocalDecisions::load(&home, &run).expect_err(text).code(), "decisions_invalid");
        }
    }
}
