//! Answers that were given once and hold for exactly one agent digest: always, and never.
//!
//! `grants.json` in the data folder, 0600, replaced atomically. The digest covers the canonical manifest and the
//! module, so a changed agent asks again; the list of capabilities is exact, so nothing widens silently. Version 1 knew no
//! refusals, and is read.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use orch_manifests::{AgentName, Digest};
use orch_vault::{AuditEvent, OpenMode, Vault, VaultLocation};
use serde::{Deserialize, Serialize};

use super::Capability;
use crate::failure::Failure;
use crate::home::{Home, private};

/// The format that this version writes, and the newest that it reads.
const VERSION: u32 = 2;
/// The word for a file that cannot be written.
const UNWRITABLE: &str = "grants_unwritable";
/// Hexadecimal digits that say which digest is meant.
const DIGITS: usize = 8;
/// Largest file, in bytes.
const SIZE_LIMIT: u64 = 16 * 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    grants: Vec<Row>,
    #[serde(default)]
    refused: Vec<Row>,
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
pub struct Remembered {
    rows: Vec<Row>,
    refused: Vec<Row>,
}

/// One remembered answer, or several about the same content of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RememberedAnswer {
    /// The agent's name.
    pub agent: AgentName,
    /// Exactly this content of it.
    pub digest: Digest,
    /// What the answer was.
    pub answer: Lasting,
    /// What was asked for.
    pub capabilities: BTreeSet<String>,
}

/// An answer that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lasting {
    /// Granted.
    Always,
    /// Refused, and not asked again.
    Never,
}

/// Whose answers are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Those about any content of this agent.
    Agent(AgentName),
    /// Those about the content whose digest begins like this: `sha256:` and at least 8 hexadecimal digits.
    Digest(String),
}

impl Whose {
    /// Whether an answer about this is meant.
    #[must_use]
    pub fn means(&self, agent: &AgentName, digest: &Digest) -> bool {
        match self {
            Self::Agent(name) => name == agent,
            Self::Digest(start) => digest.to_string().starts_with(start),
        }
    }
}

impl FromStr for Whose {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        if let Some(hex) = text.strip_prefix("sha256:") {
            let digits = hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            if digits && (DIGITS..=64).contains(&hex.len()) {
                return Ok(Self::Digest(text.to_owned()));
            }
            let why = format!("{text:?} is not the digest of an agent, or {DIGITS} digits of it at least");
            return Err(Failure::usage("bad_usage", why).hint("orch grants list"));
        }
        text.parse().map(Self::Agent).map_err(|e| {
            Failure::usage("bad_usage", format!("neither an agent nor a digest: {e}"))
                .hint("orch grants list")
        })
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => name.fmt(f),
            Self::Digest(start) => f.write_str(start),
        }
    }
}

impl Remembered {
    /// Reads the file; none is an empty list.
    ///
    /// # Errors
    /// When it cannot be read, could have been written by someone else, is not of a known version, or is malformed: it
    /// is never guessed at.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let Some(text) = private::read(path, SIZE_LIMIT, "the grants")? else {
            return Ok(Self::default());
        };
        let unusable = |why: String| {
            Failure::usage("grants_invalid", format!("{}: {why}", path.display()))
                .hint("move the file away; agents will ask again")
        };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| unusable(e.to_string()))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if (1..=u64::from(VERSION)).contains(&version) => {}
            Some(version) => {
                return Err(unusable(format!(
                    "format version {version} is not known to this orch (it knows 1 to {VERSION})"
                )));
            }
            None => return Err(unusable("it says no format version".to_owned())),
        }
        let stored: Stored = serde_json::from_value(value).map_err(|e| unusable(e.to_string()))?;
        Ok(Self { rows: stored.grants, refused: stored.refused })
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
        private::change(path, UNWRITABLE, || {
            let mut remembered = Self::load(path)?;
            add(&mut remembered.rows, agent, digest, granted.iter().map(ToString::to_string));
            Ok(remembered.text())
        })
    }

    /// Remembers that these capabilities are refused to this content of an agent, and not to be asked for again.
    ///
    /// # Errors
    /// As [`Remembered::load`], and when the file cannot be written.
    pub fn refuse(home: &Home, agent: &AgentName, digest: Digest, wanted: &[String]) -> Result<(), Failure> {
        let path = home.grants_file();
        home.ensure(home.data())?;
        private::change(&path, UNWRITABLE, || {
            let mut remembered = Self::load(&path)?;
            add(&mut remembered.refused, agent, digest, wanted.iter().cloned());
            Ok(remembered.text())
        })
    }

    /// Which of these capabilities were refused to this content of an agent for good.
    #[must_use]
    pub fn refused(&self, digest: &Digest, wanted: &[String]) -> Vec<String> {
        let rows = || self.refused.iter().filter(|row| row.digest == *digest);
        wanted.iter().filter(|text| rows().any(|row| row.capabilities.contains(*text))).cloned().collect()
    }

    /// Every answer, oldest first, grants before refusals.
    #[must_use]
    pub fn answers(&self) -> Vec<RememberedAnswer> {
        let answer = |row: &Row, answer| RememberedAnswer {
            agent: row.agent.clone(),
            digest: row.digest,
            answer,
            capabilities: row.capabilities.clone(),
        };
        let granted = self.rows.iter().map(|row| answer(row, Lasting::Always));
        granted.chain(self.refused.iter().map(|row| answer(row, Lasting::Never))).collect()
    }

    /// Forgets the answers about an agent or a content of it, and says which those were. That something is not granted
    /// any more is put on record in the vault first, where there is one.
    ///
    /// # Errors
    /// As [`Remembered::load`], and when the vault or the file cannot be written; then nothing is forgotten.
    pub fn forget(
        home: &Home,
        vault: &VaultLocation,
        whose: &Whose,
    ) -> Result<Vec<RememberedAnswer>, Failure> {
        let path = home.grants_file();
        let meant = |row: &Row| whose.means(&row.agent, &row.digest);
        let known = Self::load(&path)?;
        if !known.rows.iter().chain(&known.refused).any(meant) {
            return Ok(Vec::new());
        }
        let mut forgotten = Vec::new();
        private::change(&path, UNWRITABLE, || {
            let mut remembered = Self::load(&path)?;
            forgotten = remembered.answers();
            forgotten.retain(|answer| whose.means(&answer.agent, &answer.digest));
            let granted = remembered.rows.iter().filter(|row| meant(row));
            let removed = granted.map(|row| AuditEvent::GrantRemoved { digest: row.digest.to_string() });
            record(vault, removed.collect())?;
            remembered.rows.retain(|row| !meant(row));
            remembered.refused.retain(|row| !meant(row));
            Ok(remembered.text())
        })?;
        Ok(forgotten)
    }

    fn text(&self) -> String {
        let Self { rows, refused } = self;
        serde_json::json!({ "version": VERSION, "grants": rows, "refused": refused }).to_string()
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
        Self { rows: rows.into_iter().map(row).collect(), refused: Vec::new() }
    }
}

