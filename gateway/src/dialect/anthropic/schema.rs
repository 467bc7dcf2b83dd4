//! JSON Schemas in the form to which Claude keeps: <https://platform.claude.com/docs/en/build-with-claude/structured-outputs>.
//!
//! Objects are closed, and what its form has no word for is told to the model in the description, as Anthropic's own
//! client libraries do it. An answer that keeps to what is written keeps to the types, keys and values of what was asked
//! for.

mod pattern;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::super::schemas::{Bounds, LeftOut, merged, referred};
use crate::ir::Dropped;

/// Keywords that ask for nothing, and the ones that are read where something refers to them.
const QUIET: [&str; 6] = ["$schema", "$id", "$anchor", "$comment", "$defs", "definitions"];

/// Keywords that say which values there are.
const VALUES: [&str; 4] = ["type", "nullable", "enum", "const"];

/// Keywords of objects, which are read together.
const OBJECT: [&str; 3] = ["properties", "required", "additionalProperties"];

/// Keywords that tell the model something, and stand beside all others.
const TOLD: [&str; 3] = ["title", "description", "default"];

/// The formats of texts that are enforced.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// What a schema is that Claude takes in no form.
pub(in crate::dialect) type Unsayable = &'static str;

const WITHIN_ITSELF: Unsayable = "that refers to itself";
const ELSEWHERE: Unsayable = "that refers to what is not in it";
const ANY_VALUE: Unsayable = "with a value of any type";
const NO_VALUE: Unsayable = "with an enum of no value that there could be";
const ANY_KEYS: Unsayable = "with an object of any keys";
const TOO_LARGE: Unsayable = "so deep or so large with all that it refers to";

/// Writes a schema. What could not be written is one entry of `dropped`. A schema that cannot be written at all stays as
/// it is, for the provider to judge.
pub(in crate::dialect) fn to_claude(schema: &Value, dropped: &mut Vec<Dropped>) -> Value {
    let Ok((written, left_out)) = write(schema) else { return schema.clone() };
    let said = left_out.said().map(|words| format!("Claude's schemas cannot say: {words}"));
    dropped.extend(said.map(|reason| Dropped::new("response_format", reason)));
    written
}

/// Why a schema cannot be written at all.
pub(in crate::dialect) fn unsayable(schema: &Value) -> Option<Unsayable> {
    write(schema).err()
}

fn write(schema: &Value) -> Result<(Value, LeftOut), Unsayable> {
    let mut writer = Writer {
        root: schema,
        bounds: Bounds::default(),
        open: vec!["#".to_owned()],
        definitions: Map::new(),
        left_out: LeftOut::default(),
    };
    let mut written = writer.schema(schema)?;
    for (target, definition) in writer.definitions {
        if let Some((section, name)) = place(&target) {
            written[section][name] = definition;
        }
    }
    Ok((written, writer.left_out))
}

/// Where among the definitions a reference points to.
fn place(target: &str) -> Option<(&str, &str)> {
    let (section, name) = target.strip_prefix("#/")?.split_once('/')?;
    let is_plain = !name.is_empty() && !name.contains(['/', '~', '%']);
    (is_plain && matches!(section, "$defs" | "definitions")).then_some((section, name))
}

struct Writer<'a> {
    root: &'a Value,
    bounds: Bounds,
    /// References that are being followed.
    open: Vec<String>,
    /// What is referred to, written, by the reference.
    definitions: Map<String, Value>,
    left_out: LeftOut,
}

