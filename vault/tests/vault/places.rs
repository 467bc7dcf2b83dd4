//! Files in wrong places, of wrong kinds, with wrong owners and modes; two processes at once.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use orch_vault::{ErrorKind, OpenMode, Tampering, Vault, VaultError};

use crate::support::*;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// By the program: Apple's systems have no call that rustix offers.
fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(path).status().unwrap().success());
}

/// Opens the vault, expects it to be refused for a file's or folder's sake, and returns the reason.
fn refusal(home: &Home, place: &Path) -> String {
    let error = home.try_open(OpenMode::Create).err().expect("it should be refused");
    assert_eq!(error.kind(), ErrorKind::Place, "{error}");
    let text = error.to_string();
    text.strip_prefix(&format!("{}: ", place.display())).map(str::to_owned).unwrap_or(text)
}

#[test]
fn everything_is_created_closed_to_others() {
    let home = Home::with(&["A"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (store, key_file) = (home.store(), home.key_file());
    for folder in [&store, store.parent().unwrap(), key_file.parent().unwrap()] {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    for file in files_under(&home.path()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_key_file_that_others_can_read() {
    let home = Home::with(&["A"]);
    for mode in [0o644, 0o640, 0o604, 0o620, 0o666, 0o777] {
        chmod(&home.key_file(), mode);
        let expected = format!("has mode {mode:04o}; others must have no access (chmod 600)");
        assert_eq!(refusal(&home, &home.key_file()), expected);
    }
    chmod(&home.key_file(), 0o400);
    assert!(get(&home.open(), "A").is_some());
}

#[test]
fn a_key_file_that_is_not_a_plain_file() {
    let home = Home::with(&["A"]);
    let key_file = home.key_file();
    let aside = home.path().join("aside");
    fs::rename(&key_file, &aside).unwrap();

    symlink(&aside, &key_file).unwrap();
    assert_eq!(refusal(&home, &key_file), "is a symbolic link");
    fs::remove_file(&key_file).unwrap();

    make_fifo(&key_file);
    assert_eq!(refusal(&home, &key_file), "is not a regular file");
    fs::remove_file(&key_file).unwrap();

    fs::create_dir(&key_file).unwrap();
    assert_eq!(refusal(&home, &key_file), "is not a regular file");
    fs::remove_dir(&key_file).unwrap();

    fs::hard_link(&aside, &key_file).unwrap();
    assert_eq!(refusal(&home, &key_file), "has a second hard link");
    fs::remove_file(&aside).unwrap();
    assert!(get(&home.open(), "A").is_some());
}

/// Changing a file's owner takes root; the judgement itself is tested with the rules, for everybody.
#[test]
fn a_key_file_of_somebody_else() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::with(&["A"]);
    for (path, owner) in [(home.key_file(), 4321), (home.store(), 4321), (home.path().join("data"), 4321)] {
        std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
        assert_eq!(refusal(&home, &path), "belongs to user 4321, not to user 0, who runs this");
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    }
    assert!(get(&home.open(), "A").is_some());
}

#[test]
fn a_missing_key_file_is_not_replaced() {
    let home = Home::with(&["A"]);
    fs::remove_file(home.key_file()).unwrap();
    for mode in [OpenMode::Create, OpenMode::ReadOnlyIfExists] {
        let error = home.try_open(mode).err().unwrap();
        assert!(matches!(error, VaultError::KeyMissing { .. }), "{error}");
    }
    assert!(!home.key_file().exists());
}

#[test]
fn a_damaged_key_file_and_one_from_the_future() {
    let home = Home::with(&["A"]);
    let good = fs::read(home.key_file()).unwrap();
    let outcome = |content: &[u8]| {
        fs::write(home.key_file(), content).unwrap();
        home.try_open(OpenMode::Create).err().map(|error| error.kind())
    };
    let flipped = |at: usize| {
        let mut content = good.clone();
        content[at] ^= 1;
        content
    };
    assert_eq!(outcome(&flipped(50)), Some(ErrorKind::Key));
    assert_eq!(outcome(&flipped(100)), Some(ErrorKind::Key));
    assert_eq!(outcome(&flipped(8)), Some(ErrorKind::Format));
    assert_eq!(outcome(b""), Some(ErrorKind::Key));
    assert_eq!(outcome(&good[..104]), Some(ErrorKind::Key));
    assert_eq!(outcome(&vec![b'x'; 1 << 20]), Some(ErrorKind::Key));
    assert_eq!(outcome(&good), None);
}

#[test]
fn a_key_file_inside_of_the_store() {
    let home = Home::new();
    let mut location = home.location("default");
    location.key_file = location.store.join("vault.key");
    let inside = Vault::open(&location, OpenMode::Create).err().unwrap();
    assert!(inside.to_string().contains("inside the vault's own folder"), "{inside}");
    // By another name for the same folder, too.
    let alias = home.path().join("alias");
    symlink(home.store(), &alias).unwrap();
    location.key_file = alias.join("vault.key");
    let inside = Vault::open(&location, OpenMode::Create).err().unwrap();
    assert!(inside.to_string().contains("inside the vault's own folder"), "{inside}");
}

#[test]
fn a_store_that_is_a_symlink_or_open_to_others() {
    let home = Home::with(&["A"]);
    for mode in [0o755, 0o750, 0o770, 0o701] {
        chmod(&home.store(), mode);
        let expected = format!("has mode {mode:04o}; others must have no access (chmod 700)");
        assert_eq!(refusal(&home, &home.store()), expected);
    }
    chmod(&home.store(), 0o700);
    let elsewhere = home.path().join("elsewhere");
    fs::rename(home.store(), &elsewhere).unwrap();
    symlink(&elsewhere, home.store()).unwrap();
    assert_eq!(refusal(&home, &home.store()), "is a symbolic link");
    fs::remove_file(home.store()).unwrap();
    symlink(home.path().join("nowhere"), home.store()).unwrap();
    assert_eq!(refusal(&home, &home.store()), "is a symbolic link");
    fs::remove_file(home.store()).unwrap();
    fs::write(home.store(), b"").unwrap();
    assert_eq!(refusal(&home, &home.store()), "is not a folder, or leads through something that is not");
}

#[test]
fn a_parent_that_others_can_write_to() {
    let home = Home::with(&["A"]);
    for parent in [home.store().parent().unwrap(), home.key_file().parent().unwrap()] {
        chmod(parent, 0o777);
        let expected = "has mode 0777; others must not be able to write to it (chmod go-w)";
        assert_eq!(refusal(&home, parent), expected);
        chmod(parent, 0o755);
        assert!(get(&home.open(), "A").is_some());
    }
}

#[test]
fn a_lock_file_that_is_not_one() {
    let home = Home::with(&["A"]);
    let lock = home.store().with_extension("lock");
    fs::remove_file(&lock).unwrap();
    symlink(home.key_file(), &lock).unwrap();
    assert_eq!(refusal(&home, &lock), "is a symbolic link");
    fs::remove_file(&lock).unwrap();
    make_fifo(&lock);
    assert_eq!(refusal(&home, &lock), "is not a regular file");
}

#[test]
fn symlinks_in_the_store() {
    let home = Home::with(&["A"]);
    let db = home.store().join("db");
    let aside = home.path().join("db");
    fs::rename(&db, &aside).unwrap();
    symlink(&aside, &db).unwrap();
    assert_eq!(refusal(&home, &db), "does not belong into a vault");
}

#[test]
fn a_folder_that_cannot_be_written() {
    let home = Home::new();
    // Root may write anywhere, so it meets a folder that is none.
    let data = home.path().join("data");
    if rustix::process::geteuid().is_root() {
        fs::write(&data, b"").unwrap();
    } else {
        fs::create_dir(&data).unwrap();
        chmod(&data, 0o500);
    }
    let error = home.try_open(OpenMode::Create).err().unwrap();
    assert!(matches!(error.kind(), ErrorKind::Storage | ErrorKind::Place), "{error}");
    assert!(!home.try_open(OpenMode::ReadOnlyIfExists).unwrap().exists());
    if data.is_dir() {
        chmod(&data, 0o700);
    }
}

#[test]
fn a_creation_that_was_cut_short_is_taken_up() {
    // After the folders; after the key; with a half-written key beside it.
    let home = Home::new();
    fs::create_dir_all(home.store()).unwrap();
    chmod(&home.store(), 0o700);
    chmod(home.store().parent().unwrap(), 0o700);
    assert!(!home.try_open(OpenMode::ReadOnlyIfExists).unwrap().exists());
    set(&mut home.open(), "A", CANARY);

    let other = Home::new();
    fs::create_dir_all(other.store()).unwrap();
    chmod(&other.store(), 0o700);
    fs::write(other.anchor(), b"").unwrap();
    chmod(&other.anchor(), 0o600);
    fs::create_dir(other.key_file().parent().unwrap()).unwrap();
    fs::copy(home.key_file(), other.key_file()).unwrap();
    fs::write(other.key_file().with_extension("key.new"), b"half").unwrap();
    set(&mut other.open(), "A", CANARY);
    assert_eq!(fs::read(home.key_file()).unwrap(), fs::read(other.key_file()).unwrap());

    let half = Home::new();
    fs::create_dir(half.key_file().parent().unwrap()).unwrap();
    fs::write(half.key_file().with_extension("key.new"), b"half").unwrap();
    set(&mut half.open(), "A", CANARY);
    assert!(!half.key_file().with_extension("key.new").exists());

    // After a power cut that kept the anchor's name and not yet the folder's.
    let blank = Home::new();
    fs::create_dir_all(blank.store().parent().unwrap()).unwrap();
    chmod(blank.store().parent().unwrap(), 0o700);
    fs::write(blank.anchor(), b"").unwrap();
    chmod(&blank.anchor(), 0o600);
    set(&mut blank.open(), "A", CANARY);
}

/// Between the two renames of a swap there is no store: whoever sees that waits for what comes of it.
#[test]
fn a_store_that_is_on_its_way_is_waited_for() {
    let home = Home::with(&["A"]);
    let aside = home.path().join("aside");
    fs::rename(home.store(), &aside).unwrap();
    let lock = fs::File::open(home.store().with_extension("lock")).unwrap();
    lock.lock().unwrap();
    for mode in [OpenMode::Create, OpenMode::ReadOnlyIfExists] {
        let error = home.try_open(mode).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    }
    fs::rename(&aside, home.store()).unwrap();
    lock.unlock().unwrap();
    assert!(get(&home.open(), "A").is_some());
    fs::rename(home.store(), &aside).unwrap();
    let error = home.try_open(OpenMode::Create).err().unwrap();
    assert!(matches!(error, VaultError::Tampered(Tampering::RolledBack)), "{error}");
}

#[test]
fn a_leftover_snapshot_does_not_hurt() {
    let home = Home::with(&["A"]);
    for leftover in ["snap.0000000000000000.generating", "snap.00000000000FFFFF.generating"] {
        fs::write(home.store().join(leftover), b"not a snapshot").unwrap();
    }
    assert!(get(&home.open(), "A").is_some());
    assert!(files_under(&home.store()).iter().all(|path| !path.to_string_lossy().ends_with("generating")));
}

/// The child's part: hold the vault until the parent closes the pipe.
#[test]
fn child_holds_the_vault() {
    let Some(location) = child_location() else { return };
    let _vault = Vault::open(&location, OpenMode::Create).unwrap();
    println!("holding");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn two_processes_take_turns() {
    let home = Home::with(&["A"]);
    let mut child = child("places::child_holds_the_vault", &home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("holding")));

    let error = home.try_open(OpenMode::Create).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let VaultError::Locked { lock, waited } = error else { panic!("{error}") };
    assert_eq!(lock, home.store().with_extension("lock"));
    assert!((2000..4000).contains(&waited.as_millis()), "{waited:?}");

    // Let go while somebody waits: the wait ends well.
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| home.try_open(OpenMode::Create).map(|vault| get(&vault, "A")));
        drop(child.stdin.take());
        waiting.join().unwrap()
    });
    assert!(waiting.unwrap().is_some());
    assert!(child.wait().unwrap().success());
}
