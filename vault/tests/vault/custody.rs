//! Key slots: several at once, added, removed, re-keyed; what opens a vault and what does not.

mod kept;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use orch_vault::{
    AuditEvent, Custody, ErrorKind, KeyChoice, Keychain, KeychainError, NewSlot, OpenMode, PassphraseFor,
    Secret, SlotKind, Vault, VaultError,
};
use zeroize::Zeroizing;

use crate::support::*;

const PASSPHRASE: &str = "correct horse battery staple";

/// A keychain in memory, which can be told to fail.
#[derive(Default)]
pub(crate) struct Fake {
    entries: Mutex<BTreeMap<String, Vec<u8>>>,
    broken: Mutex<Option<&'static str>>,
    /// Forgets nothing.
    keeps: Mutex<bool>,
}

impl Fake {
    fn check(&self) -> Result<(), KeychainError> {
        self.broken.lock().unwrap().map_or(Ok(()), |why| Err(KeychainError(why.to_owned())))
    }

    fn breaks(&self, why: &'static str) {
        *self.broken.lock().unwrap() = Some(why);
    }

    fn names(&self) -> Vec<String> {
        self.entries.lock().unwrap().keys().cloned().collect()
    }
}

impl Keychain for Fake {
    fn set(&self, name: &str, text: &[u8]) -> Result<(), KeychainError> {
        self.check()?;
        self.entries.lock().unwrap().insert(name.to_owned(), text.to_vec());
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeychainError> {
        self.check()?;
        Ok(self.entries.lock().unwrap().get(name).cloned().map(Zeroizing::new))
    }

    fn remove(&self, name: &str) -> Result<(), KeychainError> {
        self.check()?;
        if *self.keeps.lock().unwrap() {
            return Err(KeychainError("it forgets nothing".to_owned()));
        }
        self.entries.lock().unwrap().remove(name);
        Ok(())
    }
}

/// Says a passphrase whenever it is asked, and counts that.
fn saying(custody: Custody, passphrase: &'static str) -> (Custody, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let ask = move |_: PassphraseFor| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(secret(passphrase))
    };
    (custody.with_passphrase(Arc::new(ask)), asked)
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn open(home: &Home, custody: &Custody) -> Result<Vault, VaultError> {
    let mut location = home.location("default");
    location.custody = custody.clone();
    Vault::open(&location, OpenMode::Create)
}

fn kinds(vault: &Vault) -> Vec<SlotKind> {
    vault.slots().unwrap().iter().map(|slot| slot.kind).collect()
}

/// What the vault was opened with.
fn in_use(vault: &Vault) -> SlotKind {
    vault.slots().unwrap().iter().find(|slot| slot.in_use).unwrap().kind
}

fn remove(vault: &mut Vault, kind: SlotKind) -> Result<(), VaultError> {
    let id = vault.slots().unwrap().iter().find(|slot| slot.kind == kind).unwrap().id;
    vault.remove_slot(id).map(|_| ())
}

/// Writes what systemd would hand over.
fn credential_file(home: &Home, content: &Secret) -> PathBuf {
    let path = home.path().join("credential");
    let _ = fs::remove_file(&path);
    content.expose(|bytes| fs::write(&path, bytes)).unwrap();
    handed_over(path)
}

/// With the mode that systemd gives a credential.
fn handed_over(path: PathBuf) -> PathBuf {
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    path
}

/// A vault with a slot of each kind, a secret in it, and where its keys are.
fn with_every_slot() -> (Home, Custody, Arc<Fake>) {
    let home = Home::in_memory();
    let keychain = Arc::new(Fake::default());
    let custody = Custody::default().with_keychain(keychain.clone());
    let mut vault = open(&home, &custody).unwrap();
    set(&mut vault, "A", CANARY);
    vault.add_slot(NewSlot::Keychain, false).unwrap();
    vault.add_slot(NewSlot::Passphrase(secret(PASSPHRASE)), false).unwrap();
    let credential = home.path().join("credential");
    vault.add_slot(NewSlot::SystemdCredential(credential.clone()), false).unwrap();
    let custody = custody.with_credential(handed_over(credential));
    (home, custody, keychain)
}

#[test]
fn each_slot_opens_the_vault_alone() {
    let (home, custody, keychain) = with_every_slot();
    let (custody, asked) = saying(custody, PASSPHRASE);
    let sees = |expected: SlotKind| {
        let vault = open(&home, &custody).unwrap();
        assert_eq!((in_use(&vault), get(&vault, "A")), (expected, Some((CANARY.to_vec(), 1))));
    };
    sees(SlotKind::File);
    fs::rename(home.key_file(), home.path().join("aside")).unwrap();
    sees(SlotKind::SystemdCredential);
    fs::remove_file(home.path().join("credential")).unwrap();
    sees(SlotKind::Keychain);
    keychain.entries.lock().unwrap().clear();
    assert_eq!(asked.load(Ordering::Relaxed), 0, "nobody is asked while a key is at hand");
    sees(SlotKind::Passphrase);
    sees(SlotKind::Passphrase);
    assert_eq!(asked.load(Ordering::Relaxed), 1, "asked once for a process");
    assert!(!home.key_file().exists(), "no slot is made on the way");
}

#[test]
fn slots_are_removed_one_by_one_but_for_the_last() {
    let (home, custody, keychain) = with_every_slot();
    let mut vault = open(&home, &custody).unwrap();
    assert_eq!(
        kinds(&vault),
        [SlotKind::File, SlotKind::Keychain, SlotKind::Passphrase, SlotKind::SystemdCredential]
    );
    let before = keychain.names().len();
    remove(&mut vault, SlotKind::Keychain).unwrap();
    assert_eq!((before, keychain.names().len()), (1, 0), "its key goes with it");
    remove(&mut vault, SlotKind::File).unwrap();
    assert!(!home.key_file().exists());
    remove(&mut vault, SlotKind::Passphrase).unwrap();
    let error = remove(&mut vault, SlotKind::SystemdCredential).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Slots);
    assert!(error.to_string().contains("last one"), "{error}");
    drop(vault);
    let vault = open(&home, &custody).unwrap();
    assert_eq!((in_use(&vault), get(&vault, "A").unwrap().1), (SlotKind::SystemdCredential, 1));
    let removed = vault.audit().unwrap().into_iter().filter_map(|record| match record.event {
        AuditEvent::SlotRemoved { kind, .. } => Some(kind),
        _ => None,
    });
    assert_eq!(removed.collect::<Vec<_>>(), ["keychain", "file", "passphrase"]);
}

