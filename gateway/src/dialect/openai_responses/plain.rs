//! A delta of text alone.

use serde::Deserialize;

use super::super::plain::{Scalar, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what says nothing is listed so that anything else is noticed")]
struct Event<'d> {
    r#type: &'d str,
    delta: String,
    #[serde(default)]
    output_index: u64,
    #[serde(default)]
    content_index: u64,
    item_id: Option<Scalar>,
    sequence_number: Option<Scalar>,
    logprobs: Option<[Scalar; 0]>,
    obfuscation: Option<Scalar>,
}

/// The item, the part of it, and its text, where the event has nothing else.
pub(super) fn text(data: &str) -> Option<(u64, u64, String)> {
    let Event { r#type, delta, output_index, content_index, .. } = read(data)?;
    let is_text = r#type == "response.output_text.delta" && !delta.is_empty();
    is_text.then_some((output_index, content_index, delta))
}
