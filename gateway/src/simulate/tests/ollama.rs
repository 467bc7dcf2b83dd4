use serde_json::json;

use super::*;

fn weather() -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    json!({"type": "function", "function": {"name": "get_weather", "parameters": schema}})
}

fn lines(got: &Got) -> Vec<Value> {
    assert_eq!(got.header("content-type"), Some("application/x-ndjson"));
    got.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn an_answer_has_the_servers_form() {
    let simulation = named("ok").await;
    let body = post(&simulation, LLAMA, &hello(LLAMA)).await.json();
    assert_eq!(
        body["message"],
        json!({"role": "assistant", "content": "Boats carry fish to town. Rain falls on boats."})
    );
    assert_eq!((&body["done"], &body["done_reason"]), (&json!(true), &json!("stop")));
    assert!(body["prompt_eval_count"].as_u64() > body["eval_count"].as_u64());
}

#[tokio::test]
async fn whoever_does_not_say_otherwise_gets_lines() {
    let simulation = named("ok").await;
    let plain = post(&simulation, LLAMA, &hello(LLAMA)).await.json();
    let mut body = hello(LLAMA);
    body.as_object_mut().unwrap().remove("stream");
    let lines = lines(&post(&simulation, LLAMA, &body).await);
    let text: String = lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!(text, plain["message"]["content"].as_str().unwrap());
    assert!(lines[..lines.len() - 1].iter().all(|line| line["done"] == false));
    assert_eq!(lines.last().unwrap()["eval_count"], plain["eval_count"]);
}

#[tokio::test]
async fn limits_are_options_and_formats_schemas() {
    let simulation = named("ok").await;
    let limited = set(hello(LLAMA), "options", json!({"num_predict": 2}));
    let limited = post(&simulation, LLAMA, &limited).await.json();
    assert_eq!(
        (&limited["done_reason"], &limited["message"]["content"]),
        (&json!("length"), &json!("Boats carry"))
    );
    let unlimited = set(hello(LLAMA), "options", json!({"num_predict": -1}));
    assert_eq!(post(&simulation, LLAMA, &unlimited).await.json()["done_reason"], "stop");
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let body = post(&simulation, LLAMA, &set(hello(LLAMA), "format", schema)).await.json();
    let text = body["message"]["content"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["n"].is_i64(), "{text}");
}

#[tokio::test]
async fn tools_are_called_without_ids_and_their_results_answered() {
    let simulation = named("ok").await;
    let body = set(with_text(LLAMA, "Use get_weather for Oslo."), "tools", json!([weather()]));
    let plain = post(&simulation, LLAMA, &body).await.json();
    let call = &plain["message"]["tool_calls"][0];
    assert_eq!((call.get("id"), &call["function"]["name"]), (None, &json!("get_weather")));
    assert!(call["function"]["arguments"]["city"].as_str().unwrap().contains("oslo"), "{call}");
    let lines = lines(&post(&simulation, LLAMA, &set(body.clone(), "stream", json!(true))).await);
    assert_eq!(&lines[0]["message"]["tool_calls"][0], call);

    let mut answered = body;
    answered["messages"] = json!([
        answered["messages"][0],
        plain["message"],
        {"role": "tool", "tool_name": "get_weather", "content": "It rains in Oslo."},
    ]);
    let last = post(&simulation, LLAMA, &answered).await.json();
    assert_eq!(last["message"]["content"], "It rains in Oslo.");
}

#[tokio::test]
async fn bad_requests_are_told_in_a_text() {
    let simulation = named("ok").await;
    let with = |name: &str, value: Value| set(hello(LLAMA), name, value);
    let messages = |list: Value| with("messages", list);
    let call = json!({"function": {"name": "f", "arguments": "{}"}});
    let rows = [
        (with("model", json!("")), "model is required"),
        (with("options", json!([])), "json: cannot unmarshal array into Go struct field ChatRequest.options"),
        (with("options", json!({"temperature": "hot"})), "option \"temperature\" must be of type number"),
        (with("options", json!({"stop": "END"})), "option \"stop\" must be of an array of strings"),
        (with("format", json!("yaml")), "invalid format: \"yaml\""),
        (messages(json!([{"role": "user", "content": [{"type": "text"}]}])), "json: cannot unmarshal array"),
        (messages(json!([{"role": "king", "content": "x"}])), "invalid role: king, must be one of"),
        (messages(json!([{"role": "user", "images": ["?"]}])), "illegal base64 data"),
        (messages(json!([{"role": "assistant", "tool_calls": [call]}])), "json: cannot unmarshal string"),
    ];
    for (body, start) in rows {
        let got = post(&simulation, LLAMA, &body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(got.json()["error"].as_str().unwrap().starts_with(start), "{body}: {}", got.text());
    }
}
