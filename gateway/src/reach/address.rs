//! Addresses that a provider would fetch, and ids of what lies in its account.

use orch_manifests::{ServerTool, ServerTools};
use serde_json::{Map, Value};

/// Beginnings of addresses that lead into the account of the key, and not to a host that could learn something.
const ACCOUNTS: [&str; 4] = ["gs://", "s3://", "files/", "https://generativelanguage.googleapis.com/"];

/// Fields that hold ids of what is stored.
const IDS: [&str; 6] = ["file_id", "fileid", "file_ids", "fileids", "vector_store_ids", "container_id"];

/// What it takes to let a provider take what is at this address.
pub(super) fn of_address(address: &str) -> ServerTools {
    let begins = |start: &str| address.get(..start.len()).is_some_and(|s| s.eq_ignore_ascii_case(start));
    match address {
        _ if begins("data:") => ServerTools::NONE,
        _ if ACCOUNTS.into_iter().any(begins) => ServerTool::Stored.into(),
        _ => ServerTool::ImageUrl.into(),
    }
}

/// What a part needs that holds, in fields named for it, addresses (`url`, `file_url`, `image_url`, `uri`, `fileUri`, …) or
/// ids of what is stored.
pub(super) fn of_value(value: &Value) -> ServerTools {
    match value {
        Value::Object(map) => of_map(map),
        Value::Array(items) => items.iter().map(of_value).fold(ServerTools::NONE, ServerTools::and),
        _ => ServerTools::NONE,
    }
}

/// The same of an object's fields.
pub(super) fn of_map(map: &Map<String, Value>) -> ServerTools {
    map.iter().fold(ServerTools::NONE, |needed, (key, value)| {
        let key = key.to_ascii_lowercase();
        let address = value.as_str().filter(|_| key.ends_with("url") || key.ends_with("uri"));
        let mut here = address.map_or(ServerTools::NONE, of_address);
        if IDS.contains(&key.as_str()) && !value.is_null() {
            here = here.and(ServerTool::Stored.into());
        }
        needed.and(here).and(of_value(value))
    })
}
