use proptest::prelude::*;

use super::super::super::schemas::arbitrary::schema;
use super::*;

fn written(schema: &Value) -> (Value, Vec<String>) {
    let mut dropped = Vec::new();
    let written = to_claude(schema, &mut dropped);
    (written, dropped.into_iter().map(|d| d.reason.into_owned()).collect())
}

/// An object with this one property.
fn holding(schema: &Value) -> Value {
    json!({ "type": "object", "properties": { "a": schema }, "additionalProperties": false })
}

#[test]
fn what_claude_keeps_to_stays() {
    let definitions = json!({ "place": { "type": "string", "format": "hostname" } });
    for schema in [
        json!({ "type": "string" }),
        json!({ "type": ["string", "null"], "title": "t", "description": "d", "default": null }),
        json!({ "type": "string", "enum": ["a", "b"] }),
        json!({ "type": "integer", "enum": [1, 2] }),
        json!({ "type": "string", "const": "a" }),
        json!({ "type": "string", "format": "date" }),
        json!({ "type": "string", "pattern": "^\\d{5}$" }),
        json!({ "type": "array", "items": { "type": "boolean" }, "minItems": 1 }),
        json!({ "anyOf": [{ "type": "string" }, { "type": "null" }], "default": null }),
        json!({ "type": "object", "properties": {}, "additionalProperties": false }),
        json!({ "type": "object", "required": ["a"], "additionalProperties": false,
            "properties": { "a": { "$ref": "#/$defs/place" }, "b": { "$ref": "#/$defs/place" } }, "$defs": definitions }),
        json!({ "$ref": "#/definitions/place", "definitions": definitions }),
    ] {
        assert_eq!(written(&schema), (schema.clone(), vec![]), "{schema}");
        assert_eq!(unsayable(&schema), None, "{schema}");
    }
}

#[test]
fn what_means_the_same_is_written_so_that_it_is_taken() {
    let rows = [
        (
            json!({ "$schema": "s", "properties": { "a": { "type": "string" } }, "required": ["a", "a"] }),
            json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"],
                "additionalProperties": false }),
        ),
        (json!({ "type": "string", "nullable": true }), json!({ "type": ["string", "null"] })),
        (
            json!({ "type": ["string", "null"], "enum": ["a", "b", null], "description": "d" }),
            json!({ "anyOf": [{ "type": "string", "enum": ["a", "b"] }, { "type": "null" }], "description": "d" }),
        ),
        (json!({ "type": "string", "enum": ["a", null] }), json!({ "type": "string", "enum": ["a"] })),
        (
            json!({ "enum": ["a", 1, 1.5] }),
            json!({ "anyOf": [{ "type": "string", "enum": ["a"] }, { "type": "integer", "enum": [1] },
                { "type": "number", "enum": [1.5] }] }),
        ),
        (json!({ "const": true }), json!({ "type": "boolean", "const": true })),
        (json!({ "type": "number", "const": 1 }), json!({ "type": "number", "const": 1 })),
        (
            json!({ "type": ["string", "null"], "format": "date" }),
            json!({ "anyOf": [{ "type": "string", "format": "date" }, { "type": "null" }] }),
        ),
        (
            json!({ "type": "object", "properties": { "at": { "$ref": "#/$defs/place", "description": "where" } },
                "$defs": { "place": { "type": "string", "description": "a place" }, "unused": {} } }),
            json!({ "type": "object", "properties": { "at": { "type": "string", "description": "where" } },
                "additionalProperties": false }),
        ),
        (
            json!({ "allOf": [{ "$ref": "#/$defs/a" }, { "properties": { "b": { "type": "string" } } }],
                "$defs": { "a": holding(&json!({ "type": "string" })) } }),
            json!({ "type": "object", "additionalProperties": false,
                "properties": { "a": { "type": "string" }, "b": { "type": "string" } } }),
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
                "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] }),
            json!({ "anyOf": [
                { "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
                    "required": ["a"], "additionalProperties": false },
                { "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
                    "required": ["b"], "additionalProperties": false },
            ] }),
        ),
    ];
    for (schema, wanted) in rows {
        assert_eq!(written(&schema), (wanted, vec![]), "{schema}");
    }
}

