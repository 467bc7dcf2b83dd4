//! Gemini's requests, into the others and out of them.

use orch_manifests::Dialect;
use serde_json::{Value, json};

use super::{anthropic, gemini, openai};
use crate::dialect::{Style, Written, kept_by_provider};
use crate::ir::{ChatRequest, Part, ReasoningWish, Role, ToolChoice};

fn parse(body: &Value) -> ChatRequest {
    gemini().parse_request(body.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn refused(body: &Value) -> String {
    gemini().parse_request(body.to_string().as_bytes()).unwrap_err().to_string()
}

fn body(written: &Written) -> Value {
    serde_json::from_slice(&written.body).unwrap()
}

fn dropped(written: &Written) -> Vec<&str> {
    written.dropped.iter().map(|d| d.field.as_str()).collect()
}

fn asking() -> Value {
    json!([{"role": "user", "parts": [{"text": "hi"}]}])
}

/// A conversation with everything in it; `plain` takes a key to its spelling.
fn request(spell: fn(&str) -> String) -> Value {
    let k = |key: &str| spell(key);
    json!({
        k("systemInstruction"): {"parts": [{"text": "Be brief."}]},
        "tools": [{k("functionDeclarations"): [
            {"name": "weather", "description": "Weather", "parameters":
                {"type": "OBJECT", "properties": {"city": {"type": "STRING", "nullable": true}}, "required": ["city"]}},
            {"name": "clock"},
        ]}],
        k("toolConfig"): {k("functionCallingConfig"): {"mode": "ANY", k("allowedFunctionNames"): ["weather"]}},
        k("safetySettings"): [],
        k("generationConfig"): {
            k("maxOutputTokens"): 100, "temperature": 1.5, k("topP"): 0.9, k("topK"): 5, "seed": 7, k("candidateCount"): 2,
            k("stopSequences"): ["END"], k("presencePenalty"): 0.5, k("responseMimeType"): "application/json",
            k("responseSchema"): {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}},
            k("thinkingConfig"): {k("thinkingBudget"): 1024, k("includeThoughts"): true}, k("audioTimestamp"): true,
        },
        "contents": [
            {"role": "user", "parts": [
                {"text": "What is this?"},
                {k("inlineData"): {k("mimeType"): "image/png", "data": "AAAA"}},
                {k("inlineData"): {k("mimeType"): "application/pdf", "data": "BBBB"}},
            ]},
            {"role": "model", "parts": [
                {"text": "Hm.", "thought": true},
                {k("functionCall"): {"name": "weather", "args": {"city": "Bern"}}, k("thoughtSignature"): "c2ln"},
                {k("functionCall"): {"name": "clock", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {k("functionResponse"): {"name": "clock", "response": {"output": "noon"}}},
                {k("functionResponse"): {"name": "weather", "response": {"sky": "rain", "mm": 3}}},
            ]},
            {"parts": {"text": "And?"}},
        ],
    })
}

fn snake(key: &str) -> String {
    key.chars()
        .flat_map(|c| c.is_ascii_uppercase().then_some('_').into_iter().chain([c.to_ascii_lowercase()]))
        .collect()
}

#[test]
fn both_spellings_are_the_same_request() {
    assert_eq!(parse(&request(str::to_owned)), parse(&request(snake)));
    let twice =
        json!({"contents": asking(), "generationConfig": {}, "generation_config": {"max_output_tokens": 9}});
    assert_eq!(refused(&twice), "generationConfig: is there twice, in two spellings");
    let twice =
        json!({"contents": asking(), "generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 9}});
    assert_eq!(refused(&twice), "generationConfig.maxOutputTokens: is there twice, in two spellings");
    // A list of one may stand without its brackets; a schema's properties are nobody's to respell.
    let one = json!({"contents": {"parts": {"text": "hi"}}, "tools": {"function_declarations": {"name": "f",
        "parameters": {"type": "OBJECT", "properties": {"max_len": {"type": "STRING"}}}}}});
    let written = body(&openai().write_request(&parse(&one), &Style::default()));
    assert_eq!(written["messages"][0]["content"], "hi");
    assert_eq!(
        written["tools"][0]["function"]["parameters"]["properties"],
        json!({"max_len": {"type": "string"}})
    );
}

#[test]
fn gemini_becomes_openai() {
    let written = openai().write_request(&parse(&request(str::to_owned)), &Style::default());
    assert_eq!(
        body(&written),
        json!({
            "model": "", "max_tokens": 100, "temperature": 1.5, "top_p": 0.9, "seed": 7, "presence_penalty": 0.5,
            "stop": ["END"],
            "tools": [
                {"type": "function", "function": {"name": "weather", "description": "Weather", "parameters":
                    {"type": "object", "properties": {"city": {"type": ["string", "null"]}}, "required": ["city"]}}},
                {"type": "function", "function": {"name": "clock"}},
            ],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": false,
                "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}},
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"}},
                    {"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
                {"role": "tool", "tool_call_id": "call_0", "content": "{\"sky\":\"rain\",\"mm\":3}"},
                {"role": "user", "content": "And?"},
            ],
        })
    );
    assert_eq!(
        dropped(&written),
        [
            "messages[0].content[2]",
            "messages[1].content[0]",
            "messages[1].content[1].thoughtSignature",
            "top_k",
            "thinking",
            "n",
            "generationConfig.thinkingConfig.includeThoughts",
            "generationConfig.audioTimestamp",
            "safetySettings",
        ]
    );
}

#[test]
fn gemini_becomes_anthropic() {
    let written = anthropic().write_request(&parse(&request(str::to_owned)), &Style::default());
    let sent = body(&written);
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}},
            ]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "call_1", "name": "clock", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "noon"}]},
                {"type": "tool_result", "tool_use_id": "call_0",
                    "content": [{"type": "text", "text": "{\"sky\":\"rain\",\"mm\":3}"}]},
                {"type": "text", "text": "And?"},
            ]},
        ])
    );
    // The model's own calls are answered, and come without its thoughts.
    assert!(sent.get("thinking").is_none() && dropped(&written).contains(&"thinking"));
    assert_eq!((&sent["top_k"], &sent["max_tokens"]), (&json!(5), &json!(100)));
    assert!(dropped(&written).contains(&"n") && dropped(&written).contains(&"safetySettings"));
}

