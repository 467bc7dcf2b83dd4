//! What the worst answers of a provider cost in memory. Alone in its process: the peak is the process's.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![allow(dead_code, reason = "the world is shared with the other tests, which use more of it")]
#![cfg(target_os = "linux")]

#[path = "gateway/upstream.rs"]
mod upstream;
#[path = "gateway/world.rs"]
mod world;

use futures_util::future::join_all;
use http::Request;
use orch_gateway::ir::Class;
use orch_proxy::full;
use serde_json::Value;
use upstream::{Reply, Then, bomb, says, stream_of};
use world::{Setup, World, hello, hello_stream};

/// Bytes of the largest answer that is read.
const LARGEST: usize = 16 << 20;

/// Nested values just below what one answer or request may hold.
const MOST_VALUES: usize = 130_000;

/// What one call, or all of one run's requests, may cost, in MiB, with the provider and its copies in the process.
const ALLOWED: u64 = 300;

/// The most memory that the process ever had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// An object in an object, a hundred deep: each costs a whole node of a map.
fn nested(bytes: usize) -> String {
    let one = format!("{}0{}", r#"{"a":"#.repeat(100), "}".repeat(100));
    vec![one.as_str(); bytes / (one.len() + 1)].join(",")
}

fn completion(beside: &str, content: &str) -> String {
    format!(
        r#"{{"id":"x","model":"m","choices":[{{"index":0,"finish_reason":"stop","message":{{"role":"assistant","content":{content}}}{beside}}}]}}"#
    )
}

fn answer(body: String) -> Reply {
    assert!(body.len() <= LARGEST);
    Reply::Whole { status: 200, headers: Vec::new(), body }
}

/// An event with tree upon tree in it, in a stream that is good otherwise.
fn event(bytes: usize) -> Reply {
    let chunk = |beside: &str| {
        format!(
            "data: {{\"id\":\"x\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"hi\"}}}}]{beside}}}\n\n"
        )
    };
    let bad = chunk(&format!(",\"x\":[{}]", nested(bytes)));
    Reply::Stream { pieces: vec![bad], then: Then::Silence }
}

/// The text of so many values, `{}` or such.
fn row(value: &str, bytes: usize) -> String {
    let mut row = format!("{value},").repeat(bytes / (value.len() + 1));
    row.pop();
    row
}

async fn world() -> World {
    World::new(Setup { models: &["gpt-4o-mini"], ..Setup::default() }).await
}

/// The classes of the attempts of a call that is answered like this, and once more if that does not do.
async fn attempts(name: &str, reply: Reply, path: &str, body: &Value) -> Vec<Option<Class>> {
    let world = world().await;
    let again = match body["stream"].as_bool() {
        Some(true) => stream_of(include_str!("../src/dialect/fixtures/openai_text.sse")),
        _ => says("again"),
    };
    world.openai.script([reply, again]);
    let answer = world.post(path, body).await;
    assert!(peak() < ALLOWED, "{name}: {} MiB", peak());
    assert_eq!(answer.status.as_u16(), 200, "{name}");
    world.receipt().attempts.iter().map(|attempt| attempt.class).collect()
}

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

#[tokio::test]
async fn the_worst_calls_stay_within_bounds() {
    let room = LARGEST - 1024;
    let mut message = hello();
    message["max_tokens"] = 100.into();
    let refused = [Some(Class::Server), None];

    // The most that is accepted.
    let accepted = || {
        let values = nested(MOST_VALUES * 6);
        let text = "x".repeat(room - values.len());
        answer(completion(&format!(",\"x\":[{values}]"), &format!("\"{text}\"")))
    };
    assert_eq!(attempts("accepted", accepted(), CHAT, &hello()).await, [None]);
    assert_eq!(attempts("accepted, translated", accepted(), MESSAGES, &message).await, [None]);
    let probable = completion(&format!(",\"logprobs\":[{}]", nested(room)), "\"hi\"");
    assert_eq!(attempts("log probabilities", answer(probable), CHAT, &hello()).await, [None]);

    // What is not.
    let deep = completion(&format!(",\"x\":[{}]", nested(room)), "\"hi\"");
    assert_eq!(attempts("nested", answer(deep), CHAT, &hello()).await, refused);
    let flat = completion(&format!(",\"x\":[{}]", row("{}", room)), "\"hi\"");
    assert_eq!(attempts("flat", answer(flat), CHAT, &hello()).await, refused);
    let arguments = format!("[{}]", row("[]", room));
    let call =
        format!(r#"{{"id":"c","type":"function","function":{{"name":"f","arguments":"{arguments}"}}}}"#);
    let in_arguments = completion("", &format!(r#"null,"tool_calls":[{call}]"#));
    assert_eq!(attempts("in arguments", answer(in_arguments), MESSAGES, &message).await, refused);
    assert_eq!(attempts("an event", event((1 << 20) - 1024), CHAT, &hello_stream()).await, refused);
    let text = "x".repeat(LARGEST);
    let large =
        Reply::Whole { status: 200, headers: Vec::new(), body: completion("", &format!("\"{text}\"")) };
    assert_eq!(attempts("too large", large, CHAT, &hello()).await, refused);

    // What would be large if it were unpacked, or went on.
    for (path, body) in [(CHAT, hello()), (CHAT, hello_stream())] {
        let headers = vec![("content-encoding", "gzip".to_owned())];
        let bomb = Reply::Bytes { headers, body: bomb(1 << 30).into() };
        assert_eq!(attempts("a bomb", bomb, path, &body).await, refused);
    }
    let forever = |pieces: Vec<String>| Reply::Stream { pieces, then: Then::Forever };
    let line = forever(vec!["data: ".to_owned(), "x".repeat(1 << 16)]);
    assert_eq!(attempts("a line without end", line, CHAT, &hello_stream()).await, refused);
    let nothing = r#"data: {"id":"x","choices":[{"index":0,"delta":{"content":""}}]}"#;
    let nothing = forever(vec![format!("{nothing}\n\n")]);
    assert_eq!(attempts("deltas of nothing", nothing, CHAT, &hello_stream()).await, refused);

    // Many of the worst requests at once.
    let world = world().await;
    let request = format!(
        r#"{{"model":"","messages":[{{"role":"user","content":"hi"}}],"x":[{}]}}"#,
        nested(MOST_VALUES * 6)
    );
    world.openai.script((0..16).map(|_| says("hi")));
    let request = || Request::post(CHAT).body(full(request.clone())).unwrap();
    let answers = join_all((0..16).map(|_| world.gateway.serve(&world.session, request()))).await;
    assert!(peak() < ALLOWED, "{} MiB", peak());
    assert!(answers.iter().all(|answer| answer.status().as_u16() == 200));
}
