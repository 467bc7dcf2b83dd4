//! What is changed beneath the vault is found.
//!
//! Two depths: through sled, entry by entry; and in the bytes of sled's own files, where sled takes what is
//! damaged for the torn end of its log, and goes back in time.

use std::fs;
use std::path::Path;

use orch_vault::{ErrorKind, OpenMode, Tampering, Vault, VaultError};

use crate::support::*;

/// Opens the vault and reads everything in it.
fn read_all(home: &Home) -> Result<Vec<(String, Vec<u8>)>, VaultError> {
    let vault = home.try_open(OpenMode::ReadOnlyIfExists)?;
    vault.audit()?;
    let mut values = Vec::new();
    for summary in vault.list()? {
        let (value, _) = vault.open_secret(&summary.name)?.expect("it was listed");
        values.push((summary.name.to_string(), value.expose(<[u8]>::to_vec)));
    }
    Ok(values)
}

fn tampering(home: &Home) -> Option<Tampering> {
    match read_all(home) {
        Err(VaultError::Tampered(what)) => Some(what),
        Err(error) => panic!("{error}"),
        Ok(_) => None,
    }
}

/// Every fifth byte; with the store in memory, the crate's own tests do every one.
#[test]
fn a_byte_of_any_row_counts() {
    let home = Home::in_memory_with(&["A"]);
    let good = entries(&home);
    let kinds: Vec<u8> = good.keys().filter_map(|key| key.first().copied()).collect();
    assert_eq!(kinds, b"aahkmv");
    for (key, value) in &good {
        for position in (0..value.len()).step_by(5) {
            let mut altered = value.clone();
            altered[position] ^= 1 << (position % 8);
            with_sled(&home, |db| db.insert(key.as_slice(), altered).map(|_| ()).unwrap());
            let outcome = read_all(&home);
            let kind = outcome.err().map(|error| error.kind());
            assert!(
                matches!(kind, Some(ErrorKind::Tampered | ErrorKind::Format | ErrorKind::Key)),
                "row {}, byte {position}: {kind:?}",
                key.escape_ascii()
            );
        }
        with_sled(&home, |db| db.insert(key.as_slice(), value.as_slice()).map(|_| ()).unwrap());
    }
    assert_eq!(read_all(&home).unwrap(), [("A".to_owned(), value_of("A").into_bytes())]);
}

