use proptest::prelude::*;

use super::super::super::schemas::arbitrary::schema;
use super::*;

fn written(schema: &Value) -> (Value, Vec<String>) {
    let mut dropped = Vec::new();
    let written = to_gemini(schema, "x", &mut Bounds::default(), &mut dropped);
    (written, dropped.into_iter().map(|d| d.reason.into_owned()).collect())
}

fn kept(schema: &Value) -> Value {
    let (written, dropped) = written(schema);
    assert!(dropped.is_empty(), "{schema}: {dropped:?}");
    written
}

#[test]
fn what_both_can_say_crosses() {
    let rows = [
        (json!({"type": "string"}), json!({"type": "STRING"})),
        (json!({"type": ["string", "null"]}), json!({"type": "STRING", "nullable": true})),
        (
            json!({"type": "integer", "format": "int32", "minimum": 1}),
            json!({"type": "INTEGER", "format": "int32", "minimum": 1}),
        ),
        (json!({"enum": ["a", "b"]}), json!({"type": "STRING", "format": "enum", "enum": ["a", "b"]})),
        (
            json!({"type": ["string", "null"], "enum": ["a", null]}),
            json!({"type": "STRING", "format": "enum", "enum": ["a"], "nullable": true}),
        ),
        (json!({"const": "a"}), json!({"type": "STRING", "format": "enum", "enum": ["a"]})),
        (json!({"type": ["integer", "string"]}), json!({"anyOf": [{"type": "INTEGER"}, {"type": "STRING"}]})),
        (
            json!({"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"}),
            json!({"type": "STRING", "nullable": true, "description": "d"}),
        ),
        (
            json!({"anyOf": [{"type": "string"}, {"type": "number"}]}),
            json!({"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]}),
        ),
        (
            json!({"$schema": "x", "properties": {"a": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}}, "required": ["a", "ghost"]}),
            json!({"type": "OBJECT", "properties": {"a": {"type": "ARRAY", "items": {"type": "BOOLEAN"}, "maxItems": 3}}, "required": ["a"]}),
        ),
        (
            json!({"type": "object", "properties": {"at": {"$ref": "#/$defs/place", "description": "where"}},
                "$defs": {"place": {"type": "string"}}}),
            json!({"type": "OBJECT", "properties": {"at": {"type": "STRING", "description": "where"}}}),
        ),
        (
            json!({"allOf": [
                {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}]}),
            json!({"type": "OBJECT", "properties": {"a": {"type": "STRING"}, "b": {"type": "STRING"}},
                "propertyOrdering": ["a", "b"], "required": ["a", "b"]}),
        ),
        (json!({"type": "object", "properties": {}}), json!({"type": "OBJECT"})),
        (json!({}), json!({})),
        (json!(true), json!({})),
    ];
    for (schema, wanted) in rows {
        assert_eq!(kept(&schema), wanted, "{schema}");
    }
}

#[test]
fn an_order_of_properties_is_asked_for_and_read() {
    let properties = json!({"z": {"type": "string"}, "a": {"type": "string"}, "m": {"type": "string"}});
    let written = kept(&json!({"type": "object", "properties": properties}));
    assert_eq!(written["propertyOrdering"], json!(["z", "a", "m"]));
    let names = |schema: &Value| -> Vec<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(names(&written), ["z", "a", "m"]);
    // Google's own libraries write properties in any order, and beside them the one that is meant.
    for (order, wanted) in [
        (json!(["m", "z", "a"]), ["m", "z", "a"]),
        (json!(["ghost", "a", 7, "a"]), ["a", "z", "m"]),
        (json!([]), ["z", "a", "m"]),
        (json!("z"), ["z", "a", "m"]),
    ] {
        let read = from_gemini(&json!({"properties": properties, "propertyOrdering": order}));
        assert_eq!(names(&read), wanted, "{order}");
        assert_eq!(read.get("propertyOrdering"), None);
    }
}

#[test]
fn what_gemini_cannot_say_is_named() {
    let rows = [
        (
            json!({"type": "object", "additionalProperties": false}),
            json!({"type": "OBJECT"}),
            "additionalProperties",
        ),
        (
            json!({"type": "string", "format": "uri", "description": "A page."}),
            json!({"type": "STRING", "description": "A page. Format: uri."}),
            "format uri (the description says it)",
        ),
        (json!({"type": "boolean", "format": "x"}), json!({"type": "BOOLEAN"}), "format x"),
        (
            json!({"type": "integer", "enum": [1, 2]}),
            json!({"type": "INTEGER"}),
            "enum of other values than texts",
        ),
        (json!({"type": "string", "properties": {}}), json!({"type": "STRING"}), "properties"),
        (
            json!({"type": "array"}),
            json!({"type": "ARRAY", "items": {"type": "STRING"}}),
            "items of any type (text was sent)",
        ),
        (json!({"type": "number", "exclusiveMinimum": 0}), json!({"type": "NUMBER"}), "exclusiveMinimum"),
        (json!({"$ref": "https://x.example/s"}), json!({}), "$ref https://x.example/s"),
        (json!(false), json!({}), "false"),
        (
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            json!({"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]}),
            "oneOf (anyOf was sent)",
        ),
        (
            json!({"type": "object", "properties": {"next": {"$ref": "#"}}}),
            json!({"type": "OBJECT", "properties": {"next": {"type": "OBJECT", "properties": {"next": {"type": "OBJECT"}}}}}),
            "a schema within itself",
        ),
    ];
    for (schema, wanted, word) in rows {
        let (written, dropped) = written(&schema);
        assert_eq!(written, wanted, "{schema}");
        assert_eq!(dropped, [format!("Gemini's schemas cannot say: {word}")], "{schema}");
    }
}

#[test]
fn a_few_references_do_not_become_millions() {
    let mut defs = Map::new();
    for level in 0..40 {
        let below = json!({"$ref": format!("#/$defs/d{}", level + 1)});
        defs.insert(format!("d{level}"), json!({"type": "object", "properties": {"a": below, "b": below}}));
    }
    defs.insert("d40".into(), json!({"type": "string"}));
    let (written, dropped) = written(&json!({"$ref": "#/$defs/d0", "$defs": defs}));
    assert!(written.to_string().len() < 1 << 20);
    assert!(dropped[0].contains("so many schemas"), "{dropped:?}");
}

#[test]
fn a_chain_of_references_ends() {
    let mut defs = Map::new();
    for level in 0..3000 {
        defs.insert(format!("d{level}"), json!({"$ref": format!("#/$defs/d{}", level + 1)}));
    }
    let (written, dropped) = written(&json!({"$ref": "#/$defs/d0", "$defs": defs}));
    assert_eq!(written, json!({}));
    assert_eq!(dropped, ["Gemini's schemas cannot say: schemas so deep in one"]);
}

#[test]
fn what_is_referred_to_is_written_out_within_bounds() {
    let names: Vec<String> = (0..10_000).map(|name| format!("name{name}")).collect();
    let properties: Map<String, Value> =
        (0..1000).map(|name| (format!("p{name}"), json!({"$ref": "#/$defs/names"}))).collect();
    let schema = json!({"properties": properties, "$defs": {"names": {"enum": names}}});
    let (written, dropped) = written(&schema);
    assert!(written.to_string().len() < 1 << 21);
    assert!(dropped[0].contains("so many schemas"), "{dropped:?}");
    // Types that are named more than once are no more types.
    let (written, _) = self::written(&json!({"type": vec!["string"; 1000]}));
    assert_eq!(written, json!({"type": "STRING"}));
}

#[test]
fn a_schema_of_geminis_becomes_json_schema() {
    let schema = json!({
        "type": "OBJECT", "property_ordering": ["b", "a"], "required": ["a"],
        "properties": {
            "a": {"type": "STRING", "nullable": true, "format": "enum", "enum": ["x"]},
            "b": {"type": "array", "items": {"type": "INTEGER", "format": "int32"}, "min_items": "2"},
            "any_of": {"any_of": [{"type": "STRING"}, {"type": "NUMBER"}], "nullable": true},
        },
    });
    assert_eq!(
        from_gemini(&schema),
        json!({
            "type": "object", "required": ["a"],
            "properties": {
                "a": {"type": ["string", "null"], "enum": ["x", null]},
                "b": {"type": "array", "items": {"type": "integer", "format": "int32"}, "minItems": 2},
                "any_of": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
            },
        })
    );
}

/// Schemas of what both have words for.
fn common() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "string", "maxLength": 9})),
        Just(json!({"type": "integer", "minimum": 0})),
        Just(json!({"type": ["number", "null"]})),
        Just(json!({"type": "string", "enum": ["a", "b"]})),
        Just(json!({"type": "boolean", "description": "d"})),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            prop::collection::btree_map("[a-z]{1,3}", inner.clone(), 1..4).prop_map(|properties| {
                let required: Vec<_> = properties.keys().take(1).cloned().collect();
                json!({"type": "object", "properties": properties, "required": required})
            }),
            prop::collection::vec(inner, 2..4).prop_map(|variants| json!({"anyOf": variants})),
        ]
    })
}

