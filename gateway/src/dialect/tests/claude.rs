//! What becomes of requests of other dialects at Claude's doors, Anthropic's and Bedrock's.

use serde_json::{Value, json};

use super::{anthropic, bedrock, cohere, gemini, ollama, openai, responses};
use crate::dialect::{Style, Wire};
use crate::ir::ChatRequest;

const SONNET: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";

/// What is sent, and the fields that were left out.
fn sent(client: &dyn Wire, body: &Value, to: &dyn Wire, model: &str) -> (Value, Vec<String>) {
    let read = client.parse_request(body.to_string().as_bytes()).unwrap();
    let request = ChatRequest { model: model.into(), ..read };
    let written = to.write_request(&request, &Style::default());
    let left_out = written.dropped.into_iter().map(|dropped| dropped.field);
    (serde_json::from_slice(&written.body).unwrap(), left_out.collect())
}

fn asks(content: &Value) -> Value {
    json!({ "messages": [{ "role": "user", "content": content }] })
}

#[test]
fn what_is_to_be_cached_is_said_to_anthropic() {
    let mark = json!({ "type": "ephemeral", "ttl": "1h" });
    let body = json!({
        "tools": [{ "type": "function", "function": { "name": "f" }, "cache_control": mark, "defer": true }],
        "messages": [
            { "role": "system", "content": [{ "type": "text", "text": "s", "cache_control": mark }] },
            { "role": "user", "content": [
                { "type": "image_url", "image_url": { "url": "https://x.example/a.png" }, "cache_control": mark },
            ] },
        ],
    });
    let (body, left_out) = sent(openai(), &body, anthropic(), "m");
    for place in ["/tools/0", "/system/0", "/messages/0/content/0"] {
        assert_eq!(body.pointer(&format!("{place}/cache_control")), Some(&mark), "{place}");
    }
    assert_eq!(left_out, ["tools[0].defer"]);
}

#[test]
fn a_cache_point_of_bedrock_and_a_mark_of_anthropic_are_the_same() {
    let point = json!({ "cachePoint": { "type": "default", "ttl": "1h" } });
    let mark = json!({ "type": "ephemeral", "ttl": "1h" });
    let converse = json!({
        "system": [{ "text": "s" }, point],
        "toolConfig": { "tools": [{ "toolSpec": { "name": "f", "inputSchema": { "json": { "type": "object", "properties": {} } } } }, point] },
        "messages": [
            { "role": "user", "content": [{ "text": "x" }] },
            { "role": "assistant", "content": [{ "toolUse": { "toolUseId": "a", "name": "f", "input": {} } }] },
            { "role": "user", "content": [{ "toolResult": { "toolUseId": "a", "content": [{ "text": "y" }] } }, point] },
        ],
    });
    let (message, left_out) = sent(bedrock(), &converse, anthropic(), "m");
    for place in ["/system/0", "/tools/0", "/messages/2/content/0"] {
        assert_eq!(message.pointer(&format!("{place}/cache_control")), Some(&mark), "{place}");
    }
    assert_eq!(left_out, [""; 0]);

    // And back: a mark within a result stands behind it, as Bedrock knows none there.
    let mut message = message;
    message["max_tokens"] = json!(9);
    let result = message.pointer_mut("/messages/2/content/0").unwrap();
    result.as_object_mut().unwrap().remove("cache_control");
    result["content"][0]["cache_control"] = mark;
    let (back, left_out) = sent(anthropic(), &message, bedrock(), SONNET);
    for field in ["system", "toolConfig", "messages"] {
        assert_eq!(back[field], converse[field], "{field}");
    }
    assert_eq!(left_out, [""; 0]);
    // Other models keep it for minutes, and refuse to be asked for more.
    let (back, left_out) = sent(anthropic(), &message, bedrock(), "amazon.nova-lite-v1:0");
    assert_eq!(back["system"][1], json!({ "cachePoint": { "type": "default" } }));
    assert!(left_out.contains(&"system.content[0].cache_control.ttl".to_owned()), "{left_out:?}");
}

