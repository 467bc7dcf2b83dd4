//! What the store takes for an entry or a key.

use super::store;

#[test]
fn only_a_private_file_is_an_entry_or_a_key() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entry");
    std::fs::write(&file, [7; 32]).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(store::open_entry(&file).is_ok());
    assert_eq!(store::load_or_create_key(&file).unwrap(), [7; 32]);

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(store::load_or_create_key(&file).is_err(), "others may read the key");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(store::open_entry(&file).is_err(), "others may write the entry");

    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(store::open_entry(&pipe).is_err(), "a pipe is no entry, and opening it does not block");
}
