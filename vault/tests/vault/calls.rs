//! Children whose file calls are written down, or fail: `calls/library.rs`, compiled here by `rustc` and preloaded.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::{child, files_under};

/// What the library does; its own constant of this name.
const WHAT: &str = "ORCH_VAULT_TEST_CALLS";

/// [`child`], with its file calls written down: its standard output becomes the record.
pub(crate) fn recorded_child(test: &str, home: &Path) -> Command {
    watched(test, home, "record")
}

/// [`child`], with file calls that can be made to fail.
pub(crate) fn failing_child(test: &str, home: &Path) -> Command {
    watched(test, home, "fail")
}

fn watched(test: &str, home: &Path, what: &str) -> Command {
    let mut command = child(test, home);
    command.env("LD_PRELOAD", library()).env(WHAT, what);
    command
}

/// Compiled once for all tests, which nextest runs in processes of their own.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vault/calls");
        let mut hasher = DefaultHasher::new();
        let mut files = files_under(&sources);
        files.sort();
        files.iter().for_each(|file| fs::read(file).unwrap().hash(&mut hasher));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let library = folder.join(format!("calls-{:016x}.so", hasher.finish()));
        if !library.exists() {
            let unfinished = tempfile::tempdir_in(folder).unwrap();
            let built = unfinished.path().join("calls.so");
            let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
            let done = Command::new(rustc)
                .args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-C", "panic=abort", "-o"])
                .args([&built, &sources.join("library.rs")])
                .status()
                .expect("rustc, which has built this test, can be run");
            assert!(done.success());
            fs::rename(built, &library).unwrap();
        }
        library
    })
}
