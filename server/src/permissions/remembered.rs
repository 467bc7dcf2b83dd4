//! Answers that were given once and hold for exactly one agent digest.
//!
//! `grants.json` in the data folder, 0600, replaced atomically. The digest covers the canonical manifest and the
//! module, so a changed agent asks again; the list of capabilities is exact, so nothing widens silently.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use orch_manifests::{AgentName, Digest};
use serde::{Deserialize, Serialize};

use super::Capability;
use crate::config::own_file;
use crate::failure::Failure;

/// The format this version writes and reads.
const VERSION: u32 = 1;

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

/// The remembered answers of this installation.
#[derive(Debug)]
pub(crate) struct Remembered {
    path: PathBuf,
    rows: Vec<Row>,
}

impl Remembered {
    /// Reads the file; none is an empty list.
    ///
    /// # Errors
    /// When it cannot be read, is not of a known version, or is malformed: it is never guessed at.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let unreadable =
            |error: &std::io::Error| Failure::file("grants_unreadable", "read the grants in", path, error);
        match path.symlink_metadata() {
            Ok(meta) => own_file(&meta).map_err(|why| {
                Failure::usage("grants_unsafe", format!("{} {why}", path.display()))
                    .hint("move the file away; agents will ask again")
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self { path: path.to_owned(), rows: Vec::new() });
            }
            Err(error) => return Err(unreadable(&error)),
        }
        let text = fs::read_to_string(path).map_err(|error| unreadable(&error))?;
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
        Ok(Self { path: path.to_owned(), rows: stored.grants })
    }

    /// Whether this exact agent was granted this exact capability.
    #[must_use]
    pub(crate) fn holds(&self, digest: &Digest, capability: &Capability) -> bool {
        let text = capability.to_string();
        self.rows.iter().any(|row| row.digest == *digest && row.capabilities.contains(&text))
    }

    /// What any version of the agent was granted, to show what is new.
    #[must_use]
    pub(crate) fn of_agent(&self, agent: &AgentName) -> BTreeSet<String> {
        self.rows
            .iter()
            .filter(|row| row.agent == *agent)
            .flat_map(|row| row.capabilities.iter().cloned())
            .collect()
    }

    /// Adds an answer and writes the file.
    ///
    /// # Errors
    /// When the file cannot be written; the old one is then still whole.
    pub(crate) fn remember(
        &mut self,
        agent: &AgentName,
        digest: Digest,
        granted: &[Capability],
    ) -> Result<(), Failure> {
        let texts = granted.iter().map(ToString::to_string);
        match self.rows.iter_mut().find(|row| row.digest == digest) {
            Some(row) => row.capabilities.extend(texts),
            None => self.rows.push(Row { agent: agent.clone(), digest, capabilities: texts.collect() }),
        }
        self.write().map_err(|e| Failure::file("grants_unwritable", "remember the grant in", &self.path, &e))
    }

    fn write(&self) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let draft = folder.join(format!(".grants.{}", std::process::id()));
        let rows: Vec<_> = self.rows.iter().map(|row| serde_json::json!(row)).collect();
        let text = serde_json::json!({ "version": VERSION, "grants": rows }).to_string();
        let written = (|| {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &self.path)?;
            fs::File::open(folder)?.sync_all()
        })();
        if written.is_err() {
            // The draft may not exist; what matters is the error that led here.
            let _ = fs::remove_file(&draft);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(host: &str) -> Capability {
        Capability::Secret { name: "TOKEN".to_owned(), host: host.to_owned() }
    }

    #[test]
    fn an_answer_holds_for_its_digest_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("grants.json");
        let agent: AgentName = "acme/x".parse().expect("a name");
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let mut remembered = Remembered::load(&path).expect("empty");
        remembered.remember(&agent, one, &[capability("a.example")]).expect("written");

        let again = Remembered::load(&path).expect("reads");
        assert!(again.holds(&one, &capability("a.example")));
        assert!(!again.holds(&two, &capability("a.example")));
        assert!(!again.holds(&one, &capability("b.example")));
        assert_eq!(again.of_agent(&agent).len(), 1);
    }

    #[test]
    fn what_another_user_could_have_granted_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let (path, other) = (dir.path().join("grants.json"), dir.path().join("other.json"));
        fs::write(&other, r#"{"version":1,"grants":[]}"#).expect("written");
        std::os::unix::fs::symlink(&other, &path).expect("linked");
        assert_eq!(Remembered::load(&path).expect_err("a link").code(), "grants_unsafe");
        fs::rename(&other, &path).expect("in its place");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).expect("opened");
        assert_eq!(Remembered::load(&path).expect_err("open to all").code(), "grants_unsafe");
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
