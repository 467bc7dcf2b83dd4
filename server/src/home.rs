//! Where `orch` keeps things, and the checks on those folders.
//!
//! `$ORCH_HOME` when set holds everything; else the XDG folders. Folders are 0700 and belong to this user; a symbolic
//! link or a foreign owner in their place is refused, because what lies there decides where keys go.

use std::fs::{DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::failure::{Failure, Kind};

pub mod private;
mod same;

/// The folders of one installation.
#[derive(Debug, Clone)]
pub struct Home {
    config: PathBuf,
    data: PathBuf,
    cache: PathBuf,
}

impl Home {
    /// Finds the folders; creates nothing.
    ///
    /// # Errors
    /// When neither `ORCH_HOME` nor `HOME` says where they are.
    pub fn locate(environment: &Environment) -> Result<Self, Failure> {
        if let Some(home) = environment.get("ORCH_HOME").map(PathBuf::from) {
            let home = std::path::absolute(&home)
                .map_err(|e| Failure::file("home_invalid", "use ORCH_HOME", &home, &e))?;
            return Ok(Self { data: home.join("data"), cache: home.join("cache"), config: home });
        }
        let user = environment.path("HOME");
        let place = |variable: &str, below: &str| {
            environment
                .path(variable)
                .or_else(|| user.as_ref().map(|home| home.join(below)))
                .map(|parent| parent.join("orch"))
                .ok_or_else(|| {
                    Failure::usage(
                        "home_unknown",
                        "cannot tell where to keep files: neither ORCH_HOME nor HOME is set",
                    )
                    .hint("export ORCH_HOME=/path/to/a/folder")
                })
        };
        Ok(Self {
            config: place("XDG_CONFIG_HOME", ".config")?,
            data: place("XDG_DATA_HOME", ".local/share")?,
            cache: place("XDG_CACHE_HOME", ".cache")?,
        })
    }

    /// The operator's configuration.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.yaml")
    }

    /// The folder against which relative paths of the configuration are read.
    #[must_use]
    pub fn config_folder(&self) -> &Path {
        &self.config
    }

    /// The folder of what is kept: vault, store, keys, grants.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Tokens of servers, as `orch login` stored them.
    #[must_use]
    pub fn credentials_file(&self) -> PathBuf {
        self.config.join("credentials.json")
    }

    /// The socket of the server that runs in this home, if one does.
    #[must_use]
    pub fn server_socket(&self) -> PathBuf {
        self.data.join("server.sock")
    }

    /// The vault's store.
    #[must_use]
    pub fn vault(&self) -> PathBuf {
        self.data.join("vault")
    }

    /// The vault's key file: outside the store, so that a copy of the store alone opens nothing.
    #[must_use]
    pub fn vault_key(&self) -> PathBuf {
        self.data.join("keys").join("vault.key")
    }

    /// The key that authenticates compiled artifacts.
    #[must_use]
    pub fn artifact_key(&self) -> PathBuf {
        self.data.join("keys").join("artifact.key")
    }

    /// Compiled artifacts.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.cache.join("artifacts")
    }

    /// Which providers are thought with first.
    #[must_use]
    pub fn byok_file(&self) -> PathBuf {
        self.data.join("byok.json")
    }

    /// What the user granted, by agent digest.
    #[must_use]
    pub fn grants_file(&self) -> PathBuf {
        self.data.join("grants.json")
    }

    /// The three roots.
    #[must_use]
    pub fn roots(&self) -> [&Path; 3] {
        [&self.config, &self.data, &self.cache]
    }

    /// Whether a folder holds one of this home's, or lies in it, once every link on the way is followed. A folder that is
    /// there under two paths, as one that is mounted once more elsewhere, is the same by either, and so is each of the folders
    /// in this home.
    #[must_use]
    pub fn overlaps(&self, folder: &Path) -> bool {
        let folder = resolved(folder);
        let roots = self.roots().map(resolved);
        let by_path = |root: &PathBuf| folder.starts_with(root) || root.starts_with(&folder);
        roots.iter().any(by_path) || same::overlap(&folder, &roots)
    }

    /// Checks the folders that the vault and its key lie in, as far as they are there. Nothing is created or changed, so
    /// this comes before everything that opens the vault, or speaks to the server that listens beside it.
    ///
    /// # Errors
    /// When one of them is a link, no folder, another user's, or open to others.
    pub fn check_vault(&self) -> Result<(), Failure> {
        let (store, key) = (self.vault(), self.vault_key());
        for place in [Some(store.as_path()), key.parent()].into_iter().flatten() {
            let of_ours = |folder: &&Path| self.roots().iter().any(|root| folder.starts_with(root));
            let folders: Vec<&Path> = place.ancestors().take_while(of_ours).collect();
            // From the outermost on: behind a link all else is somebody else's word.
            for folder in folders.into_iter().rev() {
                check_place(folder, if folder == store { 0o077 } else { OTHERS_WRITE })?;
            }
        }
        Ok(())
    }

    /// Creates `folder` (one of this home's) and its missing parents as 0700, and checks it.
    ///
    /// # Errors
    /// When it cannot be created, is a link, belongs to someone else, or others may write to it.
    pub fn ensure(&self, folder: &Path) -> Result<(), Failure> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
            Failure::file("home_unwritable", "create the folder", folder, &error)
                .hint("set ORCH_HOME to a folder that you can write to")
        })?;
        let mut checked = folder;
        while self.roots().iter().any(|root| checked.starts_with(root)) {
            check_folder(checked)?;
            match checked.parent() {
                Some(parent) => checked = parent,
                None => break,
            }
        }
        Ok(())
    }
}

