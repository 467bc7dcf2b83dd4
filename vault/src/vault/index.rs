//! Where rows are kept: keys that are MACs, so that the store shows no names.

use crate::SecretName;
use crate::crypto::{self, Key, Label};
use crate::row::{RowKind, VaultId, length_prefixed};
use crate::slots::Ring;

/// The key of the slot header.
pub(super) const SLOTS_KEY: &[u8] = b"k";
/// The key of the head.
pub(super) const HEAD_KEY: &[u8] = b"h";
/// The first byte of the keys of audit records; their sequence number follows. Everything below and above
/// is a row that the root covers, the head excepted.
pub(super) const AUDIT_PREFIX: u8 = b'a';
pub(super) const AFTER_AUDIT: u8 = AUDIT_PREFIX + 1;
const META_PREFIX: u8 = b'm';
const VALUE_PREFIX: u8 = b'v';
/// How much of the workspace's MAC is in front of its rows' keys.
const WORKSPACE_LEN: usize = 16;

/// Makes the keys that rows are kept under.
pub(super) struct Index(Key);

impl Index {
    pub(super) fn of(vault: &VaultId, ring: &Ring) -> Index {
        // From the first term, or a new one would hide every row.
        Index(crypto::derive(ring.oldest(), vault, Label::Index))
    }

    /// Where the row of `name` is kept: its kind, a MAC of the workspace, a MAC of kind, workspace and name.
    pub(super) fn row_key(&self, kind: RowKind, workspace: &str, name: &SecretName) -> Vec<u8> {
        let fields = [&b"orch.vault.key/1"[..], kind.tag(), workspace.as_bytes(), name.as_str().as_bytes()];
        let mut key = self.workspace_prefix(kind, workspace);
        key.extend_from_slice(&crypto::mac(&self.0, &[&length_prefixed(&fields)]));
        key
    }

    /// What the keys of a workspace's rows of one kind begin with.
    pub(super) fn workspace_prefix(&self, kind: RowKind, workspace: &str) -> Vec<u8> {
        let fields = length_prefixed(&[b"orch.vault.workspace/1", workspace.as_bytes()]);
        let mac = crypto::mac(&self.0, &[&fields]);
        let mut key = vec![match kind {
            RowKind::Meta => META_PREFIX,
            RowKind::Value => VALUE_PREFIX,
            RowKind::Audit => AUDIT_PREFIX,
        }];
        key.extend(mac.iter().take(WORKSPACE_LEN));
        key
    }
}

/// The key of an audit record.
pub(super) fn audit_key(sequence: u64) -> Vec<u8> {
    let mut key = vec![AUDIT_PREFIX];
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// The sequence number in the key of an audit record.
pub(super) fn audit_sequence(key: &[u8]) -> Option<u64> {
    let (&AUDIT_PREFIX, sequence) = key.split_first()? else { return None };
    Some(u64::from_be_bytes(sequence.try_into().ok()?))
}

/// Whether a row holds metadata, or a value; neither: `None`.
pub(super) fn kind_of(key: &[u8]) -> Option<RowKind> {
    match key.first() {
        Some(&META_PREFIX) => Some(RowKind::Meta),
        Some(&VALUE_PREFIX) => Some(RowKind::Value),
        _ => None,
    }
}
