//! `orch vault`: whether what is kept is sound, what happened to it, and copies of it.

use std::fs;

use orch_tests::home::Home;
use orch_tests::needle::{self, Needle};
use orch_tests::orch::Orch;
use serde_json::{Value, json};

use crate::remote::Remote;
use crate::stage::{INPUT, OPENAI_KEY, Stage, orch, summarizer, text};

const PASSPHRASE: &str = "five or six random words";

fn stored(home: &Home) {
    orch(home).args(["secrets", "set", "OPENAI_API_KEY", "-"]).stdin(OPENAI_KEY).run().expect(0);
}

#[track_caller]
fn said(orch: Orch) -> Value {
    orch.arg("--json").run().expect(0).json()
}

fn events(log: &Value) -> Vec<&str> {
    let records = log["records"].as_array().expect("records");
    records.iter().map(|record| record["event"].as_str().expect("an event")).collect()
}

#[test]
fn a_vault_says_what_it_is_and_that_it_is_sound() {
    let home = Home::cold();
    assert_eq!(said(orch(&home).args(["vault", "status"]))["exists"], false);
    assert_eq!(said(orch(&home).args(["vault", "verify"]))["sound"], true);
    assert!(!home.orch().join("data/vault").exists(), "looking makes nothing");
    stored(&home);
    let status = said(orch(&home).args(["vault", "status"]));
    assert_eq!(
        (&status["exists"], &status["secrets"], &status["generation"]),
        (&json!(true), &json!(1), &json!(2))
    );
    assert_eq!(status["held_by"], Value::Null);
    assert_eq!((&status["slots"][0]["kind"], &status["slots"][1]), (&json!("file"), &Value::Null));
    let report = said(orch(&home).args(["vault", "verify"]));
    assert_eq!(
        (&report["sound"], &report["secrets"], &report["audit_records"]),
        (&json!(true), &json!(1), &json!(2))
    );
    let log = said(orch(&home).args(["vault", "audit"]));
    assert_eq!(events(&log), ["created", "set"]);
    assert_eq!(log["records"][1]["secret"], "OPENAI_API_KEY");
    assert_eq!(said(orch(&home).args(["vault", "audit", "--since", "1h"])), log);
    assert_eq!(events(&said(orch(&home).args(["vault", "audit", "--since", "2999-01-01"]))), [""; 0]);
    orch(&home).args(["vault", "audit", "--since", "soon"]).run().expect(2).silent();
    for words in [["vault", "status"], ["vault", "verify"], ["vault", "audit"]] {
        orch(&home).args(words).run().expect(0);
    }
    needle::none(&home.search(&Needle::new(OPENAI_KEY)));
}

#[test]
fn an_edited_store_fails_verification_with_seven() {
    let home = Home::cold();
    stored(&home);
    let anchor = home.orch().join("data/vault.head");
    let before = fs::read(&anchor).expect("an anchor");
    stored(&home);
    stored(&home);
    fs::write(&anchor, before).expect("our own file");
    let outcome = orch(&home).args(["vault", "verify", "--json"]).run().expect(7).silent();
    let error = outcome.error();
    assert_eq!(error["code"], "vault_tampered", "{outcome}");
    assert_eq!(error["details"]["findings"][0]["code"], "anchor_mismatch", "{outcome}");
}

#[test]
fn a_backup_moves_a_vault_to_another_machine() {
    let (home, elsewhere) = (Home::cold(), Home::cold());
    stored(&home);
    let file = text(home.work().join("vault.backup"));
    let backup = ["vault", "backup", &file, "--passphrase-stdin"];
    orch(&home).args(["vault", "backup", &file]).run().expect(2).silent();
    orch(&home).args(backup).stdin("short").run().expect(7).silent();
    let made = orch(&home).args(backup).arg("--json").stdin(PASSPHRASE).run().expect(0);
    assert_eq!(made.json()["file"], json!(file));
    orch(&home).args(backup).stdin(PASSPHRASE).run().expect(2).silent();

    let restore = ["vault", "restore", &file, "--passphrase-stdin", "--json"];
    orch(&elsewhere).args(restore).stdin("another passphrase").run().expect(7).silent();
    assert!(!elsewhere.orch().join("data/vault").exists());
    let status = orch(&elsewhere).args(restore).stdin(PASSPHRASE).run().expect(0).json();
    assert_eq!(status["secrets"], 1);
    assert_eq!(said(orch(&elsewhere).args(["vault", "verify"]))["sound"], true);
    let which = said(orch(&elsewhere).args(["secrets", "which", "OPENAI_API_KEY"]));
    assert_eq!((&which["source"], &which["version"]), (&json!("vault"), &json!(1)));
    // What is there is not replaced unasked.
    orch(&elsewhere).args(restore).stdin(PASSPHRASE).run().expect(2).silent();
    orch(&elsewhere).args(restore).arg("--yes").stdin(PASSPHRASE).run().expect(0);
    assert!(said(orch(&elsewhere).args(["vault", "compact"]))["after"].is_u64());
    assert_eq!(said(orch(&elsewhere).args(["vault", "verify"]))["sound"], true);
    needle::none(&home.search(&Needle::new(OPENAI_KEY)));
    needle::none(&elsewhere.search(&Needle::new(PASSPHRASE)));
}

#[test]
fn a_server_that_holds_the_vault_answers_for_it() {
    let remote = Remote::new();
    let status = said(remote.here(["vault", "status"]));
    assert_eq!((&status["secrets"], &status["held_by"]), (&json!(1), &json!("the server of this home")));
    assert_eq!(said(remote.here(["vault", "verify"]))["sound"], true);
    assert_eq!(events(&said(remote.orch(["vault", "audit", "--since", "1h"]))), ["created", "set"]);
    assert!(said(remote.here(["vault", "compact"]))["after"].is_u64());
    let file = text(remote.stage.home.work().join("vault.backup"));
    let backup = ["vault", "backup", &file, "--passphrase-stdin"];
    remote.here(backup).stdin(PASSPHRASE).run().expect(0);
    let restore = ["vault", "restore", &file, "--passphrase-stdin", "--yes"];
    let refused = remote.here(restore).stdin(PASSPHRASE).run().expect(7).silent();
    assert!(refused.stderr().contains("orch serve"), "{refused}");
    assert_eq!(events(&said(remote.here(["vault", "audit"]))), ["created", "set", "compacted", "backed_up"]);
    // The server goes on with what was compacted.
    remote.here(["secrets", "rm", "OPENAI_API_KEY", "--yes"]).run().expect(0);
    let client = Home::cold();
    restored(&client, &file);
    remote.anybody(["vault", "verify"]).run().expect(8).silent();
}

fn restored(home: &Home, file: &str) {
    let args = ["vault", "restore", file, "--passphrase-stdin"];
    orch(home).args(args).stdin(PASSPHRASE).run().expect(0);
}

#[test]
fn a_run_leaves_what_it_may_use_and_how_often_it_did() {
    let stage = Stage::cold();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let report = stage.run(&agent, INPUT).run().expect(0).json();
    let log = said(stage.orch(["vault", "audit"]));
    assert_eq!(events(&log), ["created", "set", "use_planned", "use_counted"]);
    let counted = &log["records"][3];
    assert_eq!((&counted["run"], &counted["uses"]), (&report["run_id"], &json!(1)), "{log:#}");
    assert_eq!((&counted["host"], &counted["complete"]), (&log["records"][2]["host"], &json!(true)));
}
