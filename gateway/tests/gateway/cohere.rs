//! Cohere at both ends.

use http::{Method, Request};
use orch_gateway::Outcome;
use orch_gateway::ir::Class;
use orch_manifests::Scheme;
use orch_proxy::empty;
use serde_json::{Value, json};

use crate::upstream::{Reply, Then, chats, messages, pieces, stream_of, whole};
use crate::world::{Answer, COHERE_KEY, Setup, World, hello, hello_stream, world};

const TEXT: &str = include_str!("../../src/dialect/fixtures/cohere_text.sse");
const ANTHROPIC_TEXT: &str = include_str!("../../src/dialect/fixtures/anthropic_text.sse");

const CHAT: &str = "/v2/chat";

fn setup() -> Setup {
    Setup { models: &["command-a-03-2025", "claude-3-haiku"], ..Setup::default() }
}

fn dropped(world: &World) -> Vec<String> {
    world.receipt().dropped.into_iter().map(|dropped| dropped.field).collect()
}

#[tokio::test]
async fn clients_of_every_dialect_are_served_by_cohere_and_told_what_does_not_cross() {
    let world = World::new(setup()).await;
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
    for (path, mut body, said, model) in [
        ("/v1/chat/completions", hello(), "/choices/0/message/content", "/model"),
        ("/v1/messages", hello(), "/content/0/text", "/model"),
        (
            "/v1beta/models/default:generateContent",
            gemini,
            "/candidates/0/content/parts/0/text",
            "/modelVersion",
        ),
        (CHAT, hello(), "/message/content/0/text", "/none"),
    ] {
        if path == "/v1/messages" {
            body["max_tokens"] = json!(50);
        }
        world.cohere.script([chats("hallo")]);
        let answer = world.post(path, &body).await.json();
        assert_eq!(answer.pointer(said), Some(&json!("hallo")), "{path}: {answer}");
        // Cohere names no model; the others' clients expect one.
        let named = answer.pointer(model).and_then(Value::as_str);
        assert_eq!(named, (path != CHAT).then_some("command-a-03-2025"), "{path}: {answer}");
        let asked = world.cohere.asked().remove(0);
        assert_eq!((asked.path.as_str(), &asked.body["model"]), (CHAT, &json!("command-a-03-2025")));
        assert_eq!(asked.headers["authorization"], format!("Bearer {COHERE_KEY}"));
        assert_eq!(asked.body["messages"], json!([{"role": "user", "content": "hello"}]));
        // What is billed counts: 20 at 2.50 and 7 at 10 dollars a million.
        let receipt = world.receipt();
        assert_eq!((receipt.outcome, receipt.input_tokens, receipt.output_tokens), (Outcome::Served, 20, 7));
        assert_eq!(receipt.cost_micro_usd, Some(120));
        let lost: &[&str] = if path == CHAT { &[] } else { &["answer.citation"] };
        assert_eq!(dropped(&world), lost, "{path}");
    }
}

#[tokio::test]
async fn a_stream_is_translated_or_passed_byte_for_byte() {
    let world = World::new(setup()).await;
    world.cohere.script([stream_of(TEXT), stream_of(TEXT)]);
    let answer = world.chat(&hello_stream()).await;
    let text = answer.text();
    assert!(text.contains("\"model\":\"command-a-03-2025\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(dropped(&world), ["answer.citation"]);
    let answer = world.post(CHAT, &hello_stream()).await;
    assert_eq!(answer.text(), TEXT);
    assert_eq!(dropped(&world), Vec::<String>::new());
    assert!(world.cohere.asked().iter().all(|asked| asked.body["stream"] == true));
}

#[tokio::test]
async fn a_client_of_cohere_is_served_by_the_others_with_tools() {
    let world = world().await;
    let schema = json!({"type": "object", "properties": {"zone": {"type": "string"}}});
    let mut body = hello();
    body["tools"] = json!([{"type": "function", "function": {"name": "clock", "parameters": schema}}]);
    body["safety_mode"] = json!("STRICT");
    world.openai.script([whole(
        200,
        &json!({"id": "chatcmpl-1", "model": "gpt-4o-mini", "choices": [{"index": 0, "finish_reason": "tool_calls", "message":
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_x", "type": "function", "function": {"name": "clock", "arguments": "{\"zone\":\"UTC\"}"}}]}}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 7}}),
    )]);
    let answer = world.post(CHAT, &body).await.json();
    assert_eq!(answer["finish_reason"], "TOOL_CALL");
    assert_eq!(answer["message"]["tool_calls"][0]["id"], "call_x");
    assert_eq!(answer["usage"]["billed_units"], json!({"input_tokens": 20, "output_tokens": 7}));
    assert_eq!(dropped(&world), ["safety_mode"]);

    // The conversation goes on at another provider.
    body["model"] = json!("claude-3-haiku");
    body["messages"].as_array_mut().unwrap().extend([
        answer["message"].clone(),
        json!({"role": "tool", "tool_call_id": "call_x", "content": [{"type": "document", "document": {"data": {"text": "noon"}}}]}),
    ]);
    world.anthropic.script([messages("It is noon.")]);
    let answer = world.post(CHAT, &body).await.json();
    assert_eq!(answer["message"]["content"], json!([{"type": "text", "text": "It is noon."}]));
    let asked = world.anthropic.asked().remove(0).body;
    assert_eq!(asked["messages"][2]["content"][0]["content"], json!([{"type": "text", "text": "noon"}]));
}

