//! Backups, restorations and compaction: another folder, the same vault.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;

use orch_vault::{AuditEvent, ErrorKind, OpenMode, Secret, Tampering, Vault, VaultError};

use crate::support::*;

fn passphrase() -> Secret {
    Secret::new(b"five or six random words".to_vec())
}

fn restore(home: &Home, backup: &[u8]) -> Result<(), VaultError> {
    Vault::restore(&home.location("default"), backup, &passphrase()).map(|_| ())
}

fn events(vault: &Vault) -> Vec<AuditEvent> {
    vault.audit().unwrap().into_iter().map(|record| record.event).collect()
}

#[test]
fn a_backup_is_restored_on_another_machine() {
    let home = Home::in_memory_with(&["A", "B", "GONE"]);
    set(&mut Vault::open(&home.location("other"), OpenMode::Create).unwrap(), "A", CANARY);
    let mut vault = home.open();
    vault.remove(&name("GONE")).unwrap();
    let backup = vault.backup(&passphrase()).unwrap();
    let (file, somebodys) = (home.path().join("vault.backup"), home.path().join("vault.backup.new"));
    fs::write(&somebodys, b"somebody's").unwrap();
    Vault::write_backup(&file, &backup).unwrap();
    assert_eq!(fs::read(&somebodys).unwrap(), b"somebody's");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = Vault::write_backup(&file, b"something else").unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Place);
    assert_eq!(Vault::read_backup(&file).unwrap(), backup);
    for canary in encodings(CANARY) {
        assert!(!backup.windows(canary.len()).any(|window| window == canary));
    }

    let elsewhere = Home::in_memory();
    restore(&elsewhere, &backup).unwrap();
    assert!(Vault::verify_at(&elsewhere.location("default")).unwrap().is_sound());
    let mut restored = elsewhere.open();
    for secret in ["A", "B"] {
        assert_eq!(get(&restored, secret), Some((value_of(secret).into_bytes(), 1)));
    }
    assert_eq!(get(&restored, "GONE"), None);
    assert_eq!(events(&restored)[..6], events(&vault)[..6]);
    assert_eq!(events(&restored).last(), Some(&AuditEvent::Restored));
    // Versions go on, a removed name's as well.
    assert_eq!(set(&mut restored, "GONE", CANARY).get(), 2);
    restored.enter("other").unwrap();
    assert_eq!(get(&restored, "A"), Some((CANARY.to_vec(), 1)));
    drop(restored);
    // What is beside a vault is what was there before: nothing of the restoration stays.
    let mut names: Vec<_> = fs::read_dir(elsewhere.store().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["vault", "vault.head", "vault.lock"]);
}

#[test]
fn a_restoration_goes_back_and_nobody_else_does() {
    let home = Home::in_memory_with(&["A"]);
    let backup = home.open().backup(&passphrase()).unwrap();
    set(&mut home.open(), "A", CANARY);
    set(&mut home.open(), "B", CANARY);
    let later = fs::read(home.anchor()).unwrap();
    restore(&home, &backup).unwrap();
    let vault = home.open();
    assert_eq!(get(&vault, "A"), Some((value_of("A").into_bytes(), 1)));
    assert_eq!(get(&vault, "B"), None);
    drop(vault);
    // The anchor of what was replaced does not fit what was restored.
    fs::write(home.anchor(), later).unwrap();
    let found = home.try_open(OpenMode::Create).err().unwrap();
    assert!(matches!(found, VaultError::Tampered(Tampering::Anchor | Tampering::RolledBack)), "{found}");
    // And a vault that is beyond repair comes back.
    fs::remove_file(home.store().join("db")).unwrap();
    fs::remove_file(home.anchor()).unwrap();
    restore(&home, &backup).unwrap();
    assert_eq!(get(&home.open(), "A"), Some((value_of("A").into_bytes(), 1)));
}

/// The backup's root keys are known to who has it; what comes after a restoration is under others.
#[test]
fn a_restoration_brings_no_old_root_key_back() {
    let home = Home::in_memory_with(&["A"]);
    let backup = home.open().backup(&passphrase()).unwrap();
    let mut vault = home.open();
    vault.rekey().unwrap();
    for _ in 0..5 {
        set(&mut vault, "A", CANARY);
    }
    let before = vault.status().unwrap().unwrap().generation;
    drop(vault);
    // The anchor that is there was written under a term that the backup does not know.
    restore(&home, &backup).unwrap();
    let term_of_head = || entries(&home)[b"h\0".as_slice()][2..6].to_vec();
    assert_eq!(term_of_head(), [0, 0, 0, 2]);
    let mut vault = home.open();
    assert!(vault.status().unwrap().unwrap().generation > before);
    assert_eq!(get(&vault, "A"), Some((value_of("A").into_bytes(), 1)));
    assert_eq!(set(&mut vault, "A", CANARY).get(), 2);
    assert_eq!(vault.rekey().unwrap().term, 3);
    drop(vault);
    assert_eq!(term_of_head(), [0, 0, 0, 3]);
    assert!(Vault::verify_at(&home.location("default")).unwrap().is_sound());
}

