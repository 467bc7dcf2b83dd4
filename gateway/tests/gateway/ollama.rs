//! Ollama's own dialect at both ends.

use http::{Method, Request};
use orch_gateway::Outcome;
use orch_gateway::ir::Class;
use orch_manifests::Scheme;
use orch_proxy::empty;
use serde_json::{Value, json};

use crate::upstream::{Reply, Then, lines_up, messages, stream_of, whole};
use crate::world::{Answer, Setup, World, hello, hello_stream, world};

const TEXT: &str = include_str!("../../src/dialect/fixtures/ollama_text.ndjson");
const ERROR: &str = include_str!("../../src/dialect/fixtures/ollama_error.ndjson");
const ANTHROPIC_TEXT: &str = include_str!("../../src/dialect/fixtures/anthropic_text.sse");

const CHAT: &str = "/api/chat";

fn setup() -> Setup {
    Setup { models: &["ollama/llama3.2", "claude-3-haiku"], ..Setup::default() }
}

/// Lines, each a piece of its own.
fn pieces(text: &str) -> Vec<String> {
    text.split_inclusive('\n').map(str::to_owned).collect()
}

fn lines(text: &str) -> Reply {
    Reply::Stream { pieces: pieces(text), then: Then::End }
}

fn plain() -> Value {
    let mut body = hello();
    body["stream"] = json!(false);
    body
}

#[tokio::test]
async fn clients_of_every_dialect_are_served_by_ollama() {
    let world = World::new(setup()).await;
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
    for (path, mut body, said) in [
        ("/v1/chat/completions", hello(), "/choices/0/message/content"),
        ("/v1/messages", hello(), "/content/0/text"),
        ("/v1beta/models/default:generateContent", gemini, "/candidates/0/content/parts/0/text"),
        ("/v2/chat", hello(), "/message/content/0/text"),
        (CHAT, plain(), "/message/content"),
    ] {
        if path == "/v1/messages" {
            body["max_tokens"] = json!(50);
        }
        world.ollama.script([lines_up("hallo")]);
        let answer = world.post(path, &body).await;
        assert_eq!(answer.json().pointer(said), Some(&json!("hallo")), "{path}: {}", answer.text());
        let asked = world.ollama.asked().remove(0);
        assert_eq!((asked.path.as_str(), &asked.body["model"]), (CHAT, &json!("llama3.2")));
        assert_eq!(asked.headers.get("authorization"), None);
        assert_eq!(asked.body["messages"], json!([{"role": "user", "content": "hello"}]));
        assert_eq!(asked.body["stream"], false, "{path}: Ollama would stream");
        let receipt = world.receipt();
        assert_eq!((receipt.outcome, receipt.input_tokens, receipt.output_tokens), (Outcome::Served, 20, 7));
        assert_eq!(receipt.cost_micro_usd, Some(0), "a server of one's own costs nothing");
    }
}

#[tokio::test]
async fn lines_become_events_and_events_lines() {
    let world = World::new(setup()).await;
    world.ollama.script([lines(TEXT), lines(TEXT)]);
    let answer = world.chat(&hello_stream()).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
    assert!(
        answer.text().contains("Grüße") && answer.text().ends_with("data: [DONE]\n\n"),
        "{}",
        answer.text()
    );
    assert_eq!(world.ollama.asked()[0].headers["accept"], "application/x-ndjson");

    // Whoever does not say otherwise gets a stream, byte for byte.
    let answer = world.post(CHAT, &hello()).await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    assert_eq!(answer.text(), TEXT);
    assert_eq!(world.ollama.asked()[0].body.get("stream"), None);
    let receipt = world.receipt();
    assert_eq!((receipt.outcome, receipt.input_tokens, receipt.output_tokens), (Outcome::Served, 20, 7));

    let mut body = hello();
    body["model"] = json!("claude-3-haiku");
    world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
    let answer = world.post_with(CHAT, &[("x-orch-receipt", "true")], &body).await;
    let all: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text: String = all.iter().filter_map(|line| line.pointer("/message/content")?.as_str()).collect();
    assert_eq!(text, "Grüße, 世界 👋");
    let [.., last, receipt] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(
        (&last["done"], &last["done_reason"], &last["eval_count"]),
        (&json!(true), &json!("stop"), &json!(7))
    );
    assert_eq!(receipt["orch.receipt"]["provider_served"], "anthropic");
}

