//! The body of `PUT /v1/secrets/{name}`.

use std::fmt;

use orch_vault::Secret;
use serde::de::{Deserialize, Deserializer, Visitor};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Terms;
use crate::failure::Failure;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    value: Written,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    header: Option<String>,
    #[serde(default)]
    agents: Vec<String>,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    allow_short: bool,
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

/// The value, and what is said about it.
///
/// # Errors
/// When it is not that. What was sent is not repeated: a value may stand anywhere in it.
pub(super) fn read(body: &[u8]) -> Result<(Secret, Terms), Failure> {
    let wrong = |why: String| {
        Failure::usage("body_invalid", format!("the body is not what a secret is set with: {why}"))
            .hint(r#"{"value": "…", "hosts": ["api.example.com"]}"#)
    };
    // Fields without their names would be taken from an array as well.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("it is not a JSON object".to_owned()));
    }
    // Of serde_json's own words only the place is safe to show.
    let Body { value, hosts, header, agents, expires, allow_short } =
        serde_json::from_slice(body).map_err(|e| {
            let what = match e.classify() {
                serde_json::error::Category::Data => "a field is missing, unknown or of another type",
                _ => "it is not JSON",
            };
            wrong(format!("{what} (line {}, column {})", e.line(), e.column()))
        })?;
    let expires = expires
        .map(|text| OffsetDateTime::parse(&text, &Rfc3339))
        .transpose()
        .map_err(|_| wrong("`expires` is not a time such as 2030-01-31T12:00:00Z".to_owned()))?;
    Ok((value.0, Terms { hosts, header, agents, expires, allow_short }))
}
