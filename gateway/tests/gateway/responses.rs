//! OpenAI's responses at both ends: their clients at the gateway and on the way to OpenAI, and OpenAI as a provider of
//! them.

use http::{Method, Request};
use orch_gateway::Outcome;
use orch_gateway::ir::Class;
use orch_manifests::Scheme;
use orch_proxy::{empty, full};
use serde_json::{Value, json};

use crate::upstream::{Reply, Then, generates, messages, pieces, says, stream_of, whole};
use crate::world::{Answer, OPENAI_KEY, Setup, World, hello, hello_stream, world};

const TEXT: &str = include_str!("../../src/dialect/fixtures/openai_responses_text.sse");
const TOOLS: &str = include_str!("../../src/dialect/fixtures/openai_responses_tools.sse");
const ERROR: &str = include_str!("../../src/dialect/fixtures/openai_responses_error.sse");
const FAILED: &str = include_str!("../../src/dialect/fixtures/openai_responses_failed.sse");
const ANTHROPIC_TEXT: &str = include_str!("../../src/dialect/fixtures/anthropic_text.sse");
const PATH: &str = "/v1/responses";

/// A response that says this.
fn responds(text: &str) -> Reply {
    let part = json!({"type": "output_text", "text": text, "annotations": []});
    let message = json!({"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]});
    whole(
        200,
        &json!({
            "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "model": "gpt-4o-mini-2024-07-18",
            "status": "completed", "error": null, "incomplete_details": null, "output": [message],
            "usage": {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27},
        }),
    )
}

fn asking() -> Value {
    json!({"input": "hello"})
}

fn asking_stream() -> Value {
    json!({"input": "hello", "stream": true})
}

fn said(answer: &Answer) -> String {
    let answer = answer.json();
    let texts = answer.pointer("/output/0/content").and_then(Value::as_array).into_iter().flatten();
    texts.filter_map(|part| part["text"].as_str()).collect()
}

#[tokio::test]
async fn a_response_of_openai_passes_and_what_only_it_knows_goes_along() {
    let world = World::new(Setup { server_tools: true, ..Setup::default() }).await;
    world.openai.script([responds("hi")]);
    let body = r#"{"input":"x","model":"default","previous_response_id":"resp_0","store":true,"include":["a.b"],"new_field":[1e2]}"#;
    let request = Request::post(PATH).body(full(body)).unwrap();
    let answer = Answer::read(world.gateway.serve(&world.session, request).await).await;
    assert_eq!(answer.json()["id"], "resp_1");
    assert_eq!(said(&answer), "hi");
    let asked = world.openai.asked().remove(0);
    assert_eq!(asked.path, PATH);
    assert_eq!(asked.headers["authorization"], format!("Bearer {OPENAI_KEY}"));
    assert_eq!(
        asked.body,
        json!({"input": "x", "model": "gpt-4o-mini", "previous_response_id": "resp_0", "store": true,
            "include": ["a.b"], "new_field": [100.0]})
    );
    let receipt = world.receipt();
    assert_eq!((receipt.outcome, receipt.input_tokens, receipt.output_tokens), (Outcome::Served, 20, 7));
    assert!(receipt.dropped.is_empty(), "{receipt:?}");
}

#[tokio::test]
async fn clients_of_every_dialect_may_ask_for_responses_by_name() {
    let world = world().await;
    for (path, mut body, pointer) in [
        ("/v1/chat/completions", hello(), "/choices/0/message/content"),
        ("/v1/messages", hello(), "/content/0/text"),
        (PATH, asking(), "/output/0/content/0/text"),
    ] {
        if path == "/v1/messages" {
            body["max_tokens"] = json!(50);
        }
        body["model"] = json!("openai-responses/gpt-4o-mini");
        world.openai.script([responds("hallo")]);
        let answer = world.post(path, &body).await;
        assert_eq!(answer.json().pointer(pointer), Some(&json!("hallo")), "{path}: {}", answer.text());
        let asked = world.openai.asked().remove(0);
        assert_eq!(asked.path, PATH);
        if path != PATH {
            assert_eq!(asked.body["input"], json!([{"role": "user", "content": "hello"}]));
            assert_eq!(asked.body["store"], false, "nobody asked for that");
        }
        let receipt = world.receipt();
        assert_eq!(receipt.provider_served.as_deref(), Some("openai"));
        assert!(receipt.cost_micro_usd.is_some());
    }
    // By its own name it is asked for what a client of chat completions speaks.
    world.openai.script([says("hi")]);
    let mut body = hello();
    body["model"] = json!("openai/gpt-4o-mini");
    assert_eq!(world.chat(&body).await.said(), "hi");
    assert_eq!(world.openai.asked().remove(0).path, "/v1/chat/completions");
}

#[tokio::test]
async fn a_client_of_responses_is_served_by_the_others_with_tools() {
    let models = &["claude-3-haiku", "gemini-2.5-flash"];
    let world = World::new(Setup { models, server_tools: true, ..Setup::default() }).await;
    let tools =
        json!([{"type": "function", "name": "clock", "parameters": {"type": "object", "properties": {}}}]);
    let call = json!({"type": "tool_use", "id": "toolu_x", "name": "clock", "input": {"zone": "UTC"}});
    world.anthropic.script([whole(
        200,
        &json!({"id": "msg_1", "model": "claude-3-haiku-20240307", "content": [call], "stop_reason": "tool_use",
            "usage": {"input_tokens": 20, "output_tokens": 7}}),
    )]);
    let body = json!({"input": "what time is it?", "tools": tools, "store": true});
    let answer = world.post(PATH, &body).await.json();
    let item = &answer["output"][0];
    assert_eq!((&item["type"], &item["call_id"]), (&json!("function_call"), &json!("toolu_x")));
    assert_eq!(item["arguments"], "{\"zone\":\"UTC\"}");
    assert_eq!((&answer["status"], &answer["store"]), (&json!("completed"), &json!(false)));
    assert!(answer["created_at"].as_u64().is_some_and(|at| at > 0));
    let fields: Vec<String> = world.receipt().dropped.into_iter().map(|dropped| dropped.field).collect();
    assert_eq!(fields, ["store"]);

    // The conversation goes on at another provider, by the same id.
    world.gemini.script([generates("It is noon.")]);
    let output = json!({"type": "function_call_output", "call_id": "toolu_x", "output": "noon"});
    let body = json!({"model": "gemini-2.5-flash", "tools": tools,
        "input": [{"role": "user", "content": "what time is it?"}, item, output]});
    let answer = world.post(PATH, &body).await;
    assert_eq!(said(&answer), "It is noon.", "{}", answer.text());
    let asked = world.gemini.asked().remove(0).body;
    assert_eq!(asked["contents"][1]["parts"][0]["functionCall"]["id"], "toolu_x");
}

#[tokio::test]
async fn what_is_left_out_is_named_as_the_client_wrote_it() {
    let world = World::new(Setup { models: &["claude-3-haiku"], ..Setup::default() }).await;
    let message = json!({"id": "msg_1", "model": "claude-3-haiku-20240307", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 20, "output_tokens": 7}});
    world.anthropic.script([whole(200, &message)]);
    let body = json!({"input": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"type": "reasoning", "summary": [], "encrypted_content": "c2ln"},
        {"role": "user", "content": "c"},
    ]});
    let answer = world.post(PATH, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let fields: Vec<String> = world.receipt().dropped.into_iter().map(|dropped| dropped.field).collect();
    assert_eq!(fields, ["input[2]"]);
}

