//! What every error has, whatever went wrong and whose words it is told in.

use super::*;

/// Keys: of a known shape, and of none.
const KEYS: [&str; 6] = [
    "sk-proj-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9",
    "Zk3v9QpL7xTn2WcR8mYb4HdS6gJf1KaE",
    "7F9A1C3E5B2D48606F8E0A9B1C3D5E7F",
    "--sk-proj-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9",
    "_Zk3v9QpL7xTn2WcR8mYb4HdS6gJf1KaE",
    "xxsk-proj-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9",
];

/// A request whose body is not JSON, or is larger than any may be.
fn raw(method: &str, path: &str, body: Vec<u8>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(full(body)).expect("a request")
}

impl Stage {
    async fn own_raw(&self, request: Request<Body>) -> Answer {
        self.send(Some(Caller::owner()), Peer::Unix, request).await
    }
}

#[tokio::test]
async fn a_key_in_the_place_of_a_name_is_not_repeated() {
    let stage = Stage::new().await;
    let run = |name: &str, value: Value| {
        let mut body = json!({ "agent": "orch/summarizer", "input": { "text": "x" } });
        body[name] = value;
        ("POST", "/v1/runs".to_owned(), Some(body))
    };
    let secret = |name: &str, value: Value| {
        let mut body = json!({ "value": "0123456789abcdef" });
        body[name] = value;
        ("PUT", "/v1/secrets/X".to_owned(), Some(body))
    };
    let import =
        |secrets: Value| ("POST", "/v1/secrets/import".to_owned(), Some(json!({ "secrets": secrets })));
    let token = |name: &str, value: Value| {
        let mut body = json!({ "name": "ci", "scopes": ["run"] });
        body[name] = value;
        ("POST", "/v1/tokens".to_owned(), Some(body))
    };
    for key in KEYS {
        let requests = [
            ("PUT", format!("/v1/secrets/{key}"), Some(json!({ "value": "0123456789abcdef" }))),
            ("DELETE", format!("/v1/secrets/{key}"), None),
            secret("grants", json!([{ "host": format!("{key}/x") }])),
            secret("grants", json!([{ "host": "a.example", "methods": [format!("{key} x")] }])),
            secret("grants", json!([{ "host": "a.example", "paths": [key] }])),
            secret("grants", json!([{ "host": "a.example", "agents": [key] }])),
            secret("grants", json!([{ "host": "a.example", "place": { "header": format!("{key}:") } }])),
            secret("grants", json!([{ "host": "a.example", "place": { key: "x" } }])),
            secret("grants", json!([{ key: "x" }])),
            secret("multiline", json!(key)),
            ("POST", format!("/v1/secrets/{key}/rotate"), Some(json!({ "value": "0123456789abcdef" }))),
            ("POST", "/v1/secrets/X/rotate".to_owned(), Some(json!({ "value": "0123456789abcdef", key: 1 }))),
            ("POST", format!("/v1/secrets/{key}/grants"), Some(json!({ "host": "a.example" }))),
            ("POST", "/v1/secrets/X/grants".to_owned(), Some(json!({ key: "a.example" }))),
            ("DELETE", format!("/v1/secrets/X/grants/{key}"), None),
            ("DELETE", format!("/v1/secrets/X?now={key}"), None),
            ("GET", format!("/v1/secrets/{key}"), None),
            ("GET", format!("/v1/secrets/{key}/uses"), None),
            import(json!([{ "name": key, "value": "0123456789abcdef" }])),
            import(json!([{ "name": "X", "value": key, key: 1 }])),
            import(json!([{ "name": "X", "value": format!("{key}\n") }])),
            import(json!({ key: key })),
            secret("expires", json!(key)),
            secret(key, json!("x")),
            run("agent", json!(key)),
            run("agent", json!(format!("{key}/{key}"))),
            run("provider", json!(key)),
            run("model", json!(key)),
            run("secrets", json!([key])),
            run("secrets", json!([format!("{key}@a.example")])),
            run("allow", json!([format!("{key}.example")])),
            run("env_keys", json!({ key: "x" })),
            run("keys", json!([{ "provider": key, "key": "x" }])),
            run("simulate", json!({ "scenario": key })),
            run(key, json!(1)),
            token("scopes", json!([key])),
            token("expires", json!(key)),
            ("DELETE", format!("/v1/tokens/{key}"), None),
            ("GET", format!("/v1/runs/{key}"), None),
            ("GET", format!("/v1/runs?agent={key}"), None),
            ("GET", format!("/v1/runs?{key}=1"), None),
            ("GET", format!("/v1/logs?run={key}"), None),
            ("GET", format!("/v1/agents/{key}/x"), None),
            ("GET", format!("/v1/agents/acme/x/{key}"), None),
            ("GET", format!("/v1/blobs/{key}"), None),
            ("DELETE", format!("/v1/grants/{key}"), None),
            ("GET", format!("/{key}"), None),
        ];
        for (method, path, body) in requests {
            let answer = stage.own(method, &path, body.as_ref()).await;
            assert!(answer.status.is_client_error(), "{method} {path} {body:?}: {}", answer.text);
            answer.refused();
            let key = key.trim_start_matches(['-', '_', 'x']);
            assert!(!answer.text.contains(key), "{method} {path}: {}", answer.text);
        }
    }
    assert_eq!(stage.own("GET", "/v1/secrets", None).await.json()["secrets"], json!([]), "none was stored");
}

