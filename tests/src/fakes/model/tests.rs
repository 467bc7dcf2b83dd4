//! The judges judge: a request that a provider would refuse is refused here.

use super::*;
use crate::fakes::anthropic::anthropic;
use crate::fakes::gemini::gemini;
use crate::fakes::openai::openai;

const KEY: &str = "sk-1";
const PNG: &str = "iVBORw0KGgo=";

fn ask(host: &dyn Host, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
    let (path, query) =
        path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query.to_owned())));
    let mut headers: Vec<(String, String)> =
        headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    headers.push(("content-type".into(), "application/json".into()));
    let request = Received {
        method: "POST".into(),
        path: path.into(),
        query,
        headers,
        body: body.to_string().into_bytes(),
        trailers: Vec::new(),
        head: Vec::new(),
    };
    match host.answer(&request) {
        Reply::Full { status, body, .. } => (status, serde_json::from_slice(&body).expect("JSON")),
        Reply::Stream { status, pieces, .. } => (status, json!(pieces.len())),
        Reply::Held(..) | Reply::Raw(_) => (0, Value::Null),
    }
}

fn completions(body: &Value) -> (u16, Value) {
    let host = behind(chat(openai(KEY, "").with_model("m"), Aloud::Yes), &Wings::default());
    ask(&host, "/v1/chat/completions", &[("authorization", "Bearer sk-1")], body)
}

fn forecast() -> Value {
    let properties = json!({ "city": { "type": "string" }, "days": { "type": "integer" } });
    json!({ "type": "object", "properties": properties, "required": ["city"] })
}

#[test]
fn completions_are_judged_by_what_they_say() {
    let tools = json!([{ "type": "function", "function": { "name": "forecast", "parameters": forecast() } }]);
    let user = json!({ "role": "user", "content": "x" });
    let (status, first) = completions(&json!({ "model": "m", "messages": [user], "tools": tools }));
    let called = &first["choices"][0]["message"];
    assert_eq!((status, &called["tool_calls"][0]["function"]["name"]), (200, &json!("forecast")));
    let result = json!({ "role": "tool", "tool_call_id": "call_fake0", "content": "rain" });
    let turns = |turns: Value| completions(&json!({ "model": "m", "messages": turns, "tools": tools }));
    assert_eq!(turns(json!([user, called, result])).1["choices"][0]["message"]["content"], "forecast: rain");
    assert_eq!(turns(json!([user, called])).0, 400, "a call has no result");
    assert_eq!(turns(json!([user, called, user])).0, 400, "a call has no result");
    assert_eq!(turns(json!([user, result])).0, 400, "a result has no call");
    let bare = json!([{ "type": "function", "function": { "name": "forecast", "parameters": { "type": "object" } } }]);
    assert_eq!(
        completions(&json!({ "model": "m", "messages": [user], "tools": bare })).0,
        400,
        "a schema is lost"
    );
}

#[test]
fn pictures_and_schemas_arrive_whole() {
    let sees = |url: &str| {
        let part = json!({ "type": "image_url", "image_url": { "url": url } });
        completions(&json!({ "model": "m", "messages": [{ "role": "user", "content": [part] }] }))
    };
    let (status, seen) = sees(&format!("data:image/png;base64,{PNG}"));
    assert_eq!(
        (status, &seen["choices"][0]["message"]["content"]),
        (200, &json!("I see a picture of 8 bytes."))
    );
    assert_eq!(sees("data:image/png;base64,AAAA").0, 400);
    assert_eq!(sees("https://example.com/a.png").0, 400);
    let asks = |schema: Value| {
        let format = json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema } });
        let messages = json!([{ "role": "user", "content": "x" }]);
        completions(&json!({ "model": "m", "messages": messages, "response_format": format }))
    };
    let properties = json!({ "answer": { "type": "string" }, "count": { "type": "integer" } });
    let (_, filled) = asks(json!({ "type": "object", "properties": properties }));
    let text = filled["choices"][0]["message"]["content"].as_str().expect("text").to_owned();
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), json!({ "answer": SAYS, "count": 3 }));
    assert_eq!(asks(json!({ "type": "object" })).0, 400);
}

