use serde_json::{Value, json};

use super::{ALL, anthropic, openai};
use crate::dialect::{Style, Wire, Written, wire};
use crate::ir::ChatRequest;

fn parse(wire: &dyn Wire, body: &Value) -> ChatRequest {
    wire.parse_request(body.to_string().as_bytes()).unwrap()
}

fn body(written: &Written) -> Value {
    serde_json::from_slice(&written.body).unwrap()
}

fn dropped(written: &Written) -> Vec<&str> {
    written.dropped.iter().map(|d| d.field.as_str()).collect()
}

fn openai_request() -> Value {
    json!({
        "model": "m", "max_completion_tokens": 100, "temperature": 1.5, "top_p": 0.9, "seed": 7, "n": 2,
        "frequency_penalty": 0.5, "presence_penalty": 0, "stop": "END", "stream": true, "user": "u1",
        "reasoning_effort": "low", "logit_bias": {"1": 2}, "parallel_tool_calls": false,
        "tools": [
            {"type": "function", "function": {"name": "weather", "description": "Weather", "strict": true,
                "parameters": {"type": "object", "properties": {"city": {"type": "string", "default": null}}}}},
            {"type": "function", "function": {"name": "clock"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"}},
                {"id": "b", "type": "function", "function": {"name": "clock", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "rain"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "noon"}]},
            {"role": "user", "content": "And?"},
            {"role": "developer", "content": "Stay brief."},
        ],
    })
}

#[test]
fn openai_becomes_anthropic() {
    let request = parse(openai(), &openai_request());
    let written = anthropic().write_request(&request, &Style::default());
    assert_eq!(
        body(&written),
        json!({
            "model": "m", "max_tokens": 100, "temperature": 1.0, "top_p": 0.9, "stream": true,
            "stop_sequences": ["END"], "metadata": {"user_id": "u1"},
            "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Stay brief."}],
            "tools": [
                {"name": "weather", "description": "Weather",
                    "input_schema": {"type": "object", "properties": {"city": {"type": "string", "default": null}}}},
                {"name": "clock", "input_schema": {"type": "object", "properties": {}}},
            ],
            "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": true},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                ]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Bern"}},
                    {"type": "tool_use", "id": "b", "name": "clock", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "rain"}]},
                    {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "noon"}]},
                    {"type": "text", "text": "And?"},
                ]},
            ],
        })
    );
    assert_eq!(
        dropped(&written),
        [
            "messages[1].name",
            "messages[1].content[1].image_url.detail",
            "messages[1].content[2]",
            "messages[6]",
            "tools[0].function.strict",
            "temperature",
            "frequency_penalty",
            "seed",
            "reasoning_effort",
            "n",
            "logit_bias",
        ]
    );
}

#[test]
fn a_schema_that_the_model_cannot_keep_to_is_said() {
    let request = parse(openai(), &openai_request());
    let style = Style { no_json_schema: true, ..Style::default() };
    let written = anthropic().write_request(&request, &style);
    assert_eq!(body(&written).get("output_config"), None);
    assert!(dropped(&written).contains(&"response_format"));
    let mut request = openai_request();
    request["response_format"] = json!({"type": "json_object"});
    let written = anthropic().write_request(&parse(openai(), &request), &Style::default());
    assert!(dropped(&written).contains(&"response_format"));
}

fn anthropic_request() -> Value {
    json!({
        "model": "m", "max_tokens": 100, "temperature": 0.5, "top_k": 5, "stream": true,
        "stop_sequences": ["a", "b", "c", "d", "e"], "metadata": {"user_id": "u1"},
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "service_tier": "auto",
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": false}}},
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": null}},
            ]},
            {"role": "user", "content": [
                {"type": "text", "text": "Also:"},
                {"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": [
                    {"type": "text", "text": "no city"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                ]},
            ]},
        ],
    })
}

#[test]
fn anthropic_becomes_openai() {
    let request = parse(anthropic(), &anthropic_request());
    let written =
        openai().write_request(&request, &Style { max_completion_tokens: true, ..Style::default() });
    assert_eq!(
        body(&written),
        json!({
            "model": "m", "max_completion_tokens": 100, "temperature": 0.5, "stream": true,
            "stream_options": {"include_usage": true}, "stop": ["a", "b", "c", "d"], "user": "u1",
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}],
            "tool_choice": "required", "parallel_tool_calls": false,
            "response_format": {"type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"type": "object", "additionalProperties": false}, "strict": true}},
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Looking.", "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":null}"}}]},
                {"role": "tool", "tool_call_id": "a", "content": "no city"},
                {"role": "user", "content": [
                    {"type": "text", "text": "Also:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ]},
            ],
        })
    );
    assert_eq!(
        dropped(&written),
        [
            "system.content[0].cache_control",
            "messages[1].content[0]",
            "messages[2].content[1].is_error",
            "top_k",
            "stop_sequences",
            "thinking",
            "service_tier",
        ]
    );
}

