//! Gemini in its own dialect: as a provider, and as what guests speak.

use std::iter::repeat_n;

use orch_tests::fakes::Failure;
use orch_tests::fakes::gemini::calls;
use serde_json::{Value, json};

use crate::stage::{
    ANTHROPIC_KEY, ANTHROPIC_SAYS, GEMINI_KEY, GEMINI_SAYS, INPUT, Stage, attempts, fake_gemini, guest,
    receipt, refused, summarizer, summary,
};

/// More than any policy retries.
const ALWAYS: usize = 20;

fn asking() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "Do ships wait?"}]}]})
}

/// A request of the `wanderer` with the key that its environment holds.
fn post(url: &str, body: &Value) -> Value {
    let headers = [["x-goog-api-key", "${GEMINI_API_KEY}"], ["content-type", "application/json"]];
    json!({"method": "POST", "url": url, "headers": headers, "body": body.to_string()})
}

/// What came of the `wanderer`'s requests, and the report.
#[track_caller]
fn wander(stage: &Stage, models: &[&str], requests: &Value) -> (Vec<Value>, Value) {
    let fields = json!({
        "supported_providers": ["gemini", "anthropic"], "llm": { "primary": models[0], "fallbacks": models[1..] },
    });
    let input = json!({ "requests": requests }).to_string();
    let outcome = stage.run_with_keys(&guest("wanderer", &fields), &input).run().expect(0);
    let report = outcome.json();
    (report["output"]["results"].as_array().expect("a list").clone(), report)
}

#[track_caller]
fn body(result: &Value) -> Value {
    let text = result["body"].as_str().unwrap_or_else(|| panic!("no answer: {result:#}"));
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_guest_with_googles_client_finds_the_gateway_by_its_environment() {
    let stage = Stage::new();
    let base = "${GOOGLE_GEMINI_BASE_URL}/v1beta/models";
    let model = format!("{base}/gemini-2.5-flash");
    let requests = json!([
        post(&format!("{model}:generateContent"), &asking()),
        post(&format!("{model}:streamGenerateContent?alt=sse"), &asking()),
        {"url": base, "headers": [["x-goog-api-key", "${GEMINI_API_KEY}"]]},
        post(&format!("{model}:countTokens"), &asking()),
        post(&format!("{model}:generateContent?key=${{GEMINI_API_KEY}}"), &asking()),
    ]);
    let (results, report) = wander(&stage, &["gemini-2.5-flash"], &requests);
    let whole = body(&results[0]);
    assert_eq!(whole["candidates"][0]["content"]["parts"][0]["text"], GEMINI_SAYS, "{whole:#}");
    let streamed = results[1]["body"].as_str().expect("a stream");
    assert!(streamed.contains("\"finishReason\":\"STOP\""), "{streamed}");
    assert_eq!(body(&results[2])["models"][0]["name"], "models/gemini/gemini-2.5-flash");
    assert_eq!(
        (&results[3]["status"], &body(&results[3])["error"]["status"]),
        (&json!(404), &json!("NOT_FOUND"))
    );
    assert_eq!(results[4]["status"], 400);
    stage.gemini.took_key(GEMINI_KEY);
    assert_eq!(stage.gemini.received().len(), 2, "only inference was asked for");
    stage.gemini.never_saw(b"orch_ph_");
    assert_eq!(report["calls"].as_array().map(Vec::len), Some(2), "{report:#}");
}

#[test]
fn a_direct_call_to_google_is_carried_by_the_gateway_and_nothing_else_there_is_reachable() {
    let stage = Stage::new();
    let host = "https://generativelanguage.googleapis.com";
    let model = format!("{host}/v1beta/models/gemini-2.5-flash");
    let requests = json!([
        post(&format!("{model}:generateContent"), &asking()),
        post(&format!("{model}:streamGenerateContent?alt=sse"), &asking()),
        post(&format!("{model}:countTokens"), &asking()),
        post(&format!("{host}/v1beta/files"), &asking()),
        {"url": format!("{host}/v1beta/models"), "headers": [["x-goog-api-key", "${GEMINI_API_KEY}"]]},
        post(&format!("{model}:generateContent?key=${{GEMINI_API_KEY}}"), &asking()),
        {"method": "POST", "url": format!("{model}:generateContent"), "body": asking().to_string()},
    ]);
    let (results, report) = wander(&stage, &["gemini-2.5-flash"], &requests);
    assert_eq!(body(&results[0])["candidates"][0]["content"]["parts"][0]["text"], GEMINI_SAYS, "{report:#}");
    assert!(results[1]["body"].as_str().is_some_and(|stream| stream.contains("STOP")), "{report:#}");
    assert!(results[2..5].iter().all(refused), "{report:#}");
    assert_eq!(results[5]["status"], 400, "{report:#}");
    assert_eq!(body(&results[6])["error"]["details"][0]["reason"], "API_KEY_INVALID");
    stage.gemini.took_key(GEMINI_KEY);
    assert_eq!(stage.gemini.received().len(), 2);
    stage.gemini.never_saw(b"orch_ph_");
}

#[test]
fn an_openai_client_streams_a_tool_call_of_gemini() {
    let stage = Stage::new();
    stage.gemini.script([calls("tide", &json!({"port": "Züri"}))]);
    let schema =
        json!({"type": "object", "properties": {"port": {"type": "string"}}, "additionalProperties": false});
    let asked = json!({
        "model": "default", "stream": true, "messages": [{"role": "user", "content": "When is the tide?"}],
        "tools": [{"type": "function", "function": {"name": "tide", "parameters": schema}}], "tool_choice": "required",
    });
    let url = "${OPENAI_BASE_URL}/chat/completions";
    let (results, report) = wander(&stage, &["gemini-2.5-flash"], &json!([post(url, &asked)]));
    let stream = results[0]["body"].as_str().expect("a stream");
    assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
    let chunks: Vec<Value> =
        stream.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let calls = || chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta/tool_calls/0"));
    let arguments: String =
        calls().filter_map(|call| call.pointer("/function/arguments")?.as_str()).collect();
    assert_eq!(arguments, "{\"port\":\"Züri\"}", "{stream}");
    let begun = calls().next().expect("a call");
    assert_eq!((&begun["id"], &begun["function"]["name"]), (&json!("call_fake_0"), &json!("tide")));
    assert!(stream.contains("\"finish_reason\":\"tool_calls\""), "{stream}");
    let sent = stage.gemini.only().json();
    assert_eq!(
        sent["tools"],
        json!([{"functionDeclarations": [{"name": "tide", "parameters":
            {"type": "OBJECT", "properties": {"port": {"type": "STRING"}}}}]}])
    );
    assert_eq!(sent["toolConfig"], json!({"functionCallingConfig": {"mode": "ANY"}}));
    assert!(receipt(&report)["dropped"].to_string().contains("additionalProperties"), "{report:#}");
}

#[test]
fn a_gemini_client_is_answered_by_anthropic_when_gemini_fails() {
    let stage = Stage::new();
    stage.gemini.script(repeat_n(fake_gemini().failure(Failure::OutOfMoney), ALWAYS));
    let url = "${GOOGLE_GEMINI_BASE_URL}/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
    let (results, report) =
        wander(&stage, &["gemini-2.5-flash", "claude-3-haiku"], &json!([post(url, &asking())]));
    let stream = results[0]["body"].as_str().expect("a stream");
    let said: String = stream
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| Some(chunk.pointer("/candidates/0/content/parts/0/text")?.as_str()?.to_owned()))
        .collect();
    assert_eq!(said, ANTHROPIC_SAYS, "{stream}");
    assert!(stream.contains("\"finishReason\":\"STOP\""), "{stream}");
    let row = |provider: &str, class: &str| (provider.to_owned(), class.to_owned());
    assert_eq!(attempts(&report), [row("gemini", "out_of_money"), row("anthropic", "served")]);
    stage.anthropic.took_key(ANTHROPIC_KEY);
    assert_eq!(stage.anthropic.only().json()["messages"][0]["content"][0]["text"], "Do ships wait?");
}