proptest! {
    #[test]
    fn there_and_back_is_the_same(schema in common()) {
        let (written, dropped) = written(&schema);
        prop_assert_eq!(dropped, Vec::<String>::new());
        prop_assert_eq!(from_gemini(&written), schema);
    }

    #[test]
    fn no_schema_is_too_odd(schema in schema()) {
        let (written, _) = written(&schema);
        from_gemini(&written);
        from_gemini(&schema);
    }
}

/// There may be any number of tools.
#[test]
fn the_schemas_of_a_request_share_their_bounds() {
    let thrice = |next: &str| {
        let reference = json!({ "$ref": format!("#/$defs/{next}") });
        json!({ "properties": { "x": reference, "y": reference, "z": reference } })
    };
    let mut definitions = Map::from_iter([("level8".to_owned(), json!({ "type": "string" }))]);
    definitions.extend((0..8).map(|i| (format!("level{i}"), thrice(&format!("level{}", i + 1)))));
    let schema = json!({ "$ref": "#/$defs/level0", "$defs": definitions });
    let (mut bounds, mut dropped) = (Bounds::default(), Vec::new());
    let sizes: Vec<usize> =
        (0..50).map(|_| to_gemini(&schema, "x", &mut bounds, &mut dropped).to_string().len()).collect();
    assert!(bounds.spent());
    assert!(sizes[0] > 10_000 && sizes[49] < 1000, "{sizes:?}");
    assert!(dropped.last().is_some_and(|last| last.reason.contains("so many schemas")));
}
