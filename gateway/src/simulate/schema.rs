//! A value that fits a JSON Schema: the arguments of a tool call, or a structured answer.

use serde_json::{Map, Number, Value};

/// How deep a schema is followed: recursive ones end somewhere.
const DEEPEST: usize = 16;

/// A small value that fits `schema`, always the same one. Free text fields hold `seed`. What a schema demands beyond
/// types, bounds, `enum`, `const`, `format` and required properties (patterns, `not`, dependencies) is not looked at.
pub(super) fn example(schema: &Value, seed: &str) -> Value {
    Writer { root: schema, seed }.value(schema, "", 0)
}

struct Writer<'a> {
    root: &'a Value,
    seed: &'a str,
}

impl<'a> Writer<'a> {
    fn value(&self, schema: &'a Value, name: &str, depth: usize) -> Value {
        let Some(fields) = schema.as_object() else { return Value::String(self.text(name)) };
        if depth > DEEPEST {
            return Value::Null;
        }
        if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
            return match target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) {
                Some(target) => self.value(target, name, depth + 1),
                None => Value::Null,
            };
        }
        if let Some(value) = given(fields) {
            return value.clone();
        }
        for alternatives in ["anyOf", "oneOf"] {
            if let Some(first) = fields.get(alternatives).and_then(Value::as_array).and_then(|all| pick(all))
            {
                return self.value(first, name, depth + 1);
            }
        }
        match kind(fields) {
            Some("object") => self.object(fields, depth),
            Some("array") => self.array(fields, name, depth),
            Some("integer") => number(fields, true),
            Some("number") => number(fields, false),
            Some("boolean") => Value::Bool(true),
            Some("null") => Value::Null,
            Some("string") => Value::String(self.string(fields, name)),
            _ => self.untyped(fields, name, depth),
        }
    }

    fn untyped(&self, fields: &'a Map<String, Value>, name: &str, depth: usize) -> Value {
        if fields.contains_key("allOf") || fields.contains_key("properties") {
            return self.object(fields, depth);
        }
        if fields.contains_key("items") {
            return self.array(fields, name, depth);
        }
        Value::String(self.text(name))
    }

    /// The required properties; all of them when none is required, since an empty object shows nothing.
    fn object(&self, fields: &'a Map<String, Value>, depth: usize) -> Value {
        let mut object = Map::new();
        for part in fields.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            if let Value::Object(more) = self.value(part, "", depth + 1) {
                object.extend(more);
            }
        }
        let required: Vec<&str> = fields
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (name, schema) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if required.is_empty() || required.contains(&name.as_str()) {
                object.insert(name.clone(), self.value(schema, name, depth + 1));
            }
        }
        Value::Object(object)
    }

    fn array(&self, fields: &'a Map<String, Value>, name: &str, depth: usize) -> Value {
        let bound = |key| fields.get(key).and_then(Value::as_u64);
        let count = bound("minItems").unwrap_or(1).max(1).min(bound("maxItems").unwrap_or(u64::MAX)).min(64);
        let item = fields.get("items").unwrap_or(&Value::Null);
        Value::Array((0..count).map(|_| self.value(item, name, depth + 1)).collect())
    }

    fn string(&self, fields: &Map<String, Value>, name: &str) -> String {
        let known = match fields.get("format").and_then(Value::as_str) {
            Some("date") => Some("2025-01-01"),
            Some("date-time") => Some("2025-01-01T00:00:00Z"),
            Some("time") => Some("00:00:00Z"),
            Some("email") => Some("person@example.com"),
            Some("uri" | "url") => Some("https://example.com/"),
            Some("hostname") => Some("example.com"),
            Some("ipv4") => Some("192.0.2.1"),
            Some("ipv6") => Some("2001:db8::1"),
            Some("uuid") => Some("00000000-0000-4000-8000-000000000000"),
            _ => None,
        };
        if let Some(known) = known {
            return known.to_owned();
        }
        let bound = |key| fields.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let mut text: Vec<char> = self.text(name).chars().collect();
        if let Some(shortest) = bound("minLength").map(|shortest| shortest.min(4096)) {
            while text.len() < shortest {
                text.push('x');
            }
        }
        if let Some(longest) = bound("maxLength") {
            text.truncate(longest);
        }
        text.into_iter().collect()
    }

    fn text(&self, name: &str) -> String {
        match (self.seed, name) {
            ("", "") => "simulated".to_owned(),
            ("", name) => name.to_owned(),
            (seed, _) => seed.to_owned(),
        }
    }
}