#[test]
fn openai_becomes_gemini() {
    let asked = json!({
        "model": "m", "max_completion_tokens": 100, "temperature": 1.5, "top_p": 0.9, "seed": 7, "n": 2,
        "frequency_penalty": 0.5, "presence_penalty": 0, "stop": "END", "stream": true, "user": "u1",
        "reasoning_effort": "low", "logit_bias": {"1": 2}, "parallel_tool_calls": false,
        "tools": [
            {"type": "function", "function": {"name": "weather", "description": "Weather", "strict": true,
                "parameters": {"type": "object", "additionalProperties": false, "properties": {"city": {"type": "string"}}}}},
            {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
                {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"},
                    "extra_content": {"google": {"thought_signature": "c2ln"}}},
                {"id": "b", "type": "function", "function": {"name": "clock", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "rain"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "noon"}]},
            {"role": "user", "content": "And?"},
            {"role": "developer", "content": "Stay brief."},
        ],
    });
    let request = openai().parse_request(asked.to_string().as_bytes()).unwrap();
    let written = gemini().write_request(&request, &Style::default());
    assert_eq!(
        body(&written),
        json!({
            "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Stay brief."}]},
            "contents": [
                {"role": "user", "parts": [
                    {"text": "What is this?"},
                    {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                    {"fileData": {"fileUri": "https://x.example/a.png"}},
                ]},
                {"role": "model", "parts": [
                    {"functionCall": {"id": "a", "name": "weather", "args": {"city": "Bern"}}, "thoughtSignature": "c2ln"},
                    {"functionCall": {"id": "b", "name": "clock", "args": {}}},
                ]},
                {"role": "user", "parts": [
                    {"functionResponse": {"id": "a", "name": "weather", "response": {"output": "rain"}}},
                    {"functionResponse": {"id": "b", "name": "clock", "response": {"output": "noon"}}},
                ]},
                {"role": "user", "parts": [{"text": "And?"}]},
            ],
            "tools": [{"functionDeclarations": [
                {"name": "weather", "description": "Weather",
                    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}},
                {"name": "clock"},
            ]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
            "generationConfig": {
                "maxOutputTokens": 100, "temperature": 1.5, "topP": 0.9, "seed": 7, "frequencyPenalty": 0.5,
                "stopSequences": ["END"], "responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"},
                "thinkingConfig": {"thinkingBudget": 1024},
            },
        })
    );
    assert_eq!(
        dropped(&written),
        [
            "messages[1].name",
            "messages[1].content[1].image_url.detail",
            "messages[1].content[3]",
            "messages[6]",
            "tools[0].function.parameters",
            "tools[0].function.strict",
            "parallel_tool_calls",
            "n",
            "user",
            "logit_bias",
        ]
    );
}

