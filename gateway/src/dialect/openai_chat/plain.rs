//! A chunk of text alone.

use serde::Deserialize;

use super::super::plain::{Scalar, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what says nothing is listed so that anything else is noticed")]
struct Chunk<'d> {
    choices: (Choice,),
    object: Option<&'d str>,
    id: Option<Scalar>,
    created: Option<Scalar>,
    model: Option<Scalar>,
    system_fingerprint: Option<Scalar>,
    service_tier: Option<Scalar>,
    provider: Option<Scalar>,
    obfuscation: Option<Scalar>,
    #[serde(default)]
    usage: (),
    #[serde(default)]
    error: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
struct Choice {
    #[serde(default)]
    index: u64,
    delta: Delta,
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
struct Delta {
    content: String,
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
pub(super) fn text(data: &str) -> Option<String> {
    let Chunk { choices: (Choice { index, delta, .. },), object, .. } = read(data)?;
    let text = Some(delta.content).filter(|text| !text.is_empty());
    text.filter(|_| index == 0 && object != Some("error"))
}
