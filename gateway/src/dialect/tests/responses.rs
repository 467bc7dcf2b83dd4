//! OpenAI's responses: requests into the others and out of them, and what is told apart in their streams.

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

/// The events of a stream, each with its data.
fn data(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    let blocks = text.split_terminator("\n\n").map(|block| {
        let (name, data) = block.split_once("\ndata: ").expect("a name and data");
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{block}");
        data
    });
    blocks.collect()
}

/// What every client counts on: numbers without gaps, items that begin before they go on and end once, whole texts that
/// are their deltas, and a last event that repeats it all.
fn check(stream: &[u8]) -> Vec<Value> {
    let events = data(stream);
    let mut open: BTreeMap<u64, (Value, String)> = BTreeMap::new();
    let mut done = Vec::new();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
        let kind = event["type"].as_str().unwrap();
        let at = event["output_index"].as_u64();
        match kind {
            "response.output_item.added" => {
                let at = at.unwrap();
                assert_eq!(at as usize, open.len() + done.len(), "{event}");
                open.insert(at, (event["item"]["id"].clone(), String::new()));
            }
            "response.output_item.done" => {
                let (id, _) = open.remove(&at.unwrap()).expect("the item is open");
                assert_eq!(event["item"]["id"], id);
                done.push((at.unwrap(), event["item"].clone()));
            }
            "response.created" | "response.in_progress" => {
                assert_eq!(event["response"]["status"], "in_progress");
            }
            "response.completed" | "response.incomplete" => {
                assert!(open.is_empty(), "{event}");
                done.sort_by_key(|(at, _)| *at);
                let items: Vec<Value> = done.iter().map(|(_, item)| item.clone()).collect();
                assert_eq!(event["response"]["output"], json!(items));
                assert_eq!(number + 1, events.len());
            }
            "error" => {}
            _ => {
                let (id, text) = open.get_mut(&at.unwrap()).expect("the item is open");
                assert_eq!(event["item_id"], *id, "{event}");
                if kind.ends_with(".delta") {
                    text.push_str(event["delta"].as_str().unwrap());
                }
                if kind.ends_with("part.added") {
                    text.clear();
                }
                if kind.ends_with(".done") && !kind.ends_with("part.done") {
                    let whole = ["text", "refusal", "arguments"].iter().find_map(|key| event[*key].as_str());
                    assert_eq!(whole, Some(text.as_str()), "{event}");
                }
            }
        }
    }
    events
}

fn kinds(events: &[Value]) -> Vec<String> {
    let short = |event: &Value| {
        let kind = event["type"].as_str().unwrap().trim_start_matches("response.").to_owned();
        match event["output_index"].as_u64() {
            Some(at) => format!("{at} {kind}"),
            None => kind,
        }
    };
    events.iter().map(short).collect()
}

#[test]
fn a_stream_goes_through_the_whole_life_of_its_items() {
    let out = check(&written(responses(), &events(anthropic(), [ANTHROPIC_TEXT.as_bytes()])));
    assert_eq!(
        kinds(&out),
        [
            "created",
            "in_progress",
            "0 output_item.added",
            "0 reasoning_summary_part.added",
            "0 reasoning_summary_text.delta",
            "0 reasoning_summary_text.done",
            "0 reasoning_summary_part.done",
            "0 output_item.done",
            "1 output_item.added",
            "1 content_part.added",
            "1 output_text.delta",
            "1 output_text.delta",
            "1 output_text.done",
            "1 content_part.done",
            "1 output_item.done",
            "completed",
        ]
    );
    let last = &out.last().unwrap()["response"];
    assert_eq!(last["output"][0]["encrypted_content"], "c2ln");
    assert_eq!(last["usage"]["total_tokens"], 27);
}

#[test]
fn interleaved_calls_stay_interleaved() {
    let out = check(&written(responses(), &events(openai(), [OPENAI_TOOLS.as_bytes()])));
    assert_eq!(
        kinds(&out),
        [
            "created",
            "in_progress",
            "0 output_item.added",
            "0 function_call_arguments.delta",
            "1 output_item.added",
            "2 output_item.added",
            "2 function_call_arguments.delta",
            "0 function_call_arguments.delta",
            "2 function_call_arguments.delta",
            "0 function_call_arguments.delta",
            "0 function_call_arguments.done",
            "0 output_item.done",
            "1 function_call_arguments.delta",
            "1 function_call_arguments.done",
            "1 output_item.done",
            "2 function_call_arguments.done",
            "2 output_item.done",
            "completed",
        ]
    );
    let calls = out.last().unwrap()["response"]["output"].as_array().unwrap().clone();
    let told: Vec<_> =
        calls.iter().map(|c| (c["call_id"].as_str().unwrap(), c["arguments"].as_str().unwrap())).collect();
    assert_eq!(told, [("call_a", "{\"city\":\"Zürich\"}"), ("call_b", "{}"), ("call_c", "{\"a\":1}")]);
}

