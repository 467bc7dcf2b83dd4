use serde_json::json;

use super::*;

fn weather() -> Value {
    json!({
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
                "required": ["city", "unit"]
            }
        }
    })
}

#[tokio::test]
async fn a_completion_has_the_providers_form() {
    let simulation = named("ok").await;
    let got = post(&simulation, OPENAI, &hello(OPENAI)).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert!(got.header("x-request-id").unwrap().starts_with("req_"));
    assert_eq!(got.header("x-ratelimit-remaining-requests"), Some("9999"));
    let body = got.json();
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "model-a");
    let choice = &body["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["refusal"], Value::Null);
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["message"]["content"], "Boats carry fish to town. Rain falls on boats.");
    let usage = &body["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"].as_u64(), Some(sum));
    assert!(usage["completion_tokens"].as_u64().unwrap() > 5);
}

#[tokio::test]
async fn a_stream_carries_the_same_answer_in_chunks() {
    let simulation = named("ok").await;
    let plain = post(&simulation, OPENAI, &hello(OPENAI)).await.json();
    let body =
        set(set(hello(OPENAI), "stream", json!(true)), "stream_options", json!({"include_usage": true}));
    let got = post(&simulation, OPENAI, &body).await;
    assert_eq!(got.events().last().unwrap(), &(None, "[DONE]".to_owned()));
    let chunks = got.chunks();
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"])
    );
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let pieces: Vec<&str> =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert!(pieces.len() > 3, "{pieces:?}");
    assert_eq!(pieces.concat(), plain["choices"][0]["message"]["content"].as_str().unwrap());
    let [.., finish, usage] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    assert_eq!((&finish["usage"], &usage["choices"]), (&Value::Null, &json!([])));
    assert_eq!(usage["usage"]["completion_tokens"], plain["usage"]["completion_tokens"]);
    assert_eq!(usage["usage"]["prompt_tokens"], plain["usage"]["prompt_tokens"]);

    let silent = post(&simulation, OPENAI, &set(hello(OPENAI), "stream", json!(true))).await;
    assert!(silent.chunks().iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test]
async fn limits_and_stops_are_honoured() {
    let simulation = named("ok").await;
    let limited = post(&simulation, OPENAI, &set(hello(OPENAI), "max_tokens", json!(3))).await.json();
    assert_eq!(limited["choices"][0]["finish_reason"], "length");
    assert_eq!(limited["choices"][0]["message"]["content"], "Boats carry fish");
    assert_eq!(limited["usage"]["completion_tokens"], 3);
    let stopped = post(&simulation, OPENAI, &set(hello(OPENAI), "stop", json!([" fish"]))).await.json();
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert_eq!(stopped["choices"][0]["message"]["content"], "Boats carry");
    let two = post(&simulation, OPENAI, &set(hello(OPENAI), "n", json!(2))).await.json();
    assert_eq!(two["choices"][1]["index"], 1);
    assert_eq!(two["choices"][0]["message"], two["choices"][1]["message"]);
}

