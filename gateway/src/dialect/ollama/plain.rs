//! A line of text alone.

use serde::Deserialize;

use super::super::plain::{Scalar, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what says nothing is listed so that anything else is noticed")]
struct Line {
    message: Message,
    done: bool,
    model: Option<Scalar>,
    created_at: Option<Scalar>,
    remote_model: Option<Scalar>,
    remote_host: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
struct Message {
    content: String,
    role: Option<Scalar>,
}

/// The text, where the line has nothing else.
pub(super) fn text(data: &str) -> Option<String> {
    let Line { message, done, .. } = read(data)?;
    Some(message.content).filter(|text| !done && !text.is_empty())
}