#[test]
fn every_order_of_pieces_makes_a_stream_in_order() {
    let text = |text: &str| StreamEvent::Text(text.into());
    let call =
        |index| StreamEvent::ToolStart { index, id: format!("c{index}"), name: "f".into(), signature: None };
    let stop = |reason| StreamEvent::Stop { reason, sequence: None };
    let pieces = [
        StreamEvent::ReasoningSignature("s".into()),
        StreamEvent::Reasoning("hm".into()),
        text("a"),
        StreamEvent::Refusal("no".into()),
        text("b"),
        call(0),
        text("c"),
        StreamEvent::ToolArguments { index: 0, fragment: "{}".into() },
        call(1),
        StreamEvent::Reasoning("more".into()),
        StreamEvent::ToolEnd { index: 0 },
        text("d"),
    ];
    for first in 0..pieces.len() {
        for (reason, last) in
            [(StopReason::ToolUse, "response.completed"), (StopReason::Length, "response.incomplete")]
        {
            let mut all = pieces[first..].to_vec();
            all.extend([stop(reason), StreamEvent::End]);
            let out = check(&written(responses(), &all));
            assert_eq!(out.last().unwrap()["type"], last);
        }
    }
    // A message has its text and its refusal as parts.
    let out = check(&written(
        responses(),
        &[text("a"), StreamEvent::Refusal("no".into()), stop(StopReason::Refusal), StreamEvent::End],
    ));
    let message = &out.last().unwrap()["response"]["output"][0];
    let parts: Vec<_> = message["content"].as_array().unwrap().iter().map(|p| p["type"].clone()).collect();
    assert_eq!(parts, ["output_text", "refusal"]);
}

#[test]
fn an_error_has_its_fields_where_clients_look_and_its_number() {
    let error = ApiError {
        details: Some(Box::new(json!({"class": "server"}))),
        ..ApiError::new(Class::Server, "broke")
    };
    let mut writer = responses().stream_writer(false);
    writer.begun(7);
    let mut out = Vec::new();
    writer.write(&StreamEvent::Error(error), &mut out);
    let [event] = &data(&out)[..] else { panic!("{out:?}") };
    assert_eq!((&event["type"], &event["sequence_number"]), (&json!("error"), &json!(7)));
    assert_eq!((&event["message"], &event["error"]["message"]), (&json!("broke"), &json!("broke")));
    assert_eq!(event["error"]["orch"], json!({"class": "server"}));
}

