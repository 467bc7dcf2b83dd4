//! Embeddings: every client's dialect to every provider's, and what chat has around it.

use http::{Method, Request};
use orch_gateway::Outcome;
use orch_gateway::ir::Class;
use orch_manifests::{Scheme, Task};
use orch_proxy::full;
use serde_json::{Value, json};

use crate::upstream::{Reply, whole};
use crate::world::{Answer, GEMINI_KEY, OPENAI_KEY, Setup, World, openai_key};

const OPENAI: &str = "/v1/embeddings";

/// A run with keys of all providers that have embeddings.
fn setup() -> Setup {
    Setup { models: &["gpt-4o-mini", "gemini-2.5-flash", "command-a-03-2025"], ..Setup::default() }
}

const VECTORS: [[f32; 2]; 2] = [[0.5, -0.25], [1.0, 0.0625]];
/// The same, as bytes.
const BASE64: [&str; 2] = ["AAAAPwAAgL4=", "AACAPwAAgD0="];

/// What each provider answers to two texts.
fn vectors(provider: &str) -> Reply {
    let values = |vector: &[f32; 2]| json!({ "values": vector });
    whole(
        200,
        &match provider {
            "openai" => json!({
                "object": "list", "model": "text-embedding-3-small",
                "data": [
                    { "object": "embedding", "index": 0, "embedding": VECTORS[0] },
                    { "object": "embedding", "index": 1, "embedding": VECTORS[1] },
                ],
                "usage": { "prompt_tokens": 100_000, "total_tokens": 100_000 },
            }),
            "gemini" => json!({ "embeddings": VECTORS.iter().map(values).collect::<Vec<_>>() }),
            "cohere" => json!({
                "id": "e", "embeddings": { "float": VECTORS }, "texts": ["one", "two"],
                "meta": { "billed_units": { "input_tokens": 100_000 } }, "response_type": "embeddings_by_type",
            }),
            _ => json!({ "model": "nomic-embed-text", "embeddings": VECTORS, "prompt_eval_count": 8 }),
        },
    )
}

/// A request for two texts: path and body of each client's.
fn ask(client: &str, model: &str) -> (String, Value) {
    let text = |text: &str| json!({ "model": format!("models/{model}"), "content": { "parts": [{ "text": text }] } });
    match client {
        "openai" => {
            (OPENAI.into(), json!({ "model": model, "input": ["one", "two"], "encoding_format": "base64" }))
        }
        "gemini" => (
            format!("/v1beta/models/{model}:batchEmbedContents"),
            json!({ "requests": [text("one"), text("two")] }),
        ),
        "cohere" => (
            "/v2/embed".into(),
            json!({ "model": model, "texts": ["one", "two"], "input_type": "search_query", "embedding_types": ["float"] }),
        ),
        _ => ("/api/embed".into(), json!({ "model": model, "input": ["one", "two"] })),
    }
}

/// The vectors of an answer as its client reads it.
fn read(client: &str, answer: &Value) -> Value {
    match client {
        "openai" => json!([answer["data"][0]["embedding"], answer["data"][1]["embedding"]]),
        "gemini" => json!([answer["embeddings"][0]["values"], answer["embeddings"][1]["values"]]),
        "cohere" => answer["embeddings"]["float"].clone(),
        _ => answer["embeddings"].clone(),
    }
}

