//! Calls of a conversation that comes back to Google from another provider, which has signed none.

use serde_json::{Value, json};

use super::thinking;
use crate::edit::Document;
use crate::ir::{ChatRequest, Message, Part, Role};

/// Google's word for calls that were made elsewhere, in the place of a signature that nobody has.
pub(super) const UNSIGNED: &str = "skip_thought_signature_validator";

/// The names of a call and of its signature, each in both spellings that Google takes.
const CALL: [&str; 2] = ["functionCall", "function_call"];
const SIGNATURE: [&str; 2] = ["thoughtSignature", "thought_signature"];

/// Puts that word to the calls of a request that goes to Google as the client wrote it, where the model refuses them
/// unsigned, with the whole conversation. Says whether there were any.
pub(crate) fn let_pass(
    body: &mut Document,
    request: &ChatRequest,
    model: &str,
) -> Result<bool, serde_json::Error> {
    if !thinking::wants_signatures(model) || !request.messages.iter().any(calls_unsigned) {
        return Ok(false);
    }
    let Some(Value::Array(mut contents)) = body.get("contents") else { return Ok(false) };
    for parts in contents.iter_mut().filter_map(|content| content.get_mut("parts")?.as_array_mut()) {
        let has = |part: &Value, names: &[&str]| {
            names.iter().any(|name| part.get(*name).is_some_and(|value| !value.is_null() && value != ""))
        };
        // Of the calls of one turn, the first is signed.
        let first = parts.iter_mut().find(|part| has(part, &CALL));
        if let Some(call) = first.filter(|call| !has(call, &SIGNATURE))
            && let Some(call) = call.as_object_mut()
        {
            call.retain(|name, _| !SIGNATURE.contains(&name.as_str()));
            call.insert(SIGNATURE[0].to_owned(), json!(UNSIGNED));
        }
    }
    body.set("contents", &contents)?;
    Ok(true)
}

fn calls_unsigned(message: &Message) -> bool {
    let first = message.content.iter().find_map(|part| match part {
        Part::ToolCall(call) => Some(call),
        _ => None,
    });
    message.role == Role::Assistant
        && first.is_some_and(|call| call.signature.as_ref().is_none_or(String::is_empty))
}

#[cfg(test)]
mod tests {
    use orch_manifests::Dialect;

    use super::*;
    use crate::dialect::wire;

    /// What is sent; `None` where it is as it was.
    fn sent(body: &Value, model: &str) -> Option<Value> {
        let text = body.to_string();
        let request = wire(Dialect::GeminiGenerateContent).parse_request(text.as_bytes()).unwrap();
        let mut document = Document::parse(text.as_bytes()).unwrap();
        let changed = let_pass(&mut document, &request, model).unwrap();
        changed.then(|| serde_json::from_slice(&document.to_bytes().unwrap()).unwrap())
    }

    #[test]
    fn calls_that_another_provider_made_come_back_to_google() {
        let talk = |first: Value| {
            let second = json!({ "functionCall": { "id": "b", "name": "f", "args": {} } });
            let answer = |id: &str| json!({ "functionResponse": { "id": id, "name": "f", "response": { "output": "y" } } });
            json!({ "contents": [
                { "role": "user", "parts": [{ "text": "x" }] },
                { "role": "model", "parts": [{ "text": "z" }, first, second] },
                { "role": "user", "parts": [answer("a"), answer("b")] },
            ] })
        };
        let call = json!({ "id": "a", "name": "f", "args": {} });
        let unsigned = talk(json!({ "functionCall": call }));
        let passes = talk(json!({ "functionCall": call, "thoughtSignature": UNSIGNED }));
        assert_eq!(sent(&unsigned, "gemini-3-pro-preview"), Some(passes));
        assert_eq!(sent(&unsigned, "gemini-2.5-pro"), None);
        let other = json!({ "function_call": call, "thought_signature": "" });
        let passes = talk(json!({ "function_call": call, "thoughtSignature": UNSIGNED }));
        assert_eq!(sent(&talk(other), "gemini-3-pro-preview"), Some(passes));
        let signed = talk(json!({ "function_call": call, "thought_signature": "c2ln" }));
        assert_eq!(sent(&signed, "gemini-3-pro-preview"), None);
    }
}
