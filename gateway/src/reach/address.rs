//! Addresses that a provider would fetch, and ids of what lies in its account.

use orch_manifests::{ServerTool, ServerTools};
use serde_json::{Map, Value};

use super::tools::of_tools;
use crate::fields::folded;

/// Beginnings of addresses that lead into the account of the key, and not to a host that could learn something.
const ACCOUNTS: [&str; 5] =
    ["gs://", "s3://", "ms://", "files/", "https://generativelanguage.googleapis.com/"];

/// Fields that hold ids of what is stored.
const IDS: [&str; 7] =
    ["file_id", "fileid", "file_ids", "fileids", "vector_store_ids", "container_id", "skill_id"];

/// Beginnings of addresses that something is fetched from, whatever field they stand in.
const FETCHED: [&str; 5] = ["http://", "https://", "gs://", "s3://", "ms://"];

/// Fields of what is said or cited, in which an address is only text.
const SAID: [&str; 6] = ["text", "title", "context", "content", "name", "source"];

/// What it takes to let a provider take what is at this address.
pub(super) fn of_address(address: &str) -> ServerTools {
    let begins = |start: &str| address.get(..start.len()).is_some_and(|s| s.eq_ignore_ascii_case(start));
    match address {
        _ if begins("data:") => ServerTools::NONE,
        _ if ACCOUNTS.into_iter().any(begins) => ServerTool::Stored.into(),
        _ => ServerTool::ImageUrl.into(),
    }
}

/// What a part needs that holds addresses (in fields named for them, such as `file_url` and `fileUri`, and in any other that
/// is not said or cited), ids of what is stored, or further tools.
pub(super) fn of_value(value: &Value) -> ServerTools {
    match value {
        Value::Object(map) => of_map(map),
        Value::Array(items) => items.iter().map(of_value).fold(ServerTools::NONE, ServerTools::and),
        Value::String(text) if is_fetched(text) => of_address(text.trim_start()),
        _ => ServerTools::NONE,
    }
}

/// The same of an object's fields.
pub(super) fn of_map(map: &Map<String, Value>) -> ServerTools {
    map.iter().fold(ServerTools::NONE, |needed, (key, value)| {
        let key = folded(key);
        let inside = match value {
            Value::String(_) if SAID.contains(&key.as_str()) => ServerTools::NONE,
            // In what describes a function, an address is only text.
            Value::Array(_) if key == "tools" => of_tools(value),
            _ => of_value(value),
        };
        needed.and(of_named(&key, value)).and(inside)
    })
}

/// What a field needs by its name, which is in small letters: one for an address, or for what is stored.
pub(super) fn of_named(name: &str, value: &Value) -> ServerTools {
    let address = value.as_str().filter(|_| name.ends_with("url") || name.ends_with("uri"));
    let fetched = address.map_or(ServerTools::NONE, of_address);
    match IDS.contains(&name) && !value.is_null() {
        true => fetched.and(ServerTool::Stored.into()),
        false => fetched,
    }
}

/// What a client's own tool was told, or answered: its text is only said, whatever it begins with. Pieces of an answer and
/// fields that are named for it are what they are anywhere.
pub(super) fn of_answered(value: &Value) -> ServerTools {
    match value {
        Value::Object(map) => map.iter().fold(ServerTools::NONE, |needed, (key, value)| {
            needed.and(of_named(&folded(key), value)).and(of_answered(value))
        }),
        Value::Array(items) => items.iter().fold(ServerTools::NONE, |needed, item| {
            needed.and(if item.get("type").is_some() { of_value(item) } else { of_answered(item) })
        }),
        _ => ServerTools::NONE,
    }
}

fn is_fetched(text: &str) -> bool {
    let text = text.trim_start();
    FETCHED
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme)))
}