/// A value that the schema itself names.
fn given(fields: &Map<String, Value>) -> Option<&Value> {
    let first = |key: &str| fields.get(key).and_then(Value::as_array).and_then(|all| all.first());
    fields
        .get("const")
        .or_else(|| first("enum"))
        .or_else(|| fields.get("default"))
        .or_else(|| first("examples"))
}

/// The first alternative that is not just "or null".
fn pick(all: &[Value]) -> Option<&Value> {
    all.iter()
        .find(|schema| schema.get("type").and_then(Value::as_str) != Some("null"))
        .or_else(|| all.first())
}

/// The type that a schema names, the first that is not `null`.
pub(super) fn kind(fields: &Map<String, Value>) -> Option<&str> {
    match fields.get("type")? {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").or(Some("null"))
        }
        _ => None,
    }
}

fn number(fields: &Map<String, Value>, whole: bool) -> Value {
    let bound = |key| fields.get(key).and_then(Value::as_f64);
    let step = bound("multipleOf").filter(|step| *step > 0.0).unwrap_or(1.0);
    let low = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|low| low + step));
    let high = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|high| high - step));
    let value = match (low, high) {
        (Some(low), _) if low > step => (low / step).ceil() * step,
        (_, Some(high)) if high < step => (high / step).floor() * step,
        _ => step,
    };
    #[allow(clippy::cast_possible_truncation)] // saturates, and no schema means a number beyond i64
    let integer = value as i64;
    if whole || (integer as f64 - value).abs() < f64::EPSILON {
        Value::Number(integer.into())
    } else {
        Number::from_f64(value).map_or(Value::Null, Value::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_fit_their_schemas() {
        let rows = [
            (json!({"type": "string"}), json!("seed")),
            (json!({"type": ["null", "string"], "maxLength": 2}), json!("se")),
            (json!({"type": "string", "minLength": 6}), json!("seedxx")),
            (json!({"type": "string", "format": "date"}), json!("2025-01-01")),
            (json!({"enum": ["b", "a"]}), json!("b")),
            (json!({"const": 7}), json!(7)),
            (json!({"type": "integer"}), json!(1)),
            (json!({"type": "integer", "minimum": 10, "multipleOf": 4}), json!(12)),
            (json!({"type": "integer", "maximum": -3}), json!(-3)),
            (json!({"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5}), json!(0.5)),
            (json!({"type": "boolean"}), json!(true)),
            (json!({"type": "array", "items": {"type": "integer"}, "minItems": 2}), json!([1, 1])),
            (json!({"anyOf": [{"type": "null"}, {"type": "boolean"}]}), json!(true)),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {}}}),
                json!({"a": "seed", "b": "seed"}),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}),
                json!({"a": 1}),
            ),
            (
                json!({"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]}),
                json!({"a": 1, "b": 2}),
            ),
            (
                json!({"$defs": {"c": {"type": "boolean"}}, "type": "object", "properties": {"x": {"$ref": "#/$defs/c"}}}),
                json!({"x": true}),
            ),
            (json!({"$ref": "https://example.com/other"}), Value::Null),
            (json!(true), json!("seed")),
        ];
        for (schema, expected) in rows {
            assert_eq!(example(&schema, "seed"), expected, "{schema}");
        }
        assert_eq!(
            example(&json!({"properties": {"city": {"type": "string"}}}), ""),
            json!({"city": "city"})
        );
    }

    #[test]
    fn a_recursive_schema_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(example(&schema, "").is_object());
    }
}
