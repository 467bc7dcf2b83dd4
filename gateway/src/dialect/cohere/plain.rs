//! A delta of text alone.

use std::borrow::Cow;

use serde::Deserialize;

use super::super::plain::{Object, read};
use super::super::template::Plain;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what says nothing is listed so that anything else is noticed")]
struct Event<'d> {
    r#type: &'d str,
    index: u64,
    #[serde(borrow)]
    delta: Object<Delta<'d>>,
    #[serde(default)]
    logprobs: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delta<'d> {
    #[serde(borrow)]
    message: Object<Message<'d>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'d> {
    #[serde(borrow)]
    content: Object<Content<'d>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content<'d> {
    #[serde(borrow)]
    text: Cow<'d, str>,
}

/// The text, where the event has nothing else.
pub(super) fn text(data: &str) -> Option<Plain<'_, ()>> {
    let Event {
        r#type, delta: Object(Delta { message: Object(Message { content: Object(content) }) }), ..
    } = read(data)?;
    let text = content.text;
    let says = r#type == "content-delta" && !text.is_empty();
    says.then_some(Plain { text, place: (), changing: [None, None] })
}
