//! JSON Schemas, and the subset of OpenAPI's that Gemini has in their place.

mod read;

use serde_json::{Map, Value, json};

use super::super::schemas::{Bounds, LeftOut, merged, referred};
use crate::ir::Dropped;

pub(super) use read::from_gemini;

/// Keywords that Gemini has under the same name and with the same meaning.
const SAME: &[&str] = &[
    "title",
    "description",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "pattern",
    "nullable",
];

/// Keywords that ask for nothing, and the ones that are read where they are needed.
const QUIET: &[&str] =
    &["$schema", "$id", "$comment", "$defs", "definitions", "type", "format", "enum", "const"];

/// Writes a JSON Schema for Gemini. What could not be written is one entry of `dropped`, under `path`. `bounds` are those of
/// the whole request, of whose schemas there may be any number.
pub(super) fn to_gemini(
    schema: &Value,
    path: &str,
    bounds: &mut Bounds,
    dropped: &mut Vec<Dropped>,
) -> Value {
    let mut writer = Writer { root: schema, bounds, open: Vec::new(), left_out: LeftOut::default() };
    let written = writer.schema(schema);
    if let Some(words) = writer.left_out.said() {
        dropped.push(Dropped::new(path, format!("Gemini's schemas cannot say: {words}")));
    }
    written
}

struct Writer<'a> {
    root: &'a Value,
    bounds: &'a mut Bounds,
    /// References that are being followed.
    open: Vec<String>,
    left_out: LeftOut,
}

