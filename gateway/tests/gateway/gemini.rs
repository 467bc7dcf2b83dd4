//! Gemini at both ends: its clients at the gateway and on the way to Google, and Google as a provider.

use http::{Method, Request};
use orch_gateway::Outcome;
use orch_gateway::ir::Class;
use orch_manifests::Scheme;
use orch_proxy::{empty, full};
use serde_json::{Value, json};

use crate::upstream::{Reply, Then, generates, messages, pieces, says, stream_of, whole};
use crate::world::{Answer, GEMINI_KEY, Setup, World, hello, hello_stream, world};

const TEXT: &str = include_str!("../../src/dialect/fixtures/gemini_text.sse");
const TOOLS: &str = include_str!("../../src/dialect/fixtures/gemini_tools.sse");
const ERROR: &str = include_str!("../../src/dialect/fixtures/gemini_error.sse");
const ANTHROPIC_TEXT: &str = include_str!("../../src/dialect/fixtures/anthropic_text.sse");

const WHOLE: &str = "/v1beta/models/default:generateContent";
const STREAM: &str = "/v1beta/models/default:streamGenerateContent?alt=sse";
const DIRECT: &str = "/v1beta/models/gemini-2.5-flash:generateContent";

fn setup() -> Setup {
    Setup { models: &["gemini-2.5-flash", "claude-3-haiku"], ..Setup::default() }
}

fn asking() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]})
}

fn said(answer: &Answer) -> String {
    let answer = answer.json();
    let parts = answer.pointer("/candidates/0/content/parts").and_then(Value::as_array).into_iter().flatten();
    parts.filter_map(|part| part["text"].as_str()).collect()
}

#[tokio::test]
async fn clients_of_every_dialect_are_served_by_gemini() {
    let world = World::new(setup()).await;
    for (path, mut body, pointer) in [
        ("/v1/chat/completions", hello(), "/choices/0/message/content"),
        ("/v1/messages", hello(), "/content/0/text"),
        (WHOLE, asking(), "/candidates/0/content/parts/0/text"),
    ] {
        if path == "/v1/messages" {
            body["max_tokens"] = json!(50);
        }
        world.gemini.script([generates("hallo")]);
        let answer = world.post(path, &body).await;
        assert_eq!(answer.json().pointer(pointer), Some(&json!("hallo")), "{path}: {}", answer.text());
        let asked = world.gemini.asked().remove(0);
        assert_eq!((asked.path.as_str(), asked.query), (DIRECT, None));
        assert_eq!(asked.headers["x-goog-api-key"], GEMINI_KEY);
        assert!(asked.headers.get("authorization").is_none());
        assert_eq!(asked.body["contents"][0]["parts"][0]["text"], "hello");
        assert!(asked.body.get("model").is_none() && asked.body.get("stream").is_none());
        let receipt = world.receipt();
        assert_eq!((receipt.outcome, receipt.input_tokens, receipt.output_tokens), (Outcome::Served, 20, 7));
        assert_eq!(receipt.model_served.as_deref(), Some("gemini-2.5-flash"));
        // 20 at 0.30 and 7 at 2.50 dollars a million, thoughts included.
        assert_eq!(receipt.cost_micro_usd, Some(24));
    }
}

#[tokio::test]
async fn a_client_of_gemini_is_served_by_the_others_with_tools() {
    let world = world().await;
    let tools = json!([{"functionDeclarations": [{"name": "clock", "parameters": {"type": "OBJECT", "properties": {"zone": {"type": "STRING"}}}}]}]);
    let mut body = asking();
    body["tools"] = tools;
    world.openai.script([whole(
        200,
        &json!({"id": "chatcmpl-1", "model": "gpt-4o-mini", "choices": [{"index": 0, "finish_reason": "tool_calls", "message":
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_x", "type": "function", "function": {"name": "clock", "arguments": "{\"zone\":\"UTC\"}"}}]}}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 7}}),
    )]);
    let answer = world.post("/v1beta/models/openai/gpt-4o-mini:generateContent", &body).await;
    let part = answer.json()["candidates"][0]["content"]["parts"][0].clone();
    assert_eq!(part, json!({"functionCall": {"id": "call_x", "name": "clock", "args": {"zone": "UTC"}}}));
    let asked = world.openai.asked().remove(0).body;
    assert_eq!(asked["tools"][0]["function"]["parameters"]["properties"]["zone"], json!({"type": "string"}));

    // The conversation goes on at another provider, by the same id.
    body["contents"].as_array_mut().unwrap().extend([
        json!({"role": "model", "parts": [part]}),
        json!({"role": "user", "parts": [{"functionResponse": {"name": "clock", "response": {"output": "noon"}}}]}),
    ]);
    world.anthropic.script([messages("It is noon.")]);
    let answer = world.post("/v1/models/claude-3-haiku:generateContent", &body).await;
    assert_eq!(said(&answer), "It is noon.");
    let asked = world.anthropic.asked().remove(0).body;
    assert_eq!(asked["messages"][1]["content"][0]["id"], "call_x");
    assert_eq!(asked["messages"][2]["content"][0]["tool_use_id"], "call_x");
}