#[test]
fn a_slot_stays_while_no_other_one_opens() {
    let (home, custody, keychain) = with_every_slot();
    let mut vault = open(&home, &custody).unwrap();
    let before = vault.slots().unwrap();
    fs::remove_file(home.path().join("credential")).unwrap();
    keychain.entries.lock().unwrap().clear();
    let error = remove(&mut vault, SlotKind::File).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Slots);
    for part in ["the file slot stays", "no such entry", "nobody to ask", "add one first"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(vault.slots().unwrap(), before);
    assert!(home.key_file().exists());
    drop(vault);
    // A wrong passphrase opens nothing either; the right one does.
    let mut vault = open(&home, &saying(custody.clone(), "a wrong passphrase").0).unwrap();
    assert_eq!(remove(&mut vault, SlotKind::File).unwrap_err().kind(), ErrorKind::Slots);
    drop(vault);
    let mut vault = open(&home, &saying(custody, PASSPHRASE).0).unwrap();
    remove(&mut vault, SlotKind::File).unwrap();
    assert!(!home.key_file().exists());
}

#[test]
fn a_key_that_the_keychain_does_not_forget_is_told_of() {
    let (home, custody, keychain) = with_every_slot();
    let mut vault = open(&home, &saying(custody, PASSPHRASE).0).unwrap();
    *keychain.keeps.lock().unwrap() = true;
    let old = keychain.names();
    let rekeyed = vault.rekey().unwrap();
    assert!(matches!(&rekeyed.left_behind[..], [said] if said.contains(&old[0])), "{rekeyed:?}");
    let id = vault.slots().unwrap().iter().find(|slot| slot.kind == SlotKind::Keychain).unwrap().id;
    let removed = vault.remove_slot(id).unwrap();
    let said = removed.left_behind.unwrap();
    assert!(said.contains(&id.to_string()) && said.contains("it forgets nothing"), "{said}");
    assert!(!kinds(&vault).contains(&SlotKind::Keychain));
}