impl Writer<'_> {
    fn schema(&mut self, schema: &Value) -> Value {
        let Value::Object(fields) = schema else {
            if *schema != Value::Bool(true) {
                self.lose(&schema.to_string());
            }
            return json!({});
        };
        if !self.bounds.enter() {
            self.lose("schemas so deep in one");
            return json!({});
        }
        let written = self.object(fields);
        self.bounds.leave();
        written
    }

    fn object(&mut self, fields: &Map<String, Value>) -> Value {
        if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
            return self.reference(target, fields);
        }
        if fields.get("allOf").is_some_and(Value::is_array) {
            return self.together(fields);
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(variants) = fields.get(keyword).and_then(Value::as_array) {
                if keyword == "oneOf" {
                    self.lose("oneOf (anyOf was sent)");
                }
                return self.alternatives(variants, fields, keyword);
            }
        }
        let (types, nullable) = types(fields);
        let mut written = match types.as_slice() {
            [] => self.typed(fields, None),
            [only] => self.typed(fields, Some(only)),
            several => {
                let each = several.iter().map(|name| Value::Object(self.typed(fields, Some(name)))).collect();
                Map::from_iter([("anyOf".to_owned(), Value::Array(each))])
            }
        };
        if nullable {
            written.insert("nullable".into(), json!(true));
        }
        Value::Object(written)
    }

    /// A schema of one type.
    fn typed(&mut self, fields: &Map<String, Value>, name: Option<&str>) -> Map<String, Value> {
        let mut written = Map::new();
        if let Some(name) = name {
            written.insert("type".into(), json!(name.to_ascii_uppercase()));
        }
        for (key, value) in fields {
            match key.as_str() {
                key if SAME.contains(&key) => _ = written.insert(key.into(), value.clone()),
                "properties" | "required" if name == Some("object") => {}
                "items" if name == Some("array") => _ = written.insert("items".into(), self.schema(value)),
                key if QUIET.contains(&key) => {}
                other => self.lose(other),
            }
        }
        if name == Some("object") {
            self.properties(fields, &mut written);
        }
        if name == Some("array") && !written.contains_key("items") {
            self.lose("items of any type (text was sent)");
            written.insert("items".into(), json!({ "type": "STRING" }));
        }
        self.values(fields, name, &mut written);
        if let Some(format) = fields.get("format").and_then(Value::as_str) {
            self.format(format, name, &mut written);
        }
        written
    }

    /// Of the formats of texts Gemini has one; the model can be told of the others.
    fn format(&mut self, format: &str, name: Option<&str>, written: &mut Map<String, Value>) {
        match (name, format) {
            (Some("string"), "date-time")
            | (Some("number"), "float" | "double")
            | (Some("integer"), "int32" | "int64") => _ = written.insert("format".into(), json!(format)),
            (Some("string"), _) => {
                self.lose(&format!("format {format} (the description says it)"));
                let said = written.get("description").and_then(Value::as_str).filter(|said| !said.is_empty());
                let said = said.map(|said| format!("{said} ")).unwrap_or_default();
                written.insert("description".into(), json!(format!("{said}Format: {format}.")));
            }
            _ => self.lose(&format!("format {format}")),
        }
    }

    fn properties(&mut self, fields: &Map<String, Value>, written: &mut Map<String, Value>) {
        let Some(properties) = fields.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty())
        else {
            return;
        };
        let required = fields.get("required").and_then(Value::as_array).into_iter().flatten();
        // Gemini refuses to require what is not described.
        let required: Vec<&Value> =
            required.filter(|name| name.as_str().is_some_and(|name| properties.contains_key(name))).collect();
        if !required.is_empty() {
            written.insert("required".into(), json!(required));
        }
        // A model writes its reasons before its answer only where a schema has them in this order.
        if properties.len() > 1 {
            let order: Vec<&String> = properties.keys().collect();
            written.insert("propertyOrdering".into(), json!(order));
        }
        let properties = properties
            .iter()
            .map(|(name, schema)| (name.clone(), self.schema(schema)))
            .collect::<Map<_, _>>();
        written.insert("properties".into(), Value::Object(properties));
    }

    /// `enum` and `const`, which Gemini has for text only.
    fn values(&mut self, fields: &Map<String, Value>, name: Option<&str>, written: &mut Map<String, Value>) {
        let listed = fields.get("enum").and_then(Value::as_array).cloned();
        let Some(listed) = listed.or_else(|| fields.get("const").map(|value| vec![value.clone()])) else {
            return;
        };
        let texts: Vec<&str> =
            listed.iter().filter_map(Value::as_str).filter(|text| !text.is_empty()).collect();
        let others = listed.iter().filter(|value| !value.is_null()).count() - texts.len();
        if others > 0 || texts.is_empty() || name.is_some_and(|name| name != "string") {
            self.lose("enum of other values than texts");
            return;
        }
        written.insert("type".into(), json!("STRING"));
        written.insert("format".into(), json!("enum"));
        written.insert("enum".into(), json!(texts));
        if texts.len() < listed.len() {
            written.insert("nullable".into(), json!(true));
        }
    }

    fn alternatives(&mut self, variants: &[Value], fields: &Map<String, Value>, keyword: &str) -> Value {
        let is_null = |schema: &Value| schema.get("type").and_then(Value::as_str) == Some("null");
        let mut nullable = variants.iter().any(is_null);
        let mut written: Vec<Value> = Vec::new();
        for variant in variants.iter().filter(|variant| !is_null(variant)) {
            written.push(self.schema(variant));
        }
        let mut whole = match written.len() {
            1 => written.remove(0),
            _ => json!({ "anyOf": written }),
        };
        for (key, value) in fields {
            match key.as_str() {
                "title" | "description" | "default" => whole[key] = value.clone(),
                "nullable" => nullable |= value == &json!(true),
                key if key == keyword || QUIET.contains(&key) => {}
                other => self.lose(&format!("{other} beside {keyword}")),
            }
        }
        if nullable {
            whole["nullable"] = json!(true);
        }
        whole
    }

    fn reference(&mut self, target: &str, fields: &Map<String, Value>) -> Value {
        let found = referred(self.root, target);
        let recursive = self.open.iter().any(|open| open == target);
        let mut written = match found {
            Some(found) if !recursive => {
                if found.as_object().is_some_and(|found| !self.bounds.takes(found)) {
                    return self.too_much();
                }
                self.open.push(target.to_owned());
                let written = self.schema(found);
                self.open.pop();
                written
            }
            Some(_) => {
                self.lose("a schema within itself");
                json!({ "type": "OBJECT" })
            }
            None => {
                self.lose(&format!("$ref {target}"));
                json!({})
            }
        };
        for key in ["title", "description", "default"] {
            if let Some(value) = fields.get(key) {
                written[key] = value.clone();
            }
        }
        written
    }

    /// Schemas that all have to hold, as one.
    fn together(&mut self, fields: &Map<String, Value>) -> Value {
        if self.bounds.spent() {
            return self.too_much();
        }
        let left_out = &mut self.left_out;
        match merged(self.root, fields, self.bounds, &mut |what| left_out.add(what)) {
            Some(whole) => self.schema(&Value::Object(whole)),
            None => self.too_much(),
        }
    }

    fn too_much(&mut self) -> Value {
        self.lose("so many schemas in one");
        json!({})
    }

    fn lose(&mut self, what: &str) {
        self.left_out.add(what);
    }
}

/// The types that a schema names, or that its other keywords mean, and whether null is one of them.
fn types(fields: &Map<String, Value>) -> (Vec<&str>, bool) {
    const KNOWN: [&str; 6] = ["string", "number", "integer", "boolean", "array", "object"];
    let named: Vec<&str> = match fields.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let nullable = named.contains(&"null");
    let mut types: Vec<&str> = Vec::new();
    for name in named {
        if KNOWN.contains(&name) && !types.contains(&name) {
            types.push(name);
        }
    }
    if types.is_empty() {
        types = match fields {
            fields if fields.contains_key("properties") => vec!["object"],
            fields if fields.contains_key("items") => vec!["array"],
            _ => Vec::new(),
        };
    }
    (types, nullable)
}

#[cfg(test)]
mod tests;
