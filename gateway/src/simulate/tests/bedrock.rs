//! Bedrock as its own client sees it.

use serde_json::json;

use super::*;
use crate::frames::Framing;

/// The names and payloads of a stream, whose checksums are verified.
fn events(got: &Got) -> Vec<(String, Value)> {
    assert_eq!(got.header("content-type"), Some("application/vnd.amazon.eventstream"));
    let mut splitter = Framing::EventStream.splitter(1 << 20);
    splitter.push(&got.body);
    let mut events = Vec::new();
    while let Some(frame) = splitter.next_frame().unwrap() {
        let mut tree: Value = serde_json::from_str(&frame.data.unwrap()).unwrap();
        events.push((frame.name.clone(), tree[&frame.name].take()));
    }
    assert!(!splitter.has_rest());
    events
}

#[tokio::test]
async fn an_answer_and_a_stream_are_as_documented() {
    let simulation = named("ok").await;
    let got = post(&simulation, BEDROCK, &hello(BEDROCK)).await;
    let whole = got.json();
    assert!(got.header("x-amzn-requestid").is_some());
    assert_eq!(
        (&whole["stopReason"], &whole["output"]["message"]["role"]),
        (&json!("end_turn"), &json!("assistant"))
    );
    let events = events(&post(&simulation, BEDROCK, &set(hello(BEDROCK), "stream", json!(true))).await);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[1]), ("messageStart", "contentBlockDelta"));
    assert_eq!(names[names.len() - 3..], ["contentBlockStop", "messageStop", "metadata"]);
    let said: String =
        events.iter().filter_map(|(_, payload)| payload.pointer("/delta/text")?.as_str()).collect();
    assert_eq!(Some(&json!(said)), whole.pointer("/output/message/content/0/text"));
    assert_eq!(events.last().unwrap().1["usage"], whole["usage"]);
    let listed = simulation_models(&simulation).await;
    assert_eq!(listed["modelSummaries"][0]["modelId"], "model-a");
}

async fn simulation_models(simulation: &Simulation) -> Value {
    let mut connection = Connection::open(simulation, BEDROCK).await.unwrap();
    let mut asked = request(simulation, BEDROCK, &hello(BEDROCK));
    *asked.method_mut() = Method::GET;
    *asked.uri_mut() = "/foundation-models".parse().unwrap();
    connection.exchange(asked).await.unwrap().json()
}

#[tokio::test]
async fn what_bedrock_refuses_is_refused() {
    let simulation = named("ok").await;
    let user = |content: Value| json!({"role": "user", "content": content});
    let said = |messages: Value| json!({"model": "model-a", "messages": messages});
    let with = |key: &str, value: Value| set(hello(BEDROCK), key, value);
    let call =
        json!({"role": "assistant", "content": [{"toolUse": {"toolUseId": "a", "name": "f", "input": {}}}]});
    let result = user(json!([{"toolResult": {"toolUseId": "a", "content": [{"text": "x"}]}}]));
    let hi = user(json!([{"text": "hi"}]));
    let schema = json!({"json": {"type": "object"}});
    let tools = json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": schema}}]});
    for (body, what) in [
        (said(json!([])), "must start with a user message"),
        (said(json!([hi, hi])), "must alternate"),
        (said(json!([call])), "must alternate"),
        (said(json!([user(json!([]))])), "is empty"),
        (said(json!([user(json!([{"text": " "}]))])), "is blank"),
        (said(json!([user(json!("hi"))])), "is empty"),
        (said(json!([hi, call, result])), "toolConfig field must be defined"),
        (set(said(json!([hi, call, hi])), "toolConfig", tools.clone()), "toolResult blocks"),
        (with("inferenceConfig", json!({"maxTokens": 0})), "maxTokens"),
        (with("inferenceConfig", json!({"temperature": 1.5})), "temperature"),
        (
            with("toolConfig", json!({"tools": [{"toolSpec": {"name": "a b", "inputSchema": schema}}]})),
            "name",
        ),
        (
            with("toolConfig", json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]})),
            "type",
        ),
        (with("outputConfig", json!({"textFormat": {}})), "schema"),
        (with("max_tokens", json!(5)), "extraneous key [max_tokens]"),
    ] {
        let got = post(&simulation, BEDROCK, &body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{body}: {}", got.text());
        assert!(got.json()["message"].as_str().unwrap().contains(what), "{body}: {}", got.text());
        assert!(got.header("x-amzn-errortype").unwrap().starts_with("ValidationException:"));
    }
    let mut fine = said(json!([hi, call, result]));
    fine["toolConfig"] = tools;
    let got = post(&simulation, BEDROCK, &fine).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.text());

    let mut connection = Connection::open(&simulation, BEDROCK).await.unwrap();
    let mut asked = request(&simulation, BEDROCK, &hello(BEDROCK));
    asked.headers_mut().insert("authorization", "Bearer ABSKnone".parse().unwrap());
    let got = connection.exchange(asked).await.unwrap();
    assert_eq!(got.status, StatusCode::FORBIDDEN, "{}", got.text());
}