#[test]
fn anthropic_becomes_gemini() {
    let asked = json!({
        "model": "gemini-3-pro-preview", "max_tokens": 100, "top_k": 5, "stop_sequences": ["a", "b", "c", "d", "e", "f"],
        "thinking": {"type": "enabled", "budget_tokens": 50_000},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"},
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": null}},
                {"type": "tool_use", "id": "b", "name": "weather", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "text", "text": "Also:"},
                {"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": [
                    {"type": "text", "text": "no city"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                ]},
                {"type": "tool_result", "tool_use_id": "b", "content": "sun"},
            ]},
        ],
    });
    let request = anthropic().parse_request(asked.to_string().as_bytes()).unwrap();
    let written = gemini().write_request(&request, &Style { no_json_schema: true, ..Style::default() });
    let sent = body(&written);
    assert_eq!(
        sent["contents"],
        json!([
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [
                {"text": "Looking."},
                // Made elsewhere, and said so to models that check.
                {"functionCall": {"id": "a", "name": "weather", "args": {"city": null}},
                    "thoughtSignature": "skip_thought_signature_validator"},
                {"functionCall": {"id": "b", "name": "weather", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "a", "name": "weather", "response": {"error": "no city"}}},
                {"functionResponse": {"id": "b", "name": "weather", "response": {"output": "sun"}}},
            ]},
            {"role": "user", "parts": [{"text": "Also:"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]},
        ])
    );
    assert_eq!(sent["generationConfig"]["stopSequences"], json!(["a", "b", "c", "d", "e"]));
    assert_eq!(sent["toolConfig"]["functionCallingConfig"], json!({"mode": "ANY"}));
    assert_eq!(
        dropped(&written),
        [
            "system.content[0].cache_control",
            "messages[1].content[0]",
            "stop_sequences",
            "thinking.budget_tokens",
        ]
    );
    let older = ChatRequest { model: "gemini-2.5-pro".into(), ..request };
    let sent = body(&gemini().write_request(&older, &Style::default()));
    assert_eq!(sent.pointer("/contents/1/parts/1/thoughtSignature"), None);
}

#[test]
fn results_find_their_calls_by_id_then_name_then_order() {
    let call = |id: Option<&str>, name: &str| match id {
        Some(id) => json!({"functionCall": {"id": id, "name": name}}),
        None => json!({"functionCall": {"name": name}}),
    };
    let result = |id: Option<&str>, name: &str| {
        let mut part = json!({"functionResponse": {"name": name, "response": {}}});
        if let Some(id) = id {
            part["functionResponse"]["id"] = json!(id);
        }
        part
    };
    let ids = |calls: Vec<Value>, results: Vec<Value>| -> (Vec<String>, Vec<String>) {
        let request = parse(&json!({"contents": [
            {"parts": [{"text": "x"}]}, {"role": "model", "parts": calls}, {"role": "user", "parts": results}]}));
        let parts = |at: usize| request.messages[at].content.clone().into_iter();
        let called = parts(1).map(|part| match part {
            Part::ToolCall(call) => call.id,
            other => panic!("{other:?}"),
        });
        let answered = parts(2).map(|part| match part {
            Part::ToolResult(result) => result.call,
            other => panic!("{other:?}"),
        });
        (called.collect(), answered.collect())
    };
    // Two of one name are answered in their order.
    let (called, answered) = ids(
        vec![call(None, "f"), call(None, "g"), call(None, "f")],
        vec![result(None, "f"), result(None, "f"), result(None, "g")],
    );
    assert_eq!(called, ["call_0", "call_1", "call_2"]);
    assert_eq!(answered, ["call_0", "call_2", "call_1"]);
    // Ids go before names, and one that is given is not made a second time.
    let (called, answered) = ids(
        vec![call(Some("call_1"), "f"), call(None, "f")],
        vec![result(None, "f"), result(Some("call_1"), "f")],
    );
    assert_eq!(called, ["call_1", "call_2"]);
    assert_eq!(answered, ["call_1", "call_1"]);
    // A wrong name is still the answer to something, and one too many is an answer to nothing.
    let (_, answered) = ids(vec![call(None, "f")], vec![result(None, "typo"), result(None, "f")]);
    assert_eq!(answered, ["call_0", "call_1"]);
}

