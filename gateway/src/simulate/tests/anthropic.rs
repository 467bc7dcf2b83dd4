use serde_json::json;

use super::*;

fn weather() -> Value {
    json!({"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}})
}

#[tokio::test]
async fn a_message_has_the_providers_form() {
    let simulation = named("ok").await;
    let got = post(&simulation, ANTHROPIC, &hello(ANTHROPIC)).await;
    assert_eq!(got.status, StatusCode::OK);
    assert!(got.header("request-id").unwrap().starts_with("req_"));
    let body = got.json();
    assert!(body["id"].as_str().unwrap().starts_with("msg_01"));
    assert_eq!(
        (&body["type"], &body["role"], &body["model"]),
        (&json!("message"), &json!("assistant"), &json!("model-a"))
    );
    assert_eq!(
        body["content"],
        json!([{"type": "text", "text": "Boats carry fish to town. Rain falls on boats."}])
    );
    assert_eq!((&body["stop_reason"], &body["stop_sequence"]), (&json!("end_turn"), &Value::Null));
    assert!(body["usage"]["input_tokens"].as_u64().unwrap() > 10);
}

#[tokio::test]
async fn a_stream_has_its_life_cycle() {
    let simulation = named("ok").await;
    let plain = post(&simulation, ANTHROPIC, &hello(ANTHROPIC)).await.json();
    let got = post(&simulation, ANTHROPIC, &set(hello(ANTHROPIC), "stream", json!(true))).await;
    let events = got.events();
    assert!(events.iter().all(|(name, data)| {
        serde_json::from_str::<Value>(data).unwrap()["type"] == name.clone().unwrap()
    }));
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_deref().unwrap()).collect();
    assert_eq!(names[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    assert!(names.len() > 8 && names[3..names.len() - 3].iter().all(|name| *name == "content_block_delta"));
    let chunks = got.chunks();
    let text: String = chunks.iter().filter_map(|chunk| chunk["delta"]["text"].as_str()).collect();
    assert_eq!(text, plain["content"][0]["text"].as_str().unwrap());
    assert!(chunks[0]["message"]["id"].as_str().unwrap().starts_with("msg_01"));
    assert_eq!(chunks[0]["message"]["usage"]["input_tokens"], plain["usage"]["input_tokens"]);
    let delta = &chunks[chunks.len() - 2];
    assert_eq!(delta["delta"]["stop_reason"], "end_turn");
    assert_eq!(delta["usage"]["output_tokens"], plain["usage"]["output_tokens"]);
}

#[tokio::test]
async fn limits_and_stops_are_honoured() {
    let simulation = named("ok").await;
    let limited = post(&simulation, ANTHROPIC, &set(hello(ANTHROPIC), "max_tokens", json!(2))).await.json();
    assert_eq!(
        (&limited["stop_reason"], &limited["content"][0]["text"]),
        (&json!("max_tokens"), &json!("Boats carry"))
    );
    let stopped =
        post(&simulation, ANTHROPIC, &set(hello(ANTHROPIC), "stop_sequences", json!(["town"]))).await.json();
    assert_eq!(stopped["stop_reason"], "stop_sequence");
    assert_eq!(stopped["stop_sequence"], "town");
    assert_eq!(stopped["content"][0]["text"], "Boats carry fish to ");
}

#[tokio::test]
async fn tools_are_called_and_their_results_answered() {
    let simulation = named("ok").await;
    let body = set(with_text(ANTHROPIC, "Use get_weather for Oslo."), "tools", json!([weather()]));
    let plain = post(&simulation, ANTHROPIC, &body).await.json();
    assert_eq!(plain["stop_reason"], "tool_use");
    let call = &plain["content"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("tool_use"), &json!("get_weather")));
    assert!(call["input"]["city"].as_str().unwrap().contains("oslo"), "{call}");

    let chunks = post(&simulation, ANTHROPIC, &set(body.clone(), "stream", json!(true))).await.chunks();
    let started = chunks.iter().find(|chunk| chunk["type"] == "content_block_start").unwrap();
    assert_eq!(
        (&started["content_block"]["name"], &started["content_block"]["input"]),
        (&call["name"], &json!({}))
    );
    let partial: String = chunks.iter().filter_map(|chunk| chunk["delta"]["partial_json"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&partial).unwrap(), call["input"]);

    let result = json!([{"type": "tool_result", "tool_use_id": call["id"], "content": "It rains in Oslo."}]);
    let mut answered = body;
    answered["messages"] = json!([
        answered["messages"][0],
        {"role": "assistant", "content": plain["content"]},
        {"role": "user", "content": result}
    ]);
    let last = post(&simulation, ANTHROPIC, &answered).await.json();
    assert_eq!(last["content"], json!([{"type": "text", "text": "It rains in Oslo."}]));
    assert_eq!(last["stop_reason"], "end_turn");
}

#[tokio::test]
async fn structured_output_fits_its_schema() {
    let simulation = named("ok").await;
    let schema = json!({"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "schema": schema});
    for (field, value) in [("output_config", json!({"format": format})), ("output_format", format)] {
        let got = post(&simulation, ANTHROPIC, &set(hello(ANTHROPIC), field, value)).await.json();
        let content: Value = serde_json::from_str(got["content"][0]["text"].as_str().unwrap()).unwrap();
        assert!(content["summary"].is_string(), "{got}");
    }
}

#[tokio::test]
async fn bad_requests_name_the_field() {
    let simulation = named("ok").await;
    let without = |name: &str| {
        let mut body = hello(ANTHROPIC);
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let with = |name: &str, value: Value| set(hello(ANTHROPIC), name, value);
    let messages = |list: Value| with("messages", list);
    let call = json!({"type": "tool_use", "id": "t1", "name": "f", "input": {}});
    let result = json!({"type": "tool_result", "tool_use_id": "t1", "content": "x"});
    let rows = [
        (without("model"), "model: Field required"),
        (without("max_tokens"), "max_tokens: Field required"),
        (without("messages"), "messages: Field required"),
        (with("max_tokens", json!(0)), "max_tokens: must be greater than or equal to 1"),
        (with("temperature", json!(1.5)), "temperature: range: 0..1"),
        (with("stream_options", json!({})), "stream_options: Extra inputs are not permitted"),
        (
            with("tool_choice", json!({"type": "any"})),
            "tool_choice may only be specified while providing tools",
        ),
        (with("tools", json!([{"name": "f"}])), "tools.0.custom.input_schema: Field required"),
        (
            with("output_config", json!({"format": {"type": "json_object"}})),
            "output_config.format.type: Input should be 'json_schema'",
        ),
        (
            with("output_config", json!({"format": {"type": "json_schema"}})),
            "output_config.format.schema: Field required",
        ),
        (
            with("output_config", json!({"format": {"type": "json_schema", "schema": {"type": "object"}}})),
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be",
        ),
        (messages(json!([])), "messages: at least one message is required"),
        (messages(json!([{"role": "system", "content": "x"}])), "messages: Unexpected role \"system\"."),
        (messages(json!([{"role": "king", "content": "x"}])), "messages.0.role: Input should be"),
        (
            messages(json!([{"role": "user", "content": ""}])),
            "messages.0: all messages must have non-empty content",
        ),
        (
            messages(json!([{"role": "user", "content": [{"type": "text", "text": ""}]}])),
            "messages: text content blocks",
        ),
        (
            messages(json!([{"role": "user", "content": [{"type": "image_url"}]}])),
            "messages.0.content.0: Input tag 'image_url'",
        ),
        (
            messages(json!([{"role": "user", "content": [result]}])),
            "messages.0.content.0: unexpected `tool_use_id`",
        ),
        (
            messages(json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": [call]}])),
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1.",
        ),
    ];
    for (body, start) in rows {
        let got = post(&simulation, ANTHROPIC, &body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{body}");
        let json = got.json();
        assert_eq!(
            (&json["type"], &json["error"]["type"]),
            (&json!("error"), &json!("invalid_request_error"))
        );
        assert_eq!(json["request_id"].as_str(), got.header("request-id"));
        assert!(json["error"]["message"].as_str().unwrap().starts_with(start), "{json}");
    }
}

#[tokio::test]
async fn the_version_header_is_required() {
    let simulation = named("ok").await;
    let mut request = request(&simulation, ANTHROPIC, &hello(ANTHROPIC));
    request.headers_mut().remove("anthropic-version");
    let got = Connection::open(&simulation, ANTHROPIC).await.unwrap().exchange(request).await.unwrap();
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
    assert_eq!(got.json()["error"]["message"], "anthropic-version: header is required");
}

/// Each client library sends the version of its own time.
#[tokio::test]
async fn every_version_is_known_and_the_latest_takes_no_sampling() {
    let simulation = named("ok").await;
    let sampled = |name: &str| set(hello(ANTHROPIC), name, json!(1));
    for (version, body, status) in [
        ("2023-01-01", hello(ANTHROPIC), 200),
        ("2023-06-01", sampled("temperature"), 200),
        ("2026-10-21", hello(ANTHROPIC), 200),
        ("2026-10-21", sampled("temperature"), 400),
        ("2026-10-21", sampled("top_p"), 400),
        ("2026-10-21", sampled("top_k"), 400),
        ("2026-10-22", hello(ANTHROPIC), 400),
    ] {
        let mut request = request(&simulation, ANTHROPIC, &body);
        request.headers_mut().insert("anthropic-version", version.parse().unwrap());
        let got = Connection::open(&simulation, ANTHROPIC).await.unwrap().exchange(request).await.unwrap();
        assert_eq!(got.status.as_u16(), status, "{version}: {}", got.text());
    }
}

#[tokio::test]
async fn a_translation_says_that_it_is_simulated() {
    let simulation = named("ok").await;
    let body = set(with_text(ANTHROPIC, "Good day"), "system", json!("Translate the message to French."));
    let got = post(&simulation, ANTHROPIC, &body).await.json();
    assert_eq!(got["content"][0]["text"], "[simulated translation to French] Ĝööð ðáý");
}