#[test]
fn a_mark_on_a_call_is_named_where_it_cannot_be_carried() {
    let body = json!({ "max_tokens": 9, "thinking": { "type": "disabled", "display": "omitted" }, "messages": [
        { "role": "user", "content": "x" },
        { "role": "assistant", "content": [
            { "type": "text", "text": "y" },
            { "type": "tool_use", "id": "a", "name": "f", "input": {}, "cache_control": { "type": "ephemeral" } },
        ] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": "z" }] },
    ] });
    for to in [openai(), responses(), gemini(), bedrock(), cohere(), ollama()] {
        let (_, left_out) = sent(anthropic(), &body, to, "m");
        for field in ["messages[1].content[1].cache_control", "thinking.display"] {
            assert!(left_out.iter().any(|left| left == field), "{field}: {left_out:?}");
        }
    }
}

#[test]
fn a_mark_on_an_image_is_carried_or_named() {
    let image = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AAAA" },
        "cache_control": { "type": "ephemeral" } });
    let body = json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": [image] }] });
    for to in [openai(), responses(), gemini(), cohere(), ollama()] {
        assert_eq!(sent(anthropic(), &body, to, "m").1, ["messages[0].content[0].cache_control"]);
    }
    assert_eq!(sent(anthropic(), &body, bedrock(), SONNET).1, [""; 0]);
}

#[test]
fn ids_of_calls_are_in_letters_that_claude_takes() {
    let body = json!({ "messages": [
        { "role": "user", "content": "x" },
        { "role": "assistant", "tool_calls": [
            { "id": "functions.f:0", "type": "function", "function": { "name": "f", "arguments": "{}" } },
            { "id": "call_-b", "type": "function", "function": { "name": "f", "arguments": "{}" } },
        ] },
        { "role": "tool", "tool_call_id": "functions.f:0", "content": "y" },
        { "role": "tool", "tool_call_id": "call_-b", "content": "z" },
    ] });
    for (to, call, result) in
        [(anthropic(), "id", "tool_use_id"), (bedrock(), "toolUse/toolUseId", "toolResult/toolUseId")]
    {
        let (body, _) = sent(openai(), &body, to, SONNET);
        for (place, wanted) in [("0", "functions_2ef_3a0"), ("1", "call_-b")] {
            let at = |message: u8, field: &str| format!("/messages/{message}/content/{place}/{field}");
            assert_eq!(body.pointer(&at(1, call)), Some(&json!(wanted)), "{body}");
            assert_eq!(body.pointer(&at(2, result)), Some(&json!(wanted)), "{body}");
        }
    }
}

#[test]
fn what_claude_refuses_is_left_out_and_named() {
    let picture = json!({ "inlineData": { "mimeType": "image/jpg", "data": "AAAA" } });
    let body = json!({
        "generationConfig": { "stopSequences": ["\n", "END"], "temperature": 0.5, "topP": 0.5 },
        "contents": [
            { "role": "user", "parts": [{ "text": "x" }, picture] },
            { "role": "model", "parts": [{ "text": " \n" }, picture, { "text": "Drawn." }] },
            { "role": "user", "parts": [{ "text": "And?" }] },
        ],
    });
    for to in [anthropic(), bedrock()] {
        let (body, left_out) = sent(gemini(), &body, to, SONNET);
        assert!(body.to_string().contains("jpeg") && !body.to_string().contains("jpg"), "{body}");
        assert_eq!(body.pointer("/messages/1/content/0/text"), Some(&json!("Drawn.")), "{body}");
        assert_eq!(body.pointer("/messages/1/content/1"), None);
        let stop = body.get("stop_sequences").unwrap_or(&body["inferenceConfig"]["stopSequences"]);
        assert_eq!(stop, &json!(["END"]));
        for field in ["stop", "top_p", "messages[1].content[1]"] {
            assert!(left_out.iter().any(|left| left == field), "{field}: {left_out:?}");
        }
    }
}

/// Opus 4.7 and what came after it.
#[test]
fn a_model_that_settles_everything_by_itself_is_told_nothing() {
    let body = json!({
        "generationConfig": { "temperature": 0.5, "topK": 5, "maxOutputTokens": 4096,
            "thinkingConfig": { "thinkingBudget": 2048 } },
        "contents": [{ "role": "user", "parts": [{ "text": "x" }] }],
    });
    for (to, model) in [(anthropic(), "claude-opus-4-8"), (bedrock(), "us.anthropic.claude-opus-4-7")] {
        let (body, mut left_out) = sent(gemini(), &body, to, model);
        let thinking = body.get("thinking").unwrap_or(&body["additionalModelRequestFields"]["thinking"]);
        assert_eq!(thinking["type"], "adaptive");
        assert!(!body.to_string().contains("temperature") && !body.to_string().contains("top_k"), "{body}");
        left_out.sort();
        assert_eq!(left_out, ["temperature", "thinking.budget_tokens", "top_k"]);
    }
}