#[tokio::test]
async fn what_one_provider_has_kept_is_not_carried_to_another() {
    for (field, value) in [
        ("previous_response_id", json!("resp_0")),
        ("conversation", json!("conv_0")),
        ("prompt", json!({"id": "pmpt_0"})),
    ] {
        let setup = || Setup { server_tools: true, ..Setup::default() };
        let mut body = asking();
        body[field] = value;
        // No provider of the dialect is there.
        let world = World::new(Setup { models: &["claude-3-haiku"], ..setup() }).await;
        let answer = world.post(PATH, &body).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status.as_u16(), &error["param"]), (400, &json!(field)), "{error}");
        assert!(error["message"].as_str().unwrap().contains("send the conversation itself"), "{error}");
        assert!(world.anthropic.asked().is_empty());
        // It is there and fails: the others are passed over, and that is said.
        let world = World::new(setup()).await;
        let busy =
            json!({"error": {"message": "no", "type": "insufficient_quota", "code": "insufficient_quota"}});
        world.openai.script([whole(429, &busy)]);
        let answer = world.post(PATH, &body).await;
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert_eq!(world.openai.asked().len(), 1);
        assert!(world.anthropic.asked().is_empty());
        let receipt = world.receipt();
        assert_eq!(receipt.skipped[0].model, "anthropic/claude-3-haiku-20240307");
        assert!(receipt.skipped[0].reason.contains(field), "{receipt:?}");
    }
    let world = world().await;
    let mut body = asking();
    body["background"] = json!(true);
    let answer = world.post(PATH, &body).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["param"].clone()), (400, json!("background")));
    assert_eq!(world.live.requests_used(), 0);
}

