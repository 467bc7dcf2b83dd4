//! One store in the place of another, whatever happens in between.
//!
//! A rebuilt store is made in a folder of its own, `NAME.next`, and proven there. Then its anchor is put beside
//! it as `NAME.head.next`, which is one rename: without that file the new store never was, with it the new
//! store holds. What is left are renames that anybody can repeat, and whoever takes the lock next does:
//!
//! ```text
//! NAME → NAME.old     NAME.next → NAME     NAME.head.next → NAME.head     NAME.old removed
//! ```

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::state::unseal;
use crate::VaultError;
use crate::place::{self, Folder};

/// The names beside the store's folder, and its own.
pub(super) struct Beside {
    pub(super) store: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) anchor: PathBuf,
    pub(super) next: PathBuf,
    pub(super) next_anchor: PathBuf,
    pub(super) unfinished_anchor: PathBuf,
    old: PathBuf,
}

impl Beside {
    pub(super) fn of(store: &Path) -> Result<Beside, VaultError> {
        let name =
            store.file_name().ok_or_else(|| VaultError::place(store, "is not the name of a folder"))?;
        let with = |extension: &str| {
            let mut name = OsString::from(name);
            name.push(extension);
            PathBuf::from(name)
        };
        Ok(Beside {
            store: PathBuf::from(name),
            lock: with(".lock"),
            anchor: with(".head"),
            next: with(".next"),
            next_anchor: with(".head.next"),
            unfinished_anchor: with(".head.unfinished"),
            old: with(".old"),
        })
    }
}

/// Whether a store is about to take the place of the one at `store`, or of none.
pub(super) fn is_pending(store: &Path, beside: &Beside) -> Result<bool, VaultError> {
    place::exists(&store.with_file_name(&beside.next_anchor))
}

/// Finishes what was begun, and removes what was not. The caller holds the lock. What cannot be removed is in
/// nobody's way: the next one tries again, and who makes a store there clears the place first.
pub(super) fn finish(parent: &Folder, beside: &Beside) -> Result<(), VaultError> {
    let there = |name: &Path| place::exists(&parent.path().join(name));
    let rename = |from: &Path, to: &Path| {
        parent
            .replace(from, to)
            .map_err(|source| VaultError::storage("putting the rebuilt vault in its place", source))
    };
    if there(&beside.next_anchor)? {
        if there(&beside.next)? {
            if there(&beside.store)? {
                remove(parent, &beside.old)?;
                rename(&beside.store, &beside.old)?;
            }
            rename(&beside.next, &beside.store)?;
        }
        rename(&beside.next_anchor, &beside.anchor)?;
    } else {
        let _ = remove(parent, &beside.next);
    }
    if there(&beside.store)? {
        let _ = remove(parent, &beside.old);
    }
    Ok(())
}

/// Makes room for a store that is to be made, and for the one whose place it will take: what could keep the
/// swap from being finished comes before it is begun. The caller holds the lock, and nothing is pending.
pub(super) fn clear(parent: &Folder, beside: &Beside) -> Result<(), VaultError> {
    remove(parent, &beside.next)?;
    remove(parent, &beside.old)
}

/// Removes a folder and what is in it, if it is there, and what is known of it: its number may be the next one's.
fn remove(parent: &Folder, name: &Path) -> Result<(), VaultError> {
    let path = parent.path().join(name);
    let identity = path.symlink_metadata().map(|metadata| (metadata.dev(), metadata.ino()));
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(VaultError::storage("removing a store that is not used", error));
        }
        _ => {}
    }
    if let Ok(identity) = identity {
        unseal(identity);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::state::{is_sealed, seal};
    use super::*;

    /// What lies in the folder: names, and which of two stores they belong to.
    fn there(folder: &Path) -> BTreeMap<String, String> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let path = if entry.path().is_dir() { entry.path().join("db") } else { entry.path() };
                (entry.file_name().into_string().unwrap(), fs::read_to_string(path).unwrap())
            })
            .collect()
    }

    /// Every state that a crash can leave leads to the store of before or the one of after, whole.
    #[test]
    fn a_swap_that_was_cut_off_is_finished_or_never_was() {
        let (old, new) = ("old", "new");
        let [before, after] = [old, new].map(|which| [("v", which), ("v.head", which)]);
        let cases: [(&[(&str, &str)], _); 11] = [
            (&[("v", old), ("v.head", old)], before),
            (&[("v", old), ("v.head", old), ("v.next", new)], before),
            (&[("v", old), ("v.head", old), ("v.next", new), ("v.head.next", new)], after),
            (
                &[("v", old), ("v.head", old), ("v.old", "older"), ("v.next", new), ("v.head.next", new)],
                after,
            ),
            (&[("v.old", old), ("v.head", old), ("v.next", new), ("v.head.next", new)], after),
            (&[("v.old", old), ("v.head", old), ("v", new), ("v.head.next", new)], after),
            (&[("v.old", old), ("v.head", new), ("v", new)], after),
            (&[("v", new), ("v.head", new)], after),
            // Where there was none before.
            (&[("v.next", new), ("v.head.next", new)], after),
            (&[("v", new), ("v.head.next", new)], after),
            (&[("v", new), ("v.head", new), ("v.old", old)], after),
        ];
        for (names, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
            for (name, which) in names {
                let path = folder.path().join(name);
                let is_store = !name.contains("head");
                if is_store {
                    fs::create_dir(&path).unwrap();
                }
                fs::write(if is_store { path.join("db") } else { path }, which).unwrap();
            }
            let store = folder.path().join("v");
            let (parent, beside) = (Folder::parent_of(&store, false).unwrap(), Beside::of(&store).unwrap());
            let pending = names.iter().any(|(name, _)| *name == "v.head.next");
            assert_eq!(is_pending(&store, &beside).unwrap(), pending);
            for _ in 0..2 {
                finish(&parent, &beside).unwrap();
                let expected = expected.map(|(name, which)| (name.to_owned(), which.to_owned()));
                assert_eq!(there(folder.path()), BTreeMap::from(expected), "{names:?}");
            }
        }
    }

    #[test]
    fn a_store_that_was_never_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("v.next")).unwrap();
        let store = folder.path().join("v");
        let (parent, beside) = (Folder::parent_of(&store, false).unwrap(), Beside::of(&store).unwrap());
        finish(&parent, &beside).unwrap();
        assert_eq!(there(folder.path()), BTreeMap::new());
    }

    #[test]
    fn a_leftover_that_cannot_be_removed_keeps_nobody_out_and_nothing_is_made_over_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let store = folder.path().join("v");
        fs::create_dir(&store).unwrap();
        let (parent, beside) = (Folder::parent_of(&store, false).unwrap(), Beside::of(&store).unwrap());
        for leftover in ["v.old", "v.next"] {
            // A file is not a folder to be removed, whoever runs this.
            fs::write(folder.path().join(leftover), b"").unwrap();
            finish(&parent, &beside).unwrap();
            assert!(clear(&parent, &beside).is_err());
            assert!(store.exists());
            fs::remove_file(folder.path().join(leftover)).unwrap();
        }
        clear(&parent, &beside).unwrap();
    }

    #[test]
    fn a_failed_commit_is_forgotten_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let store = folder.path().join("v");
        let (parent, beside) = (Folder::parent_of(&store, false).unwrap(), Beside::of(&store).unwrap());
        let next = folder.path().join("v.next");
        let identity = Folder::store(&next, true).unwrap().identity().unwrap();
        seal(identity);
        assert!(is_sealed(identity));
        finish(&parent, &beside).unwrap();
        assert!(!is_sealed(identity));
    }
}
