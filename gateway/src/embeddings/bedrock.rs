//! Bedrock's `POST /model/MODEL/invoke` of models that make vectors: a body of the maker's own, in which no model is named.
//!
//! Amazon's Titan takes one text in a request, and Cohere's models take 96.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::cohere::{self, ByKind, TRUNCATE, TYPES};
use super::{
    EmbedRequest, EmbedResponse, EmbedWire, Encoding, Input, Truncate, Vector, Written, body, invalid,
    json as bytes_of, several, write_list,
};
use crate::dialect::{RequestError, ResponseError};
use crate::fields::Fields;
use crate::ir::Dropped;

pub(super) struct Invoke;

/// Where the tokens of the input are counted, whatever the body says of them.
pub(crate) const TOKENS_HEADER: HeaderName = HeaderName::from_static("x-amzn-bedrock-input-token-count");

const UNKNOWN: &str = "its name does not tell whose body it takes at Bedrock: those of Titan Text Embeddings, of Cohere Embed 3 \
     and of Cohere Embed 4 are known; a route can send another name for a model of the catalog";

const TEXT: &str = "inputText";
const KINDS: &str = "embeddingTypes";
const DIMENSIONS: &str = "dimensions";

/// What Cohere's names for both ends are at Bedrock, since its fourth model.
const SIDES: [(&str, Truncate); 2] = [("LEFT", Truncate::Start), ("RIGHT", Truncate::End)];

/// Whose body a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Amazon's first, which takes a text and nothing else.
    TitanG1,
    TitanV2,
    CohereV3,
    CohereV4,
}

/// Families by how the names of their models begin.
const FAMILIES: [(&str, Family); 6] = [
    ("amazon.titan-embed-text-v2", Family::TitanV2),
    ("amazon.titan-embed-text-v1", Family::TitanG1),
    ("amazon.titan-embed-g1-text-", Family::TitanG1),
    ("cohere.embed-v4", Family::CohereV4),
    ("cohere.embed-english-v3", Family::CohereV3),
    ("cohere.embed-multilingual-v3", Family::CohereV3),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(default, borrow)]
    id: Option<Cow<'a, str>>,
    /// Titan's.
    #[serde(default)]
    embedding: Option<Vec<f32>>,
    /// The same in each spelling that was asked for.
    #[serde(default, borrow)]
    embeddings_by_type: Option<ByKind<'a>>,
    #[serde(default)]
    input_text_token_count: Option<u64>,
    /// Those of Cohere's models: a list of vectors, or one for each spelling.
    #[serde(default, borrow)]
    embeddings: Option<&'a RawValue>,
}

impl EmbedWire for Invoke {
    /// Which family's body it is shows in what holds the input.
    fn parse_request(&self, body: &[u8], _: bool) -> Result<EmbedRequest, RequestError> {
        let (fields, text) = body::without(body, TEXT)?;
        if let Some(text) = text {
            return titan(fields, &text);
        }
        match ["texts", "images", "inputs"].into_iter().any(|name| fields.peek(name).is_some()) {
            true => cohere::parse(body, &SIDES),
            false => {
                // A field in another letter case is what is wrong, where there is one.
                let missing = fields.error(TEXT, "is missing, and so are the texts of Cohere's models");
                fields.rest().and(Err(missing))
            }
        }
    }

    fn write_request(&self, request: &EmbedRequest, model: &str) -> Result<Written, RequestError> {
        let unknown = || RequestError { path: "model".to_owned(), message: UNKNOWN.to_owned() };
        let family = Family::of(model).ok_or_else(unknown)?;
        let texts = request.texts()?;
        let at_once = family.at_once();
        several::check(&texts, at_once)?;
        let mut dropped = request.lost_extras();
        let form = family.form(request, &mut dropped)?;
        Ok(several::written(&texts, at_once, dropped, |some| family.body(form.clone(), some)))
    }

