//! Tools of OpenAI's responses that are none of other dialects: such that take a text in place of arguments (`custom`), and
//! groups of functions (`namespace`). Elsewhere each is a plain function, and a call of one comes back in the client's form.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::super::RequestError;
use crate::fields::Fields;
use crate::ir::{ChatRequest, Form, Tool, ToolCall};

/// Where a call of a grouped function names the group.
const GROUP: &str = "namespace";

/// The tools of a request, those of groups each for itself.
pub(super) fn read(f: &mut Fields) -> Result<Vec<Tool>, RequestError> {
    let mut tools = Vec::new();
    for (i, mut entry) in f.objects("tools")?.unwrap_or_default().into_iter().enumerate() {
        let kind = entry.required_string("type")?;
        if kind != GROUP {
            tools.push(tool(kind, entry, None)?);
            continue;
        }
        // Of what is in it nobody knows.
        if entry.peek("tools").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            tools.push(tool(kind, entry, None)?);
            continue;
        }
        let group = entry.required_string("name")?;
        let all = entry.objects("tools")?.unwrap_or_default();
        // What it is for says what each of its functions is for.
        let about = entry.string("description")?;
        let mut rest = entry.rest()?;
        for (j, mut inner) in all.into_iter().enumerate() {
            let kind = inner.required_string("type")?;
            let mut read = tool(kind, inner, Some((&group, (i, j))))?;
            if let (0, Tool::Function { extras, .. }) = (j, &mut read) {
                let about = about.iter().map(|text| ("description".to_owned(), json!(text)));
                extras.extend(
                    about
                        .chain(std::mem::take(&mut rest))
                        .map(|(key, value)| (format!("{GROUP}.{key}"), value)),
                );
            }
            tools.push(read);
        }
    }
    Ok(tools)
}

/// `within`: the group that it is one of, and its place.
fn tool(kind: String, mut f: Fields, within: Option<(&str, (usize, usize))>) -> Result<Tool, RequestError> {
    let text = kind == "custom";
    if !text && kind != "function" {
        f.restore("type", Value::String(kind.clone()));
        return Ok(Tool::Provider { kind, raw: Value::Object(f.rest()?) });
    }
    let name = f.required_string("name")?;
    let form = match within {
        None if text => Form::Text,
        None => Form::Plain,
        Some((group, place)) => Form::Grouped { group: group.to_owned(), name: name.clone(), place, text },
    };
    let name = within.map_or_else(|| name.clone(), |(group, _)| joined(group, &name));
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
