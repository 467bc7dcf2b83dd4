//! OpenAI's strict mode, in which an answer cannot leave its schema, and which takes only some schemas.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::ir::Dropped;

/// Whether the answer is held to its schema. `wanted` is what the client says; where it says nothing, its dialect holds
/// every answer to its schema, and what cannot be held is listed.
pub(in crate::dialect) fn holds(wanted: Option<bool>, schema: &Value, dropped: &mut Vec<Dropped>) -> bool {
    wanted.unwrap_or_else(|| {
        let taken = takes(schema);
        if !taken {
            let reason = "it is asked for and not enforced: that takes objects with every property required and no other";
            dropped.push(Dropped::new("response_format", reason));
        }
        taken
    })
}

/// Keywords that strict mode refuses.
const REFUSED: [&str; 10] = [
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "default",
];

/// Keywords whose values are data and no schemas.
const DATA: [&str; 4] = ["enum", "const", "examples", "required"];

/// Keywords whose values are schemas by names, which are no keywords.
const NAMED: [&str; 3] = ["properties", "$defs", "definitions"];

fn takes(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            (!is_object(fields) || is_closed(fields))
                && !REFUSED.iter().any(|keyword| fields.contains_key(*keyword))
                && fields.iter().all(|(key, value)| match (key.as_str(), value) {
                    (key, _) if DATA.contains(&key) => true,
                    (key, Value::Object(schemas)) if NAMED.contains(&key) => schemas.values().all(takes),
                    _ => takes(value),
                })
        }
        Value::Array(all) => all.iter().all(takes),
        _ => true,
    }
}

fn is_object(schema: &Map<String, Value>) -> bool {
    match schema.get("type") {
        Some(Value::String(name)) => name == "object",
        Some(Value::Array(names)) => names.iter().any(|name| name == "object"),
        _ => false,
    }
}

/// Whether all that it may hold is named, and has to be there.
fn is_closed(schema: &Map<String, Value>) -> bool {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let required: BTreeSet<&str> = required.filter_map(Value::as_str).collect();
    let is_required = |name: &String| required.contains(name.as_str());
    let properties = schema.get("properties").and_then(Value::as_object);
    schema.get("additionalProperties") == Some(&Value::Bool(false))
        && properties.is_none_or(|properties| properties.keys().all(is_required))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_every_dialect_can_hold_is_held_and_the_rest_is_said() {
        let closed = json!({ "type": "object", "additionalProperties": false, "required": ["a"],
            "properties": { "a": { "type": ["string", "null"], "enum": ["not", null] } } });
        let optional = json!({ "type": "object", "additionalProperties": false, "required": ["a"],
            "properties": { "a": { "type": "string" }, "b": { "type": "string" } } });
        let within = json!({ "type": "object", "additionalProperties": false, "required": ["a"],
            "properties": { "a": { "type": "array", "items": { "type": "object" } } } });
        let either = json!({ "oneOf": [closed] });
        // Properties may be called as keywords are.
        let named = |examples: &Value| {
            json!({ "type": "object", "additionalProperties": false,
            "required": ["default", "examples"], "properties": { "default": { "type": "string" }, "examples": examples } })
        };
        let (called, open) = (named(&json!({ "type": "string" })), named(&json!({ "type": "object" })));
        for (schema, taken) in [
            (&closed, true),
            (&optional, false),
            (&within, false),
            (&either, false),
            (&called, true),
            (&open, false),
        ] {
            let mut dropped = Vec::new();
            assert_eq!(holds(None, schema, &mut dropped), taken, "{schema}");
            assert_eq!(dropped.is_empty(), taken, "{schema}");
            for wanted in [true, false] {
                let mut dropped = Vec::new();
                assert_eq!((holds(Some(wanted), schema, &mut dropped), dropped.len()), (wanted, 0));
            }
        }
    }
}