/// The last batch is kept whole beside its rows: damage to the one or the others is found, or undone.
#[test]
fn a_byte_of_the_last_batch_counts() {
    let home = Home::in_memory_with(&["A"]);
    let sled = sled::Config::new().path(home.store()).flush_every_ms(None);
    let change = |key: &[u8], value: &[u8]| {
        // An earlier handle of this process may take a moment to let go of the file.
        let db = loop {
            match sled.open() {
                Ok(db) => break db,
                Err(sled::Error::Io(_)) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        let before = db.insert(key, value).unwrap().expect("it was there");
        db.flush().unwrap();
        before.to_vec()
    };
    let last = change(LAST_BATCH, b"");
    for position in (0..last.len()).step_by(5) {
        let mut altered = last.clone();
        altered[position] ^= 1 << (position % 8);
        change(LAST_BATCH, &altered);
        let kind = read_all(&home).err().map(|error| error.kind());
        assert!(matches!(kind, Some(ErrorKind::Tampered | ErrorKind::Format)), "byte {position}: {kind:?}");
    }
    change(LAST_BATCH, &last);
    change(b"h\0", b"\x01no head");
    assert_eq!(read_all(&home).unwrap(), [("A".to_owned(), value_of("A").into_bytes())]);
}

#[test]
fn rows_that_were_cut_or_lengthened() {
    let home = Home::in_memory_with(&["A"]);
    let good = entries(&home);
    for (key, value) in &good {
        let lengths = (0..value.len()).step_by(13);
        let longer = [value.as_slice(), &[0]].concat();
        for altered in lengths.map(|length| &value[..length]).chain([longer.as_slice()]) {
            with_sled(&home, |db| db.insert(key.as_slice(), altered).map(|_| ()).unwrap());
            assert!(read_all(&home).is_err(), "row {}, length {}", key.escape_ascii(), altered.len());
        }
        with_sled(&home, |db| db.insert(key.as_slice(), value.as_slice()).map(|_| ()).unwrap());
    }
    assert!(read_all(&home).is_ok());
}

#[test]
fn rows_that_are_missing_and_rows_that_are_new() {
    let home = Home::in_memory_with(&["A", "B"]);
    let good = entries(&home);
    for key in good.keys() {
        let mut fewer = good.clone();
        fewer.remove(key);
        replace(&home, &fewer);
        let expected = match key.first() {
            Some(b'h') => Tampering::HeadMissing,
            Some(b'k') => Tampering::Slots,
            Some(b'a') if Some(key) == keys_of(&good, b'a').last() => Tampering::AuditTip,
            Some(b'a') => Tampering::Audit(u64::from(key[8])),
            _ => Tampering::Root,
        };
        assert_eq!(tampering(&home), Some(expected), "{}", key.escape_ascii());
    }
    for (new, expected) in [
        (&b"v-and-more\0"[..], Tampering::Root),
        (b"zzz\0", Tampering::Root),
        (b"\0\0", Tampering::Root),
        (b"a\0\0\0\0\0\0\0\x03\0", Tampering::AuditTip),
        (b"a\0\0\0\0\0\0\0\x07\0", Tampering::Audit(3)),
    ] {
        let mut more = good.clone();
        more.insert(new.to_vec(), vec![1, 1, 2, 3]);
        replace(&home, &more);
        assert_eq!(tampering(&home), Some(expected), "{}", new.escape_ascii());
    }
    replace(&home, &good);
    assert_eq!(tampering(&home), None);
}

#[test]
fn rows_that_changed_places() {
    let home = Home::in_memory_with(&["A", "B"]);
    set(&mut Vault::open(&home.location("other"), OpenMode::Create).unwrap(), "A", CANARY);
    let good = entries(&home);
    for kind in [b'v', b'm', b'a'] {
        let keys = keys_of(&good, kind);
        assert!(keys.len() >= 3);
        for (one, two) in [(0, 1), (1, 2), (0, 2)] {
            let mut swapped = good.clone();
            swapped.insert(keys[one].clone(), good[&keys[two]].clone());
            swapped.insert(keys[two].clone(), good[&keys[one]].clone());
            replace(&home, &swapped);
            let found = tampering(&home);
            assert!(
                matches!(found, Some(Tampering::Root | Tampering::AuditTip | Tampering::Audit(_))),
                "{found:?}"
            );
        }
    }
    // A value in the place of metadata, and the other way round.
    let (value, meta) = (keys_of(&good, b'v')[0].clone(), keys_of(&good, b'm')[0].clone());
    let mut swapped = good.clone();
    swapped.insert(value.clone(), good[&meta].clone());
    swapped.insert(meta, good[&value].clone());
    replace(&home, &swapped);
    assert_eq!(tampering(&home), Some(Tampering::Root));
}

#[test]
fn old_rows_that_came_back() {
    let home = Home::in_memory_with(&["A"]);
    let old = entries(&home);
    set(&mut home.open(), "A", CANARY);
    let new = entries(&home);
    let mixed = |kinds: &[u8]| {
        let taken = old.iter().filter(|(key, _)| kinds.contains(&key[0]));
        let mut entries = new.clone();
        entries.extend(taken.map(|(key, value)| (key.clone(), value.clone())));
        entries
    };
    for (kinds, expected) in [
        (&b"v"[..], Tampering::Root),
        (b"m", Tampering::Root),
        (b"mv", Tampering::Root),
        (b"h", Tampering::Root),
        (b"hv", Tampering::Root),
        // Everything but the newest audit record, which nobody took away.
        (b"hmv", Tampering::AuditTip),
    ] {
        replace(&home, &mixed(kinds));
        assert_eq!(tampering(&home), Some(expected), "{}", kinds.escape_ascii());
    }
    replace(&home, &new);
    assert_eq!(read_all(&home).unwrap()[0].1, CANARY);
}

#[test]
fn another_vaults_key_and_another_vaults_rows() {
    let (home, other) = (Home::in_memory_with(&["A"]), Home::in_memory_with(&["A"]));
    let own_key = fs::read(home.key_file()).unwrap();
    fs::copy(other.key_file(), home.key_file()).unwrap();
    let error = read_all(&home).unwrap_err();
    assert!(matches!(error, VaultError::WrongKey { .. }), "{error}");
    let text = format!("this key does not open this vault: {}", home.key_file().display());
    assert_eq!(error.to_string(), text);

    // With the other vault's slot header as well, its key opens, and the head is not its own.
    let mut planted = entries(&home);
    planted.insert(b"k\0".to_vec(), entries(&other)[&b"k\0"[..]].clone());
    replace(&home, &planted);
    assert_eq!(tampering(&home), Some(Tampering::Head));
    fs::write(home.key_file(), own_key).unwrap();
    assert!(matches!(read_all(&home), Err(VaultError::WrongKey { .. })));
}

#[test]
fn formats_from_the_future_are_named() {
    let home = Home::in_memory_with(&["A"]);
    let good = entries(&home);
    for (key, what) in [(&b"k\0"[..], "the key slot header"), (b"h\0", "the head")] {
        let mut later = good.clone();
        // Behind the number of pieces.
        later.get_mut(key).unwrap()[1] = 9;
        replace(&home, &later);
        let error = read_all(&home).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert_eq!(
            error.to_string(),
            format!("{what} has format 9, and this version of orch knows formats up to 1")
        );
    }
}

/// The whole store, put back to an earlier state, with nothing in it that is not authentic.
#[test]
fn a_store_that_was_put_back() {
    let home = Home::in_memory_with(&["A"]);
    let old = home.path().join("old");
    copy_folder(&home.store(), &old);
    let old_anchor = fs::read(home.anchor()).unwrap();
    set(&mut home.open(), "A", CANARY);
    let put_back = |from: &Path| {
        fs::remove_dir_all(home.store()).unwrap();
        copy_folder(from, &home.store());
    };
    let new = home.path().join("new");
    copy_folder(&home.store(), &new);

    put_back(&old);
    assert_eq!(tampering(&home), Some(Tampering::RolledBack));
    assert!(home.try_open(OpenMode::Create).is_err());
    put_back(&new);
    assert_eq!(tampering(&home), None);

    // An anchor that is one generation behind is what a crash leaves, and it follows.
    fs::write(home.anchor(), &old_anchor).unwrap();
    assert_eq!(tampering(&home), None);
    put_back(&old);
    assert_eq!(tampering(&home), Some(Tampering::RolledBack));
    // With the old anchor, the old store passes: said in the documentation.
    fs::write(home.anchor(), &old_anchor).unwrap();
    assert_eq!(tampering(&home), None);
}

#[test]
fn a_store_or_an_anchor_that_was_removed() {
    let home = Home::in_memory_with(&["A", "B"]);
    let aside = home.path().join("aside");
    for mode in [OpenMode::ReadOnlyIfExists, OpenMode::WriteIfExists, OpenMode::Create] {
        let found = || match home.try_open(mode).err() {
            Some(VaultError::Tampered(what)) => what,
            other => panic!("{other:?}"),
        };
        fs::rename(home.store(), &aside).unwrap();
        assert_eq!(found(), Tampering::RolledBack);
        copy_folder(&aside, &home.store());
        for entry in ["db", "conf"] {
            fs::remove_file(home.store().join(entry)).unwrap();
        }
        assert!(matches!(found(), Tampering::RolledBack | Tampering::Engine));
        fs::remove_dir_all(home.store()).unwrap();
        fs::rename(&aside, home.store()).unwrap();

        let anchor = fs::read(home.anchor()).unwrap();
        fs::remove_file(home.anchor()).unwrap();
        assert_eq!(found(), Tampering::Anchor);
        for blank in [&b""[..], &[0; 8192]] {
            fs::write(home.anchor(), blank).unwrap();
            fs::set_permissions(home.anchor(), fs::metadata(home.key_file()).unwrap().permissions()).unwrap();
            assert_eq!(found(), Tampering::Anchor);
        }
        fs::write(home.anchor(), anchor).unwrap();
    }
    assert_eq!(read_all(&home).unwrap().len(), 2);
}

/// Flips every byte that was written: sled's log, its snapshot, its settings, the anchor. After each, the
/// vault is refused or reads as it was written. (Without the anchor, nearly every flip in the log makes sled
/// go back to an earlier commit, or to an empty store, and say nothing.)
#[test]
fn every_byte_of_the_files() {
    let home = Home::in_memory_with(&["A", "B"]);
    let written = read_all(&home).unwrap();
    let (pristine, data) = (home.path().join("pristine"), home.path().join("data"));
    copy_folder(&data, &pristine);
    let (mut refused, mut same) = (0, 0);
    for file in files_under(&pristine) {
        let content = fs::read(&file).unwrap();
        // Not the holes: what is more than 64 bytes from anything written.
        let near = |position: usize| &content[position.saturating_sub(64)..content.len().min(position + 64)];
        let written_at = |position: &usize| near(*position).iter().any(|&byte| byte != 0);
        for position in (0..content.len()).filter(written_at) {
            fs::remove_dir_all(&data).unwrap();
            copy_folder(&pristine, &data);
            let mut altered = content.clone();
            altered[position] ^= 1 << (position % 8);
            fs::write(data.join(file.strip_prefix(&pristine).unwrap()), altered).unwrap();
            match read_all(&home) {
                Err(error) => {
                    let kind = error.kind();
                    assert!(
                        matches!(kind, ErrorKind::Tampered | ErrorKind::Storage | ErrorKind::Format),
                        "{} byte {position}: {error}",
                        file.display()
                    );
                    refused += 1;
                }
                Ok(read) => {
                    assert_eq!(read, written, "{} byte {position}", file.display());
                    same += 1;
                }
            }
        }
    }
    println!("{refused} refused, {same} as written");
    assert!(refused > same);
}
