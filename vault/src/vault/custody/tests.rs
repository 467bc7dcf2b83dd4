//! Changes of the slots that are cut off between any two of their steps.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::store::{Batch, Store, Visit};
use crate::{Custody, OpenMode};

/// Where a process ends: at its commit of this number, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Before(usize),
    After(usize),
}

/// A store whose process ends, as if it was killed.
struct Dying {
    store: Box<dyn Store>,
    end: End,
    commits: AtomicUsize,
}

impl Store for Dying {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        self.store.get(key)
    }

    fn scan(&self, from: &[u8], below: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), VaultError> {
        self.store.scan(from, below, visit)
    }

    fn commit(&self, batch: Batch) -> Result<(), VaultError> {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        if self.end == End::Before(number) {
            resume_unwind(Box::new(()));
        }
        self.store.commit(batch)?;
        if self.end == End::After(number) {
            resume_unwind(Box::new(()));
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), VaultError> {
        self.store.sync()
    }

    fn bytes_on_disk(&self) -> Result<u64, VaultError> {
        self.store.bytes_on_disk()
    }
}

fn location(home: &Path) -> VaultLocation {
    VaultLocation {
        store: home.join("data").join("vault"),
        key_file: home.join("config").join("vault.key"),
        workspace: "default".to_owned(),
        custody: Custody::default(),
    }
}

/// Makes a change to the vault in a process that ends there.
fn cut_off(location: &VaultLocation, end: End, change: impl FnOnce(&mut Vault)) {
    let mut vault = Vault::open(location, OpenMode::Create).unwrap();
    let dying = |store| -> Box<dyn Store> { Box::new(Dying { store, end, commits: AtomicUsize::new(0) }) };
    vault.state.as_mut().unwrap().wrap_store(dying);
    let ended = catch_unwind(AssertUnwindSafe(|| change(&mut vault)));
    assert!(ended.is_err(), "it came to its end without {end:?}");
}

#[test]
fn whenever_a_credential_is_replaced_one_that_was_written_opens() {
    for end in [End::Before(1), End::After(1)] {
        let home = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| home.path().join(name));
        let mut location = location(home.path());
        let mut vault = Vault::open(&location, OpenMode::Create).unwrap();
        vault.add_slot(NewSlot::SystemdCredential(old.clone()), false).unwrap();
        drop(vault);
        cut_off(&location, end, |vault| {
            vault.add_slot(NewSlot::SystemdCredential(new.clone()), true).unwrap();
        });
        fs::remove_file(&location.key_file).unwrap();
        let opens = |path: &Path| {
            fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
            location.custody = Custody::default().with_credential(path.to_owned());
            Vault::open(&location, OpenMode::WriteIfExists).is_ok()
        };
        let expected = if end == End::Before(1) { [true, false] } else { [false, true] };
        assert_eq!([&old, &new].map(|path| path.as_path()).map(opens), expected, "{end:?}");
    }
}

/// All that a re-keying goes through: its first commit has old and new key, its second the new one alone.
#[test]
fn whenever_a_rekeying_is_cut_off_the_old_key_ends_and_the_next_one_works() {
    for end in [End::Before(1), End::After(1), End::Before(2), End::After(2)] {
        let home = tempfile::tempdir().unwrap();
        let location = location(home.path());
        drop(Vault::open(&location, OpenMode::Create).unwrap());
        let old = fs::read(&location.key_file).unwrap();
        cut_off(&location, end, |vault| drop(vault.rekey().unwrap()));

        // Whoever only reads changes nothing, and gets in.
        drop(Vault::open(&location, OpenMode::ReadOnlyIfExists).unwrap());
        let vault = Vault::open(&location, OpenMode::WriteIfExists).unwrap();
        let [slot] = vault.slots().unwrap()[..] else { panic!("{end:?}: {:?}", vault.slots()) };
        assert!(slot.in_use, "{end:?}");
        drop(vault);
        let new = fs::read(&location.key_file).unwrap();
        assert_eq!(new == old, end == End::Before(1), "{end:?}");
        let terms = if new == old { 1 } else { 2 };
        if new != old {
            fs::write(&location.key_file, &old).unwrap();
            let refused = Vault::open(&location, OpenMode::WriteIfExists).err();
            assert!(matches!(refused, Some(VaultError::WrongKey { .. })), "{end:?}: {refused:?}");
            fs::write(&location.key_file, &new).unwrap();
        }
        let rekeyed = Vault::open(&location, OpenMode::WriteIfExists).unwrap().rekey().unwrap();
        assert_eq!((rekeyed.term, rekeyed.slots.len()), (terms + 1, 1), "{end:?}");
        assert!(Vault::verify_at(&location).unwrap().is_sound());
    }
}

/// A key file that is neither of the two: no slot is dropped on a guess.
#[test]
fn a_rekeying_that_was_cut_off_waits_for_its_key_file() {
    let home = tempfile::tempdir().unwrap();
    let mut location = location(home.path());
    let passphrase = || Secret::new(b"five or six random words".to_vec());
    location.custody = Custody::default().with_passphrase(std::sync::Arc::new(move |_| Ok(passphrase())));
    let mut vault = Vault::open(&location, OpenMode::Create).unwrap();
    vault.add_slot(NewSlot::Passphrase(passphrase()), false).unwrap();
    drop(vault);
    cut_off(&location, End::After(1), |vault| drop(vault.rekey().unwrap()));
    let next = location.key_file.with_extension("key.next");
    let [key, next_key] = [&location.key_file, &next].map(|path| fs::read(path).unwrap());
    fs::remove_file(&next).unwrap();
    fs::remove_file(&location.key_file).unwrap();
    let mut vault = Vault::open(&location, OpenMode::WriteIfExists).unwrap();
    assert_eq!(vault.slots().unwrap().len(), 3);
    assert!(matches!(vault.rekey(), Err(VaultError::KeyMissing { .. })));
    drop(vault);
    // The old one alone: it is the one that is left.
    fs::write(&location.key_file, &key).unwrap();
    fs::set_permissions(&location.key_file, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(Vault::open(&location, OpenMode::WriteIfExists).unwrap().slots().unwrap().len(), 2);
    assert_ne!(key, next_key);
    assert_eq!(Vault::open(&location, OpenMode::WriteIfExists).unwrap().rekey().unwrap().slots.len(), 2);
}