#[tokio::test]
async fn what_is_no_key_is_repeated() {
    let stage = Stage::new().await;
    let answer = stage.own("GET", "/v1/runs/run_3kq7xw2m5n6p4r3s2t7v6w5x4y", None).await;
    assert!(answer.text.contains("run_3kq7xw2m5n6p4r3s2t7v6w5x4y"), "{}", answer.text);
    let path = format!("/v1/blobs/sha256:{}", "0a1b2c3d".repeat(8));
    let answer = stage.own("GET", &path, None).await;
    assert!(answer.text.contains(&"0a1b2c3d".repeat(8)), "{}", answer.text);
}

/// `refused` compares the id in the body with the one in the head.
#[tokio::test]
async fn every_error_names_its_request() {
    let stage = Stage::new().await;
    let foreign = stage.token("other", &[Scope::Admin]).await;
    let old = stage
        .token_until("default", &[Scope::Admin], Some(OffsetDateTime::now_utc() - Duration::seconds(1)))
        .await;
    let body =
        json!({ "agent": "orch/summarizer", "input": { "text": "x" }, "simulate": { "scenario": "ok" } });
    let ours = stage.own("POST", "/v1/runs?wait", Some(&body)).await.json();
    let ours = format!("/v1/runs/{}", ours["id"].as_str().expect("an id"));
    assert_eq!(stage.publish("1.0.0", "a.example").await.status, 201);

    let large = || vec![b' '; 2 << 20];
    let answers = [
        (stage.own_raw(raw("POST", "/v1/runs", b"{".to_vec())).await, 400, "bad_json"),
        (stage.own_raw(raw("PUT", "/v1/secrets/X", b"\xff".to_vec())).await, 400, "body_invalid"),
        (stage.own_raw(raw("PUT", "/v1/secrets/X", large())).await, 413, "body_too_large"),
        (stage.own_raw(raw("PUT", "/v1/agents/acme/x/1.0.1", large())).await, 413, "body_too_large"),
        (stage.own("GET", "/v1/agents/acme/absent", None).await, 404, "agent_not_found"),
        (stage.own("GET", "/v1/agents/acme/x/9.9.9", None).await, 404, "version_not_found"),
        (stage.own("GET", "/v1/runs/run_aaaaaaaaaaaaaaaaaaaaaaaaaa", None).await, 404, "run_not_found"),
        (stage.ask(&foreign, "GET", &ours, None).await, 404, "run_not_found"),
        (stage.ask(&foreign, "DELETE", &ours, None).await, 404, "run_not_found"),
        (stage.publish("1.0.0", "b.example").await, 409, "version_exists"),
        (stage.ask(&old, "GET", "/v1/runs", None).await, 401, "not_authenticated"),
        (stage.send(None, LOCAL, request("GET", "/v1/runs", "", None)).await, 401, "not_authenticated"),
        (stage.own("GET", "/nowhere", None).await, 404, "not_found"),
        (stage.own("PATCH", "/v1/runs", None).await, 405, "method_not_allowed"),
    ];
    let mut ids = std::collections::BTreeSet::new();
    for (answer, status, code) in answers {
        assert_eq!(answer.refused(), (status, code.to_owned()), "{}", answer.text);
        assert!(ids.insert(answer.headers["x-request-id"].clone()), "each has its own");
    }
}

#[tokio::test]
async fn every_error_names_its_request_in_each_provider_s_words() {
    let stage = Stage::new().await;
    let paths = [
        "/v1/chat/completions",
        "/api/v1/chat/completions",
        "/v1/responses",
        "/api/v1/responses",
        "/v1/messages",
        "/v1beta/models/gemini-2.5-flash:generateContent",
    ];
    for path in paths {
        let nothing = stage.send(None, LOCAL, request("POST", path, "", None)).await;
        let broken = stage.own_raw(raw("POST", path, b"{".to_vec())).await;
        let huge = stage.own_raw(raw("POST", path, vec![b' '; 33 << 20])).await;
        for (answer, status) in [(nothing, 401), (broken, 400), (huge, 413)] {
            assert_eq!(answer.status, status, "{path}: {}", answer.text);
            let id = answer.headers["x-request-id"].to_str().expect("text");
            let body = answer.json();
            assert!(body["error"]["message"].is_string(), "{path}: {}", answer.text);
            assert_eq!(body["request_id"], id, "{path}: {}", answer.text);
            if path == "/v1/messages" {
                assert_eq!(answer.headers["request-id"], id, "where Anthropic's clients look");
            }
        }
    }
}
