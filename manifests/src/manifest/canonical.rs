//! The canonical bytes of a manifest.

use serde_json::Value;

use super::Manifest;

/// JSON without spaces, keys sorted by their bytes at every level. Numbers are canonical since parsing, and strings
/// are escaped as `serde_json` does it: only what JSON demands.
pub(super) fn bytes(manifest: &Manifest) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "all keys are text and no Serialize impl here fails")]
    let value = serde_json::to_value(manifest).expect("a manifest is JSON");
    let mut out = String::new();
    write(&value, &mut out);
    out.into_bytes()
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        // Sorted here and not left to the map: a feature of serde_json keeps insertion order instead.
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}
