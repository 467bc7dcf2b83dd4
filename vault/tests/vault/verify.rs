//! A verification says whether a store is sound, and what and which rows are not.

use std::fs;

use orch_vault::{ErrorKind, OpenMode, RowKindName, Secret, Vault, VaultError, Verification};

use crate::support::*;

fn verified(home: &Home) -> Verification {
    Vault::verify_at(&home.location("default")).unwrap()
}

/// What was found: word, kind of row, secret.
fn found(home: &Home) -> Vec<(&'static str, &'static str, String)> {
    let rows = |row: Option<orch_vault::RowName>| {
        row.map_or(("", String::new()), |row| {
            let name = row.secret.map(|name| name.to_string());
            let sequence = row.sequence.map(|sequence| sequence.to_string());
            (row.kind.as_str(), name.or(sequence).unwrap_or_default())
        })
    };
    verified(home)
        .findings
        .into_iter()
        .map(|finding| {
            let (kind, name) = rows(finding.row);
            (finding.code, kind, name)
        })
        .collect()
}

#[test]
fn a_sound_vault_is_read_to_its_end() {
    let home = Home::in_memory_with(&["A", "B", "GONE"]);
    home.open().remove(&name("GONE")).unwrap();
    set(&mut Vault::open(&home.location("other"), OpenMode::Create).unwrap(), "A", CANARY);
    let report = verified(&home);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.secrets, report.audit_records, report.generation), (3, 6, Some(6)));
    let open = home.open();
    let report = open.verify().unwrap();
    assert!(report.is_sound());
    assert_eq!((report.secrets, report.audit_records), (3, 6));

    let status = open.status().unwrap().unwrap();
    assert_eq!((status.secrets, status.generation, status.audit_records), (2, 6, 6));
    assert!(status.live_bytes > 1000 && status.disk_bytes > 0, "{status:?}");
}

#[test]
fn no_vault_is_a_sound_one() {
    let report = verified(&Home::new());
    assert!(report.is_sound() && report.generation.is_none());
}

#[test]
fn what_is_wrong_is_named_row_by_row() {
    let home = Home::in_memory_with(&["A", "B"]);
    let good = entries(&home);
    set(&mut home.open(), "A", CANARY);
    let new = entries(&home);
    let rows_of = |secret: &str| {
        // Rows have no names: they are told by which of them a change of the secret changes.
        let changed = |kind: u8| {
            keys_of(&new, kind).into_iter().find(|key| good.get(key) != new.get(key)).expect("one changed")
        };
        assert_eq!(secret, "A");
        (changed(b'm'), changed(b'v'))
    };
    let (meta, value) = rows_of("A");
    let altered = |key: &[u8], position: usize| {
        let mut entries = new.clone();
        entries.get_mut(key).unwrap()[position] ^= 1;
        entries
    };
    let without = |key: &[u8]| {
        let mut entries = new.clone();
        entries.remove(key);
        entries
    };
    let a = |code, kind| (code, kind, "A".to_owned());
    let root = ("root_mismatch", "", String::new());
    let record = |sequence: u8| [&[b'a'][..], &[0; 7], &[sequence, 0]].concat();
    let mut old_value = new.clone();
    old_value.insert(value.clone(), good[&value].clone());
    let mut old_both = old_value.clone();
    old_both.insert(meta.clone(), good[&meta].clone());
    let mut stranger = new.clone();
    stranger.insert(b"zzz\0".to_vec(), vec![1, 1]);
    for (entries, expected) in [
        (altered(&value, 60), vec![a("row_not_authentic", "value"), root.clone()]),
        (altered(&meta, 60), vec![a("row_not_authentic", "metadata"), root.clone()]),
        (without(&value), vec![a("row_missing", "value"), root.clone()]),
        (without(&meta), vec![a("row_missing", "metadata"), root.clone()]),
        (old_value, vec![a("row_not_authentic", "value"), root.clone()]),
        (old_both, vec![a("row_content", "metadata"), a("row_not_authentic", "value"), root.clone()]),
        (stranger, vec![("row_unexpected", "unknown", String::new()), root.clone()]),
        (altered(&record(1), 60), vec![("audit_broken", "audit", "1".to_owned())]),
        (without(&record(2)), vec![("audit_broken", "audit", "2".to_owned())]),
    ] {
        replace(&home, &entries);
        let mut found = found(&home);
        // A record that cannot be read says nothing of the secret it is about: its rows have no name then.
        found.retain(|(code, kind, _)| (*code, *kind) != ("row_unexpected", "metadata"));
        found.retain(|(code, kind, _)| (*code, *kind) != ("row_unexpected", "value"));
        assert_eq!(found, expected);
    }
    replace(&home, &new);
    assert_eq!(found(&home), []);
}

#[test]
fn a_store_without_its_head_or_with_an_old_anchor() {
    let home = Home::in_memory_with(&["A"]);
    let (good, anchor) = (entries(&home), fs::read(home.anchor()).unwrap());
    set(&mut home.open(), "A", CANARY);
    let newer = fs::read(home.anchor()).unwrap();
    replace(&home, &good);
    assert_eq!(found(&home), [("rolled_back", "", String::new())]);
    fs::write(home.anchor(), &anchor).unwrap();
    assert_eq!(found(&home), []);
    fs::write(home.anchor(), &newer).unwrap();

    let mut headless = good;
    headless.remove(b"h\0".as_slice());
    replace(&home, &headless);
    assert_eq!(found(&home), [("head_missing", "", String::new())]);
    fs::remove_dir_all(home.store()).unwrap();
    assert_eq!(found(&home), [("rolled_back", "", String::new())]);
}

#[test]
fn a_key_file_without_its_store_and_anchor() {
    let home = Home::in_memory_with(&["A"]);
    let backup = home.open().backup(&Secret::new(b"five or six random words".to_vec())).unwrap();
    fs::remove_dir_all(home.store()).unwrap();
    fs::remove_file(home.anchor()).unwrap();
    assert_eq!(found(&home), [("store_gone", "", String::new())]);
    // No new vault takes its name, and nothing is made on the way.
    let refused = home.try_open(OpenMode::Create).err().unwrap();
    assert!(matches!(refused, VaultError::StoreGone { .. }), "{refused}");
    assert_eq!(refused.kind(), ErrorKind::Tampered);
    assert!(!home.store().exists() && !home.anchor().exists());
    assert!(!home.try_open(OpenMode::ReadOnlyIfExists).unwrap().exists());
    // A restoration is what it takes, or a key file that is moved away.
    let aside = home.path().join("aside");
    fs::rename(home.key_file(), &aside).unwrap();
    assert_eq!(found(&home), []);
    fs::rename(&aside, home.key_file()).unwrap();
    let passphrase = Secret::new(b"five or six random words".to_vec());
    Vault::restore(&home.location("default"), &backup, &passphrase).unwrap();
    assert_eq!(get(&home.open(), "A").unwrap().1, 1);
}

#[test]
fn what_cannot_be_looked_at_is_an_error() {
    let home = Home::in_memory_with(&["A"]);
    let held = home.open();
    assert_eq!(Vault::verify_at(&home.location("default")).unwrap_err().kind(), ErrorKind::Locked);
    drop(held);
    fs::rename(home.key_file(), home.path().join("aside")).unwrap();
    assert_eq!(Vault::verify_at(&home.location("default")).unwrap_err().kind(), ErrorKind::Key);
    assert_eq!(RowKindName::Unknown.as_str(), "unknown");
}
