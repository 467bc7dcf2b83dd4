//! Proof that a whole store is what was written to it: every row decrypted, the root computed anew, the
//! audit log walked, the anchor compared.
//!
//! Opening a vault stops at the first thing that does not add up. Here everything is looked at, and the
//! audit log says which rows there should be: so an altered row has a name even when nothing in it can be
//! read any more, and a removed one is missed. Nothing is repaired or changed.

use std::collections::{BTreeMap, BTreeSet};

use super::content::{self, StoredMeta};
use super::index::{AFTER_AUDIT, AUDIT_PREFIX, HEAD_KEY, Index, SLOTS_KEY, audit_sequence, kind_of};
use super::open::{self, Held};
use super::state::State;
use super::{OpenMode, Vault, VaultLocation};
use crate::anchor::{self, Anchor};
use crate::audit::{self, Tip};
use crate::error::Tampering;
use crate::head::{self, Head};
use crate::root::{self, RowsRoot};
use crate::row::{self, Place, RowKind, VaultId};
use crate::slots::Ring;
use crate::store::Store;
use crate::{AuditEvent, Clock, SecretName, SystemClock, VaultError};

/// What a verification came to.
#[derive(Debug, Clone, Default)]
pub struct Verification {
    /// The head's generation; `None` when there is no vault, or no authentic head.
    pub generation: Option<u64>,
    /// Secrets whose metadata and value were decrypted.
    pub secrets: u64,
    /// Audit records that were read.
    pub audit_records: u64,
    /// What does not add up; nothing, if the vault is sound.
    pub findings: Vec<Finding>,
}

impl Verification {
    /// Whether everything is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// One thing that does not add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The stable word for programs.
    pub code: &'static str,
    /// What is wrong, in words.
    pub message: String,
    /// Which row, where that is known.
    pub row: Option<RowName>,
}

/// Which row is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowName {
    /// What it holds.
    pub kind: RowKindName,
    /// The workspace it belongs to.
    pub workspace: Option<String>,
    /// The secret it belongs to.
    pub secret: Option<SecretName>,
    /// The sequence number of an audit record.
    pub sequence: Option<u64>,
}

/// What a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKindName {
    /// A secret's metadata.
    Metadata,
    /// A secret's value.
    Value,
    /// An audit record.
    Audit,
    /// Something that no vault writes.
    Unknown,
}

impl RowKindName {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RowKindName::Metadata => "metadata",
            RowKindName::Value => "value",
            RowKindName::Audit => "audit",
            RowKindName::Unknown => "unknown",
        }
    }
}

impl Vault {
    /// Verifies the vault at `location` without trusting any of it. What keeps it from being looked at (a lock,
    /// a missing key, a file in the wrong place) is an error; what is found in it is a finding.
    ///
    /// # Errors
    /// All kinds but tampering and unknown formats.
    pub fn verify_at(location: &VaultLocation) -> Result<Verification, VaultError> {
        let mut outcome = None;
        let mut look = |opening: super::state::Opening, _: &[u8]| -> Result<State, VaultError> {
            let subject = Subject {
                store: &*opening.store,
                vault: &opening.vault,
                ring: &opening.ring,
                anchor: opening.anchor.as_ref(),
            };
            outcome = Some(inspect(subject));
            // There is nothing to open: looking is all.
            Err(VaultError::ReadOnly)
        };
        let opened =
            open::open(location, OpenMode::ReadOnlyIfExists, SystemClock.now(), Held::default(), &mut look);
        match (outcome, opened) {
            (Some(outcome), _) => outcome,
            (None, Ok(None)) if !crate::place::exists(&location.store)? => {
                let gone = open::check_nothing_was_there(location).err();
                let findings = gone.map(|error| finding(error, None)).transpose()?;
                Ok(Verification { findings: findings.into_iter().collect(), ..Verification::default() })
            }
            (None, Ok(_)) => Ok(Verification::default()),
            (None, Err(error)) => {
                let findings = vec![finding(error, None)?];
                Ok(Verification { findings, ..Verification::default() })
            }
        }
    }

    /// Verifies a vault that is open: what is in the store now, from the beginning.
    ///
    /// # Errors
    /// Storage.
    pub fn verify(&self) -> Result<Verification, VaultError> {
        self.state.as_ref().map_or_else(|| Ok(Verification::default()), State::verify)
    }
}

/// What is looked at.
pub(super) struct Subject<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) vault: &'a VaultId,
    pub(super) ring: &'a Ring,
    pub(super) anchor: Option<&'a Anchor>,
}

