//! Where parts of a request stand, as the client that wrote it spells it.
//!
//! What is written for a provider names what it does not carry by its place in the intermediate form, as in
//! `messages[2].content[0]`. Most clients know it by that; those of OpenAI's responses and of Gemini do not.

use orch_manifests::Dialect;

use super::openai_responses;
use crate::ir::{ChatRequest, Dropped, Part};

/// The arguments of a call.
const ARGUMENTS: &str = ".arguments";

/// The list that a client's messages stand in.
pub(crate) fn list(client: Dialect) -> &'static str {
    match client {
        Dialect::OpenAiResponses => "input",
        Dialect::GeminiGenerateContent => "contents",
        Dialect::OpenAiChat
        | Dialect::AnthropicMessages
        | Dialect::BedrockConverse
        | Dialect::CohereChat
        | Dialect::OllamaChat => "messages",
    }
}

/// Names what was left out of a client's request as the client does. What is written of a request of OpenAI's responses is
/// that request in turns ([`openai_responses::in_turns`]); `request` is as it was before.
pub(crate) fn respell(client: Dialect, request: &ChatRequest, dropped: &mut [Dropped]) {
    let spelled: fn(&ChatRequest, &str) -> Option<String> = match client {
        Dialect::OpenAiResponses => of_responses,
        Dialect::GeminiGenerateContent => of_gemini,
        _ => return,
    };
    for lost in dropped {
        if let Some(field) = spelled(request, &lost.field) {
            lost.field = field;
        }
    }
}

fn of_gemini(request: &ChatRequest, path: &str) -> Option<String> {
    if let Some((j, rest)) = indexed(path, "system.content") {
        return Some(format!("systemInstruction.parts[{j}]{rest}"));
    }
    let (i, rest) = indexed(path, "messages")?;
    let content = &request.messages.get(i)?.content;
    let (j, rest) = match (call_of(rest), indexed(rest, ".content")) {
        (Some(id), _) => (content.iter().position(|part| is_call(part, id))?, ARGUMENTS),
        (None, Some(part)) => part,
        (None, None) => return Some(format!("contents[{i}]{rest}")),
    };
    let at = format!("contents[{i}].parts[{j}]");
    Some(match (content.get(j)?, indexed(rest, ".content")) {
        (Part::ToolCall(_), _) if rest == ARGUMENTS => format!("{at}.functionCall.args"),
        // The first is what its object says.
        (Part::ToolResult(_), Some((0, _))) => format!("{at}.functionResponse.response"),
        (Part::ToolResult(_), Some((k, rest))) => format!("{at}.functionResponse.parts[{}]{rest}", k - 1),
        (Part::ToolResult(_), None) if rest == ".is_error" => format!("{at}.functionResponse.response"),
        (Part::ToolResult(_), None) => format!("{at}.functionResponse{rest}"),
        _ => format!("{at}{rest}"),
    })
}

fn of_responses(request: &ChatRequest, path: &str) -> Option<String> {
    if path.starts_with("system.content[") {
        return Some("instructions".to_owned());
    }
    if let Some((number, rest)) = indexed(path, "tools") {
        return Some(of_tool(request, number, rest));
    }
    let (number, rest) = indexed(path, "messages")?;
    let (first, items) = openai_responses::turn(&request.messages, number)?;
    let mut parts = items
        .iter()
        .enumerate()
        .flat_map(|(i, item)| item.content.iter().enumerate().map(move |(j, part)| (i, j, part)));
    let (place, rest) = match (call_of(rest), indexed(rest, ".content")) {
        (Some(id), _) => (parts.find(|(_, _, part)| is_call(part, id)), ARGUMENTS),
        (None, Some((at, rest))) => (parts.nth(at), rest),
        (None, None) => {
            // A field beside what is said, of one of them.
            let key = rest.strip_prefix('.').unwrap_or_default();
            let i = items.iter().position(|item| item.extras.contains_key(key)).unwrap_or(0);
            return Some(format!("input[{}]{rest}", first + i));
        }
    };
    let (i, j, part) = place?;
    let at = match openai_responses::is_item(&items[i]) {
        true => format!("input[{}]", first + i),
        false => format!("input[{}].content[{j}]", first + i),
    };
    Some(match (part, indexed(rest, ".content")) {
        (Part::ToolResult(_), Some((k, rest))) => format!("{at}.output[{k}]{}", within(rest)),
        _ => format!("{at}{}", within(rest)),
    })
}

/// A field of the tool with this number, where those of groups are counted each for itself.
fn of_tool(request: &ChatRequest, number: usize, rest: &str) -> String {
    match (rest.strip_prefix(".namespace."), request.tool_places.get(number)) {
        (Some(key), Some((group, _))) => format!("tools[{group}].{key}"),
        _ => format!("{}{rest}", request.tool_at(number)),
    }
}

/// A field of a part, as OpenAI's responses have it.
fn within(rest: &str) -> &str {
    match rest {
        ".image_url.detail" => ".detail",
        ".thoughtSignature" => ".extra_content",
        other => other,
    }
}

