//! How large a schema is once its references are written out.
//!
//! A few lines that refer to themselves under `anyOf` cost a validator exponential time. So a schema may not refer to
//! itself, and what its references add up to is bounded: then the time of a check is bounded by the document.

use std::collections::HashMap;

use serde_json::Value;

/// The most places that a written-out schema may have.
const PLACES: u64 = 5_000;

/// Refuses a schema whose checks could take longer than its document explains.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let mut measure = Measure { schema, known: HashMap::new(), under_way: Vec::new() };
    match measure.places(schema)? {
        places if places > PLACES => Err(format!("written out it has more than {PLACES} places")),
        _ => Ok(()),
    }
}

struct Measure<'s> {
    schema: &'s Value,
    /// What references lead to, once that is known.
    known: HashMap<String, u64>,
    under_way: Vec<String>,
}

impl Measure<'_> {
    fn places(&mut self, node: &Value) -> Result<u64, String> {
        match node {
            Value::Object(fields) => {
                let mut sum = 1_u64;
                for (name, value) in fields {
                    sum = sum.saturating_add(match (name.as_str(), value) {
                        ("$ref", Value::String(reference)) => self.referred(reference)?,
                        ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                            return Err(format!("`{name}` is not supported"));
                        }
                        _ => self.places(value)?,
                    });
                }
                Ok(sum)
            }
            Value::Array(items) => {
                items.iter().try_fold(1_u64, |sum, item| Ok(sum.saturating_add(self.places(item)?)))
            }
            _ => Ok(1),
        }
    }

    fn referred(&mut self, reference: &str) -> Result<u64, String> {
        if let Some(places) = self.known.get(reference) {
            return Ok(*places);
        }
        if self.under_way.iter().any(|above| above == reference) {
            return Err(format!("{reference} refers to itself"));
        }
        let pointer =
            reference.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let target = pointer.and_then(|pointer| self.schema.pointer(pointer));
        let target =
            target.ok_or_else(|| format!("{reference} is not a place inside it, such as #/$defs/name"))?;
        self.under_way.push(reference.to_owned());
        let places = self.places(target);
        self.under_way.pop();
        let places = places?;
        self.known.insert(reference.to_owned(), places);
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_refers_to_itself_is_refused() {
        let twice = json!({ "$ref": "#/$defs/a" });
        for (schema, why) in [
            (
                json!({ "$defs": { "a": { "anyOf": [{ "items": twice }, { "items": twice }] } }, "$ref": "#/$defs/a" }),
                "refers to itself",
            ),
            (json!({ "properties": { "next": { "$ref": "#" } } }), "refers to itself"),
            (json!({ "$ref": "#name" }), "not a place inside"),
            (json!({ "$ref": "https://example.com/x" }), "not a place inside"),
            (json!({ "$ref": "#/$defs/absent" }), "not a place inside"),
            (json!({ "$dynamicRef": "#x" }), "not supported"),
        ] {
            let refused = check(&schema).expect_err("refused");
            assert!(refused.contains(why), "{schema}: {refused}");
        }
    }

    #[test]
    fn what_doubles_at_each_step_is_refused() {
        let mut definitions = serde_json::Map::new();
        for step in 0..40 {
            let next = json!({ "$ref": format!("#/$defs/s{}", step + 1) });
            definitions.insert(format!("s{step}"), json!({ "anyOf": [next, next] }));
        }
        definitions.insert("s40".to_owned(), json!({ "type": "string" }));
        let schema = json!({ "$defs": definitions, "$ref": "#/$defs/s0" });
        assert!(check(&schema).expect_err("refused").contains("places"));
    }

    #[test]
    fn an_ordinary_schema_is_fine() {
        let schema = json!({
            "type": "object",
            "properties": { "a": { "$ref": "#/$defs/text" }, "b": { "items": { "$ref": "#/$defs/text" } } },
            "$defs": { "text": { "type": "string", "maxLength": 10 } },
        });
        assert_eq!(check(&schema), Ok(()));
    }
}
