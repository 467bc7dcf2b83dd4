//! Reading a body whose inputs may be hundreds of thousands of numbers: they are read into what they are, and never into
//! a tree of values.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Input;
use crate::dialect::RequestError;
use crate::edit::Document;
use crate::fields::Fields;

/// Inputs of one request at most.
const MOST_INPUTS: usize = 1 << 14;

/// Fields of a body at most, beside its inputs.
const MOST_FIELDS: usize = 256;

/// A body without one of its fields, and that field as the client wrote it.
///
/// # Errors
/// The body is no JSON object, or holds a field twice.
pub(super) fn without(
    body: &[u8],
    key: &'static str,
) -> Result<(Fields, Option<Box<RawValue>>), RequestError> {
    let broken = |error: serde_json::Error| RequestError {
        path: String::new(),
        message: format!("the body is not valid JSON: {error}"),
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let (rest, raw) = json.deserialize_map(Split(key)).map_err(broken)?;
    json.end().map_err(broken)?;
    let rest = rest.to_bytes().map_err(broken)?;
    let rest = Fields::parse(&rest)?;
    // It was asked for here: in another letter case it must not pass unread.
    rest.peek(key);
    Ok((rest, raw.filter(|raw| raw.get() != "null")))
}

/// Takes one field out of an object.
struct Split<'k>(&'k str);

impl<'de> Visitor<'de> for Split<'_> {
    type Value = (Document, Option<Box<RawValue>>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut rest, mut taken) = (Document::default(), None);
        let mut fields = 0;
        while let Some(name) = map.next_key::<String>()? {
            let value: Box<RawValue> = map.next_value()?;
            fields += 1;
            if fields > MOST_FIELDS {
                return Err(A::Error::custom(format_args!("it holds more than {MOST_FIELDS} fields")));
            }
            if name != self.0 {
                rest.add(name, value);
            } else if taken.replace(value).is_some() {
                return Err(A::Error::custom(format_args!("{name} is there twice")));
            }
        }
        Ok((rest, taken))
    }
}

/// What OpenAI and Ollama take as `input`: a text, texts, token ids, or lists of token ids.
pub(super) fn inputs(raw: Option<&RawValue>, tokens: bool) -> Result<Vec<Input>, RequestError> {
    let path = "input";
    let Some(raw) = raw else { return Err(error(path, "is missing")) };
    match first(raw) {
        b'"' => Ok(vec![Input::Text(text(raw, path)?)]),
        b'[' => {
            let items = list(raw, path)?;
            let Some(head) = items.first() else { return Err(error(path, "is empty")) };
            if tokens && first(head).is_ascii_digit() {
                return Ok(vec![Input::Tokens(ids(&items, path)?)]);
            }
            bounded(items.len(), path)?;
            let read = |(at, item): (usize, &&RawValue)| {
                let path = format!("{path}[{at}]");
                match first(item) {
                    b'[' if tokens => {
                        let items = list(item, &path)?;
                        if items.is_empty() {
                            return Err(error(&path, "is empty"));
                        }
                        Ok(Input::Tokens(ids(&items, &path)?))
                    }
                    _ => Ok(Input::Text(text(item, &path)?)),
                }
            };
            items.iter().enumerate().map(read).collect()
        }
        _ if tokens => Err(error(path, "must be a string, an array of strings, or arrays of token ids")),
        _ => Err(error(path, "must be a string or an array of strings")),
    }
}

/// A list of texts in a field, one at least.
pub(super) fn texts(raw: &RawValue, path: &str) -> Result<Vec<Input>, RequestError> {
    let items = list(raw, path)?;
    bounded(items.len(), path)?;
    items
        .iter()
        .enumerate()
        .map(|(at, item)| Ok(Input::Text(text(item, &format!("{path}[{at}]"))?)))
        .collect()
}

fn bounded(items: usize, path: &str) -> Result<(), RequestError> {
    match items {
        0 => Err(error(path, "is empty")),
        items if items > MOST_INPUTS => {
            Err(error(path, &format!("holds {items} inputs, and {MOST_INPUTS} are the most")))
        }
        _ => Ok(()),
    }
}

fn list<'r>(raw: &'r RawValue, path: &str) -> Result<Vec<&'r RawValue>, RequestError> {
    serde_json::from_str(raw.get()).map_err(|_| error(path, "must be an array"))
}

fn text(raw: &RawValue, path: &str) -> Result<String, RequestError> {
    serde_json::from_str(raw.get()).map_err(|_| error(path, "must be a string"))
}

fn ids(items: &[&RawValue], path: &str) -> Result<Vec<u32>, RequestError> {
    let id = |(at, item): (usize, &&RawValue)| {
        let wrong = || error(&format!("{path}[{at}]"), "must be a token id, a whole number");
        serde_json::from_str(item.get()).map_err(|_| wrong())
    };
    items.iter().enumerate().map(id).collect()
}

/// The byte that a value begins with, which says what it is.
fn first(raw: &RawValue) -> u8 {
    raw.get().bytes().next().unwrap_or_default()
}

fn error(path: &str, message: &str) -> RequestError {
    RequestError { path: path.to_owned(), message: message.to_owned() }
}