/// They need no thoughts of theirs back. Those before them do, and of other providers they get none.
#[test]
fn a_model_that_settles_everything_by_itself_thinks_on_between_calls() {
    let body = json!({
        "generationConfig": { "maxOutputTokens": 4096, "thinkingConfig": { "thinkingBudget": 2048 } },
        "contents": [
            { "role": "user", "parts": [{ "text": "x" }] },
            { "role": "model", "parts": [{ "functionCall": { "id": "a", "name": "f", "args": {} } }] },
            { "role": "user", "parts": [
                { "functionResponse": { "id": "a", "name": "f", "response": { "output": "y" } } },
            ] },
        ],
    });
    for (model, kind, lost) in [
        ("claude-opus-4-8", Some("adaptive"), "thinking.budget_tokens"),
        ("claude-sonnet-4-5", None, "thinking"),
    ] {
        let (body, left_out) = sent(gemini(), &body, anthropic(), model);
        assert_eq!(body.pointer("/thinking/type").and_then(Value::as_str), kind, "{model}");
        assert_eq!(left_out, [lost], "{model}");
    }
}

/// Of the fifth generation all think unless they are told not to, and some do so then as well.
#[test]
fn thoughts_are_turned_off_where_and_as_the_model_takes_it() {
    let body = json!({ "model": "m", "think": false, "messages": [{ "role": "user", "content": "x" }] });
    for (model, at_anthropic, at_bedrock, lost) in [
        ("claude-haiku-4-5", Some("disabled"), None, 0),
        ("claude-opus-4-8", Some("disabled"), None, 0),
        ("claude-opus-5", Some("disabled"), Some("disabled"), 0),
        ("claude-haiku-5-5", Some("disabled"), Some("disabled"), 0),
        ("claude-sonnet-5-5", Some("between_tools"), Some("between_tools"), 0),
        ("claude-opus-5-5", None, None, 1),
        ("claude-fable-5", None, None, 1),
    ] {
        let bedrocks = format!("us.anthropic.{model}");
        for (to, model, place, kind) in [
            (anthropic(), model, "/thinking/type", at_anthropic),
            (bedrock(), bedrocks.as_str(), "/additionalModelRequestFields/thinking/type", at_bedrock),
        ] {
            let (body, left_out) = sent(ollama(), &body, to, model);
            assert_eq!(body.pointer(place).and_then(Value::as_str), kind, "{model}");
            assert_eq!(left_out.iter().filter(|left| *left == "thinking").count(), lost, "{model}");
        }
    }
}

/// As the newer models have them.
#[test]
fn instructions_in_the_middle_are_read() {
    let body = json!({ "max_tokens": 9, "messages": [
        { "role": "user", "content": "x" },
        { "role": "system", "content": [{ "type": "text", "text": "Be brief." }] },
    ] });
    let (body, left_out) = sent(anthropic(), &body, openai(), "m");
    assert_eq!(body["messages"][1], json!({ "role": "system", "content": "Be brief." }));
    assert_eq!(left_out, [""; 0]);
}

/// What the model said is words at the doors of others as well.
#[test]
fn pictures_that_the_model_made_are_named_where_they_cannot_be_carried() {
    let picture = json!({ "inlineData": { "mimeType": "image/png", "data": "AAAA" } });
    let call = json!({ "functionCall": { "id": "a", "name": "f", "args": {} } });
    let body = json!({ "contents": [
        { "role": "user", "parts": [{ "text": "x" }] },
        { "role": "model", "parts": [picture, call] },
        { "role": "user", "parts": [{ "functionResponse": { "id": "a", "name": "f", "response": { "output": "y" } } }] },
    ] });
    for to in [openai(), responses(), anthropic(), bedrock(), cohere()] {
        let (body, left_out) = sent(gemini(), &body, to, "m");
        assert!(!body.to_string().contains("AAAA"), "{body}");
        assert!(left_out.contains(&"messages[1].content[0]".to_owned()), "{left_out:?}");
    }
}

/// Paths are those of the client's parts, wherever the parts went.
#[test]
fn what_stands_behind_a_result_is_named_by_its_own_place() {
    let body = json!({ "max_tokens": 9, "messages": [
        { "role": "user", "content": "x" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "a", "name": "f", "input": {} }] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "a", "content": [
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AAAA" } },
                { "type": "search_result", "title": "t" },
            ] },
            { "type": "document", "source": { "type": "file", "file_id": "f" } },
        ] },
    ] });
    for to in [openai(), cohere(), ollama()] {
        let (_, left_out) = sent(anthropic(), &body, to, "m");
        assert_eq!(left_out, ["messages[2].content[0].content[1]", "messages[2].content[1]"]);
    }
}

