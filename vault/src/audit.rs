//! What happened: sealed, hash-chained, MACed records.
//!
//! ```text
//! version 1 ‖ term 4 ‖ sequence 8 ‖ previous 32 ‖ sealed record ‖ mac 32
//! ```
//!
//! Integers are big-endian. *previous* is the chain value of the record before (zeros in the first), the
//! chain value of a record is SHA-256 over `orch.vault.audit.link/1` and all its bytes, and the head holds the last
//! one. The MAC is under the audit key of the term and covers the vault's id as well. The sealed record is
//! a row for the place (audit, sequence); inside are a format byte and JSON.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::crypto::{self, HASH_LEN, Hash, Key, Label};
use crate::error::Tampering;
use crate::row::{self, Place, RowKind, VaultId, length_prefixed, unknown};
use crate::slots::Ring;
use crate::{GrantId, GrantTerms, SecretName, VaultError, Version};

const VERSION: u8 = 1;
const CONTENT_VERSION: u8 = 1;
const SCHEMA: &[u8] = b"orch.vault.audit/1";
const HEADER_LEN: usize = 1 + 4 + 8 + HASH_LEN;

/// One thing that happened. Names and keyed digests, never values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditEvent {
    /// The vault was created.
    Created,
    /// A secret was set.
    Set {
        /// Its name.
        secret: SecretName,
        /// Its new version.
        version: Version,
        /// The keyed digest of the value.
        fingerprint: String,
    },
    /// A secret got another value; what its owner said about it stayed.
    Rotated {
        /// Its name.
        secret: SecretName,
        /// Its new version.
        version: Version,
        /// The keyed digest of the value.
        fingerprint: String,
    },
    /// The owner of a secret granted a use of it.
    SecretGranted {
        /// Its name.
        secret: SecretName,
        /// The grant.
        grant: GrantId,
        /// What it allows.
        terms: GrantTerms,
    },
    /// The owner of a secret took a grant of it back.
    SecretGrantRemoved {
        /// Its name.
        secret: SecretName,
        /// The grant.
        grant: GrantId,
    },
    /// A secret was removed.
    Removed {
        /// Its name.
        secret: SecretName,
        /// The version that was removed.
        version: Version,
    },
    /// A run may use a secret at a host. Written before the first use.
    UsePlanned {
        /// The run.
        run: String,
        /// The secret's name.
        secret: SecretName,
        /// The host.
        host: String,
        /// The grant of its owner that lets it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grant: Option<GrantId>,
    },
    /// A key slot was added.
    SlotAdded {
        /// Its id.
        slot: String,
        /// Its kind.
        kind: String,
    },
    /// A key slot was removed.
    SlotRemoved {
        /// Its id.
        slot: String,
        /// Its kind.
        kind: String,
    },
    /// The vault got a new term, and its slots new keys.
    Rekeyed {
        /// The term that new rows are sealed under.
        term: u32,
    },
    /// How often a run used a secret at a host, told when it had ended.
    UseCounted {
        /// The run.
        run: String,
        /// The secret's name.
        secret: SecretName,
        /// The host.
        host: String,
        /// How many requests carried it.
        uses: u64,
        /// Whether these are all; a run with very many requests is not followed to its end.
        complete: bool,
        /// The grant of its owner that let it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grant: Option<GrantId>,
        /// What the model calls among them cost, in millionths of a US dollar.
        #[serde(default, skip_serializing_if = "is_zero")]
        cost_micro_usd: u64,
    },
    /// A secret was to be used and was not given out: it has expired, or cannot be read.
    OpenFailed {
        /// The run, or whoever asked.
        run: String,
        /// The word for what went wrong.
        reason: String,
    },
    /// A request of a run was refused, or the run itself was.
    Denied {
        /// The run.
        run: String,
        /// Where it wanted to go; empty when the run was refused before it began.
        host: String,
        /// The word for why.
        reason: String,
    },
    /// Exactly one content of an agent was granted something.
    Granted {
        /// The agent.
        agent: String,
        /// The digest of its content.
        digest: String,
        /// How many capabilities it was granted.
        capabilities: u64,
    },
    /// What was granted to a content of an agent was taken back.
    GrantRemoved {
        /// The digest of the content.
        digest: String,
    },
    /// What a budget held for calls of processes that had died was freed.
    BudgetReleased {
        /// The budget.
        budget: String,
        /// Who asked for it: the id of a token, or `owner`.
        by: String,
    },
    /// A backup of the whole store was made.
    BackedUp,
    /// The store was restored from a backup; what follows happened to what was restored.
    Restored,
    /// The store was rewritten without what had piled up behind its rows.
    Compacted,
    /// An event of a later version of this program.
    #[serde(other)]
    Unknown,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl AuditEvent {
    /// The texts in it that come from outside of the vault, each with what it is.
    pub(crate) fn texts(&self) -> Vec<(&'static str, &str)> {
        match self {
            AuditEvent::UsePlanned { run, host, .. } | AuditEvent::UseCounted { run, host, .. } => {
                vec![("the run's id", run), ("the host", host)]
            }
            AuditEvent::OpenFailed { run, reason } => vec![("the run's id", run), ("the reason", reason)],
            AuditEvent::Denied { run, host, reason } => {
                let host = Some(("the host", host.as_str())).filter(|(_, host)| !host.is_empty());
                [("the run's id", run.as_str()), ("the reason", reason)].into_iter().chain(host).collect()
            }
            AuditEvent::Granted { agent, digest, .. } => vec![("the agent", agent), ("the digest", digest)],
            AuditEvent::GrantRemoved { digest } => vec![("the digest", digest)],
            AuditEvent::BudgetReleased { budget, by } => vec![("the budget", budget), ("who asked", by)],
            _ => Vec::new(),
        }
    }
}

