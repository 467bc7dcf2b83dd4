//! Changing single top-level fields of a JSON object while every other byte of it stays as the client wrote it.
//!
//! What a client sends in a provider's own dialect may hold anything that the provider knows and this crate does
//! not, and prompt caches are keyed by exact bytes.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// The fields of an object in their order, values unparsed.
#[derive(Default)]
pub(crate) struct Document {
    fields: Vec<(String, Box<RawValue>)>,
}

impl Document {
    /// Reads an object. Bodies come here after they were parsed, so that failure means a caller's mistake.
    pub(crate) fn parse(body: &[u8]) -> Result<Document, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// Whether the field is there and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.fields.iter().any(|(name, value)| name == key && value.get() != "null")
    }

    /// The field's value.
    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        let (_, raw) = self.fields.iter().find(|(name, _)| name == key)?;
        serde_json::from_str(raw.get()).ok()
    }

    /// The field's value as an object of its own; `None` when it is absent, null or something else.
    pub(crate) fn object(&self, key: &str) -> Option<Document> {
        let (_, raw) = self.fields.iter().find(|(name, _)| name == key)?;
        serde_json::from_str(raw.get()).ok()
    }

    /// Sets a field, in its place or at the end.
    pub(crate) fn set(&mut self, key: &str, value: &impl Serialize) -> Result<(), serde_json::Error> {
        let raw = to_raw_value(value)?;
        match self.fields.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = raw,
            None => self.fields.push((key.to_owned(), raw)),
        }
        Ok(())
    }

    /// Takes a field out.
    pub(crate) fn remove(&mut self, key: &str) {
        self.fields.retain(|(name, _)| name != key);
    }

    /// Adds a field at the end, which is there twice when it was there before.
    pub(crate) fn add(&mut self, key: String, value: Box<RawValue>) {
        self.fields.push((key, value));
    }

    /// Takes a field out, as it was written, as often as it is there.
    pub(crate) fn take(&mut self, key: &str) -> Vec<Box<RawValue>> {
        let (taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.fields).into_iter().partition(|(name, _)| name == key);
        self.fields = left;
        taken.into_iter().map(|(_, raw)| raw).collect()
    }

    /// Whether no field is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The object as JSON.
    pub(crate) fn to_bytes(&self) -> Result<Bytes, serde_json::Error> {
        serde_json::to_vec(self).map(Bytes::from)
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (key, value) in &self.fields {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Document, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Document { fields })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_field_that_is_set_changes() {
        let mut doc = Document::parse(
            br#"{"z": [1.0, 2e3 ],"model":"a","y":{"b":1,"a":2},"big":12345678901234567890123}"#,
        )
        .unwrap();
        doc.set("model", &json!("b")).unwrap();
        doc.set("max_tokens", &json!(5)).unwrap();
        assert_eq!(
            doc.to_bytes().unwrap(),
            r#"{"z":[1.0, 2e3 ],"model":"b","y":{"b":1,"a":2},"big":12345678901234567890123,"max_tokens":5}"#
        );
    }

    #[test]
    fn an_object_within_keeps_its_other_bytes_as_well() {
        let mut doc = Document::parse(br#"{"a":{"z": 1.0,"b":[2e3 ]},"c":null,"d":7}"#).unwrap();
        let mut inner = doc.object("a").unwrap();
        inner.set("n", &5).unwrap();
        doc.set("a", &inner).unwrap();
        assert_eq!(doc.to_bytes().unwrap(), r#"{"a":{"z":1.0,"b":[2e3 ],"n":5},"c":null,"d":7}"#);
        assert!(["c", "d", "e"].iter().all(|key| doc.object(key).is_none()));
    }

    #[test]
    fn null_counts_as_absent() {
        let doc = Document::parse(br#"{"a":null,"b":0}"#).unwrap();
        assert!(!doc.has("a") && doc.has("b") && !doc.has("c"));
    }
}
