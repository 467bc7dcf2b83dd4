//! The JSON Schema of manifests, generated from the types.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{Manifest, Supported};
use crate::identity::Slug;

pub(super) fn manifest_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(without_null);
    let mut schema = settings.into_generator().into_root_schema_for::<Manifest>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("$id".into(), "https://orch.run/schema/orch.schema.json".into());
    }
    sorted(schema)
}

/// Optional fields may be absent, but a field without a value is an error, so `null` is never allowed.
fn without_null(schema: &mut Schema) {
    schemars::transform::transform_subschemas(&mut without_null, schema);
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    let null = |schema: &Value| schema.get("type").is_some_and(|name| name == "null");
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| !null(choice));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (key, value) in only {
                schema.insert(key, value);
            }
        }
    }
}

/// Sorted keys at every level, so that the committed copy does not depend on features of serde_json.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        scalar => scalar,
    }
}

impl JsonSchema for Supported {
    fn schema_name() -> Cow<'static, str> {
        "SupportedProviders".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let slug = generator.subschema_for::<Slug>();
        json_schema!({
            "anyOf": [
                {"const": "any"},
                {"type": "array", "items": slug, "uniqueItems": true},
            ],
        })
    }
}

/// Stand-ins that describe how a field is written where its type is another crate's.
macro_rules! written_form {
    ($($type:ident => $schema:tt)*) => {$(
        pub(super) struct $type;

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

written_form! {
    VersionText => {
        "type": "string",
        "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?(\\+[0-9A-Za-z.-]+)?$",
        "examples": ["1.2.0"],
    }
    ModuleText => {
        "type": "string",
        "pattern": "^(\\./)?([^/\\\\:.][^/\\\\:]*/)*[^/\\\\:.][^/\\\\:]*\\.wasm$",
        "examples": ["agent.wasm"],
    }
    SchemaText => {
        "type": ["object", "boolean"],
    }
    MethodText => {
        "type": "string",
        "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
    }
    GuestPathText => {
        "type": "string",
        "pattern": "^/[^\\\\]*$",
        "examples": ["/data"],
    }
}
