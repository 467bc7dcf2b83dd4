use serde_json::json;

use super::*;

fn weather() -> Value {
    json!([{"functionDeclarations": [{"name": "get_weather", "parameters":
        {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}]}])
}

fn said(chunk: &Value) -> String {
    let parts = chunk.pointer("/candidates/0/content/parts").and_then(Value::as_array).into_iter().flatten();
    parts.filter_map(|part| part["text"].as_str()).collect()
}

#[tokio::test]
async fn generated_content_has_the_providers_form() {
    let simulation = named("ok").await;
    let got = post(&simulation, GOOGLE, &hello(GOOGLE)).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.text());
    let body = got.json();
    assert_eq!(said(&body), "Boats carry fish to town. Rain falls on boats.");
    assert_eq!(body["candidates"][0]["content"]["role"], "model");
    assert_eq!(
        (&body["candidates"][0]["finishReason"], &body["modelVersion"]),
        (&json!("STOP"), &json!("model-a"))
    );
    let count = |name: &str| body["usageMetadata"][name].as_u64().unwrap();
    assert!(count("promptTokenCount") > 10);
    assert_eq!(count("totalTokenCount"), count("promptTokenCount") + count("candidatesTokenCount"));
}

#[tokio::test]
async fn a_stream_has_no_terminator_and_says_why_it_ended_in_its_last_chunk() {
    let simulation = named("ok").await;
    let plain = post(&simulation, GOOGLE, &hello(GOOGLE)).await.json();
    let got = post(&simulation, GOOGLE, &set(hello(GOOGLE), "stream", json!(true))).await;
    let chunks = got.chunks();
    assert_eq!(chunks.iter().map(said).collect::<String>(), said(&plain));
    let (last, others) = chunks.split_last().unwrap();
    assert!(
        others.len() > 3 && others.iter().all(|chunk| chunk.pointer("/candidates/0/finishReason").is_none())
    );
    assert_eq!(
        (&last["candidates"][0]["finishReason"], last["candidates"][0].get("content")),
        (&json!("STOP"), None)
    );
    assert_eq!(last["usageMetadata"], plain["usageMetadata"]);
    assert!(got.events().iter().all(|(name, data)| name.is_none() && data != "[DONE]"));

    // Without alt=sse it is one array.
    let mut request = request(&simulation, GOOGLE, &set(hello(GOOGLE), "stream", json!(true)));
    *request.uri_mut() = request.uri().path().parse().unwrap();
    let got = Connection::open(&simulation, GOOGLE).await.unwrap().exchange(request).await.unwrap();
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!(got.json().as_array().unwrap().len(), chunks.len());
}

#[tokio::test]
async fn limits_and_stops_are_honoured() {
    let simulation = named("ok").await;
    let with = |config: Value| set(hello(GOOGLE), "generationConfig", config);
    let limited = post(&simulation, GOOGLE, &with(json!({"maxOutputTokens": 2}))).await.json();
    assert_eq!(
        (said(&limited).as_str(), &limited["candidates"][0]["finishReason"]),
        ("Boats carry", &json!("MAX_TOKENS"))
    );
    let stopped = post(&simulation, GOOGLE, &with(json!({"stopSequences": ["town"]}))).await.json();
    assert_eq!(
        (said(&stopped).as_str(), &stopped["candidates"][0]["finishReason"]),
        ("Boats carry fish to ", &json!("STOP"))
    );
}

#[tokio::test]
async fn tools_are_called_and_their_results_answered() {
    let simulation = named("ok").await;
    for (model, signed) in [("gemini-2.5-flash", false), ("gemini-3-pro-preview", true)] {
        let body = set(with_text(GOOGLE, "Use get_weather for Oslo."), "model", json!(model));
        let body = set(body, "tools", weather());
        let plain = post(&simulation, GOOGLE, &body).await.json();
        let part = plain["candidates"][0]["content"]["parts"][0].clone();
        assert_eq!(
            (&part["functionCall"]["name"], &plain["candidates"][0]["finishReason"]),
            (&json!("get_weather"), &json!("STOP"))
        );
        assert!(part["functionCall"]["args"]["city"].as_str().unwrap().contains("oslo"), "{part}");
        assert_eq!(
            (part.get("thoughtSignature").is_some(), part["functionCall"].get("id").is_some()),
            (signed, signed)
        );
        let chunks = post(&simulation, GOOGLE, &set(body.clone(), "stream", json!(true))).await.chunks();
        assert_eq!(
            chunks[0]["candidates"][0]["content"]["parts"][0]["functionCall"]["args"],
            part["functionCall"]["args"]
        );

        let result =
            json!({"functionResponse": {"name": "get_weather", "response": {"output": "It rains in Oslo."}}});
        let answered = |part: &Value| {
            let contents = json!([body["contents"][0], {"role": "model", "parts": [part]}, {"role": "user", "parts": [result]}]);
            set(body.clone(), "contents", contents)
        };
        let last = post(&simulation, GOOGLE, &answered(&part)).await.json();
        assert_eq!(said(&last), "It rains in Oslo.", "{last}");
        // A call that lost its signature is refused by the generation that signs.
        let mut unsigned = part.clone();
        unsigned.as_object_mut().unwrap().remove("thoughtSignature");
        let got = post(&simulation, GOOGLE, &answered(&unsigned)).await;
        assert_eq!(got.status == StatusCode::BAD_REQUEST, signed, "{}", got.text());
    }
}

