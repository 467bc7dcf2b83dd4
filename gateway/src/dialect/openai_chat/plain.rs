//! A chunk of text alone.

use std::borrow::Cow;

use serde::Deserialize;

use super::super::plain::{Object, Scalar, read};
use super::super::template::{Changing, Plain};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what says nothing is listed so that anything else is noticed")]
struct Chunk<'d> {
    #[serde(borrow)]
    choices: (Object<Choice<'d>>,),
    object: Option<&'d str>,
    id: Option<Scalar>,
    created: Option<Scalar>,
    model: Option<Scalar>,
    system_fingerprint: Option<Scalar>,
    service_tier: Option<Scalar>,
    provider: Option<Scalar>,
    /// Padding, as OpenAI calls it.
    #[serde(borrow)]
    obfuscation: Option<Changing<'d>>,
    /// And as Mistral does.
    #[serde(borrow)]
    p: Option<Changing<'d>>,
    #[serde(default)]
    usage: (),
    #[serde(default)]
    error: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
struct Choice<'d> {
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Object<Delta<'d>>,
    #[serde(default)]
    finish_reason: (),
    #[serde(default)]
    native_finish_reason: (),
    #[serde(default)]
    logprobs: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
struct Delta<'d> {
    #[serde(borrow)]
    content: Cow<'d, str>,
    role: Option<Scalar>,
    #[serde(default)]
    refusal: (),
    #[serde(default)]
    reasoning_content: (),
    #[serde(default)]
    reasoning: (),
    #[serde(default)]
    tool_calls: (),
    #[serde(default)]
    function_call: (),
}

/// The text of the first choice, where the chunk has nothing else.
pub(super) fn text(data: &str) -> Option<Plain<'_, ()>> {
    let Chunk { choices: (Object(choice),), object, obfuscation, p, .. } = read(data)?;
    let Choice { index, delta: Object(delta), .. } = choice;
    let says = index == 0 && object != Some("error") && !delta.content.is_empty();
    says.then_some(Plain { text: delta.content, place: (), changing: [obfuscation, p] })
}
