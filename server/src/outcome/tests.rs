use std::sync::Mutex;

use orch_runner::Usage;
use serde_json::json;

use super::*;
use crate::permissions::{Answer, Question};
use crate::stage::{ONE_MODEL, Stage};

fn ended(exit: Exit) -> RunOutcome {
    let usage = Usage {
        cpu_us: 2_500,
        wall_us: 1_000_000,
        memory_peak: 65_536,
        stdout_bytes: 7,
        stderr_bytes: 0,
        scratch: None,
    };
    RunOutcome { exit, usage, message: None }
}

/// Concludes a run of this stage whose guest ended so.
fn concluded(
    stage: &Stage,
    outcome: RunOutcome,
    output: &str,
    schema: Option<&Schema>,
) -> Result<Report, Failure> {
    conclude(&Finished {
        run: stage.run.clone(),
        agent: "acme/x".to_owned(),
        outcome,
        output: output.as_bytes().to_vec(),
        output_schema: schema,
        grant: &stage.grant,
        decisions: &stage.grant.ledger().decisions(),
        session: stage.session.as_deref(),
        limits: &stage.limits,
        duration: Duration::from_millis(1_500),
        simulated: true,
    })
}

/// The failure of a guest that exits with 1 after all that happened on the stage.
fn failed(stage: &Stage) -> Failure {
    concluded(stage, ended(Exit::Status(1)), "", None).expect_err("the agent failed")
}

async fn refused_request(stage: &Stage) {
    assert_eq!(stage.send("GET", "https://example.com/", "").await.status, 403);
}

#[tokio::test]
async fn an_answer_comes_with_its_report() {
    let stage = Stage::new("ok", ONE_MODEL).await;
    assert_eq!(stage.think().await.status, 200);
    refused_request(&stage).await;
    let report = concluded(&stage, ended(Exit::Status(0)), " {\"a\":1}\n", None).expect("an answer");
    let report = serde_json::to_value(&report).expect("JSON");
    assert_eq!((&report["status"], &report["output"]), (&json!("ok"), &json!({"a": 1})));
    assert_eq!(report["run_id"], json!(stage.run));
    assert_eq!((&report["duration_ms"], &report["simulated"]), (&json!(1_500), &json!(true)));
    assert_eq!(report["calls"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&report["egress"]["allowed"], &report["egress"]["denied"][0]["host"]),
        (&json!(1), &json!("example.com"))
    );
    let tokens = report["usage"]["input_tokens"].as_u64().zip(report["usage"]["output_tokens"].as_u64());
    let (sent, received) = tokens.expect("counted");
    assert!(sent > 0 && received > 0, "{report:#}");
    assert!(report["usage"]["cost_usd"].as_f64().is_some_and(|usd| usd > 0.0), "{report:#}");
    let limits = &report["limits"];
    assert_eq!(limits["tokens"], json!({ "limit": 1_000_000, "used": sent + received }));
    assert_eq!(limits["requests"], json!({ "limit": 500, "used": 2 }));
    assert_eq!(limits["cpu_ms"], json!({ "limit": 60_000, "used": 2 }));
    assert_eq!(limits["time_ms"], json!({ "limit": 300_000, "used": 1_000 }));
    assert_eq!(limits["memory_bytes"], json!({ "limit": 256 << 20, "used": 65_536 }));
    assert_eq!(limits["output_bytes"], json!({ "limit": 10 << 20, "used": 7 }));
    assert_eq!(limits["cost_micro_usd"]["limit"], Value::Null);
    for way in ["upload_bytes", "download_bytes"] {
        assert_eq!(limits[way]["limit"], json!(1 << 30));
        assert!(limits[way]["used"].as_u64().is_some_and(|used| used > 100), "{limits:#}");
    }
    stage.end().await;
}

#[tokio::test]
async fn output_must_be_json_that_fits_its_schema() {
    let stage = Stage::new("ok", ONE_MODEL).await;
    let schema =
        Schema::compile(&json!({ "type": "object", "required": ["summary"] }), "output").expect("a schema");
    let conclude = |output: &str, schema| concluded(&stage, ended(Exit::Status(0)), output, schema);
    assert_eq!(conclude("", None).expect("nothing written is null").output, Value::Null);
    assert!(conclude("{\"summary\":1}", Some(&schema)).is_ok());
    for (output, code) in [
        ("not json", "output_invalid"),
        ("{} {}", "output_invalid"),
        ("", "output_mismatch"),
        ("{\"sumary\":1}", "output_mismatch"),
    ] {
        let failure = conclude(output, Some(&schema)).expect_err(output);
        assert_eq!((failure.kind(), failure.code()), (Kind::Agent, code), "{output}");
        let details = &failure.to_json()["error"]["details"];
        assert_eq!((&details["run"]["status"], &details["run"]["output"]), (&json!(code), &Value::Null));
    }
    stage.end().await;
}