#[tokio::test]
async fn bad_requests_are_refused_in_googles_words() {
    let simulation = named("ok").await;
    let with = |name: &str, value: Value| set(hello(GOOGLE), name, value);
    let contents = |list: Value| with("contents", list);
    let declaring = |schema: Value| {
        with("tools", json!([{"functionDeclarations": [{"name": "f", "parameters": schema}]}]))
    };
    let call = json!({"functionCall": {"name": "f", "args": {}}});
    let result = json!({"functionResponse": {"name": "f", "response": {}}});
    let user = json!({"role": "user", "parts": [{"text": "x"}]});
    let rows = [
        (with("messages", json!([])), "Invalid JSON payload received. Unknown name \"messages\""),
        (
            with("generationConfig", json!({"max_tokens": 5})),
            "Invalid JSON payload received. Unknown name \"max_tokens\"",
        ),
        (
            with("generationConfig", json!({"temperature": 2.5})),
            "* GenerateContentRequest.generation_config.temperature",
        ),
        (
            with("generationConfig", json!({"maxOutputTokens": 0})),
            "* GenerateContentRequest.generation_config.max_output_tokens",
        ),
        (
            with("generationConfig", json!({"stopSequences": ["a", "b", "c", "d", "e", "f"]})),
            "The maximum number of stop",
        ),
        (with("generationConfig", json!({"responseSchema": {"type": "STRING"}})), "Unable to submit request"),
        (
            with("toolConfig", json!({"functionCallingConfig": {"mode": "ANY"}})),
            "Function calling config is set without",
        ),
        (contents(json!([])), "* GenerateContentRequest.contents: contents is not specified"),
        (
            contents(json!([{"role": "system", "parts": [{"text": "x"}]}])),
            "Please use a valid role: user, model.",
        ),
        (contents(json!([{"role": "user", "parts": []}])), "* GenerateContentRequest.contents[0].parts"),
        (
            contents(json!([{"role": "user", "parts": [{}]}])),
            "* GenerateContentRequest.contents[0].parts[0].data",
        ),
        (
            contents(json!([user, {"role": "model", "parts": [call]}, user])),
            "Please ensure that the number of function response",
        ),
        (
            contents(json!([user, {"role": "model", "parts": [call]}])),
            "Please ensure that function call turn is followed",
        ),
        (
            contents(json!([user, {"role": "user", "parts": [result]}])),
            "Please ensure that function response turn",
        ),
        (
            declaring(json!({"type": "OBJECT", "properties": {}})),
            "* GenerateContentRequest.tools[0].function_declarations[0].parameters.properties: should be non-empty",
        ),
        (
            declaring(json!({"type": "object", "properties": {"a": {"type": "STRING"}}})),
            "* GenerateContentRequest.tools[0].function_declarations[0].parameters.type",
        ),
        (
            declaring(json!({"type": "OBJECT", "additionalProperties": false})),
            "Invalid JSON payload received. Unknown name \"additionalProperties\"",
        ),
        (
            declaring(json!({"type": "OBJECT", "properties": {"a": {"type": "ARRAY"}}})),
            "* GenerateContentRequest.tools[0].function_declarations[0].parameters.properties[a].items: missing field.",
        ),
        (
            declaring(json!({"type": "OBJECT", "properties": {"a": {"type": "STRING", "format": "uri"}}})),
            "* GenerateContentRequest.tools[0].function_declarations[0].parameters.properties[a].format",
        ),
    ];
    for (body, start) in rows {
        let got = post(&simulation, GOOGLE, &body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{body}: {}", got.text());
        let error = &got.json()["error"];
        assert_eq!((&error["code"], &error["status"]), (&json!(400), &json!("INVALID_ARGUMENT")));
        assert!(error["message"].as_str().unwrap().starts_with(start), "{body}: {error}");
    }
}

#[tokio::test]
async fn the_key_is_taken_in_its_header_only() {
    let simulation = named("ok").await;
    let key = simulation.key_for("gemini").unwrap().to_owned();
    let ask = async |header: Option<(&'static str, String)>, query: &str| {
        let mut request = request(&simulation, GOOGLE, &hello(GOOGLE));
        request.headers_mut().remove("x-goog-api-key");
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        *request.uri_mut() = format!("{}{query}", request.uri()).parse().unwrap();
        Connection::open(&simulation, GOOGLE).await.unwrap().exchange(request).await.unwrap()
    };
    assert_eq!(ask(Some(("x-goog-api-key", key.clone())), "").await.status, StatusCode::OK);
    let none = ask(None, "").await;
    assert_eq!(
        (none.status, &none.json()["error"]["status"]),
        (StatusCode::FORBIDDEN, &json!("PERMISSION_DENIED"))
    );
    let wrong = ask(Some(("x-goog-api-key", "orch_ph_x".to_owned())), "").await;
    assert_eq!(wrong.json()["error"]["details"][0]["reason"], "API_KEY_INVALID");
    assert_eq!(ask(Some(("authorization", format!("Bearer {key}"))), "").await.status, StatusCode::FORBIDDEN);
    let query = ask(Some(("x-goog-api-key", key.clone())), &format!("?key={key}")).await;
    assert_eq!(query.status, StatusCode::BAD_REQUEST);

    let list = Request::get("/v1beta/models").header("host", GOOGLE).header("x-goog-api-key", &key);
    let got = Connection::open(&simulation, GOOGLE)
        .await
        .unwrap()
        .exchange(list.body(Full::default()).unwrap())
        .await
        .unwrap();
    assert_eq!(got.json()["models"][1]["name"], "models/model-b");
}
