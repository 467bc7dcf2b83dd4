//! A delta of text alone.

use std::borrow::Cow;

use serde::Deserialize;

use super::super::plain::{Scalar, read};
use super::super::template::{Changing, Plain};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what says nothing is listed so that anything else is noticed")]
struct Event<'d> {
    r#type: &'d str,
    #[serde(borrow)]
    delta: Cow<'d, str>,
    #[serde(default)]
    output_index: u64,
    #[serde(default)]
    content_index: u64,
    item_id: Option<Scalar>,
    #[serde(borrow)]
    sequence_number: Option<Changing<'d>>,
    logprobs: Option<[Scalar; 0]>,
    /// Padding.
    #[serde(borrow)]
    obfuscation: Option<Changing<'d>>,
}

/// The item, the part of it, and its text, where the event has nothing else.
pub(super) fn text(data: &str) -> Option<Plain<'_, (u64, u64)>> {
    let Event { r#type, delta, output_index, content_index, sequence_number, obfuscation, .. } = read(data)?;
    let is_text = r#type == "response.output_text.delta" && !delta.is_empty();
    let place = (output_index, content_index);
    is_text.then_some(Plain { text: delta, place, changing: [sequence_number, obfuscation] })
}
