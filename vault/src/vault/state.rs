//! An open store with its keys, its head and its root: reading rows that are checked, committing changes.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use data_encoding::HEXLOWER;
use time::OffsetDateTime;

use super::index::{AFTER_AUDIT, AUDIT_PREFIX, HEAD_KEY, Index, SLOTS_KEY, audit_key};
use super::verify::{Subject, Verification, inspect};
use crate::anchor::{self, Anchor, Mark};
use crate::audit::{self, Tip};
use crate::backup::Rows;
use crate::crypto::{self, Hash, Key, Label};
use crate::error::Tampering;
use crate::head::{self, Head};
use crate::place::StoreLock;
use crate::root::{self, RowsRoot};
use crate::row::{RowKind, VaultId, length_prefixed};
use crate::slots::{Ring, SlotId};
use crate::store::{Batch, Closed, Store};
use crate::{AuditEvent, AuditRecord, Secret, SecretName, VaultError};

mod log;

/// How much of a fingerprint is kept.
const FINGERPRINT_LEN: usize = 8;

/// The stores (device, inode) in which a change of this process did not become durable.
static SEALED: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// Whether an earlier failure closed the store for this process.
pub(super) fn is_sealed(store: (u64, u64)) -> bool {
    SEALED.lock().unwrap_or_else(PoisonError::into_inner).contains(&store)
}

/// Closes a store for this process.
pub(super) fn seal(store: (u64, u64)) {
    SEALED.lock().unwrap_or_else(PoisonError::into_inner).insert(store);
}

/// Forgets a store that was removed: the next one may get its inode.
pub(super) fn unseal(store: (u64, u64)) {
    SEALED.lock().unwrap_or_else(PoisonError::into_inner).remove(&store);
}

/// What opening a store needs.
pub(super) struct Opening {
    pub(super) store: Box<dyn Store>,
    pub(super) vault: VaultId,
    pub(super) ring: Ring,
    pub(super) ring_key: Key,
    /// The slot that the ring was opened with.
    pub(super) opened_by: SlotId,
    /// `None` in tests that have no files.
    pub(super) anchor: Option<Anchor>,
    /// `None` while it is being made: what fails then is thrown away.
    pub(super) identity: Option<(u64, u64)>,
    pub(super) lock: Option<StoreLock>,
}

/// How large a store is, and how often it changed.
pub(super) struct Extent {
    pub(super) generation: u64,
    pub(super) audit_records: u64,
    pub(super) live_bytes: u64,
    pub(super) disk_bytes: u64,
}

/// An open store.
pub(super) struct State {
    // Dropped in this order: the lock goes last.
    store: Box<dyn Store>,
    pub(super) vault: VaultId,
    pub(super) ring: Ring,
    pub(super) ring_key: Key,
    pub(super) opened_by: SlotId,
    index: Index,
    fingerprint: Key,
    pub(super) root: RowsRoot,
    tip: Tip,
    generation: u64,
    head_link: Hash,
    anchor: Option<Anchor>,
    identity: Option<(u64, u64)>,
    /// This handle is of no use any more.
    closed: bool,
    lock: Option<StoreLock>,
}

impl State {
    /// The state of a store without rows, whose first batch writes `slots`.
    pub(super) fn create(opening: Opening, slots: Vec<u8>, now: OffsetDateTime) -> Result<State, VaultError> {
        let mut state = State::with(opening, RowsRoot::new(), Tip::EMPTY, (0, [0; 32]));
        state.commit(vec![(SLOTS_KEY.to_vec(), Some(slots))], (now, ""), [AuditEvent::Created])?;
        Ok(state)
    }

    /// The state of a store with a head, verified: the head's MAC, the rows, the end of the audit log, the
    /// anchor.
    pub(super) fn load(opening: Opening, head_row: &[u8]) -> Result<State, VaultError> {
        let head = Head::decode(head_row, &opening.vault, &opening.ring)?;
        let root = read_rows(&*opening.store)?;
        if !crypto::same(&root.hash(), &head.root) {
            return Err(Tampering::Root.into());
        }
        let tip = Tip { records: head.audit_records, link: head.audit_tip };
        check_audit_tip(&*opening.store, tip)?;
        let link = head::link(head_row);
        let anchor_follows = match &opening.anchor {
            Some(anchor) => anchor::compare(anchor.read(&opening.vault, &opening.ring)?, &head, &link)?,
            None => false,
        };
        let mut state = State::with(opening, root, tip, (head.generation, link));
        if anchor_follows {
            // The anchor must never be ahead of what a power cut leaves.
            let mark = Mark { generation: head.generation, link };
            let followed = state.store.sync().and_then(|()| state.write_anchor(mark));
            followed.inspect_err(|_| state.seal())?;
        }
        Ok(state)
    }

