//! Answers that were given once and hold for exactly one agent digest.
//!
//! `grants.json` in the data folder, 0600, replaced atomically. The digest covers the canonical manifest and the
//! module, so a changed agent asks again; the list of capabilities is exact, so nothing widens silently.

use std::collections::BTreeSet;
use std::path::Path;

use orch_manifests::{AgentName, Digest};
use serde::{Deserialize, Serialize};

use super::Capability;
use crate::failure::Failure;
use crate::home::private;

/// The format this version writes and reads.
const VERSION: u32 = 1;
/// Largest file, in bytes.
const SIZE_LIMIT: u64 = 16 * 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    grants: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    agent: AgentName,
    digest: Digest,
    capabilities: BTreeSet<String>,
}

/// Remembered answers: of this installation, or of a workspace.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    rows: Vec<Row>,
}

impl Remembered {
    /// Reads the file; none is an empty list.
    ///
    /// # Errors
    /// When it cannot be read, could have been written by someone else, is not of a known version, or is malformed: it
    /// is never guessed at.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let Some(text) = private::read(path, SIZE_LIMIT, "the grants")? else {
            return Ok(Self { rows: Vec::new() });
        };
        let unusable = |why: String| {
            Failure::usage("grants_invalid", format!("{}: {why}", path.display()))
                .hint("move the file away; agents will ask again")
        };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| unusable(e.to_string()))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => {
                return Err(unusable(format!(
                    "format version {version} is not known to this orch (it knows {VERSION})"
                )));
            }
            None => return Err(unusable("it says no format version".to_owned())),
        }
        let stored: Stored = serde_json::from_value(value).map_err(|e| unusable(e.to_string()))?;
        Ok(Self { rows: stored.grants })
    }

    /// Adds an answer to what the file holds by now: another `orch` may have added to it since it was read here.
    ///
    /// # Errors
    /// As [`Remembered::load`], and when the file cannot be written; the old one is then still whole.
    pub(crate) fn remember(
        path: &Path,
        agent: &AgentName,
        digest: Digest,
        granted: &[Capability],
    ) -> Result<(), Failure> {
        private::change(path, "grants_unwritable", || {
            let mut remembered = Self::load(path)?;
            let texts = granted.iter().map(ToString::to_string);
            match remembered.rows.iter_mut().find(|row| row.digest == digest) {
                Some(row) => row.capabilities.extend(texts),
                None => {
                    remembered.rows.push(Row { agent: agent.clone(), digest, capabilities: texts.collect() });
                }
            }
            Ok(serde_json::json!({ "version": VERSION, "grants": remembered.rows }).to_string())
        })
    }

    /// Whether this exact agent was granted this exact capability.
    #[must_use]
    pub(crate) fn holds(&self, digest: &Digest, capability: &Capability) -> bool {
        let text = capability.to_string();
        self.rows.iter().any(|row| row.digest == *digest && row.capabilities.contains(&text))
    }

    /// Each answer: the agent, its digest and a capability's text.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&AgentName, &Digest, &str)> {
        self.rows.iter().flat_map(|row| {
            row.capabilities.iter().map(|capability| (&row.agent, &row.digest, capability.as_str()))
        })
    }

    /// What the version of the agent that was granted anything last was granted, to show what is new.
    #[must_use]
    pub(crate) fn newest_of(&self, agent: &AgentName) -> BTreeSet<String> {
        let newest = self.rows.iter().rfind(|row| row.agent == *agent);
        newest.map(|row| row.capabilities.clone()).unwrap_or_default()
    }

    /// What somebody else remembers: the agent, its digest and the exact capabilities, oldest first.
    pub(crate) fn of(rows: impl IntoIterator<Item = (AgentName, Digest, BTreeSet<String>)>) -> Self {
        let row = |(agent, digest, capabilities)| Row { agent, digest, capabilities };
        Self { rows: rows.into_iter().map(row).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn capability(host: &str) -> Capability {
        Capability::Secret { name: "TOKEN".to_owned(), host: host.to_owned() }
    }

    #[test]
    fn an_answer_holds_for_its_digest_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("grants.json");
        let agent: AgentName = "acme/x".parse().expect("a name");
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        assert!(!Remembered::load(&path).expect("empty").holds(&one, &capability("a.example")));
        Remembered::remember(&path, &agent, one, &[capability("a.example")]).expect("written");

        let again = Remembered::load(&path).expect("reads");
        assert!(again.holds(&one, &capability("a.example")));
        assert!(!again.holds(&two, &capability("a.example")));
        assert!(!again.holds(&one, &capability("b.example")));
        assert_eq!(again.newest_of(&agent).len(), 1);
    }

    #[test]
    fn answers_given_at_once_are_all_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("grants.json");
        let agent: AgentName = "acme/x".parse().expect("a name");
        std::thread::scope(|scope| {
            for i in 0..8_u8 {
                let (path, agent) = (&path, &agent);
                scope.spawn(move || {
                    Remembered::remember(
                        path,
                        agent,
                        Digest::of(&[i % 4]),
                        &[capability(&format!("{i}.example"))],
                    )
                    .expect("written");
                });
            }
        });
        let all = Remembered::load(&path).expect("reads");
        assert_eq!(
            (all.rows.len(), all.rows.iter().map(|row| row.capabilities.len()).sum::<usize>()),
            (4, 8)
        );
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("there").permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_others_could_have_written_grants_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let (path, elsewhere) = (dir.path().join("grants.json"), dir.path().join("elsewhere"));
        fs::write(&elsewhere, r#"{"version":1,"grants":[]}"#).expect("written");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("linked");
        assert_eq!(Remembered::load(&path).expect_err("a link").code(), "file_unsafe");
        fs::rename(&elsewhere, &path).expect("moved");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).expect("opened");
        assert_eq!(Remembered::load(&path).expect_err("open to a group").code(), "file_unsafe");
    }

    #[test]
    fn other_versions_and_garbage_are_errors() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("grants.json");
        for (text, says) in [
            (r#"{"version":2,"grants":[]}"#, "version 2"),
            (r#"{"grants":[]}"#, "no format version"),
            ("{", "EOF"),
            (r#"{"version":1,"grants":[{"agent":"acme/x"}]}"#, "missing field"),
        ] {
            fs::write(&path, text).expect("written");
            let failure = Remembered::load(&path).expect_err("refused");
            assert_eq!(failure.code(), "grants_invalid");
            assert!(failure.message().contains(says), "{failure}");
        }
    }
}