#[test]
fn what_claude_cannot_say_is_told_to_it_and_named() {
    let rows = [
        (
            json!({ "type": "integer", "description": "A number", "maximum": 10, "minimum": 1 }),
            json!({ "type": "integer", "description": "A number\n\n{maximum: 10, minimum: 1}" }),
            "maximum (the description says it), minimum (the description says it)",
        ),
        (
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 2 }),
            json!({ "type": "array", "items": { "type": "string" }, "description": "{minItems: 2}" }),
            "minItems (the description says it)",
        ),
        (
            json!({ "type": "string", "format": "iban" }),
            json!({ "type": "string", "description": "{format: \"iban\"}" }),
            "format (the description says it)",
        ),
        (
            json!({ "type": "string", "pattern": "(?i)a" }),
            json!({ "type": "string", "description": "{pattern: \"(?i)a\"}" }),
            "pattern (the description says it)",
        ),
        (
            json!({ "type": ["null", "string"], "maxLength": 5 }),
            json!({ "type": ["null", "string"], "description": "{maxLength: 5}" }),
            "maxLength (the description says it)",
        ),
        (
            json!({ "oneOf": [{ "type": "string" }, { "type": "number" }], "discriminator": { "propertyName": "a" } }),
            json!({ "anyOf": [{ "type": "string" }, { "type": "number" }] }),
            "discriminator, oneOf (anyOf was sent)",
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "null" } }, "additionalProperties": true }),
            holding(&json!({ "type": "null" })),
            "additionalProperties",
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "null" } }, "required": ["b"] }),
            holding(&json!({ "type": "null" })),
            "required keys that are not described",
        ),
        (
            json!({ "enum": ["a", ["b"]] }),
            json!({ "type": "string", "enum": ["a"] }),
            "enum of arrays and objects",
        ),
    ];
    for (schema, wanted, words) in rows {
        let said = vec![format!("Claude's schemas cannot say: {words}")];
        assert_eq!(written(&schema), (wanted, said), "{schema}");
    }
}

#[test]
fn what_claude_takes_in_no_form_stays_as_it_is() {
    let tree = json!({ "$ref": "#/$defs/node", "$defs": { "node": {
        "type": "object", "properties": { "children": { "type": "array", "items": { "$ref": "#/$defs/node" } } } } } });
    let mut deep = Map::new();
    for level in 0..3000 {
        deep.insert(format!("d{level}"), json!({ "$ref": format!("#/$defs/d{}", level + 1) }));
    }
    deep.insert("d3000".into(), json!({ "type": "string" }));
    let mut wide = Map::new();
    for level in 0..40 {
        let below = json!({ "$ref": format!("#/$defs/d{}", level + 1), "description": "d" });
        wide.insert(
            format!("d{level}"),
            json!({ "type": "object", "properties": { "a": below, "b": below } }),
        );
    }
    wide.insert("d40".into(), json!({ "type": "string" }));
    let rows = [
        (tree, WITHIN_ITSELF),
        (holding(&json!({ "$ref": "#" })), WITHIN_ITSELF),
        (holding(&json!({ "allOf": [{ "$ref": "#" }] })), TOO_LARGE),
        (holding(&json!({ "$ref": "https://x.example/s" })), ELSEWHERE),
        (holding(&json!({})), ANY_VALUE),
        (holding(&json!(true)), ANY_VALUE),
        (holding(&json!({ "description": "d" })), ANY_VALUE),
        (holding(&json!({ "type": "string", "enum": [1] })), NO_VALUE),
        (json!({ "type": "object" }), ANY_KEYS),
        (json!({ "type": "object", "additionalProperties": { "type": "string" } }), ANY_KEYS),
        (json!({ "$ref": "#/$defs/d0", "$defs": deep }), TOO_LARGE),
        (json!({ "$ref": "#/$defs/d0", "$defs": wide }), TOO_LARGE),
    ];
    for (schema, why) in rows {
        assert_eq!(unsayable(&schema), Some(why), "{why}");
        assert_eq!(written(&schema), (schema.clone(), vec![]), "{why}");
    }
}

/// What the provider refuses, wherever it stands.
fn is_taken(schema: &Value) -> bool {
    let Some(fields) = schema.as_object() else { return false };
    let kind = fields.get("type").and_then(Value::as_str);
    let closed = fields.get("additionalProperties") == Some(&json!(false));
    let within = fields.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(_, s)| s);
    let variants = fields.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let items = fields.get("items");
    let defined = fields.get("$defs").and_then(Value::as_object).into_iter().flatten().map(|(_, s)| s);
    (kind != Some("object") || closed)
        && ["type", "anyOf", "$ref"].iter().filter(|key| fields.contains_key(**key)).count() == 1
        && ["allOf", "oneOf", "minimum", "maxItems", "nullable"].iter().all(|key| !fields.contains_key(*key))
        && within.chain(variants).chain(items).chain(defined).all(is_taken)
}

proptest! {
    #[test]
    fn what_is_written_is_taken(schema in schema()) {
        if let Ok((written, _)) = write(&schema) {
            prop_assert!(is_taken(&written), "{} of {}", written, schema);
            prop_assert_eq!(unsayable(&written), None);
        }
    }
}

/// What stands beside a reference goes along a whole chain of them.
#[test]
fn what_stands_beside_a_chain_of_references_is_bounded() {
    let chain = |values: usize| {
        let mut definitions = Map::from_iter([("a90".to_owned(), json!({ "type": "string" }))]);
        definitions
            .extend((0..90).map(|i| (format!("a{i}"), json!({ "$ref": format!("#/$defs/a{}", i + 1) }))));
        let values: Vec<Value> = (0..values).map(|i| json!(format!("value {i}"))).collect();
        json!({ "$ref": "#/$defs/a0", "enum": values, "$defs": definitions })
    };
    assert_eq!(unsayable(&chain(10)), None);
    assert_eq!(unsayable(&chain(5000)), Some(TOO_LARGE));
}
