//! `orch vault slots` and `orch vault rekey`: who can open the vault.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use orch_tests::home::Home;
use orch_tests::needle::{self, Needle};
use orch_tests::orch::Orch;
use orch_tests::pty;
use orch_tests::server::Server;
use serde_json::{Value, json};

use crate::stage::{OPENAI_KEY, Outside, PROGRAM, orch, text};

const PASSPHRASE: &str = "correct horse battery staple";

fn with_a_secret() -> Home {
    let home = Home::new();
    let set =
        || orch(&home).args(["secrets", "set", "OPENAI_API_KEY", "-"]).stdin(OPENAI_KEY).run().expect(0);
    // What was chosen for a new vault is said, once.
    set().says("made the vault; it is opened by the file ");
    assert!(!set().stderr().contains("made the vault"));
    home
}

#[track_caller]
fn slots(home: &Home) -> Vec<Value> {
    let said = orch(home).args(["vault", "slots", "list", "--json"]).run().expect(0).json();
    said["slots"].as_array().expect("a list").clone()
}

#[track_caller]
fn kinds(home: &Home) -> Vec<String> {
    slots(home).iter().map(|slot| slot["kind"].as_str().expect("a word").to_owned()).collect()
}

fn private(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

#[test]
fn a_passphrase_opens_the_vault_that_lost_its_key_file() {
    let (home, outside) = (with_a_secret(), Outside::new());
    assert_eq!(kinds(&home), ["file"]);
    orch(&home)
        .args(["vault", "slots", "add", "passphrase"])
        .run()
        .expect(2)
        .says("no terminal to ask on")
        .says("hint: orch vault slots add passphrase --passphrase-file");
    orch(&home)
        .args(["vault", "slots", "add", "passphrase", "--passphrase-file", "-"])
        .stdin(format!("{PASSPHRASE}\n"))
        .run()
        .expect(0);
    assert_eq!(kinds(&home), ["file", "passphrase"]);
    let file = outside.file("passphrase", PASSPHRASE);
    private(&file, 0o600);
    // Not while nothing else opens the vault.
    let remove = || orch(&home).args(["vault", "slots", "rm", "file", "--yes"]);
    remove().run().expect(7).silent().says("no other one opens the vault here");
    remove().env("ORCH_PASSPHRASE_FILE", &file).run().expect(0);

    // Nobody is asked where nobody is, and what helps is said.
    let list = || orch(&home).args(["secrets", "list", "--json"]);
    list().run().expect(7).silent().says("vault_key").says("ORCH_PASSPHRASE_FILE");
    let rows = list().env("ORCH_PASSPHRASE_FILE", &file).run().expect(0).json();
    assert_eq!(rows["secrets"][0]["name"], "OPENAI_API_KEY");
    let wrong = outside.file("wrong", "not the passphrase");
    private(&wrong, 0o600);
    list()
        .env("ORCH_PASSPHRASE_FILE", &wrong)
        .run()
        .expect(7)
        .silent()
        .says("the passphrase does not open this vault");
    private(&file, 0o644);
    list().env("ORCH_PASSPHRASE_FILE", &file).run().expect(7).silent().says("has mode 0644");
    // The last slot stays.
    private(&file, 0o600);
    orch(&home)
        .args(["vault", "slots", "rm", "passphrase", "--yes"])
        .env("ORCH_PASSPHRASE_FILE", &file)
        .run()
        .expect(7)
        .says("the last one");
}

/// Somebody sits at the terminal and mistypes it first.
#[test]
fn a_passphrase_is_asked_for_on_the_terminal_and_not_shown() {
    let (home, outside) = (with_a_secret(), Outside::new());
    orch(&home)
        .args(["vault", "slots", "add", "passphrase", "--passphrase-file", "-"])
        .stdin(PASSPHRASE)
        .run()
        .expect(0);
    let file = outside.file("passphrase", PASSPHRASE);
    private(&file, 0o600);
    let remove = orch(&home).args(["vault", "slots", "rm", "file", "--yes"]);
    remove.env("ORCH_PASSPHRASE_FILE", &file).run().expect(0);
    let typed = |words: &str| {
        let (terminal, mut keyboard) = pty::open();
        let running = orch(&home).args(["secrets", "list"]).env("TERM", "dumb").start_at(terminal);
        running.wait_says("Passphrase of the vault (not shown):");
        keyboard.answers_unseen(words);
        running.finish()
    };
    let wrong = typed("not the passphrase").expect(7).silent();
    let wrong = wrong.says("the passphrase does not open this vault");
    let right = typed(PASSPHRASE).expect(0);
    assert!(right.stdout().contains("OPENAI_API_KEY"), "{right}");
    for (outcome, words) in [(wrong, "not the passphrase"), (right, PASSPHRASE)] {
        needle::none(&outcome.search(&Needle::new(words)));
    }
}

#[test]
fn a_credential_opens_the_vault_where_systemd_gives_it() {
    let (home, outside) = (with_a_secret(), Outside::new());
    let out = outside.file("orch-vault-key", "");
    let add = || {
        orch(&home).args([
            "vault",
            "slots",
            "add",
            "systemd-credential",
            "--out",
            &text(out.clone()),
            "--json",
        ])
    };
    add().run().expect(2).silent().says("is there already");
    fs::remove_file(&out).expect("ours");
    let added = add().run().expect(0).json();
    assert_eq!(added["slot"]["kind"], "systemd-credential");
    private(&out, 0o400);
    let folder = out.parent().expect("a folder");
    let remove = || orch(&home).args(["vault", "slots", "rm", "file", "--yes"]);
    remove().env("CREDENTIALS_DIRECTORY", folder).run().expect(0);
    let list = || orch(&home).args(["secrets", "list", "--json"]);
    list().run().expect(7).silent().says("systemd gave this process no credentials");
    list().env("CREDENTIALS_DIRECTORY", folder).run().expect(0);
    private(&out, 0o600);
    list().env("CREDENTIALS_DIRECTORY", folder).run().expect(7).silent().says("a credential is read-only");
}

#[test]
fn new_keys_change_nothing_that_is_stored() {
    let home = with_a_secret();
    let rows = || orch(&home).args(["secrets", "list", "--json"]).run().expect(0).json();
    let (before, id) = (rows(), slots(&home)[0]["id"].clone());
    let rekeyed = orch(&home).args(["vault", "rekey", "--json"]).run().expect(0).json();
    assert_eq!(rekeyed["term"], 2);
    assert_eq!(rekeyed["slots"][0]["kind"], "file");
    assert_ne!(rekeyed["slots"][0]["id"], id);
    assert_eq!(rows(), before);
}

#[test]
fn what_cannot_be_done_to_slots_says_so() {
    let home = Home::new();
    orch(&home).args(["vault", "slots", "list"]).run().expect(7).silent().says("there is no vault yet");
    orch(&home).args(["vault", "rekey"]).run().expect(7).silent().says("there is no vault yet");
    let home = with_a_secret();
    orch(&home).args(["vault", "slots", "add", "file"]).run().expect(7).says("has a file slot already");
    orch(&home)
        .args(["vault", "slots", "add", "keychain"])
        .run()
        .expect(7)
        .says("this session has no bus")
        .says("hint:");
    orch(&home).args(["vault", "slots", "rm", "nosuchslot", "--yes"]).run().expect(7).says("has no slot");
    orch(&home).args(["vault", "slots", "rm", "file"]).run().expect(2).says("nobody is here to ask");
    assert_eq!(kinds(&home), ["file"]);
}

#[test]
fn a_server_opens_its_vault_by_credential_and_holds_its_slots() {
    let (home, outside) = (with_a_secret(), Outside::new());
    let out = outside.file("orch-vault-key", "");
    fs::remove_file(&out).expect("ours");
    orch(&home)
        .args(["vault", "slots", "add", "systemd-credential", "--out", &text(out.clone())])
        .run()
        .expect(0);
    private(&out, 0o400);
    let folder = out.parent().expect("a folder");
    let remove = || orch(&home).args(["vault", "slots", "rm", "file", "--yes"]);
    remove().env("CREDENTIALS_DIRECTORY", folder).run().expect(0);

    let started = Orch::new(PROGRAM, &home).env("CREDENTIALS_DIRECTORY", folder);
    let server = Server::begin(started, &home, &[]);
    let rows = server.ask("GET", "/v1/secrets", None).expect(200).json();
    assert_eq!(rows["secrets"][0]["name"], "OPENAI_API_KEY");
    // It has the vault for itself; what changes the slots waits for its end.
    for args in [&["vault", "slots", "list"][..], &["vault", "slots", "add", "file"], &["vault", "rekey"]] {
        let refused = orch(&home).args(args).arg("--json").run().expect(7).silent();
        assert_eq!(refused.error()["code"], "vault_in_use", "{refused}");
    }
    // It leaves no core dump, whatever the limit was.
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.process().pid())).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    server.terminate().expect(0);
    assert!(!home.orch().join("data/keys/vault.key").exists(), "nobody made a key file meanwhile");
}