/// The schema that was sent, whichever door it was.
fn schema_of(body: &Value) -> Value {
    match body.pointer("/outputConfig/textFormat/structure/jsonSchema/schema").and_then(Value::as_str) {
        Some(text) => serde_json::from_str(text).unwrap(),
        None => body["output_config"]["format"]["schema"].clone(),
    }
}

#[test]
fn every_dialect_s_schema_is_written_in_the_form_that_claude_takes() {
    let schema = json!({ "type": "object", "required": ["age"], "properties": {
        "age": { "type": "integer", "minimum": 0 }, "name": { "type": "string" } } });
    let geminis = json!({ "type": "OBJECT", "required": ["age"], "properties": {
        "age": { "type": "INTEGER", "minimum": 0 }, "name": { "type": "STRING" } } });
    let wanted = json!({ "type": "object", "required": ["age"], "additionalProperties": false, "properties": {
        "age": { "type": "integer", "description": "{minimum: 0}" }, "name": { "type": "string" } } });
    let mut chat = asks(&json!("x"));
    chat["response_format"] =
        json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema, "strict": false } });
    let answered = json!({ "model": "m", "input": "x", "text": { "format": { "type": "json_schema", "name": "a", "schema": schema } } });
    let generated = json!({ "contents": [{ "role": "user", "parts": [{ "text": "x" }] }],
        "generationConfig": { "responseMimeType": "application/json", "responseSchema": geminis } });
    let mut said = asks(&json!("x"));
    said["model"] = json!("m");
    said["response_format"] = json!({ "type": "json_object", "json_schema": schema });
    let mut local = asks(&json!("x"));
    local["model"] = json!("m");
    local["format"] = schema;
    let clients = [
        (openai(), chat),
        (responses(), answered),
        (gemini(), generated),
        (cohere(), said),
        (ollama(), local),
    ];
    for (client, body) in clients {
        for (to, model) in [(anthropic(), "claude-sonnet-4-5"), (bedrock(), SONNET)] {
            let read = client.parse_request(body.to_string().as_bytes()).unwrap();
            let request = ChatRequest { model: model.into(), ..read };
            let written = to.write_request(&request, &Style::default());
            assert_eq!(schema_of(&serde_json::from_slice(&written.body).unwrap()), wanted, "{body}");
            let lost: Vec<_> =
                written.dropped.iter().filter(|dropped| dropped.field == "response_format").collect();
            assert_eq!(lost.len(), 1, "{lost:?}");
            assert!(lost[0].reason.contains("minimum (the description says it)"), "{lost:?}");
        }
    }
}

#[test]
fn claude_gets_its_form_from_hosts_as_well_and_others_theirs() {
    let schema = json!({ "type": "object", "properties": { "a": { "oneOf": [{ "type": "string" }, { "type": "null" }] } } });
    let own = json!({ "type": "object", "additionalProperties": false,
        "properties": { "a": { "anyOf": [{ "type": "string" }, { "type": "null" }] } } });
    let mut body = asks(&json!("x"));
    body["model"] = json!("m");
    body["format"] = schema.clone();
    for (model, wanted) in [("anthropic/claude-opus-4.8", &own), ("openai/gpt-5", &schema)] {
        let (chat, _) = sent(ollama(), &body, openai(), model);
        assert_eq!(&chat["response_format"]["json_schema"]["schema"], wanted, "{model}");
        let (response, _) = sent(ollama(), &body, responses(), model);
        assert_eq!(&response["text"]["format"]["schema"], wanted, "{model}");
    }
    let (converse, left_out) = sent(ollama(), &body, bedrock(), "qwen.qwen3-32b-v1:0");
    assert_eq!(schema_of(&converse), schema);
    assert!(!left_out.iter().any(|field| field == "response_format"), "{left_out:?}");
}

#[test]
fn asking_for_nothing_is_carried() {
    let (body, left_out) = sent(openai(), &asks(&json!("x")), anthropic(), "claude-opus-4-8");
    let wanted = json!({ "model": "claude-opus-4-8", "max_tokens": 4096,
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "x" }] }] });
    assert_eq!((body, left_out), (wanted, vec![]));
}