/// A stream that is cut after any event: without content another candidate answers, after it the client gets an error
/// and never an end.
#[tokio::test]
async fn every_cut_is_told_apart_by_the_commit_point() {
    let all = pieces(TEXT);
    let first = all.iter().position(|piece| piece.contains("content-delta")).unwrap();
    for then in [Then::End, Then::Cut] {
        for cut in 0..all.len() {
            let world = World::new(setup()).await;
            let broken = Reply::Stream { pieces: all[..cut].to_vec(), then };
            world.cohere.script([broken.clone(), broken]);
            world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
            let answer = world.post(CHAT, &hello_stream()).await;
            let (text, receipt) = (answer.text(), world.receipt());
            let last: Value = serde_json::from_str(text.trim_end().rsplit("data: ").next().unwrap()).unwrap();
            if cut <= first {
                assert_eq!(receipt.provider_served.as_deref(), Some("anthropic"), "cut after {cut}");
                assert_eq!(last["delta"]["finish_reason"], "STOP_SEQUENCE", "cut after {cut}: {text}");
            } else {
                let ends = text.matches("finish_reason").count();
                assert_eq!((ends, &last["delta"]["finish_reason"]), (1, &json!("ERROR")), "{cut}: {text}");
                assert_eq!(last["delta"]["code"], "stream_truncated", "cut after {cut}: {text}");
                assert_eq!(receipt.outcome, Outcome::Broken);
                assert!(world.anthropic.asked().is_empty(), "cut after {cut}: no second answer");
            }
        }
    }
}

#[tokio::test]
async fn giving_up_before_content_moves_on_and_the_messages_of_errors_are_read() {
    let gave_up = json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "no"}});
    let whole_error =
        json!({"id": "c", "finish_reason": "TIMEOUT", "message": {"role": "assistant", "content": []}});
    let error = |status, message: &str| whole(status, &json!({ "message": message }));
    let rows = [
        (stream_of(&format!("data: {gave_up}\n\n")), Class::Server),
        (whole(200, &whole_error), Class::Timeout),
        (error(401, "invalid api token"), Class::BadKey),
        (error(402, "Please add or update your payment method"), Class::OutOfMoney),
        (error(404, "model 'x' not found"), Class::NoModel),
        (
            error(429, "You are using a Trial key, which is limited to 1000 API calls / month."),
            Class::OutOfMoney,
        ),
        (error(499, "request cancelled"), Class::Server),
        (error(200, "something went wrong"), Class::Server),
    ];
    for (reply, class) in rows {
        let world = World::new(setup()).await;
        let streamed = matches!(reply, Reply::Stream { .. });
        world.cohere.script([reply.clone(), reply]);
        world.anthropic.script([if streamed { stream_of(ANTHROPIC_TEXT) } else { messages("salut") }]);
        let answer = world.post(CHAT, &if streamed { hello_stream() } else { hello() }).await;
        assert_eq!(answer.status, 200, "{class:?}: {}", answer.text());
        let receipt = world.receipt();
        assert_eq!(receipt.attempts[0].class, Some(class), "{receipt:?}");
        assert_eq!(receipt.provider_served.as_deref(), Some("anthropic"), "{class:?}");
    }
    let world = World::new(setup()).await;
    world.cohere.script([error(498, "blocked output: a potential violation of our usage guidelines")]);
    let answer = world.post(CHAT, &hello()).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (498, &json!("content_filter")));
    assert!(world.anthropic.asked().is_empty(), "a refusal is no reason to ask another");
}

#[tokio::test]
async fn the_bound_of_a_budget_is_put_where_cohere_reads_it() {
    for wanted in [None, Some(1_000_000), Some(7)] {
        let world = World::new(Setup { max_tokens: Some(2_000), ..setup() }).await;
        world.cohere.script([chats("hallo")]);
        let mut body = hello();
        body["max_tokens"] = json!(wanted);
        body["documents"] = json!([{"data": {"text": "kept"}}]);
        let answer = world.post(CHAT, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = world.cohere.asked().remove(0).body;
        let bound = sent["max_tokens"].as_u64().unwrap();
        assert!((1..2_000).contains(&bound) && wanted.is_none_or(|wanted| bound <= wanted), "{sent}");
        assert_eq!(sent["documents"], body["documents"]);
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_coheres_form() {
    let world = World::new(setup()).await;
    let answer = world.post(CHAT, &json!({"messages": [{"role": "user"}]})).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json(),
        json!({"message": "messages[0].content: is missing", "code": "invalid_request_error"})
    );
    let mut unknown = hello();
    unknown["model"] = json!("nobody-knows-it");
    let answer = world.post(CHAT, &unknown).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!("model_not_found")));
    let list = Request::get("/v1/models").header("x-fern-sdk-name", "cohere").body(empty()).unwrap();
    let listed = Answer::read(world.gateway.serve(&world.session, list).await).await.json();
    let first = &listed["models"][0];
    assert_eq!((&first["name"], &first["endpoints"]), (&json!("cohere/command-a-03-2025"), &json!(["chat"])));
    assert_eq!((&first["finetuned"], &first["context_length"]), (&json!(false), &json!(256_000)));
}

#[tokio::test]
async fn a_direct_call_to_cohere_is_seen() {
    let world = World::new(setup()).await;
    let direct = |path| world.gateway.inference(Scheme::Https, "api.cohere.com", 443, &Method::POST, path);
    assert_eq!(direct(CHAT).map(|direct| direct.provider.to_string()).as_deref(), Some("cohere"));
    assert_eq!(direct("/v2/embed").map(|direct| direct.provider.to_string()).as_deref(), Some("cohere"));
    assert_eq!((direct("/v1/chat"), direct("/v2/rerank")), (None, None));
}
