//! What providers do by themselves, kind by kind, in the words of each dialect; and what stays out of their accounts.

use http::{Method, Request};
use orch_manifests::{Scheme, ServerTool, ServerTools};
use orch_proxy::full;
use serde_json::{Value, json};

use crate::upstream::{says, whole};
use crate::world::{Answer, Setup, World, world};

const RESPONSES: &str = "/v1/responses";

/// A response of OpenAI under this id.
fn responds(id: &str) -> crate::upstream::Reply {
    let part = json!({"type": "output_text", "text": "hi", "annotations": []});
    let message = json!({"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]});
    let answer = json!({
        "id": id, "object": "response", "created_at": 1_700_000_000, "model": "gpt-4o-mini-2024-07-18",
        "status": "completed", "output": [message],
        "usage": {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27},
    });
    whole(200, &answer)
}

#[tokio::test]
async fn each_kind_is_refused_in_the_client_s_dialect_with_the_field_and_the_grant() {
    let world = world().await;
    let hi = json!([{"role": "user", "content": "hi"}]);
    let image = json!({"type": "image_url", "image_url": {"url": "https://x.example/?q=data"}});
    let file = json!({"fileData": {"fileUri": "https://x.example/a.pdf", "mimeType": "application/pdf"}});
    let s3 = json!({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/x.png"}}}});
    for (path, body, field, kind) in [
        (
            "/v1/chat/completions",
            json!({"messages": hi, "web_search_options": {}}),
            "web_search_options",
            "search",
        ),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": [image]}]}),
            "messages[0].content[0]",
            "image_url",
        ),
        (RESPONSES, json!({"input": "hi", "store": true}), "store", "stored"),
        (
            "/v1/chat/completions",
            json!({"model": "aws/arn:aws:bedrock:us-east-1:123456789012:provisioned-model/x", "messages": hi}),
            "model",
            "stored",
        ),
        (
            "/v1/embeddings",
            json!({"model": "text-embedding-3-small", "input": "hi", "store": true}),
            "store",
            "stored",
        ),
        (
            RESPONSES,
            json!({"input": [{"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]},
                {"role": "user", "content": "hi"}]}),
            "input[0]",
            "search",
        ),
        (
            RESPONSES,
            json!({"input": "hi", "previous_response_id": "resp_9"}),
            "previous_response_id",
            "stored",
        ),
        (
            RESPONSES,
            json!({"input": "hi", "tools": [{"type": "mcp", "server_url": "https://x"}]}),
            "tools[0]",
            "mcp",
        ),
        (
            "/v1/messages",
            json!({"max_tokens": 9, "messages": hi, "tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]}),
            "tools[0]",
            "fetch",
        ),
        (
            "/v1beta/models/gemini-2.5-flash:generateContent",
            json!({"contents": [{"parts": [{"text": "hi"}, file]}]}),
            "contents[0].parts[1]",
            "image_url",
        ),
        (
            "/v1beta/models/gemini-2.5-flash:generateContent",
            json!({"contents": [{"parts": [{"text": "hi"}]}], "tools": [{"codeExecution": {}}]}),
            "tools[0]",
            "code",
        ),
        (
            "/model/amazon.nova-lite-v1:0/converse",
            json!({"messages": [{"role": "user", "content": [s3]}]}),
            "messages[0].content[0]",
            "stored",
        ),
        ("/v2/chat", json!({"messages": hi, "tools": [{"type": "web_search"}]}), "tools[0]", "search"),
        ("/api/chat", json!({"messages": hi, "tools": [{"type": "web_search"}]}), "tools[0]", "search"),
    ] {
        let answer = world.post(path, &body).await;
        let text = answer.text().to_owned();
        assert_eq!(answer.status, 403, "{path}: {text}");
        assert!(text.contains(&format!("{field}: the provider would")), "{path}: {text}");
        assert!(text.contains(&format!("llm.server_tools: {kind};")), "{path}: {text}");
        assert!(text.contains(&format!("--grant llm.server_tools:{kind} grants it")), "{path}: {text}");
    }
    let answer = world.post("/v1/chat/completions", &json!({"messages": hi, "web_search_options": {}})).await;
    let error = &answer.json()["error"];
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("orch_server_tools"), &json!("web_search_options")),
        "{error}"
    );
    assert_eq!(world.live.requests_used(), 0, "nothing was sent");
}

#[tokio::test]
async fn a_kind_that_was_granted_passes_and_the_others_do_not() {
    let mut world = world().await;
    world.session.server_tools = ServerTool::Search.into();
    world.openai.script([says("found")]);
    let body = |tools: Value| json!({"messages": [{"role": "user", "content": "hi"}], "tools": tools});
    let answer = world.chat(&body(json!([{"type": "web_search"}]))).await;
    assert_eq!(answer.said(), "found", "{}", answer.text());
    // What nobody knows needs every kind, those included that the run has.
    let answer = world.chat(&body(json!([{"type": "brand_new"}]))).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("llm.server_tools:fetch,mcp,code,image_url,stored"), "{}", answer.text());
    world.session.server_tools = ServerTools::ALL;
    world.openai.script([says("new")]);
    assert_eq!(world.chat(&body(json!([{"type": "brand_new"}]))).await.said(), "new");
}

#[tokio::test]
async fn a_direct_call_to_the_provider_s_host_is_no_way_around() {
    let world = world().await;
    let direct = world
        .gateway
        .inference(Scheme::Https, "api.openai.com", 443, &Method::POST, RESPONSES)
        .expect("an inference path");
    let body = json!({"model": "gpt-4o-mini", "input": "hi", "conversation": "conv_1"});
    let request = Request::post(format!("https://api.openai.com{RESPONSES}"))
        .header("authorization", format!("Bearer {}", world.placeholder.as_str()))
        .body(full(body.to_string()))
        .unwrap();
    let answer = Answer::read(world.gateway.passthrough(&world.session, &direct, request).await).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(answer.json()["error"]["param"], "conversation");
    assert_eq!(world.live.requests_used(), 0);
}

#[tokio::test]
async fn nothing_is_kept_in_an_account_that_the_run_may_not_write_to() {
    let world = world().await;
    let thought = |sealed: Value| json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed});
    let message = json!({"role": "user", "content": "go on"});
    world.openai.script([responds("resp_1")]);
    let body = json!({"input": [thought(Value::Null), thought(json!("sealed")), message]});
    let answer = world.post(RESPONSES, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let asked = world.openai.asked().remove(0).body;
    assert_eq!(asked["store"], false, "{asked}");
    assert_eq!(asked["input"], json!([thought(json!("sealed")), message]), "{asked}");
    let dropped: Vec<String> = world.receipt().dropped.into_iter().map(|dropped| dropped.field).collect();
    assert_eq!(dropped, ["input[0]"]);

    // Whoever may write to it is not spoken for, and the bytes are the client's own.
    let stored = World::new(Setup { server_tools: true, ..Setup::default() }).await;
    stored.openai.script([responds("resp_1")]);
    let answer = stored.post(RESPONSES, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let asked = stored.openai.asked().remove(0).body;
    assert_eq!((asked.get("store"), &asked["input"]), (None, &body["input"]));
}

#[tokio::test]
async fn a_run_goes_on_from_its_own_answers_and_from_nobody_else_s() {
    let world = world().await;
    let on = |id: &str| json!({"input": "on", "previous_response_id": id});
    world.openai.script([responds("resp_own"), responds("resp_next")]);
    assert_eq!(world.post(RESPONSES, &on("resp_own")).await.status, 403, "before it was given");
    assert_eq!(world.post(RESPONSES, &json!({"input": "hi"})).await.json()["id"], "resp_own");
    let answer = world.post(RESPONSES, &on("resp_own")).await;
    assert_eq!(answer.json()["id"], "resp_next", "{}", answer.text());
    assert_eq!(world.openai.asked().pop().unwrap().body["previous_response_id"], "resp_own");
    let answer = world.post(RESPONSES, &on("resp_other")).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["param"]),
        (403, &json!("previous_response_id"))
    );
    // Another run has answers of its own.
    let other = World::new(Setup::default()).await;
    assert_eq!(other.post(RESPONSES, &on("resp_own")).await.status, 403);
}

#[tokio::test]
async fn a_model_that_searches_by_itself_is_passed_over() {
    let world =
        World::new(Setup { models: &["openai/gpt-4o-search-preview", "claude-3-haiku"], ..Setup::default() })
            .await;
    world.anthropic.script([crate::upstream::messages("no search")]);
    let answer =
        world.chat(&json!({"model": "default", "messages": [{"role": "user", "content": "hi"}]})).await;
    assert_eq!(answer.said(), "no search", "{}", answer.text());
    let skipped = world.receipt().skipped;
    assert!(skipped[0].reason.contains("llm.server_tools: search"), "{skipped:?}");
    assert!(world.openai.asked().is_empty());
    let alone = World::new(Setup { models: &["openai/gpt-4o-search-preview"], ..Setup::default() }).await;
    let answer =
        alone.chat(&json!({"model": "default", "messages": [{"role": "user", "content": "hi"}]})).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
}
