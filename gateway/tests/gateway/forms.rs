//! What a client knows in a form of its dialect's own, and is answered in: Codex's tools, which are groups and take texts, long
//! names of functions, and errors by which clients shorten a conversation.

use http::header::UPGRADE;
use http::{Request, StatusCode};
use orch_proxy::empty;
use serde_json::{Value, json};

use crate::upstream::{messages, says, stream_of, whole};
use crate::world::{Answer, Setup, World, hello, world};

const PATH: &str = "/v1/responses";

/// As Codex asks: a group of an MCP server's, a tool that takes a text, and the history of one.
fn codex() -> Value {
    json!({
        "input": [
            {"role": "user", "content": "Fix it."},
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** Begin \"Patch\""},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done."},
        ],
        "tools": [
            {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}},
            {"type": "namespace", "name": "mcp__fs", "description": "Files.", "tools": [
                {"type": "function", "name": "read", "strict": false, "parameters": {"type": "object", "properties": {}}},
            ]},
            {"type": "custom", "name": "apply_patch", "description": "Patches.",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: \"x\""}},
        ],
    })
}

/// What Claude answers that calls both.
fn calls() -> Value {
    json!({"id": "msg_1", "model": "claude-3-haiku-20240307", "stop_reason": "tool_use",
    "usage": {"input_tokens": 20, "output_tokens": 7},
    "content": [
        {"type": "tool_use", "id": "t1", "name": "apply_patch", "input": {"input": "*** Begin\nPatch"}},
        {"type": "tool_use", "id": "t2", "name": "mcp__fs__read", "input": {"path": "a"}},
    ]})
}

/// The events of a stream.
fn events(answer: &Answer) -> Vec<Value> {
    let data = answer.text().lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

async fn claude() -> World {
    World::new(Setup { models: &["claude-3-haiku"], ..Setup::default() }).await
}

#[tokio::test]
async fn tools_that_others_do_not_know_are_functions_there_and_called_as_the_client_knows_them() {
    let world = claude().await;
    world.anthropic.script([whole(200, &calls())]);
    let answer = world.post(PATH, &codex()).await.json();
    let asked = world.anthropic.asked().remove(0).body;
    let names: Vec<_> = asked["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
    assert_eq!(names, ["shell", "mcp__fs__read", "apply_patch"]);
    let schema = &asked["tools"][2]["input_schema"];
    assert_eq!(schema["required"], json!(["input"]));
    assert!(schema.to_string().contains("start: "), "the grammar is told: {schema}");
    assert_eq!(asked["messages"][1]["content"][0]["input"], json!({"input": "*** Begin \"Patch\""}));
    assert_eq!(asked["messages"][2]["content"][0]["content"][0]["text"], "Done.");
    let patch = &answer["output"][0];
    assert_eq!(
        (&patch["type"], &patch["call_id"], &patch["name"], &patch["input"]),
        (&json!("custom_tool_call"), &json!("t1"), &json!("apply_patch"), &json!("*** Begin\nPatch"))
    );
    assert!(patch.get("arguments").is_none());
    let read = &answer["output"][1];
    assert_eq!(
        (&read["type"], &read["namespace"], &read["name"]),
        (&json!("function_call"), &json!("mcp__fs"), &json!("read"))
    );
    let dropped: Vec<_> = world.receipt().dropped.into_iter().map(|dropped| dropped.field).collect();
    assert_eq!(dropped, ["tools[1].description"]);
}

#[tokio::test]
async fn a_stream_calls_them_in_the_same_form() {
    let world = claude().await;
    let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    let stream = [
        event(
            "message_start",
            json!({"type": "message_start", "message": {"id": "msg_1", "model": "m", "content": [],
            "usage": {"input_tokens": 1, "output_tokens": 1}}}),
        ),
        event(
            "content_block_start",
            json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "tool_use", "id": "t1", "name": "apply_patch", "input": {}}}),
        ),
        event(
            "content_block_delta",
            json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": "{\"input\":\"a"}}),
        ),
        event(
            "content_block_delta",
            json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": "\\nb\"}"}}),
        ),
        event("content_block_stop", json!({"type": "content_block_stop", "index": 0})),
        event(
            "message_delta",
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
        ),
        event("message_stop", json!({"type": "message_stop"})),
    ];
    world.anthropic.script([stream_of(&stream.concat())]);
    let mut body = codex();
    body["stream"] = json!(true);
    let events = events(&world.post(PATH, &body).await);
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    assert!(of("response.function_call_arguments.delta").is_empty(), "{events:?}");
    assert_eq!(of("response.custom_tool_call_input.delta")[0]["delta"], "a\nb");
    assert_eq!(of("response.custom_tool_call_input.done")[0]["input"], "a\nb");
    assert_eq!(of("response.output_item.done")[0]["item"]["type"], "custom_tool_call");
    assert_eq!(of("response.completed")[0]["response"]["output"][0]["input"], "a\nb");
}