fn stream(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[test]
fn what_comes_whole_only_is_heard_once() {
    let message = |content: Value| json!({"type": "message", "content": content});
    let text = json!([{"type": "output_text", "text": "hello", "annotations": []}]);
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":1}"});
    let done = |at: u64, item: &Value| json!({"type": "response.output_item.done", "output_index": at, "item": item});
    let end = |output: Value| json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": output}});
    let added = json!({"type": "response.output_item.added", "output_index": 1, "item":
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}});
    let part = json!({"type": "response.content_part.added", "output_index": 0, "content_index": 0,
        "part": {"type": "output_text", "text": "he"}});
    let delta =
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "llo"});
    let whole =
        json!({"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "hello"});
    let output = json!([message(text.clone()), call]);
    for events_sent in [
        vec![end(output.clone())],
        vec![done(0, &message(text.clone())), done(1, &call), end(output.clone())],
        vec![
            whole.clone(),
            done(0, &message(text.clone())),
            added.clone(),
            done(1, &call),
            end(output.clone()),
        ],
        vec![part, delta, whole, done(0, &message(text)), added, done(1, &call), end(output)],
    ] {
        let sent = stream(&events_sent);
        let heard = events(responses(), [sent.as_bytes()]);
        let text: String = heard
            .iter()
            .filter_map(|e| if let StreamEvent::Text(t) = e { Some(t.as_str()) } else { None })
            .collect();
        let arguments: String = heard
            .iter()
            .filter_map(|e| {
                if let StreamEvent::ToolArguments { fragment, .. } = e {
                    Some(fragment.as_str())
                } else {
                    None
                }
            })
            .collect();
        assert_eq!((text.as_str(), arguments.as_str()), ("hello", "{\"a\":1}"), "{sent}");
        let ends = heard.iter().filter(|e| matches!(e, StreamEvent::ToolEnd { .. })).count();
        assert_eq!((ends, heard.last()), (1, Some(&StreamEvent::End)), "{sent}");
    }
}

#[test]
fn thoughts_are_paragraphs_whether_they_stream_or_not() {
    let summary = json!([{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]);
    let item = json!({"type": "reasoning", "summary": summary, "encrypted_content": "e"});
    let whole = json!({"status": "completed", "output": [item]});
    let read = responses().parse_response(whole.to_string().as_bytes()).unwrap();
    assert_eq!(read.content, [Part::Reasoning { text: "one\n\ntwo".into(), signature: Some("e".into()) }]);
    let delta = |at: u64, text: &str| json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": at, "delta": text});
    let sent = stream(&[
        delta(0, "o"),
        delta(0, "ne"),
        delta(1, "two"),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
    ]);
    let heard = events(responses(), [sent.as_bytes()]);
    let thought: String = heard
        .iter()
        .filter_map(|e| if let StreamEvent::Reasoning(t) = e { Some(t.as_str()) } else { None })
        .collect();
    assert_eq!(thought, "one\n\ntwo");
    assert_eq!(heard.last(), Some(&StreamEvent::ReasoningSignature("e".into())));
}

#[test]
fn pieces_without_a_place_elsewhere_are_named() {
    let search = json!({"type": "web_search_call", "id": "ws_1", "status": "completed"});
    let note = json!({"type": "url_citation", "url": "https://x.example"});
    let text = json!({"type": "output_text", "text": "a", "annotations": [note]});
    let whole = json!({"status": "completed", "output": [search, {"type": "message", "content": [text]}]});
    let read = responses().parse_response(whole.to_string().as_bytes()).unwrap();
    assert_eq!(read.content, [Part::Opaque(search.clone()), Part::text("a"), Part::Opaque(note.clone())]);
    let sent = stream(&[
        json!({"type": "response.output_item.added", "output_index": 0, "item": search}),
        json!({"type": "response.web_search_call.searching", "output_index": 0}),
        json!({"type": "response.output_text.annotation.added", "output_index": 1, "annotation": note}),
    ]);
    assert_eq!(
        events(responses(), [sent.as_bytes()]),
        [StreamEvent::Opaque(search), StreamEvent::Opaque(note)]
    );
}

/// It takes its time, and a client of responses hears it.
#[test]
fn what_a_tool_of_another_kind_is_given_is_something_that_was_said() {
    let kind = "response.custom_tool_call_input.delta";
    let delta = |text: &str| json!({"type": kind, "output_index": 0, "delta": text});
    let sent = stream(&[delta(""), delta("*** Begin"), delta(" Patch")]);
    let piece = StreamEvent::Opaque(json!({"type": kind}));
    assert_eq!(events(responses(), [sent.as_bytes()]), [piece.clone(), piece]);
}

#[test]
fn garbage_is_refused_and_odd_values_do_no_harm() {
    for bad in ["{", "[1]", "{\"no\":\"type\"}", "\"x\""] {
        let mut parser = responses().stream_parser();
        let frame = crate::frames::sse::event("", bad.to_owned());
        assert!(parser.read(&frame).is_err(), "{bad}");
    }
    let kinds = [
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.function_call_arguments.delta",
        "response.reasoning_summary_text.delta",
        "response.output_text.annotation.added",
        "response.incomplete",
        "response.completed",
    ];
    for kind in kinds {
        for odd in [
            Value::Null,
            json!("x"),
            json!(5),
            json!([1]),
            json!({"type": 5, "content": "x", "summary": {}, "output": [[]]}),
        ] {
            let mut parser = responses().stream_parser();
            let event = json!({"type": kind, "response": odd, "item": odd, "part": odd, "delta": odd, "output_index": odd});
            // Whether it means something or is refused: it does not panic.
            let _ = parser.read(&crate::frames::sse::event(kind, event.to_string()));
        }
    }
    assert!(
        responses().parse_response(b"{}").is_err()
            && responses().parse_response(b"{\"output\":[{}]}").is_err()
    );
}

#[test]
fn the_end_of_another_dialect_is_no_end() {
    let begun =
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "a"});
    let heard = events(responses(), [format!("data: {begun}\n\ndata: [DONE]\n\n").as_bytes()]);
    assert_eq!(heard, [StreamEvent::Text("a".into())]);
}
