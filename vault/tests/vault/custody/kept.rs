//! What becomes of the slots when a vault is compacted, backed up and restored.

use super::*;

#[test]
fn a_compaction_keeps_every_slot() {
    let (home, custody, keychain) = with_every_slot();
    let mut vault = open(&home, &custody).unwrap();
    // Rows under two terms, and slots that were wrapped anew.
    let (custody, asked) = saying(custody, PASSPHRASE);
    drop(vault);
    vault = open(&home, &custody).unwrap();
    vault.rekey().unwrap();
    set(&mut vault, "B", CANARY);
    let before = vault.slots().unwrap();
    assert_eq!(before.len(), 4);
    vault.compact().unwrap().unwrap();
    assert_eq!(vault.slots().unwrap(), before);
    assert_eq!(vault.status().unwrap().unwrap().slots, before);
    assert!(vault.verify().unwrap().is_sound());
    set(&mut vault, "B", CANARY);
    drop(vault);
    let sees = |expected: SlotKind| {
        let vault = open(&home, &custody).unwrap();
        assert_eq!(in_use(&vault), expected);
        assert_eq!(get(&vault, "A"), Some((CANARY.to_vec(), 1)));
        assert_eq!(get(&vault, "B"), Some((CANARY.to_vec(), 2)));
    };
    sees(SlotKind::File);
    fs::rename(home.key_file(), home.path().join("aside")).unwrap();
    sees(SlotKind::SystemdCredential);
    fs::remove_file(home.path().join("credential")).unwrap();
    sees(SlotKind::Keychain);
    keychain.entries.lock().unwrap().clear();
    sees(SlotKind::Passphrase);
    // Once, for the new keys: who compacts is asked for nothing.
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn a_compaction_needs_no_key_but_the_one_that_opened_the_vault() {
    let home = Home::in_memory();
    let keychain = Arc::new(Fake::default());
    let custody = Custody::new(KeyChoice::Keychain).with_keychain(keychain.clone());
    let mut vault = open(&home, &custody).unwrap();
    set(&mut vault, "A", CANARY);
    keychain.breaks("it is locked");
    vault.compact().unwrap().unwrap();
    assert_eq!((in_use(&vault), get(&vault, "A")), (SlotKind::Keychain, Some((CANARY.to_vec(), 1))));
    assert_eq!(set(&mut vault, "A", CANARY).get(), 2);
    assert!(!home.key_file().exists());
}

#[test]
fn a_backup_of_a_vault_with_several_slots_is_restored_to_one() {
    let (home, custody, _keychain) = with_every_slot();
    let (custody, _) = saying(custody, PASSPHRASE);
    let mut vault = open(&home, &custody).unwrap();
    vault.rekey().unwrap();
    set(&mut vault, "B", CANARY);
    let backup = vault.backup(&secret("five or six random words")).unwrap();
    drop(vault);

    let elsewhere = Home::in_memory();
    let there = elsewhere.location("default");
    let status = Vault::restore(&there, &backup, &secret("five or six random words")).unwrap();
    assert_eq!(status.slots.iter().map(|slot| slot.kind).collect::<Vec<_>>(), [SlotKind::File]);
    let mut restored = elsewhere.open();
    for name in ["A", "B"] {
        assert_eq!(get(&restored, name), Some((CANARY.to_vec(), 1)));
    }
    assert!(restored.verify().unwrap().is_sound());
    // It takes slots, and new keys, like any other.
    restored.add_slot(NewSlot::Passphrase(secret("another passphrase")), false).unwrap();
    drop(restored);
    let (by_passphrase, _) = saying(Custody::default(), "another passphrase");
    assert_eq!(open(&elsewhere, &by_passphrase).unwrap().rekey().unwrap().term, 4);
    fs::remove_file(elsewhere.key_file()).unwrap();
    let restored = open(&elsewhere, &by_passphrase).unwrap();
    assert_eq!((in_use(&restored), get(&restored, "A")), (SlotKind::Passphrase, Some((CANARY.to_vec(), 1))));
    drop(restored);

    // In the place of the vault that it was made of: its other slots do not come back.
    let mut here = home.location("default");
    here.custody = custody.clone();
    Vault::restore(&here, &backup, &secret("five or six random words")).unwrap();
    assert_eq!(kinds(&open(&home, &custody).unwrap()), [SlotKind::File]);
    assert_eq!(get(&open(&home, &Custody::default()).unwrap(), "B"), Some((CANARY.to_vec(), 1)));
}

/// As a new vault would, whatever slots the backed up one had.
#[test]
fn what_is_restored_gets_the_slot_that_is_configured() {
    let (home, custody, _) = with_every_slot();
    let credential = home.path().join("credential");
    let backup = open(&home, &custody).unwrap().backup(&secret("five or six random words")).unwrap();
    let restored = |home: &Home, custody: Custody| {
        let mut there = home.location("default");
        there.custody = custody;
        let status = Vault::restore(&there, &backup, &secret("five or six random words"))?;
        assert!(status.slots.iter().all(|slot| slot.in_use));
        let vault = Vault::open(&there, OpenMode::WriteIfExists).unwrap();
        assert_eq!(get(&vault, "A"), Some((CANARY.to_vec(), 1)));
        Ok::<_, VaultError>(status.slots.iter().map(|slot| slot.kind).collect::<Vec<_>>())
    };
    let works = || Arc::new(Fake::default());
    let broken = works();
    broken.breaks("no session bus");
    let (passphrase, asked) = saying(Custody::new(KeyChoice::Passphrase), PASSPHRASE);
    for (custody, kind) in [
        (Custody::new(KeyChoice::Auto).with_keychain(works()), SlotKind::Keychain),
        (Custody::new(KeyChoice::Auto).with_keychain(broken.clone()), SlotKind::File),
        (Custody::new(KeyChoice::Auto), SlotKind::File),
        (Custody::new(KeyChoice::Keychain).with_keychain(works()), SlotKind::Keychain),
        (Custody::new(KeyChoice::File).with_keychain(works()), SlotKind::File),
        (passphrase, SlotKind::Passphrase),
        (Custody::new(KeyChoice::SystemdCredential).with_credential(credential), SlotKind::SystemdCredential),
    ] {
        let elsewhere = Home::in_memory();
        assert_eq!(restored(&elsewhere, custody.clone()).unwrap(), [kind], "{custody:?}");
        assert_eq!(elsewhere.key_file().exists(), kind == SlotKind::File, "{custody:?}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2, "once for the new slot, once to open it later");

    // What cannot be had is said, and nothing is put in its place.
    let other = with_every_slot().0;
    let of_another =
        Custody::new(KeyChoice::SystemdCredential).with_credential(other.path().join("credential"));
    for (custody, says) in [
        (Custody::new(KeyChoice::Keychain).with_keychain(broken), "no session bus"),
        (Custody::new(KeyChoice::Passphrase), "nobody to ask"),
        (Custody::new(KeyChoice::SystemdCredential), "systemd gave this process no credentials"),
        (of_another, "the key is another vault's"),
    ] {
        let elsewhere = Home::in_memory();
        let error = restored(&elsewhere, custody).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Key);
        assert!(error.to_string().contains(says), "{error}");
        assert!(!elsewhere.key_file().exists() && !elsewhere.store().exists());
    }
}

#[test]
fn a_restoration_that_fails_leaves_no_entry_in_the_keychain() {
    let (home, custody, _) = with_every_slot();
    let backup = open(&home, &custody).unwrap().backup(&secret("five or six random words")).unwrap();
    let (elsewhere, keychain) = (Home::in_memory(), Arc::new(Fake::default()));
    let mut there = elsewhere.location("default");
    there.custody = Custody::new(KeyChoice::Keychain).with_keychain(keychain.clone());
    let restore = || Vault::restore(&there, &backup, &secret("five or six random words"));
    // A folder where the new store's anchor is written first.
    let obstacle = elsewhere.store().with_extension("head.unfinished");
    fs::create_dir_all(&obstacle).unwrap();
    fs::set_permissions(obstacle.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(restore().unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(keychain.names(), Vec::<String>::new());
    fs::remove_dir(&obstacle).unwrap();
    restore().unwrap();
    assert_eq!(keychain.names().len(), 1);
    assert!(get(&Vault::open(&there, OpenMode::WriteIfExists).unwrap(), "A").is_some());
}
