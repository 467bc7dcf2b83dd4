//! JSON credentials, field by field: what is wrong with one is said by the field's name, and never with a value.

use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

use crate::redact;

/// A field that a credential may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
}

impl Field {
    pub(crate) const fn required(name: &'static str) -> Self {
        Self { name, required: true }
    }

    pub(crate) const fn optional(name: &'static str) -> Self {
        Self { name, required: false }
    }
}

/// The texts of a credential, by field. Wiped when dropped.
pub(crate) struct Texts(Vec<(&'static str, Zeroizing<String>)>);

impl Texts {
    /// Takes a field out; an empty text where there is none, which a required field never is.
    pub(crate) fn take(&mut self, name: &str) -> Zeroizing<String> {
        self.take_some(name).unwrap_or_default()
    }

    /// Takes a field out that may be missing.
    pub(crate) fn take_some(&mut self, name: &str) -> Option<Zeroizing<String>> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Whether this is a JSON credential, or was meant to be one.
pub(crate) fn is_json(value: &[u8]) -> bool {
    value.trim_ascii_start().first() == Some(&b'{')
}

/// Reads a JSON object of texts with these fields and no others. A field that is null counts as missing.
///
/// # Errors
/// What is wrong with it, by the field's name.
pub(crate) fn texts(value: &[u8], fields: &[Field]) -> Result<Texts, String> {
    let mut read = Texts(Vec::new());
    for (name, mut value) in object(value)? {
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            wipe(&mut value);
            return Err(unknown(&name, fields));
        };
        match value {
            Value::String(text) if text.trim().is_empty() => {
                return Err(format!("its field `{}` is empty", field.name));
            }
            Value::String(text) => read.0.push((field.name, Zeroizing::new(text))),
            Value::Null if !field.required => {}
            mut other => {
                let kind = kind(&other);
                wipe(&mut other);
                return Err(format!("its field `{}` is {kind}, and has to be a text", field.name));
            }
        }
    }
    let missing = |field: &&Field| field.required && !read.0.iter().any(|(name, _)| *name == field.name);
    match fields.iter().find(missing) {
        Some(field) => Err(format!("its field `{}` is missing", field.name)),
        None => Ok(read),
    }
}

/// The fields of a JSON object, none of them twice.
///
/// # Errors
/// It is none; where that shows, and nothing of what stands there.
pub(crate) fn object(value: &[u8]) -> Result<Vec<(String, Value)>, String> {
    let mut reader = serde_json::Deserializer::from_slice(value);
    let read = reader.deserialize_any(Object).and_then(|read| reader.end().map(|()| read));
    // Of serde_json's own words only the place is safe to show.
    read.map_err(|e| match e.to_string() {
        said if said.starts_with(TWICE) => "it has a field twice".to_owned(),
        _ => format!("it is not a JSON object (line {}, column {})", e.line(), e.column()),
    })
}

/// Whether a JSON object has a field twice: readers differ in which of them they take.
pub(crate) fn repeats(value: &[u8]) -> bool {
    let mut reader = serde_json::Deserializer::from_slice(value);
    reader.deserialize_any(Names).is_err_and(|e| e.to_string().starts_with(TWICE))
}

/// Clears the texts of a value that is not wanted.
pub(crate) fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(all) => all.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The kind of a value, for a person.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A field that no credential of this kind has. Its name is said where it is one, and no value in the wrong place.
fn unknown(name: &str, fields: &[Field]) -> String {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-', ' '], "");
    let meant = fields.iter().find(|field| plain(field.name) == plain(name));
    let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
    let is_name = name.len() <= 32
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        && redact::keys(name).next().is_none();
    match (meant, is_name) {
        (Some(field), _) => format!("it has a field `{name}`, which is called `{}`", field.name),
        (None, true) => format!("it has a field `{name}`, and the fields are {}", known.join(", ")),
        (None, false) => format!("it has a field that is not known; the fields are {}", known.join(", ")),
    }
}

const TWICE: &str = "a field stands twice";

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<(String, Value)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(TWICE));
            }
            fields.push((name, map.next_value()?));
        }
        Ok(fields)
    }
}

/// The names of an object's fields, none of them twice. What stands there is not kept.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names: Vec<String> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if names.contains(&name) {
                return Err(A::Error::custom(TWICE));
            }
            map.next_value::<IgnoredAny>()?;
            names.push(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] =
        &[Field::required("endpoint"), Field::required("apiKey"), Field::optional("apiVersion")];

    fn wrong(text: &str) -> String {
        texts(text.as_bytes(), FIELDS).err().expect("it is wrong")
    }

    #[test]
    fn what_is_wrong_is_said_by_its_field() {
        assert_eq!(wrong(r#"{"endpoint":"https://x"}"#), "its field `apiKey` is missing");
        assert_eq!(
            wrong(r#"{"endpoint":"https://x","apiKey":null}"#),
            "its field `apiKey` is null, and has to be a text"
        );
        assert_eq!(wrong(r#"{"endpoint":"https://x","apiKey":""}"#), "its field `apiKey` is empty");
        assert_eq!(
            wrong(r#"{"endpoint":7,"apiKey":"k"}"#),
            "its field `endpoint` is a number, and has to be a text"
        );
        assert_eq!(wrong(r#"{"api_key":"k"}"#), "it has a field `api_key`, which is called `apiKey`");
        assert_eq!(
            wrong(r#"{"secret":"k"}"#),
            "it has a field `secret`, and the fields are endpoint, apiKey, apiVersion"
        );
        assert_eq!(wrong(r#"{"apiKey":"a","apiKey":"b"}"#), "it has a field twice");
        assert!(wrong("{").starts_with("it is not a JSON object (line 1, column "));
        assert!(wrong(r#"["x"]"#).starts_with("it is not a JSON object"));
        assert!(wrong(r#"{"apiKey":"k"} x"#).starts_with("it is not a JSON object"));
    }

    #[test]
    fn a_value_in_the_wrong_place_is_not_repeated() {
        let key = "sk-0123456789abcdef0123456789abcdef";
        for text in [
            format!(r#"{{"{key}":"apiKey"}}"#),
            format!(r#"{{"apiKey":["{key}"]}}"#),
            format!(r#"{{"apiKey":"{key}" "endpoint""#),
            format!(r#"{{"apiKey":"{key}"}}"#),
        ] {
            assert!(!wrong(&text).contains("0123456789"), "{}", wrong(&text));
        }
    }

    #[test]
    fn a_field_that_stands_twice_is_seen_however_it_is_written() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":{"b":1},"c":[],"a":null}"#, r#"{"a":1,"\u0061":2} x"#] {
            assert!(repeats(text.as_bytes()), "{text}");
        }
        for text in [r#"{"a":{"b":1},"b":2}"#, r#"{"a":"a"}"#, "{}", "{", "[]", "a", ""] {
            assert!(!repeats(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_right_is_read() {
        let mut read = texts(br#"{"endpoint":"e","apiKey":"k","apiVersion":null}"#, FIELDS)
            .unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((read.take("endpoint").as_str(), read.take("apiKey").as_str()), ("e", "k"));
        assert!(read.take_some("apiVersion").is_none());
    }
}
