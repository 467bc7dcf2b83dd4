//! The name of each request, and receipts of calls that came to nothing.

use http::Request;
use orch_gateway::ir::Class;
use orch_gateway::{Outcome, Receipt, RequestId};
use orch_proxy::full;
use serde_json::{Value, json};

use crate::upstream::{Reply, Then, pieces, stream_of, whole};
use crate::world::{Answer, Setup, World, hello, hello_stream, world};

const CHAT: &str = "/v1/chat/completions";

fn id_of(answer: &Answer) -> String {
    answer.headers["x-request-id"].to_str().unwrap().to_owned()
}

fn failing(id: &'static str) -> Reply {
    let body = json!({ "error": { "message": "no", "code": "invalid_api_key" } }).to_string();
    Reply::Whole { status: 401, headers: vec![("x-request-id", id.to_owned())], body }
}

#[tokio::test]
async fn one_name_is_in_the_answer_the_receipt_and_the_decisions() {
    let world = world().await;
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-3-haiku-20240307",
        "content": [{ "type": "text", "text": "hi" }], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 20, "output_tokens": 7 },
    });
    world.openai.script([failing("req_of_openai")]);
    let headers = vec![("request-id", "req_of_anthropic".to_owned())];
    world.anthropic.script([Reply::Whole { status: 200, headers, body: message.to_string() }]);
    let answer = world.chat(&hello()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = id_of(&answer);
    let receipt = world.receipt();
    assert_eq!(receipt.request_id, id);
    let theirs: Vec<_> = receipt.attempts.iter().map(|attempt| attempt.request_id.as_deref()).collect();
    assert_eq!(theirs, [Some("req_of_openai"), Some("req_of_anthropic")]);
    assert_eq!(receipt.price_as_of.as_deref(), Some("2026-07-02"));
    let header: Value = serde_json::from_str(answer.headers["x-orch-receipt"].to_str().unwrap()).unwrap();
    assert_eq!(header["request_id"], id.as_str());
    let decisions = world.live.ledger().decisions();
    assert_eq!(decisions.len(), 2);
    assert!(decisions.iter().all(|decision| decision.request_id.as_deref() == Some(&id)), "{decisions:?}");

    // The door may have made one already.
    let given = RequestId::random();
    world.openai.script([crate::upstream::says("hi")]);
    let mut request = Request::post(CHAT).body(full(hello().to_string())).unwrap();
    request.extensions_mut().insert(given.clone());
    let answer = Answer::read(world.gateway.serve(&world.session, request).await).await;
    assert_eq!(
        (id_of(&answer).as_str(), world.receipt().request_id.as_str()),
        (given.as_str(), given.as_str())
    );
}

#[tokio::test]
async fn a_call_that_is_refused_at_once_leaves_a_receipt() {
    let world = world().await;
    let text = "sk-this-could-be-a-key-in-the-wrong-place";
    for (path, body, status, class, model, field) in [
        (CHAT, "{".to_owned(), 400, Class::BadRequest, "", None),
        (
            CHAT,
            json!({ "messages": [{ "role": text, "content": "" }] }).to_string(),
            400,
            Class::BadRequest,
            "",
            Some("messages[0].role"),
        ),
        (
            CHAT,
            json!({ "model": "nobody-knows-it", "messages": hello()["messages"] }).to_string(),
            404,
            Class::NoModel,
            "nobody-knows-it",
            Some("model"),
        ),
        (
            CHAT,
            json!({ "model": "gemini-2.5-flash", "messages": hello()["messages"] }).to_string(),
            404,
            Class::NoModel,
            "gemini-2.5-flash",
            Some("model"),
        ),
        ("/v1/embeddings", json!({ "model": "m" }).to_string(), 400, Class::BadRequest, "", Some("input")),
        ("/v1beta/models/m:generateContent", "7".to_owned(), 400, Class::BadRequest, "m", None),
    ] {
        let before = world.session.receipts.all().len();
        let request = Request::post(path).body(full(body.clone())).unwrap();
        let answer = Answer::read(world.gateway.serve(&world.session, request).await).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert_eq!(world.session.receipts.all().len(), before + 1, "{body}");
        let receipt = world.receipt();
        assert_eq!(
            (receipt.request_id.as_str(), receipt.outcome),
            (id_of(&answer).as_str(), Outcome::Rejected)
        );
        let refused = receipt.refused.clone().unwrap();
        assert_eq!((refused.class, refused.field.as_deref()), (class, field), "{body}");
        assert_eq!(receipt.model_asked, model, "{body}");
        assert!(receipt.attempts.is_empty() && !serde_json::to_string(&receipt).unwrap().contains(text));
        assert!(answer.headers.contains_key("x-orch-receipt"));
    }
    // What is no call leaves none, but has a name.
    let before = world.session.receipts.all().len();
    for request in [
        Request::get(CHAT).body(full("")).unwrap(),
        Request::post("/v1/nowhere").body(full("")).unwrap(),
        Request::get("/v1/models").body(full("")).unwrap(),
        Request::get("/v1/models/nobody-knows-it").body(full("")).unwrap(),
    ] {
        let answer = Answer::read(world.gateway.serve(&world.session, request).await).await;
        assert!(id_of(&answer).starts_with("req_"));
    }
    assert_eq!(world.session.receipts.all().len(), before);
    // A run that does nothing else does not fill the memory.
    for _ in 0..300 {
        let request = Request::post(CHAT).body(full("{")).unwrap();
        assert_eq!(world.gateway.serve(&world.session, request).await.status(), 400);
    }
    assert_eq!(world.session.receipts.all().len(), 256);
}