#[tokio::test]
async fn a_stream_of_the_same_dialect_passes_byte_for_byte_and_ends_with_its_body() {
    for text in [TEXT.to_owned(), TOOLS.to_owned(), TEXT.replace('\n', "\r\n")] {
        let world = World::new(setup()).await;
        let whole = Reply::Stream { pieces: vec![text.clone()], then: Then::End };
        world.gemini.script([whole]);
        let answer = world.post(STREAM, &asking()).await;
        assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(answer.text(), text);
        let asked = world.gemini.asked().remove(0);
        assert_eq!(asked.path, "/v1beta/models/gemini-2.5-flash:streamGenerateContent");
        assert_eq!(asked.query.as_deref(), Some("alt=sse"));
        let receipt = world.receipt();
        assert_eq!((receipt.outcome, receipt.input_tokens, receipt.output_tokens), (Outcome::Served, 20, 7));
        assert!(!receipt.estimated);
    }
    let world = World::new(setup()).await;
    world.gemini.script([stream_of(TEXT)]);
    let answer = world.post_with(STREAM, &[("x-orch-receipt", "true")], &asking()).await;
    let (stream, receipt) = answer.text().split_once("event: orch.receipt\ndata: ").unwrap();
    assert_eq!(stream, TEXT);
    assert!(receipt.contains("\"provider_served\":\"gemini\""), "{receipt}");
}

/// What Google has cached is input, too, and no byte of it is in the request.
#[tokio::test]
async fn cached_content_is_set_aside_for_as_long_as_it_may_be() {
    let bounded = Setup { max_tokens: Some(20_000), server_tools: true, ..setup() };
    let world = World::new(Setup { models: &["gemini-2.5-flash"], ..bounded }).await;
    world.gemini.script([generates("hallo")]);
    assert_eq!(world.post(WHOLE, &asking()).await.status, 200);
    for field in ["cachedContent", "cached_content"] {
        let mut body = asking();
        body[field] = json!("cachedContents/long");
        let answer = world.post(WHOLE, &body).await;
        assert_eq!(answer.status, 429, "{field}: {}", answer.text());
        assert_eq!(world.receipt().outcome, Outcome::Limit, "{field}");
    }
    assert_eq!(world.gemini.asked().len(), 1);
}

#[tokio::test]
async fn a_stream_that_gives_up_before_anything_is_said_moves_on() {
    let gave_up = json!({
        "candidates": [{"content": {}, "finishReason": "MALFORMED_FUNCTION_CALL", "index": 0}],
        "usageMetadata": {"promptTokenCount": 20}, "modelVersion": "gemini-2.5-flash", "responseId": "r",
    });
    let gave_up = stream_of(&format!("data: {gave_up}\n\n"));
    let world = World::new(setup()).await;
    world.gemini.script([gave_up.clone(), gave_up.clone()]);
    world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
    let answer = world.chat(&hello_stream()).await;
    assert!(answer.text().contains("Grüße"), "{}", answer.text());
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    let receipt = world.receipt();
    assert_eq!(receipt.attempts[0].class, Some(Class::Server), "{receipt:?}");
    assert_eq!(receipt.provider_served.as_deref(), Some("anthropic"));
    let charged = receipt.attempts.iter().filter_map(|attempt| attempt.charged.as_ref());
    let charged: Vec<_> = charged.map(|charged| (charged.input_tokens, charged.output_tokens)).collect();
    assert_eq!(charged, [(20, 0), (20, 0)], "what it counted is what it charges");
    // To a client of its own it may say so itself.
    let world = World::new(setup()).await;
    world.gemini.script([gave_up]);
    assert!(world.post(STREAM, &asking()).await.text().contains("MALFORMED_FUNCTION_CALL"));
}

#[tokio::test]
async fn a_stream_is_translated_to_its_clients_terminator() {
    let world = World::new(setup()).await;
    world.gemini.script([stream_of(TOOLS), stream_of(TOOLS)]);
    let answer = world.chat(&hello_stream()).await;
    assert!(answer.text().contains("\"finish_reason\":\"tool_calls\""), "{}", answer.text());
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    let body = json!({"stream": true, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]});
    let answer = world.post("/v1/messages", &body).await;
    assert!(answer.text().contains("event: message_stop\n"), "{}", answer.text());
}

