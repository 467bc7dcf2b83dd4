//! The ways in which a dialect sends a text in deltas, and how a client puts it together.

use std::collections::BTreeMap;

use orch_manifests::Dialect;
use serde_json::{Value, json};

/// What a delta with this text holds.
type Piece = fn(&str) -> Value;

/// A text of an answer: what comes before it, each of its deltas, what comes after it, and what a client calls it.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) dialect: Dialect,
    pub(super) name: &'static str,
    /// The choice, candidate or block.
    pub(super) of: u64,
    pub(super) piece: Piece,
}

const OPENAI: Dialect = Dialect::OpenAiChat;
const RESPONSES: Dialect = Dialect::OpenAiResponses;
const ANTHROPIC: Dialect = Dialect::AnthropicMessages;
const GEMINI: Dialect = Dialect::GeminiGenerateContent;
const COHERE: Dialect = Dialect::CohereChat;
const OLLAMA: Dialect = Dialect::OllamaChat;

pub(super) fn all() -> Vec<Way> {
    let mut all = Vec::new();
    let openai: [(&'static str, Piece); 11] = [
        ("content", |text| json!({ "content": text })),
        // As some providers spell out everything that there could be.
        (
            "content",
            |text| json!({ "content": text, "reasoning": "", "refusal": null, "function_call": null, "tool_calls": [] }),
        ),
        ("content", |text| json!({ "content": [{ "type": "text", "text": text }] })),
        ("reasoning_content", |text| json!({ "reasoning_content": text, "content": "" })),
        ("reasoning", |text| json!({ "reasoning": text, "content": null })),
        ("refusal", |text| json!({ "refusal": text })),
        (
            "detail 2",
            |text| json!({ "reasoning_details": [{ "type": "reasoning.text", "index": 2, "text": text }] }),
        ),
        ("transcript", |text| json!({ "audio": { "id": "a", "transcript": text } })),
        ("function", |text| json!({ "function_call": { "arguments": text } })),
        (
            "arguments 1",
            |text| json!({ "tool_calls": [{ "index": 1, "function": { "arguments": text }, "custom": null }] }),
        ),
        (
            "input 3",
            |text| json!({ "tool_calls": [{ "index": 3, "function": null, "custom": { "input": text } }] }),
        ),
    ];
    for (name, piece) in openai {
        all.push(Way { dialect: OPENAI, name, of: 0, piece });
        all.push(Way { dialect: OPENAI, name, of: 1, piece });
    }
    let responses: [(&'static str, Piece); 6] = [
        (
            "text",
            |text| json!({ "type": "response.output_text.delta", "content_index": 1, "delta": text, "logprobs": [] }),
        ),
        ("refusal", |text| json!({ "type": "response.refusal.delta", "content_index": 2, "delta": text })),
        (
            "summary",
            |text| json!({ "type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": text }),
        ),
        (
            "thinking",
            |text| json!({ "type": "response.reasoning_text.delta", "content_index": 0, "delta": text }),
        ),
        ("arguments", |text| json!({ "type": "response.function_call_arguments.delta", "delta": text })),
        ("input", |text| json!({ "type": "response.custom_tool_call_input.delta", "delta": text })),
    ];
    for (name, piece) in responses {
        all.push(Way { dialect: RESPONSES, name, of: 0, piece });
        all.push(Way { dialect: RESPONSES, name, of: 3, piece });
    }
    let anthropic: [(&'static str, Piece); 3] = [
        ("text", |text| json!({ "type": "text_delta", "text": text })),
        ("thinking", |text| json!({ "type": "thinking_delta", "thinking": text })),
        ("partial_json", |text| json!({ "type": "input_json_delta", "partial_json": text })),
    ];
    all.extend(anthropic.map(|(name, piece)| Way { dialect: ANTHROPIC, name, of: 2, piece }));
    let gemini: [(&'static str, Piece); 2] = [
        ("text", |text| json!({ "text": text })),
        ("thought", |text| json!({ "text": text, "thought": true })),
    ];
    for (name, piece) in gemini {
        all.push(Way { dialect: GEMINI, name, of: 0, piece });
        all.push(Way { dialect: GEMINI, name, of: 1, piece });
    }
    let cohere: [(&'static str, u64, Piece); 5] = [
        ("text", 2, |text| json!({ "content": { "text": text } })),
        // As a whole part, which some of its own deployments send each time.
        ("text", 3, |text| json!({ "content": { "type": "text", "text": text, "thinking": "" } })),
        ("thinking", 2, |text| json!({ "content": { "thinking": text } })),
        ("tool_plan", 0, |text| json!({ "tool_plan": text })),
        ("arguments", 2, |text| json!({ "tool_calls": { "function": { "arguments": text } } })),
    ];
    all.extend(cohere.map(|(name, of, piece)| Way { dialect: COHERE, name, of, piece }));
    let ollama: [(&'static str, Piece); 3] = [
        ("content", |text| json!({ "role": "assistant", "content": text })),
        // As others spell out everything that there could be.
        ("content", |text| json!({ "content": text, "thinking": "", "tool_calls": null, "images": null })),
        ("thinking", |text| json!({ "role": "assistant", "content": "", "thinking": text })),
    ];
    all.extend(ollama.map(|(name, piece)| Way { dialect: OLLAMA, name, of: 0, piece }));
    all
}

pub(super) fn way(dialect: Dialect, name: &str, of: u64) -> Way {
    let found = all().into_iter().find(|way| way.dialect == dialect && way.name == name && way.of == of);
    found.unwrap_or_else(|| panic!("{name} of {of}"))
}

impl Way {
    /// What a client calls the text.
    pub(super) fn key(&self) -> String {
        format!("{} {}", self.of, self.name)
    }

    /// What makes the text possible.
    pub(super) fn open(&self) -> String {
        match self.dialect {
            Dialect::AnthropicMessages => {
                let block = match self.name {
                    "partial_json" => json!({ "type": "tool_use", "id": "t", "name": "f", "input": {} }),
                    name => json!({ "type": name, name: "" }),
                };
                event(&json!({ "type": "content_block_start", "index": self.of, "content_block": block }))
            }
            Dialect::OpenAiResponses if self.name == "arguments" => event(&json!({
                "type": "response.output_item.added", "output_index": self.of, "sequence_number": 2,
                "item": { "type": "function_call", "id": self.item(), "call_id": "c", "name": "f", "arguments": "" },
            })),
            COHERE if self.name == "arguments" => {
                let call =
                    json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": "" } });
                let delta = json!({ "message": { "tool_calls": call } });
                event(&json!({ "type": "tool-call-start", "index": self.of, "delta": delta }))
            }
            COHERE if self.name != "tool_plan" => {
                let delta = json!({ "message": { "content": { "type": self.name, self.name: "" } } });
                event(&json!({ "type": "content-start", "index": self.of, "delta": delta }))
            }
            Dialect::OpenAiChat if self.name.starts_with("arguments") => {
                let function = json!({ "name": "f", "arguments": "" });
                self.chunk(&json!({ "tool_calls": [{ "index": 1, "id": "c", "function": function }] }))
            }
            Dialect::OpenAiChat if self.name.starts_with("input") => {
                let call =
                    json!({ "index": 3, "id": "c", "function": { "name": "f" }, "custom": { "input": "" } });
                self.chunk(&json!({ "tool_calls": [call] }))
            }
            _ => String::new(),
        }
    }

    pub(super) fn delta(&self, text: &str) -> String {
        self.chunk(&(self.piece)(text))
    }

    fn item(&self) -> String {
        format!("item_{}", self.of)
    }

    fn chunk(&self, piece: &Value) -> String {
        if self.dialect == OLLAMA {
            return line(piece, false);
        }
        event(&match self.dialect {
            Dialect::OpenAiResponses => {
                let mut delta = piece.clone();
                delta["output_index"] = self.of.into();
                delta["item_id"] = self.item().into();
                delta["sequence_number"] = 7.into();
                delta
            }
            Dialect::OpenAiChat => json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "m",
                "choices": [{ "index": self.of, "delta": piece, "finish_reason": null }],
            }),
            Dialect::AnthropicMessages => {
                json!({ "type": "content_block_delta", "index": self.of, "delta": piece })
            }
            Dialect::BedrockConverse => unreachable!("its frames are no text, see `bedrock.rs`"),
            Dialect::GeminiGenerateContent => json!({
                "candidates": [{ "content": { "parts": [piece], "role": "model" }, "index": self.of }],
                "modelVersion": "m", "responseId": "r", "usageMetadata": { "promptTokenCount": 1 },
            }),
            Dialect::OllamaChat => unreachable!("it has lines"),
            Dialect::CohereChat => match self.name {
                "tool_plan" => json!({ "type": "tool-plan-delta", "delta": { "message": piece } }),
                name => {
                    let kind = if name == "arguments" { "tool-call-delta" } else { "content-delta" };
                    json!({ "type": kind, "index": self.of, "delta": { "message": piece } })
                }
            },
        })
    }

    pub(super) fn close(&self) -> String {
        event(&match self.dialect {
            Dialect::OpenAiResponses => {
                let item = match self.name {
                    "arguments" => {
                        json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "" })
                    }
                    _ => json!({ "type": "message", "content": [] }),
                };
                json!({ "type": "response.output_item.done", "output_index": self.of, "item": item })
            }
            Dialect::OpenAiChat => json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "m",
                "choices": [{ "index": self.of, "delta": {}, "finish_reason": "stop" }],
            }),
            Dialect::AnthropicMessages => json!({ "type": "content_block_stop", "index": self.of }),
            Dialect::BedrockConverse => unreachable!("its frames are no text, see `bedrock.rs`"),
            Dialect::GeminiGenerateContent => json!({
                "candidates": [{ "content": { "parts": [{ "text": "" }] }, "finishReason": "STOP", "index": self.of }],
            }),
            // The answer's end is the text's.
            Dialect::OllamaChat => return String::new(),
            Dialect::CohereChat => match self.name {
                // Nothing ends a plan but the message.
                "tool_plan" => return String::new(),
                "arguments" => json!({ "type": "tool-call-end", "index": self.of }),
                _ => json!({ "type": "content-end", "index": self.of }),
            },
        })
    }
}

