//! OpenAI's responses: requests into the others and out of them, and what is told apart in their streams.

mod streams;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ALL, anthropic, events, openai, responses, written};
use crate::dialect::openai_responses::{in_turns, kept};
use crate::dialect::{Style, Written, wire};
use crate::ir::{
    ApiError, ChatRequest, Class, Part, ReasoningWish, ResponseFormat, Role, StopReason, StreamEvent,
};

const OPENAI_TOOLS: &str = include_str!("../fixtures/openai_tools.sse");
const ANTHROPIC_TEXT: &str = include_str!("../fixtures/anthropic_text.sse");

fn parse(body: &Value) -> ChatRequest {
    responses().parse_request(body.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn refused(body: &Value) -> String {
    responses().parse_request(body.to_string().as_bytes()).unwrap_err().to_string()
}

fn body(written: &Written) -> Value {
    serde_json::from_slice(&written.body).unwrap()
}

fn dropped(written: &Written) -> Vec<&str> {
    written.dropped.iter().map(|d| d.field.as_str()).collect()
}

/// A conversation with everything in it, as a client sends back what it got.
fn request() -> Value {
    json!({
        "model": "m", "instructions": "Be brief.", "max_output_tokens": 100, "temperature": 0.5, "top_p": 0.9,
        "stream": true, "store": true, "parallel_tool_calls": false, "truncation": "auto", "user": "u1",
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"], "metadata": {"a": "b"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": true},
            "verbosity": "low"},
        "tools": [
            {"type": "function", "name": "weather", "description": "Weather", "strict": true,
                "parameters": {"type": "object", "properties": {"city": {"type": "string", "default": null}}}},
            {"type": "function", "name": "clock", "parameters": null},
            {"type": "web_search"},
        ],
        "tool_choice": {"type": "function", "name": "weather"},
        "input": [
            {"role": "developer", "content": "Answer in German."},
            {"role": "user", "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
                {"type": "input_file", "file_id": "file_1"},
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}],
                "encrypted_content": "c2ln"},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "Looking.", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": "fc_1", "status": "completed", "call_id": "a", "name": "weather",
                "arguments": "{\"city\":\"Bern\"}"},
            {"type": "function_call", "id": "fc_2", "status": "completed", "call_id": "b", "name": "clock",
                "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "rain"},
            {"type": "function_call_output", "call_id": "b", "output": [
                {"type": "input_text", "text": "noon"},
                {"type": "input_image", "image_url": "https://x.example/a.png"}]},
            {"type": "message", "role": "user", "content": "And?"},
        ],
    })
}

#[test]
fn responses_become_chat_completions_in_which_a_turn_is_one_message() {
    let written = openai().write_request(&parse(&request()), &Style::default());
    assert_eq!(
        body(&written),
        json!({
            "model": "m", "max_tokens": 100, "temperature": 0.5, "top_p": 0.9, "stream": true, "user": "u1",
            "stream_options": {"include_usage": true}, "reasoning_effort": "low", "parallel_tool_calls": false,
            "response_format": {"type": "json_schema",
                "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": true}},
            "tools": [
                {"type": "function", "function": {"name": "weather", "description": "Weather", "strict": true,
                    "parameters": {"type": "object", "properties": {"city": {"type": "string", "default": null}}}}},
                {"type": "function", "function": {"name": "clock"}},
            ],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "system", "content": "Answer in German."},
                {"role": "user", "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                ]},
                {"role": "assistant", "content": "Looking.", "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"}},
                    {"id": "b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "a", "content": "rain"},
                {"role": "tool", "tool_call_id": "b", "content": "noon"},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]},
                {"role": "user", "content": "And?"},
            ],
        })
    );
    assert_eq!(
        dropped(&written),
        [
            "messages[1].content[2]",
            "messages[2].content[0]",
            "tools[2]",
            "store",
            "truncation",
            "include",
            "metadata",
            "reasoning.summary",
            "text.verbosity",
        ]
    );
}

#[test]
fn responses_become_messages_of_anthropic() {
    let written = anthropic().write_request(&parse(&request()), &Style::default());
    let sent = body(&written);
    assert_eq!(
        sent["system"],
        json!([{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Answer in German."}])
    );
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            ]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "b", "name": "clock", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "rain"}]},
                {"type": "tool_result", "tool_use_id": "b", "content": [
                    {"type": "text", "text": "noon"},
                    {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}]},
                {"type": "text", "text": "And?"},
            ]},
        ])
    );
    assert!(dropped(&written).contains(&"store") && dropped(&written).contains(&"reasoning_effort"));
}