#[tokio::test]
async fn a_client_of_ollama_is_served_by_the_others_with_tools() {
    let world = world().await;
    let schema = json!({"type": "object", "properties": {"zone": {"type": "string"}}});
    let mut body = plain();
    body["tools"] = json!([{"type": "function", "function": {"name": "clock", "parameters": schema}}]);
    body["options"] = json!({"num_predict": 50, "num_ctx": 4096});
    world.openai.script([whole(
        200,
        &json!({"id": "chatcmpl-1", "model": "gpt-4o-mini", "choices": [{"index": 0, "finish_reason": "tool_calls", "message":
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_x", "type": "function", "function": {"name": "clock", "arguments": "{\"zone\":\"UTC\"}"}}]}}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 7}}),
    )]);
    let answer = world.post(CHAT, &body).await.json();
    let call = &answer["message"]["tool_calls"][0]["function"];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("clock"), &json!({"zone": "UTC"})));
    let asked = world.openai.asked().remove(0).body;
    assert_eq!((&asked["max_completion_tokens"], asked.get("stream")), (&json!(50), None));
    let dropped: Vec<_> = world.receipt().dropped.into_iter().map(|dropped| dropped.field).collect();
    assert_eq!(dropped, ["options.num_ctx"]);

    // As the client's library sends it back: without ids.
    body["model"] = json!("claude-3-haiku");
    body["messages"].as_array_mut().unwrap().extend([
        json!({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "clock", "arguments": {"zone": "UTC"}}}]}),
        json!({"role": "tool", "tool_name": "clock", "content": "noon"}),
    ]);
    world.anthropic.script([messages("It is noon.")]);
    let answer = world.post(CHAT, &body).await.json();
    assert_eq!(answer["message"]["content"], "It is noon.");
    let asked = world.anthropic.asked().remove(0).body;
    assert_eq!(asked["messages"][1]["content"][0]["id"], asked["messages"][2]["content"][0]["tool_use_id"]);
}

/// A stream that is cut after any line: without content another candidate answers, after it the client gets an error and
/// never an end.
#[tokio::test]
async fn every_cut_is_told_apart_by_the_commit_point() {
    let all = pieces(TEXT);
    for then in [Then::End, Then::Cut] {
        for cut in 0..all.len() {
            let world = World::new(setup()).await;
            let broken = Reply::Stream { pieces: all[..cut].to_vec(), then };
            world.ollama.script([broken.clone(), broken]);
            world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
            let answer = world.post(CHAT, &hello()).await;
            let (text, receipt) = (answer.text(), world.receipt());
            let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            if cut == 0 {
                assert_eq!(receipt.provider_served.as_deref(), Some("anthropic"), "cut after {cut}");
                assert_eq!(last["done"], true, "cut after {cut}: {text}");
                assert_eq!(receipt.attempts[0].class, Some(Class::Truncated), "{receipt:?}");
            } else {
                assert!(!text.contains("\"done\":true"), "cut after {cut}: {text}");
                assert_eq!(last["code"], "stream_truncated", "cut after {cut}: {text}");
                assert_eq!(receipt.outcome, Outcome::Broken);
                assert!(world.anthropic.asked().is_empty(), "cut after {cut}: no second answer");
            }
        }
    }
}

#[tokio::test]
async fn an_error_in_a_stream_is_one_wherever_it_stands() {
    let only = pieces(ERROR).pop().unwrap();
    let world = World::new(setup()).await;
    world.ollama.script([lines(&only), lines(&only)]);
    world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
    world.post(CHAT, &hello()).await;
    let receipt = world.receipt();
    assert_eq!(receipt.attempts[0].class, Some(Class::Server));
    assert_eq!(receipt.provider_served.as_deref(), Some("anthropic"));

    world.ollama.script([lines(ERROR)]);
    let answer = world.post(CHAT, &hello()).await;
    let last: Value = serde_json::from_str(answer.text().lines().last().unwrap()).unwrap();
    assert!(last["error"].as_str().unwrap().contains("unexpected EOF"), "{last}");
    assert_eq!(world.receipt().outcome, Outcome::Broken);

    let cannot = json!({"error": "registry.ollama.ai/library/gemma:2b does not support tools"});
    world.ollama.script([whole(400, &cannot)]);
    world.anthropic.script([messages("salut")]);
    let answer = world.post(CHAT, &plain()).await;
    assert_eq!(answer.json()["message"]["content"], "salut", "what one model lacks another has");
}

#[tokio::test]
async fn the_bound_of_a_budget_is_put_where_ollama_reads_it() {
    for options in [
        json!(null),
        json!({"num_predict": -1}),
        json!({"num_predict": 1_000_000, "num_ctx": 4096}),
        json!({"num_predict": 7}),
    ] {
        let world = World::new(Setup { max_tokens: Some(2_000), ..setup() }).await;
        world.ollama.script([lines_up("hallo")]);
        let mut body = plain();
        body["options"] = options.clone();
        let answer = world.post(CHAT, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = world.ollama.asked().remove(0).body;
        let bound = sent["options"]["num_predict"].as_u64().unwrap();
        assert!((1..2_000).contains(&bound), "{sent}");
        assert_eq!((sent["options"].get("num_ctx"), sent.get("max_tokens")), (options.get("num_ctx"), None));
        if options["num_predict"] == 7 {
            assert_eq!(bound, 7);
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_ollamas_form() {
    let world = World::new(setup()).await;
    let answer = world.post(CHAT, &json!({"messages": [{"role": "tool", "content": "x"}]})).await;
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("messages[0].role: is tool, and"), "{error}");
    let list = Request::get("/api/tags").body(empty()).unwrap();
    let listed = Answer::read(world.gateway.serve(&world.session, list).await).await.json();
    assert_eq!(listed["models"][0]["model"], "ollama/llama3.2");
    // Neither a pin nor this machine is a guest's to address.
    let port = world.ollama.address.port();
    for (host, port) in [("127.0.0.1", port), ("localhost", 11434)] {
        assert_eq!(world.gateway.inference(Scheme::Http, host, port, &Method::POST, CHAT), None);
    }
}