/// An answer of these events, with its beginning and end.
pub(super) fn stream(dialect: Dialect, events: &[String]) -> String {
    let events = events.concat();
    match dialect {
        Dialect::OpenAiChat => format!("{events}data: [DONE]\n\n"),
        Dialect::OpenAiResponses => {
            let response =
                json!({ "id": "r", "model": "m", "created_at": 17, "status": "completed", "output": [] });
            let start = json!({ "type": "response.created", "response": response, "sequence_number": 0 });
            let end = json!({ "type": "response.completed", "response": response, "sequence_number": 8 });
            format!("{}{events}{}", event(&start), event(&end))
        }
        Dialect::AnthropicMessages => {
            let start = json!({ "type": "message_start", "message": { "id": "m", "model": "m" } });
            let end = json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" } });
            let stop = json!({ "type": "message_stop" });
            format!("{}{events}{}{}", event(&start), event(&end), event(&stop))
        }
        Dialect::BedrockConverse => unreachable!("its frames are no text, see `bedrock.rs`"),
        Dialect::GeminiGenerateContent => {
            let end = json!({ "candidates": [{ "finishReason": "STOP", "index": 0 }] });
            format!("{events}{}", event(&end))
        }
        Dialect::OllamaChat => {
            format!("{events}{}", line(&json!({ "role": "assistant", "content": "" }), true))
        }
        Dialect::CohereChat => {
            let start = json!({ "type": "message-start", "id": "m", "delta": { "message": {} } });
            let end = json!({ "type": "message-end", "delta": { "finish_reason": "COMPLETE" } });
            format!("{}{events}{}", event(&start), event(&end))
        }
    }
}