fn names(values: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

#[tokio::test]
async fn every_client_is_served_by_every_provider() {
    let clients = ["openai", "gemini", "cohere", "ollama"];
    for client in clients {
        for (provider, model, path) in [
            ("openai", "text-embedding-3-small", OPENAI),
            ("gemini", "gemini-embedding-001", "/v1beta/models/gemini-embedding-001:batchEmbedContents"),
            ("cohere", "embed-v4.0", "/v2/embed"),
            ("ollama", "ollama/nomic-embed-text", "/api/embed"),
        ] {
            let name = format!("{client} at {provider}");
            let world = World::new(setup()).await;
            let upstream = match provider {
                "openai" => &world.openai,
                "gemini" => &world.gemini,
                "cohere" => &world.cohere,
                _ => &world.ollama,
            };
            upstream.script([vectors(provider)]);
            let (at, body) = ask(client, model);
            let answer = world.post(&at, &body).await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            // Who asks for bytes reads bytes, though the provider of the same dialect spells numbers.
            let wanted = if client == "openai" { json!(BASE64) } else { json!(VECTORS) };
            assert_eq!(read(client, &answer.json()), wanted, "{name}");
            assert_eq!(upstream.asked()[0].path, path, "{name}");

            let receipt = world.receipt();
            assert_eq!(
                (receipt.outcome, receipt.provider_served.as_deref()),
                (Outcome::Served, Some(provider))
            );
            assert_eq!(receipt.output_tokens, 0, "{name}");
            let (tokens, micro_usd) = match provider {
                "openai" => (100_000, 2_000),
                "cohere" => (100_000, 12_000),
                // Each text is at most its bytes, and what is put around it.
                "gemini" => (2 * (3 + 64), 21),
                _ => (8, 0),
            };
            assert_eq!(receipt.input_tokens, tokens, "{name}");
            assert_eq!(receipt.cost_micro_usd, Some(micro_usd), "{name}");
            assert_eq!(receipt.estimated, provider == "gemini", "{name}");
            assert_eq!(world.session.budget.spent().input_tokens, tokens, "{name}");
            let lost: Vec<String> = names(receipt.dropped.iter().map(|dropped| &dropped.field));
            let wanted: &[&str] = match (client, provider) {
                ("cohere", "openai" | "ollama") => &["input_type"],
                ("openai" | "gemini" | "ollama", "cohere") if client != provider => &["input_type"],
                _ => &[],
            };
            assert_eq!(lost, wanted, "{name}");
        }
    }
}

/// Gemini takes a hundred at once, and Cohere 96.
#[tokio::test]
async fn a_longer_list_than_a_provider_takes_is_asked_for_in_parts_and_is_one_call() {
    let numbers = |from: usize, to: usize| (from..to).map(|at| [at as f32, 1.0]).collect::<Vec<_>>();
    for (provider, model, at_once) in [("gemini", "gemini-embedding-001", 100), ("cohere", "embed-v4.0", 96)]
    {
        let world = World::new(setup()).await;
        let all = at_once + 1;
        let part = |from: usize, to: usize| match provider {
            "gemini" => {
                let values = numbers(from, to).into_iter().map(|vector| json!({ "values": vector }));
                whole(200, &json!({ "embeddings": values.collect::<Vec<_>>() }))
            }
            _ => whole(
                200,
                &json!({
                    "id": "e", "embeddings": { "float": numbers(from, to) }, "texts": [],
                    "meta": { "billed_units": { "input_tokens": to - from } },
                    "response_type": "embeddings_by_type",
                }),
            ),
        };
        let upstream = if provider == "gemini" { &world.gemini } else { &world.cohere };
        upstream.script([part(0, at_once), part(at_once, all)]);
        let texts: Vec<String> = (0..all).map(|at| at.to_string()).collect();
        let answer = world.post(OPENAI, &json!({ "model": model, "input": texts })).await;
        assert_eq!(answer.status, 200, "{provider}: {}", answer.text());
        let data = answer.json()["data"].as_array().cloned().unwrap_or_default();
        let got: Vec<Value> = data.iter().map(|item| item["embedding"][0].clone()).collect();
        let wanted: Vec<Value> = (0..all).map(|at| json!(at as f32)).collect();
        assert_eq!(got, wanted, "{provider}");
        let asked = upstream.asked();
        assert_eq!(asked.len(), 2, "{provider}");
        assert_eq!(asked[0].path, asked[1].path, "{provider}");
        let receipt = world.receipt();
        assert_eq!((receipt.outcome, receipt.attempts.len()), (Outcome::Served, 1), "{provider}");
        if provider == "cohere" {
            assert_eq!((receipt.input_tokens, receipt.estimated), (97, false));
        }
        assert_eq!(world.live.requests_used(), 2, "{provider}");
    }
}

#[tokio::test]
async fn one_dialect_in_and_out_passes_the_bytes() {
    let world = World::new(setup()).await;
    world.openai.script([vectors("openai")]);
    let body = r#"{"input":["one","two"],"model":"openai/text-embedding-3-small","new":{"b":1,"a":2.50}}"#;
    let request = Request::post(OPENAI).body(full(body)).unwrap();
    let answer = Answer::read(world.gateway.serve(&world.session, request).await).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let asked = &world.openai.asked()[0];
    assert_eq!(asked.headers["authorization"], format!("Bearer {OPENAI_KEY}"));
    assert_eq!(
        asked.body,
        json!({ "input": ["one", "two"], "model": "text-embedding-3-small", "new": { "b": 1, "a": 2.5 } })
    );
    assert_eq!(answer.json()["usage"]["prompt_tokens"], 100_000);
    let header: Value = serde_json::from_str(answer.headers["x-orch-receipt"].to_str().unwrap()).unwrap();
    assert_eq!((&header["provider"], &header["input_tokens"]), (&json!("openai"), &json!(100_000)));

    // Gemini names the model in the path and in each request of a list.
    let text =
        json!({ "model": "models/gemini/gemini-embedding-001", "content": { "parts": [{ "text": "x" }] } });
    world.gemini.script([whole(200, &json!({ "embeddings": [{ "values": [1.0] }] }))]);
    let at = "/v1beta/models/gemini%2Fgemini-embedding-001:batchEmbedContents";
    let answer = world.post(at, &json!({ "requests": [text], "x": 1 })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let asked = &world.gemini.asked()[0];
    assert_eq!(asked.headers["x-goog-api-key"], GEMINI_KEY);
    assert_eq!(
        (&asked.body["requests"][0]["model"], &asked.body["x"]),
        (&json!("models/gemini-embedding-001"), &json!(1))
    );
    world.gemini.script([whole(200, &json!({ "embedding": { "values": [1.0] } }))]);
    let at = "/v1/models/gemini-embedding-001:embedContent";
    let answer = world.post(at, &json!({ "content": { "parts": [{ "text": "x" }] } })).await;
    assert_eq!(answer.json()["embedding"]["values"], json!([1.0]));
    assert_eq!(world.gemini.asked()[0].path, "/v1beta/models/gemini-embedding-001:embedContent");
}

/// OpenAI's library for Node takes what it asked for as base64 without a look, and would make other numbers of numbers.
#[tokio::test]
async fn vectors_are_spelled_as_the_client_asked_whatever_its_provider_does() {
    let answered = |embedding: Value| {
        let data = json!([{ "object": "embedding", "index": 0, "embedding": embedding }]);
        whole(200, &json!({ "object": "list", "model": "m", "data": data, "cost": 7 }))
    };
    for (format, embedding, wanted, passed) in [
        (Some("base64"), json!(VECTORS[0]), json!(BASE64[0]), false),
        (Some("base64"), json!(BASE64[0]), json!(BASE64[0]), true),
        (Some("float"), json!(BASE64[0]), json!(VECTORS[0]), false),
        (None, json!(BASE64[0]), json!(VECTORS[0]), false),
        (None, json!(VECTORS[0]), json!(VECTORS[0]), true),
        // A format that only the provider knows.
        (Some("int8"), json!(VECTORS[0]), json!(VECTORS[0]), true),
    ] {
        let world = World::new(setup()).await;
        world.openai.script([answered(embedding)]);
        let mut body = json!({ "model": "text-embedding-3-small", "input": "one" });
        if let Some(format) = format {
            body["encoding_format"] = json!(format);
        }
        let answer = world.post(OPENAI, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let said = answer.json();
        assert_eq!(said["data"][0]["embedding"], wanted, "{format:?}");
        assert_eq!((&said["model"], &said["data"][0]["index"]), (&json!("m"), &json!(0)));
        // What is as it was asked for passes as it is.
        assert_eq!(said["cost"] == json!(7), passed, "{format:?}: {said}");
        assert_eq!(world.openai.asked()[0].body["encoding_format"], json!(format), "{format:?}");
    }
}

#[tokio::test]
async fn another_key_is_asked_and_another_model_is_not() {
    let routes: &[(&str, &str)] =
        &[("vectors", "{targets: [{model: text-embedding-3-small}, {model: gemini-embedding-001}]}")];
    let world = World::new(Setup { openai_keys: 2, version: Some(1), routes, ..setup() }).await;
    let limited = whole(401, &json!({ "error": { "message": "no", "code": "invalid_api_key" } }));
    world.openai.script([limited, vectors("openai")]);
    let body = json!({ "model": "vectors", "input": ["one", "two"] });
    let answer = world.post(OPENAI, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let receipt = world.receipt();
    assert_eq!(
        receipt.attempts.iter().map(|attempt| attempt.class).collect::<Vec<_>>(),
        [Some(Class::BadKey), None]
    );
    assert_eq!(receipt.skipped.len(), 1);
    assert!(
        receipt.skipped[0].reason.contains("cannot be compared with those of openai/"),
        "{:?}",
        receipt.skipped
    );
    let keys: Vec<String> = names(
        world.openai.asked().iter().map(|asked| asked.headers["authorization"].to_str().unwrap().to_owned()),
    );
    assert!(
        keys.contains(&format!("Bearer {}", openai_key(1)))
            && keys.contains(&format!("Bearer {}", openai_key(2)))
    );
    assert!(world.gemini.asked().is_empty());
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_with_its_class() {
    let one = |embedding: Value| json!({ "object": "embedding", "index": 0, "embedding": embedding });
    let data = |items: Vec<Value>| whole(200, &json!({ "data": items, "model": "m" }));
    let text = |body: &str| Reply::Whole { status: 200, headers: Vec::new(), body: body.to_owned() };
    for (reply, class) in [
        (data(vec![one(json!([1.0])), one(json!([1.0]))]), Class::Server),
        (data(Vec::new()), Class::Server),
        (data(vec![one(json!([]))]), Class::Server),
        (data(vec![one(json!("no base64!"))]), Class::Server),
        (data(vec![one(json!([1.0, 2.0, 3.0]))]), Class::Server),
        (text("<html>"), Class::Server),
        (text(r#"{"data":[{"index":0,"embedding":[1.0,2"#), Class::Truncated),
        (
            whole(200, &json!({ "error": { "message": "slow down", "code": "rate_limit_exceeded" } })),
            Class::RateLimited,
        ),
        (whole(503, &json!({ "error": { "message": "no" } })), Class::Overloaded),
    ] {
        let world = World::new(setup()).await;
        world.openai.script([reply.clone(), reply]);
        let body = json!({ "model": "text-embedding-3-small", "input": "one", "dimensions": 2 });
        let answer = world.post(OPENAI, &body).await;
        assert!(!answer.status.is_success(), "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "orch_all_candidates_failed", "{}", answer.text());
        let receipt = world.receipt();
        let classes: Vec<_> = receipt.attempts.iter().map(|attempt| attempt.class).collect();
        assert_eq!((receipt.outcome, classes), (Outcome::AllFailed, vec![Some(class), Some(class)]));
    }
}

#[tokio::test]
async fn spend_is_set_aside_and_reconciled() {
    let body =
        |texts: usize| json!({ "model": "text-embedding-3-large", "input": vec!["x".repeat(1000); texts] });
    // 1064 tokens at 0.13 dollars a million are 139 micro-dollars.
    let world = World::new(Setup { max_micro_usd: Some(200), ..setup() }).await;
    let answer = world.post(OPENAI, &body(2)).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (429, &json!("orch_limit_reached"))
    );
    assert!(world.openai.asked().is_empty());
    assert_eq!(world.receipt().outcome, Outcome::Limit);
    let item = json!({ "object": "embedding", "index": 0, "embedding": [1.0] });
    let reply =
        json!({ "data": [item], "model": "m", "usage": { "prompt_tokens": 100, "total_tokens": 100 } });
    world.openai.script([whole(200, &reply)]);
    assert_eq!(world.post(OPENAI, &body(1)).await.status, 200);
    assert_eq!(world.session.budget.spent().micro_usd, 13);
    // To the last token.
    let world = World::new(Setup { max_tokens: Some(1064), ..setup() }).await;
    world.openai.script([whole(200, &reply)]);
    assert_eq!(world.post(OPENAI, &body(1)).await.status, 200);
    // A cap and a price that nobody knows.
    let world = World::new(Setup { max_micro_usd: Some(1_000_000), ..setup() }).await;
    let unknown = json!({ "model": "text-embedding-99", "input": "x" });
    assert_eq!(world.post(OPENAI, &unknown).await.json()["error"]["code"], "orch_price_unknown");
    let image =
        json!({ "model": "embed-v4.0", "input_type": "image", "images": ["data:image/png;base64,AA=="] });
    let answer = world.post("/v2/embed", &image).await;
    assert_eq!(answer.json()["code"], "orch_price_unknown", "{}", answer.text());
    assert!(answer.text().contains("images[0]"), "{}", answer.text());
}

#[tokio::test]
async fn models_are_asked_for_what_they_make() {
    let world = World::new(setup()).await;
    let cases = [
        (OPENAI, json!({ "model": "gpt-4o-mini", "input": "x" }), "makes no embeddings", None),
        (OPENAI, json!({ "model": "claude-3-haiku", "input": "x" }), "anthropic has no embeddings", None),
        (OPENAI, json!({ "input": "x" }), "makes no embeddings", None),
        (
            OPENAI,
            json!({ "model": "text-embedding-3-small", "input": "x", "dimensions": 4000 }),
            "have 1536 numbers",
            Some("dimensions"),
        ),
        (
            OPENAI,
            json!({ "model": "text-embedding-ada-002", "input": "x", "dimensions": 8 }),
            "and no fewer",
            Some("dimensions"),
        ),
        (
            OPENAI,
            json!({ "model": "gemini-embedding-001", "input": [[1, 2]] }),
            "input[0]: token ids mean something",
            Some("input[0]"),
        ),
        (
            "/v1/chat/completions",
            json!({ "model": "text-embedding-3-small", "messages": [{ "role": "user", "content": "x" }] }),
            "does not chat",
            None,
        ),
    ];
    for (path, body, said, field) in cases {
        let answer = world.post(path, &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "orch_no_model_fits", "{error}");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
        assert_eq!(error["param"], json!(field), "{error}");
    }
    assert!(world.openai.asked().is_empty() && world.gemini.asked().is_empty());
    assert_eq!(world.live.requests_used(), 0);
}

#[tokio::test]
async fn bad_input_is_an_error_of_the_client_s_dialect_with_the_field() {
    let world = World::new(setup()).await;
    for (path, body, pointer, said) in [
        (OPENAI, json!({ "model": "m" }), "/error/param", "input"),
        (OPENAI, json!({ "model": "m", "input": ["x", 7] }), "/error/param", "input[1]"),
        ("/v2/embed", json!({ "model": "m", "texts": [7] }), "/message", "texts[0]: must be a string"),
        (
            "/api/embed",
            json!({ "model": "m", "input": 7 }),
            "/error",
            "input: must be a string or an array of strings",
        ),
        (
            "/v1beta/models/m:embedContent",
            json!({ "content": { "parts": [] } }),
            "/error/message",
            "content.parts: is empty",
        ),
        (
            "/v1beta/models/m:batchEmbedContents",
            json!({ "requests": [{ "model": "models/x", "content": { "parts": [{ "text": "x" }] } }] }),
            "/error/message",
            "model: is \"x\", and the path names \"m\"",
        ),
    ] {
        let answer = world.post(path, &body).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert_eq!(answer.json().pointer(pointer), Some(&json!(said)), "{path}: {}", answer.text());
    }
    let broken = Request::post(OPENAI).body(full("{")).unwrap();
    assert_eq!(Answer::read(world.gateway.serve(&world.session, broken).await).await.status, 400);
    let get = Request::get("/v2/embed").body(full("")).unwrap();
    assert_eq!(Answer::read(world.gateway.serve(&world.session, get).await).await.status, 405);
}

#[tokio::test]
async fn a_provider_fetches_nothing_for_a_run_that_may_not_have_it() {
    let stored = json!({ "content": { "parts": [{ "fileData": { "fileUri": "https://x.example/a" } }] } });
    let image = |url: &str| {
        json!({ "model": "embed-v4.0", "input_type": "image", "inputs": [
        { "content": [{ "type": "image_url", "image_url": { "url": url } }] },
    ] })
    };
    let world = World::new(setup()).await;
    let refused = world.post("/v1beta/models/gemini-embedding-2:embedContent", &stored).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let refused = world.post("/v2/embed", &image("https://x.example/a.png")).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (403, &json!("orch_server_tools")));
    world.cohere.script([whole(200, &json!({ "embeddings": { "float": [[1.0]] } }))]);
    let inline = world.post("/v2/embed", &image("data:image/png;base64,AA==")).await;
    assert_eq!(inline.status, 200, "{}", inline.text());
    assert!(world.gemini.asked().is_empty());
}

#[tokio::test]
async fn a_guest_s_direct_call_is_carried_as_it_is() {
    let world = World::new(Setup { models: &["gpt-4o-mini"], ..Setup::default() }).await;
    let direct =
        world.gateway.inference(Scheme::Https, "api.openai.com", 443, &Method::POST, OPENAI).unwrap();
    assert_eq!((direct.provider.as_str(), direct.task), ("openai", Task::Embeddings));
    world.openai.script([vectors("openai")]);
    let body = json!({ "model": "text-embedding-3-small", "input": ["one", "two"] }).to_string();
    let request = |auth: String, body: &str| {
        Request::post(OPENAI).header("authorization", auth).body(full(body.to_owned())).unwrap()
    };
    let placeholder = || format!("Bearer {}", world.placeholder);
    let sent = world.gateway.passthrough(&world.session, &direct, request(placeholder(), &body)).await;
    assert_eq!(Answer::read(sent).await.status, 200);
    assert_eq!(world.openai.asked()[0].headers["authorization"], format!("Bearer {OPENAI_KEY}"));
    let receipt = world.receipt();
    assert_eq!((receipt.outcome, receipt.input_tokens), (Outcome::Served, 100_000));
    for (auth, body) in [("Bearer sk-mine".to_owned(), body.as_str()), (placeholder(), r#"{"input":"x"}"#)] {
        let refused = world.gateway.passthrough(&world.session, &direct, request(auth, body)).await;
        assert!(Answer::read(refused).await.status.is_client_error());
    }
    assert!(world.openai.asked().is_empty());
    let gemini = |method: &str| {
        let path = format!("/v1beta/models/gemini-embedding-001:{method}");
        world.gateway.inference(Scheme::Https, "generativelanguage.googleapis.com", 443, &Method::POST, &path)
    };
    assert!(gemini("embedContent").is_some() && gemini("batchEmbedContents").is_some());
    assert!(gemini("countTokens").is_none());
}
