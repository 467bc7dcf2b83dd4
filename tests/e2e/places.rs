//! Folders and files in the vault's places that somebody else may have put there: every command that opens the vault
//! refuses them, and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use orch_tests::home::Home;
use orch_tests::orch::Orch;
use serde_json::json;

use crate::stage::{OPENAI_KEY, Outside, guest, orch, text};

const PASSPHRASE: &str = "five or six random words";

/// What a home holds: kind and mode of everything below it, and the bytes of files.
fn below(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry").path();
        let meta = path.symlink_metadata().expect("there");
        let bytes = match meta.is_file() {
            true => fs::read(&path).expect("our own file"),
            false => Vec::new(),
        };
        found.insert(path.clone(), (meta.mode(), bytes));
        if meta.is_dir() {
            found.extend(below(&path));
        }
    }
    found
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own");
}

/// Moves what is there elsewhere, and leaves a link to it.
fn linked(path: &Path, outside: &Path) {
    let there = outside.join("moved");
    // Another file system, perhaps.
    let copied = std::process::Command::new("/bin/cp").arg("-a").arg(path).arg(&there).status();
    assert!(copied.expect("cp").success());
    fs::remove_dir_all(path).expect("our own");
    symlink(&there, path).expect("our own folder");
}

fn replaced(path: &Path) {
    match path.is_dir() {
        true => fs::remove_dir_all(path).expect("our own"),
        false => fs::remove_file(path).expect("our own"),
    }
}

type Spoil = fn(&Path, &Path);

/// What is wrong in a home, and how it came to be.
const WRONG: &[(&str, Spoil)] = &[
    ("the data folder is a link", |data, outside| linked(data, outside)),
    ("the keys' folder is a link", |data, outside| linked(&data.join("keys"), outside)),
    ("the store is a link", |data, outside| linked(&data.join("vault"), outside)),
    ("others may write to the data folder", |data, _| mode(data, 0o777)),
    ("the keys' group may write to their folder", |data, _| mode(&data.join("keys"), 0o770)),
    ("others may look into the store", |data, _| mode(&data.join("vault"), 0o755)),
    ("the data folder is a file", |data, _| {
        replaced(data);
        fs::write(data, "not a folder").expect("our own");
    }),
    ("the keys' folder is a file", |data, _| {
        replaced(&data.join("keys"));
        fs::write(data.join("keys"), "not a folder").expect("our own");
    }),
    ("the store is a file", |data, _| {
        replaced(&data.join("vault"));
        fs::write(data.join("vault"), "not a folder").expect("our own");
    }),
];

#[test]
fn what_others_may_have_put_in_the_vault_s_places_is_refused_by_every_command() {
    let agent = guest("echo", &json!({ "llm": { "primary": "gpt-4o-mini" } }));
    let agent = text(agent.path());
    let commands: &[(&[&str], &str)] = &[
        (&["secrets", "set", "OPENAI_API_KEY", "-"], OPENAI_KEY),
        (&["secrets", "list"], ""),
        (&["secrets", "rm", "OPENAI_API_KEY", "--yes"], ""),
        (&["secrets", "which", "OPENAI_API_KEY"], ""),
        (&["vault", "status"], ""),
        (&["vault", "verify"], ""),
        (&["vault", "audit"], ""),
        (&["vault", "backup", "new.backup", "--passphrase-stdin"], PASSPHRASE),
        (&["vault", "restore", "vault.backup", "--passphrase-stdin", "--yes"], PASSPHRASE),
        (&["vault", "compact"], ""),
        (&["vault", "rekey"], ""),
        (&["vault", "slots", "list"], ""),
        (&["vault", "slots", "add", "passphrase", "--passphrase-file", "-"], PASSPHRASE),
        (&["vault", "slots", "rm", "file", "--yes"], ""),
        (&["run", "--local", &agent, "--input", "{}"], ""),
        (&["run", &agent, "--input", "{}"], ""),
        (&["serve", "--listen", "127.0.0.1:0"], ""),
    ];
    let mut wrong = Vec::new();
    for (what, spoil) in WRONG {
        let (home, outside) = (Home::new(), Outside::new());
        let kept = outside.file("kept", "");
        orch(&home).args(["secrets", "set", "OPENAI_API_KEY", "-"]).stdin(OPENAI_KEY).run().expect(0);
        let backup = ["vault", "backup", "vault.backup", "--passphrase-stdin"];
        orch(&home).args(backup).stdin(PASSPHRASE).run().expect(0);
        spoil(&home.orch().join("data"), kept.parent().expect("a folder"));
        let everything = || (below(home.orch()), below(home.work()), below(kept.parent().expect("a folder")));
        let before = everything();
        for (words, stdin) in commands {
            let outcome = said(orch(&home).args(*words), stdin);
            let changed = everything() != before;
            if outcome.0 != Some(7) || !outcome.1.starts_with("vault_") || changed {
                wrong.push(format!("{what}: {words:?}: {outcome:?}, changed: {changed}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How a command ended, and the code of its error.
fn said(orch: Orch, stdin: &str) -> (Option<i32>, String) {
    let outcome = orch.arg("--json").stdin(stdin).run();
    let code = match outcome.stderr().contains("\"error\"") {
        true => outcome.error()["code"].as_str().unwrap_or_default().to_owned(),
        false => String::new(),
    };
    (outcome.code(), code)
}
