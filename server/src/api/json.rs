//! Documents that clients send: what is not known is refused, and what is wrong is named with its place.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use orch_vault::Secret;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Visitor};

use crate::failure::Failure;

/// Checks that a body says that it is JSON. A page in a browser cannot send that to another server unasked.
///
/// # Errors
/// When it says something else, or nothing.
pub(super) fn check_type(headers: &HeaderMap) -> Result<(), Failure> {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let said = if said.is_empty() { "nothing".to_owned() } else { format!("{said:?}") };
    Err(Failure::usage("media_type", format!("the body has to be application/json, and says {said}"))
        .hint("content-type: application/json"))
}

/// Reads a document.
///
/// # Errors
/// `bad_json` with the place of what is wrong. What stands there is not repeated: it may be a key.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Failure> {
    // Fields have names: the parser would take them in a row as well.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(Failure::usage("bad_json", "the body is not a JSON object").detail("field", "."));
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let wrong = |path: &str, error: &serde_json::Error| {
        let place = match path {
            "" | "." => "the body".to_owned(),
            path => format!("`{path}`"),
        };
        let place_in_text = format!("line {}, column {}", error.line(), error.column());
        let why = without_values(&error.to_string());
        Failure::usage("bad_json", format!("{place}: {why} ({place_in_text})")).detail("field", path)
    };
    let document: T = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| wrong(&error.path().to_string(), error.inner()))?;
    json.end().map_err(|error| wrong("", &error))?;
    Ok(document)
}

/// What stands before a value in the parser's words: all kinds of `serde::de::Unexpected` that repeat one.
const QUOTED: [&str; 5] = ["string \"", "character `", "integer `", "floating point `", "boolean `"];

/// The parser's words without the values that it quotes, and without its place, which is said elsewhere.
fn without_values(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    for kind in QUOTED {
        if let Some((before, rest)) = message.split_once(kind) {
            let after = rest.rfind(", expected").map_or("", |at| &rest[at..]);
            return format!("{before}{}{after}", kind.trim_end_matches([' ', '"', '`']));
        }
    }
    match message.split_once("unknown variant `") {
        Some((_, rest)) => {
            let after = rest.find("`, expected").map_or("", |at| &rest[at + 1..]);
            format!("unknown word{after}")
        }
        None => message.to_owned(),
    }
}

/// A value that nobody sees: it goes from the body into a [`Secret`].
pub(super) struct SecretText(pub(super) Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(Secret::new(text.as_bytes().to_vec())))
            }

            fn visit_string<E>(self, text: String) -> Result<SecretText, E> {
                Ok(SecretText(Secret::new(text.into_bytes())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        #[serde(default)]
        name: String,
        #[serde(default)]
        list: Vec<Row>,
        #[serde(default)]
        env: BTreeMap<String, SecretText>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        count: u64,
        #[serde(default)]
        kind: Kind,
    }

    #[derive(Deserialize, Default, Debug, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        #[default]
        Plain,
    }

    fn says(text: &str, field: &str, part: &str) {
        let failure = parse::<Document>(text.as_bytes()).err().expect(text);
        assert_eq!(failure.code(), "bad_json");
        assert_eq!(failure.details()["field"], field, "{failure}");
        assert!(failure.message().contains(part), "{failure} does not say {part:?}");
        assert!(!failure.message().contains("sk-"), "{failure} repeats a value");
    }

    #[test]
    fn a_mistake_is_named_with_its_place_and_without_its_value() {
        says(
            "{\"list\":[{\"count\":1},{\"count\":\"sk-1, expected\"}]}",
            "list[1].count",
            "string, expected u64",
        );
        says(
            "{\"list\":[{\"count\":1,\"kind\":\"sk-2\"}]}",
            "list[0].kind",
            "unknown word, expected `plain`",
        );
        says("{\"list\":[{\"cuont\":1}]}", "list[0].cuont", "unknown field `cuont`");
        says("{\"list\":[{}]}", "list[0]", "missing field `count`");
        says("{\"nme\":1}", "nme", "unknown field `nme`, expected one of `name`, `list`, `env`");
        for (value, kind) in [
            ("12345678", "integer"),
            ("-12345678", "integer"),
            ("12345678.5", "floating point"),
            ("true", "boolean"),
        ] {
            let text = format!("{{\"env\":{{\"A\":{value}}}}}");
            says(&text, "env.A", &format!("invalid type: {kind}, expected text"));
            let failure = parse::<Document>(text.as_bytes()).err().expect("no text");
            assert!(!failure.message().contains(value), "{failure} repeats a value");
        }
        says("{\"list\":[{\"count\":-3}]}", "list[0].count", "invalid value: integer, expected u64");
        says("{\"name\":\"a\",\"name\":\"b\"}", ".", "duplicate field `name`");
        says("{\"name\":", "name", "EOF");
        says("{} {}", "", "trailing characters");
        says("", ".", "not a JSON object");
        says("[\"name\"]", ".", "not a JSON object");
        says("{\"name\":\"\\ud800\"}", "name", "");
        says(&format!("{{\"list\":{}", "[".repeat(100_000)), "list[0][0]", "");
        assert!(parse::<Document>(b"{\"name\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_secret_is_read_as_it_stands() {
        let text = br#"{"env":{"A":"sk-\u0031\n"},"list":[{"count":7}]}"#;
        let document: Document = parse(text).expect("a document");
        document.env["A"].0.expose(|value| assert_eq!(value, b"sk-1\n"));
        assert_eq!(
            (document.name.as_str(), document.list[0].count, &document.list[0].kind),
            ("", 7, &Kind::Plain)
        );
    }

    #[test]
    fn a_body_says_that_it_is_json() {
        let check = |said: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert(CONTENT_TYPE, said.parse().expect("a value"));
            }
            check_type(&headers).map_err(|failure| failure.code().to_owned())
        };
        for fine in ["application/json", "Application/JSON; charset=utf-8", "application/json;x"] {
            assert_eq!(check(Some(fine)), Ok(()), "{fine}");
        }
        for other in
            [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonl")]
        {
            assert_eq!(check(other), Err("media_type".to_owned()), "{other:?}");
        }
    }
}
