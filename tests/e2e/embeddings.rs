//! Embeddings: by clients of a server, and by guests; with the name of each request.

use std::thread;
use std::time::{Duration, Instant};

use orch_tests::home::Home;
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use serde_json::{Value, json};

use crate::stage::{OPENAI_KEY, PROGRAM, Stage, guest};

const OPENAI: &str = "/v1/embeddings";

#[test]
fn every_client_of_a_server_gets_vectors_of_every_provider() {
    let server = Server::simulated(PROGRAM, &Home::new());
    let texts = ["Ships came.", "No wind."];
    for model in ["text-embedding-3-small", "gemini-embedding-001", "embed-v4.0"] {
        let text = |text: &str| json!({ "model": format!("models/{model}"), "content": { "parts": [{ "text": text }] } });
        for (path, body, vectors) in [
            (
                OPENAI.to_owned(),
                json!({ "model": model, "input": texts, "dimensions": 16 }),
                "/data/1/embedding",
            ),
            (
                format!("/api/v1beta/models/{model}:batchEmbedContents"),
                json!({ "requests": texts.map(text) }),
                "/embeddings/1/values",
            ),
            (
                "/v2/embed".to_owned(),
                json!({ "model": model, "texts": texts, "input_type": "clustering" }),
                "/embeddings/float/1",
            ),
            ("/api/embed".to_owned(), json!({ "model": model, "input": texts }), "/embeddings/1"),
        ] {
            let answer = server.ask("POST", &path, Some(&body)).expect(200);
            let vector =
                answer.json().pointer(vectors).and_then(Value::as_array).cloned().unwrap_or_default();
            assert!(vector.len() >= 16 && vector.iter().all(Value::is_number), "{path} {model}: {vector:?}");
            let receipt: Value =
                serde_json::from_str(answer.header("x-orch-receipt").expect("a receipt")).expect("JSON");
            assert_eq!(receipt["request_id"].as_str(), answer.header("x-request-id"), "{path} {model}");
        }
    }
    let bad = server.ask("POST", OPENAI, Some(&json!({ "model": "text-embedding-3-small", "input": [7.5] })));
    assert_eq!((bad.status, bad.json()["error"]["param"].clone()), (400, json!("input[0]")));
    assert_eq!(bad.json()["request_id"].as_str(), bad.header("x-request-id"));
    // Each is on record, the one that was refused as well, though nobody waits for that.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let usage = server.ask("GET", "/v1/usage", None).expect(200).json();
        if usage["total"]["calls"] == 13 {
            break;
        }
        assert!(Instant::now() < deadline, "{usage:#}");
        thread::yield_now();
    }
}

#[test]
fn a_guest_gets_vectors_through_the_gateway_and_from_the_provider_itself() {
    let stage = Stage::new();
    let fields = json!({ "supported_providers": ["openai"], "llm": { "primary": "gpt-4o-mini" } });
    let body =
        json!({ "model": "text-embedding-3-small", "input": "Ships came.", "dimensions": 4 }).to_string();
    let post = |url: &str| {
        let headers = [["authorization", "Bearer ${OPENAI_API_KEY}"], ["content-type", "application/json"]];
        json!({ "method": "POST", "url": url, "headers": headers, "body": body })
    };
    let vector = json!({ "object": "embedding", "index": 0, "embedding": [0.5, 0.5, 0.5, 0.5] });
    let said = json!({
        "object": "list", "data": [vector], "model": "text-embedding-3-small",
        "usage": { "prompt_tokens": 4, "total_tokens": 4 },
    });
    stage.openai.script([Reply::json(200, &said), Reply::json(200, &said)]);
    let requests =
        json!([post("${OPENAI_BASE_URL}/embeddings"), post("https://api.openai.com/v1/embeddings")]);
    let input = json!({ "requests": requests }).to_string();
    let outcome = stage.run_with_keys(&guest("wanderer", &fields), &input).run().expect(0);
    let report = outcome.json();
    let results = report["output"]["results"].as_array().expect("a list");
    assert_eq!(results.len(), 2);
    for result in results {
        assert_eq!(result["status"], 200, "{result:#}");
        let answer: Value = serde_json::from_str(result["body"].as_str().expect("a body")).expect("JSON");
        assert_eq!(answer, said);
    }
    stage.openai.took_key(OPENAI_KEY);
}
