//! Vectors of Bedrock's models, each of which is asked in its maker's own words.

use http::{Method, StatusCode};
use orch_gateway::Outcome;
use orch_gateway::ir::Class;
use orch_manifests::{Scheme, Task};
use serde_json::{Value, json};

use crate::upstream::{Reply, whole};
use crate::world::{AWS_KEY, Answer, Setup, World};

const OPENAI: &str = "/v1/embeddings";
const TITAN: &str = "amazon.titan-embed-text-v2:0";
const TITANS_PATH: &str = "/model/amazon.titan-embed-text-v2%3A0/invoke";

/// A run with a key of Bedrock's, and of OpenAI.
fn setup() -> Setup {
    Setup { models: &["aws/amazon.nova-lite-v1:0", "gpt-4o-mini"], ..Setup::default() }
}

/// Titan's answer to one text.
fn titan(first: f32, tokens: u64) -> Reply {
    let vector = [first, 0.5];
    whole(
        200,
        &json!({ "embedding": vector, "embeddingsByType": { "float": vector }, "inputTextTokenCount": tokens }),
    )
}

/// An answer of Cohere's, whose tokens stand in its head.
fn cohere(vectors: &[[f32; 2]], tokens: Option<&str>) -> Reply {
    let headers = tokens.map(|tokens| ("x-amzn-bedrock-input-token-count", tokens.to_owned()));
    let body = json!({
        "id": "e-1", "embeddings": { "float": vectors }, "texts": [], "response_type": "embeddings_by_type",
    });
    Reply::Whole { status: 200, headers: headers.into_iter().collect(), body: body.to_string() }
}

fn throttled(milliseconds: u64) -> Reply {
    Reply::Whole {
        status: 429,
        headers: vec![
            ("x-amzn-errortype", "ThrottlingException".to_owned()),
            ("retry-after-ms", milliseconds.to_string()),
        ],
        body: json!({ "message": "Too many requests, please wait before trying again." }).to_string(),
    }
}

fn first_numbers(answer: &Answer) -> Vec<Value> {
    let data = answer.json()["data"].as_array().cloned().unwrap_or_default();
    data.iter().map(|item| item["embedding"][0].clone()).collect()
}