#[test]
fn doctor_says_what_opens_the_vault_and_what_protects_memory() {
    let home = with_a_secret();
    let said = orch(&home).args(["doctor", "--json"]).run().json();
    let check = |name: &str| {
        let checks = said["checks"].as_array().expect("a list");
        checks.iter().find(|check| check["name"] == json!(name)).expect(name).clone()
    };
    let vault = check("vault")["detail"].to_string();
    assert!(vault.contains("1 secrets, opened by the file "), "{vault}");
    let memory = check("memory")["detail"].to_string();
    for absent in ["core dumps are possible", "can look into this one", "not left out of dumps"] {
        assert!(!memory.contains(absent), "{memory}");
    }
}

#[test]
fn what_is_compacted_keeps_its_slots_and_what_is_restored_gets_one() {
    let (home, elsewhere, outside) = (with_a_secret(), Home::new(), Outside::new());
    let file = outside.file("passphrase", PASSPHRASE);
    private(&file, 0o600);
    let file = text(file);
    orch(&home).args(["vault", "slots", "add", "passphrase", "--passphrase-file", &file]).run().expect(0);
    orch(&home).args(["vault", "rekey"]).run().expect(7);
    let by_passphrase =
        |args: &[&str]| orch(&home).args(args.iter().copied()).env("ORCH_PASSPHRASE_FILE", &file);
    by_passphrase(&["vault", "rekey"]).run().expect(0);
    let before = slots(&home);
    orch(&home).args(["vault", "compact"]).run().expect(0);
    assert_eq!(slots(&home), before);
    let status = orch(&home).args(["vault", "status"]).run().expect(0);
    assert!(status.stdout().contains("passphrase, file"), "{status}");
    let log = orch(&home).args(["vault", "audit", "--json"]).run().expect(0).json();
    let events: Vec<&str> =
        log["records"].as_array().expect("records").iter().filter_map(|r| r["event"].as_str()).collect();
    assert_eq!(events, ["created", "set", "set", "slot_added", "rekeyed", "compacted"]);

    let backup = text(home.work().join("vault.backup"));
    fs::remove_file(home.orch().join("data/keys/vault.key")).expect("the key file");
    by_passphrase(&["vault", "backup", &backup, "--passphrase-stdin"])
        .stdin("five random words")
        .run()
        .expect(0);
    let restore = ["vault", "restore", backup.as_str(), "--passphrase-stdin"];
    orch(&elsewhere).args(restore).stdin("five random words").run().expect(0);
    assert_eq!(kinds(&elsewhere), ["file"]);
    let report = orch(&elsewhere).args(["vault", "verify", "--json"]).run().expect(0).json();
    assert_eq!((&report["sound"], &report["secrets"]), (&json!(true), &json!(1)));
}