/// A client makes up names as long as its requests may be; what is kept of a call does not grow with them.
#[tokio::test]
async fn names_in_receipts_are_cut_to_a_bound() {
    let world = world().await;
    let endless = "m".repeat(1 << 20);
    let most = 4 << 10;
    let bounded = |receipt: &Receipt| {
        let written = serde_json::to_string(receipt).unwrap();
        assert!(written.len() < most, "{} bytes: {}…", written.len(), &written[..200]);
        assert!(receipt.model_asked.chars().count() <= 501, "{}", receipt.model_asked.len());
    };
    for model in [endless.clone(), format!("openai/{endless}"), format!("\u{1b}[2J{endless}")] {
        // A model that nobody knows, asked of nobody or of a provider that may have it.
        let body = json!({ "model": model, "messages": hello()["messages"] });
        let answer = world.post(CHAT, &body).await;
        let receipt = world.receipt();
        bounded(&receipt);
        assert!(!receipt.model_asked.contains('\u{1b}'), "{}", answer.status);
        let header = answer.headers.get("x-orch-receipt").map_or(0, |header| header.len());
        assert!(header < most, "{header}");
    }
    // A field whose name is the client's own words.
    let mut body = hello();
    body["messages"][0]["content"] =
        json!([{ "type": "text", "text": "x", (endless.to_uppercase()): 1, "TEXT": 2 }]);
    assert_eq!(world.chat(&body).await.status, 400);
    bounded(&world.receipt());
    let mut body = hello();
    body["tools"] = json!([{ "type": "function", "function": { "name": 1 } }]);
    body["messages"][0][&endless] = json!({});
    world.chat(&body).await;
    let receipt = world.receipt();
    bounded(&receipt);
    if let Some(field) = receipt.refused.and_then(|refused| refused.field) {
        assert!(field.chars().count() <= 129, "{field}");
    }
}

/// Text that goes on for as long as it is let.
fn long(count: usize) -> String {
    let chunk = |text: &str| {
        let delta = json!({ "index": 0, "delta": { "content": text }, "finish_reason": null });
        format!(
            "data: {}\n\n",
            json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [delta] })
        )
    };
    (0..count).map(|at| chunk(&format!("{at} all kinds of words that are not the same, "))).collect()
}

fn last_receipt(text: &str) -> Value {
    let (_, after) =
        text.rsplit_once("event: orch.receipt\ndata: ").unwrap_or_else(|| panic!("no receipt: {text}"));
    serde_json::from_str(after.trim()).unwrap()
}

#[tokio::test]
async fn a_stream_that_ends_badly_ends_with_its_receipt_where_one_is_wanted() {
    let wanted = [("x-orch-receipt", "true")];
    let world = world().await;
    for then in [Then::End, Then::Cut] {
        for headers in [&wanted[..], &[]] {
            world.openai.script([Reply::Stream { pieces: pieces(&long(2)), then }]);
            let answer = world.post_with(CHAT, headers, &hello_stream()).await;
            assert!(answer.text().contains("\"error\""), "{}", answer.text());
            if headers.is_empty() {
                assert!(!answer.text().contains("orch.receipt"));
                continue;
            }
            let receipt = last_receipt(answer.text());
            assert_eq!(
                (&receipt["outcome"], &receipt["request_id"]),
                (&json!("broken"), &json!(id_of(&answer)))
            );
        }
    }
    let world = World::new(Setup { max_tokens: Some(500), ..Setup::default() }).await;
    world.openai.script([stream_of(&long(400))]);
    let answer = world.post_with(CHAT, &wanted, &hello_stream()).await;
    let receipt = last_receipt(answer.text());
    assert_eq!((&receipt["outcome"], &receipt["class"]), (&json!("limit"), &json!("out_of_money")));
}

#[tokio::test]
async fn a_name_that_a_provider_makes_up_is_bounded() {
    let world = World::new(Setup { models: &["gpt-4o-mini"], ..Setup::default() }).await;
    let headers = vec![("x-request-id", "x".repeat(4000))];
    let body = json!({ "error": { "message": "no" } }).to_string();
    world.openai.script([Reply::Whole { status: 400, headers, body }]);
    assert_eq!(world.chat(&hello()).await.status, 400);
    assert_eq!(world.receipt().attempts[0].request_id.as_ref().map(String::len), Some(128));
    world.openai.script([whole(400, &json!({ "error": { "message": "no" } }))]);
    assert_eq!(world.chat(&hello()).await.status, 400);
    assert_eq!(world.receipt().attempts[0].request_id, None);
}
