//! What the writers of schemas share: schemas that others stand for are written out in place, within bounds.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Schemas within each other, references followed. JSON in a request nests them half as deep at most.
const DEEPEST: u8 = 96;

/// Bytes, about, that are written out in place of what stands for them: a few references can stand for any number.
const MOST: usize = 1 << 20;

/// What any value counts for, whatever is in it.
const OF_ANY: usize = 8;

/// Words that are named one by one.
const MOST_WORDS: usize = 32;

/// How much may be written out yet.
#[derive(Debug)]
pub(super) struct Bounds {
    deep: u8,
    left: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { deep: 0, left: MOST }
    }
}

impl Bounds {
    /// Goes into a schema, which [`Bounds::leave`] leaves; `false` where that would be too deep.
    #[must_use]
    pub(super) fn enter(&mut self) -> bool {
        let fits = self.deep < DEEPEST;
        self.deep += u8::from(fits);
        fits
    }

    /// Leaves the schema that was entered last.
    pub(super) fn leave(&mut self) {
        self.deep -= 1;
    }

    /// Whether this may be written out in place of what stands for it. After the first one that is too much, none may.
    #[must_use]
    pub(super) fn takes(&mut self, schema: &Map<String, Value>) -> bool {
        if self.left == 0 {
            return false;
        }
        let left = self.left.checked_sub(OF_ANY + size_of_fields(schema));
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Whether nothing more may be written out in place.
    pub(super) fn spent(&self) -> bool {
        self.left == 0
    }
}

fn size(value: &Value) -> usize {
    OF_ANY
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(size).sum(),
            Value::Object(fields) => size_of_fields(fields),
        }
}

fn size_of_fields(fields: &Map<String, Value>) -> usize {
    fields.iter().map(|(key, value)| key.len() + size(value)).sum()
}

/// What of a schema could not be written.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    words: BTreeSet<String>,
    more: bool,
}

impl LeftOut {
    /// Names something.
    pub(super) fn add(&mut self, what: &str) {
        let word: String = what.chars().take(64).collect();
        if self.words.len() < MOST_WORDS {
            self.words.insert(word);
        } else if !self.words.contains(&word) {
            self.more = true;
        }
    }

    /// All of it, in words; `None` where nothing was left out.
    pub(super) fn said(&self) -> Option<String> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let more = if self.more { " and more" } else { "" };
        (!words.is_empty()).then(|| format!("{}{more}", words.join(", ")))
    }
}

/// A schema and all that have to hold beside it (`allOf`, and what that refers to), as one. Where two say different
/// things the first one holds, and `lose` is told of the other. `None` where that is too much: parts that come to nothing
/// take their time as well, so that each of them counts.
pub(super) fn merged<'s>(
    root: &'s Value,
    fields: &'s Map<String, Value>,
    bounds: &mut Bounds,
    lose: &mut dyn FnMut(&str),
) -> Option<Map<String, Value>> {
    let mut merged = Map::new();
    let mut waiting: Vec<&'s Map<String, Value>> = vec![fields];
    // What holds already need not hold again, so that references in a circle end.
    let mut followed: BTreeSet<&'s str> = BTreeSet::new();
    while let Some(part) = waiting.pop() {
        if !bounds.takes(part) {
            return None;
        }
        for (key, value) in part {
            if key == "allOf"
                && let Value::Array(parts) = value
            {
                waiting.extend(parts.iter().rev().filter_map(Value::as_object));
                continue;
            }
            if key == "$ref"
                && let Value::String(target) = value
                && let Some(found) = referred(root, target).and_then(Value::as_object)
            {
                if followed.insert(target) {
                    waiting.push(found);
                }
                continue;
            }
            match (merged.get_mut(key), value) {
                (None, _) => _ = merged.insert(key.clone(), value.clone()),
                (Some(Value::Object(known)), Value::Object(more)) if key == "properties" => {
                    add_properties(known, more, lose);
                }
                (Some(Value::Array(known)), Value::Array(more)) if key == "required" => {
                    known.extend(more.iter().cloned());
                }
                (Some(known), value) if known == value => {}
                (Some(_), _) => lose(&format!("{key} twice in allOf")),
            }
        }
    }
    Some(merged)
}

