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