#[test]
fn anthropic_wants_thoughts_back_beside_calls() {
    let host = behind(messages(anthropic(KEY, "").with_model("m")), &Wings::default());
    let headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")];
    let turns = |thinking: bool, blocks: Value| {
        let mut body = json!({
            "model": "m", "max_tokens": 2048, "tools": [{ "name": "clock", "input_schema": { "type": "object" } }],
            "messages": [
                { "role": "user", "content": "x" }, { "role": "assistant", "content": blocks },
                { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t", "content": "noon" }] },
            ],
        });
        if thinking {
            body["thinking"] = json!({ "type": "enabled", "budget_tokens": 1024 });
        }
        ask(&host, "/v1/messages", &headers, &body).0
    };
    let call = json!({ "type": "tool_use", "id": "t", "name": "clock", "input": {} });
    let thought =
        |signature: &str| json!({ "type": "thinking", "thinking": THOUGHTS, "signature": signature });
    assert_eq!(turns(false, json!([call])), 200);
    assert_eq!(turns(true, json!([call])), 400);
    assert_eq!(turns(true, json!([thought(SIGNATURE), call])), 200);
    assert_eq!(turns(true, json!([thought("forged"), call])), 400);
}

#[test]
fn each_door_has_its_own_form() {
    let wings = Wings::default();
    let google = behind(generate(gemini(KEY, "")), &wings);
    let said = json!({ "contents": [{ "role": "user", "parts": [{ "text": "x" }] }] });
    let path = "/v1beta/models/gemini-2.5-flash";
    let whole = ask(&google, &format!("{path}:generateContent"), &[("x-goog-api-key", KEY)], &said).1;
    assert_eq!(whole["candidates"][0]["content"]["parts"][0]["text"], SAYS);
    let lone = json!({ "contents": [{ "role": "user", "parts": [{ "functionResponse": { "name": "clock", "response": {} } }] }] });
    assert_eq!(ask(&google, &format!("{path}:generateContent"), &[("x-goog-api-key", KEY)], &lone).0, 400);

    let messages = json!([{ "role": "user", "content": "x" }]);
    let native = behind(ollama("m"), &wings);
    let body = json!({ "model": "m", "messages": messages });
    assert!(ask(&native, "/api/chat", &[], &body).1.as_u64().is_some_and(|pieces| pieces > 3), "it streams");
    assert_eq!(ask(&native, "/api/chat", &[("authorization", "Bearer x")], &body).0, 401);

    let door = behind(cohere(KEY, "m"), &wings);
    let bearer = [("authorization", "Bearer sk-1")];
    assert_eq!(ask(&door, "/v2/chat", &bearer, &body).1["message"]["content"][0]["text"], SAYS);
    let wrong = json!({ "model": "m", "messages": messages, "top_p": 1 });
    assert_eq!(ask(&door, "/v2/chat", &bearer, &wrong).0, 422);
    let limited = json!({ "model": "m", "messages": [{ "role": "user", "content": "play:limited" }] });
    assert_eq!(ask(&door, "/v2/chat", &bearer, &limited).0, 429);

    let judge = crate::fakes::responses::responses(KEY, "m");
    let door = behind(responses(judge), &wings);
    let answer = |body: &Value| ask(&door, "/v1/responses", &bearer, body);
    let whole =
        answer(&json!({ "model": "m", "input": "x", "reasoning": { "effort": "low", "summary": "auto" } })).1;
    assert_eq!(whole["output"][0]["summary"][0]["text"], THOUGHTS);
    assert_eq!(answer(&json!({ "model": "m", "input": "x", "messages": [] })).0, 400);
    assert_eq!(answer(&json!({ "model": "m", "input": "x", "previous_response_id": "resp_x" })).0, 400);
}

#[test]
fn vectors_stand_beside_the_doors() {
    let nowhere = |_: &Received| Reply::json(404, &json!({}));
    let bearer = [("authorization", "Bearer sk-1")];
    let host = with_vectors(nowhere, Form::OpenAi, KEY, "m");
    let asked = json!({ "model": "m", "input": ["one two", "three"], "dimensions": 2 });
    let (status, answer) = ask(&host, "/v1/embeddings", &bearer, &asked);
    assert_eq!((status, &answer["usage"]["prompt_tokens"]), (200, &json!(3)));
    assert_eq!(answer["data"][1]["embedding"], json!([0.625, 0.5]));
    let packed = json!({ "model": "m", "input": "12345678", "encoding_format": "base64" });
    let packed = ask(&host, "/v1/embeddings", &bearer, &packed).1["data"][0]["embedding"].clone();
    assert_eq!(packed, "AACAPwAAAD8AAIC+", "1.0, 0.5 and -0.25");
    assert_eq!(ask(&host, "/v1/embeddings", &[], &asked).0, 401);
    assert_eq!(ask(&host, "/v1/embeddings", &bearer, &json!({ "model": "m", "input": [1] })).0, 400);
    assert_eq!(ask(&host, "/v2/embed", &bearer, &asked).0, 404);

    let google = with_vectors(nowhere, Form::Gemini, KEY, "m");
    let content = json!({ "parts": [{ "text": "one" }] });
    let all = json!({ "requests": [{ "model": "models/m", "content": content }] });
    let answer = ask(&google, "/v1beta/models/m:batchEmbedContents", &[("x-goog-api-key", KEY)], &all).1;
    assert_eq!(answer["embeddings"][0]["values"], json!([0.375, 0.5, -0.25]));
    let door = with_vectors(nowhere, Form::Cohere, KEY, "m");
    assert_eq!(ask(&door, "/v2/embed", &bearer, &json!({ "model": "m", "texts": ["x"] })).0, 400);
    let native = with_vectors(nowhere, Form::Ollama, "", "m");
    let answer = ask(&native, "/api/embed", &[], &json!({ "model": "m", "input": ["x"] })).1;
    assert_eq!(answer["prompt_eval_count"], 1);
}