/// The number in `NAME[NUMBER]` at the beginning of a path, and what stands behind that.
fn indexed<'p>(path: &'p str, name: &str) -> Option<(usize, &'p str)> {
    let (number, rest) = path.strip_prefix(name)?.strip_prefix('[')?.split_once(']')?;
    Some((number.parse().ok()?, rest))
}

/// The id of the call whose arguments a path of a message leads to.
fn call_of(rest: &str) -> Option<&str> {
    rest.strip_prefix(".tool_calls[")?.strip_suffix("].function.arguments")
}

fn is_call(part: &Part, id: &str) -> bool {
    matches!(part, Part::ToolCall(call) if call.id == id)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::openai_responses::in_turns;
    use super::super::{Style, wire};
    use super::*;

    /// What a client of this dialect is told of a request that went to a provider of another one.
    fn told(client: Dialect, provider: Dialect, body: &Value) -> Vec<String> {
        let request = wire(client).parse_request(body.to_string().as_bytes()).unwrap();
        let sent = match client {
            Dialect::OpenAiResponses => in_turns(request.clone()),
            _ => request.clone(),
        };
        let mut dropped = wire(provider).write_request(&sent, &Style::default()).dropped;
        respell(client, &request, &mut dropped);
        dropped.into_iter().map(|dropped| dropped.field).collect()
    }

    #[test]
    fn a_client_of_responses_is_told_of_its_input() {
        let group = json!({ "type": "namespace", "name": "n", "description": "d", "tools": [
            { "type": "function", "name": "f" }, { "type": "function", "name": "g", "defer_loading": true }] });
        let tools = json!([{ "type": "custom", "name": "g" }, group, { "type": "local_shell" }]);
        let body = json!({ "model": "m", "instructions": "x", "tools": tools, "input": [
            { "role": "user", "content": [
                { "type": "input_text", "text": "a" },
                { "type": "input_file", "file_data": "data:text/plain;base64,AA==" },
                { "type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low" }] },
            { "type": "reasoning", "summary": [], "encrypted_content": "c2ln" },
            { "type": "message", "role": "assistant", "content": "b", "phase": "commentary" },
            { "type": "function_call", "call_id": "c", "name": "f", "arguments": "no object", "namespace": "n" },
            { "type": "function_call_output", "call_id": "c", "output": [
                { "type": "input_text", "text": "d" },
                { "type": "input_file", "file_data": "data:text/plain;base64,AA==" }] },
            { "type": "custom_tool_call", "call_id": "e", "name": "g", "input": "x" },
            { "role": "system", "content": "late" },
        ]});
        let all = [
            "input[0].content[1]",
            "input[0].content[2].detail",
            "input[2].phase",
            "input[1]",
            "input[3].arguments",
            "input[4].output[1]",
            "tools[1].description",
            "tools[1].tools[1].defer_loading",
            "tools[2]",
            "input[6]",
        ];
        let told = told(Dialect::OpenAiResponses, Dialect::AnthropicMessages, &body);
        for field in all {
            assert!(told.iter().any(|told| told == field), "{field}: {told:?}");
        }
        assert_eq!(told.len(), all.len(), "{told:?}");
    }

    #[test]
    fn a_client_of_gemini_is_told_of_its_contents() {
        let file = json!({ "inlineData": { "mimeType": "application/pdf", "data": "AA==" } });
        let body = json!({
            "systemInstruction": { "parts": [{ "text": "x" }, file] },
            "contents": [
                { "role": "user", "parts": [{ "text": "a" }, file] },
                { "role": "model", "parts": [
                    { "text": "hm", "thought": true, "thoughtSignature": "c2ln" },
                    { "functionCall": { "name": "f", "args": {} }, "thoughtSignature": "c2ln" }] },
                { "role": "user", "parts": [{ "functionResponse": {
                    "name": "f", "response": { "error": "d" }, "scheduling": "SILENT", "parts": [file] } }] },
            ],
        });
        let all = [
            "systemInstruction.parts[1]",
            "contents[0].parts[1]",
            "contents[1].parts[0]",
            "contents[1].parts[1].thoughtSignature",
            "contents[2].parts[0].functionResponse.response",
            "contents[2].parts[0].functionResponse.scheduling",
            "contents[2].parts[0].functionResponse.parts[0]",
        ];
        assert_eq!(told(Dialect::GeminiGenerateContent, Dialect::OpenAiChat, &body), all);
    }

    #[test]
    fn what_is_no_part_of_a_message_stays_as_it_is() {
        let mut dropped: Vec<Dropped> = ["seed", "tools[0].strict", "messages[9].name", "messagesx"]
            .into_iter()
            .map(|field| Dropped::new(field, "x"))
            .collect();
        let before = dropped.clone();
        for client in [Dialect::OpenAiResponses, Dialect::GeminiGenerateContent, Dialect::OpenAiChat] {
            respell(client, &ChatRequest::default(), &mut dropped);
            assert_eq!(dropped, before, "{client}");
        }
    }
}
