//! `orch run` without `--local` and without a server: the server inside the command, for one run.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

use orch_tests::gate::Gate;
use orch_tests::home::Home;
use orch_tests::needle::{self, Needle};
use orch_tests::process;
use orch_tests::reply::Reply;
use serde_json::json;

use crate::stage::{
    INPUT, Mode, OPENAI_KEY, OPENAI_SAYS, Stage, fake_openai, guest, orch, summarizer, summary, text,
};

#[test]
fn an_answer_is_the_same_as_that_of_a_run_here() {
    let stage = Stage::cold();
    let agent = summarizer(&["gpt-4o-mini"]);
    let embedded = summary(
        stage.run_in(Mode::Embedded, agent.path(), INPUT).env("OPENAI_API_KEY", OPENAI_KEY).run(),
        OPENAI_SAYS,
    );
    let local = summary(stage.run_with_keys(&agent, INPUT).run(), OPENAI_SAYS);
    for field in ["status", "output", "simulated"] {
        assert_eq!(embedded[field], local[field], "{field}");
    }
    assert_eq!(embedded["calls"][0]["credential"]["source"], "env");
    let keys = |report: &serde_json::Value| {
        report.as_object().expect("an object").keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys(&embedded), keys(&local));
    // Without --json the output alone, as always.
    let outcome =
        stage.orch(["run", "--input", INPUT]).arg(agent.path()).env("OPENAI_API_KEY", OPENAI_KEY).run();
    assert_eq!(outcome.expect(0).json()["summary"], OPENAI_SAYS);
}

#[test]
fn keys_come_from_flag_environment_and_vault() {
    let stage = Stage::cold();
    let agent = summarizer(&["gpt-4o-mini"]);
    stage.run_in(Mode::Embedded, agent.path(), INPUT).run().expect(3).silent();
    let run = || stage.run_in(Mode::Embedded, agent.path(), INPUT);
    let flag = run().arg("--key-stdin").stdin(OPENAI_KEY).run();
    assert_eq!(summary(flag, OPENAI_SAYS)["calls"][0]["credential"]["source"], "flag");
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    assert_eq!(summary(run().run(), OPENAI_SAYS)["calls"][0]["credential"]["source"], "vault");
    stage.openai.took_key(OPENAI_KEY);
}

#[test]
fn a_key_of_the_environment_is_kept_nowhere() {
    let stage = Stage::cold();
    let agent = summarizer(&["gpt-4o-mini"]);
    let outcome =
        stage.run_in(Mode::Embedded, agent.path(), INPUT).env("OPENAI_API_KEY", OPENAI_KEY).run().expect(0);
    let needle = Needle::new(OPENAI_KEY);
    needle::none(&outcome.search(&needle));
    needle::none(&stage.home.search(&needle));
}

#[test]
fn agents_are_named_or_lie_at_a_path() {
    let home = Home::cold();
    let run = |agent: &str| orch(&home).args(["run", agent, "--simulate", "--json", "--input", INPUT]).run();
    run("orch/summarizer").expect(0);
    run("orch/summarizer@99.0.0").expect(2);
    let missing = run("acme/absent").expect(2).silent();
    assert_eq!(missing.error()["code"], "agent_not_found", "{missing}");
    let nothing = run("./absent").expect(2).silent();
    assert_eq!(nothing.error()["code"], "agent_not_found", "{nothing}");

    let echo = guest("echo", &json!({}));
    let bare = text(echo.path().join("agent.wasm"));
    let outcome = orch(&home).args(["run", &bare, "--simulate", "--json", "--input", "[1]"]).run().expect(0);
    assert_eq!(outcome.json()["output"], json!([1]));
}

#[test]
fn a_failure_has_its_exit_code_and_the_report_in_its_details() {
    let stage = Stage::cold();
    let outcome = stage
        .run_in(Mode::Embedded, guest("exit7", &json!({})).path(), "{}")
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .run()
        .expect(1)
        .silent();
    let error = outcome.error();
    assert!(error["details"]["run"]["run_id"].is_string(), "{outcome}");
    let input =
        stage.run_in(Mode::Embedded, "orch/summarizer", "{}").arg("--simulate").run().expect(2).silent();
    assert_eq!(input.error()["code"], "input_mismatch", "{input}");
    let limit = stage
        .run_in(Mode::Embedded, guest("spinner", &json!({})).path(), "{}")
        .args(["--time", "1s"])
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .run()
        .expect(6);
    assert_eq!(limit.error()["details"]["run"]["status"], limit.error()["code"], "{limit}");
}