impl Writer<'_> {
    fn schema(&mut self, schema: &Value) -> Result<Value, Unsayable> {
        let fields = schema.as_object().ok_or(ANY_VALUE)?;
        if !self.bounds.enter() {
            return Err(TOO_LARGE);
        }
        let written = self.fields(fields)?;
        self.bounds.leave();
        Ok(written)
    }

    fn fields(&mut self, fields: &Map<String, Value>) -> Result<Value, Unsayable> {
        if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
            return self.reference(target, fields);
        }
        if fields.get("allOf").is_some_and(Value::is_array) {
            return self.together(fields);
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(variants) = fields.get(keyword).and_then(Value::as_array) {
                return self.alternatives(keyword, variants, fields);
            }
        }
        let types = types(fields);
        if let Some(value) = fields.get("const") {
            return self.values(std::slice::from_ref(value), &types, fields);
        }
        if let Some(values) = fields.get("enum").and_then(Value::as_array) {
            return self.values(values, &types, fields);
        }
        let mut each = Vec::new();
        for name in &types {
            each.push(self.typed(name, fields)?);
        }
        let mut known: BTreeSet<String> = each.iter().flat_map(Map::keys).cloned().collect();
        if types.contains(&"object") {
            known.extend(OBJECT.map(str::to_owned));
        }
        // Beside several types no keyword of one of them is taken.
        let is_plain = each.iter().all(|fields| fields.len() == 1);
        let written = match each.len() {
            0 => return Err(ANY_VALUE),
            1 => each.remove(0),
            _ if is_plain => Map::from_iter([("type".to_owned(), json!(types))]),
            _ => Map::from_iter([("anyOf".to_owned(), json!(each))]),
        };
        Ok(self.told(written, fields, &known))
    }

    /// A schema of one type.
    fn typed(&mut self, name: &str, fields: &Map<String, Value>) -> Result<Map<String, Value>, Unsayable> {
        let mut written = Map::from_iter([("type".to_owned(), json!(name))]);
        let text = |key: &str| fields.get(key).and_then(Value::as_str);
        match name {
            "object" => self.object(fields, &mut written)?,
            "array" => {
                if let Some(items) = fields.get("items") {
                    written.insert("items".into(), self.schema(items)?);
                }
                if let Some(least) = fields.get("minItems").and_then(Value::as_u64).filter(|least| *least < 2)
                {
                    written.insert("minItems".into(), json!(least));
                }
            }
            "string" => {
                let format = text("format").filter(|format| FORMATS.contains(format));
                written.extend(format.map(|format| ("format".to_owned(), json!(format))));
                let pattern = text("pattern").filter(|pattern| pattern::is_taken(pattern));
                written.extend(pattern.map(|pattern| ("pattern".to_owned(), json!(pattern))));
            }
            _ => {}
        }
        Ok(written)
    }

    /// Closed: an answer with no other keys than those that are described fits what was asked for as well.
    fn object(
        &mut self,
        fields: &Map<String, Value>,
        written: &mut Map<String, Value>,
    ) -> Result<(), Unsayable> {
        let described = fields.get("properties").and_then(Value::as_object);
        let others = fields.get("additionalProperties");
        let is_closed = others == Some(&Value::Bool(false));
        if described.is_none_or(Map::is_empty) && !is_closed {
            return Err(ANY_KEYS);
        }
        if others.is_some() && !is_closed {
            self.lose("additionalProperties");
        }
        let mut properties = Map::new();
        for (name, schema) in described.into_iter().flatten() {
            properties.insert(name.clone(), self.schema(schema)?);
        }
        let mut named = BTreeSet::new();
        let mut required = Vec::new();
        let all = fields.get("required").and_then(Value::as_array);
        for name in all.into_iter().flatten().filter_map(Value::as_str) {
            if !properties.contains_key(name) {
                self.lose("required keys that are not described");
            } else if named.insert(name) {
                required.push(name);
            }
        }
        if !required.is_empty() {
            written.insert("required".into(), json!(required));
        }
        written.insert("properties".into(), Value::Object(properties));
        written.insert("additionalProperties".into(), json!(false));
        Ok(())
    }

    /// The values of an `enum` or a `const`. They are taken beside their one type alone.
    fn values(
        &mut self,
        values: &[Value],
        types: &[&str],
        fields: &Map<String, Value>,
    ) -> Result<Value, Unsayable> {
        let mut kinds: Vec<(&str, Vec<&Value>)> = Vec::new();
        for value in values {
            let kind = match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::String(_) => "string",
                Value::Number(number) if number.is_f64() || types.contains(&"number") => "number",
                Value::Number(_) => "integer",
                Value::Array(_) | Value::Object(_) => {
                    self.lose("enum of arrays and objects");
                    continue;
                }
            };
            // What is of another type could not be anyway.
            if types.is_empty() || types.contains(&kind) {
                match kinds.iter_mut().find(|(known, _)| *known == kind) {
                    Some((_, same)) => same.push(value),
                    None => kinds.push((kind, vec![value])),
                }
            }
        }
        let of_kind = |(kind, values): (&str, Vec<&Value>)| match values.as_slice() {
            _ if kind == "null" => json!({ "type": "null" }),
            [only] if !fields.contains_key("enum") => json!({ "type": kind, "const": only }),
            values => json!({ "type": kind, "enum": values }),
        };
        let mut each: Vec<Value> = kinds.into_iter().map(of_kind).collect();
        let written = match each.len() {
            0 => return Err(NO_VALUE),
            1 => each.remove(0),
            _ => json!({ "anyOf": each }),
        };
        match written {
            Value::Object(written) => Ok(self.told(written, fields, &BTreeSet::new())),
            other => Ok(other),
        }
    }

    /// What stands beside alternatives is not taken there, so that each has it.
    fn alternatives(
        &mut self,
        keyword: &str,
        variants: &[Value],
        fields: &Map<String, Value>,
    ) -> Result<Value, Unsayable> {
        if keyword == "oneOf" {
            self.lose("oneOf (anyOf was sent)");
        }
        let mut whole = Map::new();
        let mut beside = Map::new();
        for (key, value) in fields {
            if key == "discriminator" {
                self.lose(key);
            } else if TOLD.contains(&key.as_str()) {
                whole.insert(key.clone(), value.clone());
            } else if key != keyword && !QUIET.contains(&key.as_str()) {
                beside.insert(key.clone(), value.clone());
            }
        }
        let mut written = Vec::new();
        for variant in variants {
            written.push(match beside.is_empty() {
                true => self.schema(variant)?,
                false => self.together(&Map::from_iter([("allOf".to_owned(), json!([variant, beside]))]))?,
            });
        }
        if written.is_empty() {
            return Err(NO_VALUE);
        }
        whole.insert("anyOf".into(), Value::Array(written));
        Ok(Value::Object(whole))
    }

    /// Schemas that all have to hold, as one: each of them alone would be closed to the keys of the others.
    fn together(&mut self, fields: &Map<String, Value>) -> Result<Value, Unsayable> {
        if self.bounds.spent() {
            return Err(TOO_LARGE);
        }
        let left_out = &mut self.left_out;
        let whole = merged(self.root, fields, &mut self.bounds, &mut |what| left_out.add(what));
        self.schema(&Value::Object(whole.ok_or(TOO_LARGE)?))
    }

    /// A reference is taken alone. With something beside it, or to a place that is no definition, what it refers to is
    /// written in its place.
    fn reference(&mut self, target: &str, fields: &Map<String, Value>) -> Result<Value, Unsayable> {
        let found = referred(self.root, target).ok_or(ELSEWHERE)?;
        if self.open.iter().any(|open| open == target) {
            return Err(WITHIN_ITSELF);
        }
        let beside: Map<String, Value> = fields
            .iter()
            .filter(|(key, _)| key.as_str() != "$ref" && !QUIET.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let is_defined = beside.is_empty() && place(target).is_some();
        if is_defined && self.definitions.contains_key(target) {
            return Ok(json!({ "$ref": target }));
        }
        self.open.push(target.to_owned());
        let written = if is_defined {
            let written = self.schema(found)?;
            self.definitions.insert(target.to_owned(), written);
            json!({ "$ref": target })
        } else {
            let found = found.as_object().ok_or(ANY_VALUE)?;
            // What stands beside goes along with each reference that leads on from there.
            if !self.bounds.takes(found) || !self.bounds.takes(&beside) {
                return Err(TOO_LARGE);
            }
            let mut whole = found.clone();
            whole.extend(beside);
            self.schema(&Value::Object(whole))?
        };
        self.open.pop();
        Ok(written)
    }

    /// With what the model is told, other than by the keywords that are `known`.
    fn told(
        &mut self,
        mut written: Map<String, Value>,
        fields: &Map<String, Value>,
        known: &BTreeSet<String>,
    ) -> Value {
        let mut more = Vec::new();
        for (key, value) in fields {
            let name = key.as_str();
            if TOLD.contains(&name) {
                written.insert(key.clone(), value.clone());
            } else if !known.contains(key) && !VALUES.contains(&name) && !QUIET.contains(&name) {
                self.lose(&format!("{key} (the description says it)"));
                more.push(format!("{key}: {value}"));
            }
        }
        if !more.is_empty() {
            let said = written.get("description").and_then(Value::as_str).filter(|said| !said.is_empty());
            let said = said.map(|said| format!("{said}\n\n")).unwrap_or_default();
            written.insert("description".into(), json!(format!("{said}{{{}}}", more.join(", "))));
        }
        Value::Object(written)
    }

    fn lose(&mut self, what: &str) {
        self.left_out.add(what);
    }
}

/// The types that a schema names, or that its other keywords mean.
fn types(fields: &Map<String, Value>) -> Vec<&str> {
    const KNOWN: [&str; 7] = ["string", "number", "integer", "boolean", "array", "object", "null"];
    let named: Vec<&str> = match fields.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ if OBJECT.iter().any(|key| fields.contains_key(*key)) => vec!["object"],
        _ if fields.contains_key("items") => vec!["array"],
        _ => Vec::new(),
    };
    let nullable = fields.get("nullable") == Some(&Value::Bool(true)) && !named.is_empty();
    let mut types: Vec<&str> = Vec::new();
    for name in named.into_iter().chain(nullable.then_some("null")) {
        if KNOWN.contains(&name) && !types.contains(&name) {
            types.push(name);
        }
    }
    types
}

#[cfg(test)]
mod tests;
