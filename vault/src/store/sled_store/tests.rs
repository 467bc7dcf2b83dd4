use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn open(&self) -> SledStore {
        SledStore::open(&Folder::store(&self.path(), true).unwrap()).unwrap()
    }
}

fn rows(store: &SledStore) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rows = BTreeMap::new();
    store
        .scan(&[], None, &mut |key, row| {
            assert!(rows.insert(key.to_vec(), row.to_vec()).is_none());
            Ok(())
        })
        .unwrap();
    rows
}

fn put(store: &SledStore, key: &[u8], row: Vec<u8>) {
    let mut batch = Batch::default();
    batch.put(key.to_vec(), row);
    store.commit(batch).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// A store is a sorted map, whatever the rows' sizes were and become.
    #[test]
    fn it_is_a_map(
        steps in proptest::collection::vec((0u8..4, proptest::option::of(1usize..4 * PIECE_LEN)), 1..12)
    ) {
        let home = Home::new();
        let store = home.open();
        let mut model = BTreeMap::new();
        for (number, (key, length)) in steps.into_iter().enumerate() {
            let key = vec![b'x', key];
            let row = length.map(|length| vec![u8::try_from(number).unwrap(); length]);
            let mut batch = Batch::default();
            match &row {
                Some(row) => {
                    batch.put(key.clone(), row.clone());
                    model.insert(key.clone(), row.clone());
                }
                None => {
                    batch.remove(key.clone());
                    model.remove(&key);
                }
            }
            store.commit(batch).unwrap();
            prop_assert_eq!(store.get(&key).unwrap(), row);
        }
        prop_assert_eq!(rows(&store), model.clone());
        drop(store);
        prop_assert_eq!(rows(&home.open()), model);
    }
}

#[test]
fn rows_at_the_edges_of_a_piece() {
    let home = Home::new();
    let store = home.open();
    for length in [1, PIECE_LEN - 1, PIECE_LEN, PIECE_LEN + 1, 2 * PIECE_LEN, LARGEST_ROW] {
        let row = vec![7; length];
        put(&store, b"key", row.clone());
        assert_eq!(store.get(b"key").unwrap(), Some(row));
    }
    let mut batch = Batch::default();
    batch.put(b"key".to_vec(), vec![0; LARGEST_ROW + 1]);
    assert!(store.commit(batch).is_err());
}

/// As after a crash: the last batch is on disk, and some of its rows are not in their places.
#[test]
fn the_rows_of_the_last_batch_are_put_in_their_places_again() {
    let home = Home::new();
    let store = home.open();
    put(&store, b"a", vec![1; 10]);
    put(&store, b"b", vec![2; 2 * PIECE_LEN]);
    let before = [store.db.get(b"b\x00").unwrap().unwrap(), store.db.get(b"b\x01").unwrap().unwrap()];
    let mut batch = Batch::default();
    batch.put(b"a".to_vec(), vec![3; PIECE_LEN]);
    batch.remove(b"b".to_vec());
    batch.put(b"c".to_vec(), vec![4; PIECE_LEN + 1]);
    store.commit(batch).unwrap();
    let after = rows(&store);
    store.db.insert(b"b\x00", &before[0]).unwrap();
    store.db.insert(b"b\x01", &before[1]).unwrap();
    store.db.remove(b"c\x01").unwrap();
    drop(store);
    assert_eq!(rows(&home.open()), after);
    // And not those of an earlier one, once a longer batch was the last.
    let store = home.open();
    put(&store, b"a", vec![5; LARGEST_ROW]);
    assert_eq!(store.db.get(last::KEY).unwrap(), None);
    drop(store);
    assert_eq!(home.open().get(b"a").unwrap().unwrap(), vec![5; LARGEST_ROW]);
}

#[test]
fn a_scan_keeps_to_its_range() {
    let home = Home::new();
    let store = home.open();
    for key in [&b"a"[..], b"b", b"ba", b"c"] {
        put(&store, key, key.to_vec());
    }
    let keys = |from: &[u8], below: Option<&[u8]>| {
        let mut keys = Vec::new();
        store
            .scan(from, below, &mut |key, _| {
                keys.push(String::from_utf8(key.to_vec()).unwrap());
                Ok(())
            })
            .unwrap();
        keys
    };
    assert_eq!(keys(b"", None), ["a", "b", "ba", "c"]);
    assert_eq!(keys(b"b", Some(b"c")), ["b", "ba"]);
    assert_eq!(keys(b"b", None), ["b", "ba", "c"]);
    assert_eq!(keys(b"", Some(b"b")), ["a"]);
}

/// Files under `blobs` are written without `fsync`; large rows, many of them, must not lead there.
#[test]
fn nothing_is_kept_outside_of_the_file_that_is_synced() {
    let home = Home::new();
    let store = home.open();
    for round in 0..4 {
        for key in 0..24_u8 {
            put(&store, &[key], vec![round; LARGEST_ROW]);
        }
    }
    drop(store);
    assert_eq!(rows(&home.open()).len(), 24);
    assert_eq!(fs::read_dir(home.path().join("blobs")).unwrap().count(), 0);
}

#[test]
fn pieces_that_do_not_add_up_are_an_error() {
    type Damage = fn(&sled::Db);
    let damages: [Damage; 4] = [
        |db| drop(db.remove(b"key\x01").unwrap()),
        |db| drop(db.remove(b"key\x00").unwrap()),
        |db| drop(db.insert(b"key\x07", b"more").unwrap()),
        |db| drop(db.insert(b"key\x00", b"").unwrap()),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let home = Home::new();
        let store = home.open();
        put(&store, b"key", vec![1; 3 * PIECE_LEN]);
        damage(&store.db);
        let scanned = store.scan(&[], None, &mut |_, _| Ok(()));
        let expected = "the vault was tampered with or is damaged: the storage engine cannot read its files";
        assert_eq!(scanned.unwrap_err().to_string(), expected, "damage {number}");
    }
}

#[test]
fn unfinished_snapshots_go_and_finished_ones_stay() {
    let home = Home::new();
    put(&home.open(), b"key", b"row".to_vec());
    drop(home.open());
    let names = || {
        let entries = fs::read_dir(home.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let before = names();
    assert!(before.iter().any(|name| name.starts_with("snap.")), "{before:?}");
    fs::write(home.path().join("snap.0000000000000001.generating"), b"half").unwrap();
    remove_unfinished_snapshots(&home.path()).unwrap();
    assert_eq!(names(), before);
    fs::write(home.path().join("snap.FFFFFFFFFFFFFFFF.generating"), b"half").unwrap();
    assert_eq!(home.open().get(b"key").unwrap().as_deref(), Some(&b"row"[..]));
}

#[test]
fn files_are_closed_to_others_whatever_the_umask() {
    let home = Home::new();
    drop(home.open());
    for entry in fs::read_dir(home.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    }
    drop(home.open());
    for entry in fs::read_dir(home.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

#[test]
fn what_does_not_belong_into_the_folder_is_refused() {
    let home = Home::new();
    drop(home.open());
    let target = home.0.path().join("elsewhere");
    fs::write(&target, b"").unwrap();
    std::os::unix::fs::symlink(&target, home.path().join("snap.0000000000000009")).unwrap();
    let outcome = SledStore::open(&Folder::store(&home.path(), true).unwrap());
    assert!(outcome.err().unwrap().to_string().ends_with("does not belong into a vault"));
}