/// One record of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its place in the log of the whole store, from 0.
    pub sequence: u64,
    /// When it was written, by this machine's clock. Only the order of the records is protected against a
    /// wrong clock.
    pub time: OffsetDateTime,
    /// The workspace it belongs to.
    pub workspace: String,
    /// What happened.
    pub event: AuditEvent,
}

/// The sealed part of a record.
#[derive(Serialize, Deserialize)]
struct Content {
    /// Seconds since 1970.
    time: i64,
    workspace: String,
    event: AuditEvent,
}

/// The end of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tip {
    /// How many records there are.
    pub(crate) records: u64,
    /// The chain value of the last one; zeros without any.
    pub(crate) link: Hash,
}

impl Tip {
    /// The end of an empty log.
    pub(crate) const EMPTY: Tip = Tip { records: 0, link: [0; HASH_LEN] };
}

/// Writes the record of `event` that follows `tip`. Returns its row and the new tip.
pub(crate) fn append(
    vault: &VaultId,
    ring: &Ring,
    tip: Tip,
    (time, workspace, event): (OffsetDateTime, &str, AuditEvent),
) -> Result<(Vec<u8>, Tip), VaultError> {
    let content = Content { time: time.unix_timestamp(), workspace: workspace.to_owned(), event };
    let mut plain = Zeroizing::new(vec![CONTENT_VERSION]);
    serde_json::to_writer(&mut *plain, &content)
        .map_err(|error| VaultError::storage("writing an audit record", error))?;
    seal(vault, ring, tip, &plain)
}

/// Seals a record's content.
pub(crate) fn seal(
    vault: &VaultId,
    ring: &Ring,
    tip: Tip,
    plain: &[u8],
) -> Result<(Vec<u8>, Tip), VaultError> {
    let (term, root) = ring.newest();
    let mut record = vec![VERSION];
    record.extend_from_slice(&term.to_be_bytes());
    record.extend_from_slice(&tip.records.to_be_bytes());
    record.extend_from_slice(&tip.link);
    record.extend(row::seal(ring, &place(vault, tip.records), plain)?);
    let mac = record_mac(root, vault, &record);
    record.extend_from_slice(&mac);
    let tip = Tip { records: tip.records + 1, link: link(&record) };
    Ok((record, tip))
}

/// Reads the record that follows `tip`. Returns it and the new tip.
pub(crate) fn read(
    vault: &VaultId,
    ring: &Ring,
    tip: Tip,
    record: &[u8],
) -> Result<(AuditRecord, Tip), VaultError> {
    let broken = || VaultError::from(Tampering::Audit(tip.records));
    if let Some(&version) = record.first()
        && version != VERSION
    {
        return Err(unknown("an audit record", version, VERSION));
    }
    let (body, mac) = record.split_last_chunk::<HASH_LEN>().ok_or_else(broken)?;
    let (header, sealed) = body.split_first_chunk::<HEADER_LEN>().ok_or_else(broken)?;
    let (_, rest) = header.split_at(1);
    let (term, rest) = rest.split_first_chunk().ok_or_else(broken)?;
    let (sequence, previous) = rest.split_first_chunk().ok_or_else(broken)?;
    if u64::from_be_bytes(*sequence) != tip.records || previous != tip.link {
        return Err(broken());
    }
    let root = ring.root(u32::from_be_bytes(*term)).ok_or_else(broken)?;
    if !crypto::same(mac, &record_mac(root, vault, body)) {
        return Err(broken());
    }
    let plain = row::open(ring, &place(vault, tip.records), sealed)?;
    let (&version, json) = plain.split_first().ok_or_else(broken)?;
    if version != CONTENT_VERSION {
        return Err(unknown("an audit record's content", version, CONTENT_VERSION));
    }
    let content: Content = serde_json::from_slice(json).map_err(|_| broken())?;
    let time = OffsetDateTime::from_unix_timestamp(content.time).map_err(|_| broken())?;
    let next = Tip { records: tip.records + 1, link: link(record) };
    let record =
        AuditRecord { sequence: tip.records, time, workspace: content.workspace, event: content.event };
    Ok((record, next))
}