fn add_properties(known: &mut Map<String, Value>, more: &Map<String, Value>, lose: &mut dyn FnMut(&str)) {
    for (name, schema) in more {
        match known.get(name) {
            None => _ = known.insert(name.clone(), schema.clone()),
            Some(same) if same == schema => {}
            Some(_) => lose("a property twice in allOf"),
        }
    }
}

/// What a reference within the same document refers to.
pub(super) fn referred<'s>(root: &'s Value, target: &str) -> Option<&'s Value> {
    root.pointer(target.strip_prefix('#')?)
}

#[cfg(test)]
pub(super) mod arbitrary {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Any JSON at all under a schema's keywords.
    pub(in crate::dialect) fn schema() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "(string|object|null|#/\\$defs/a|#|)".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let keys = "(type|\\$ref|\\$defs|a|anyOf|oneOf|allOf|enum|const|items|properties|required|format|nullable|minimum)";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(keys, inner, 0..5).prop_map(|map| json!(map)),
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(schema: &Value) -> (Value, Vec<String>) {
        let mut lost = Vec::new();
        let fields = schema.as_object().unwrap();
        let whole = merged(schema, fields, &mut Bounds::default(), &mut |what| lost.push(what.to_owned()));
        (Value::Object(whole.unwrap()), lost)
    }

    #[test]
    fn what_has_to_hold_together_becomes_one() {
        let schema = json!({
            "properties": { "kind": { "const": "cat" } },
            "allOf": [{ "$ref": "#/$defs/pet", "description": "d" }, { "required": ["kind"] }],
            "$defs": {
                "pet": { "allOf": [{ "$ref": "#/$defs/named" }], "properties": { "age": { "type": "integer" } } },
                "named": { "properties": { "name": { "type": "string" }, "kind": { "type": "string" } } },
            },
        });
        let (mut whole, lost) = of(&schema);
        whole.as_object_mut().unwrap().remove("$defs");
        assert_eq!(
            whole,
            json!({ "description": "d", "required": ["kind"], "properties": {
                "age": { "type": "integer" }, "kind": { "const": "cat" }, "name": { "type": "string" } } })
        );
        assert_eq!(lost, ["a property twice in allOf"]);
    }

    #[test]
    fn parts_that_come_to_nothing_count() {
        let part = json!({ "allOf": [{ "type": "string" }, { "type": "integer" }] });
        let mut bounds = Bounds::default();
        let mut lost = 0;
        let mut times = 0;
        while merged(&part, part.as_object().unwrap(), &mut bounds, &mut |_| lost += 1).is_some() {
            times += 1;
        }
        assert!(bounds.spent() && times < MOST / OF_ANY && lost <= times + 1, "{times}, {lost}");
        assert!(times > 1000, "{times}");
    }

    #[test]
    fn a_circle_ends() {
        let schema = json!({ "allOf": [{ "$ref": "#" }, { "$ref": "#" }], "required": ["a"] });
        assert_eq!(of(&schema), (json!({ "required": ["a", "a"] }), vec![]));
    }

    #[test]
    fn not_everything_is_named() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.said(), None);
        left_out.add(&"x".repeat(100));
        assert_eq!(left_out.said(), Some("x".repeat(64)));
        for word in 0..100 {
            left_out.add(&word.to_string());
        }
        let said = left_out.said().unwrap();
        assert!(said.ends_with(" and more") && said.len() < 200, "{said}");
    }

    #[test]
    fn after_too_much_nothing_is_taken() {
        let mut bounds = Bounds::default();
        let fields = |bytes: usize| Map::from_iter([("a".to_owned(), json!("x".repeat(bytes)))]);
        assert!(bounds.takes(&fields(9)) && !bounds.spent());
        assert!(!bounds.takes(&fields(MOST)) && bounds.spent());
        assert!(!bounds.takes(&fields(1)));
    }
}