/// Adds to what is known of a content, or a row for it.
fn add(rows: &mut Vec<Row>, agent: &AgentName, digest: Digest, texts: impl Iterator<Item = String>) {
    match rows.iter_mut().find(|row| row.digest == digest) {
        Some(row) => row.capabilities.extend(texts),
        None => rows.push(Row { agent: agent.clone(), digest, capabilities: texts.collect() }),
    }
}

/// Puts it on record, where there is a vault that holds a record. Nothing to tell opens none.
fn record(vault: &VaultLocation, events: Vec<AuditEvent>) -> Result<(), Failure> {
    if events.is_empty() {
        return Ok(());
    }
    let mut vault = Vault::open(vault, OpenMode::ReadOnlyIfExists)?;
    if vault.exists() { Ok(vault.record(events)?) } else { Ok(()) }
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
    fn never_is_for_its_digest_until_it_is_forgotten() {
        let dir = tempfile::tempdir().expect("a folder");
        let set = [("ORCH_HOME".to_owned(), dir.path().join("h").display().to_string())].into();
        let home = Home::locate(&crate::environment::Environment::Fixed(set)).expect("a home");
        let (agent, other): (AgentName, AgentName) =
            ("acme/x".parse().expect("a name"), "acme/y".parse().expect("a name"));
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let (a, b) = (capability("a.example").to_string(), capability("b.example").to_string());
        Remembered::refuse(&home, &agent, one, std::slice::from_ref(&a)).expect("written");
        Remembered::refuse(&home, &other, two, &[a.clone(), b.clone()]).expect("written");
        Remembered::remember(&home.grants_file(), &agent, one, &[capability("b.example")]).expect("written");

        let known = Remembered::load(&home.grants_file()).expect("reads");
        assert_eq!(known.refused(&one, &[b, a.clone()]), std::slice::from_ref(&a));
        assert_eq!(known.refused(&Digest::of(b"three"), std::slice::from_ref(&a)), [""; 0]);
        assert!(known.holds(&one, &capability("b.example")) && !known.holds(&one, &capability("a.example")));
        let answers: Vec<(String, Lasting, usize)> = known
            .answers()
            .into_iter()
            .map(|answer| (answer.agent.to_string(), answer.answer, answer.capabilities.len()))
            .collect();
        let row = |agent: &str, answer, count| (agent.to_owned(), answer, count);
        let expected = [
            row("acme/x", Lasting::Always, 1),
            row("acme/x", Lasting::Never, 1),
            row("acme/y", Lasting::Never, 2),
        ];
        assert_eq!(answers, expected);

        let vault = VaultLocation {
            store: home.vault(),
            key_file: home.vault_key(),
            workspace: "default".to_owned(),
            custody: orch_vault::Custody::default(),
        };
        let forget = |text: &str| {
            let whose: Whose = text.parse().expect(text);
            Remembered::forget(&home, &vault, &whose).expect("forgotten").len()
        };
        assert_eq!((forget("acme/z"), forget(&two.to_string()[..15]), forget("acme/x")), (0, 1, 2));
        assert!(!home.vault().exists(), "no vault is made for it");
        assert!(Remembered::load(&home.grants_file()).expect("reads").answers().is_empty());
    }

    #[test]
    fn whose_answers_are_meant_is_an_agent_or_a_digest() {
        for bad in ["", "x", "sha256:", "sha256:0123", "sha256:0123456g", "sha256:../../../x", "a/b/c"] {
            assert_eq!(bad.parse::<Whose>().expect_err(bad).code(), "bad_usage");
        }
        let whole = Digest::of(b"x").to_string();
        assert_eq!(whole.parse::<Whose>().expect("a digest"), Whose::Digest(whole));
    }

    #[test]
    fn what_the_version_before_wrote_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("grants.json");
        let digest = Digest::of(b"one");
        let text = serde_json::json!({ "version": 1, "grants": [
            { "agent": "acme/x", "digest": digest.to_string(), "capabilities": [capability("a.example").to_string()] },
        ] });
        fs::write(&path, text.to_string()).expect("written");
        let known = Remembered::load(&path).expect("reads");
        assert!(known.holds(&digest, &capability("a.example")));
        assert!(known.refused(&digest, &[capability("a.example").to_string()]).is_empty());
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
            (r#"{"version":3,"grants":[]}"#, "version 3"),
            (r#"{"version":0,"grants":[]}"#, "version 0"),
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