#[tokio::test]
async fn what_is_kept_counts_for_all_the_context() {
    let limit = 100_000;
    let world = World::new(Setup { max_tokens: Some(limit), server_tools: true, ..Setup::default() }).await;
    let mut body = asking();
    body["previous_response_id"] = json!("resp_0");
    let answer = world.post(PATH, &body).await;
    assert_eq!(answer.json()["error"]["code"], "orch_limit_reached", "{}", answer.text());
    assert!(world.openai.asked().is_empty(), "a model of 128,000 tokens may be full of what is kept");
    world.openai.script([responds("hi")]);
    assert_eq!(world.post(PATH, &asking()).await.status, 200);
}

#[tokio::test]
async fn the_bound_of_a_budget_is_put_where_responses_read_it() {
    let bound = |mut body: Value, max_tokens: u64| async move {
        let world = World::new(Setup { max_tokens: Some(max_tokens), ..Setup::default() }).await;
        world.openai.script([responds("hallo")]);
        body["temperature"] = json!(0.25);
        let answer = world.post(PATH, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let asked = world.openai.asked().remove(0).body;
        assert_eq!(asked["temperature"], 0.25);
        asked["max_output_tokens"].as_u64()
    };
    assert!(bound(asking(), 2_000).await.is_some_and(|max| max < 2_000));
    let more = json!({"input": "hello", "max_output_tokens": 1_000_000});
    assert!(bound(more, 2_000).await.is_some_and(|max| max < 2_000));
    let fewer = json!({"input": "hello", "max_output_tokens": 50});
    assert_eq!(bound(fewer, 2_000).await, Some(50));
    // A client of another dialect may want less than OpenAI takes; a budget that pays for less is used up.
    let mut body = hello();
    body["model"] = json!("openai-responses/gpt-4o-mini");
    body["max_tokens"] = json!(5);
    let world = World::new(Setup { max_tokens: Some(2_000), ..Setup::default() }).await;
    world.openai.script([responds("hallo")]);
    assert_eq!(world.chat(&body).await.said(), "hallo");
    assert_eq!(world.openai.asked().remove(0).body["max_output_tokens"], 16);
    let dropped = world.receipt().dropped;
    assert_eq!(dropped.iter().map(|d| d.field.as_str()).collect::<Vec<_>>(), ["max_tokens"]);
    let input = 200;
    let world =
        World::new(Setup { max_tokens: Some(input), models: &["gpt-4o-mini"], ..Setup::default() }).await;
    let long = json!({"input": "x".repeat(input as usize - 90)});
    let answer = world.post(PATH, &long).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("no bound below 16"), "{}", answer.text());
    assert!(world.openai.asked().is_empty());
}