/// The path without links, as far as it exists; what does not exist yet has none.
fn resolved(path: &Path) -> PathBuf {
    for existing in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (existing.canonicalize(), path.strip_prefix(existing)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}

/// The bits of a mode by which others may write.
const OTHERS_WRITE: u32 = 0o022;

/// Refuses a folder that someone else could have planted or could change.
fn check_folder(folder: &Path) -> Result<(), Failure> {
    let meta =
        folder.symlink_metadata().map_err(|e| Failure::file("home_unreadable", "look at", folder, &e))?;
    match problem(&meta, OTHERS_WRITE) {
        Some(why) => Err(Failure::usage("home_unsafe", format!("{} {why}", folder.display()))
            .hint("move it away, or set ORCH_HOME to a folder of your own")),
        None => Ok(()),
    }
}

/// The same for one of the vault's folders, where there may be none yet.
fn check_place(folder: &Path, forbidden: u32) -> Result<(), Failure> {
    let unsafe_place = |why: String| {
        Failure::new(Kind::Vault, "vault_place", format!("{} {why}", folder.display()))
            .hint(format!("chmod 700 {}, if it is yours", folder.display()))
            .hint("move it away, or set ORCH_HOME to a folder of your own")
    };
    match folder.symlink_metadata() {
        Ok(meta) => problem(&meta, forbidden).map_or(Ok(()), |why| Err(unsafe_place(why.to_owned()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unsafe_place(format!("cannot be looked at: {error}"))),
    }
}

/// What is wrong with a folder of which others must not have these bits of the mode.
fn problem(meta: &Metadata, forbidden: u32) -> Option<&'static str> {
    if meta.file_type().is_symlink() {
        return Some("is a symbolic link; orch keeps keys there and does not follow links");
    }
    if !meta.is_dir() {
        return Some("is not a folder");
    }
    if !owned(meta) {
        return Some("belongs to another user");
    }
    let mode = meta.permissions().mode() & forbidden;
    match mode & OTHERS_WRITE {
        0 if mode == 0 => None,
        0 => Some("can be looked into by other users"),
        _ => Some("can be written to by other users"),
    }
}

fn owned(meta: &Metadata) -> bool {
    meta.uid() == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;

    fn home(at: &Path) -> Home {
        let set = BTreeMap::from([("ORCH_HOME".to_owned(), at.display().to_string())]);
        Home::locate(&Environment::Fixed(set)).expect("a home")
    }

    #[test]
    fn orch_home_holds_everything() {
        let home = home(Path::new("/srv/o"));
        assert_eq!(home.config_file(), Path::new("/srv/o/config.yaml"));
        assert_eq!(home.vault(), Path::new("/srv/o/data/vault"));
        assert!(!home.vault_key().starts_with(home.vault()), "the key lies outside the store");
    }

    #[test]
    fn an_overlap_is_found_behind_links() {
        let temp = tempfile::tempdir().expect("a folder");
        let (real, link) = (temp.path().join("real"), temp.path().join("link"));
        fs::create_dir_all(real.join("o")).expect("made");
        fs::create_dir(temp.path().join("beside")).expect("made");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        // A home that is reached by a link, and does not exist yet beyond it.
        for home in [home(&link.join("o")), home(&link.join("o/deeper"))] {
            for inside in [&real, &real.join("o"), &link, temp.path()] {
                assert!(home.overlaps(inside), "{home:?} {}", inside.display());
            }
            assert!(!home.overlaps(&temp.path().join("beside")));
            assert!(!home.overlaps(&real.join("orch")), "a name that begins alike is another folder");
        }
    }

    #[test]
    fn without_any_home_the_error_says_what_to_set() {
        let failure = Home::locate(&Environment::Fixed(BTreeMap::new())).expect_err("no home");
        assert_eq!(failure.code(), "home_unknown");
        assert!(failure.hints()[0].contains("ORCH_HOME"));
    }

    #[test]
    fn folders_are_private() {
        let temp = tempfile::tempdir().expect("a folder");
        let home = home(&temp.path().join("h"));
        home.ensure(&home.artifacts()).expect("created");
        let mode = fs::metadata(home.artifacts()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn links_and_open_folders_are_refused() {
        let temp = tempfile::tempdir().expect("a folder");
        let home = home(temp.path());
        fs::create_dir(temp.path().join("elsewhere")).expect("made");
        std::os::unix::fs::symlink(temp.path().join("elsewhere"), temp.path().join("data")).expect("linked");
        let failure = home.ensure(&home.vault()).expect_err("a link");
        assert!(failure.message().contains("symbolic link"), "{failure}");

        fs::create_dir(temp.path().join("cache")).expect("made");
        fs::set_permissions(temp.path().join("cache"), fs::Permissions::from_mode(0o777)).expect("opened");
        let failure = home.ensure(&home.artifacts()).expect_err("open to all");
        assert!(failure.message().contains("other users"), "{failure}");
    }
}
