//! Folders that are the same by another path.
//!
//! Whoever may mount can show a folder a second time wherever he likes, and no link says so. What the two have in common is
//! the file system's number and the folder's in it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a folder is, by whichever path: its device, and its number there.
type Identity = (u64, u64);

/// Whether `folder` is one of `roots` or lies in one, or is or holds what one of them lies in.
///
/// The paths are without links.
pub(super) fn overlap(folder: &Path, roots: &[PathBuf]) -> bool {
    let above = |path: &Path| path.ancestors().filter_map(identity).collect::<HashSet<_>>();
    let around: HashSet<Identity> = roots.iter().flat_map(|root| above(root)).collect();
    let inside: HashSet<Identity> = roots.iter().flat_map(|root| below(root)).collect();
    crossing(identity(folder), &above(folder), &around, &inside)
}

/// The same of identities: `folder` and what is `above` it, and what the roots lie in (`around`) or hold (`inside`), themselves
/// among both.
fn crossing(
    folder: Option<Identity>,
    above: &HashSet<Identity>,
    around: &HashSet<Identity>,
    inside: &HashSet<Identity>,
) -> bool {
    folder.is_some_and(|folder| around.contains(&folder)) || !above.is_disjoint(inside)
}

fn identity(path: &Path) -> Option<Identity> {
    path.metadata().ok().map(|meta| (meta.dev(), meta.ino()))
}

/// A folder and every folder in it. What cannot be looked into is there itself, and no run could look into it either.
fn below(root: &Path) -> Vec<Identity> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = left.pop() {
        found.extend(identity(&folder));
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        // The kind of a link is a link, wherever it leads.
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        left.extend(folders.map(|entry| entry.path()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A home at `/home/u/.orch` with `data/keys` in it, each folder with a number of its own.
    const OUTER: Identity = (1, 2);
    const USER: Identity = (1, 3);
    const HOME: Identity = (1, 4);
    const DATA: Identity = (1, 5);
    const KEYS: Identity = (1, 6);
    const ELSEWHERE: Identity = (1, 7);

    fn crosses(above: &[Identity]) -> bool {
        let around = HashSet::from([(1, 1), OUTER, USER, HOME]);
        let inside = HashSet::from([HOME, DATA, KEYS]);
        crossing(above.first().copied(), &above.iter().copied().collect(), &around, &inside)
    }

    #[test]
    fn a_folder_of_the_home_is_known_wherever_it_is_shown() {
        let root = (1, 1);
        // From the folder upwards.
        for alias in [
            &[HOME, ELSEWHERE, root][..],
            &[DATA, ELSEWHERE, root],
            &[KEYS, ELSEWHERE, root],
            // And what lies in it there.
            &[(1, 99), KEYS, ELSEWHERE, root],
            // What holds the home, once more.
            &[USER, ELSEWHERE, root],
            &[OUTER, root],
        ] {
            assert!(crosses(alias), "{alias:?}");
        }
        for other in [
            &[ELSEWHERE, root][..],
            // Beside the home, in what holds it.
            &[(1, 98), USER, OUTER, root],
            // The same numbers on another device.
            &[(2, 6), (2, 4), root],
            &[],
        ] {
            assert!(!crosses(other), "{other:?}");
        }
    }

    #[test]
    fn every_folder_below_is_found_and_no_link_is_followed() {
        let temp = tempfile::tempdir().expect("a folder");
        let (home, other) = (temp.path().join("home"), temp.path().join("other/deep"));
        fs::create_dir_all(home.join("data/keys")).expect("made");
        fs::create_dir_all(&other).expect("made");
        fs::write(home.join("data/file"), "").expect("written");
        std::os::unix::fs::symlink(&other, home.join("link")).expect("linked");
        let found: HashSet<Identity> = below(&home).into_iter().collect();
        let expected = ["", "data", "data/keys"].map(|name| identity(&home.join(name)).expect("there"));
        assert_eq!(found, HashSet::from(expected));
        assert!(!overlap(&other, &[home]));
    }
}