/// A stream that is cut after any event: without content another candidate answers, after it the client gets an error
/// and never an end, wherever its body ended.
#[tokio::test]
async fn every_cut_is_told_apart_by_the_commit_point() {
    // Counts alone are no content.
    let counts = "data: {\"usageMetadata\":{\"promptTokenCount\":20}}\n\n".to_owned();
    let all: Vec<String> = std::iter::once(counts).chain(pieces(TEXT)).collect();
    for then in [Then::End, Then::Cut] {
        for cut in 0..all.len() {
            let world = World::new(setup()).await;
            let broken = Reply::Stream { pieces: all[..cut].to_vec(), then };
            world.gemini.script([broken.clone(), broken]);
            world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
            let answer = world.post(STREAM, &asking()).await;
            let (text, receipt) = (answer.text(), world.receipt());
            if cut < 2 {
                assert_eq!(receipt.provider_served.as_deref(), Some("anthropic"), "cut after {cut}");
                assert!(text.contains("\"finishReason\":\"STOP\""), "cut after {cut}: {text}");
                assert!(
                    receipt.attempts.iter().take(2).all(|a| a.class == Some(Class::Truncated)),
                    "{receipt:?}"
                );
            } else {
                assert!(!text.contains("finishReason"), "cut after {cut}: {text}");
                let last: Value =
                    serde_json::from_str(text.trim_end().rsplit("data: ").next().unwrap()).unwrap();
                assert_eq!(
                    last["error"]["details"][0]["reason"], "STREAM_TRUNCATED",
                    "cut after {cut}: {text}"
                );
                assert_eq!(receipt.outcome, Outcome::Broken);
                assert!(world.anthropic.asked().is_empty(), "cut after {cut}: no second answer");
            }
        }
        // The reason is there, and the body still breaks off or leaves half an event behind.
        let mut pieces = all.clone();
        if then == Then::End {
            pieces.push("data: {\"candid".to_owned());
        }
        let world = World::new(setup()).await;
        world.gemini.script([Reply::Stream { pieces, then }]);
        let answer = world.post(STREAM, &asking()).await;
        assert!(answer.text().contains("STREAM_TRUNCATED"), "{}", answer.text());
        assert_eq!(world.receipt().outcome, Outcome::Broken);
    }
}