#[tokio::test]
async fn titan_is_asked_for_one_text_after_the_other_and_paid_for_once() {
    let world = World::new(setup()).await;
    world.aws.script([titan(1.0, 20_000), titan(2.0, 30_000), titan(3.0, 50_000)]);
    let body = json!({ "model": TITAN, "input": ["one", "two", "three"], "dimensions": 2 });
    let answer = world.post(OPENAI, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(first_numbers(&answer), [json!(1.0), json!(2.0), json!(3.0)]);
    assert_eq!(answer.json()["usage"]["prompt_tokens"], 100_000);
    let asked = world.aws.asked();
    let texts: Vec<&Value> = asked.iter().map(|asked| &asked.body["inputText"]).collect();
    assert_eq!(texts, [&json!("one"), &json!("two"), &json!("three")]);
    for asked in &asked {
        assert_eq!(asked.path, TITANS_PATH);
        assert_eq!(asked.headers["authorization"], format!("Bearer {AWS_KEY}"));
        assert_eq!(asked.body["dimensions"], 2);
    }
    let receipt = world.receipt();
    assert_eq!((receipt.outcome, receipt.attempts.len()), (Outcome::Served, 1));
    assert_eq!((receipt.input_tokens, receipt.cost_micro_usd), (100_000, Some(2_000)));
    assert_eq!((receipt.estimated, world.session.budget.spent().input_tokens), (false, 100_000));
    assert_eq!(world.live.requests_used(), 3);
}

#[tokio::test]
async fn cohere_s_models_take_a_list_and_count_in_the_head() {
    let world = World::new(setup()).await;
    let body = json!({ "model": "aws/cohere.embed-multilingual-v3", "input": ["one", "two"] });
    world.aws.script([cohere(&[[1.0, 0.5], [2.0, 0.5]], Some("100000"))]);
    let answer = world.post(OPENAI, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(first_numbers(&answer), [json!(1.0), json!(2.0)]);
    assert_eq!(answer.json()["usage"]["prompt_tokens"], 100_000);
    let asked = &world.aws.asked()[0];
    assert_eq!(asked.path, "/model/cohere.embed-multilingual-v3/invoke");
    assert_eq!(
        asked.body,
        json!({
            "texts": ["one", "two"], "input_type": "search_document", "truncate": "NONE",
            "embedding_types": ["float"],
        })
    );
    let receipt = world.receipt();
    assert_eq!((receipt.cost_micro_usd, receipt.estimated), (Some(10_000), false));
    // Where nobody counts, it is what the texts can be at most.
    world.aws.script([cohere(&[[1.0, 0.5], [2.0, 0.5]], None)]);
    let answer = world.post(OPENAI, &body).await;
    assert_eq!(answer.json()["usage"]["estimated"], true, "{}", answer.text());
    let receipt = world.receipt();
    assert_eq!((receipt.input_tokens, receipt.estimated), (2 * (3 + 64), true));
}

#[tokio::test]
async fn a_provider_that_is_busy_in_the_middle_is_waited_for() {
    let world = World::new(setup()).await;
    world.aws.script([titan(1.0, 10), throttled(1), throttled(1), titan(2.0, 10)]);
    let answer = world.post(OPENAI, &json!({ "model": TITAN, "input": ["one", "two"] })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(first_numbers(&answer), [json!(1.0), json!(2.0)]);
    let texts: Vec<Value> = world.aws.asked().iter().map(|asked| asked.body["inputText"].clone()).collect();
    assert_eq!(texts, [json!("one"), json!("two"), json!("two"), json!("two")], "none is paid for twice");
    let receipt = world.receipt();
    assert_eq!((receipt.attempts.len(), receipt.input_tokens), (1, 20));
}

#[tokio::test]
async fn what_was_answered_before_a_failure_is_paid_for() {
    let world = World::new(setup()).await;
    let invalid = Reply::Whole {
        status: 400,
        headers: vec![("x-amzn-errortype", "ValidationException".to_owned())],
        body: json!({ "message": "400 Bad Request: Too many input tokens." }).to_string(),
    };
    world.aws.script([titan(1.0, 10), titan(2.0, 15), invalid]);
    let answer = world.post(OPENAI, &json!({ "model": TITAN, "input": ["one", "two", "three"] })).await;
    assert!(answer.status.is_client_error(), "{}", answer.text());
    let receipt = world.receipt();
    let charged = receipt.attempts.iter().map(|attempt| attempt.charged.as_ref());
    let charged: Vec<_> = charged.map(|charged| charged.map(|charged| charged.input_tokens)).collect();
    assert_eq!(charged, [Some(25)]);
    assert_eq!(world.session.budget.spent().input_tokens, 25);
    // An answer that is none may have cost whatever was set aside.
    let world = World::new(setup()).await;
    let nonsense = || whole(200, &json!({ "embedding": "x" }));
    world.aws.script([titan(1.0, 10), nonsense(), titan(1.0, 10), nonsense()]);
    let answer = world.post(OPENAI, &json!({ "model": TITAN, "input": ["one", "two"] })).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    let receipt = world.receipt();
    let classes: Vec<_> = receipt.attempts.iter().map(|attempt| attempt.class).collect();
    assert_eq!((classes, receipt.estimated), (vec![Some(Class::Server); 2], true));
    assert_eq!(receipt.input_tokens, 2 * 2 * (3 + 64));
}

#[tokio::test]
async fn vectors_of_two_lengths_are_no_answer() {
    let world = World::new(setup()).await;
    let longer = || whole(200, &json!({ "embedding": [1.0, 2.0, 3.0], "inputTextTokenCount": 1 }));
    world.aws.script([titan(1.0, 10), longer(), titan(1.0, 10), longer()]);
    let answer = world.post(OPENAI, &json!({ "model": TITAN, "input": ["one", "two"] })).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("differ in length"), "{}", answer.text());
}

#[tokio::test]
async fn a_run_s_limit_on_requests_ends_it_in_the_middle() {
    let world = World::new(Setup { requests: 2, ..setup() }).await;
    world.aws.script([titan(1.0, 10), titan(2.0, 10)]);
    let answer = world.post(OPENAI, &json!({ "model": TITAN, "input": ["one", "two", "three"] })).await;
    assert_eq!(answer.json()["error"]["code"], "orch_limit_reached", "{}", answer.text());
    let receipt = world.receipt();
    assert_eq!((receipt.outcome, receipt.input_tokens), (Outcome::Limit, 20));
}

#[tokio::test]
async fn what_it_does_not_take_is_said_before_anything_is_sent() {
    let world = World::new(setup()).await;
    for (body, said) in [
        (json!({ "model": TITAN, "input": vec!["x"; 257] }), "takes 1 in a request"),
        (json!({ "model": TITAN, "input": "x", "dimensions": 2048 }), "have 1024 numbers"),
        (json!({ "model": "cohere.embed-english-v3", "input": "x", "dimensions": 8 }), "and no fewer"),
        (json!({ "model": TITAN, "input": [[1, 2]] }), "input[0]: token ids mean something"),
        (json!({ "model": "aws/amazon.nova-lite-v1:0", "input": "x" }), "makes no embeddings"),
        (
            json!({ "model": "aws/amazon.titan-embed-image-v1", "input": "x" }),
            "model: its name does not tell",
        ),
    ] {
        let answer = world.post(OPENAI, &body).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "orch_no_model_fits", "{error}");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
    }
    assert!(world.aws.asked().is_empty());
}

#[tokio::test]
async fn bedrock_s_own_clients_ask_for_vectors_of_anybody() {
    let world = World::new(setup()).await;
    // Its own passes as it is, and as it comes.
    world.aws.script([titan(1.0, 12)]);
    let own = json!({ "inputText": "one", "normalize": false, "new": 1 });
    let answer = world.post(&format!("/model/aws%2F{}/invoke", TITAN.replace(':', "%3A")), &own).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.json(),
        json!({
            "embedding": [1.0, 0.5], "embeddingsByType": { "float": [1.0, 0.5] }, "inputTextTokenCount": 12,
        })
    );
    assert_eq!(answer.headers["x-amzn-bedrock-input-token-count"], "12");
    let asked = &world.aws.asked()[0];
    assert_eq!((asked.path.as_str(), &asked.body), (TITANS_PATH, &own));
    // Others are translated.
    let vectors = json!({
        "object": "list", "model": "m", "data": [{ "object": "embedding", "index": 0, "embedding": [1.0, 0.5] }],
        "usage": { "prompt_tokens": 4, "total_tokens": 4 },
    });
    world.openai.script([whole(200, &vectors)]);
    let texts = json!({ "texts": ["one"], "input_type": "search_query" });
    let answer = world.post("/model/text-embedding-3-small/invoke", &texts).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        (&answer.json()["embeddings"], &answer.json()["response_type"]),
        (&json!([[1.0, 0.5]]), &json!("embeddings_floats"))
    );
    assert_eq!(answer.headers["x-amzn-bedrock-input-token-count"], "4");
    let wrong = world.post(TITANS_PATH, &json!({ "inputText": 7 })).await;
    assert_eq!(
        (wrong.status, &wrong.json()["__type"]),
        (StatusCode::BAD_REQUEST, &json!("ValidationException"))
    );
    // What makes none is not asked in words that nobody here reads.
    for model in ["amazon.nova-lite-v1%3A0", "gpt-4o-mini", "default", "nobody"] {
        let answer = world.post(&format!("/model/{model}/invoke"), &own).await;
        assert_eq!(answer.status, 404, "{model}: {}", answer.text());
        assert!(answer.text().contains("not offered here"), "{}", answer.text());
    }
    let stream = world.post("/model/amazon.titan-embed-text-v2%3A0/invoke-with-response-stream", &own).await;
    assert_eq!(stream.status, 404);
}

#[tokio::test]
async fn a_guest_s_direct_call_is_one_for_models_that_make_vectors() {
    let world = World::new(setup()).await;
    let host = "bedrock-runtime.eu-central-1.amazonaws.com";
    let direct = |path: &str| world.gateway.inference(Scheme::Https, host, 443, &Method::POST, path);
    for path in
        [TITANS_PATH, "/model/amazon.titan-embed-text-v2:0/invoke", "/model/cohere.embed-english-v3/invoke/"]
    {
        let direct = direct(path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!((direct.provider.as_str(), direct.task), ("aws", Task::Embeddings), "{path}");
        assert_eq!(direct.region.as_deref(), Some("eu-central-1"));
    }
    for path in [
        "/model/amazon.nova-lite-v1:0/invoke",
        "/model/us.anthropic.claude-haiku-4-5-20251001-v1:0/invoke",
        "/model/amazon.titan-embed-text-v2:0/invoke-with-response-stream",
        "/model/amazon.titan-embed-text-v2:0/async-invoke",
        "/model/amazon.titan-embed-text-v2%253A0/invoke",
    ] {
        assert!(direct(path).is_none(), "{path}");
    }
}