#[test]
fn what_nobody_granted_is_refused_and_what_the_flag_grants_is_not() {
    let stage = Stage::cold();
    let agent = guest("wanderer", &json!({ "egress": [{ "host": "api.github.com", "methods": ["GET"] }] }));
    let run =
        || stage.run_in(Mode::Embedded, agent.path(), r#"{"requests":[]}"#).env("OPENAI_API_KEY", OPENAI_KEY);
    let refused = run().run().expect(4).silent();
    let error = refused.error();
    assert_eq!(error["code"], "not_granted", "{refused}");
    assert_eq!(error["hints"][0], "--allow api.github.com", "{refused}");
    assert_eq!(error["details"]["name"], "test/wanderer", "{refused}");
    run().args(["--allow", "api.github.com"]).run().expect(0);
}

#[test]
fn a_folder_of_this_machine_can_be_mounted() {
    let stage = Stage::cold();
    let agent = guest("echo", &json!({ "files": [{ "path": "/data", "access": "read" }] }));
    let run = || stage.run_in(Mode::Embedded, agent.path(), "1").env("OPENAI_API_KEY", OPENAI_KEY);
    let missing = run().run().expect(4).silent();
    assert_eq!(missing.error()["code"], "mount_missing", "{missing}");
    let folder = text(stage.home.work());
    run().args(["--mount", &format!("{folder}::/data:ro")]).run().expect(0);
    // A relative path is one of the command's working directory.
    run().args(["--mount", ".::/data:ro"]).run().expect(0);
}

#[test]
fn a_run_is_on_record() {
    let stage = Stage::cold();
    let agent = summarizer(&["gpt-4o-mini"]);
    let nothing = stage.orch(["logs", "latest", "--json"]).run().expect(2).silent();
    assert_eq!(nothing.error()["code"], "run_not_found", "{nothing}");
    let report = summary(
        stage.run_in(Mode::Embedded, agent.path(), INPUT).env("OPENAI_API_KEY", OPENAI_KEY).run(),
        OPENAI_SAYS,
    );
    let run = report["run_id"].as_str().expect("an id");
    let newest = stage.orch(["logs", "latest", "--json"]).run().expect(0).json();
    assert_eq!(newest["run"], run, "{newest:#}");
    let log = stage.orch(["logs", run]).run().expect(0);
    assert!(log.stdout().contains(OPENAI_SAYS), "the summarizer logs the words as they come: {log}");
    let followed = stage.orch(["logs", run, "--follow"]).run().expect(0);
    assert_eq!(followed.stdout(), log.stdout());

    let usage = stage.orch(["usage", "--json", "--by", "agent"]).run().expect(0).json();
    assert_eq!(usage["rows"][0]["key"], "test/summarizer", "{usage:#}");
    assert_eq!((&usage["total"]["runs"], &usage["total"]["calls"]), (&json!(1), &json!(1)), "{usage:#}");
    let table = stage.orch(["usage", "--since", "1d"]).run().expect(0);
    assert!(table.stdout().starts_with("day ") && table.stdout().contains("\ntotal"), "{table}");
    let none = stage.orch(["usage", "--json", "--until", "2020-01-01"]).run().expect(0).json();
    assert_eq!(none["rows"], json!([]), "{none:#}");
}

#[test]
fn ctrl_c_ends_the_run_and_its_worker() {
    let stage = Stage::cold();
    let gate = Gate::closed();
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    stage.openai.script([Reply::sse(fake_openai().stream(&asked)).held(&gate)]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let running = stage.run_in(Mode::Embedded, agent.path(), INPUT).env("OPENAI_API_KEY", OPENAI_KEY).start();
    stage.openai.wait_for(1);
    let workers = running.workers();
    assert!(!workers.is_empty());
    running.interrupt();
    let outcome = running.finish().expect(130).silent();
    assert_eq!(outcome.error()["code"], "interrupted", "{outcome}");
    stage.openai.wait_closed();
    for worker in workers {
        assert!(!process::alive(worker), "worker {worker} outlives its run");
    }
}

#[test]
fn a_socket_that_nobody_listens_on_is_passed_over() {
    let home = Home::cold();
    let folder = home.orch().join("data");
    std::fs::create_dir(&folder).expect("a new folder");
    let socket = folder.join("server.sock");
    drop(UnixListener::bind(&socket).expect("bound"));
    assert!(std::fs::metadata(&socket).is_ok(), "what a server that was killed leaves");
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("our own");
    let outcome = orch(&home).args(["whoami"]).run().expect(0);
    assert_eq!(outcome.stdout(), "owner in the workspace default (admin) at this home\n");
    let uid = std::fs::metadata(home.orch()).expect("there").uid();
    assert_eq!(std::fs::metadata(&socket).expect("still there").uid(), uid);
}

#[test]
fn what_needs_a_server_says_so() {
    let home = Home::cold();
    let outcome = orch(&home)
        .args(["run", "orch/summarizer", "--detach", "--simulate", "--json"])
        .run()
        .expect(2)
        .silent();
    assert_eq!(outcome.error()["code"], "detach_needs_server", "{outcome}");
    orch(&home).args(["run", "--local", "--detach", "x"]).run().expect(2).silent();
}

#[test]
fn a_scenario_file_is_sent_as_text() {
    let home = Home::cold();
    let file = home.file("scenario.yaml", "providers: { openai: server-error }\n");
    let outcome = orch(&home)
        .args(["run", "orch/summarizer", "--json", "--input", INPUT, &format!("--simulate={}", text(file))])
        .run();
    // Whatever the scenario makes of it, it is this file's: the same as a run here.
    let local = orch(&home)
        .args(["run", "--local", "orch/summarizer", "--json", "--input", INPUT, "--simulate=./scenario.yaml"])
        .run();
    assert_eq!(outcome.code(), local.code(), "{outcome}\n{local}");
}