/// Anthropic's clients may have names of 128 letters.
#[tokio::test]
async fn a_name_that_is_too_long_is_another_one_at_the_provider_and_comes_back() {
    let world = world().await;
    let name = "n".repeat(100);
    let body = json!({"model": "default", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}],
        "tools": [{"name": name, "input_schema": {"type": "object"}}], "tool_choice": {"type": "tool", "name": name}});
    let short = format!("{}_4e9d8231", "n".repeat(55));
    let call = json!({"id": "a", "type": "function", "function": {"name": short, "arguments": "{}"}});
    world.openai.script([whole(200, &json!({
        "id": "c", "object": "chat.completion", "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        "choices": [{"index": 0, "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": null, "tool_calls": [call]}}],
    }))]);
    let answer = world.post("/v1/messages", &body).await.json();
    assert_eq!(answer["content"][0]["name"], name);
    let sent = world.openai.asked().remove(0).body;
    assert_eq!(sent["tools"][0]["function"]["name"], short);
    assert_eq!(sent["tool_choice"]["function"]["name"], sent["tools"][0]["function"]["name"]);
}

/// What clients look for when they are to shorten a conversation, whoever said that it does not fit.
#[tokio::test]
async fn input_that_does_not_fit_is_said_as_each_client_knows_it() {
    let claudes = json!({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"}});
    let world = claude().await;
    world.anthropic.script([whole(400, &claudes), whole(400, &claudes)]);
    let answer = world.chat(&hello()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["error"]["code"], "context_length_exceeded");
    assert_eq!(answer.json()["error"]["orch"]["code"], "invalid_request_error");
    let streamed = world.post(PATH, &json!({"input": "x", "stream": true})).await;
    assert_eq!(streamed.status, StatusCode::OK);
    let events = events(&streamed);
    let last = events.last().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["error"]["code"]),
        (&json!("response.failed"), &json!("context_length_exceeded"))
    );

    let openais = json!({"error": {"message": "Your input exceeds the context window.", "type": "invalid_request_error", "code": "context_length_exceeded"}});
    let world = self::world().await;
    world.openai.script([whole(400, &openais)]);
    let mut body = hello();
    body["max_tokens"] = json!(9);
    let answer = world.post("/v1/messages", &body).await.json();
    assert!(answer["error"]["message"].as_str().unwrap().starts_with("prompt is too long: "), "{answer}");
}

/// Codex asks over WebSockets first, and by HTTP when it hears this.
#[tokio::test]
async fn a_websocket_is_refused_in_the_way_that_clients_turn_to_http() {
    let world = world().await;
    let request = Request::get(PATH).header(UPGRADE, "websocket").body(empty()).unwrap();
    let answer = Answer::read(world.gateway.serve(&world.session, request).await).await;
    assert_eq!(answer.status, StatusCode::UPGRADE_REQUIRED);
    assert_eq!(answer.headers[UPGRADE], "HTTP/1.1");
}

/// A model that is not given a file would answer as if there was none.
#[tokio::test]
async fn a_file_that_cannot_be_carried_is_no_candidate_s_and_one_of_text_is_text() {
    let world = claude().await;
    let mut body = hello();
    body["messages"][0]["content"] =
        json!([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]);
    let answer = world.chat(&body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "orch_no_model_fits");
    assert!(error["message"].as_str().unwrap().contains("(message 1)"), "{error}");
    assert!(world.anthropic.asked().is_empty());

    world.anthropic.script([messages("read")]);
    body["messages"][0]["content"] = json!([
        {"type": "file", "file": {"filename": "a.md", "file_data": "data:text/markdown;base64,IyBh"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
    ]);
    assert_eq!(world.chat(&body).await.said(), "read");
    let sent = &world.anthropic.asked().remove(0).body["messages"][0]["content"];
    assert_eq!(sent[0]["text"], "a.md:\n\n# a");
    assert_eq!((&sent[1]["type"], &sent[1]["title"]), (&json!("document"), &json!("a.pdf")));
}

/// OpenAI's chat completions refuse tools to some of its models that think.
#[tokio::test]
async fn models_of_openai_s_that_think_are_asked_for_responses_by_clients_of_others() {
    let world = World::new(Setup { models: &["gpt-5-mini"], ..Setup::default() }).await;
    let answered = json!({"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5-mini", "status": "completed",
        "output": [{"type": "message", "id": "m", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "hi", "annotations": []}]}],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}});
    world.openai.script([whole(200, &answered), says("hi")]);
    let mut body = hello();
    body["max_tokens"] = json!(99);
    assert_eq!(world.post("/v1/messages", &body).await.json()["content"][0]["text"], "hi");
    assert_eq!(world.openai.asked().remove(0).path, PATH);
    assert_eq!(world.chat(&hello()).await.said(), "hi");
    assert_eq!(world.openai.asked().remove(0).path, "/v1/chat/completions");
}

/// Codex's shape: the client knows a group as one entry of its list.
#[tokio::test]
async fn a_tool_behind_a_group_is_named_as_the_client_counts_it() {
    let world = claude().await;
    let function = |name: &str| json!({"type": "function", "name": name});
    let search = json!({"type": "web_search"});
    for (tools, param) in [
        (
            json!([{"type": "namespace", "name": "n", "tools": [function("f"), function("g")]}, search]),
            "tools[1]",
        ),
        (json!([{"type": "namespace", "name": "n", "tools": [function("f"), search]}]), "tools[0].tools[1]"),
    ] {
        let answer = world.post(PATH, &json!({"input": "x", "tools": tools})).await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (StatusCode::FORBIDDEN, &json!(param)));
    }
    let long = json!([{"type": "namespace", "name": "n".repeat(129), "tools": [function("f")]}]);
    let answer = world.post(PATH, &json!({"input": "x", "tools": long})).await;
    assert_eq!(answer.json()["error"]["param"], "tools[0].name");
}
