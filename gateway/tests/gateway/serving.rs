use http::Request;
use orch_gateway::{Gateway, Outcome};
use orch_proxy::{Body, empty, full};
use serde_json::{Value, json};

use crate::upstream::{messages, says};
use crate::world::{ANTHROPIC_KEY, Answer, OPENAI_KEY, Setup, World, hello, world};

#[tokio::test]
async fn the_primary_answers_in_the_clients_dialect() {
    let world = world().await;
    world.openai.script([says("hi")]);
    let answer = world.chat(&hello()).await;
    assert_eq!((answer.status.as_u16(), answer.said().as_str()), (200, "hi"));
    let asked = world.openai.asked();
    assert_eq!(asked[0].path, "/v1/chat/completions");
    assert_eq!(asked[0].headers["authorization"], format!("Bearer {OPENAI_KEY}"));
    assert_eq!(asked[0].body["model"], "gpt-4o-mini");
    assert_eq!(asked[0].body.get("max_tokens"), None, "nothing bounds the answer");

    let receipt = world.receipt();
    assert_eq!(receipt.outcome, Outcome::Served);
    assert_eq!(receipt.credential.unwrap().id, "OPENAI_API_KEY");
    assert_eq!((receipt.provider_asked.as_str(), receipt.model_asked.as_str()), ("openai", "gpt-4o-mini"));
    assert_eq!(receipt.provider_served.as_deref(), Some("openai"));
    assert_eq!(receipt.model_served.as_deref(), Some("gpt-4o-mini-2024-07-18"));
    assert_eq!((receipt.input_tokens, receipt.output_tokens), (20, 7));
    // 20 at 0.15 and 7 at 0.60 dollars a million.
    assert_eq!(receipt.cost_micro_usd, Some(8));
    assert_eq!(world.session.budget.spent().micro_usd, 8);
    let header: Value = serde_json::from_str(answer.headers["x-orch-receipt"].to_str().unwrap()).unwrap();
    assert_eq!((&header["provider"], &header["output_tokens"]), (&json!("openai"), &json!(7)));
}

#[tokio::test]
async fn a_named_model_of_the_plan_is_where_it_starts() {
    let world = world().await;
    for name in ["claude-3-haiku", "claude-3-haiku-20240307", "anthropic/claude-3-haiku"] {
        world.anthropic.script([messages("salut")]);
        let mut body = hello();
        body["model"] = json!(name);
        assert_eq!(world.chat(&body).await.said(), "salut", "{name}");
        let asked = world.anthropic.asked();
        assert_eq!(asked[0].path, "/v1/messages");
        assert_eq!(asked[0].headers["x-api-key"], ANTHROPIC_KEY);
        assert_eq!(asked[0].headers["anthropic-version"], "2023-06-01");
        assert_eq!(asked[0].body["model"], "claude-3-haiku-20240307");
        assert_eq!(asked[0].body["max_tokens"], 4096, "Anthropic wants a bound, and this is the model's");
    }
    assert!(world.openai.asked().is_empty());
}

#[tokio::test]
async fn an_anthropic_client_is_served_by_openai() {
    let world = world().await;
    world.openai.script([says("hi")]);
    let body = json!({"model": "auto", "max_tokens": 50, "top_k": 3, "messages": [{"role": "user", "content": "x"}]});
    let answer = world.post("/v1/messages", &body).await.json();
    assert_eq!(answer["content"], json!([{"type": "text", "text": "hi"}]));
    assert_eq!((&answer["stop_reason"], &answer["usage"]["input_tokens"]), (&json!("end_turn"), &json!(20)));
    assert_eq!(world.openai.asked()[0].body["max_completion_tokens"], 50);
    let receipt = world.receipt();
    assert_eq!(receipt.dropped.iter().map(|d| d.field.as_str()).collect::<Vec<_>>(), ["top_k"]);
}

/// What it asks for is in no field of the body, and gone as well where another dialect is spoken.
#[tokio::test]
async fn a_header_that_asks_for_features_is_passed_on_or_listed_as_lost() {
    let body = |model: &str| json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "x"}]});
    let headers =
        [("anthropic-version", "2026-10-21"), ("anthropic-beta", "interleaved-thinking-2025-05-14")];
    let world = world().await;
    world.openai.script([says("hi")]);
    assert_eq!(world.post_with("/v1/messages", &headers, &body("gpt-4o-mini")).await.status, 200);
    assert!(!world.openai.asked()[0].headers.contains_key("anthropic-beta"));
    let lost: Vec<String> = world.receipt().dropped.into_iter().map(|dropped| dropped.field).collect();
    assert_eq!(lost, ["anthropic-beta"]);

    world.anthropic.script([messages("hi")]);
    assert_eq!(world.post_with("/v1/messages", &headers, &body("claude-3-haiku")).await.status, 200);
    let asked = world.anthropic.asked();
    for (name, value) in headers {
        assert_eq!(asked[0].headers[name], value);
    }
    assert!(world.receipt().dropped.is_empty());
}

