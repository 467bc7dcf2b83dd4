//! A delta of text alone.

use std::borrow::Cow;

use serde::Deserialize;

use super::super::plain::read;
use super::super::template::Plain;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what says nothing is listed so that anything else is noticed")]
struct Event<'d> {
    r#type: &'d str,
    index: u64,
    #[serde(borrow)]
    delta: Delta<'d>,
    #[serde(default)]
    logprobs: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delta<'d> {
    #[serde(borrow)]
    message: Message<'d>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'d> {
    #[serde(borrow)]
    content: Content<'d>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content<'d> {
    #[serde(borrow)]
    text: Cow<'d, str>,
}

/// The text, where the event has nothing else.
pub(super) fn text(data: &str) -> Option<Plain<'_, ()>> {
    let Event { r#type, delta, .. } = read(data)?;
    let text = delta.message.content.text;
    let says = r#type == "content-delta" && !text.is_empty();
    says.then_some(Plain { text, place: (), changing: [None, None] })
}