    fn parse_response(&self, body: &[u8]) -> Result<EmbedResponse, ResponseError> {
        let broken = |error: serde_json::Error| ResponseError(error.to_string());
        let answer: Answer<'_> = serde_json::from_slice(body).map_err(broken)?;
        let vectors = match (answer.embedding, &answer.embeddings_by_type, answer.embeddings) {
            (Some(numbers), _, None) => vec![Vector::of(numbers)?],
            (None, Some(kinds), None) => vec![one_of(kinds)?],
            (None, None, Some(raw)) if raw.get().starts_with('[') => {
                let vectors: Vec<Vec<f32>> = serde_json::from_str(raw.get()).map_err(broken)?;
                vectors.into_iter().map(Vector::of).collect::<Result<_, _>>()?
            }
            (None, None, Some(raw)) => {
                let kinds: ByKind<'_> = serde_json::from_str(raw.get()).map_err(broken)?;
                cohere::by_kind(&kinds)?
            }
            _ => return Err(invalid("neither embedding nor embeddings is there, or both are")),
        };
        Ok(EmbedResponse {
            id: answer.id.map(Cow::into_owned).unwrap_or_default(),
            vectors,
            input_tokens: answer.input_text_token_count,
            ..EmbedResponse::default()
        })
    }

    fn write_response(&self, request: &EmbedRequest, response: &EmbedResponse) -> Vec<u8> {
        if request.alone {
            return titans_answer(response);
        }
        let mut out = format!(r#"{{"id":{},"embeddings":"#, json!(response.id)).into_bytes();
        let kind = match request.spelled {
            true => {
                cohere::write_by_kind(request, &response.vectors, &mut out);
                "embeddings_by_type"
            }
            false => {
                write_list(&response.vectors, &mut out, |_, vector, out| vector.write_numbers(out));
                "embeddings_floats"
            }
        };
        out.extend_from_slice(br#","texts":"#);
        out.extend_from_slice(&bytes_of(&json!(cohere::texts_of(request))));
        out.extend_from_slice(format!(r#","response_type":"{kind}"}}"#).as_bytes());
        out
    }
}

/// What the head of an answer counts.
pub(crate) fn input_tokens(headers: &HeaderMap) -> Option<u64> {
    headers.get(TOKENS_HEADER)?.to_str().ok()?.trim().parse().ok()
}

impl Family {
    /// The family of a model by its name, which may have a part of the world before it, or stand at the end of a resource's.
    fn of(model: &str) -> Option<Family> {
        let name = model.rsplit('/').next().unwrap_or(model);
        let behind = name.split_once('.').map_or("", |(_, behind)| behind);
        let known = FAMILIES.iter().find(|(start, _)| name.starts_with(start) || behind.starts_with(start));
        known.map(|(_, family)| *family)
    }

    /// Texts of one request at most.
    fn at_once(self) -> usize {
        match self {
            Family::TitanG1 | Family::TitanV2 => 1,
            Family::CohereV3 | Family::CohereV4 => cohere::AT_ONCE,
        }
    }

    /// The only length that its vectors have; `None` where a request may ask for another.
    fn only_dimensions(self) -> Option<u64> {
        match self {
            Family::TitanG1 => Some(1536),
            Family::CohereV3 => Some(1024),
            Family::TitanV2 | Family::CohereV4 => None,
        }
    }

    /// What all bodies of a request have, whatever their texts.
    fn form(
        self,
        request: &EmbedRequest,
        dropped: &mut Vec<Dropped>,
    ) -> Result<Map<String, Value>, RequestError> {
        if let (Some(wanted), Some(only)) = (request.dimensions, self.only_dimensions())
            && wanted != only
        {
            let message =
                format!("is {wanted}, and the model's vectors have {only} numbers and no other length");
            return Err(RequestError { path: DIMENSIONS.to_owned(), message });
        }
        if request.user.is_some() {
            dropped.push(Dropped::new("user", "Bedrock's bodies have no such field"));
        }
        let mut form = Map::new();
        let cut = request.truncate.as_ref();
        match self {
            Family::TitanG1 | Family::TitanV2 => {
                if let Some(purpose) = &request.purpose {
                    dropped
                        .push(Dropped::new(purpose.field, "Titan's body does not say what vectors are for"));
                }
                if let Some(cut) = cut.filter(|cut| cut.value != Truncate::Never) {
                    dropped.push(Dropped::new(cut.field, "Titan refuses inputs that are too long"));
                }
                if let Some(dimensions) = request.dimensions.filter(|_| self == Family::TitanV2) {
                    form.insert(DIMENSIONS.to_owned(), json!(dimensions));
                }
            }
            Family::CohereV3 | Family::CohereV4 => {
                let purpose = cohere::purpose(request.purpose.as_ref(), dropped);
                form.insert("input_type".to_owned(), json!(purpose));
                form.insert(TYPES.to_owned(), json!(["float"]));
                if let Some(dimensions) = request.dimensions.filter(|_| self == Family::CohereV4) {
                    form.insert("output_dimension".to_owned(), json!(dimensions));
                }
                let (start, end) =
                    if self == Family::CohereV4 { ("LEFT", "RIGHT") } else { ("START", "END") };
                let cut = match cut.map(|cut| cut.value) {
                    // Clients of other dialects expect an error where an input is too long.
                    None | Some(Truncate::Never) => "NONE",
                    Some(Truncate::Start) => start,
                    Some(Truncate::End) => end,
                };
                form.insert(TRUNCATE.to_owned(), json!(cut));
            }
        }
        Ok(form)
    }

    /// The body for some of the texts: as many as the model takes at once, or fewer.
    fn body(self, mut form: Map<String, Value>, texts: &[&str]) -> Bytes {
        match self {
            Family::TitanG1 | Family::TitanV2 => form.insert(TEXT.to_owned(), json!(texts.first())),
            Family::CohereV3 | Family::CohereV4 => form.insert("texts".to_owned(), json!(texts)),
        };
        Bytes::from(Value::Object(form).to_string())
    }
}

/// A request in Titan's form.
fn titan(mut fields: Fields, text: &RawValue) -> Result<EmbedRequest, RequestError> {
    let text = serde_json::from_str(text.get()).map_err(|_| fields.error(TEXT, "must be a string"))?;
    let model = fields.string("model")?.unwrap_or_default();
    let dimensions = fields.uint(DIMENSIONS)?;
    if dimensions == Some(0) {
        return Err(fields.error(DIMENSIONS, "must be 1 at least"));
    }
    let kinds = fields.strings(KINDS)?;
    let spelled = !kinds.is_empty();
    let encoding = |(at, kind): (usize, String)| match kind.as_str() {
        "float" => Encoding::Float,
        _ => Encoding::Other(format!("{KINDS}[{at}]"), kind),
    };
    let mut encodings: Vec<Encoding> = kinds.into_iter().enumerate().map(encoding).collect();
    if encodings.is_empty() {
        encodings.push(Encoding::Float);
    }
    let extras = fields.rest()?;
    let request = EmbedRequest::of(model, vec![Input::Text(text)]);
    Ok(EmbedRequest { alone: true, dimensions, encodings, spelled, extras, ..request })
}

/// An answer in Titan's form, which has its numbers twice.
fn titans_answer(response: &EmbedResponse) -> Vec<u8> {
    let mut numbers = Vec::new();
    if let Some(vector) = response.vectors.first() {
        vector.write_numbers(&mut numbers);
    }
    let mut out = br#"{"embedding":"#.to_vec();
    out.extend_from_slice(&numbers);
    out.extend_from_slice(br#","embeddingsByType":{"float":"#);
    out.extend_from_slice(&numbers);
    let tokens = response.input_tokens.unwrap_or(0);
    out.extend_from_slice(format!(r#"}},"inputTextTokenCount":{tokens}"#).as_bytes());
    if response.estimated {
        out.extend_from_slice(br#","estimated":true"#);
    }
    out.push(b'}');
    out
}

/// Titan's vector where it stands in the spellings only that were asked for.
fn one_of(kinds: &ByKind<'_>) -> Result<Vector, ResponseError> {
    match kinds.get("float") {
        Some(raw) => {
            let numbers =
                serde_json::from_str(raw.get()).map_err(|error| ResponseError(error.to_string()))?;
            Vector::of(numbers)
        }
        None if kinds.is_empty() => Err(invalid("embeddingsByType is empty")),
        None => Ok(Vector::Unread),
    }
}
