//! A delta of text alone.

use serde::Deserialize;

use super::super::plain::read;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what says nothing is listed so that anything else is noticed")]
struct Event<'d> {
    r#type: &'d str,
    index: u64,
    delta: Delta,
    #[serde(default)]
    logprobs: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delta {
    message: Message,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    content: Content,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    text: String,
}

/// The text, where the event has nothing else.
pub(super) fn text(data: &str) -> Option<String> {
    let Event { r#type, delta, .. } = read(data)?;
    Some(delta.message.content.text).filter(|text| r#type == "content-delta" && !text.is_empty())
}