#[tokio::test]
async fn by_itself_a_failure_is_the_agent_s_own() {
    let stage = Stage::new("ok", ONE_MODEL).await;
    let failure = failed(&stage);
    assert_eq!((failure.kind(), failure.code()), (Kind::Agent, "agent_failed"));
    assert!(failure.message().contains("status 1"), "{failure}");

    let trap = Exit::Trap { message: "x".repeat(10_000) };
    let outcome = RunOutcome { message: Some("it ran out of stack".to_owned()), ..ended(trap) };
    let failure = concluded(&stage, outcome, "", None).expect_err("trapped");
    assert_eq!((failure.kind(), failure.code()), (Kind::Agent, "agent_trapped"));
    assert!(failure.message().len() < 3_000 && failure.hints() == ["it ran out of stack"], "{failure}");

    let failure = concluded(&stage, ended(Exit::Cancelled), "", None).expect_err("stopped");
    assert_eq!(failure.kind(), Kind::Interrupted);
    stage.end().await;
}

#[tokio::test]
async fn after_a_refusal_it_is_the_refusal_s_doing() {
    let stage = Stage::new("ok", ONE_MODEL).await;
    refused_request(&stage).await;
    refused_request(&stage).await;
    let failure = failed(&stage);
    assert_eq!((failure.kind(), failure.code()), (Kind::Denied, "denied"));
    assert!(failure.message().contains("https://example.com:443/"), "{failure}");
    assert!(failure.message().ends_with("(and 1 more)"), "{failure}");
    assert!(!failure.hints().is_empty(), "the way to allow it is said");
    // An agent that came through all the same has succeeded.
    assert!(concluded(&stage, ended(Exit::Status(0)), "1", None).is_ok());
    stage.end().await;
}

#[tokio::test]
async fn when_no_provider_answered_that_goes_before_a_refusal() {
    let stage = Stage::new("out-of-money", ONE_MODEL).await;
    refused_request(&stage).await;
    assert!(stage.think().await.status.is_client_error() || stage.think().await.status.is_server_error());
    let failure = failed(&stage);
    assert_eq!((failure.kind(), failure.code()), (Kind::Providers, "providers_failed"));
    assert!(failure.message().contains("openai/gpt-4o-mini"), "{failure}");
    assert!(failure.hints().iter().any(|hint| hint.contains("money")), "{:?}", failure.hints());
    stage.end().await;
}

#[tokio::test]
async fn when_every_key_was_rejected_it_is_about_keys() {
    let stage = Stage::new("bad-key", ONE_MODEL).await;
    assert!(!stage.think().await.status.is_success());
    let failure = failed(&stage);
    assert_eq!((failure.kind(), failure.code()), (Kind::NoKey, "keys_rejected"));
    assert!(failure.hints().iter().any(|hint| hint.contains("orch secrets")), "{:?}", failure.hints());
    stage.end().await;
}

#[tokio::test]
async fn a_limit_goes_before_everything() {
    let tokens = Stage::new("bad-key", &format!("{ONE_MODEL}limits: {{ tokens: 5 }}\n")).await;
    refused_request(&tokens).await;
    assert!(!tokens.think().await.status.is_success());
    let failure = failed(&tokens);
    assert_eq!((failure.kind(), failure.code()), (Kind::Limit, "limit_reached"));
    assert_eq!(failure.to_json()["error"]["details"]["limit"]["name"], "tokens");
    tokens.end().await;

    let requests = Stage::new("ok", &format!("{ONE_MODEL}limits: {{ requests: 1 }}\n")).await;
    refused_request(&requests).await;
    assert_eq!(failed(&requests).kind(), Kind::Denied, "all used, and none was wanted beyond");
    let _ = requests.send("GET", "https://example.com/", "").await;
    let failure = failed(&requests);
    assert_eq!((failure.kind(), failure.code()), (Kind::Limit, "limit_reached"));
    assert_eq!(
        failure.to_json()["error"]["details"]["limit"],
        json!({ "name": "requests", "used": 1, "limit": 1 })
    );
    requests.end().await;
}

