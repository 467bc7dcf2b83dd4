//! Who said what: contents and their parts.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{RequestError, camel, list};
use crate::fields::Fields;
use crate::ir::{Image, ImageSource, Message, Part, Role, ToolCall, ToolResult};

/// The parts of a system instruction, whatever its role says.
pub(super) fn system(mut f: Fields) -> Result<Vec<Part>, RequestError> {
    let mut calls = Calls::default();
    list(&mut f, "parts")?.into_iter().map(|f| part(f, &mut calls)).collect()
}

pub(super) fn messages(contents: Vec<Fields>) -> Result<Vec<Message>, RequestError> {
    let mut calls = Calls::default();
    contents.into_iter().map(|content| message(camel(content)?, &mut calls)).collect()
}

fn message(mut f: Fields, calls: &mut Calls) -> Result<Message, RequestError> {
    let role = match f.string("role")?.as_deref() {
        Some("model") => Role::Assistant,
        // `function` is what results were said by in the API's first version.
        None | Some("" | "user" | "function") => Role::User,
        Some(other) => return Err(f.error("role", format!("{other:?} is not user or model"))),
    };
    let parts = list(&mut f, "parts")?;
    if parts.is_empty() {
        return Err(f.error("parts", "is missing or empty"));
    }
    let content = parts.into_iter().map(|f| part(f, calls)).collect::<Result<_, _>>()?;
    Ok(Message { role, content, extras: f.rest()? })
}

/// What a part may be, of which it is one.
const PART: [&str; 7] = [
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
];

fn part(f: Fields, calls: &mut Calls) -> Result<Part, RequestError> {
    let mut f = camel(f)?;
    f.one_of(&PART)?;
    if let Some(call) = f.object("functionCall")? {
        return function_call(camel(call)?, f.string("thoughtSignature")?, calls);
    }
    if let Some(response) = f.object("functionResponse")? {
        return function_response(camel(response)?, calls);
    }
    if let Some(text) = f.string("text")? {
        if f.boolean("thought")?.unwrap_or(false) {
            return Ok(Part::Reasoning { text, signature: f.string("thoughtSignature")? });
        }
        return Ok(Part::Text { text, extras: f.rest()? });
    }
    for key in ["inlineData", "fileData"] {
        if let Some(data) = f.object(key)? {
            return media(key, camel(data)?, f);
        }
    }
    Ok(Part::Opaque(Value::Object(f.rest()?)))
}

/// Images have a place in every dialect; sound, film and documents are kept as they are.
fn media(key: &str, mut data: Fields, mut f: Fields) -> Result<Part, RequestError> {
    let kind = data.string("mimeType")?.unwrap_or_default();
    let is_image = kind.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("image/"));
    if !is_image {
        if !kind.is_empty() {
            data.restore("mimeType", json!(kind));
        }
        f.restore(key, Value::Object(data.rest()?));
        return Ok(Part::Opaque(Value::Object(f.rest()?)));
    }
    let source = match key {
        "inlineData" => {
            ImageSource::Base64 { media_type: kind, data: standard(data.required_string("data")?) }
        }
        _ => ImageSource::Url(data.required_string("fileUri")?),
    };
    Ok(Part::Image(Image { source, detail: None, extras: f.rest()? }))
}

/// Base64 in its first alphabet and padded, which other dialects want. Google takes both, and its library for Python writes the
/// second.
fn standard(data: String) -> String {
    let mut data = match data.contains(['-', '_']) {
        true => data.replace('-', "+").replace('_', "/"),
        false => data,
    };
    match data.len() % 4 {
        2 => data.push_str("=="),
        3 => data.push('='),
        _ => {}
    }
    data
}

fn function_call(mut f: Fields, signature: Option<String>, calls: &mut Calls) -> Result<Part, RequestError> {
    let name = f.required_string("name")?;
    let args = f.object("args")?.map_or_else(Map::new, Fields::untouched);
    let id = calls.begin(f.string("id")?, &name);
    Ok(Part::ToolCall(ToolCall { id, name, arguments: Value::Object(args).to_string(), signature }))
}

fn function_response(mut f: Fields, calls: &mut Calls) -> Result<Part, RequestError> {
    let name = f.required_string("name")?;
    let response = f.object("response")?.map_or_else(Map::new, Fields::untouched);
    let call = calls.answer(f.string("id")?, &name);
    let (text, is_error) = said(response);
    let mut content = vec![Part::text(text)];
    // What a result holds beside its object calls nothing and answers nothing.
    let mut none = Calls::default();
    for inner in list(&mut f, "parts")? {
        content.push(part(inner, &mut none)?);
    }
    Ok(Part::ToolResult(ToolResult { call, content, is_error, extras: f.rest()? }))
}

/// What a function answered, as text. Google's own names for a plain result and for a failure are `output` and `error`.
fn said(mut response: Map<String, Value>) -> (String, bool) {
    let alone = response.len() == 1;
    for (key, is_error) in [("output", false), ("result", false), ("error", true)] {
        if alone && let Some(value) = response.remove(key) {
            return match value {
                Value::String(text) => (text, is_error),
                other => (other.to_string(), is_error),
            };
        }
    }
    (Value::Object(response).to_string(), false)
}

/// The calls so far. Theirs and the results' ids are optional here and nowhere else, so calls without one are given
/// one, the same in every request that repeats the conversation, and results are matched by name, or else by order.
#[derive(Default)]
struct Calls {
    /// All ids.
    seen: BTreeSet<String>,
    /// Id and name of those that no result has answered.
    open: Vec<(String, String)>,
}

impl Calls {
    fn begin(&mut self, id: Option<String>, name: &str) -> String {
        let given = id.filter(|id| !id.is_empty());
        let id = given.unwrap_or_else(|| self.unseen());
        self.seen.insert(id.clone());
        self.open.push((id.clone(), name.to_owned()));
        id
    }

    fn answer(&mut self, id: Option<String>, name: &str) -> String {
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            self.open.retain(|(open, _)| *open != id);
            return id;
        }
        let named = self.open.iter().position(|(_, open)| open == name);
        match named.or_else(|| (!self.open.is_empty()).then_some(0)) {
            Some(at) => self.open.remove(at).0,
            // The answer to nothing.
            None => self.unseen(),
        }
    }

    /// An id that no call has.
    fn unseen(&self) -> String {
        // Ids that were given may look like the ones made here.
        let mut made = (self.seen.len()..).map(|number| format!("call_{number}"));
        made.find(|id| !self.seen.contains(id)).unwrap_or_default()
    }
}
