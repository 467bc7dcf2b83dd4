//! Reading a body whose inputs may be hundreds of thousands of numbers: they are read into what they are, and never into
//! a tree of values.

use serde_json::value::RawValue;

use super::Input;
use crate::dialect::RequestError;
use crate::edit::Document;
use crate::fields::Fields;

/// Inputs of one request at most.
const MOST_INPUTS: usize = 1 << 14;

/// A body without one of its fields, and that field as the client wrote it.
///
/// # Errors
/// The body is no JSON object, or holds a field twice.
pub(super) fn without(body: &[u8], key: &str) -> Result<(Fields, Option<Box<RawValue>>), RequestError> {
    let broken = |error: serde_json::Error| RequestError {
        path: String::new(),
        message: format!("the body is not valid JSON: {error}"),
    };
    let Ok(mut document) = Document::parse(body) else {
        // The reader of all other bodies says what is wrong.
        return Fields::parse(body).map(|fields| (fields, None));
    };
    let mut taken = document.take(key);
    let raw = taken.pop();
    if !taken.is_empty() {
        return Err(RequestError { path: key.to_owned(), message: "is there twice".to_owned() });
    }
    let rest = document.to_bytes().map_err(broken)?;
    Ok((Fields::parse(&rest)?, raw.filter(|raw| raw.get() != "null")))
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
