//! Copies of a vault: large ones, damaged ones, and what they are sealed under.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use orch_tests::home::Home;
use serde_json::{Value, json};

use crate::remote::Remote;
use crate::stage::{OPENAI_KEY, Outside, orch, text};

const PASSPHRASE: &str = "five or six random words";

fn backed_up(home: &Home) -> String {
    orch(home).args(["secrets", "set", "OPENAI_API_KEY", "-"]).stdin(OPENAI_KEY).run().expect(0);
    let file = text(home.work().join("vault.backup"));
    orch(home).args(["vault", "backup", &file, "--passphrase-stdin"]).stdin(PASSPHRASE).run().expect(0);
    file
}

/// More than an answer of JSON may have, and more records than one page.
#[test]
fn a_large_vault_is_backed_up_through_its_server_and_its_log_read_in_pages() {
    let remote = Remote::without_keys();
    for number in 0..130 {
        let body = json!({ "value": "x".repeat(64 << 10) });
        remote.server.ask("PUT", &format!("/v1/secrets/BIG_{number}"), Some(&body)).expect(200);
    }
    for number in 0..400 {
        let body = json!({ "value": format!("0123456789abcdef-{number}") });
        remote.server.ask("PUT", "/v1/secrets/SMALL", Some(&body)).expect(200);
    }
    let file = text(remote.stage.home.work().join("vault.backup"));
    let backup = ["vault", "backup", &file, "--passphrase-stdin", "--json"];
    let made = remote.here(backup).stdin(PASSPHRASE).run().expect(0).json();
    let meta = fs::metadata(&file).expect("a backup");
    assert!(meta.len() > 8 << 20, "{made:#}");
    assert_eq!((made["bytes"].as_u64(), meta.permissions().mode() & 0o777), (Some(meta.len()), 0o600));
    let restored = Home::new();
    let restore = ["vault", "restore", &file, "--passphrase-stdin", "--json"];
    assert_eq!(orch(&restored).args(restore).stdin(PASSPHRASE).run().expect(0).json()["secrets"], 131);

    // Created, set 530 times, backed up.
    for log in [remote.here(["vault", "audit", "--json"]), remote.orch(["vault", "audit", "--json"])] {
        let log = log.run().expect(0).json();
        let records = log["records"].as_array().expect("records");
        let sequence = |record: &Value| record["sequence"].as_u64();
        assert!(records.iter().map(sequence).eq((0..532).map(Some)), "{} records", records.len());
    }
    let table = remote.here(["vault", "audit"]).run().expect(0);
    assert_eq!(table.stdout().lines().count(), 533);
    assert_eq!(table.stdout().lines().filter(|line| line.trim_start().starts_with('#')).count(), 1);
    let page = remote.server.ask("GET", "/v1/audit?after=528&limit=2", None).expect(200).json();
    assert_eq!((&page["records"][0]["sequence"], &page["next"]), (&json!(529), &json!(530)));
    let last = remote.server.ask("GET", "/v1/audit?after=530", None).expect(200).json();
    assert_eq!((last["records"].as_array().map(Vec::len), &last["next"]), (Some(1), &Value::Null));
    let none = remote.server.ask("GET", "/v1/audit?since=2999-01-01", None).expect(200).json();
    assert_eq!((&none["records"], &none["next"]), (&json!([]), &Value::Null));
}

#[test]
fn a_server_replaces_no_file_with_a_backup() {
    let remote = Remote::new();
    let folder = remote.stage.home.work();
    fs::write(folder.join("there"), "mine").expect("our own folder");
    std::os::unix::fs::symlink(folder.join("nowhere"), folder.join("link")).expect("our own folder");
    for name in ["there", "link"] {
        let file = text(folder.join(name));
        let backup = ["vault", "backup", &file, "--passphrase-stdin", "--json"];
        remote.here(backup).stdin(PASSPHRASE).run().expect(2).silent();
    }
    assert_eq!(fs::read_to_string(folder.join("there")).expect("still there"), "mine");
    assert!(!folder.join("nowhere").exists());
    // What the server refuses leaves nothing behind.
    let file = text(folder.join("weak"));
    remote.here(["vault", "backup", &file, "--passphrase-stdin"]).stdin("short").run().expect(7).silent();
    let left: Vec<_> =
        fs::read_dir(folder).expect("our own").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// A damaged copy says nothing of the vault that is here.
#[test]
fn a_damaged_backup_is_its_own_affair() {
    let home = Home::new();
    let file = backed_up(&home);
    let whole = fs::read(&file).expect("a backup");
    let list = || orch(&home).args(["secrets", "list", "--json"]).run().expect(0).json();
    let before = list();
    let mut cut = whole.clone();
    cut.truncate(6);
    let mut other = whole;
    other[0] ^= 1;
    for (what, bytes) in [("cut off", cut), ("altered", other)] {
        fs::write(&file, bytes).expect("our own file");
        let restore = ["vault", "restore", &file, "--passphrase-stdin", "--yes", "--json"];
        let outcome = orch(&home).args(restore).stdin(PASSPHRASE).run().expect(7).silent();
        let error = outcome.error();
        assert_eq!(error["code"], "vault_backup_damaged", "{what}: {outcome}");
        let hints = error["hints"].to_string();
        assert!(hints.contains("another copy") && hints.contains("unchanged"), "{what}: {outcome}");
        assert!(!error.to_string().contains("move both away"), "{what}: {outcome}");
        assert_eq!(list(), before, "{what}");
    }
}

#[test]
fn the_passphrase_of_a_backup_is_read_from_a_file_that_is_nobody_else_s() {
    let (home, outside) = (Home::new(), Outside::new());
    backed_up(&home);
    let words = outside.file("words", &format!("{PASSPHRASE}\n"));
    let mode =
        |mode: u32| fs::set_permissions(&words, fs::Permissions::from_mode(mode)).expect("our own file");
    let link = words.with_file_name("link");
    std::os::unix::fs::symlink(&words, &link).expect("our own folder");
    let pipe = words.with_file_name("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .expect("a pipe");
    let copy = |name: &str, from: &std::path::Path| {
        let file = text(home.work().join(name));
        orch(&home).args(["vault", "backup", &file, "--json", "--passphrase-file", &text(from)])
    };
    mode(0o644);
    copy("open", &words).run().expect(2).silent().says("has mode 0644");
    mode(0o600);
    for from in [&link, &pipe] {
        let refused = copy("other", from).run().expect(2).silent();
        assert_eq!(refused.error()["code"], "passphrase_unreadable", "{refused}");
    }
    copy("file", &words).run().expect(0);
    // As it is for the passphrase of a slot.
    copy("stdin", std::path::Path::new("-")).stdin(format!("{PASSPHRASE}\n")).run().expect(0);
    for name in ["file", "stdin"] {
        let elsewhere = Home::new();
        let file = text(home.work().join(name));
        let restore = ["vault", "restore", &file, "--passphrase-file", &text(&words)];
        orch(&elsewhere).args(restore).run().expect(0);
    }
    assert!(!home.work().join("open").exists() && !home.work().join("other").exists());
}