#[test]
fn every_failure_of_gemini_has_its_class_and_leads_on() {
    for (failure, class) in [
        (Failure::RateLimited(3600), "rate_limited"),
        (Failure::OutOfMoney, "out_of_money"),
        (Failure::BadKey, "bad_key"),
        (Failure::NoModel, "no_model"),
        (Failure::NoAccess, "no_access"),
        (Failure::Overloaded, "overloaded"),
        (Failure::ServerError, "server"),
        (Failure::TimedOut, "timeout"),
        (Failure::CutBeforeContent, "truncated"),
        (Failure::ErrorInStream, "overloaded"),
    ] {
        let stage = Stage::new();
        stage.gemini.script(repeat_n(fake_gemini().failure(failure), ALWAYS));
        let agent = summarizer(&["gemini-2.5-flash", "claude-3-haiku"]);
        let report = summary(stage.run_with_keys(&agent, INPUT).run(), ANTHROPIC_SAYS);
        let tried = attempts(&report);
        let (last, failed) = tried.split_last().expect("at least one attempt");
        assert!(
            !failed.is_empty() && failed.iter().all(|(p, c)| p == "gemini" && c == class),
            "{failure:?}: {tried:?}"
        );
        assert_eq!((last.0.as_str(), last.1.as_str()), ("anthropic", "served"), "{failure:?}");
    }
}

#[test]
fn what_is_the_requests_own_fault_stops_the_chain() {
    for (failure, class) in [
        (Failure::Filtered, "refused_by_filter"),
        (Failure::TooLong, "context_too_long"),
        (Failure::BadRequest, "bad_request"),
    ] {
        let stage = Stage::new();
        stage.gemini.script(repeat_n(fake_gemini().failure(failure), ALWAYS));
        let agent = summarizer(&["gemini-2.5-flash", "claude-3-haiku"]);
        let outcome = stage.run_with_keys(&agent, INPUT).run().silent();
        assert_ne!(outcome.code(), Some(0), "{failure:?}: {outcome}");
        let tried = attempts(&outcome.error()["details"]["run"]);
        assert_eq!(tried, [("gemini".to_owned(), class.to_owned())], "{outcome}");
        stage.anthropic.untouched();
    }
}

#[test]
fn half_a_stream_of_gemini_is_no_answer() {
    let stage = Stage::new();
    stage.gemini.script([fake_gemini().failure(Failure::CutInContent)]);
    let agent = summarizer(&["gemini-2.5-flash", "claude-3-haiku"]);
    let outcome = stage.run_with_keys(&agent, INPUT).run();
    assert_ne!(outcome.code(), Some(0), "{outcome}");
    stage.anthropic.untouched();
}
