//! A chunk of text alone, and of the counts so far, which come with every one.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected};

use super::super::TextAlone;
use super::super::plain::{Object, Scalar, read};
use super::Counts;
use crate::fields::NO_COUNT;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "what says nothing is listed so that anything else is noticed")]
struct Chunk {
    candidates: (Object<Candidate>,),
    usage_metadata: Option<Object<Metadata>>,
    model_version: Option<Scalar>,
    response_id: Option<Scalar>,
    create_time: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
struct Candidate {
    content: Object<Content>,
    #[serde(default)]
    index: u64,
    #[serde(default)]
    finish_reason: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
struct Content {
    parts: (Object<Part>,),
    role: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    text: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Metadata {
    prompt_token_count: Tokens,
    candidates_token_count: Tokens,
    cached_content_token_count: Tokens,
    thoughts_token_count: Tokens,
    tool_use_prompt_token_count: Tokens,
    total_token_count: Tokens,
    prompt_tokens_details: Vec<Object<Detail>>,
    candidates_tokens_details: Vec<Object<Detail>>,
    cache_tokens_details: Vec<Object<Detail>>,
    tool_use_prompt_tokens_details: Vec<Object<Detail>>,
    traffic_type: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
struct Detail {
    modality: Scalar,
    token_count: Tokens,
}

/// A number of tokens that can be.
#[derive(Default)]
struct Tokens(Option<u64>);

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tokens, D::Error> {
        match u64::deserialize(deserializer)? {
            count if count < NO_COUNT => Ok(Tokens(Some(count))),
            count => Err(Error::invalid_value(Unexpected::Unsigned(count), &"a number of tokens")),
        }
    }
}

/// The text of the first candidate and the counts, where the chunk has nothing else.
pub(super) fn text(data: &str) -> Option<TextAlone> {
    let Chunk { candidates: (Object(candidate),), usage_metadata, .. } = read(data)?;
    let Candidate { content: Object(content), index, .. } = candidate;
    let Content { parts: (Object(Part { text }),), .. } = content;
    let counts = usage_metadata.map(|Object(said)| Counts {
        prompt: said.prompt_token_count.0,
        tool_use_prompt: said.tool_use_prompt_token_count.0,
        cached_content: said.cached_content_token_count.0,
        candidates: said.candidates_token_count.0,
        thoughts: said.thoughts_token_count.0,
    });
    let says = index == 0 && !text.is_empty();
    says.then(|| TextAlone { text, usage: counts.and_then(Counts::usage) })
}