#[tokio::test]
async fn errors_before_content_move_on_and_a_blocked_prompt_does_not() {
    let error = |code: u16, status: &str, details: Value| {
        whole(code, &json!({"error": {"code": code, "message": "no", "status": status, "details": details}}))
    };
    let quota = |id: &str| json!([{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": id}]}]);
    let rows = [
        (
            error(429, "RESOURCE_EXHAUSTED", quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")),
            Class::OutOfMoney,
        ),
        (error(400, "INVALID_ARGUMENT", json!([{"reason": "API_KEY_INVALID"}])), Class::BadKey),
        (error(403, "PERMISSION_DENIED", json!([])), Class::NoAccess),
        (error(404, "NOT_FOUND", json!([])), Class::NoModel),
        (stream_of(&pieces(ERROR)[1]), Class::Overloaded),
    ];
    for (reply, class) in rows {
        let world = World::new(setup()).await;
        let streamed = matches!(reply, Reply::Stream { .. });
        world.gemini.script([reply.clone(), reply]);
        world.anthropic.script([if streamed { stream_of(ANTHROPIC_TEXT) } else { messages("salut") }]);
        let answer = world.post(if streamed { STREAM } else { WHOLE }, &asking()).await;
        assert_eq!(answer.status, 200, "{class:?}: {}", answer.text());
        let receipt = world.receipt();
        assert_eq!(receipt.attempts[0].class, Some(class));
        assert_eq!(receipt.provider_served.as_deref(), Some("anthropic"), "{class:?}");
    }
    let blocked =
        json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}});
    for reply in [whole(200, &blocked), stream_of(&format!("data: {blocked}\n\n"))] {
        let world = World::new(setup()).await;
        let streamed = matches!(reply, Reply::Stream { .. });
        world.gemini.script([reply]);
        let answer = world.post(if streamed { STREAM } else { WHOLE }, &asking()).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json()["error"]["details"][0]["reason"], "SAFETY", "{}", answer.text());
        assert_eq!(world.receipt().attempts[0].class, Some(Class::RefusedByFilter));
        assert!(world.anthropic.asked().is_empty());
    }
    // After content, the client is told in its own form.
    let world = World::new(setup()).await;
    world.gemini.script([stream_of(ERROR)]);
    let answer = world.post(STREAM, &asking()).await;
    assert!(
        answer.text().contains("Once") && answer.text().contains("\"status\":\"UNAVAILABLE\""),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_wait_that_an_error_in_a_stream_asks_for_is_no_shorter_than_that() {
    let error = json!({"error": {"code": 429, "message": "no", "status": "RESOURCE_EXHAUSTED", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3000s"}]}});
    let limited = || stream_of(&format!("data: {error}\n\n"));
    let world = World::new(setup()).await;
    world.gemini.script([limited(), limited()]);
    world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
    let answer = world.post(STREAM, &asking()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(world.gemini.asked().len(), 1, "it is not asked again before that");
    let receipt = world.receipt();
    assert_eq!(receipt.attempts[0].class, Some(Class::RateLimited));
    assert_eq!(receipt.provider_served.as_deref(), Some("anthropic"));
}

#[tokio::test]
async fn the_bound_of_a_budget_is_put_where_gemini_reads_it() {
    let bounds = |body: Value| async move {
        let world = World::new(Setup { max_tokens: Some(2_000), ..setup() }).await;
        world.gemini.script([generates("hallo")]);
        let answer = world.post(WHOLE, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        world.gemini.asked().remove(0).body
    };
    let with = |key: &str, config: Value| {
        let mut body = asking();
        body[key] = config;
        body
    };
    let bound = |config: &Value, key: &str| config[key].as_u64().is_some_and(|max| (1..2_000).contains(&max));
    let sent = bounds(asking()).await;
    assert!(bound(&sent["generationConfig"], "maxOutputTokens"), "{sent}");
    let sent =
        bounds(with("generationConfig", json!({"temperature": 0.25, "maxOutputTokens": 1_000_000}))).await;
    assert!(bound(&sent["generationConfig"], "maxOutputTokens"), "{sent}");
    assert_eq!(sent["generationConfig"]["temperature"], 0.25);
    // Nor does another spelling get around it.
    let sent = bounds(with("generation_config", json!({"max_output_tokens": 1_000_000}))).await;
    assert!(bound(&sent["generation_config"], "max_output_tokens"), "{sent}");
    assert_eq!(sent.get("generationConfig"), None);
    let sent = bounds(with("generationConfig", json!({"max_output_tokens": 7}))).await;
    assert_eq!(sent["generationConfig"], json!({"max_output_tokens": 7}));
}

#[tokio::test]
async fn what_costs_more_than_is_known_needs_a_run_without_a_cost_limit() {
    for (key, config) in [
        ("generationConfig", json!({"responseModalities": ["AUDIO"]})),
        ("generation_config", json!({"response_modalities": ["IMAGE", "TEXT"]})),
        ("service_tier", json!("PRIORITY")),
    ] {
        let world = World::new(Setup { max_micro_usd: Some(1_000_000), ..setup() }).await;
        let mut body = asking();
        body[key] = config;
        let answer = world.post(WHOLE, &body).await;
        assert_eq!(answer.status, 400, "{key}");
        assert!(world.gemini.asked().is_empty());
    }
    // An address, or a little film, can be as long as the context.
    let film = json!({"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}});
    let world = World::new(Setup { max_tokens: Some(100_000), ..setup() }).await;
    let answer = world.post(WHOLE, &json!({"contents": [{"parts": [film]}]})).await;
    assert_eq!(answer.json()["error"]["details"][0]["reason"], "orch_limit_reached", "{}", answer.text());
}

#[tokio::test]
async fn addresses_that_do_not_fit_are_refused_in_geminis_form() {
    let world = World::new(setup()).await;
    let call = async |method: Method, path: &str, body: &Value| {
        let request = Request::builder().method(method).uri(path).body(full(body.to_string())).unwrap();
        Answer::read(world.gateway.serve(&world.session, request).await).await
    };
    let reason = |answer: &Answer| answer.json()["error"]["details"][0]["reason"].clone();
    for path in
        ["/v1beta/models/gemini-2.5-flash:countTokens", "/v1beta/files", "/v1beta/models/gemini-2.5-flash"]
    {
        let answer = call(Method::POST, path, &asking()).await;
        assert_eq!((answer.status.as_u16(), reason(&answer)), (404, json!("unknown_path")), "{path}");
    }
    let answer = call(Method::GET, WHOLE, &asking()).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (405, &json!(405)));
    // A key in the address, and a stream that is no stream of events.
    for (path, field, word) in [
        ("/v1beta/models/default:generateContent?key=AIza", "key", "x-goog-api-key"),
        ("/v1beta/models/default:streamGenerateContent?alt=sse&key=AIza", "key", "x-goog-api-key"),
        ("/v1beta/models/default:streamGenerateContent", "alt", "?alt=sse"),
    ] {
        let answer = call(Method::POST, path, &asking()).await;
        assert_eq!(answer.status, 400, "{path}");
        let error = &answer.json()["error"];
        assert_eq!(error["details"][0]["fieldViolations"][0]["field"], field, "{path}: {error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{path}: {error}");
    }
    let request = Request::get("/v1beta/models?key=AIza").body(empty()).unwrap();
    assert_eq!(Answer::read(world.gateway.serve(&world.session, request).await).await.status, 400);
    // The body may repeat the path's model and not contradict it.
    let mut body = asking();
    body["model"] = json!("models/gemini-2.5-pro");
    assert_eq!(call(Method::POST, DIRECT, &body).await.status, 400);
    assert!(world.gemini.asked().is_empty());
    world.gemini.script([generates("hallo")]);
    body["model"] = json!("models/gemini-2.5-flash");
    assert_eq!(said(&call(Method::POST, DIRECT, &body).await), "hallo");
    assert_eq!(world.gemini.asked()[0].body.get("model"), None);
    let answer = call(Method::POST, "/v1beta/models/nobody-knows-it:generateContent", &asking()).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
    let answer = call(Method::POST, WHOLE, &json!({"contents": [], "x": 1})).await;
    assert_eq!(answer.json()["error"]["status"], "INVALID_ARGUMENT");
}

#[tokio::test]
async fn a_direct_call_shows_its_placeholder_and_names_its_model_in_the_path() {
    let world = World::new(setup()).await;
    let host = "generativelanguage.googleapis.com";
    let direct = |path: &str| world.gateway.inference(Scheme::Https, host, 443, &Method::POST, path);
    for path in [
        "/v1beta/models/gemini-2.5-flash:countTokens",
        "/v1beta/models",
        "/v1beta/files",
        "/v1beta/models/a/b:generateContent",
    ] {
        assert_eq!(direct(path), None, "{path}");
    }
    let send = async |target: &str, shown: Option<&str>| {
        let mut request =
            Request::post(format!("https://{host}{target}")).body(full(asking().to_string())).unwrap();
        if let Some(shown) = shown {
            request.headers_mut().insert("x-goog-api-key", shown.parse().unwrap());
        }
        let direct = direct(request.uri().path()).unwrap();
        Answer::read(world.gateway.passthrough(&world.session, &direct, request).await).await
    };
    let placeholder = world.placeholder.to_string();
    for path in [DIRECT, "/v1/models/gemini-2.5-flash:generateContent"] {
        world.gemini.script([generates("hallo")]);
        assert_eq!(said(&send(path, Some(&placeholder)).await), "hallo");
        let asked = world.gemini.asked().remove(0);
        assert_eq!(
            (asked.path.as_str(), &asked.headers["x-goog-api-key"]),
            (DIRECT, &GEMINI_KEY.parse().unwrap())
        );
    }
    world.gemini.script([stream_of(TEXT)]);
    let streamed = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
    assert_eq!(send(streamed, Some(&placeholder)).await.text(), TEXT);
    assert_eq!(world.gemini.asked().len(), 1);
    for shown in [None, Some("AIza-guessed")] {
        let answer = send(DIRECT, shown).await;
        assert_eq!(answer.json()["error"]["details"][0]["reason"], "API_KEY_INVALID", "{}", answer.text());
    }
    let in_address = send(&format!("{DIRECT}?key={placeholder}"), Some(&placeholder)).await;
    assert_eq!(in_address.status, 400);
    assert!(world.gemini.asked().is_empty());
}

#[tokio::test]
async fn a_plan_falls_back_from_one_dialect_to_the_next() {
    let world = World::new(Setup { models: &["gemini-2.5-flash", "gpt-4o-mini"], ..Setup::default() }).await;
    let gone = whole(404, &json!({"error": {"code": 404, "message": "gone", "status": "NOT_FOUND"}}));
    world.gemini.script([gone]);
    world.openai.script([says("hi")]);
    let mut body = asking();
    body["safetySettings"] = json!([]);
    let answer = world.post(WHOLE, &body).await;
    assert_eq!(said(&answer), "hi");
    let receipt = world.receipt();
    assert_eq!(receipt.provider_served.as_deref(), Some("openai"));
    assert_eq!(receipt.dropped.iter().map(|d| d.field.as_str()).collect::<Vec<_>>(), ["safetySettings"]);
}