#[test]
fn what_cannot_be_restored_changes_nothing() {
    let home = Home::in_memory_with(&["A"]);
    let mut backup = home.open().backup(&passphrase()).unwrap();
    let wrong = Vault::restore(&home.location("default"), &backup, &Secret::new(b"another one".to_vec()));
    assert!(matches!(wrong, Err(VaultError::WrongBackupPassphrase)));
    let other = Home::in_memory_with(&["B"]);
    assert!(matches!(restore(&other, &backup), Err(VaultError::AnotherVault { .. })));
    let held = home.open();
    assert_eq!(restore(&home, &backup).unwrap_err().kind(), ErrorKind::Locked);
    drop(held);
    *backup.last_mut().unwrap() ^= 1;
    assert!(restore(&home, &backup).is_err());
    assert!(restore(&home, b"ORCHBKUP").is_err());
    assert_eq!(get(&home.open(), "A"), Some((value_of("A").into_bytes(), 1)));
    assert_eq!(get(&other.open(), "B"), Some((value_of("B").into_bytes(), 1)));

    // Nor is what is not backed up on record.
    let weak = home.open().backup(&Secret::new(b"short".to_vec())).unwrap_err();
    assert!(matches!(weak, VaultError::WeakPassphrase { .. }), "{weak}");
    let backed_up = events(&home.open()).into_iter().filter(|event| *event == AuditEvent::BackedUp).count();
    assert_eq!(backed_up, 1);

    let nothing = Home::in_memory().try_open(OpenMode::ReadOnlyIfExists).unwrap().backup(&passphrase());
    assert!(matches!(nothing, Err(VaultError::ReadOnly)));
}

#[test]
fn what_is_not_sound_is_not_backed_up() {
    let home = Home::in_memory_with(&["A", "B"]);
    let mut altered = entries(&home);
    // An audit record in the middle: an opening looks at the last one only.
    altered.get_mut([b"a".as_slice(), &[0; 7], &[1, 0]].concat().as_slice()).unwrap()[70] ^= 1;
    replace(&home, &altered);
    let mut vault = home.open();
    let generation = |vault: &Vault| vault.status().unwrap().unwrap().generation;
    let before = generation(&vault);
    let refused = vault.backup(&passphrase()).unwrap_err();
    assert!(matches!(refused, VaultError::Unsound { .. }), "{refused}");
    assert_eq!(generation(&vault), before, "nothing says that there was a backup");
    assert!(matches!(vault.compact(), Err(VaultError::Unsound { .. })));
    assert_eq!(get(&vault, "A"), Some((value_of("A").into_bytes(), 1)));
}

/// What cannot be cleared away stops a rebuilding before it begins, and nothing else.
#[test]
fn a_leftover_that_stays_is_no_failure_but_of_a_rebuilding() {
    let home = Home::in_memory_with(&["A"]);
    let leftover = home.store().with_extension("old");
    fs::write(&leftover, b"").unwrap();
    let mut vault = home.open();
    let backup = vault.backup(&passphrase()).unwrap();
    assert_eq!(vault.compact().unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(set(&mut vault, "A", CANARY).get(), 2);
    drop(vault);
    assert_eq!(restore(&home, &backup).unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(get(&home.open(), "A"), Some((CANARY.to_vec(), 2)));
    fs::remove_file(&leftover).unwrap();
    restore(&home, &backup).unwrap();
    assert_eq!(get(&home.open(), "A").unwrap().1, 1);
}

/// Somebody who waits for the vault gets it when it is done with, and not while one store takes another's place.
#[test]
fn nobody_gets_in_while_the_store_is_rebuilt() {
    let home = Home::in_memory_with(&["A"]);
    let mut vault = home.open();
    let lock = fs::File::open(home.store().with_extension("lock")).unwrap();
    let (got, waiting) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            lock.lock().unwrap();
            got.send(()).unwrap();
        });
        for round in 1..4 {
            let compacted = vault.compact();
            assert!(waiting.try_recv().is_err(), "round {round}");
            compacted.unwrap().unwrap();
        }
        assert_eq!(get(&vault, "A").unwrap().1, 1);
        drop(vault);
        waiting.recv().unwrap();
    });
}

/// 10,000 rotations of a few secrets, as months of use would leave them.
#[test]
fn growth_after_many_rotations_and_a_compaction() {
    let home = Home::in_memory_with(&["A", "B", "C"]);
    let mut vault = home.open();
    for round in 0..10_000 {
        let value = format!("value-{round:08}-of-some-length-0123456789");
        set(&mut vault, ["A", "B", "C"][round % 3], value.as_bytes());
    }
    let (before, after) = vault.compact().unwrap().unwrap();
    println!(
        "kept {} bytes, on disk {} before and {} after",
        after.live_bytes, before.disk_bytes, after.disk_bytes
    );
    assert!(after.disk_bytes <= 4 * after.live_bytes, "{before:?} {after:?}");
    assert_eq!(get(&vault, "A").unwrap().1, 3335);
    assert_eq!(events(&vault).last(), Some(&AuditEvent::Compacted));
    // It goes on as it was.
    assert_eq!(set(&mut vault, "A", CANARY).get(), 3336);
    drop(vault);
    assert!(Vault::verify_at(&home.location("default")).unwrap().is_sound());
    assert_eq!(get(&home.open(), "A"), Some((CANARY.to_vec(), 3336)));
}
