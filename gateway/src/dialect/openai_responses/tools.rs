//! Tools of OpenAI's responses that are none of other dialects: such that take a text in place of arguments (`custom`), and
//! groups of functions (`namespace`). Elsewhere each is a plain function, and a call of one comes back in the client's form.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::super::RequestError;
use crate::fields::Fields;
use crate::ir::{ChatRequest, Form, Tool, ToolCall};

/// Where a call of a grouped function names the group.
const GROUP: &str = "namespace";

/// The longest name of a group: it goes with each of its functions.
const LONGEST: usize = 128;

/// Where a tool stands: [`ChatRequest::tool_places`].
type Place = (usize, Option<usize>);

/// The tools of a request, those of groups each for itself, and where they stand.
pub(super) fn read(f: &mut Fields) -> Result<(Vec<Tool>, Vec<Place>), RequestError> {
    let (mut tools, mut places) = (Vec::new(), Vec::new());
    for (i, mut entry) in f.objects("tools")?.unwrap_or_default().into_iter().enumerate() {
        let kind = entry.required_string("type")?;
        // Of what is in an empty group nobody knows.
        let empty = entry.peek("tools").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if kind != GROUP || empty {
            tools.push(tool(kind, entry, None)?);
            places.push((i, None));
            continue;
        }
        let group = entry.required_string("name")?;
        if group.len() > LONGEST {
            return Err(entry.error("name", format!("is longer than {LONGEST} bytes")));
        }
        let all = entry.objects("tools")?.unwrap_or_default();
        // What is said of the group alone stands beside the first of its functions.
        let mut beside = entry.rest()?;
        for (j, mut inner) in all.into_iter().enumerate() {
            let kind = inner.required_string("type")?;
            let mut read = tool(kind, inner, Some(&group))?;
            if let Tool::Function { extras, .. } = &mut read {
                let beside = std::mem::take(&mut beside).into_iter();
                extras.extend(beside.map(|(key, value)| (format!("{GROUP}.{key}"), value)));
            }
            tools.push(read);
            places.push((i, Some(j)));
        }
    }
    Ok((tools, places))
}

/// `within`: the group that it is one of.
fn tool(kind: String, mut f: Fields, within: Option<&str>) -> Result<Tool, RequestError> {
    let text = kind == "custom";
    if !text && kind != "function" {
        f.restore("type", Value::String(kind.clone()));
        return Ok(Tool::Provider { kind, raw: Value::Object(f.rest()?) });
    }
    let name = f.required_string("name")?;
    let form = match within {
        None if text => Form::Text,
        None => Form::Plain,
        Some(group) => Form::Grouped { group: group.to_owned(), name: name.clone(), text },
    };
    let name = within.map_or_else(|| name.clone(), |group| joined(group, &name));
    let description = f.string("description")?;
    let (parameters, strict) = match text {
        true => (Some(text_schema(f.value("format").as_ref())), None),
        false => {
            (f.object("parameters")?.map(|schema| Value::Object(schema.untouched())), f.boolean("strict")?)
        }
    };
    Ok(Tool::Function { name, description, parameters, strict, form, extras: f.rest()? })
}

/// The name of a grouped function where there are no groups.
fn joined(group: &str, name: &str) -> String {
    let between = if group.ends_with('_') { "" } else { "__" };
    format!("{group}{between}{name}")
}

/// The function that a call names, as it is known where there are no groups.
pub(super) fn called(f: &mut Fields) -> Result<String, RequestError> {
    let name = f.required_string("name")?;
    Ok(match f.string(GROUP)? {
        Some(group) => joined(&group, &name),
        None => name,
    })
}

/// Arguments that hold a text, and say what it has to look like: a grammar, where there is one.
fn text_schema(format: Option<&Value>) -> Value {
    let field = |key: &str| format.and_then(|format| format.get(key)).and_then(Value::as_str);
    let about = match (field("definition"), field("syntax")) {
        (Some(grammar), syntax) => format!("Text of this grammar ({}):\n{grammar}", syntax.unwrap_or("lark")),
        _ => "Free text.".to_owned(),
    };
    json!({
        "type": "object", "properties": { Form::TEXT: { "type": "string", "description": about } },
        "required": [Form::TEXT], "additionalProperties": false,
    })
}

/// The arguments that hold a text.
pub(super) fn arguments_of_text(text: &str) -> String {
    json!({ Form::TEXT: text }).to_string()
}

/// The text that arguments hold; where they are of another form, they are the text themselves.
fn text_of_arguments(arguments: &str) -> String {
    let object = serde_json::from_str::<Map<String, Value>>(arguments).ok();
    match object.as_ref().and_then(|object| object.get(Form::TEXT)).and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => arguments.to_owned(),
    }
}

/// The forms in which a client knows the functions that are not plain ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forms(HashMap<String, Form>);

impl Forms {
    pub(crate) fn of(request: &ChatRequest) -> Forms {
        let mut forms = HashMap::new();
        for tool in &request.tools {
            if let Tool::Function { name, form, .. } = tool
                && *form != Form::Plain
            {
                forms.entry(name.clone()).or_insert_with(|| form.clone());
            }
        }
        Forms(forms)
    }

    /// Whether a function takes a text.
    pub(super) fn takes_text(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(Form::takes_text)
    }

    /// A call as the client knows it: the kind of the item, its fields beside the ids and the state, and the text of one that
    /// takes a text.
    pub(super) fn item(&self, call: &ToolCall) -> (&'static str, Value) {
        let form = self.0.get(&call.name);
        let mut fields = match form {
            Some(Form::Grouped { group, name, .. }) => json!({ GROUP: group, "name": name }),
            _ => json!({ "name": call.name }),
        };
        if form.is_some_and(Form::takes_text) {
            fields["input"] = json!(text_of_arguments(&call.arguments));
            return ("custom_tool_call", fields);
        }
        fields["arguments"] = json!(call.arguments);
        ("function_call", fields)
    }
}
