//! Models over HTTP, in the form of whoever asks.

use super::*;

/// What Google's clients send of themselves is their key, which nothing behind the gate sees any more.
#[tokio::test]
async fn a_client_is_known_by_the_header_that_holds_its_token() {
    let stage = Stage::new().await;
    let token = stage.token("default", &[Scope::Llm]).await;
    let get = |path: &str, name: &str, value: &str| {
        Request::get(path).header(name, value).body(empty()).expect("a request")
    };
    for path in ["/v1/models", "/api/v1/models", "/v1beta/models"] {
        let answer = stage.send(None, LOCAL, get(path, "x-goog-api-key", &token)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let first = &answer.json()["models"][0];
        assert!(first["name"].as_str().is_some_and(|name| name.starts_with("models/")), "{path}: {first}");
    }
    let answer =
        stage.send(None, LOCAL, get("/v1/models", "authorization", &format!("Bearer {token}"))).await;
    assert_eq!(answer.json()["object"], "list");
    let mut request = get("/v1/models", "x-api-key", &token);
    request.headers_mut().insert("anthropic-version", http::HeaderValue::from_static("2023-06-01"));
    assert_eq!(stage.send(None, LOCAL, request).await.json()["data"][0]["type"], "model");
}

#[tokio::test]
async fn one_model_is_retrieved_in_each_form() {
    let stage = Stage::new().await;
    let ask = |path: &'static str, client: Option<(&'static str, &'static str)>| {
        let mut request = Request::get(path);
        if let Some((name, value)) = client {
            request = request.header(name, value);
        }
        let request = request.body(empty()).expect("a request");
        stage.send(Some(Caller::owner()), Peer::Unix, request)
    };
    let openai = ask("/v1/models/gpt-4o-mini", None).await.json();
    assert_eq!((&openai["id"], &openai["object"]), (&json!("gpt-4o-mini"), &json!("model")));
    assert_eq!((&openai["provider"], &openai["key"]), (&json!("openai"), &json!("missing")));
    assert!(openai["key_missing"].as_str().is_some_and(|why| why.contains("no key for openai")), "{openai}");
    let ours = &openai["orch"];
    assert_eq!((&ours["id"], &ours["kind"]), (&json!("openai/gpt-4o-mini"), &json!("model")));
    assert_eq!((&ours["context"], &ours["max_output"]), (&json!(128_000), &json!(16_384)));
    assert_eq!(ours["capabilities"], json!(["chat", "tools", "vision", "json_schema"]));
    assert_eq!((&ours["price"]["input"], &ours["price"]["as_of"]), (&json!(0.15), &json!("2026-07-02")));

    let anthropic = Some(("anthropic-version", "2023-06-01"));
    let model = ask("/v1/models/claude-3-haiku-20240307", anthropic).await.json();
    assert_eq!((&model["type"], &model["id"]), (&json!("model"), &json!("claude-3-haiku-20240307")));
    assert_eq!(model["max_input_tokens"], 200_000);
    for path in ["/v1beta/models/gemini-2.5-flash", "/api/v1beta/models/gemini%2Fgemini-2.5-flash"] {
        let model = ask(path, None).await.json();
        assert!(model["name"].as_str().is_some_and(|name| name.starts_with("models/gemini")), "{model}");
        assert_eq!(model["inputTokenLimit"], 1_048_576);
    }

    // A model that nobody lists and that would be asked for all the same, and one that would not.
    let new = ask("/v1/models/openai/gpt-99", None).await.json();
    assert_eq!((&new["id"], &new["orch"].get("context")), (&json!("openai/gpt-99"), &None));
    for (path, client, pointer, said) in [
        ("/v1/models/nobody-knows-it", None, "/error/code", json!("model_not_found")),
        ("/v1/models/nobody-knows-it", anthropic, "/error/type", json!("not_found_error")),
        ("/v1beta/models/nobody-knows-it", None, "/error/status", json!("NOT_FOUND")),
    ] {
        let answer = ask(path, client).await;
        let json = answer.json();
        assert_eq!((answer.status.as_u16(), json.pointer(pointer)), (404, Some(&said)), "{}", answer.text);
        assert_eq!(json["request_id"], answer.headers["x-request-id"].to_str().expect("text"));
    }
    let posted = stage.own("POST", "/v1/models/gpt-4o-mini", Some(&json!({}))).await;
    assert_eq!(
        (posted.status.as_u16(), &posted.json()["error"]["type"]),
        (405, &json!("invalid_request_error"))
    );
}

#[tokio::test]
async fn what_a_provider_has_and_the_gateway_has_not_is_refused_in_its_words() {
    let stage = Stage::new().await;
    for (path, pointer) in [
        ("/v1/chat/completions/x", "/error/type"),
        ("/v1/files", "/error/type"),
        ("/api/v1/images/generations", "/error/type"),
        ("/v1/responses/resp_1", "/error/type"),
        ("/v1/messages/batches", "/error/type"),
        ("/v1beta/cachedContents", "/error/status"),
        ("/v2/rerank", "/message"),
        ("/api/generate", "/error"),
    ] {
        let answer = stage.own("POST", path, Some(&json!({}))).await;
        let json = answer.json();
        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
        assert!(json.pointer(pointer).is_some_and(Value::is_string), "{path}: {json}");
        assert_eq!(json["request_id"], answer.headers["x-request-id"].to_str().expect("text"), "{path}");
    }
    // The API's own keep theirs.
    assert_eq!(stage.own("GET", "/v1/nowhere", None).await.refused(), (404, "not_found".to_owned()));
}
