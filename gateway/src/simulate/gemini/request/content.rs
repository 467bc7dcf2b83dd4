//! The conversation: roles, parts, and calls with their answers.

use serde_json::{Map, Value};

use super::super::signs;
use super::{CONTENT, message};
use crate::simulate::chat::{Role, Turn};
use crate::simulate::failure::Reject;

const PART: &[&str] = &[
    "codeExecutionResult",
    "executableCode",
    "fileData",
    "functionCall",
    "functionResponse",
    "inlineData",
    "text",
    "thought",
    "thoughtSignature",
    "videoMetadata",
];

pub(super) fn contents(fields: &Map<String, Value>, model: &str) -> Result<Vec<Turn>, Reject> {
    let list = fields.get("contents").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if list.is_empty() {
        return Err(Reject::bad("* GenerateContentRequest.contents: contents is not specified\n"));
    }
    let mut turns = Vec::new();
    // Names of the calls that the content before made, all of which this one has to answer.
    let mut open: Vec<String> = Vec::new();
    let last_asked = list.iter().rposition(|content| {
        let parts = content.get("parts").and_then(Value::as_array).into_iter().flatten();
        content.get("role").and_then(Value::as_str) != Some("model")
            && parts.into_iter().any(|part| part.get("functionResponse").is_none())
    });
    for (index, content) in list.iter().enumerate() {
        let fields = message(content, CONTENT, &format!(" at 'contents[{index}]'"))?;
        let role = match fields.get("role").and_then(Value::as_str) {
            None | Some("user") => Role::User,
            Some("model") => Role::Assistant,
            Some(_) => return Err(Reject::bad("Please use a valid role: user, model.")),
        };
        let place = format!("contents[{index}]");
        let parts = Parts::read(fields, &place)?;
        let answers = !parts.answered.is_empty();
        if answers && open.is_empty() {
            return Err(Reject::bad(
                "Please ensure that function response turn comes immediately after a function call turn.",
            ));
        }
        if open.len() != parts.answered.len() {
            return Err(Reject::bad(
                "Please ensure that the number of function response parts is equal to the number of function call \
                 parts of the function call turn.",
            ));
        }
        // Calls of the turn under way have to be signed, of each step the first.
        if role == Role::Assistant
            && !parts.called.is_empty()
            && !parts.signed
            && signs(model)
            && last_asked.is_some_and(|asked| asked < index)
        {
            return Err(Reject::bad(format!(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to \
                 work correctly. Additional data, function call `{}`, position {index}.",
                parts.called[0]
            )));
        }
        open = parts.called;
        // A turn for each result, so that results can be told apart.
        turns.extend(parts.results.into_iter().map(|text| Turn { role: Role::Tool, text }));
        if !answers || !parts.text.is_empty() {
            turns.push(Turn { role, text: parts.text.join("\n") });
        }
    }
    if open.is_empty() {
        return Ok(turns);
    }
    Err(Reject::bad("Please ensure that function call turn is followed by a function response turn."))
}

#[derive(Default)]
struct Parts {
    text: Vec<String>,
    called: Vec<String>,
    answered: Vec<String>,
    results: Vec<String>,
    /// Whether the first call carries a signature.
    signed: bool,
}

impl Parts {
    fn read(fields: &Map<String, Value>, place: &str) -> Result<Parts, Reject> {
        let list = fields.get("parts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if list.is_empty() {
            return Err(Reject::bad(format!(
                "* GenerateContentRequest.{place}.parts: contents.parts must not be empty.\n"
            )));
        }
        let mut parts = Parts::default();
        for (index, part) in list.iter().enumerate() {
            let at = format!("{place}.parts[{index}]");
            let fields = message(part, PART, &format!(" at '{at}'"))?;
            let name = |key: &str| {
                let name =
                    fields.get(key)?.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
                Some(name.map(str::to_owned).ok_or_else(|| {
                    Reject::bad(format!("* GenerateContentRequest.{at}.{key}.name: Name cannot be empty.\n"))
                }))
            };
            if let Some(called) = name("functionCall") {
                if parts.called.is_empty() {
                    parts.signed = fields.contains_key("thoughtSignature");
                }
                parts.called.push(called?);
            } else if let Some(answered) = name("functionResponse") {
                let response = fields.get("functionResponse").and_then(|response| response.get("response"));
                let Some(response @ Value::Object(_)) = response else {
                    return Err(Reject::bad(format!(
                        "Invalid value at '{at}.function_response.response' (Map)"
                    )));
                };
                parts.answered.push(answered?);
                let said = response.get("output").or_else(|| response.get("error")).and_then(Value::as_str);
                parts.results.push(said.map_or_else(|| response.to_string(), str::to_owned));
            } else if let Some(text) = fields.get("text").and_then(Value::as_str) {
                if fields.get("thought").and_then(Value::as_bool) != Some(true) {
                    parts.text.push(text.to_owned());
                }
            } else if !["inlineData", "fileData", "executableCode", "codeExecutionResult"]
                .iter()
                .any(|key| fields.contains_key(*key))
            {
                return Err(Reject::bad(format!(
                    "* GenerateContentRequest.{at}.data: required oneof field 'data' must have one initialized field\n"
                )));
            }
        }
        Ok(parts)
    }
}
