//! Messages. Calls and results are matched here: by id where both have one, else by the tool's name, else by their order.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::super::super::RequestError;
use crate::fields::Fields;
use crate::ir::{Image, ImageSource, Message, Part, Role, ToolCall, ToolResult};

/// The beginnings of images in base64: Ollama's have no media type beside them.
const IMAGES: [(&str, &str); 4] =
    [("iVBORw0KGgo", "image/png"), ("/9j/", "image/jpeg"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp")];

/// A call that has no result yet.
struct Open {
    id: String,
    name: String,
}

pub(super) fn read(messages: Vec<Fields>) -> Result<Vec<Message>, RequestError> {
    let mut open = VecDeque::new();
    messages.into_iter().enumerate().map(|(i, f)| message(f, i, &mut open)).collect()
}

fn message(mut f: Fields, at: usize, open: &mut VecDeque<Open>) -> Result<Message, RequestError> {
    let role = f.required_string("role")?;
    let text = f.string("content")?;
    let images = images(&mut f)?;
    let mut content = Vec::new();
    if role == "tool" {
        let call = answered(&mut f, open)?;
        let said = text.map(Part::text).into_iter().chain(images).collect();
        content.push(Part::ToolResult(ToolResult {
            call,
            content: said,
            is_error: false,
            extras: Map::new(),
        }));
        return Ok(Message { role: Role::User, content, extras: f.rest()? });
    }
    let role = match role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => return Err(f.error("role", format!("{other:?} is not system, user, assistant or tool"))),
    };
    if role == Role::Assistant
        && let Some(text) = f.string("thinking")?.filter(|text| !text.is_empty())
    {
        content.push(Part::Reasoning { text, signature: None });
    }
    content.extend(text.filter(|text| !text.is_empty()).map(Part::text));
    content.extend(images);
    if role == Role::Assistant {
        open.clear();
        for (j, call) in f.objects("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
            let call = tool_call(call, format!("call_{at}_{j}"))?;
            open.push_back(Open { id: call.id.clone(), name: call.name.clone() });
            content.push(Part::ToolCall(call));
        }
    }
    Ok(Message { role, content, extras: f.rest()? })
}

/// The same conversation gets the same ids each time.
fn tool_call(mut f: Fields, usual: String) -> Result<ToolCall, RequestError> {
    let id = f.string("id")?.filter(|id| !id.is_empty()).unwrap_or(usual);
    let mut function = f.required_object("function")?;
    let name = function.required_string("name")?;
    let arguments = function.object("arguments")?.map_or_else(Map::new, Fields::untouched);
    Ok(ToolCall { id, name, arguments: Value::Object(arguments).to_string(), signature: None })
}

/// The call that a result is of.
fn answered(f: &mut Fields, open: &mut VecDeque<Open>) -> Result<String, RequestError> {
    let id = f.string("tool_call_id")?.filter(|id| !id.is_empty());
    let named = f.string("tool_name")?;
    let name = match named {
        Some(name) => Some(name),
        // As it was called before.
        None => f.string("name")?,
    };
    let by_id = id.as_ref().and_then(|id| open.iter().position(|call| call.id == *id));
    let by_name = || name.as_ref().and_then(|name| open.iter().position(|call| call.name == *name));
    let by_order = || (id.is_none() && name.is_none() && !open.is_empty()).then_some(0);
    let found = by_id.or_else(by_name).or_else(by_order).and_then(|at| open.remove(at));
    match (found, id) {
        (Some(call), _) => Ok(call.id),
        (None, Some(id)) => Ok(id),
        (None, None) => Err(f.error("role", "is tool, and the message answers no tool call before it")),
    }
}

fn images(f: &mut Fields) -> Result<Vec<Part>, RequestError> {
    let found = f.strings("images")?.into_iter().map(|data| {
        let kind = IMAGES.iter().find(|(start, _)| data.starts_with(start));
        let media_type = kind.map_or("application/octet-stream", |(_, kind)| kind).to_owned();
        let source = ImageSource::Base64 { media_type, data };
        Part::Image(Image { source, detail: None, extras: Map::new() })
    });
    Ok(found.collect())
}
