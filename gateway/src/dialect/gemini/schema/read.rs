//! From Gemini's schemas to JSON Schema, which can say all that they can.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::super::read_request::camel_case;

/// Reads a schema of Gemini's as JSON Schema.
pub(in super::super) fn from_gemini(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut read = Map::new();
    let mut nullable = false;
    let mut order: &[Value] = &[];
    for (key, value) in fields {
        let key = camel_case(key);
        match key.as_str() {
            "type" => {
                let name = value.as_str().unwrap_or_default().to_ascii_lowercase();
                if !matches!(name.as_str(), "" | "type_unspecified") {
                    read.insert(key, json!(name));
                }
            }
            "nullable" => nullable = value == &json!(true),
            "format" if value == "enum" => {}
            "propertyOrdering" => order = value.as_array().map_or(&[], Vec::as_slice),
            "example" => _ = read.insert("examples".into(), json!([value])),
            "items" | "additionalProperties" => _ = read.insert(key, from_gemini(value)),
            "properties" => {
                let all = value.as_object().into_iter().flatten();
                let all = all.map(|(name, schema)| (name.clone(), from_gemini(schema)));
                read.insert(key, Value::Object(all.collect()));
            }
            "anyOf" | "prefixItems" => {
                let all = value.as_array().into_iter().flatten().map(from_gemini);
                read.insert(key, all.collect());
            }
            // Google writes 64-bit numbers as text.
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
                let number = value.as_str().and_then(|text| text.parse::<u64>().ok());
                read.insert(key, number.map_or_else(|| value.clone(), |number| json!(number)));
            }
            _ => _ = read.insert(key, value.clone()),
        }
    }
    if nullable {
        allow_null(&mut read);
    }
    if let Some(Value::Object(properties)) = read.get_mut("properties")
        && !order.is_empty()
    {
        put_in_order(properties, order);
    }
    Value::Object(read)
}

/// Properties in the order that a schema asks for, before those that it does not speak of.
fn put_in_order(properties: &mut Map<String, Value>, order: &[Value]) {
    let places: HashMap<&str, usize> =
        order.iter().filter_map(Value::as_str).enumerate().map(|(place, name)| (name, place)).collect();
    let mut all: Vec<(String, Value)> = std::mem::take(properties).into_iter().collect();
    all.sort_by_key(|(name, _)| places.get(name.as_str()).copied().unwrap_or(usize::MAX));
    properties.extend(all);
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.push(Value::Null);
    }
    if let Some(Value::Array(variants)) = schema.get_mut("anyOf") {
        variants.push(json!({ "type": "null" }));
    } else if let Some(name) = schema.get("type").cloned() {
        schema.insert("type".into(), json!([name, "null"]));
    }
}