#[tokio::test]
async fn a_forced_tool_is_called_with_fitting_arguments() {
    let simulation = named("ok").await;
    let body = set(
        set(with_text(OPENAI, "Oslo please"), "tools", json!([weather()])),
        "tool_choice",
        json!("required"),
    );
    let plain = post(&simulation, OPENAI, &body).await.json();
    let choice = &plain["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null)
    );
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("get_weather")));
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"city": "oslo please", "unit": "celsius"}));

    let chunks = post(&simulation, OPENAI, &set(body, "stream", json!(true))).await.chunks();
    let deltas: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0])
        .filter(|d| !d.is_null())
        .collect();
    assert!(deltas[0]["id"].as_str().unwrap().starts_with("call_"));
    assert_eq!(deltas[0]["function"]["name"], "get_weather");
    assert!(deltas[1..].iter().all(|delta| delta.get("id").is_none() && delta["index"] == 0));
    let joined: String =
        deltas.iter().map(|delta| delta["function"]["arguments"].as_str().unwrap()).collect();
    assert_eq!(joined, call["function"]["arguments"].as_str().unwrap());
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn a_tool_result_is_answered_with_text() {
    let simulation = named("ok").await;
    let call =
        json!({"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}});
    let body = json!({
        "model": "model-a",
        "tools": [weather()],
        "messages": [
            {"role": "user", "content": "Call get_weather for Oslo."},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "It rains in Oslo."}
        ]
    });
    let message = &post(&simulation, OPENAI, &body).await.json()["choices"][0]["message"];
    assert_eq!(message["content"], "It rains in Oslo.");
    assert_eq!(message.get("tool_calls"), None);
}

#[tokio::test]
async fn structured_output_fits_its_schema() {
    let simulation = named("ok").await;
    let schema =
        json!({"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]});
    let format = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
    let got = post(&simulation, OPENAI, &set(hello(OPENAI), "response_format", format)).await.json();
    let content: Value =
        serde_json::from_str(got["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert_eq!(content, json!({"summary": "Boats carry fish to town. Rain falls on boats."}));
}

#[tokio::test]
async fn bad_requests_name_the_field() {
    let simulation = named("ok").await;
    let without = |name: &str| {
        let mut body = hello(OPENAI);
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let with = |name: &str, value: Value| set(hello(OPENAI), name, value);
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let rows = [
        (without("model"), "model", "missing_required_parameter"),
        (without("messages"), "messages", "missing_required_parameter"),
        (with("messages", json!([])), "messages", "empty_array"),
        (with("messages", json!("hi")), "messages", "invalid_type"),
        (with("messages", json!([{"role": "king", "content": ""}])), "messages[0].role", "invalid_value"),
        (with("messages", json!([{"role": "user"}])), "messages[0].content", ""),
        (
            with("messages", json!([{"role": "tool", "tool_call_id": "x", "content": ""}])),
            "messages[0].role",
            "",
        ),
        (with("messages", json!([{"role": "assistant", "tool_calls": [call]}])), "messages.[1].role", ""),
        (with("temperature", json!(3)), "temperature", "decimal_above_max_value"),
        (with("max_tokens", json!(0)), "max_tokens", "integer_below_min_value"),
        (with("max_tokens", json!(-1)), "max_tokens", "integer_below_min_value"),
        (with("max_tokens", json!("9")), "max_tokens", "invalid_type"),
        (with("stop", json!(["a", "b", "c", "d", "e"])), "stop", "array_above_max_length"),
        (with("stream_options", json!({"include_usage": true})), "stream_options", ""),
        (with("tool_choice", json!("required")), "tool_choice", ""),
        (
            with("tools", json!([{"type": "function", "function": {"name": "a b"}}])),
            "tools[0].function.name",
            "invalid_value",
        ),
        (with("byok", json!({})), "byok", "unknown_parameter"),
        (set(with("max_tokens", json!(5)), "model", json!("o3-mini")), "max_tokens", "unsupported_parameter"),
    ];
    for (body, param, code) in rows {
        let got = post(&simulation, OPENAI, &body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{body}");
        let error = &got.json()["error"];
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["param"], param, "{error}");
        assert_eq!(error["code"].as_str().unwrap_or_default(), code, "{error}");
    }
}

#[tokio::test]
async fn googles_compatible_endpoint_answers_with_its_own_errors() {
    const PATH: &str = "/v1beta/openai/chat/completions";
    let google = served("google", GOOGLE, KeyPlace::Bearer, PATH, Wire::OpenAiChat);
    let simulation = Simulation::start(Scenario::ok(), vec![google]).await.unwrap();
    let ask = |key: &str| {
        let body = Full::new(Bytes::from(hello(OPENAI).to_string()));
        let request =
            Request::post(PATH).header("host", GOOGLE).header("authorization", format!("Bearer {key}"));
        request.body(body).unwrap()
    };
    let key = simulation.key_for("google").unwrap().to_owned();
    let mut connection = Connection::open(&simulation, GOOGLE).await.unwrap();
    let good = connection.exchange(ask(&key)).await.unwrap();
    assert_eq!(good.json()["object"], "chat.completion");
    assert_eq!(good.json().get("service_tier"), None);
    let got = connection.exchange(ask("orch_ph_nothing")).await.unwrap();
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
    let error = &got.json()[0]["error"];
    assert_eq!((&error["code"], &error["status"]), (&json!(400), &json!("INVALID_ARGUMENT")));
    assert_eq!(error["details"][0]["reason"], "API_KEY_INVALID");
}

#[tokio::test]
async fn a_local_provider_is_served_in_the_clear_and_without_a_key() {
    let simulation = named("ok").await;
    assert_eq!(simulation.key_for("ollama"), None);
    let got = post(&simulation, "localhost", &hello("localhost")).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.json()["choices"][0]["finish_reason"], "stop");
}
