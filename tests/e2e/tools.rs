//! `orch/tool-loop`: a model that calls tools, on simulated providers and on one that says what a test wants.

use orch_tests::home::Home;
use orch_tests::orch::{Orch, Outcome};
use orch_tests::reply::{Piece, Reply};
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{Mode, OPENAI_KEY, OPENAI_SAYS, Stage, in_every_mode, orch};

const AGENT: &str = "orch/tool-loop";

const QUESTION: &str = "How many kilometres are 26.2 miles, and what is 12 * (7 + 5)? \
                        How many days are there from 2026-01-15 to 2026-03-01? Then what is 2 ^ 10?";

fn simulated(mode: Mode, home: &Home, input: &Value) -> Orch {
    let input = input.to_string();
    orch(home).args(["run", "--json", "--simulate"]).args(mode.flags()).args([AGENT, "--input", &input])
}

/// The calls of a run as `(turn, tool, result or error)`.
fn calls(outcome: &Outcome) -> Vec<(u64, String, String)> {
    let report = outcome.json();
    let calls = report["output"]["calls"].as_array().unwrap_or_else(|| panic!("no calls: {outcome}")).clone();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let call = |call: &Value| {
        let outcome = text(&call["result"]).or_else(|| text(&call["error"]));
        Some((call["turn"].as_u64()?, text(&call["tool"])?, outcome?))
    };
    calls.iter().map(|one| call(one).unwrap_or_else(|| panic!("not a call: {one}"))).collect()
}

fn a_simulated_model_calls_tools_over_turns_and_answers_from_the_results(mode: Mode) {
    let home = Home::new();
    let expected = [
        (1, "convert_unit", "26.2 miles = 42.1648128 kilometres"),
        (1, "calculate", "12 * (7 + 5) = 144"),
        (1, "days_between", "From 2026-01-15 to 2026-03-01 it is 45 days"),
        (2, "calculate", "2 ^ 10 = 1024"),
    ]
    .map(|(turn, tool, result)| (turn, tool.to_owned(), result.to_owned()));
    // Each dialect carries calls and results in a form of its own.
    for provider in ["openai", "anthropic", "gemini"] {
        let outcome =
            simulated(mode, &home, &json!({ "question": QUESTION })).args(["--provider", provider]).run();
        let outcome = outcome.expect(0);
        assert_eq!(calls(&outcome), expected, "{provider}: {outcome}");
        let output = &outcome.json()["output"];
        assert_eq!(output["turns"], 3, "{provider}: {outcome}");
        let answer = output["answer"].as_str().expect("text");
        for (_, _, result) in &expected {
            assert!(answer.contains(result), "{provider}: {result:?} is not in {answer:?}");
        }
    }
}

fn a_question_without_work_is_answered_at_once(mode: Mode) {
    let home = Home::new();
    let outcome = simulated(mode, &home, &json!({ "question": "Who are you?" })).run().expect(0);
    let output = &outcome.json()["output"];
    assert_eq!((&output["turns"], &output["calls"]), (&json!(1), &json!([])), "{outcome}");
}

/// An answer that calls tools, streamed as OpenAI does.
fn calling(calls: &[(&str, &str)]) -> Reply {
    let chunk = |delta: Value, finish: Option<&str>| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        let chunk = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": "gpt-4o-mini", "choices": [choice],
        });
        Piece::text(format!("data: {chunk}\n\n"))
    };
    let mut pieces = vec![chunk(json!({ "role": "assistant", "content": null }), None)];
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let function = json!({ "name": name, "arguments": "" });
        let first = json!({ "index": index, "id": format!("call_{index}"), "type": "function", "function": function });
        pieces.push(chunk(json!({ "tool_calls": [first] }), None));
        let more = json!({ "index": index, "function": { "arguments": arguments } });
        pieces.push(chunk(json!({ "tool_calls": [more] }), None));
    }
    pieces.push(chunk(json!({}), Some("tool_calls")));
    pieces.push(Piece::text("data: [DONE]\n\n"));
    Reply::sse(pieces)
}

fn ask(stage: &Stage, mode: Mode, input: &Value) -> Orch {
    stage.run_in(mode, AGENT, &input.to_string()).env("OPENAI_API_KEY", OPENAI_KEY)
}

fn a_tools_error_goes_back_to_the_model(mode: Mode) {
    let stage = Stage::new();
    stage.openai.script([calling(&[
        ("rm", "{}"),
        ("calculate", "{\"expression\":\"1 / 0\"}"),
        ("calculate", "{\"expression\":"),
        ("calculate", "{\"expression\":\"6 * 7\"}"),
    ])]);
    let outcome = ask(&stage, mode, &json!({ "question": "What is it?" })).run().expect(0);
    assert_eq!(outcome.json()["output"]["answer"], OPENAI_SAYS, "{outcome}");
    let made = calls(&outcome);
    let said: Vec<&str> = made.iter().map(|(_, _, outcome)| outcome.as_str()).collect();
    assert!(said[0].starts_with("there is no tool \"rm\""), "{said:?}");
    assert_eq!((said[1], said[3]), ("divided by zero", "6 * 7 = 42"));
    assert_eq!(outcome.json()["output"]["calls"][2]["arguments"], "{\"expression\":", "{outcome}");

    let asked = stage.openai.received();
    assert_eq!(asked.len(), 2);
    let messages = asked[1].json()["messages"].as_array().expect("a list").clone();
    let [_, _, assistant, results @ ..] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(assistant["tool_calls"].as_array().map(Vec::len), Some(4), "{assistant}");
    let told: Vec<&Value> = results.iter().map(|message| &message["content"]).collect();
    assert_eq!(told[1], "error: divided by zero");
    assert_eq!(told[3], "6 * 7 = 42");
    assert_eq!(results[3]["tool_call_id"], assistant["tool_calls"][3]["id"]);
}

fn a_model_that_never_stops_calling_is_stopped(mode: Mode) {
    let mut stage = Stage::new();
    let again = |_: &Received| calling(&[("calculate", "{\"expression\":\"1 + 1\"}")]);
    let tireless = Upstream::https(&stage.ca, &["api.openai.com"], again);
    let address = tireless.address();
    stage.configure(|config| config.connect("api.openai.com:443", address));
    let outcome = ask(&stage, mode, &json!({ "question": "What?", "max_turns": 3 })).run().expect(1).silent();
    outcome.says("the model still wanted tools after 3 turns and 3 calls");
    assert_eq!(tireless.received().len(), 3);
}

fn a_model_that_calls_everything_at_once_is_stopped(mode: Mode) {
    let mut stage = Stage::new();
    let many = |_: &Received| calling(&[("calculate", "{\"expression\":\"1\"}"); 65]);
    let greedy = Upstream::https(&stage.ca, &["api.openai.com"], many);
    let address = greedy.address();
    stage.configure(|config| config.connect("api.openai.com:443", address));
    ask(&stage, mode, &json!({ "question": "What?" }))
        .run()
        .expect(1)
        .silent()
        .says("the model wanted more than 64 tool calls");
}

in_every_mode! {
    a_simulated_model_calls_tools_over_turns_and_answers_from_the_results
    a_question_without_work_is_answered_at_once
    a_tools_error_goes_back_to_the_model
    a_model_that_never_stops_calling_is_stopped
    a_model_that_calls_everything_at_once_is_stopped
}