#[test]
fn chat_completions_become_responses_of_which_nothing_is_stored() {
    let asked = json!({
        "model": "m", "max_completion_tokens": 100, "temperature": 1.5, "seed": 7, "n": 2, "stop": "END",
        "frequency_penalty": 0.5, "presence_penalty": 0, "stream": true, "user": "u1", "reasoning_effort": "low",
        "logit_bias": {"1": 2}, "parallel_tool_calls": false, "metadata": {"a": "b"}, "verbosity": "low",
        "stream_options": {"include_usage": true},
        "tools": [
            {"type": "function", "function": {"name": "weather", "description": "Weather",
                "parameters": {"type": "object", "properties": {}}}},
            {"type": "function", "function": {"name": "clock", "strict": true}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            ]},
            {"role": "assistant", "content": "Looking.", "reasoning_content": "Hm.", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "clock", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "rain"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "noon"}]},
            {"role": "assistant", "content": null, "refusal": "I cannot."},
            {"role": "user", "content": "And?"},
        ],
    });
    let request = openai().parse_request(asked.to_string().as_bytes()).unwrap();
    let written = responses().write_request(&request, &Style::default());
    assert_eq!(
        body(&written),
        json!({
            "model": "m", "store": false, "max_output_tokens": 100, "temperature": 1.5, "stream": true, "user": "u1",
            "reasoning": {"effort": "low"}, "parallel_tool_calls": false, "metadata": {"a": "b"},
            "text": {"verbosity": "low",
                "format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": false}},
            "tools": [
                {"type": "function", "name": "weather", "description": "Weather", "strict": false,
                    "parameters": {"type": "object", "properties": {}}},
                {"type": "function", "name": "clock", "strict": true,
                    "parameters": {"type": "object", "properties": {}}},
            ],
            "tool_choice": {"type": "function", "name": "weather"},
            "input": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
                ]},
                {"role": "assistant", "content": "Looking."},
                {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
                {"type": "function_call", "call_id": "b", "name": "clock", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "a", "output": "rain"},
                {"type": "function_call_output", "call_id": "b", "output": "noon"},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]},
                {"role": "user", "content": "And?"},
            ],
        })
    );
    assert_eq!(
        dropped(&written),
        [
            "messages[1].name",
            "messages[2].content[0]",
            "frequency_penalty",
            "seed",
            "stop",
            "n",
            "logit_bias"
        ]
    );
}

#[test]
fn messages_of_anthropic_become_responses() {
    let asked = json!({
        "model": "m", "max_tokens": 100, "top_k": 5, "thinking": {"type": "enabled", "budget_tokens": 1024},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Be kind."}],
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"},
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": null}},
                {"type": "text", "text": "Looking."},
            ]},
            {"role": "user", "content": [
                {"type": "text", "text": "Also:"},
                {"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": [
                    {"type": "text", "text": "no city"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                ]},
            ]},
        ],
    });
    let request = anthropic().parse_request(asked.to_string().as_bytes()).unwrap();
    let written = responses().write_request(&request, &Style { no_json_schema: true, ..Style::default() });
    let sent = body(&written);
    assert_eq!(
        (&sent["instructions"], &sent["tool_choice"]),
        (&json!("Be brief.\n\nBe kind."), &json!("required"))
    );
    assert_eq!(
        sent["input"],
        json!([
            {"role": "user", "content": "Hi"},
            {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{\"city\":null}"},
            {"role": "assistant", "content": "Looking."},
            {"type": "function_call_output", "call_id": "a", "output": [
                {"type": "input_text", "text": "no city"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}]},
            {"role": "user", "content": "Also:"},
        ])
    );
    assert_eq!(
        dropped(&written),
        [
            "system.content[0].cache_control",
            "messages[1].content[0]",
            "messages[2].content[1].is_error",
            "top_k",
            "thinking",
        ]
    );
}

/// Whatever the dialect: the calls that a client has as items of their own are one turn, and none of it is lost.
#[test]
fn parallel_calls_stay_together_in_every_dialect() {
    for target in ALL {
        let written = wire(target).write_request(&in_turns(parse(&request())), &Style::default());
        let again = wire(target).parse_request(&written.body).unwrap_or_else(|e| panic!("{target}: {e}"));
        let turns: Vec<Vec<&str>> = again
            .messages
            .iter()
            .map(|message| {
                let ids = message.content.iter().filter_map(|part| match part {
                    Part::ToolCall(call) => Some(call.id.as_str()),
                    _ => None,
                });
                ids.collect()
            })
            .filter(|calls: &Vec<&str>| !calls.is_empty())
            .collect();
        match target {
            orch_manifests::Dialect::OpenAiResponses => assert_eq!(turns, [["a"], ["b"]], "{target}"),
            // Calls have no ids there, and get new ones when they are read.
            orch_manifests::Dialect::OllamaChat => {
                assert_eq!(turns.iter().map(Vec::len).collect::<Vec<_>>(), [2], "{target}");
            }
            _ => assert_eq!(turns, [["a", "b"]], "{target}"),
        }
        let results = again.messages.iter().flat_map(|message| &message.content);
        let results = results.filter(|part| matches!(part, Part::ToolResult(_))).count();
        assert_eq!(results, 2, "{target}");
    }
}

