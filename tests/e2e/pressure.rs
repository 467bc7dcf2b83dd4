//! Guests that take too much, too slowly, or too much at once.

use orch_tests::gate::Gate;
use orch_tests::guests::Agent;
use orch_tests::orch::{Orch, Outcome};
use orch_tests::reply::{Piece, Reply};
use orch_tests::upstream::{Host, Upstream};
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{
    INPUT, Mode, OPENAI_KEY, OPENAI_SAYS, Stage, fake_openai, guest, in_every_mode, refused, summarizer,
    summary,
};

fn run(stage: &Stage, mode: Mode, agent: &Agent, input: &Value) -> Orch {
    stage.run_in(mode, agent.path(), &input.to_string()).env("OPENAI_API_KEY", OPENAI_KEY)
}

/// Fails unless the run was ended by this limit, and says so.
#[track_caller]
fn ended_by(outcome: Outcome, limit: &str) -> Outcome {
    let outcome = outcome.expect(6).silent();
    let error = outcome.error();
    assert!(error["message"].as_str().is_some_and(|text| text.contains(limit)), "not {limit}: {error}");
    outcome
}

fn what_is_written_to_stdout_without_end_ends_the_run(mode: Mode) {
    let stage = Stage::new();
    let agent = guest("flood", &json!({ "limits": { "output": "1MiB" } }));
    ended_by(run(&stage, mode, &agent, &json!({})).run(), "output");
}

fn what_is_written_to_stderr_without_end_ends_the_run_too(mode: Mode) {
    let stage = Stage::new();
    let agent = guest("flood", &json!({ "limits": { "output": "1MiB" } }));
    let outcome = ended_by(run(&stage, mode, &agent, &json!({ "stderr": true })).run(), "log");
    assert!(outcome.stderr.len() < 8 << 20, "{} bytes of log were passed on", outcome.stderr.len());
}

/// More than the sockets and buffers on the way hold together.
const ENDLESS: usize = 32 << 20;
/// One event of an endless stream, in bytes of text.
const EVENT: usize = 16 << 10;

/// A model that streams much more than anybody reads, where it is asked to go on for ever; `taken` opens when all of
/// it was taken from it all the same.
fn endless(taken: &Gate) -> impl Host {
    let event = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "gpt-4o-mini",
        "choices": [{ "index": 0, "delta": { "content": "x".repeat(EVENT) }, "finish_reason": null }],
    });
    let event = Piece::text(format!("data: {event}\n\n"));
    let (model, taken) = (fake_openai(), taken.clone());
    move |request: &Received| {
        if !request.carries(b"Go on for ever.") || request.json()["stream"] != json!(true) {
            return model.answer(request);
        }
        let mut pieces = vec![event.clone(); ENDLESS / EVENT];
        pieces.push(Piece::Open(taken.clone()));
        Reply::sse(pieces)
    }
}

fn a_reply_that_is_hardly_read_waits_at_its_sender_and_stops_nobody(mode: Mode) {
    let mut stage = Stage::new();
    let taken = Gate::closed();
    let model = Upstream::https(&stage.ca, &["api.openai.com"], endless(&taken));
    let address = model.address();
    stage.configure(|config| config.connect("api.openai.com:443", address));
    let input = json!({ "streams": 8, "others": 3, "every_ms": 100 });
    let agent = guest("drip", &json!({ "llm": { "primary": "gpt-4o-mini" }, "limits": { "time": "20s" } }));
    let dripping = run(&stage, mode, &agent, &input).start();
    // Its own other requests are answered while eight replies stand still.
    dripping.wait_says("dripping");
    // And so are those of another run.
    let summarizer = summarizer(&["gpt-4o-mini"]);
    let other = stage.run_in(mode, summarizer.path(), INPUT).env("OPENAI_API_KEY", OPENAI_KEY).run();
    summary(other, OPENAI_SAYS);

    let outcome = ended_by(dripping.finish(), "time");
    assert_eq!(outcome.stderr().matches("another reply: 200").count(), 3, "{outcome}");
    assert!(!taken.is_open(), "{ENDLESS} bytes were taken for a guest that read a few: {outcome}");
    model.wait_closed();
}

