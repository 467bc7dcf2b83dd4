//! Other values at a few places of a JSON text, every other byte of which stays.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;

use super::texts::Step;
use crate::bounded;

/// A value that is to be replaced.
pub(super) struct Change {
    pub(super) path: Vec<Step>,
    /// The new text; `None` for null. What is not there becomes nothing.
    pub(super) value: Option<String>,
}

/// Changes that are looked for in the text one by one. An event with more is nobody's delta, and written anew.
const MOST: usize = 32;

/// Makes the changes in `json`, and in the `tree` that it was parsed to.
pub(super) fn spliced(json: &str, changes: Vec<Change>, tree: &mut Value) -> String {
    let mut places = Vec::with_capacity(changes.len());
    let mut found = changes.len() <= MOST;
    // A name with half of a sign in it is no reason not to find another. Every byte is where it was.
    let mended = bounded::mended(json.as_bytes()).and_then(|text| String::from_utf8(text).ok());
    let readable = mended.as_deref().unwrap_or(json);
    for Change { path, value } in changes {
        let place = if found { locate(readable, &path) } else { None };
        // Trees are made without log probabilities.
        found &= place.is_some() || value.is_none();
        let value = Value::from(value);
        places.extend(place.map(|place| (place, value.to_string())));
        if let Some(old) = find(tree, &path) {
            *old = value;
        }
    }
    if !found {
        return tree.to_string();
    }
    places.sort_by_key(|(place, _)| place.start);
    let mut out = String::with_capacity(json.len());
    let mut at = 0;
    for (place, value) in places {
        out.push_str(&json[at..place.start]);
        out.push_str(&value);
        at = place.end;
    }
    out.push_str(&json[at..]);
    out
}

fn find<'t>(tree: &'t mut Value, path: &[Step]) -> Option<&'t mut Value> {
    path.iter().try_fold(tree, |tree, step| match step {
        Step::Key(key) => tree.get_mut(*key),
        Step::At(at) => tree.get_mut(*at),
    })
}

/// Where in `json` the value stands.
fn locate(json: &str, path: &[Step]) -> Option<Range<usize>> {
    let mut value = json;
    for step in path {
        let inner: Option<&RawValue> = match step {
            // Of fields of the same name the last counts, as in trees.
            Step::Key(key) => {
                serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(value).ok()?.remove(*key)
            }
            Step::At(at) => serde_json::from_str::<Vec<&RawValue>>(value).ok()?.get(*at).copied(),
        };
        value = inner?.get();
    }
    // A slice of it.
    let start = value.as_ptr().addr().checked_sub(json.as_ptr().addr())?;
    Some(start..start + value.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_replaced_changes() {
        let json = r#" {"z" : 1.0,"c\u0068":[ 7, {"t": "a\u00e9\"" , "n":2e3} ],"p":{"q":[1]}, "big":12345678901234567890123} "#;
        let mut tree: Value = serde_json::from_str(json).unwrap();
        let text = vec![Step::Key("ch"), Step::At(1), Step::Key("t")];
        let changes = vec![
            Change { path: vec![Step::Key("p")], value: None },
            Change { path: text, value: Some("\"é\n".to_owned()) },
        ];
        let out = spliced(json, changes, &mut tree);
        let wanted = r#" {"z" : 1.0,"c\u0068":[ 7, {"t": "\"é\n" , "n":2e3} ],"p":null, "big":12345678901234567890123} "#;
        assert_eq!(out, wanted);
        assert_eq!((&tree["ch"][1]["t"], &tree["p"]), (&json!("\"é\n"), &Value::Null));
    }

    #[test]
    fn half_of_a_sign_stays_as_it_is_beside_what_is_replaced() {
        let json = r#"{"\ud83d":1,"t":"a\ud83d","u":"\ude00","logprobs":[2]}"#;
        let mut tree = bounded::event(json).unwrap();
        let change =
            |key, value: Option<&str>| Change { path: vec![Step::Key(key)], value: value.map(str::to_owned) };
        let changes = vec![change("t", Some("x")), change("logprobs", None)];
        assert_eq!(spliced(json, changes, &mut tree), r#"{"\ud83d":1,"t":"x","u":"\ude00","logprobs":null}"#);
    }

    #[test]
    fn of_two_fields_of_the_same_name_the_one_that_counts_is_replaced() {
        let json = r#"{"t":"a","t":"b"}"#;
        let mut tree: Value = serde_json::from_str(json).unwrap();
        let changes = vec![Change { path: vec![Step::Key("t")], value: Some("x".to_owned()) }];
        assert_eq!(spliced(json, changes, &mut tree), r#"{"t":"a","t":"x"}"#);
    }

    #[test]
    fn many_changes_are_made_at_once() {
        let texts: Vec<Value> = (0..20_000).map(|at| json!({ "t": at.to_string() })).collect();
        let mut tree = json!({ "a": texts });
        let change = |at| Change {
            path: vec![Step::Key("a"), Step::At(at), Step::Key("t")],
            value: Some(format!("x{at}")),
        };
        let out = spliced(&tree.to_string(), (0..20_000).map(change).collect(), &mut tree);
        assert_eq!((out, &tree["a"][19_999]["t"]), (tree.to_string(), &json!("x19999")));
    }

    #[test]
    fn what_is_not_there_is_not_made() {
        let json = r#"{"a":[{}]}"#;
        let mut tree: Value = serde_json::from_str(json).unwrap();
        let path = vec![Step::Key("a"), Step::At(0), Step::Key("logprobs")];
        assert_eq!(spliced(json, vec![Change { path, value: None }], &mut tree), json);
        assert_eq!(tree, json!({"a": [{}]}));
    }
}
