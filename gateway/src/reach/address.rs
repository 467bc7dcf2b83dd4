//! Addresses that a provider would fetch, and ids of what lies in its account.

use orch_manifests::{ServerTool, ServerTools};
use serde_json::{Map, Value};

use crate::fields::folded;

/// Beginnings of addresses that lead into the account of the key, and not to a host that could learn something.
const ACCOUNTS: [&str; 4] = ["gs://", "s3://", "files/", "https://generativelanguage.googleapis.com/"];

/// Fields that hold ids of what is stored.
const IDS: [&str; 6] = ["file_id", "fileid", "file_ids", "fileids", "vector_store_ids", "container_id"];

/// Beginnings of addresses that something is fetched from, whatever field they stand in.
const FETCHED: [&str; 4] = ["http://", "https://", "gs://", "s3://"];

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
/// is not said or cited) or ids of what is stored.
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
        let address = value.as_str().filter(|_| key.ends_with("url") || key.ends_with("uri"));
        let mut here = address.map_or(ServerTools::NONE, of_address);
        if IDS.contains(&key.as_str()) && !value.is_null() {
            here = here.and(ServerTool::Stored.into());
        }
        let said = value.is_string() && SAID.contains(&key.as_str());
        needed.and(here).and(if said { ServerTools::NONE } else { of_value(value) })
    })
}

fn is_fetched(text: &str) -> bool {
    let text = text.trim_start();
    FETCHED
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme)))
}
