use serde_json::json;

use super::*;

/// The same request at api.openai.com, which is stricter than its like.
async fn at_openai(simulation: &Simulation, body: &Value) -> Got {
    let mut request = request(simulation, OPENAI, body);
    *request.uri_mut() = http::Uri::from_static(RESPOND);
    Connection::open(simulation, OPENAI).await.unwrap().exchange(request).await.unwrap()
}

fn weather() -> Value {
    json!({"type": "function", "name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}})
}

#[tokio::test]
async fn a_response_has_the_providers_form() {
    let simulation = named("ok").await;
    let got = at_openai(&simulation, &hello(RESPONSES)).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.text());
    assert!(got.header("x-request-id").unwrap().starts_with("req_"));
    let body = got.json();
    assert!(body["id"].as_str().unwrap().starts_with("resp_"));
    assert_eq!((&body["object"], &body["status"]), (&json!("response"), &json!("completed")));
    let message = &body["output"][0];
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(message["content"][0]["text"], "Boats carry fish to town. Rain falls on boats.");
    let usage = &body["usage"];
    let sum = usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"].as_u64(), Some(sum));
    let list =
        at_openai(&simulation, &set(hello(RESPONSES), "instructions", json!("Be brief."))).await.json();
    assert_eq!(list["instructions"], "Be brief.");
}

#[tokio::test]
async fn a_stream_carries_the_same_answer_and_repeats_it_at_the_end() {
    let simulation = named("ok").await;
    let plain = post(&simulation, RESPONSES, &hello(RESPONSES)).await.json();
    let got = post(&simulation, RESPONSES, &set(hello(RESPONSES), "stream", json!(true))).await;
    let events = got.events();
    let data = got.chunks();
    for (number, ((name, _), event)) in events.iter().zip(&data).enumerate() {
        assert_eq!((name.as_deref(), &event["sequence_number"]), (event["type"].as_str(), &json!(number)));
    }
    let text: String = data.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(text, plain["output"][0]["content"][0]["text"].as_str().unwrap());
    let last = data.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["usage"], plain["usage"]);
    assert_eq!(last["response"]["output"][0]["content"], plain["output"][0]["content"]);
    let limited = set(set(hello(RESPONSES), "max_output_tokens", json!(16)), "stream", json!(true));
    let long = set(
        limited,
        "input",
        json!("Repeat: one two three four five six seven eight nine ten eleven twelve. ".repeat(9)),
    );
    let last = post(&simulation, RESPONSES, &long).await.chunks().pop().unwrap();
    assert_eq!(last["type"], "response.incomplete", "{last}");
    assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
}

#[tokio::test]
async fn a_tool_is_called_and_its_result_answered() {
    let simulation = named("ok").await;
    let asked = json!({"model": "model-a", "input": "Call get_weather for Oslo.", "tools": [weather()]});
    let item = at_openai(&simulation, &asked).await.json()["output"][0].clone();
    assert_eq!((&item["type"], &item["name"]), (&json!("function_call"), &json!("get_weather")));
    assert!(serde_json::from_str::<Value>(item["arguments"].as_str().unwrap()).unwrap()["city"].is_string());
    let streamed = post(&simulation, RESPONSES, &set(asked, "stream", json!(true))).await.chunks();
    let deltas = streamed.iter().filter(|event| event["type"] == "response.function_call_arguments.delta");
    assert_eq!(
        deltas.map(|event| event["delta"].as_str().unwrap()).collect::<String>(),
        item["arguments"].as_str().unwrap()
    );
    let output =
        json!({"type": "function_call_output", "call_id": item["call_id"], "output": "It rains in Oslo."});
    let answered = json!({"model": "model-a", "tools": [weather()],
        "input": [{"role": "user", "content": "Call get_weather for Oslo."}, item, output]});
    let body = at_openai(&simulation, &answered).await.json();
    assert_eq!(body["output"][0]["content"][0]["text"], "It rains in Oslo.", "{body}");
}

#[tokio::test]
async fn structured_output_fits_its_schema() {
    let simulation = named("ok").await;
    let schema =
        json!({"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]});
    let text = json!({"format": {"type": "json_schema", "name": "s", "schema": schema, "strict": true}});
    let got = at_openai(&simulation, &set(hello(RESPONSES), "text", text)).await.json();
    let content: Value =
        serde_json::from_str(got["output"][0]["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(content, json!({"summary": "Boats carry fish to town. Rain falls on boats."}));
}

#[tokio::test]
async fn bad_requests_name_the_field() {
    let simulation = named("ok").await;
    let with = |name: &str, value: Value| set(hello(RESPONSES), name, value);
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "c", "output": "x"});
    let rows = [
        (json!({"input": "x"}), "model", "missing_required_parameter"),
        (json!({"model": "m"}), "input", "missing_required_parameter"),
        (with("input", json!([])), "input", "empty_array"),
        (with("input", json!(5)), "input", "invalid_type"),
        (with("input", json!([{"role": "king", "content": ""}])), "input[0].role", "invalid_value"),
        (with("input", json!([{"role": "user"}])), "input[0].content", "missing_required_parameter"),
        (
            with("input", json!([{"role": "user", "content": [{"type": "text", "text": "x"}]}])),
            "input[0].content[0]",
            "invalid_value",
        ),
        (with("input", json!([output])), "input", ""),
        (with("input", json!([call])), "input", ""),
        (with("messages", json!([])), "messages", "unknown_parameter"),
        (with("max_tokens", json!(5)), "max_tokens", "unknown_parameter"),
        (with("max_output_tokens", json!(15)), "max_output_tokens", "integer_below_min_value"),
        (with("temperature", json!(3)), "temperature", "decimal_above_max_value"),
        (
            with("previous_response_id", json!("resp_x")),
            "previous_response_id",
            "previous_response_not_found",
        ),
        (
            with("tools", json!([{"type": "function", "function": {"name": "f"}}])),
            "tools[0].name",
            "missing_required_parameter",
        ),
        (with("tools", json!([{"type": "web_search"}])), "tools", ""),
        (with("tool_choice", json!("required")), "tool_choice", ""),
        (
            with("text", json!({"format": {"type": "json_schema", "schema": {}}})),
            "text.format.name",
            "missing_required_parameter",
        ),
    ];
    for (body, param, code) in rows {
        let got = at_openai(&simulation, &body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{body}");
        let error = &got.json()["error"];
        assert_eq!(error["param"], param, "{body}: {error}");
        assert_eq!(error["code"].as_str().unwrap_or_default(), code, "{error}");
    }
}