/// A line of Ollama's.
fn line(message: &Value, done: bool) -> String {
    let mut line =
        json!({ "model": "m", "created_at": "2025-01-01T00:00:00Z", "message": message, "done": done });
    if done {
        line["done_reason"] = "stop".into();
    }
    format!("{line}\n")
}

pub(super) fn event(data: &Value) -> String {
    match data.get("type").and_then(Value::as_str) {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}

/// What a client has at the end, by choice and kind. Texts that came to nothing are not in it.
pub(super) fn texts(dialect: Dialect, stream: &str) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let mut add = |of: u64, name: &str, text: Option<&Value>| {
        if let Some(text) = text.and_then(Value::as_str).filter(|text| !text.is_empty()) {
            *texts.entry(format!("{of} {name}")).or_insert_with(String::new) += text;
        }
    };
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let number = |value: &Value| value["index"].as_u64().expect("everything has its index");
    for line in stream.lines() {
        let line = match dialect {
            OLLAMA => line,
            _ => line.strip_prefix("data: ").unwrap_or_default(),
        };
        if matches!(line, "" | "[DONE]") {
            continue;
        }
        let data: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for choice in list(data.get("choices")) {
            let (of, delta) = (number(&choice), &choice["delta"]);
            for name in ["content", "reasoning_content", "reasoning", "refusal"] {
                add(of, name, delta.get(name));
            }
            list(delta.get("content")).iter().for_each(|part| add(of, "content", part.get("text")));
            for detail in list(delta.get("reasoning_details")) {
                add(of, &format!("detail {}", number(&detail)), detail.get("text"));
            }
            add(of, "transcript", delta.pointer("/audio/transcript"));
            add(of, "function", delta.pointer("/function_call/arguments"));
            for call in list(delta.get("tool_calls")) {
                let index = call["index"].as_u64().unwrap_or(99);
                add(of, &format!("arguments {index}"), call.pointer("/function/arguments"));
                add(of, &format!("input {index}"), call.pointer("/custom/input"));
            }
        }
        for candidate in list(data.get("candidates")) {
            for part in list(candidate.pointer("/content/parts")) {
                let name = if part["thought"] == true { "thought" } else { "text" };
                add(number(&candidate), name, part.get("text"));
            }
        }
        if dialect == RESPONSES {
            let name = match data["type"].as_str().unwrap_or_default() {
                "response.output_text.delta" => "text",
                "response.refusal.delta" => "refusal",
                "response.reasoning_summary_text.delta" => "summary",
                "response.reasoning_text.delta" => "thinking",
                "response.function_call_arguments.delta" => "arguments",
                "response.custom_tool_call_input.delta" => "input",
                _ => continue,
            };
            assert!(data["item_id"].is_string() && data["sequence_number"].is_u64(), "{data}");
            add(data["output_index"].as_u64().expect("everything has its index"), name, data.get("delta"));
        }
        if dialect == OLLAMA {
            for name in ["content", "thinking"] {
                add(0, name, data.pointer(&format!("/message/{name}")));
            }
        }
        if dialect == COHERE {
            let message = data.pointer("/delta/message").unwrap_or(&Value::Null);
            let of = data.get("index").and_then(Value::as_u64).unwrap_or(0);
            for name in ["text", "thinking"] {
                add(of, name, message.pointer(&format!("/content/{name}")));
            }
            add(0, "tool_plan", message.get("tool_plan"));
            add(of, "arguments", message.pointer("/tool_calls/function/arguments"));
        }
        if dialect == ANTHROPIC {
            for holder in ["delta", "content_block"] {
                for name in ["text", "thinking", "partial_json"] {
                    let Some(text) = data.get(holder).and_then(|holder| holder.get(name)) else { continue };
                    add(number(&data), name, Some(text));
                }
            }
        }
    }
    texts
}
