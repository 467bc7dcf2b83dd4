use serde_json::json;

use super::*;

fn weather() -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    json!({"type": "function", "function": {"name": "get_weather", "parameters": schema}})
}

#[tokio::test]
async fn an_answer_has_the_providers_form() {
    let simulation = named("ok").await;
    let body = post(&simulation, COHERE, &hello(COHERE)).await.json();
    assert_eq!(body["id"].as_str().unwrap().split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    assert_eq!(body["finish_reason"], "COMPLETE");
    assert_eq!(
        body["message"],
        json!({"role": "assistant", "content": [
            {"type": "text", "text": "Boats carry fish to town. Rain falls on boats."}]})
    );
    let usage = &body["usage"];
    assert!(usage["tokens"]["input_tokens"].as_u64() > usage["billed_units"]["input_tokens"].as_u64());
}

#[tokio::test]
async fn a_stream_has_its_life_cycle() {
    let simulation = named("ok").await;
    let plain = post(&simulation, COHERE, &hello(COHERE)).await.json();
    let got = post(&simulation, COHERE, &set(hello(COHERE), "stream", json!(true))).await;
    let events = got.events();
    assert!(events.iter().all(|(name, data)| {
        serde_json::from_str::<Value>(data).unwrap()["type"] == name.clone().unwrap()
    }));
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_deref().unwrap()).collect();
    assert_eq!(names[..2], ["message-start", "content-start"]);
    assert_eq!(names[names.len() - 2..], ["content-end", "message-end"]);
    let chunks = got.chunks();
    let text: String =
        chunks.iter().filter_map(|chunk| chunk.pointer("/delta/message/content/text")?.as_str()).collect();
    assert_eq!(text, plain["message"]["content"][0]["text"].as_str().unwrap());
    let end = &chunks.last().unwrap()["delta"];
    assert_eq!((&end["finish_reason"], &end["usage"]), (&plain["finish_reason"], &plain["usage"]));
}

#[tokio::test]
async fn tools_are_called_and_their_results_answered() {
    let simulation = named("ok").await;
    let body = set(with_text(COHERE, "Use get_weather for Oslo."), "tools", json!([weather()]));
    let plain = post(&simulation, COHERE, &body).await.json();
    assert_eq!(plain["finish_reason"], "TOOL_CALL");
    let call = &plain["message"]["tool_calls"][0];
    assert_eq!(call["function"]["name"], "get_weather");
    let chunks = post(&simulation, COHERE, &set(body.clone(), "stream", json!(true))).await.chunks();
    let arguments: String = chunks
        .iter()
        .filter_map(|chunk| chunk.pointer("/delta/message/tool_calls/function/arguments")?.as_str())
        .collect();
    assert_eq!(arguments, call["function"]["arguments"].as_str().unwrap());

    let mut answered = body;
    answered["messages"] = json!([
        answered["messages"][0],
        plain["message"],
        {"role": "tool", "tool_call_id": call["id"], "content": "It rains in Oslo."},
    ]);
    let last = post(&simulation, COHERE, &answered).await.json();
    assert_eq!(last["message"]["content"][0]["text"], "It rains in Oslo.");
}

#[tokio::test]
async fn structured_output_fits_its_schema() {
    let simulation = named("ok").await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let format = json!({"type": "json_object", "json_schema": schema});
    let body = post(&simulation, COHERE, &set(hello(COHERE), "response_format", format)).await.json();
    let text = body["message"]["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["n"].is_i64(), "{text}");
}

#[tokio::test]
async fn bad_requests_are_told_in_a_message() {
    let simulation = named("ok").await;
    let with = |name: &str, value: Value| set(hello(COHERE), name, value);
    let messages = |list: Value| with("messages", list);
    let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let mut structured = with("tools", json!([weather()]));
    structured["response_format"] = json!({"type": "json_object"});
    let mut penalties = with("frequency_penalty", json!(0.1));
    penalties["presence_penalty"] = json!(0.1);
    let rows = [
        (with("model", json!("")), "invalid request: model is required"),
        (with("top_p", json!(0.5)), "unknown field: parameter 'top_p' is not a valid field"),
        (with("p", json!(1)), "invalid request: p must be between 0.01 and 0.99 inclusive."),
        (with("temperature", json!(-1)), "invalid request: temperature must be a non-negative number"),
        (
            with("tool_choice", json!("REQUIRED")),
            "invalid request: tool_choice can only be specified with tools",
        ),
        (with("max_tokens", json!(0)), "invalid request: max_tokens must be a positive integer"),
        (structured, "invalid request: response_format is not supported with RAG."),
        (penalties, "invalid request: cannot specify both frequency_penalty and presence_penalty."),
        (messages(json!([])), "invalid request: messages must be a list"),
        (
            messages(json!([{"role": "user", "content": ""}])),
            "invalid request: message at messages[0] must not be empty",
        ),
        (messages(json!([{"role": "king", "content": "x"}])), "invalid request: unknown role 'king'"),
        (
            messages(json!([{"role": "tool", "tool_call_id": "a", "content": "x"}])),
            "invalid request: tool_call_id at messages[0]",
        ),
        (
            messages(json!([{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "x"}])),
            "invalid request: tool call 'a' has no tool message",
        ),
    ];
    for (body, start) in rows {
        let got = post(&simulation, COHERE, &body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(got.json()["message"].as_str().unwrap().starts_with(start), "{body}: {}", got.text());
    }
}
