//! Folders that the caller hands over: what is refused, and what an agent gets at through one.

use std::os::unix::fs::symlink;
use std::path::Path;

use orch_tests::guests::Agent;
use serde_json::{Value, json};

use crate::stage::{Mode, OPENAI_KEY, Stage, guest};

/// Where folders of this machine can be mounted; on a server they are refused (`remote.rs`).
const HERE: [Mode; 2] = [Mode::Local, Mode::Embedded];

fn files(wants: &Value) -> Agent {
    guest("files", &json!({ "files": wants }))
}

/// Runs `todo` with these mounts; the code that it must end with is `expect`ed of what comes of it.
fn run(stage: &Stage, mode: Mode, agent: &Agent, mounts: &[String], todo: &Value) -> orch_tests::orch::Orch {
    let input = json!({ "todo": todo }).to_string();
    let orch = stage.run_in(mode, agent.path(), &input).env("OPENAI_API_KEY", OPENAI_KEY);
    mounts.iter().fold(orch, |orch, mount| orch.args(["--mount", mount]))
}

fn at(folder: &Path, rest: &str) -> String {
    format!("{}::{rest}", folder.display())
}

#[test]
fn what_is_no_folder_to_hand_over_is_refused_with_what_to_do() {
    let stage = Stage::new();
    let agent = files(&json!([{ "path": "/data", "access": "write" }]));
    let place = stage.home.work().join("place");
    std::fs::create_dir_all(place.join("data")).expect("made");
    std::fs::write(place.join("file"), "").expect("written");
    symlink("loop", place.join("loop")).expect("linked");
    symlink(stage.home.orch(), place.join("link")).expect("linked");
    let data = || place.join("data");
    let parent = stage.home.orch().parent().expect("it has one").to_owned();
    let cases: Vec<(&str, Vec<String>)> = vec![
        ("mount_refused", vec![at(&place.join("nothing"), "/data")]),
        ("mount_refused", vec![at(&place.join("file"), "/data")]),
        ("mount_refused", vec![at(&place.join("loop"), "/data")]),
        ("mount_refused", vec![at(&place.join("link"), "/data")]),
        ("mount_refused", vec![at(stage.home.orch(), "/data:rw")]),
        ("mount_refused", vec![at(&parent, "/data")]),
        ("mount_refused", vec![at(Path::new("/"), "/data")]),
        ("mount_refused", vec![at(Path::new("/proc/self"), "/data")]),
        ("mount_refused", vec![at(Path::new("/sys"), "/data")]),
        ("mount_refused", vec![at(Path::new("/dev"), "/data")]),
        ("mount_twice", vec![at(&data(), "/data"), at(&data(), "/data/")]),
        ("mount_not_wanted", vec![at(&data(), "/data"), at(&data(), "/other")]),
        ("bad_usage", vec![at(&data(), "/data:wr")]),
        ("bad_usage", vec![at(&data(), "data")]),
        ("bad_usage", vec![at(&data(), "/data/..")]),
        ("bad_usage", vec!["::/data".to_owned()]),
    ];
    for mode in HERE {
        for (code, mounts) in &cases {
            let outcome = run(&stage, mode, &agent, mounts, &json!([])).run().expect(2).silent();
            let error = outcome.error();
            assert_eq!(error["code"], *code, "{mounts:?}: {outcome}");
            assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{outcome}");
        }
        // Two places for one folder, of which one may be written to.
        let agent = files(&json!([
            { "path": "/data", "access": "write" }, { "path": "/other", "access": "read" },
        ]));
        let both = [at(&data(), "/data:rw"), at(&data(), "/other:ro")];
        let outcome = run(&stage, mode, &agent, &both, &json!([])).run().expect(2).silent();
        assert_eq!(outcome.error()["code"], "mount_twice", "{outcome}");
        let both = [at(&data(), "/data:ro"), at(&data(), "/other:ro")];
        run(&stage, mode, &agent, &both, &json!([])).run().expect(0);
    }
}

#[test]
fn an_agent_gets_at_what_is_in_its_folder_and_nothing_else() {
    let stage = Stage::new();
    let agent = files(&json!([{ "path": "/data", "access": "write" }]));
    for mode in HERE {
        let place = tempfile::tempdir().expect("a folder");
        let (data, outside) = (place.path().join("data"), place.path().join("outside"));
        std::fs::create_dir_all(&data).expect("made");
        std::fs::create_dir_all(&outside).expect("made");
        std::fs::write(data.join("file"), "inside").expect("written");
        std::fs::write(outside.join("file"), "OUTSIDE").expect("written");
        symlink("../outside/file", data.join("relative")).expect("linked");
        symlink(outside.join("file"), data.join("absolute")).expect("linked");
        // What the caller names may be a link: it says which folder is meant.
        symlink(&data, place.path().join("link")).expect("linked");
        let todo = json!([
            ["read", "/data/file"],
            ["write", "/data/new", "new"],
            ["read", "/data/relative"],
            ["read", "/data/absolute"],
            ["write", "/data/relative", "changed"],
            ["symlink", "../outside", "/data/way"],
            ["read", "/data/../outside/file"],
            ["raw", "3", "../outside/file"],
            ["read", "/etc/passwd"],
        ]);
        let mount = at(&place.path().join("link"), "/data:rw");
        let outcome = run(&stage, mode, &agent, &[mount], &todo).run().expect(0);
        let came_of = outcome.json()["output"]["came_of"].clone();
        let came_of: Vec<String> = serde_json::from_value(came_of).expect("a list");
        assert_eq!(came_of[..2], ["ok inside", "ok"], "{outcome}");
        assert!(came_of[2..].iter().all(|came_of| came_of.starts_with("failed: ")), "{outcome}");
        assert_eq!(std::fs::read_to_string(data.join("new")).expect("made"), "new");
        assert_eq!(std::fs::read_to_string(outside.join("file")).expect("there"), "OUTSIDE");
        assert!(!data.join("way").is_symlink());
        // Read-only is the default, whatever the agent would like.
        let mount = at(&data, "/data");
        let todo = json!([["read", "/data/new"], ["write", "/data/new", "changed"], ["remove", "/data/new"]]);
        let outcome = run(&stage, mode, &agent, &[mount], &todo).run().expect(0);
        let came_of = outcome.json()["output"]["came_of"].clone();
        assert_eq!(came_of[0], "ok new", "{outcome}");
        assert!(came_of[1].as_str().is_some_and(|text| text.starts_with("failed: ")), "{outcome}");
        assert_eq!(std::fs::read_to_string(data.join("new")).expect("there"), "new");
    }
}
