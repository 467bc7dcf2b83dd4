//! A delta of text alone.

use std::borrow::Cow;

use serde::Deserialize;

use super::super::plain::{Object, read};
use super::super::template::Plain;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event<'d> {
    r#type: &'d str,
    index: u64,
    #[serde(borrow)]
    delta: Object<Delta<'d>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delta<'d> {
    r#type: &'d str,
    #[serde(borrow)]
    text: Cow<'d, str>,
}

/// The block and its text, where the event has nothing else.
pub(super) fn text(data: &str) -> Option<Plain<'_, u64>> {
    let Event { r#type, index, delta: Object(delta) } = read(data)?;
    let is_text = r#type == "content_block_delta" && delta.r#type == "text_delta" && !delta.text.is_empty();
    is_text.then_some(Plain { text: delta.text, place: index, changing: [None, None] })
}
