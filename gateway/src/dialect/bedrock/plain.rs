//! A delta of text alone.

use std::borrow::Cow;

use serde::Deserialize;

use super::super::plain::{Object, read};
use super::super::template::{Changing, Plain};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Event<'d> {
    #[serde(borrow)]
    content_block_delta: Object<Of<'d>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Of<'d> {
    content_block_index: u64,
    #[serde(borrow)]
    delta: Object<Delta<'d>>,
    /// Padding.
    #[serde(borrow)]
    p: Option<Changing<'d>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delta<'d> {
    #[serde(borrow)]
    text: Cow<'d, str>,
}

/// The block and its text, where the event has nothing else.
pub(super) fn text(data: &str) -> Option<Plain<'_, u64>> {
    let Event { content_block_delta: Object(of) } = read(data)?;
    let Of { content_block_index, delta: Object(delta), p } = of;
    let says = !delta.text.is_empty();
    says.then_some(Plain { text: delta.text, place: content_block_index, changing: [p, None] })
}
