//! What `orch` has compiled of the guests, lent from home to home.
//!
//! Compiling one takes a debug build a second or two, in nearly every test anew, and hardly any is about that. The entries
//! are hard links, and their key goes with them: each is verified by the run that uses it, and compiled again where it is not
//! what it should be. A home that is searched for a secret gets none: what was compiled elsewhere never met that secret.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};

/// Below `ORCH_HOME`.
const KEY: &str = "data/keys/artifact.key";
const ENTRIES: &str = "cache/artifacts";

/// The folder of the build, which is the same for every test binary of it.
fn shared() -> PathBuf {
    let program = std::env::current_exe().expect("the path of the test binary");
    program.ancestors().nth(2).expect("a folder of binaries in one of a profile").join("compiled-guests")
}

/// Gives an empty home the key and all that is compiled.
pub(crate) fn lend(orch: &Path) -> io::Result<()> {
    let shared = shared();
    let key = key(&shared)?;
    private_folder(&orch.join("data/keys"))?;
    private_folder(&orch.join(ENTRIES))?;
    write_new(&orch.join(KEY), &key)?;
    for name in entries(&shared)? {
        match fs::hard_link(shared.join(&name), orch.join(ENTRIES).join(&name)) {
            // Temporary files may lie elsewhere than the build. What is not lent is compiled.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => break,
            linked => linked?,
        }
    }
    Ok(())
}

/// Keeps for other homes what this one was the first to compile, if it has the key.
pub(crate) fn keep(orch: &Path) -> io::Result<()> {
    let shared = shared();
    if fs::read(orch.join(KEY))? != key(&shared)? {
        return Ok(());
    }
    for name in entries(&orch.join(ENTRIES))? {
        match fs::hard_link(orch.join(ENTRIES).join(&name), shared.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => linked?,
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let names: io::Result<Vec<_>> = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect();
    let names = names?.into_iter().filter_map(|name| name.into_string().ok());
    Ok(names.filter(|name| name.ends_with(".artifact")).collect())
}

/// The key of all entries, made by whoever is first.
fn key(shared: &Path) -> io::Result<Vec<u8>> {
    let path = shared.join("artifact.key");
    if let Err(error) = fs::metadata(&path) {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        private_folder(shared)?;
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
        let mine = tempfile::Builder::new().tempfile_in(shared)?;
        mine.as_file().write_all(&key)?;
        match mine.persist_noclobber(&path) {
            Err(failed) if failed.error.kind() != io::ErrorKind::AlreadyExists => return Err(failed.error),
            _ => {}
        }
    }
    fs::read(path)
}

fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}