#[tokio::test]
async fn a_stream_of_the_same_dialect_passes_byte_for_byte() {
    for text in [TEXT.to_owned(), TOOLS.to_owned(), TEXT.replace('\n', "\r\n")] {
        let world = world().await;
        world.openai.script([Reply::Stream { pieces: vec![text.clone()], then: Then::End }]);
        let answer = world.post(PATH, &asking_stream()).await;
        assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(answer.text(), text);
        let asked = world.openai.asked().remove(0);
        assert_eq!(asked.headers["accept"], "text/event-stream");
        assert!(asked.body.get("stream_options").is_none(), "{}", asked.body);
        let receipt = world.receipt();
        assert_eq!((receipt.outcome, receipt.input_tokens, receipt.output_tokens), (Outcome::Served, 20, 7));
        assert!(!receipt.estimated);
    }
    let world = world().await;
    world.openai.script([stream_of(TEXT)]);
    let answer = world.post_with(PATH, &[("x-orch-receipt", "true")], &asking_stream()).await;
    let (stream, receipt) = answer.text().split_once("event: orch.receipt\ndata: ").unwrap();
    assert_eq!(stream, TEXT);
    assert!(receipt.contains("\"provider_served\":\"openai\""), "{receipt}");
}

#[tokio::test]
async fn a_stream_is_translated_to_its_clients_terminator() {
    let world = world().await;
    world.openai.script([stream_of(TOOLS), stream_of(TOOLS)]);
    let mut body = hello_stream();
    body["model"] = json!("openai-responses/gpt-4o-mini");
    let answer = world.chat(&body).await;
    assert!(answer.text().contains("\"finish_reason\":\"tool_calls\""), "{}", answer.text());
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    body["max_tokens"] = json!(50);
    let answer = world.post("/v1/messages", &body).await;
    assert!(answer.text().contains("event: message_stop\n"), "{}", answer.text());
    world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
    let body = json!({"model": "claude-3-haiku", "input": "hello", "stream": true});
    let answer = world.post(PATH, &body).await;
    let last = answer.text().trim_end().rsplit("event: ").next().unwrap();
    assert!(last.starts_with("response.completed\n") && last.contains("\"total_tokens\":27"), "{last}");
}

#[tokio::test]
async fn events_that_repeat_a_long_request_are_no_reason_to_stop() {
    let world = world().await;
    let instructions = "x".repeat(1_200_000);
    let long =
        TEXT.replace("\"instructions\": \"Be brief.\"", &format!("\"instructions\": \"{instructions}\""));
    assert!(long.len() > 3 * instructions.len());
    world.openai.script([stream_of(&long)]);
    let body = json!({"input": "hello", "stream": true, "instructions": instructions});
    let answer = world.post(PATH, &body).await;
    assert!(answer.text() == long, "{}", &answer.text()[answer.text().len().saturating_sub(500)..]);
    assert_eq!(world.receipt().outcome, Outcome::Served);
    // A short request is no reason for a long event.
    world.openai.script([stream_of(&long), stream_of(&long)]);
    world.anthropic.script([messages("salut")]);
    world.post(PATH, &asking_stream()).await;
    assert!(world.receipt().attempts[0].message.contains("larger than"), "{:?}", world.receipt());
}

/// A stream that is cut after any event: before content another candidate answers, after it the client gets an error,
/// and never an end.
#[tokio::test]
async fn every_cut_is_told_apart_by_the_commit_point() {
    let all = pieces(TEXT);
    // A comment, two events of the life cycle, the item and its part: nothing is said before the sixth piece.
    let committed = 6;
    for then in [Then::End, Then::Cut] {
        for cut in 0..all.len() {
            let world = world().await;
            let broken = Reply::Stream { pieces: all[..cut].to_vec(), then };
            world.openai.script([broken.clone(), broken]);
            world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
            let answer = world.post(PATH, &asking_stream()).await;
            let (text, receipt) = (answer.text(), world.receipt());
            if cut < committed {
                assert_eq!(receipt.provider_served.as_deref(), Some("anthropic"), "cut after {cut}");
                assert!(text.contains("event: response.completed\n"), "cut after {cut}: {text}");
                assert!(
                    receipt.attempts.iter().take(2).all(|a| a.class == Some(Class::Truncated)),
                    "{receipt:?}"
                );
            } else {
                assert!(!text.contains("response.completed"), "cut after {cut}: {text}");
                let last: Value =
                    serde_json::from_str(text.trim_end().rsplit("data: ").next().unwrap()).unwrap();
                assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("stream_truncated")));
                assert_eq!(last["sequence_number"], cut, "it goes on from the events that passed");
                assert_eq!(receipt.outcome, Outcome::Broken);
                assert!(world.anthropic.asked().is_empty(), "cut after {cut}: no second answer");
            }
        }
    }
}