fn requests_beyond_the_concurrent_ones_are_refused_and_the_others_answered(mode: Mode) {
    let mut stage = Stage::new();
    let gate = Gate::closed();
    let held = gate.clone();
    let host = Upstream::https(&stage.ca, &["api.example.com"], move |_: &Received| {
        Reply::text(200, "ok").held(&held)
    });
    let address = host.address();
    stage.configure(|config| config.connect("api.example.com:443", address));
    let wants = json!({ "egress": [{ "host": "api.example.com" }], "limits": { "requests": 1000 } });
    let agent = guest("swarm", &wants);
    let input = json!({ "url": "https://api.example.com/", "count": 80 });
    let swarm = run(&stage, mode, &agent, &input).args(["--allow", "api.example.com"]).start();
    host.wait_for(64);
    swarm.wait_says("16 of 80 have ended");
    assert_eq!(host.received().len(), 64);
    gate.open();
    let outcome = swarm.finish().expect(0);
    let output = &outcome.json()["output"];
    assert_eq!(output["answers"]["200"], 64, "{outcome}");
    let ways = ["answers", "failures"].map(|list| output[list].as_object().expect("an object").clone());
    let turned_away: Vec<(String, Value)> =
        ways.into_iter().flatten().filter(|(how, _)| how.as_str() != "200").collect();
    let [(reason, count)] = &turned_away[..] else { panic!("more than one reason: {outcome}") };
    assert_eq!(count, 16, "{outcome}");
    assert!(reason.contains("ConnectionLimitReached"), "{reason}");
}

fn huge_headers_are_refused_and_the_run_goes_on(mode: Mode) {
    let mut stage = Stage::new();
    let host = Upstream::https(&stage.ca, &["api.example.com"], |_: &Received| Reply::text(200, "ok"));
    let address = host.address();
    stage.configure(|config| config.connect("api.example.com:443", address));
    let url = "https://api.example.com/";
    let many: Vec<Value> = (0..500).map(|n| json!([format!("x-{n}"), "1"])).collect();
    let input = json!({ "requests": [
        { "url": url, "headers": [["x-big", "b".repeat(100_000)]] },
        { "url": url, "headers": many },
        { "url": format!("{url}{}", "p".repeat(20_000)) },
        { "url": format!("{url}last") },
    ] });
    let agent = guest("wanderer", &json!({ "egress": [{ "host": "api.example.com" }] }));
    let wanderer = run(&stage, mode, &agent, &input).args(["--allow", "api.example.com"]);
    let outcome = wanderer.run().expect(0);
    let report = outcome.json();
    let results = report["output"]["results"].as_array().expect("a list");
    for result in &results[..3] {
        assert!(refused(result) || result["status"].as_u64().is_some_and(|status| status >= 400), "{result}");
    }
    assert_eq!(results[3]["status"], 200, "{outcome}");
    assert_eq!(host.only().path, "/last");
}

/// Hosts that send a guest round in circles, and elsewhere.
fn a_follower_of_redirects_leaves_no_granted_host(mode: Mode) {
    let mut stage = Stage::new();
    let host = Upstream::https(&stage.ca, &["api.example.com"], |request: &Received| match &request.query {
        Some(location) => Reply::redirect(302, location),
        None if request.path == "/round" => Reply::redirect(307, "https://api.example.com/round"),
        None => Reply::text(200, "here"),
    });
    let elsewhere = Upstream::http(|_: &Received| Reply::text(200, "inside"));
    let address = host.address();
    stage.configure(|config| config.connect("api.example.com:443", address));
    let refuses = [
        format!("http://{}/", elsewhere.address()),
        "http://api.example.com/".to_owned(),
        "https://api.example.com:8443/".to_owned(),
        "https://evil.example.org/".to_owned(),
        "https://api.openai.com/v1/files".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://metadata.google.internal/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "https:api.example.com".to_owned(),
    ];
    let mut targets: Vec<String> =
        refuses.iter().map(|to| format!("https://api.example.com/go?{to}")).collect();
    targets.push("https://api.example.com/go?https://api.example.com/end".to_owned());
    targets.push("https://api.example.com/round".to_owned());
    let requests: Vec<Value> =
        targets.iter().map(|url| json!({ "url": url, "follow_redirects": true })).collect();
    let agent = guest("wanderer", &json!({ "egress": [{ "host": "api.example.com" }] }));
    let wanderer = run(&stage, mode, &agent, &json!({ "requests": requests }));
    let outcome = wanderer.args(["--allow", "api.example.com"]).run().expect(0);
    let report = outcome.json();
    let results = report["output"]["results"].as_array().expect("a list");
    let (refusals, others) = results.split_at(refuses.len());
    for (target, result) in refuses.iter().zip(refusals) {
        assert_eq!(result["url"], *target, "{outcome}");
        assert!(refused(result), "{target} was answered: {result}");
    }
    assert_eq!((&others[0]["status"], &others[0]["body"]), (&json!(200), &json!("here")), "{outcome}");
    assert_eq!(others[1]["redirects"].as_array().map(Vec::len), Some(20), "{outcome}");
    elsewhere.untouched();
    stage.openai.untouched();
}

in_every_mode! {
    what_is_written_to_stdout_without_end_ends_the_run
    what_is_written_to_stderr_without_end_ends_the_run_too
    a_reply_that_is_hardly_read_waits_at_its_sender_and_stops_nobody
    requests_beyond_the_concurrent_ones_are_refused_and_the_others_answered
    huge_headers_are_refused_and_the_run_goes_on
    a_follower_of_redirects_leaves_no_granted_host
}
