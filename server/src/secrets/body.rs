//! The bodies of `/v1/secrets` in which values come.

use std::fmt;

use orch_manifests::Catalog;
use orch_vault::{Rotation, Secret, SecretName};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Visitor};
use time::OffsetDateTime;

use super::{GrantSaid, Terms, new_secret_name};
use crate::failure::Failure;

/// The most secrets of one import.
pub const MOST_IMPORTED: usize = 1000;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    value: Written,
    #[serde(default)]
    grants: Option<Vec<GrantSaid>>,
    #[serde(default)]
    multiline: bool,
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires: Option<OffsetDateTime>,
    #[serde(default)]
    allow_short: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotated {
    value: Written,
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires: Option<OffsetDateTime>,
    #[serde(default)]
    allow_short: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Imported {
    secrets: Vec<Named>,
    #[serde(default)]
    overwrite: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    value: Written,
}

/// A JSON string that becomes a secret without being a `String` in between.
pub(crate) struct Written(pub(crate) Secret);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Written, E> {
                Ok(Written(Secret::new(text.as_bytes().to_vec())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The value of a secret, and what is said about it.
///
/// # Errors
/// As [`read`].
pub(super) fn new(body: &[u8]) -> Result<(Secret, Terms), Failure> {
    let New { value, grants, multiline, expires, allow_short } =
        read(body, r#"{"value": "…", "grants": [{"host": "api.example.com"}]}"#)?;
    Ok((value.0, Terms { grants, multiline, expires, allow_short }))
}

/// The value that replaces another one.
///
/// # Errors
/// As [`read`].
pub(super) fn rotation(body: &[u8]) -> Result<Rotation, Failure> {
    let Rotated { value, expires, allow_short } = read(body, r#"{"value": "…"}"#)?;
    Ok(Rotation { value: value.0, expires, scrubbable: !allow_short })
}

/// Many values with their names, and whether they may replace what is there.
///
/// # Errors
/// As [`read`], and names that are none, or stand there twice.
pub(super) fn import(body: &[u8], catalog: &Catalog) -> Result<(Vec<(SecretName, Secret)>, bool), Failure> {
    let Imported { secrets, overwrite } = read(body, r#"{"secrets": [{"name": "TOKEN", "value": "…"}]}"#)?;
    if secrets.is_empty() || secrets.len() > MOST_IMPORTED {
        return Err(Failure::usage("body_invalid", format!("`secrets` are 1 to {MOST_IMPORTED}")));
    }
    let mut values: Vec<(SecretName, Secret)> = Vec::with_capacity(secrets.len());
    for Named { name, value } in secrets {
        let name = new_secret_name(&name, catalog)?;
        if values.iter().any(|(known, _)| *known == name) {
            return Err(Failure::usage("body_invalid", format!("{name} is there twice")));
        }
        values.push((name, value.0));
    }
    Ok((values, overwrite))
}

/// A document with a value in it.
///
/// # Errors
/// When it is not that. What was sent is not repeated: a value may stand anywhere in it.
fn read<T: DeserializeOwned>(body: &[u8], example: &'static str) -> Result<T, Failure> {
    let wrong = |why: &str| {
        Failure::usage("body_invalid", format!("the body is not what it should be: {why}")).hint(example)
    };
    // Fields without their names would be taken from an array as well.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("it is not a JSON object"));
    }
    // Of serde_json's own words only the place is safe to show.
    serde_json::from_slice(body).map_err(|e| {
        let what = match e.classify() {
            serde_json::error::Category::Data => {
                "a field is missing, unknown, of another type or not its kind of value"
            }
            _ => "it is not JSON",
        };
        wrong(&format!("{what} (line {}, column {})", e.line(), e.column()))
    })
}