async fn invoke(simulation: &Simulation, model: &str, body: &Value) -> Got {
    let mut connection = Connection::open(simulation, BEDROCK).await.unwrap();
    let mut asked = request(simulation, BEDROCK, body);
    *asked.uri_mut() = format!("/model/{model}/invoke").parse().unwrap();
    connection.exchange(asked).await.unwrap()
}

#[tokio::test]
async fn vectors_are_in_the_form_of_the_model_s_maker() {
    let simulation = named("ok").await;
    let text = "Boats carry fish.";
    let got =
        invoke(&simulation, "amazon.titan-embed-text-v2%3A0", &json!({"inputText": text, "dimensions": 256}))
            .await;
    let titan = got.json();
    let counted = titan["inputTextTokenCount"].to_string();
    assert_eq!(got.header("x-amzn-bedrock-input-token-count"), Some(counted.as_str()));
    assert_eq!(titan["embedding"].as_array().map(Vec::len), Some(256));
    assert_eq!(titan["embeddingsByType"]["float"], titan["embedding"]);
    let first = invoke(&simulation, "amazon.titan-embed-text-v1", &json!({"inputText": text})).await.json();
    assert_eq!(first["embedding"].as_array().map(Vec::len), Some(1536));
    assert_eq!(first.get("embeddingsByType"), None);

    let texts = json!({"texts": [text, "Rain falls."], "input_type": "search_query"});
    let plain = invoke(&simulation, "cohere.embed-english-v3", &texts).await;
    assert!(plain.header("x-amzn-bedrock-input-token-count").is_some());
    let plain = plain.json();
    assert_eq!(plain["response_type"], "embeddings_floats");
    assert_eq!(plain["embeddings"][1].as_array().map(Vec::len), Some(1024));
    let typed = set(set(texts, "embedding_types", json!(["float"])), "output_dimension", json!(512));
    let typed = invoke(&simulation, "us.cohere.embed-v4%3A0", &typed).await.json();
    assert_eq!(typed["response_type"], "embeddings_by_type");
    assert_eq!(typed["embeddings"]["float"][1].as_array().map(Vec::len), Some(512));
}

#[tokio::test]
async fn a_body_that_its_maker_s_model_does_not_know_is_refused() {
    let simulation = named("ok").await;
    let (titan, english, fourth) =
        ("amazon.titan-embed-text-v2%3A0", "cohere.embed-english-v3", "cohere.embed-v4%3A0");
    let texts = |count: usize| json!({"texts": vec!["x"; count], "input_type": "clustering"});
    for (model, body, what) in [
        (titan, json!({"inputText": ["x"]}), "inputText"),
        (titan, json!({"inputText": ""}), "minLength"),
        (titan, json!({"inputText": "x", "dimensions": 300}), "dimensions"),
        (titan, texts(1), "extraneous key"),
        (
            "amazon.titan-embed-text-v1",
            json!({"inputText": "x", "dimensions": 256}),
            "extraneous key [dimensions]",
        ),
        (english, json!({"texts": ["x"]}), "input_type"),
        (english, texts(97), "maximum item count: 96"),
        (english, set(texts(1), "truncate", json!("LEFT")), "truncate"),
        (english, set(texts(1), "output_dimension", json!(512)), "extraneous key [output_dimension]"),
        (fourth, set(texts(1), "truncate", json!("START")), "truncate"),
        (fourth, set(texts(1), "output_dimension", json!(300)), "dimensions"),
        ("amazon.nova-lite-v1%3A0", json!({"messages": []}), "model identifier"),
    ] {
        let got = invoke(&simulation, model, &body).await;
        assert_eq!(got.status, 400, "{model} {body}");
        assert!(got.header("x-amzn-errortype").unwrap().starts_with("ValidationException:"));
        let said = got.json()["message"].as_str().unwrap().to_owned();
        assert!(said.contains(what), "{model} {body}: {said}");
    }
}
