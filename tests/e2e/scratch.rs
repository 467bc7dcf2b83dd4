//! Scratch folders, as an agent's author, its user and an operator meet them.

use std::time::{Duration, Instant};

use orch_tests::guests::Agent;
use orch_tests::process;
use serde_json::{Value, json};

use crate::stage::{Mode, Stage, guest, in_every_mode, with_keys};

in_every_mode! {
    an_agent_has_files_of_its_own_until_its_run_is_over
    a_full_scratch_folder_is_a_limit_with_its_name
    an_operator_may_give_none
}

/// An agent with a scratch folder at `/tmp`, and these limits.
fn agent(limits: &Value) -> Agent {
    guest("files", &json!({ "files": [{ "path": "/tmp", "access": "scratch" }], "limits": limits }))
}

fn todo(todo: &Value, fail: bool) -> String {
    json!({ "todo": todo, "fail": fail }).to_string()
}

fn an_agent_has_files_of_its_own_until_its_run_is_over(mode: Mode) {
    let stage = Stage::new();
    let agent = agent(&json!({}));
    let input = todo(&json!([["list", "/tmp"], ["write", "/tmp/a", "text"], ["read", "/tmp/a"]]), false);
    let page = rustix::param::page_size();
    // Nothing has to be mounted or granted, and the second run finds nothing of the first one's.
    for _ in 0..2 {
        let outcome = with_keys(stage.run_in(mode, agent.path(), &input)).run().expect(0);
        let report = outcome.json();
        assert_eq!(report["output"]["came_of"], json!(["ok", "ok", "ok text"]), "{outcome}");
        // A page, and a name.
        let limits = &report["limits"];
        assert_eq!(limits["scratch_bytes"], json!({ "limit": 64 << 20, "used": page }), "{outcome}");
        assert_eq!(limits["scratch_files"], json!({ "limit": 10_000, "used": 1 }), "{outcome}");
    }
}

fn a_full_scratch_folder_is_a_limit_with_its_name(mode: Mode) {
    let stage = Stage::new();
    let agent = agent(&json!({ "scratch": "1MiB", "scratch_files": 20 }));
    for (attempt, name, limit) in [
        (json!(["fill", "/tmp/a", "0", "2000000"]), "scratch", 1 << 20),
        (json!(["fill", "/tmp/a", "1000000000", "2000000"]), "scratch", 1 << 20),
        (json!(["many", "/tmp", "50"]), "scratch_files", 20),
    ] {
        // The agent is told, as on any disk, and may go on.
        let input = todo(&json!([attempt, ["list", "/"]]), false);
        let outcome = with_keys(stage.run_in(mode, agent.path(), &input)).run().expect(0);
        let told = outcome.json()["output"]["came_of"][0].clone();
        assert!(told.as_str().is_some_and(|told| told.contains("No space left")), "{outcome}");
        // Where it fails, that is why.
        let input = todo(&json!([attempt]), true);
        let outcome = with_keys(stage.run_in(mode, agent.path(), &input)).run().expect(6).silent();
        let error = outcome.error();
        assert_eq!(error["code"], "limit_reached", "{outcome}");
        assert_eq!(
            error["details"]["limit"],
            json!({ "name": name, "used": limit, "limit": limit }),
            "{outcome}"
        );
        let unit = if name == "scratch" { "scratch_bytes" } else { name };
        assert_eq!(error["details"]["run"]["limits"][unit]["used"], json!(limit), "{outcome}");
        let field = format!("`limits.{name}`");
        assert!(error["hints"][0].as_str().is_some_and(|hint| hint.contains(&field)), "{outcome}");
    }
}

fn an_operator_may_give_none(mode: Mode) {
    let mut stage = Stage::new();
    stage
        .configure(|config| config.limits(json!({ "ceilings": { "scratch": "100kB", "scratch_files": 5 } })));
    let agent = agent(&json!({ "scratch": "1MiB" }));
    let run = |stage: &Stage, attempt: Value| {
        let outcome = with_keys(stage.run_in(mode, agent.path(), &todo(&json!([attempt]), true))).run();
        outcome.expect(6).error()["details"]["limit"]["limit"].clone()
    };
    // A manifest asks for no more than there is.
    assert_eq!(run(&stage, json!(["fill", "/tmp/a", "0", "200000"])), 100_000);
    assert_eq!(run(&stage, json!(["many", "/tmp", "6"])), 5);
    let mut stage = Stage::new();
    stage.configure(|config| config.limits(json!({ "ceilings": { "scratch": 0 } })));
    let input = todo(&json!([]), false);
    let outcome = with_keys(stage.run_in(mode, agent.path(), &input)).run().expect(4).silent();
    let error = outcome.error();
    assert_eq!(error["code"], "scratch_unavailable", "{outcome}");
    assert!(error["hints"].to_string().contains("limits.ceilings.scratch"), "{outcome}");
}

#[test]
fn nothing_can_be_mounted_in_its_place() {
    let stage = Stage::new();
    let mount = format!("{}::/tmp:rw", stage.home.work().display());
    let outcome = stage.run_with_keys(&agent(&json!({})), "{}").args(["--mount", &mount]).run();
    let outcome = outcome.expect(2).silent();
    assert_eq!(outcome.error()["code"], "mount_not_wanted", "{outcome}");
}

/// The command is killed while its agent's scratch folder is full: its worker goes with it, and no disk has any of it.
#[test]
fn nothing_is_left_of_it_when_the_command_is_killed() {
    let stage = Stage::new();
    let name = format!("left-over-{}", std::process::id());
    let path = format!("/tmp/{name}");
    let input = todo(&json!([["fill", path, "0", "1000000"], ["say", "full"], ["sleep", "60000"]]), false);
    let agent = agent(&json!({}));
    let running = stage.run_with_keys(&agent, &input).start();
    running.wait_says("full");
    let workers = running.workers();
    assert!(!workers.is_empty());
    running.kill_alone();
    let since = Instant::now();
    while workers.iter().any(|worker| process::alive(*worker)) {
        assert!(since.elapsed() < Duration::from_secs(20), "{workers:?} live on");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!std::path::Path::new(&path).exists());
    let mut left = vec![stage.home.orch().to_owned(), stage.home.temporary().to_owned()];
    let mut looked_at = 0;
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            assert_ne!(entry.file_name().to_str(), Some(name.as_str()));
            looked_at += 1;
            if entry.file_type().expect("a kind").is_dir() {
                left.push(entry.path());
            }
        }
    }
    assert!(looked_at > 0, "the home has files");
}

#[test]
fn the_doctor_says_whether_there_are_any() {
    let stage = Stage::new();
    let outcome = stage.orch(["doctor", "--json"]).run().expect(0);
    let report = outcome.json();
    let checks = report["checks"].as_array().expect("a list");
    let find = |name: &str| checks.iter().find(|check| check["name"] == name).expect(name);
    let (root, scratch) = (find("jail.root"), find("scratch"));
    assert_eq!(root["state"], scratch["state"], "{outcome}");
}