#[test]
fn what_says_nothing_new_is_no_wish() {
    let quiet = parse(&json!({
        "input": "hi", "store": false, "background": false, "truncation": "disabled", "include": [], "metadata": {},
        "text": {"format": {"type": "text"}}, "reasoning": {}, "stream_options": {"include_obfuscation": false},
        "previous_response_id": null, "user": "a", "safety_identifier": "b",
    }));
    assert_eq!((quiet.extras.len(), kept(&quiet), quiet.user.as_deref()), (0, None, Some("b")));
    assert_eq!(quiet.messages[0].content, [Part::text("hi")]);
    let odd =
        parse(&json!({"input": "hi", "tool_choice": {"type": "allowed_tools"}, "brand_new": {"a": null}}));
    assert_eq!(odd.extras.keys().collect::<Vec<_>>(), ["tool_choice", "brand_new"]);
    let object = parse(
        &json!({"input": "hi", "text": {"format": {"type": "json_object"}}, "reasoning": {"effort": "high"}}),
    );
    assert_eq!(
        (object.format, object.reasoning),
        (Some(ResponseFormat::JsonObject), Some(ReasoningWish::Effort("high".into())))
    );
}

#[test]
fn what_the_provider_has_kept_is_seen() {
    for (body, field) in [
        (json!({"previous_response_id": "resp_1", "input": "hi"}), "previous_response_id"),
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"conversation": {"id": "conv_1"}, "input": []}), "conversation"),
        (json!({"prompt": {"id": "pmpt_1"}}), "prompt"),
        (
            json!({"input": [{"role": "user", "content": "x"}, {"type": "item_reference", "id": "msg_1"}]}),
            "input[1]",
        ),
    ] {
        assert_eq!(kept(&parse(&body)).as_deref(), Some(field), "{body}");
    }
    // The call stands in what was kept.
    let answers = json!({"previous_response_id": "resp_1",
        "input": [{"type": "function_call_output", "call_id": "a", "output": "x"}]});
    assert_eq!(parse(&answers).messages[0].role, Role::User);
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let item = |item: Value| json!({"input": [item]});
    let rows = [
        (json!({}), "input: is missing"),
        (json!({"input": []}), "input: must not be empty"),
        (json!({"input": 5}), "input: must be a string or an array of items, not a number"),
        (json!({"input": [1]}), "input[0]: must be an object, not a number"),
        (json!({"messages": [{"role": "user", "content": "x"}]}), "input: is missing"),
        (json!({"input": "x", "background": true}), "background: an answer in the background"),
        (json!({"input": "x", "max_output_tokens": "9"}), "max_output_tokens: must be a whole number"),
        (json!({"input": "x", "store": "yes"}), "store: must be true or false"),
        (json!({"input": "x", "tool_choice": "any"}), "tool_choice: \"any\" is not"),
        (json!({"input": "x", "tool_choice": {"type": "function"}}), "tool_choice.name: is missing"),
        (json!({"input": "x", "tools": [{"type": "function", "function": {}}]}), "tools[0].name: is missing"),
        (json!({"input": "x", "text": {"format": {"type": "xml"}}}), "text.format.type: \"xml\" is not"),
        (
            json!({"input": "x", "text": {"format": {"type": "json_schema", "schema": {}}}}),
            "text.format.name: is missing",
        ),
        (item(json!({"content": "x"})), "input[0].role: is missing"),
        (item(json!({"role": "tool", "content": "x"})), "input[0].role: \"tool\" is not"),
        (item(json!({"role": "user"})), "input[0].content: is missing"),
        (
            item(json!({"role": "user", "content": [{"type": "input_text"}]})),
            "input[0].content[0].text: is missing",
        ),
        (
            item(json!({"role": "user", "content": [{"type": "input_image", "image_url": "data:,x"}]})),
            "input[0].content[0].image_url: is a data URL",
        ),
        (
            item(json!({"type": "function_call", "name": "f", "arguments": "{}"})),
            "input[0].call_id: is missing",
        ),
        (
            item(json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": {}})),
            "input[0].arguments: must be a string, not an object",
        ),
        (
            item(json!({"type": "function_call_output", "call_id": "a", "output": "x"})),
            "input[0].call_id: no function_call with the call_id \"a\" stands before it",
        ),
        (item(json!({"type": "reasoning", "summary": [{}]})), "input[0].summary[0].text: is missing"),
    ];
    for (body, wanted) in rows {
        let error = refused(&body);
        assert!(error.starts_with(wanted), "{body}: {error}");
    }
}
