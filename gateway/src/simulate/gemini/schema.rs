//! Schemas, checked as the provider checks them: OpenAPI's words, and not many of them.

use serde_json::{Map, Value, json};

use crate::simulate::failure::Reject;

const FIELDS: &[&str] = &[
    "anyOf",
    "default",
    "description",
    "enum",
    "example",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "pattern",
    "properties",
    "propertyOrdering",
    "required",
    "title",
    "type",
];

/// Checks a schema and returns it as the rest of the simulation reads schemas.
///
/// # Errors
/// What the provider would find fault with, in its words.
pub(super) fn check_schema(schema: &Value, place: &str) -> Result<Value, Reject> {
    let bad = |what: &str| Err(Reject::bad(format!("* GenerateContentRequest.{place}{what}\n")));
    let Some(fields) = schema.as_object() else { return bad(": not a schema") };
    if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(Reject::bad(format!(
            "Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."
        )));
    }
    let mut read = Map::new();
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    if !matches!(kind, "" | "STRING" | "NUMBER" | "INTEGER" | "BOOLEAN" | "ARRAY" | "OBJECT") {
        return bad(&format!(".type: \"{kind}\" is no type"));
    }
    if !kind.is_empty() {
        read.insert("type".into(), json!(kind.to_ascii_lowercase()));
    }
    let top = place.ends_with(".parameters");
    if top
        && kind == "OBJECT"
        && fields.get("properties").and_then(Value::as_object).is_none_or(Map::is_empty)
    {
        return bad(".properties: should be non-empty for OBJECT type");
    }
    let properties = fields.get("properties").and_then(Value::as_object);
    if kind != "OBJECT" && (properties.is_some() || fields.contains_key("required")) {
        return bad(".properties: only allowed for OBJECT type");
    }
    if let Some(values) = fields.get("enum") {
        if kind != "STRING" || !values.as_array().is_some_and(|all| all.iter().all(Value::is_string)) {
            return bad(".enum: only allowed for STRING type");
        }
        read.insert("enum".into(), values.clone());
    }
    match (kind, fields.get("format").and_then(Value::as_str)) {
        (_, None)
        | ("STRING", Some("enum" | "date-time"))
        | ("NUMBER", Some("float" | "double"))
        | ("INTEGER", Some("int32" | "int64")) => {}
        ("STRING", Some(_)) => {
            return bad(".format: only 'enum' and 'date-time' are supported for STRING type");
        }
        (_, Some(_)) => return bad(".format: not supported for this type"),
    }
    if kind == "ARRAY" {
        let Some(items) = fields.get("items") else { return bad(".items: missing field.") };
        read.insert("items".into(), check_schema(items, &format!("{place}.items"))?);
    }
    for name in fields.get("required").and_then(Value::as_array).into_iter().flatten() {
        if !name.as_str().is_some_and(|name| properties.is_some_and(|known| known.contains_key(name))) {
            return bad(".required[0]: property is not defined");
        }
    }
    if let Some(properties) = properties {
        let mut checked = Map::new();
        for (name, schema) in properties {
            checked.insert(name.clone(), check_schema(schema, &format!("{place}.properties[{name}]"))?);
        }
        read.insert("properties".into(), Value::Object(checked));
    }
    if let Some(variants) = fields.get("anyOf").and_then(Value::as_array) {
        let checked = variants.iter().map(|schema| check_schema(schema, &format!("{place}.any_of")));
        read.insert("anyOf".into(), checked.collect::<Result<_, _>>()?);
    }
    for key in ["required", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "default"]
    {
        if let Some(value) = fields.get(key) {
            read.insert(key.into(), value.clone());
        }
    }
    // A model reads descriptions: what they say of a format counts, although the provider has no field for it.
    let described =
        fields.get("description").and_then(Value::as_str).and_then(|said| said.split_once("Format: "));
    if let Some((_, format)) = described {
        read.insert("format".into(), json!(format.trim_end_matches('.')));
    }
    Ok(Value::Object(read))
}
