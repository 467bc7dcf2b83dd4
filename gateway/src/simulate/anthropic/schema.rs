//! The schemas of structured outputs, checked as the provider checks them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// References within each other.
const DEEPEST: usize = 64;

/// What is refused of each type.
const REFUSED: [(&str, &[&str]); 5] = [
    ("array", &["maxItems", "uniqueItems", "contains", "prefixItems"]),
    ("integer", &["exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"]),
    ("number", &["exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"]),
    ("object", &["maxProperties", "minProperties", "patternProperties", "propertyNames"]),
    ("string", &["maxLength", "minLength"]),
];

/// What is wrong with a schema, in the provider's words.
pub(super) fn judge(schema: &Value) -> Result<(), String> {
    Judge { root: schema, open: Vec::new(), known: BTreeSet::new() }.schema(schema)
}

struct Judge<'a> {
    root: &'a Value,
    /// References that are being followed.
    open: Vec<&'a str>,
    /// References that were followed.
    known: BTreeSet<&'a str>,
}

impl<'a> Judge<'a> {
    fn schema(&mut self, schema: &'a Value) -> Result<(), String> {
        let empty =
            "Empty schema ({}) that accepts any JSON value is not supported. Please specify a concrete type.";
        let fields = schema.as_object().ok_or(empty)?;
        if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
            return self.reference(target);
        }
        if fields.contains_key("oneOf") {
            return Err("Schema type 'oneOf' is not supported".to_owned());
        }
        let variants = ["anyOf", "allOf"].map(|key| fields.get(key).and_then(Value::as_array));
        if variants.iter().any(Option::is_some) {
            return variants.into_iter().flatten().flatten().try_for_each(|variant| self.schema(variant));
        }
        let kinds: Vec<&str> = match fields.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if kinds.is_empty() && !fields.contains_key("enum") && !fields.contains_key("const") {
            return Err(empty.to_owned());
        }
        values(fields)?;
        for kind in kinds {
            refused(kind, fields)?;
            match kind {
                "object" => self.object(fields)?,
                "array" => fields.get("items").map_or(Ok(()), |items| self.schema(items))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn reference(&mut self, target: &'a str) -> Result<(), String> {
        let root = self.root;
        let found = target.strip_prefix('#').and_then(|at| root.pointer(at));
        let found = found.ok_or_else(|| format!("External $ref '{target}' is not supported"))?;
        if self.open.contains(&target) || target == "#" {
            return Err(format!(
                "Circular reference detected in schema definitions: {target} -> {target}. Self-referencing or \
                 mutually-referencing definitions are not supported."
            ));
        }
        if self.open.len() == DEEPEST {
            return Err("Schema is too complex for compilation.".to_owned());
        }
        if self.known.insert(target) {
            self.open.push(target);
            self.schema(found)?;
            self.open.pop();
        }
        Ok(())
    }

    fn object(&mut self, fields: &'a Map<String, Value>) -> Result<(), String> {
        match fields.get("additionalProperties") {
            Some(Value::Bool(false)) => {}
            Some(other) => {
                return Err(format!(
                    "For 'object' type, 'additionalProperties: {other}' is not supported. Please set \
                     'additionalProperties' to false"
                ));
            }
            None => {
                let message = "For 'object' type, 'additionalProperties' must be explicitly set to false";
                return Err(message.to_owned());
            }
        }
        let properties = fields.get("properties").and_then(Value::as_object).into_iter().flatten();
        properties.map(|(_, schema)| schema).try_for_each(|schema| self.schema(schema))
    }
}

/// Values beside their one type.
fn values(fields: &Map<String, Value>) -> Result<(), String> {
    let Some(declared) = fields.get("type") else { return Ok(()) };
    for value in fields.get("enum").and_then(Value::as_array).into_iter().flatten() {
        let is_of = match declared.as_str() {
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some("null") => value.is_null(),
            _ => false,
        };
        if !is_of {
            return Err(format!(
                "Invalid schema: Enum value {value} does not match declared type '{declared}'"
            ));
        }
    }
    Ok(())
}

fn refused(kind: &str, fields: &Map<String, Value>) -> Result<(), String> {
    let few = [None, Some(&json!(0)), Some(&json!(1))].contains(&fields.get("minItems"));
    if kind == "array" && !few {
        let got = &fields["minItems"];
        return Err(format!(
            "For 'array' type, 'minItems' values other than 0 or 1 are not supported (got: [{got}])"
        ));
    }
    let of_kind = REFUSED.iter().find(|(name, _)| *name == kind);
    let keywords = of_kind.into_iter().flat_map(|(_, keywords)| keywords.iter());
    let found: Vec<&str> = keywords.copied().filter(|keyword| fields.contains_key(*keyword)).collect();
    match found.as_slice() {
        [] => Ok(()),
        [one] => Err(format!("For '{kind}' type, property '{one}' is not supported")),
        several => Err(format!("For '{kind}' type, properties {} are not supported", several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_provider_refuses_is_refused_in_its_words() {
        let closed = json!({ "type": "object", "additionalProperties": false, "required": ["a"], "properties": {
            "a": { "anyOf": [{ "type": "string", "enum": ["x"] }, { "type": "null" }] },
            "b": { "type": "array", "items": { "$ref": "#/$defs/c" }, "minItems": 1 },
            "c": { "$ref": "#/$defs/c" },
        }, "$defs": { "c": { "type": ["string", "null"] } } });
        assert_eq!(judge(&closed), Ok(()));
        let node = json!({ "type": "array", "items": { "$ref": "#/$defs/node" } });
        for (schema, words) in [
            (json!({}), "Empty schema ({})"),
            (json!({ "oneOf": [] }), "Schema type 'oneOf'"),
            (json!({ "type": "object" }), "For 'object' type, 'additionalProperties' must be explicitly set"),
            (
                json!({ "type": "object", "additionalProperties": true }),
                "For 'object' type, 'additionalProperties: true'",
            ),
            (
                json!({ "type": "array", "minItems": 2 }),
                "For 'array' type, 'minItems' values other than 0 or 1",
            ),
            (json!({ "type": "array", "maxItems": 2 }), "For 'array' type, property 'maxItems' is not"),
            (
                json!({ "type": "number", "maximum": 2, "minimum": 1 }),
                "For 'number' type, properties maximum, minimum are",
            ),
            (
                json!({ "type": ["string", "null"], "enum": ["a", null] }),
                "Invalid schema: Enum value \"a\" does not",
            ),
            (json!({ "$ref": "#/$defs/node", "$defs": { "node": node } }), "Circular reference detected"),
            (json!({ "$ref": "https://x.example/s" }), "External $ref"),
        ] {
            let said = judge(&schema).unwrap_err();
            assert!(said.starts_with(words), "{schema}: {said}");
        }
    }
}