/// What a record says the chain value of the one before it is. Not verified.
pub(crate) fn claimed_previous(record: &[u8]) -> Option<Hash> {
    let (header, _) = record.split_first_chunk::<HEADER_LEN>()?;
    header.last_chunk::<HASH_LEN>().copied()
}

/// The chain value of a record.
pub(crate) fn link(record: &[u8]) -> Hash {
    crypto::sha256(&[b"orch.vault.audit.link/1", record])
}

fn place(vault: &VaultId, sequence: u64) -> Place<'_> {
    Place { vault, workspace: "", kind: RowKind::Audit, name: b"", version: sequence }
}

fn record_mac(root: &Key, vault: &VaultId, body: &[u8]) -> Hash {
    crypto::mac(&crypto::derive(root, vault, Label::Audit), &[&length_prefixed(&[SCHEMA, vault]), body])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::golden;

    const VAULT: VaultId = [7; 16];

    fn event(run: &str) -> AuditEvent {
        AuditEvent::UsePlanned {
            run: run.into(),
            secret: "A".parse().unwrap(),
            host: "h.example".into(),
            grant: None,
        }
    }

    fn write(ring: &Ring, tip: Tip, run: &str) -> (Vec<u8>, Tip) {
        append(&VAULT, ring, tip, (OffsetDateTime::UNIX_EPOCH, "w", event(run))).unwrap()
    }

    #[test]
    fn records_follow_each_other() {
        let ring = Ring::first_term().unwrap();
        let (first, tip) = write(&ring, Tip::EMPTY, "run_1");
        let (second, end) = write(&ring, tip, "run_2");
        let (record, after) = read(&VAULT, &ring, Tip::EMPTY, &first).unwrap();
        assert_eq!((record.sequence, record.workspace.as_str(), record.event), (0, "w", event("run_1")));
        assert_eq!(after, tip);
        assert_eq!(read(&VAULT, &ring, after, &second).unwrap().1, end);
        // Out of order, and with a record left out.
        assert!(read(&VAULT, &ring, Tip::EMPTY, &second).is_err());
        assert!(read(&VAULT, &ring, tip, &first).is_err());
        let (other_first, _) = write(&ring, Tip::EMPTY, "run_3");
        let (_, other_tip) = read(&VAULT, &ring, Tip::EMPTY, &other_first).unwrap();
        assert!(read(&VAULT, &ring, other_tip, &second).is_err());
    }

    #[test]
    fn the_format_stands_still() {
        let row = golden::hex(golden::AUDIT);
        let (record, tip) = read(&golden::VAULT, &golden::ring(), Tip::EMPTY, &row).unwrap();
        let event = AuditEvent::Removed { secret: "A".parse().unwrap(), version: Version(2) };
        let time = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        assert_eq!(record, AuditRecord { sequence: 0, time, workspace: "default".into(), event });
        assert_eq!(tip.link.as_slice(), golden::hex(golden::AUDIT_LINK));
    }

    #[test]
    fn every_byte_and_every_length_counts() {
        let ring = Ring::first_term().unwrap();
        let (record, _) = write(&ring, Tip::EMPTY, "run_1");
        for position in 0..record.len() {
            let mut altered = record.clone();
            altered[position] ^= 1;
            assert!(read(&VAULT, &ring, Tip::EMPTY, &altered).is_err(), "byte {position}");
        }
        for length in 0..record.len() {
            assert!(read(&VAULT, &ring, Tip::EMPTY, &record[..length]).is_err(), "length {length}");
        }
        assert!(read(&[8; 16], &ring, Tip::EMPTY, &record).is_err());
        assert!(read(&VAULT, &Ring::first_term().unwrap(), Tip::EMPTY, &record).is_err());
    }

    #[test]
    fn an_event_of_a_later_version_is_not_an_error() {
        let json = br#"{"time":1,"workspace":"w","event":{"event":"from_the_future","term":2}}"#;
        let content: Content = serde_json::from_slice(json).unwrap();
        assert_eq!(content.event, AuditEvent::Unknown);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        /// Whatever the bytes are, they are an error or what was written; never a panic.
        #[test]
        fn no_bytes_break_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
            let ring = golden::ring();
            prop_assert!(read(&golden::VAULT, &ring, Tip::EMPTY, &bytes).is_err());
            let _ = claimed_previous(&bytes);
            let good = golden::hex(golden::AUDIT);
            let spliced = [&good[..cut.min(good.len())], &bytes].concat();
            prop_assert!(spliced == good || read(&golden::VAULT, &ring, Tip::EMPTY, &spliced).is_err());
        }
    }
}
