//! The requests: short, and with a bound on what is answered.

use serde_json::{Value, json};

/// What a model is asked.
const PROMPT: &str = "Reply with the one word: ready";
/// The tool that it is to call.
pub(super) const TOOL: &str = "report_temperature";

pub(super) fn plain(model: &str, bound: u64) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": PROMPT }], "max_tokens": bound })
}

pub(super) fn stream(model: &str, bound: u64) -> Value {
    let mut body = plain(model, bound);
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    body
}

/// Nothing forces the tool: some providers refuse that.
pub(super) fn tools(model: &str, bound: u64) -> Value {
    let mut body = plain(model, bound);
    body["messages"][0]["content"] = json!(format!("Call the tool {TOOL} with 21 degrees. Say nothing."));
    let parameters = json!({
        "type": "object", "properties": { "degrees": { "type": "integer" } }, "required": ["degrees"],
    });
    let function = json!({ "name": TOOL, "description": "Takes the temperature of the room.", "parameters": parameters });
    body["tools"] = json!([{ "type": "function", "function": function }]);
    body
}