#[tokio::test]
async fn a_limit_of_the_network_says_which_and_where_it_is_set() {
    for (limit, calls, name, said) in [
        ("download: 10B", 1, "download", "all of the 10 bytes that it may receive are used"),
        ("upload: 5B", 1, "upload", "all of the 5 bytes that it may send are used"),
        ("rate: 1/h", 2, "rate", "requests came faster than they may"),
        ("per_host: { requests: 1 }", 2, "per_host.requests", "all of its 1 requests to one host are used"),
        (
            "per_host: { download: 1KiB }",
            9,
            "per_host.download",
            "1 KiB that it may receive from one host are used",
        ),
    ] {
        let stage = Stage::new("ok", &format!("{ONE_MODEL}limits: {{ {limit} }}\n")).await;
        let mut answers = Vec::new();
        for _ in 0..calls {
            answers.push(stage.think().await.status);
        }
        assert!(answers.last().is_some_and(|status| !status.is_success()), "{limit}: {answers:?}");
        let failure = failed(&stage);
        assert_eq!((failure.kind(), failure.code()), (Kind::Limit, "limit_reached"), "{limit}: {failure}");
        assert!(failure.message().ends_with(said), "{failure}");
        assert!(failure.hints()[0].contains(&format!("`limits.{name}`")), "{:?}", failure.hints());
        assert_eq!(failure.to_json()["error"]["details"]["limit"]["name"], name);
        stage.end().await;
    }
}

#[tokio::test]
async fn a_limit_of_the_sandbox_says_what_was_used_in_its_unit() {
    let stage = Stage::new("ok", ONE_MODEL).await;
    for (name, used, limit, said, flag) in [
        (LimitName::Memory, 300 << 20, 256 << 20, "300.0 MiB of 256.0 MiB", "--memory"),
        (LimitName::Time, 1_500_000, 1_000_000, "1.5 s of 1.0 s", "--time"),
        (LimitName::Cpu, 2_000_000, 1_000_000, "2.0 s of 1.0 s", "limits.cpu"),
        (LimitName::Output, 2_048, 1_024, "2 KiB of 1 KiB", "limits.output"),
        (LimitName::Log, 2_048, 1_024, "2 KiB of 1 KiB", "limits.log"),
        (LimitName::Resources, 11, 10, "11 of 10", "limits.resources"),
        (LimitName::Scratch, 3 << 20, 3 << 20, "3.0 MiB of 3.0 MiB", "limits.scratch"),
        (LimitName::ScratchFiles, 7, 7, "7 of 7", "limits.scratch_files"),
    ] {
        let failure =
            concluded(&stage, ended(Exit::Limit { name, used, limit }), "", None).expect_err("a limit");
        assert_eq!((failure.kind(), failure.code()), (Kind::Limit, "limit_reached"));
        assert!(failure.message().ends_with(said), "{failure}");
        assert!(failure.hints()[0].contains(flag), "{:?}", failure.hints());
        let detail = &failure.to_json()["error"]["details"]["limit"];
        assert_eq!((&detail["used"], &detail["limit"]), (&json!(used), &json!(limit)));
    }
    stage.end().await;
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn event(&self, event: Event<'_>) {
        if let Event::Refused(text) = event {
            self.0.lock().expect("unpoisoned").push(text.to_owned());
        }
    }

    fn ask(&self, _: &Question) -> Answer {
        Answer::Deny
    }
}

#[tokio::test]
async fn each_refusal_is_told_once() {
    let (stage, heard) = (Stage::new("ok", ONE_MODEL).await, Heard::default());
    let told = tell_refusals(&stage.grant, 0, &Known::default(), &heard);
    refused_request(&stage).await;
    let told = tell_refusals(&stage.grant, told, &Known::default(), &heard);
    let told = tell_refusals(&stage.grant, told, &Known::default(), &heard);
    refused_request(&stage).await;
    assert_eq!(tell_refusals(&stage.grant, told, &Known::default(), &heard), 2);
    let heard = heard.0.into_inner().expect("unpoisoned");
    assert_eq!(heard.len(), 2);
    assert!(heard[0].starts_with("GET https://example.com:443/: "), "{heard:?}");
    stage.end().await;
}
