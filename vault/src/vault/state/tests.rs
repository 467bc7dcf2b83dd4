use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::golden::{self, VAULT};
use crate::store::Visit;
use crate::{ErrorKind, OpenMode, SecretMeta, SystemClock, Vault};

/// A store in memory whose commits can be told to fail.
#[derive(Clone, Default)]
struct Memory {
    rows: Arc<Mutex<std::collections::BTreeMap<Vec<u8>, Vec<u8>>>>,
    fail: Arc<AtomicBool>,
    synced: Arc<AtomicBool>,
}

impl Store for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        Ok(self.rows.lock().unwrap().get(key).cloned())
    }

    fn scan(&self, from: &[u8], below: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), VaultError> {
        for (key, row) in self.rows.lock().unwrap().range(from.to_vec()..) {
            if below.is_some_and(|below| key.as_slice() >= below) {
                break;
            }
            visit(key, row)?;
        }
        Ok(())
    }

    fn commit(&self, batch: Batch) -> Result<(), VaultError> {
        if self.fail.load(Ordering::SeqCst) {
            return Err(VaultError::storage("making a change durable", io::Error::other("no fsync today")));
        }
        let mut rows = self.rows.lock().unwrap();
        for (key, row) in batch.changes {
            match row {
                Some(row) => rows.insert(key, row),
                None => rows.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), VaultError> {
        if self.fail.load(Ordering::SeqCst) {
            return Err(VaultError::storage("making a change durable", io::Error::other("no fsync today")));
        }
        self.synced.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn bytes_on_disk(&self) -> Result<u64, VaultError> {
        Ok(0)
    }
}

impl State {
    /// Puts something between a state and its store.
    pub(in crate::vault) fn wrap_store(&mut self, wrap: impl FnOnce(Box<dyn Store>) -> Box<dyn Store>) {
        let store = std::mem::replace(&mut self.store, Box::new(Memory::default()));
        self.store = wrap(store);
    }
}

fn opening(store: &Memory, identity: u64) -> Opening {
    let identity = Some((u64::MAX, identity));
    Opening {
        store: Box::new(store.clone()),
        vault: VAULT,
        ring: golden::ring(),
        ring_key: Key::random().unwrap(),
        opened_by: SlotId([0; 16]),
        anchor: None,
        identity,
        lock: None,
    }
}

fn create(store: &Memory, identity: u64) -> Vault {
    let state =
        State::create(opening(store, identity), b"slots".to_vec(), OffsetDateTime::UNIX_EPOCH).unwrap();
    Vault {
        location: crate::VaultLocation {
            store: "nowhere".into(),
            key_file: "nowhere".into(),
            workspace: "default".into(),
            custody: crate::Custody::default(),
        },
        workspace: "default".into(),
        mode: OpenMode::Create,
        clock: Box::new(SystemClock),
        state: Some(state),
    }
}

fn set(vault: &mut Vault, name: &str) -> Result<crate::Version, VaultError> {
    let value = Secret::new(b"0123456789abcdef".to_vec());
    vault.set(&name.parse().unwrap(), value, SecretMeta::default(), crate::ExpectedVersion::Any)
}

fn load(store: &Memory) -> Result<State, VaultError> {
    State::load(opening(store, 0), &store.get(HEAD_KEY)?.unwrap())
}

#[test]
fn where_rows_are_kept_stands_still() {
    let store = Memory::default();
    let vault = create(&store, 1);
    let key =
        vault.state.as_ref().unwrap().row_key(RowKind::Value, "default", &"OPENAI_API_KEY".parse().unwrap());
    assert_eq!(key, golden::hex(golden::ROW_KEY));
}

#[test]
fn a_failed_commit_closes_the_store_for_the_process() {
    let store = Memory::default();
    let mut vault = create(&store, 2);
    set(&mut vault, "A").unwrap();
    store.fail.store(true, Ordering::SeqCst);
    assert_eq!(set(&mut vault, "A").unwrap_err().kind(), ErrorKind::Storage);
    store.fail.store(false, Ordering::SeqCst);

    let name: SecretName = "A".parse().unwrap();
    let is_sealed_error = |error: VaultError| assert!(matches!(error, VaultError::Sealed), "{error:?}");
    is_sealed_error(set(&mut vault, "A").unwrap_err());
    is_sealed_error(vault.remove(&name).unwrap_err());
    is_sealed_error(vault.open_secret(&name).map(|_| ()).unwrap_err());
    is_sealed_error(vault.list().unwrap_err());
    is_sealed_error(vault.audit().unwrap_err());
    assert!(is_sealed((u64::MAX, 2)));
    assert!(!is_sealed((u64::MAX, 3)));
}

#[test]
fn each_head_names_the_one_before() {
    let store = Memory::default();
    let mut vault = create(&store, 4);
    let head = || {
        let row = store.get(HEAD_KEY).unwrap().unwrap();
        (Head::decode(&row, &VAULT, &golden::ring()).unwrap(), head::link(&row))
    };
    let (first, link) = head();
    assert_eq!((first.generation, first.audit_records, first.previous), (1, 1, [0; 32]));
    set(&mut vault, "A").unwrap();
    let (second, _) = head();
    assert_eq!((second.generation, second.audit_records, second.previous), (2, 2, link));
    drop(vault);
    // And over a reopening.
    let mut state = load(&store).ok().unwrap();
    let link = head().1;
    state.commit(vec![], (OffsetDateTime::UNIX_EPOCH, "default"), [AuditEvent::Created]).unwrap();
    assert_eq!((head().0.generation, head().0.previous), (3, link));
}

/// A process that was killed between writing a batch and acknowledging it leaves a store that is one ahead of
/// its anchor, and perhaps not on disk: the anchor follows once it is.
#[test]
fn the_anchor_follows_what_is_durable() {
    let store = Memory::default();
    let mut vault = create(&store, 8);
    let file = tempfile::tempfile().unwrap();
    let anchor = || Anchor::new(file.try_clone().unwrap());
    let load_as = |identity| {
        let opening = Opening { anchor: Some(anchor()), ..opening(&store, identity) };
        State::load(opening, &store.get(HEAD_KEY).unwrap().unwrap())
    };
    let load = || load_as(8);
    let anchored = || anchor().read(&VAULT, &golden::ring()).unwrap().map(|mark| mark.generation);
    assert!(load().is_ok());
    assert_eq!(anchored(), Some(1));

    set(&mut vault, "A").unwrap();
    store.fail.store(true, Ordering::SeqCst);
    // Not to be tried again by the process to which the disk said no.
    assert_eq!(load_as(9).err().map(|error| error.kind()), Some(ErrorKind::Storage));
    assert!(is_sealed((u64::MAX, 9)));
    assert_eq!(anchored(), Some(1));
    store.fail.store(false, Ordering::SeqCst);
    store.synced.store(false, Ordering::SeqCst);
    assert!(load().is_ok());
    assert_eq!((anchored(), store.synced.load(Ordering::SeqCst)), (Some(2), true));

    // Nothing to follow, nothing to sync.
    store.synced.store(false, Ordering::SeqCst);
    assert!(load().is_ok());
    assert!(!store.synced.load(Ordering::SeqCst));
    // Two ahead is not what a crash leaves.
    set(&mut vault, "A").unwrap();
    set(&mut vault, "A").unwrap();
    assert!(matches!(load().err(), Some(VaultError::Tampered(Tampering::Anchor))));
}

/// Takes back a part of the store, in every combination of rows, audit log and head, and finds that only
/// the complete old state passes for one.
#[test]
fn old_and_new_do_not_mix() {
    let store = Memory::default();
    let mut vault = create(&store, 5);
    set(&mut vault, "A").unwrap();
    let old = store.rows.lock().unwrap().clone();
    set(&mut vault, "A").unwrap();
    set(&mut vault, "B").unwrap();
    drop(vault);
    let new = store.rows.lock().unwrap().clone();
    let part_of = |key: &Vec<u8>| match key.first() {
        Some(b'h') => 0,
        Some(b'a') => 1,
        Some(b'm') => 2,
        _ => 3,
    };
    for taken_back in 0..16_u8 {
        let from_old = |key: &Vec<u8>| taken_back >> part_of(key) & 1 == 1;
        let mixed =
            old.iter().filter(|(key, _)| from_old(key)).chain(new.iter().filter(|(key, _)| !from_old(key)));
        *store.rows.lock().unwrap() = mixed.map(|(key, row)| (key.clone(), row.clone())).collect();
        let loaded = load(&store);
        match taken_back {
            0 | 15 => assert!(loaded.is_ok(), "{taken_back:04b}"),
            _ => assert_eq!(
                loaded.err().map(|error| error.kind()),
                Some(ErrorKind::Tampered),
                "{taken_back:04b}"
            ),
        }
    }
}

/// Every byte of every row, and every length. The audit log's older records are found by walking it.
#[test]
fn every_byte_and_every_length_of_every_row_counts() {
    let store = Memory::default();
    let mut vault = create(&store, 7);
    set(&mut vault, "A").unwrap();
    drop(vault);
    let good = store.rows.lock().unwrap().clone();
    let read_all = || load(&store).and_then(|state| state.walk_audit(&mut |_| ()));
    assert!(read_all().is_ok());
    let refuse = |key: &Vec<u8>, altered: Vec<u8>, what: &dyn std::fmt::Display| {
        store.rows.lock().unwrap().insert(key.clone(), altered);
        let kind = read_all().err().map(|error| error.kind());
        assert!(
            matches!(kind, Some(ErrorKind::Tampered | ErrorKind::Format)),
            "row {}, {what}: {kind:?}",
            key.escape_ascii()
        );
    };
    for (key, row) in &good {
        for position in 0..row.len() {
            let mut altered = row.clone();
            altered[position] ^= 1 << (position % 8);
            refuse(key, altered, &format_args!("byte {position}"));
        }
        for length in 0..row.len() {
            refuse(key, row[..length].to_vec(), &format_args!("length {length}"));
        }
        refuse(key, [row.as_slice(), &[0]].concat(), &"one byte more");
        store.rows.lock().unwrap().insert(key.clone(), row.clone());
    }
    assert!(read_all().is_ok());
}

/// What changes beneath an open vault is found when it is read.
#[test]
fn rows_are_checked_when_they_are_read() {
    let store = Memory::default();
    let mut vault = create(&store, 6);
    set(&mut vault, "A").unwrap();
    let first = store.rows.lock().unwrap().clone();
    set(&mut vault, "A").unwrap();
    let name: SecretName = "A".parse().unwrap();
    assert!(vault.open_secret(&name).unwrap().is_some());

    *store.rows.lock().unwrap() = first;
    assert!(matches!(vault.open_secret(&name), Err(VaultError::Tampered(Tampering::Root))));
    store.rows.lock().unwrap().clear();
    assert!(matches!(vault.open_secret(&name), Err(VaultError::Tampered(Tampering::Root))));
    assert!(matches!(vault.list(), Err(VaultError::Tampered(Tampering::Root))));
    assert!(matches!(vault.audit(), Err(VaultError::Tampered(Tampering::Audit(0)))));
}

#[test]
fn the_log_is_read_in_parts_and_no_part_takes_what_is_not_its_own() {
    let store = Memory::default();
    let mut vault = create(&store, 9_300);
    for number in 0..9 {
        set(&mut vault, &format!("S{number}")).unwrap();
    }
    let part = |after: Option<u64>, most: usize| -> Result<Vec<u64>, VaultError> {
        let mut read = Vec::new();
        vault.audit_after(after, &mut |record| {
            read.push(record.sequence);
            if read.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(read)
    };
    assert_eq!(part(None, 3).unwrap(), [0, 1, 2]);
    assert_eq!(part(Some(2), 5).unwrap(), [3, 4, 5, 6, 7]);
    assert_eq!(part(Some(7), 5).unwrap(), [8, 9]);
    for after in [9, 10, u64::MAX] {
        assert!(part(Some(after), 5).unwrap().is_empty(), "{after}");
    }
    let row = |sequence| store.rows.lock().unwrap()[&audit_key(sequence)].clone();
    let put = |sequence, row: Vec<u8>| store.rows.lock().unwrap().insert(audit_key(sequence), row);
    // Moved, altered and gone.
    let (fourth, fifth) = (row(4), row(5));
    put(4, fifth);
    assert!(part(Some(3), 1).is_err());
    let mut altered = fourth.clone();
    *altered.last_mut().unwrap() ^= 1;
    put(4, altered);
    assert!(part(Some(3), 1).is_err() && part(Some(4), 1).is_err(), "what follows it is linked to it");
    store.rows.lock().unwrap().remove(&audit_key(4));
    assert!(part(Some(3), 1).is_err() && part(Some(4), 1).is_err());
    // The first part is handed over when all of it is sound.
    assert!(part(None, 1).is_err());
    put(4, fourth);
    assert_eq!(part(None, 1).unwrap(), [0]);
}