    fn with(opening: Opening, root: RowsRoot, tip: Tip, (generation, head_link): (u64, Hash)) -> State {
        let Opening { store, vault, ring, ring_key, opened_by, anchor, identity, lock } = opening;
        // From the first term, or a new one would make every value look changed.
        let fingerprint = crypto::derive(ring.oldest(), &vault, Label::Fingerprint);
        let index = Index::of(&vault, &ring);
        State {
            store,
            vault,
            ring,
            ring_key,
            opened_by,
            index,
            fingerprint,
            root,
            tip,
            generation,
            head_link,
            anchor,
            identity,
            closed: false,
            lock,
        }
    }

    /// The row at `key`, if it is the one that the root knows.
    pub(super) fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        self.check_open()?;
        let row = self.store.get(key)?;
        if !self.root.holds(key, row.as_deref()) {
            return Err(Tampering::Root.into());
        }
        Ok(row)
    }

    /// Makes `changes` with their audit records and the next head, in one durable batch. Any failure closes
    /// the store for this process: what is on disk is not known then.
    pub(super) fn commit(
        &mut self,
        changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        (now, workspace): (OffsetDateTime, &str),
        events: impl IntoIterator<Item = AuditEvent>,
    ) -> Result<(), VaultError> {
        self.check_open()?;
        let mut batch = Batch::default();
        let mut tip = self.tip;
        for event in events {
            let key = audit_key(tip.records);
            let (record, next) = audit::append(&self.vault, &self.ring, tip, (now, workspace, event))?;
            batch.put(key, record);
            tip = next;
        }
        for (key, row) in changes {
            match row {
                Some(row) => {
                    self.root.put(&key, &row);
                    batch.put(key, row);
                }
                None => {
                    self.root.remove(&key);
                    batch.remove(key);
                }
            }
        }
        let head = Head {
            generation: self.generation + 1,
            root: self.root.hash(),
            audit_records: tip.records,
            audit_tip: tip.link,
            previous: self.head_link,
        };
        let head_row = head.encode(&self.vault, &self.ring);
        let head_link = head::link(&head_row);
        batch.put(HEAD_KEY.to_vec(), head_row);
        let mark = Mark { generation: head.generation, link: head_link };
        let durable = self.store.commit(batch).and_then(|()| self.write_anchor(mark));
        durable.inspect_err(|_| self.seal())?;
        (self.tip, self.generation, self.head_link) = (tip, head.generation, head_link);
        Ok(())
    }

    /// Visits every audit record, oldest first, verifying the chain up to the tip in the head.
    pub(super) fn walk_audit(&self, visit: &mut dyn FnMut(AuditRecord)) -> Result<(), VaultError> {
        self.check_open()?;
        let mut tip = Tip::EMPTY;
        self.store.scan(&[AUDIT_PREFIX], Some(&[AFTER_AUDIT]), &mut |key, row| {
            if key != audit_key(tip.records) {
                return Err(Tampering::Audit(tip.records).into());
            }
            let (record, next) = audit::read(&self.vault, &self.ring, tip, row)?;
            visit(record);
            tip = next;
            Ok(())
        })?;
        if tip == self.tip { Ok(()) } else { Err(Tampering::Audit(tip.records).into()) }
    }

    /// Where the row of `name` is kept.
    pub(super) fn row_key(&self, kind: RowKind, workspace: &str, name: &SecretName) -> Vec<u8> {
        self.index.row_key(kind, workspace, name)
    }

    /// What the keys of a workspace's rows of one kind begin with.
    pub(super) fn workspace_prefix(&self, kind: RowKind, workspace: &str) -> Vec<u8> {
        self.index.workspace_prefix(kind, workspace)
    }

    /// A keyed digest of a value.
    pub(super) fn fingerprint(&self, workspace: &str, value: &Secret) -> String {
        let workspace = length_prefixed(&[b"orch.vault.fingerprint/1", workspace.as_bytes()]);
        let mac = value.expose(|value| crypto::mac(&self.fingerprint, &[&workspace, value]));
        let (short, _) = mac.split_at(FINGERPRINT_LEN);
        HEXLOWER.encode(short)
    }

    /// Every row, sorted by key, the head and the audit log among them.
    pub(super) fn all_rows(&self) -> Result<Rows, VaultError> {
        self.check_open()?;
        let mut rows = Rows::new();
        self.store.scan(&[], None, &mut |key, row| {
            rows.push((key.to_vec(), row.to_vec()));
            Ok(())
        })?;
        Ok(rows)
    }

    /// The next generation will be beyond `floor`.
    pub(super) fn raise_generation(&mut self, floor: u64) {
        self.generation = self.generation.max(floor);
    }

    /// What the anchor of this state says.
    pub(super) fn mark(&self) -> Mark {
        Mark { generation: self.generation, link: self.head_link }
    }

    /// Closes the store, and keeps its keys.
    pub(super) fn into_keys(self) -> (VaultId, Ring) {
        (self.vault, self.ring)
    }

    /// Closes the store, for this handle alone; the lock is the caller's then.
    pub(super) fn close(&mut self) -> Option<StoreLock> {
        self.closed = true;
        self.store = Box::new(Closed);
        self.anchor = None;
        self.lock.take()
    }

    /// Whether [`State::close`] was called, or a change failed, here or elsewhere in this process.
    pub(super) fn is_closed(&self) -> bool {
        self.check_open().is_err()
    }

    fn seal(&mut self) {
        self.closed = true;
        if let Some(identity) = self.identity {
            seal(identity);
        }
    }

    /// Reads and checks everything there is; see [`inspect`].
    pub(super) fn verify(&self) -> Result<Verification, VaultError> {
        self.check_open()?;
        let (store, anchor) = (&*self.store, self.anchor.as_ref());
        inspect(Subject { store, vault: &self.vault, ring: &self.ring, anchor })
    }

    /// The generation, the number of audit records, and the bytes of all rows together and on disk.
    pub(super) fn extent(&self) -> Result<Extent, VaultError> {
        self.check_open()?;
        let mut live = 0;
        self.store.scan(&[], None, &mut |key, row| {
            live += (key.len() + row.len()) as u64;
            Ok(())
        })?;
        let (generation, audit_records) = (self.generation, self.tip.records);
        Ok(Extent { generation, audit_records, live_bytes: live, disk_bytes: self.store.bytes_on_disk()? })
    }

    fn write_anchor(&self, mark: Mark) -> Result<(), VaultError> {
        let Some(anchor) = &self.anchor else { return Ok(()) };
        anchor
            .write(mark, &self.vault, &self.ring)
            .map_err(|source| VaultError::storage("writing the anchor", source))
    }

    fn check_open(&self) -> Result<(), VaultError> {
        match self.closed || self.identity.is_some_and(is_sealed) {
            true => Err(VaultError::Sealed),
            false => Ok(()),
        }
    }
}

fn read_rows(store: &dyn Store) -> Result<RowsRoot, VaultError> {
    let mut leaves = Vec::new();
    let mut visit = |key: &[u8], row: &[u8]| {
        if key != HEAD_KEY {
            leaves.push((Box::from(key), root::leaf(key, row)));
        }
        Ok(())
    };
    store.scan(&[], Some(&[AUDIT_PREFIX]), &mut visit)?;
    store.scan(&[AFTER_AUDIT], None, &mut visit)?;
    Ok(RowsRoot::build(leaves))
}

/// Whether the log ends with the record that `tip` names. What comes before is verified by walking it.
fn check_audit_tip(store: &dyn Store, tip: Tip) -> Result<(), VaultError> {
    let last = match tip.records.checked_sub(1) {
        Some(last) => store.get(&audit_key(last))?.map(|record| audit::link(&record)),
        None => Some(Tip::EMPTY.link),
    };
    let next = store.get(&audit_key(tip.records))?;
    if last == Some(tip.link) && next.is_none() { Ok(()) } else { Err(Tampering::AuditTip.into()) }
}

#[cfg(test)]
mod tests;
