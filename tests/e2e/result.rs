//! The result: one document on stdout, in the shape that programs rely on, and everything else on stderr.

use serde_json::{Value, json};

use crate::stage::{
    ANTHROPIC_SAYS, INPUT, OPENAI_KEY, OPENAI_SAYS, Stage, fake_openai, guest, receipt, summarizer, summary,
};

#[track_caller]
fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value
        .as_object()
        .unwrap_or_else(|| panic!("no object: {value}"))
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

#[track_caller]
fn has(value: &Value, wanted: &[&str]) {
    let present = fields(value);
    for name in wanted {
        assert!(present.contains(name), "no {name} in {value:#}");
    }
}

#[test]
fn the_json_result_has_its_shape() {
    let stage = Stage::new();
    let report = summary(stage.run_with_keys(&summarizer(&["gpt-4o-mini"]), INPUT).run(), OPENAI_SAYS);
    has(&report, &["run_id", "status", "output", "usage", "calls", "egress", "limits", "duration_ms"]);
    assert_eq!(report["status"], "ok");
    assert!(
        report["run_id"].as_str().is_some_and(|id| id.starts_with("run_") && id.len() == 30),
        "{report:#}"
    );
    has(&report["usage"], &["input_tokens", "output_tokens", "cost_usd"]);
    has(&report["egress"], &["allowed", "denied"]);
    assert_eq!(report["egress"]["denied"], json!([]));
    assert!(report["duration_ms"].is_u64());
    has(
        receipt(&report),
        &[
            "credential",
            "provider_asked",
            "model_asked",
            "provider_served",
            "model_served",
            "attempts",
            "input_tokens",
            "output_tokens",
            "cost_usd",
            "latency_ms",
            "dropped",
        ],
    );
    has(&receipt(&report)["credential"], &["id", "source", "whose"]);
    has(&receipt(&report)["attempts"][0], &["provider", "model", "latency_ms"]);
}

#[test]
fn a_receipt_says_what_was_asked_and_what_was_served() {
    let stage = Stage::new();
    stage
        .openai
        .script(std::iter::repeat_n(fake_openai().failure(orch_tests::fakes::Failure::OutOfMoney), 5));
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    let report = summary(stage.run_with_keys(&agent, INPUT).run(), ANTHROPIC_SAYS);
    let receipt = receipt(&report);
    assert_eq!(receipt["provider_asked"], "openai");
    assert_eq!(receipt["model_asked"], "gpt-4o-mini");
    assert_eq!(receipt["provider_served"], "anthropic");
    assert_eq!(receipt["model_served"], "claude-3-haiku-20240307");
    let credential = &receipt["credential"];
    assert_eq!(
        (&credential["id"], &credential["source"], &credential["whose"], &receipt["byok"]),
        (&json!("ANTHROPIC_API_KEY"), &json!("env"), &json!("own"), &json!(true))
    );
    assert_eq!(credential["mask"].as_str().map(str::len), Some(4), "the last four and no more: {credential}");
    assert_eq!(receipt["attempts"][1]["whose"], "own");
}

#[test]
fn without_json_stdout_is_the_agents_answer_alone() {
    let stage = Stage::new();
    let outcome = stage
        .orch(["run", "--local"])
        .arg(summarizer(&["gpt-4o-mini"]).path())
        .args(["--input", INPUT])
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .run()
        .expect(0);
    let answer = outcome.json();
    assert_eq!(fields(&answer), ["model", "summary"], "{outcome}");
    assert_eq!(answer["summary"], OPENAI_SAYS);
    assert!(outcome.stdout().ends_with('\n') && outcome.stdout().lines().count() == 1, "{outcome}");
    assert!(outcome.stderr().contains("summarising"), "the agent's log is on stderr: {outcome}");
}

#[test]
fn the_agents_log_never_reaches_stdout() {
    let stage = Stage::new();
    let outcome =
        stage.run_with_keys(&guest("slow", &json!({})), r#"{"ms":1}"#).run().expect(0).says("awake");
    assert_eq!(outcome.json()["output"], json!({ "slept_ms": 1 }), "{outcome}");
    assert!(!outcome.stdout().contains("awake"), "{outcome}");
}

#[test]
fn what_the_manifest_and_the_caller_set_reaches_the_agent() {
    let stage = Stage::new();
    let agent = guest("snoop", &json!({ "env": { "FROM_MANIFEST": "m", "BOTH": "m" } }));
    let outcome =
        stage.run_with_keys(&agent, "{}").args(["--env", "FROM_CALLER=c", "--env", "BOTH=c"]).run().expect(0);
    let report = outcome.json();
    let environment = &report["output"]["environment"];
    for (name, value) in [
        ("FROM_MANIFEST", "m"),
        ("FROM_CALLER", "c"),
        ("BOTH", "c"),
        ("ORCH_AGENT", "test/snoop"),
        ("ORCH_VERSION", "1.0.0"),
        ("ORCH_LLM_URL", "http://llm.orch.internal/v1"),
        ("OPENAI_BASE_URL", "http://llm.orch.internal/v1"),
        ("ANTHROPIC_BASE_URL", "http://llm.orch.internal"),
        ("GOOGLE_GEMINI_BASE_URL", "http://llm.orch.internal"),
    ] {
        assert_eq!(environment[name], value, "{name}: {outcome}");
    }
    assert_eq!(environment["ORCH_RUN_ID"], report["run_id"], "{outcome}");
}

#[test]
fn a_mounted_folder_is_what_the_agent_sees_and_no_more() {
    let stage = Stage::new();
    let outside = crate::stage::Outside::new();
    let file = outside.file("note.txt", "mounted words");
    let folder = file.parent().expect("a folder").to_owned();
    let agent = guest("snoop", &json!({ "files": [{ "path": "/data", "access": "read" }] }));
    let mount = format!("{}::/data:ro", folder.display());
    let outcome = stage
        .run_with_keys(&agent, r#"{"paths":["/data","/data/../note.txt","/data/../../etc/passwd"]}"#)
        .args(["--mount", &mount])
        .run()
        .expect(0);
    let report = outcome.json();
    let files = report["output"]["files"].as_array().expect("a list");
    assert!(files.iter().any(|f| f["head"] == "mounted words"), "{outcome}");
    for file in files {
        let path = file["path"].as_str().expect("a path");
        assert!(path == "/" || path == "." || path.starts_with("/data"), "{path}: {outcome}");
    }
    assert!(!outcome.stdout().contains("root:"), "{outcome}");
    assert!(!folder.join("snoop-was-here").exists());
}
