//! A delta of text alone.

use serde::Deserialize;

use super::super::plain::{Scalar, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Event {
    content_block_delta: Of,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Of {
    content_block_index: u64,
    delta: Delta,
    /// Padding.
    #[serde(rename = "p")]
    _padding: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delta {
    text: String,
}

/// The block and its text, where the event has nothing else.
pub(super) fn text(data: &str) -> Option<(u64, String)> {
    let Event { content_block_delta: Of { content_block_index, delta, .. } } = read(data)?;
    Some((content_block_index, delta.text)).filter(|(_, text)| !text.is_empty())
}