#[test]
fn the_older_name_of_the_bound_and_no_stream_options_where_they_are_not_known() {
    let request = parse(anthropic(), &anthropic_request());
    let style = Style { no_stream_options: true, no_json_schema: true, ..Style::default() };
    let written = body(&openai().write_request(&request, &style));
    assert_eq!(written["max_tokens"], 100);
    assert_eq!(written.get("stream_options"), None);
    assert_eq!(written["response_format"], json!({"type": "json_object"}));
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let rows: &[(&dyn Wire, Value, &str)] = &[
        (openai(), json!({}), "messages: is missing"),
        (openai(), json!({"messages": []}), "messages: must not be empty"),
        (openai(), json!({"messages": "hi"}), "messages: must be an array, not a string"),
        (openai(), json!({"messages": [1]}), "messages[0]: must be an object, not a number"),
        (openai(), json!({"messages": [{"role": "robot"}]}), "messages[0].role: \"robot\" is not"),
        (
            openai(),
            json!({"messages": [{"role": "user", "content": 5}]}),
            "messages[0].content: must be a string or",
        ),
        (
            openai(),
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
            "messages[0].content[0].image_url.url: is missing",
        ),
        (
            openai(),
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]}),
            "messages[0].content[0].image_url.url: is a data URL",
        ),
        (
            openai(),
            json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": -1}),
            "max_tokens: must be a whole number",
        ),
        (
            openai(),
            json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}),
            "max_tokens: must be at least 1",
        ),
        (
            openai(),
            json!({"messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 0}),
            "max_completion_tokens: must be at least 1",
        ),
        (
            openai(),
            json!({"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": {}}]}),
            "tools[0].function.name: is missing",
        ),
        (openai(), json!({"messages": [{"role": "user", "content": "x"}], "n": 0}), "n: must be at least 1"),
        (
            openai(),
            json!({"messages": [{"role": "user", "content": "x"}], "deferred": true}),
            "deferred: an answer that is fetched later",
        ),
        (anthropic(), json!({"messages": [{"role": "user", "content": "x"}]}), "max_tokens: is missing"),
        (
            anthropic(),
            json!({"max_tokens": 1, "messages": [{"role": "user"}]}),
            "messages[0].content: is missing",
        ),
        (
            anthropic(),
            json!({"max_tokens": 1, "messages": [{"role": "system", "content": "x"}]}),
            "messages[0].role: \"system\" is not user or assistant",
        ),
        (
            anthropic(),
            json!({"max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}),
            "messages[0].content[0].tool_use_id: is missing",
        ),
    ];
    for (wire, request, wanted) in rows {
        let error = wire.parse_request(request.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{request}: {error}");
    }
    for broken in ["", "{", "[]", "nul", "{\"messages\":[{\"role\":\"user\",\"role\":\"system\"}]}"] {
        assert!(openai().parse_request(broken.as_bytes()).is_err(), "{broken}");
    }
}

#[test]
fn unknown_fields_are_kept() {
    let request = parse(
        openai(),
        &json!({"messages": [{"role": "user", "content": "x", "flavour": 1}], "brand_new": {"a": null}}),
    );
    assert_eq!(request.extras["brand_new"], json!({"a": null}));
    assert_eq!(request.messages[0].extras["flavour"], 1);
}

/// The names of each object that has one of these three, texts that are objects among them.
fn orders(value: &Value, found: &mut Vec<String>) {
    const NAMES: [&str; 3] = ["reasons", "answer", "certainty"];
    match value {
        Value::Object(fields) => {
            let names: Vec<&str> =
                fields.keys().map(String::as_str).filter(|name| NAMES.contains(name)).collect();
            if !names.is_empty() {
                found.push(names.join(" "));
            }
            fields.values().for_each(|value| orders(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| orders(value, found)),
        Value::String(text) if text.starts_with('{') => {
            orders(&serde_json::from_str(text).unwrap(), found);
        }
        _ => {}
    }
}

/// A model fills a schema in from above, so that one which has its answer before its reasons answers without any.
#[test]
fn properties_stay_in_the_order_they_were_written_in() {
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["reasons", "answer", "certainty"],
        "properties": {
            "reasons": {"type": "string"}, "answer": {"type": "string"}, "certainty": {"type": "number"},
        },
    });
    let asked = json!({
        "model": "m", "max_completion_tokens": 100,
        "tools": [{"type": "function", "function": {"name": "answer", "parameters": schema}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        "messages": [
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function", "function": {
                "name": "answer",
                "arguments": "{\"reasons\":\"none\",\"answer\":\"no\",\"certainty\":1}",
            }}]},
            {"role": "tool", "tool_call_id": "a", "content": "noted"},
        ],
    });
    let request = parse(openai(), &asked);
    for client in ALL.map(wire) {
        let sent = parse(client, &body(&client.write_request(&request, &Style::default())));
        for provider in ALL.map(wire) {
            let mut found = Vec::new();
            orders(&body(&provider.write_request(&sent, &Style::default())), &mut found);
            // The call, the tool, and the answer's form where both dialects have one.
            assert!(found.len() >= 2, "{found:?}");
            assert!(found.iter().all(|order| order == "reasons answer certainty"), "{found:?}");
        }
    }
}