#[test]
fn a_rekeying_that_cannot_write_its_key_file_leaves_no_new_entry() {
    let home = Home::in_memory();
    let keychain = Arc::new(Fake::default());
    let custody = Custody::new(KeyChoice::Keychain).with_keychain(keychain.clone());
    let mut vault = open(&home, &custody).unwrap();
    vault.add_slot(NewSlot::File, false).unwrap();
    let before = keychain.names();
    // A folder where the new key file would be written.
    fs::create_dir_all(home.key_file().with_extension("key.next")).unwrap();
    assert_eq!(vault.rekey().unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(keychain.names(), before);
    fs::remove_dir(home.key_file().with_extension("key.next")).unwrap();
    assert_eq!(vault.rekey().unwrap().slots.len(), 2);
}

#[test]
fn there_is_one_slot_of_a_kind_and_a_passphrase_can_be_replaced() {
    let (home, custody, _) = with_every_slot();
    let mut vault = open(&home, &custody).unwrap();
    for new in [
        NewSlot::File,
        NewSlot::Keychain,
        NewSlot::SystemdCredential(home.path().join("another")),
        NewSlot::Passphrase(secret(PASSPHRASE)),
    ] {
        assert_eq!(vault.add_slot(new, false).err().unwrap().kind(), ErrorKind::Slots);
    }
    assert!(!home.path().join("another").exists(), "no key is made for a slot that is refused");
    let weak = vault.add_slot(NewSlot::Passphrase(secret("1234567")), true).err().unwrap();
    assert!(matches!(weak, VaultError::WeakPassphrase { .. }), "{weak}");
    vault.add_slot(NewSlot::Passphrase(secret("another passphrase")), true).unwrap();
    assert_eq!(kinds(&vault).len(), 4);
    drop(vault);
    let mut vault = open(&home, &saying(custody, "another passphrase").0).unwrap();
    for kind in [SlotKind::File, SlotKind::Keychain, SlotKind::SystemdCredential] {
        remove(&mut vault, kind).unwrap();
    }
    drop(vault);
    let with = |passphrase| open(&home, &saying(Custody::default(), passphrase).0).map(|_| ());
    with("another passphrase").unwrap();
    assert!(matches!(with(PASSPHRASE), Err(VaultError::WrongPassphrase)));
}

#[test]
fn a_credential_that_cannot_be_written_takes_no_slots_place() {
    let (home, custody, _) = with_every_slot();
    let mut vault = open(&home, &custody).unwrap();
    let (before, credential) = (vault.slots().unwrap(), home.path().join("credential"));
    for (out, kind) in
        [(credential, ErrorKind::Place), (home.path().join("nowhere").join("file"), ErrorKind::Place)]
    {
        let error = vault.add_slot(NewSlot::SystemdCredential(out), true).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(vault.slots().unwrap(), before);
    }
    let out = home.path().join("new");
    vault.add_slot(NewSlot::SystemdCredential(out.clone()), true).unwrap();
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    remove(&mut vault, SlotKind::File).unwrap();
    drop(vault);
    let custody = custody.with_credential(handed_over(out));
    assert_eq!(in_use(&open(&home, &custody).unwrap()), SlotKind::SystemdCredential);
}

#[test]
fn a_new_term_touches_no_row_and_shuts_old_keys_out() {
    let (home, custody, keychain) = with_every_slot();
    let (custody, _) = saying(custody, PASSPHRASE);
    let mut vault = open(&home, &custody).unwrap();
    let fingerprint = |vault: &Vault| vault.list().unwrap()[0].fingerprint.clone();
    let (before, old_file, old_entries) =
        (fingerprint(&vault), fs::read(home.key_file()).unwrap(), keychain.names());
    let rekeyed = vault.rekey().unwrap();
    assert_eq!((rekeyed.term, rekeyed.slots.len()), (2, 4));
    assert_eq!(in_use(&vault), SlotKind::File);
    set(&mut vault, "B", CANARY);
    drop(vault);

    assert_ne!(fs::read(home.key_file()).unwrap(), old_file);
    assert!(!home.key_file().with_extension("key.next").exists());
    assert_ne!(keychain.names(), old_entries);
    assert_eq!(keychain.names().len(), 1, "the old entry is gone");

    // Each slot opens what came before and after.
    let both = |expected| {
        let vault = open(&home, &custody).unwrap();
        assert_eq!(in_use(&vault), expected);
        assert_eq!(get(&vault, "A"), Some((CANARY.to_vec(), 1)));
        assert_eq!(get(&vault, "B"), Some((CANARY.to_vec(), 1)));
        assert_eq!(fingerprint(&vault), before);
        assert!(vault.audit().unwrap().iter().any(|r| r.event == AuditEvent::Rekeyed { term: 2 }));
    };
    both(SlotKind::File);
    let new_file = fs::read(home.key_file()).unwrap();
    fs::write(home.key_file(), &old_file).unwrap();
    let alone = open(&home, &Custody::default()).map(|_| ()).unwrap_err();
    assert!(alone.to_string().contains("this key does not open this vault"), "{alone}");
    both(SlotKind::SystemdCredential);
    fs::remove_file(home.path().join("credential")).unwrap();
    both(SlotKind::Keychain);
    keychain.entries.lock().unwrap().clear();
    both(SlotKind::Passphrase);
    fs::write(home.key_file(), new_file).unwrap();
    both(SlotKind::File);
}

#[test]
fn nothing_is_rekeyed_while_a_key_is_missing() {
    let (home, custody, keychain) = with_every_slot();
    let (key_file, entries) = (fs::read(home.key_file()).unwrap(), keychain.names());
    let unchanged = |vault: &Vault| {
        assert_eq!(fs::read(home.key_file()).unwrap(), key_file);
        assert_eq!(keychain.names(), entries);
        assert!(vault.audit().unwrap().iter().all(|r| !matches!(r.event, AuditEvent::Rekeyed { .. })));
    };
    // Nobody to ask.
    let mut vault = open(&home, &custody).unwrap();
    let error = vault.rekey().unwrap_err();
    assert!(matches!(error, VaultError::SlotKeyMissing { kind: SlotKind::Passphrase, .. }), "{error}");
    unchanged(&vault);
    drop(vault);
    // A wrong passphrase would lock its owner out.
    let (wrong, _) = saying(custody, "a wrong passphrase");
    let mut vault = open(&home, &wrong).unwrap();
    assert!(matches!(vault.rekey(), Err(VaultError::WrongPassphrase)));
    unchanged(&vault);
}

/// The child's part: re-key for ever.
#[test]
fn child_rekeys() {
    let Some(location) = child_location() else { return };
    let mut vault = Vault::open(&location, OpenMode::Create).unwrap();
    loop {
        let term = vault.rekey().unwrap().term;
        println!("term {term}");
        if std::io::stdout().flush().is_err() {
            return;
        }
    }
}

#[test]
fn killed_while_rekeying_the_vault_opens() {
    let home = Home::with(&["A"]);
    let mut terms = 1;
    let mut first = fs::read(home.key_file()).unwrap();
    for trial in 0..12_u64 {
        let mut child = child("custody::child_rekeys", &home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let enough = usize::try_from(1 + trial % 4).unwrap();
        let seen = lines.by_ref().filter(|line| line.contains("term ")).take(enough).count();
        assert_eq!(seen, enough);
        child.kill().unwrap();
        child.wait().unwrap();
        let said = seen + lines.filter(|line| line.contains("term ")).count();
        let vault = home.open();
        assert_eq!(get(&vault, "A"), Some((value_of("A").into_bytes(), 1)));
        let audit = vault.audit().unwrap();
        let recorded = audit.iter().filter(|r| matches!(r.event, AuditEvent::Rekeyed { .. })).count() + 1;
        assert!((terms + said..=terms + said + 1).contains(&recorded), "{terms} + {said}: {recorded}");
        // Whatever the moment was, one key opens it, and that is none from before.
        assert_eq!(kinds(&vault), [SlotKind::File]);
        drop(vault);
        let key = fs::read(home.key_file()).unwrap();
        fs::write(home.key_file(), first).unwrap();
        assert!(matches!(home.try_open(OpenMode::Create), Err(VaultError::WrongKey { .. })));
        fs::write(home.key_file(), &key).unwrap();
        (terms, first) = (recorded, key);
    }
    assert_eq!(home.open().rekey().unwrap().slots.len(), 1);
}

#[test]
fn auto_takes_the_keychain_where_there_is_one_and_never_goes_back() {
    let (home, keychain) = (Home::in_memory(), Arc::new(Fake::default()));
    let custody = Custody::new(KeyChoice::Auto).with_keychain(keychain.clone());
    set(&mut open(&home, &custody).unwrap(), "A", CANARY);
    assert!(!home.key_file().exists());
    assert_eq!(keychain.names().len(), 1, "and nothing of the probe stays");
    // The keychain is locked, or gone: that is an error, and no reason for a file.
    keychain.breaks("it is locked");
    let error = open(&home, &custody).err().unwrap();
    assert!(matches!(error, VaultError::SlotKeyMissing { kind: SlotKind::Keychain, .. }), "{error}");
    let error = open(&home, &Custody::new(KeyChoice::Auto)).err().unwrap();
    assert!(error.to_string().contains("this system has none"), "{error}");
    assert!(!home.key_file().exists());
}

#[test]
fn auto_falls_to_the_file_and_the_keychain_alone_does_not() {
    let broken = Arc::new(Fake::default());
    broken.breaks("no session bus");
    for custody in
        [Custody::new(KeyChoice::Auto), Custody::new(KeyChoice::Auto).with_keychain(broken.clone())]
    {
        let home = Home::in_memory();
        let vault = open(&home, &custody).unwrap();
        assert_eq!((kinds(&vault), home.key_file().exists()), (vec![SlotKind::File], true));
    }
    let home = Home::in_memory();
    let error = open(&home, &Custody::new(KeyChoice::Keychain).with_keychain(broken)).err().unwrap();
    assert!(error.to_string().contains("no session bus"), "{error}");
    assert!(!home.key_file().exists());
}

#[test]
fn a_new_vault_gets_the_slot_that_was_chosen() {
    let home = Home::in_memory();
    let (custody, asked) = saying(Custody::new(KeyChoice::Passphrase), PASSPHRASE);
    assert_eq!(kinds(&open(&home, &custody).unwrap()), [SlotKind::Passphrase]);
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    let (other, custody, _) = with_every_slot();
    let credential = fs::read(other.path().join("credential")).unwrap();
    let home = Home::in_memory();
    let missing = Custody::new(KeyChoice::SystemdCredential);
    assert!(matches!(open(&home, &missing).err().unwrap(), VaultError::SlotKeyMissing { .. }));
    let given = missing.with_credential(credential_file(&home, &Secret::new(credential)));
    assert_eq!(kinds(&open(&home, &given).unwrap()), [SlotKind::SystemdCredential]);
    drop(custody);
}

#[test]
fn bad_input_row_by_row() {
    type Spoil = fn(&Home, &Arc<Fake>);
    let rows: &[(&str, SlotKind, Spoil, &str)] = &[
        (
            "no key file",
            SlotKind::File,
            |home, _| fs::remove_file(home.key_file()).unwrap(),
            "key file is missing",
        ),
        (
            "a damaged key file",
            SlotKind::File,
            |home, _| {
                let mut key = fs::read(home.key_file()).unwrap();
                key[60] ^= 1;
                fs::write(home.key_file(), key).unwrap();
            },
            "its checksum is wrong",
        ),
        (
            "a cut key file",
            SlotKind::File,
            |home, _| {
                let key = fs::read(home.key_file()).unwrap();
                fs::write(home.key_file(), &key[..50]).unwrap();
            },
            "its length is wrong",
        ),
        (
            "a key file of a later version",
            SlotKind::File,
            |home, _| {
                let mut key = fs::read(home.key_file()).unwrap();
                key[8] = 2;
                fs::write(home.key_file(), key).unwrap();
            },
            "has format 2",
        ),
        (
            "another vault's key file",
            SlotKind::File,
            |home, _| {
                let other = Home::in_memory();
                drop(other.open());
                fs::copy(other.key_file(), home.key_file()).unwrap();
            },
            "this key does not open this vault",
        ),
        (
            "a key file that others can read",
            SlotKind::File,
            |home, _| fs::set_permissions(home.key_file(), Permissions::from_mode(0o644)).unwrap(),
            "has mode 0644",
        ),
        (
            "a link to the key file",
            SlotKind::File,
            |home, _| {
                let aside = home.path().join("aside");
                fs::rename(home.key_file(), &aside).unwrap();
                std::os::unix::fs::symlink(&aside, home.key_file()).unwrap();
            },
            "is a symbolic link",
        ),
        (
            "no credential",
            SlotKind::SystemdCredential,
            |home, _| fs::remove_file(home.path().join("credential")).unwrap(),
            "there is no /",
        ),
        (
            "a credential that can be written",
            SlotKind::SystemdCredential,
            |home, _| {
                fs::set_permissions(home.path().join("credential"), Permissions::from_mode(0o600)).unwrap();
            },
            "a credential is read-only",
        ),
        (
            "a credential that is a link",
            SlotKind::SystemdCredential,
            |home, _| {
                let (path, aside) = (home.path().join("credential"), home.path().join("aside"));
                fs::rename(&path, &aside).unwrap();
                std::os::unix::fs::symlink(&aside, &path).unwrap();
            },
            "is a symbolic link",
        ),
        (
            "a credential that is something else",
            SlotKind::SystemdCredential,
            |home, _| {
                credential_file(home, &secret("hunter2"));
            },
            "it does not begin like one",
        ),
        (
            "the key file as a credential",
            SlotKind::SystemdCredential,
            |home, _| {
                let content = Secret::new(fs::read(home.path().join("spare.key")).unwrap());
                credential_file(home, &content);
            },
            "the key is for another slot",
        ),
        (
            "no entry in the keychain",
            SlotKind::Keychain,
            |_, keychain| keychain.entries.lock().unwrap().clear(),
            "no such entry",
        ),
        (
            "a keychain that is locked",
            SlotKind::Keychain,
            |_, keychain| keychain.breaks("it is locked"),
            "it is locked",
        ),
        (
            "an entry that is something else",
            SlotKind::Keychain,
            |_, keychain| {
                keychain.entries.lock().unwrap().values_mut().for_each(|text| *text = b"!".to_vec());
            },
            "the entry is not base64",
        ),
    ];
    for (what, kind, spoil, says) in rows {
        let (home, custody, keychain) = with_every_slot();
        fs::copy(home.key_file(), home.path().join("spare.key")).unwrap();
        let mut vault = open(&home, &custody).unwrap();
        for other in kinds(&vault).iter().filter(|other| *other != kind) {
            remove(&mut vault, *other).unwrap();
        }
        drop(vault);
        spoil(&home, &keychain);
        let files = |home: &Home| -> Vec<_> {
            let content = |path: PathBuf| (path.clone(), fs::read(path).ok());
            let stable = |path: &PathBuf| !path.to_string_lossy().contains("snap.");
            let mut all: Vec<_> = files_under(&home.path()).into_iter().filter(stable).map(content).collect();
            all.sort();
            all
        };
        let before = files(&home);
        let error = open(&home, &custody).err().unwrap_or_else(|| panic!("{what} is refused"));
        assert!(error.to_string().contains(says), "{what}: {error}");
        assert!(
            matches!(error.kind(), ErrorKind::Key | ErrorKind::Place | ErrorKind::Format),
            "{what}: {:?}",
            error.kind()
        );
        assert_eq!(files(&home), before, "{what}: nothing is changed");
    }
}

#[test]
fn a_key_that_others_can_read_is_not_passed_over() {
    let (home, custody, _) = with_every_slot();
    fs::set_permissions(home.key_file(), Permissions::from_mode(0o640)).unwrap();
    assert_eq!(open(&home, &custody).err().unwrap().kind(), ErrorKind::Place);
}

#[test]
fn several_slots_that_do_not_open_are_all_named() {
    let (home, _, _) = with_every_slot();
    fs::remove_file(home.key_file()).unwrap();
    let (custody, _) = saying(Custody::default(), "a wrong passphrase");
    let error = open(&home, &custody).err().unwrap();
    let VaultError::NoSlotOpens { problems } = &error else { panic!("{error}") };
    assert_eq!(problems.len(), 4);
    for part in ["key file is missing", "systemd gave", "this system has none", "passphrase does not open"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(!error.to_string().contains("a wrong passphrase"));
}

#[test]
fn a_passphrase_that_was_given_opens_where_nobody_is_asked() {
    let home = Home::in_memory();
    let (custody, asked) = saying(Custody::new(KeyChoice::Passphrase), PASSPHRASE);
    set(&mut open(&home, &custody).unwrap(), "A", CANARY);
    let (again, asked_again) = saying(Custody::default(), PASSPHRASE);
    let refused = open(&home, &again.clone().without_asking()).err().unwrap();
    assert_eq!((refused.kind(), asked_again.load(Ordering::Relaxed)), (ErrorKind::Key, 0));
    drop(open(&home, &again).unwrap());
    let vault = open(&home, &again.without_asking()).unwrap();
    assert_eq!(get(&vault, "A"), Some((CANARY.to_vec(), 1)));
    assert_eq!(asked_again.load(Ordering::Relaxed), 1);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// The child's part: with less memory than the passphrase's key takes.
#[cfg(target_os = "linux")]
#[test]
fn child_is_short_of_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let Some(mut location) = child_location() else { return };
    // From when the store is open, which takes memory of its own.
    location.custody = Custody::default().with_passphrase(Arc::new(|_| {
        let pages: u64 =
            fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
        // Pages of 4 KiB at the least.
        let limit = Some(pages * 4096 + (40 << 20));
        setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).unwrap();
        Ok(secret(PASSPHRASE))
    }));
    let error = Vault::open(&location, OpenMode::WriteIfExists).err().unwrap();
    assert!(matches!(error, VaultError::KdfMemory { .. }), "{error}");
    println!("refused: {error}");
}

#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_for_a_passphrase_is_an_error() {
    let home = Home::in_memory();
    drop(open(&home, &saying(Custody::new(KeyChoice::Passphrase), PASSPHRASE).0).unwrap());
    let mut short = child("custody::child_is_short_of_memory", &home.path());
    // An arena for a thread takes twice its room while it is made: counted then, it would leave enough.
    let done = short.env("MALLOC_ARENA_MAX", "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("it takes 64 MiB"), "{said}");
}