#[tokio::test]
async fn a_model_outside_the_plan_needs_a_key_of_its_provider() {
    let world = world().await;
    world.openai.script([says("hi")]);
    let with = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(world.chat(&with("gpt-4o")).await.status, 200);
    assert_eq!(world.openai.asked()[0].body["model"], "gpt-4o");
    for model in ["gemini-2.5-flash", "nobody-knows-it", "no such name"] {
        let answer = world.chat(&with(model)).await;
        assert_eq!(answer.status, 404, "{model}");
        let error = &answer.json()["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
        assert!(error["message"].as_str().unwrap().contains("openai/gpt-4o-mini"), "{error}");
    }
    assert!(world.openai.asked().is_empty() && world.anthropic.asked().is_empty());
}

async fn call(gateway: &Gateway, world: &World, request: Request<Body>) -> Answer {
    Answer::read(gateway.serve(&world.session, request).await).await
}

#[tokio::test]
async fn paths_methods_and_bodies_that_do_not_fit_are_refused_in_the_paths_dialect() {
    let world = world().await;
    let gateway = &world.gateway;
    let answer = call(gateway, &world, Request::post("/v1/images").body(full("{}")).unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"]["code"].clone()),
        (404, json!("unknown_path"))
    );
    let answer = call(gateway, &world, Request::post("/v1/messages/batches").body(full("{}")).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.json()["type"].clone()), (404, json!("error")));
    assert_eq!(answer.json()["error"]["type"], "not_found_error");
    let answer = call(gateway, &world, Request::get("/v1/chat/completions").body(empty()).unwrap()).await;
    assert_eq!(answer.status, 405);
    let answer = call(gateway, &world, Request::post("/v1/chat/completions").body(full("{")).unwrap()).await;
    assert_eq!(answer.status, 400);
    let bad = json!({"messages": [{"role": "user", "content": 7}]}).to_string();
    let answer = call(gateway, &world, Request::post("/v1/chat/completions").body(full(bad)).unwrap()).await;
    assert_eq!(answer.json()["error"]["param"], "messages[0].content");
    let large = "x".repeat((32 << 20) + 1);
    let answer = call(gateway, &world, Request::post("/v1/messages").body(full(large)).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.json()["type"].clone()), (413, json!("error")));
    assert_eq!(answer.json()["error"]["type"], "request_too_large");
    assert!(world.openai.asked().is_empty() && world.anthropic.asked().is_empty());
    assert_eq!(world.live.requests_used(), 0);
}

#[tokio::test]
async fn models_are_listed_in_every_dialect() {
    let world = world().await;
    let answer = call(&world.gateway, &world, Request::get("/v1/models").body(empty()).unwrap()).await.json();
    assert_eq!(answer["object"], "list");
    assert_eq!(answer["data"][0]["id"], "openai/gpt-4o-mini");
    let request = Request::get("/v1/models").header("anthropic-version", "2023-06-01").body(empty()).unwrap();
    let answer = call(&world.gateway, &world, request).await.json();
    assert_eq!(answer["last_id"], "anthropic/claude-3-haiku-20240307");
    let googles = Request::get("/v1/models").header("x-goog-api-key", "x").body(empty()).unwrap();
    for request in [Request::get("/v1beta/models").body(empty()).unwrap(), googles] {
        let answer = call(&world.gateway, &world, request).await.json();
        assert_eq!(answer["models"][0]["name"], "models/openai/gpt-4o-mini");
        assert_eq!(answer["models"][1]["inputTokenLimit"], 200_000);
    }
}

#[tokio::test]
async fn same_dialect_bytes_pass_but_for_the_model_and_the_bound() {
    let world = world().await;
    world.openai.script([says("hi")]);
    let body = r#"{"messages":[{"role":"user","content":"x","flavour":{"b":1,"a":2.50}}],"model":"default","max_tokens":5,"new_field":[1e2]}"#;
    let request = Request::post("/v1/chat/completions").body(full(body)).unwrap();
    assert_eq!(call(&world.gateway, &world, request).await.status, 200);
    let asked = &world.openai.asked()[0].body;
    assert_eq!(asked["messages"][0]["flavour"], json!({"b": 1, "a": 2.5}));
    assert_eq!(asked["new_field"], json!([1e2]));
    assert_eq!(
        (asked["model"].as_str(), asked["max_completion_tokens"].as_u64()),
        (Some("gpt-4o-mini"), Some(5))
    );
    assert_eq!(asked.get("max_tokens"), None, "OpenAI's newer models refuse the older name");
}

#[tokio::test]
async fn reaching_out_needs_the_capability() {
    let image = json!({"type": "image_url", "image_url": {"url": "https://x.example/?q=data"}});
    let body = json!({"messages": [{"role": "user", "content": [image]}]});
    let world = world().await;
    let answer = world.chat(&body).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["error"]["code"], "orch_server_tools");
    assert!(world.openai.asked().is_empty());
    let world = World::new(Setup { server_tools: true, ..Setup::default() }).await;
    world.openai.script([says("a cat")]);
    assert_eq!(world.chat(&body).await.said(), "a cat");
}

#[tokio::test]
async fn options_that_ollama_would_ignore_are_refused() {
    // Through the plan of a world whose first model is Ollama's, which only a pin makes available.
    let world = world().await;
    let mut session = world.session.clone();
    let catalog = orch_manifests::Catalog::builtin();
    let provider = std::sync::Arc::new(catalog.provider("ollama").unwrap().clone());
    let ollama = orch_gateway::AtHand { provider, keys: Vec::new() };
    let mut plan = orch_gateway::Plan::default();
    plan.candidates.push(ollama.planned("llama3.2"));
    session.plan = std::sync::Arc::new(plan);
    for field in ["options", "num_ctx"] {
        let mut body = hello();
        body[field] = json!({"num_ctx": 32768});
        let request = Request::post("/v1/chat/completions").body(full(body.to_string())).unwrap();
        let answer = Answer::read(world.gateway.serve(&session, request).await).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(field), "{}", answer.text());
    }
    let mut body = hello();
    body["options"] = json!({"num_ctx": 32768});
    let request = Request::post("/api/chat").body(full(body.to_string())).unwrap();
    let answer = Answer::read(world.gateway.serve(&session, request).await).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"].as_str().unwrap().contains("options.num_ctx"), "{}", answer.text());
    assert_eq!(world.live.requests_used(), 0);
}