/// Looks at everything. Errors are those of the storage alone.
pub(super) fn inspect(subject: Subject<'_>) -> Result<Verification, VaultError> {
    let index = Index::of(subject.vault, subject.ring);
    let mut inspection = Inspection { subject, index, report: Verification::default() };
    let head = inspection.head()?;
    let tip = inspection.audit_log()?;
    let history = tip.history;
    let root = inspection.rows(&history)?;
    if let Some((head, link)) = head {
        inspection.report.generation = Some(head.generation);
        if root.is_none_or(|root| root != head.root) {
            inspection.note(Tampering::Root.into(), None)?;
        }
        if (tip.end.records, tip.end.link) != (head.audit_records, head.audit_tip) {
            inspection.note(Tampering::AuditTip.into(), None)?;
        }
        inspection.anchor(&head, &link)?;
    }
    Ok(inspection.report)
}

/// What the audit log says there should be: for each secret its current version, none after a removal.
type History = BTreeMap<(String, SecretName), Option<u64>>;

struct Log {
    end: Tip,
    history: History,
}

struct Inspection<'a> {
    subject: Subject<'a>,
    index: Index,
    report: Verification,
}

impl Inspection<'_> {
    fn note(&mut self, error: VaultError, row: Option<RowName>) -> Result<(), VaultError> {
        let finding = finding(error, row)?;
        self.report.findings.push(finding);
        Ok(())
    }

    fn missing(&mut self, kind: RowKindName, workspace: &str, secret: &SecretName) {
        let row = named(kind, workspace, secret);
        let message = "the audit log says that it was set, and it is not there".to_owned();
        self.report.findings.push(Finding { code: "row_missing", message, row: Some(row) });
    }

    fn head(&mut self) -> Result<Option<(Head, crate::crypto::Hash)>, VaultError> {
        let Some(row) = self.subject.store.get(HEAD_KEY)? else {
            self.note(Tampering::HeadMissing.into(), None)?;
            return Ok(None);
        };
        match Head::decode(&row, self.subject.vault, self.subject.ring) {
            Ok(head) => Ok(Some((head, head::link(&row)))),
            Err(error) => {
                self.note(error, None)?;
                Ok(None)
            }
        }
    }

    /// Walks the audit log. Behind a record that is not authentic it goes on with the next one that is.
    fn audit_log(&mut self) -> Result<Log, VaultError> {
        let (vault, ring) = (self.subject.vault, self.subject.ring);
        let mut log = Log { end: Tip::EMPTY, history: History::new() };
        let mut faults: Vec<(VaultError, u64)> = Vec::new();
        let (mut read, mut broken) = (0, false);
        let walked = self.subject.store.scan(&[AUDIT_PREFIX], Some(&[AFTER_AUDIT]), &mut |key, row| {
            let Some(sequence) = audit_sequence(key) else {
                faults.push((Tampering::Audit(log.end.records).into(), log.end.records));
                return Ok(());
            };
            if sequence != log.end.records {
                faults.push((Tampering::Audit(log.end.records).into(), log.end.records));
            }
            if broken || sequence != log.end.records {
                log.end = Tip { records: sequence, link: audit::claimed_previous(row).unwrap_or_default() };
            }
            match audit::read(vault, ring, log.end, row) {
                Ok((record, next)) => {
                    (read, broken) = (read + 1, false);
                    log.end = next;
                    match record.event {
                        AuditEvent::Set { secret, version, .. }
                        | AuditEvent::Rotated { secret, version, .. } => {
                            log.history.insert((record.workspace, secret), Some(version.get()));
                        }
                        AuditEvent::Removed { secret, .. } => {
                            log.history.insert((record.workspace, secret), None);
                        }
                        _ => {}
                    }
                }
                Err(error) => {
                    faults.push((error, sequence));
                    (log.end, broken) = (Tip { records: sequence + 1, link: audit::link(row) }, true);
                }
            }
            Ok(())
        });
        self.report.audit_records = read;
        for (error, sequence) in faults {
            let row =
                RowName { kind: RowKindName::Audit, workspace: None, secret: None, sequence: Some(sequence) };
            self.note(error, Some(row))?;
        }
        if let Err(error) = walked {
            self.note(error, None)?;
        }
        Ok(log)
    }

    /// Decrypts all rows and compares them with what the audit log says. Returns the root over them, none when
    /// the store could not be read to its end.
    fn rows(&mut self, history: &History) -> Result<Option<crate::crypto::Hash>, VaultError> {
        let mut leaves = Vec::new();
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut visit = |key: &[u8], row: &[u8]| {
            if key != HEAD_KEY {
                leaves.push((Box::from(key), root::leaf(key, row)));
                // Its own MAC was checked when the vault was opened with it, and the root covers it.
                if key != SLOTS_KEY {
                    rows.insert(key.to_vec(), row.to_vec());
                }
            }
            Ok(())
        };
        let read = self.subject.store.scan(&[], Some(&[AUDIT_PREFIX]), &mut visit);
        let read = read.and_then(|()| self.subject.store.scan(&[AFTER_AUDIT], None, &mut visit));
        if let Err(error) = read {
            self.note(error, None)?;
            return Ok(None);
        }
        for ((workspace, secret), version) in history {
            let meta_key = self.index.row_key(RowKind::Meta, workspace, secret);
            let value_key = self.index.row_key(RowKind::Value, workspace, secret);
            let (meta, value) = (rows.remove(&meta_key), rows.remove(&value_key));
            self.secret((workspace, secret), *version, (&meta_key, meta), value)?;
        }
        self.strangers(history, rows);
        Ok(Some(RowsRoot::build(leaves).hash()))
    }

    /// A secret that the audit log knows, at the version that it says; without one, the secret's tombstone.
    fn secret(
        &mut self,
        (workspace, secret): (&str, &SecretName),
        version: Option<u64>,
        (meta_key, meta): (&[u8], Option<Vec<u8>>),
        value: Option<Vec<u8>>,
    ) -> Result<(), VaultError> {
        let before = self.report.findings.len();
        match meta {
            None => self.missing(RowKindName::Metadata, workspace, secret),
            Some(row) => {
                if let Err(error) = self.meta((workspace, secret), version, meta_key, &row) {
                    self.note(error, Some(named(RowKindName::Metadata, workspace, secret)))?;
                }
            }
        }
        match (version, value) {
            (Some(_), None) => self.missing(RowKindName::Value, workspace, secret),
            (Some(version), Some(row)) => {
                let place = Place::value(self.subject.vault, workspace, secret, version);
                let opened = row::open(self.subject.ring, &place, &row)
                    .and_then(|plain| content::unpad_value(&plain).map(|_| ()));
                if let Err(error) = opened {
                    self.note(error, Some(named(RowKindName::Value, workspace, secret)))?;
                }
            }
            (None, Some(_)) => {
                let row = Some(named(RowKindName::Value, workspace, secret));
                let message = "the audit log says that it was removed, and it is there".to_owned();
                self.report.findings.push(Finding { code: "row_unexpected", message, row });
            }
            (None, None) => {}
        }
        if version.is_some() && self.report.findings.len() == before {
            self.report.secrets += 1;
        }
        Ok(())
    }

    fn meta(
        &self,
        (workspace, secret): (&str, &SecretName),
        version: Option<u64>,
        key: &[u8],
        row: &[u8],
    ) -> Result<(), VaultError> {
        let place =
            Place { vault: self.subject.vault, workspace, kind: RowKind::Meta, name: key, version: 0 };
        let meta = StoredMeta::decode(&row::open(self.subject.ring, &place, row)?)?;
        // A removed secret has no version in the log, and a tombstone.
        let current = (!meta.removed).then_some(meta.version);
        if meta.name != *secret || current != version {
            return Err(Tampering::RowContent.into());
        }
        Ok(())
    }

    /// Rows that the audit log knows nothing of: somebody added them, or the records of their making are gone.
    fn strangers(&mut self, history: &History, rows: BTreeMap<Vec<u8>, Vec<u8>>) {
        let workspaces: BTreeSet<&String> = history.keys().map(|(workspace, _)| workspace).collect();
        for key in rows.into_keys() {
            let kind = kind_of(&key);
            let workspace = kind.and_then(|kind| {
                let prefixed =
                    |workspace: &&&String| key.starts_with(&self.index.workspace_prefix(kind, workspace));
                workspaces.iter().find(prefixed).map(|workspace| (*workspace).clone())
            });
            let kind = match kind {
                Some(RowKind::Meta) => RowKindName::Metadata,
                Some(RowKind::Value) => RowKindName::Value,
                _ => RowKindName::Unknown,
            };
            let row = Some(RowName { kind, workspace, secret: None, sequence: None });
            let message = "a row that the audit log knows nothing of".to_owned();
            self.report.findings.push(Finding { code: "row_unexpected", message, row });
        }
    }

    fn anchor(&mut self, head: &Head, link: &crate::crypto::Hash) -> Result<(), VaultError> {
        let Some(anchor) = self.subject.anchor else { return Ok(()) };
        let anchored = anchor.read(self.subject.vault, self.subject.ring);
        // One ahead is what a crash between the two leaves, and the next opening brings the anchor up to it.
        match anchored.and_then(|mark| Ok(anchor::compare(mark, head, link)?)) {
            Ok(_) => Ok(()),
            Err(error) => self.note(error, None),
        }
    }
}

fn named(kind: RowKindName, workspace: &str, secret: &SecretName) -> RowName {
    RowName { kind, workspace: Some(workspace.to_owned()), secret: Some(secret.clone()), sequence: None }
}

/// What was found, or the error that kept it from being looked at.
fn finding(error: VaultError, row: Option<RowName>) -> Result<Finding, VaultError> {
    let code = match &error {
        VaultError::Tampered(what) => what.code(),
        VaultError::UnknownFormat { .. } => "format_unknown",
        VaultError::StoreGone { .. } => "store_gone",
        _ => return Err(error),
    };
    let message = match &error {
        VaultError::Tampered(what) => what.to_string(),
        other => other.to_string(),
    };
    Ok(Finding { code, message, row })
}