#[tokio::test]
async fn errors_inside_a_stream_are_errors() {
    for (text, class) in [(ERROR, Class::Server), (FAILED, Class::RateLimited)] {
        // After content: the client is told, in its own dialect.
        for (path, body) in [(PATH, asking_stream()), ("/v1/chat/completions", hello_stream())] {
            let world = world().await;
            let mut body = body;
            body["model"] = json!("openai-responses/gpt-4o-mini");
            world.openai.script([stream_of(text)]);
            let answer = world.post(path, &body).await;
            let out = answer.text();
            assert!(
                out.contains("Once") && !out.contains("response.completed") && !out.contains("[DONE]"),
                "{out}"
            );
            let last: Value = serde_json::from_str(out.trim_end().rsplit("data: ").next().unwrap()).unwrap();
            assert_eq!(last["error"]["orch"]["class"], class.as_str(), "{out}");
            assert_eq!(world.receipt().outcome, Outcome::Broken);
        }
        // Before content: the next candidate.
        let world = world().await;
        let early: String = pieces(text).into_iter().filter(|piece| !piece.contains("Once")).collect();
        world.openai.script([stream_of(&early), stream_of(&early)]);
        world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
        assert!(world.post(PATH, &asking_stream()).await.text().contains("Grüße"));
        assert_eq!(world.receipt().attempts[0].class, Some(class));
    }
}

#[tokio::test]
async fn errors_have_openais_form_and_name_the_field() {
    let world = world().await;
    let gateway = &world.gateway;
    let ask = |request| async { Answer::read(gateway.serve(&world.session, request).await).await };
    let answer = ask(Request::get(PATH).body(empty()).unwrap()).await;
    assert_eq!(answer.status, 405);
    let answer = ask(Request::post(PATH).body(full("{")).unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"]["type"].clone()),
        (400, json!("invalid_request_error"))
    );
    let bad = json!({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}).to_string();
    let answer = ask(Request::post(PATH).body(full(bad)).unwrap()).await;
    assert_eq!(answer.json()["error"]["param"], "input[0].content[0].text");
    for path in ["/v1/responses/resp_1", "/v1/responses/resp_1/cancel"] {
        let answer = ask(Request::post(path).body(full("{}")).unwrap()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"]["code"].clone()),
            (404, json!("unknown_path"))
        );
    }
    assert_eq!(world.live.requests_used(), 0);
}

#[tokio::test]
async fn a_direct_call_for_a_response_is_carried() {
    let world = World::new(Setup { server_tools: true, ..Setup::default() }).await;
    let direct = world.gateway.inference(Scheme::Https, "api.openai.com", 443, &Method::POST, PATH).unwrap();
    world.openai.script([responds("hi")]);
    let call = |auth: String| {
        let body = json!({"model": "gpt-4o-mini", "input": "hello", "previous_response_id": "resp_0"});
        Request::post(PATH).header("authorization", auth).body(full(body.to_string())).unwrap()
    };
    let request = call(format!("Bearer {}", world.placeholder));
    let answer = Answer::read(world.gateway.passthrough(&world.session, &direct, request).await).await;
    assert_eq!(said(&answer), "hi", "{}", answer.text());
    let asked = world.openai.asked().remove(0);
    assert_eq!((asked.path.as_str(), &asked.body["previous_response_id"]), (PATH, &json!("resp_0")));
    let request = call("Bearer sk-guessed".to_owned());
    let answer = Answer::read(world.gateway.passthrough(&world.session, &direct, request).await).await;
    assert_eq!(answer.status, 401);
    for (method, path) in
        [(Method::GET, "/v1/responses/resp_0"), (Method::GET, PATH), (Method::POST, "/v1/responses/x/cancel")]
    {
        assert_eq!(world.gateway.inference(Scheme::Https, "api.openai.com", 443, &method, path), None);
    }
}