#[test]
fn configurations_mean_what_they_say() {
    let with = |config: Value| parse(&json!({"contents": asking(), "generationConfig": config}));
    let thinking = |config: Value| with(json!({"thinkingConfig": config})).reasoning;
    assert_eq!(thinking(json!({"thinkingBudget": 0})), Some(ReasoningWish::Off));
    assert_eq!(thinking(json!({"thinkingBudget": -1})), None);
    assert_eq!(thinking(json!({"thinkingBudget": 512})), Some(ReasoningWish::Budget(512)));
    assert_eq!(thinking(json!({"thinkingLevel": "HIGH"})), Some(ReasoningWish::Effort("high".into())));
    let word =
        with(json!({"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}}));
    assert_eq!(word.format, None);
    assert!(word.extras.contains_key("generationConfig.responseMimeType"), "{:?}", word.extras);
    let calling = |config: Value| {
        let request = parse(&json!({"contents": asking(), "toolConfig": {"functionCallingConfig": config}}));
        (request.tool_choice, request.extras.into_iter().map(|(key, _)| key).collect::<Vec<_>>())
    };
    let names = "toolConfig.functionCallingConfig.allowedFunctionNames".to_owned();
    let mode = "toolConfig.functionCallingConfig.mode".to_owned();
    assert_eq!(calling(json!({"mode": "NONE"})), (Some(ToolChoice::None), vec![]));
    assert_eq!(calling(json!({"mode": "AUTO"})), (Some(ToolChoice::Auto), vec![]));
    assert_eq!(calling(json!({"mode": "ANY"})), (Some(ToolChoice::Required), vec![]));
    assert_eq!(
        calling(json!({"mode": "ANY", "allowedFunctionNames": ["a", "b"]})),
        (Some(ToolChoice::Required), vec![names])
    );
    assert_eq!(calling(json!({"mode": "VALIDATED"})), (Some(ToolChoice::Auto), vec![mode]));
    let request = parse(
        &json!({"model": "models/gemini-2.5-flash", "contents": [{"role": "function", "parts": [{"text": "x"}]}]}),
    );
    assert_eq!((request.model.as_str(), request.messages[0].role), ("gemini-2.5-flash", Role::User));
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let part = |part: Value| json!({"contents": [{"parts": [part]}]});
    let config = |config: Value| json!({"contents": asking(), "generationConfig": config});
    let rows = [
        (json!({}), "contents: is missing or empty"),
        (json!({"contents": []}), "contents: is missing or empty"),
        (json!({"contents": "hi"}), "contents: must be an array, not a string"),
        (json!({"contents": [{"role": "user"}]}), "contents[0].parts: is missing or empty"),
        (
            json!({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}),
            "contents[0].role: \"system\" is not",
        ),
        (part(json!({"text": 5})), "contents[0].parts[0].text: must be a string, not a number"),
        (part(json!({"functionCall": {"args": {}}})), "contents[0].parts[0].functionCall.name: is missing"),
        (
            part(json!({"functionResponse": {"response": {}}})),
            "contents[0].parts[0].functionResponse.name: is missing",
        ),
        (
            part(json!({"inlineData": {"mimeType": "image/png"}})),
            "contents[0].parts[0].inlineData.data: is missing",
        ),
        (config(json!({"maxOutputTokens": "9"})), "generationConfig.maxOutputTokens: must be a whole number"),
        (config(json!({"maxOutputTokens": 0})), "generationConfig.maxOutputTokens: must be at least 1"),
        (config(json!({"candidateCount": 0})), "generationConfig.candidateCount: must be at least 1"),
        (
            config(json!({"thinkingConfig": {"thinkingBudget": -2}})),
            "generationConfig.thinkingConfig.thinkingBudget: must be",
        ),
        (
            json!({"contents": asking(), "toolConfig": {"functionCallingConfig": {"mode": "MAYBE"}}}),
            "toolConfig.functionCallingConfig.mode: \"MAYBE\" is not",
        ),
        (
            json!({"contents": asking(), "tools": [{"functionDeclarations": [{}]}]}),
            "tools[0].functionDeclarations[0].name: is missing",
        ),
    ];
    for (body, wanted) in rows {
        let error = refused(&body);
        assert!(error.starts_with(wanted), "{body}: {error}");
    }
}

#[test]
fn images_are_base64_as_others_write_it() {
    for (sent, standard) in [
        ("-_8A", "+/8A"),
        ("-_8", "+/8="),
        ("-w", "+w=="),
        ("+/8=", "+/8="),
        ("AAAA", "AAAA"),
        ("AAAAA", "AAAAA"),
    ] {
        let image = json!({"inlineData": {"mimeType": "image/png", "data": sent}});
        let read = parse(&json!({"contents": [{"role": "user", "parts": [image]}]}));
        let written = openai().write_request(&read, &Style::default());
        let url = &body(&written)["messages"][0]["content"][0]["image_url"]["url"];
        assert_eq!(url, &json!(format!("data:image/png;base64,{standard}")), "{sent}");
    }
}

/// What Google has kept is the beginning of the conversation: without it the rest means something else.
#[test]
fn content_that_google_has_kept_is_no_others() {
    for field in ["cachedContent", "cached_content"] {
        let body = json!({"contents": [{"parts": [{"text": "x"}]}], field: "cachedContents/a"});
        let request = gemini().parse_request(body.to_string().as_bytes()).unwrap();
        let kept = |client| kept_by_provider(client, &request);
        assert_eq!(kept(Dialect::GeminiGenerateContent).as_deref(), Some("cachedContent"));
        assert_eq!(kept(Dialect::OpenAiChat), None, "elsewhere it is a field that nobody knows");
    }
}
