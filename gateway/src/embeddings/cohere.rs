//! Cohere's `POST /v2/embed`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{
    EmbedRequest, EmbedResponse, EmbedWire, Encoding, Input, Named, Purpose, Truncate, Vector, Written, body,
    invalid, json as bytes_of, several, write_list,
};
use crate::dialect::{RequestError, ResponseError};
use crate::fields::Fields;
use crate::ir::Dropped;

pub(super) struct Cohere;

const PURPOSE: &str = "input_type";
pub(super) const TRUNCATE: &str = "truncate";
pub(super) const TYPES: &str = "embedding_types";

/// Texts of one request at most.
pub(super) const AT_ONCE: usize = 96;

/// Vectors by their spelling.
pub(super) type ByKind<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default, borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    embeddings: ByKind<'a>,
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    billed_units: Option<Billed>,
}

#[derive(Deserialize)]
struct Billed {
    #[serde(default)]
    input_tokens: Option<f64>,
}

impl EmbedWire for Cohere {
    fn parse_request(&self, body: &[u8], _: bool) -> Result<EmbedRequest, RequestError> {
        parse(body, &[])
    }

    fn write_request(&self, request: &EmbedRequest, model: &str) -> Result<Written, RequestError> {
        let texts = request.texts()?;
        several::check(&texts, AT_ONCE)?;
        let mut dropped = request.lost_extras();
        let purpose = purpose(request.purpose.as_ref(), &mut dropped);
        let mut form = json!({ "model": model, PURPOSE: purpose, TYPES: ["float"] });
        if let Some(dimensions) = request.dimensions {
            form["output_dimension"] = json!(dimensions);
        }
        // Cohere cuts what is too long unless it is told not to; clients of other dialects expect an error.
        form[TRUNCATE] = json!(match request.truncate.as_ref().map(|named| named.value) {
            None | Some(Truncate::Never) => "NONE",
            Some(Truncate::Start) => "START",
            Some(Truncate::End) => "END",
        });
        if request.user.is_some() {
            dropped.push(Dropped::new("user", "Cohere's dialect has no such field"));
        }
        Ok(several::written(&texts, AT_ONCE, dropped, |some| {
            let mut body = form.clone();
            body["texts"] = json!(some);
            Bytes::from(body.to_string())
        }))
    }

    fn parse_response(&self, body: &[u8]) -> Result<EmbedResponse, ResponseError> {
        let broken = |error: serde_json::Error| ResponseError(error.to_string());
        let answer: Answer<'_> = serde_json::from_slice(body).map_err(broken)?;
        let vectors = by_kind(&answer.embeddings)?;
        let billed = answer.meta.and_then(|meta| meta.billed_units).and_then(|billed| billed.input_tokens);
        Ok(EmbedResponse {
            id: answer.id.map(Cow::into_owned).unwrap_or_default(),
            vectors,
            // A count, though spelled as a float at times.
            input_tokens: billed.filter(|tokens| *tokens >= 0.0).map(|tokens| tokens.ceil() as u64),
            ..EmbedResponse::default()
        })
    }

    fn write_response(&self, request: &EmbedRequest, response: &EmbedResponse) -> Vec<u8> {
        let mut out = format!(r#"{{"id":{},"embeddings":"#, json!(response.id)).into_bytes();
        write_by_kind(request, &response.vectors, &mut out);
        out.extend_from_slice(br#","texts":"#);
        out.extend_from_slice(&bytes_of(&json!(texts_of(request))));
        let mut meta = json!({
            "api_version": { "version": "2" },
            "billed_units": { "input_tokens": response.input_tokens.unwrap_or(0) },
        });
        if response.estimated {
            meta["billed_units"]["estimated"] = json!(true);
        }
        out.extend_from_slice(format!(r#","meta":{meta},"response_type":"embeddings_by_type"}}"#).as_bytes());
        out
    }
}

/// Reads a body. `cuts`: what else `truncate` may be, as Cohere's models have it elsewhere.
pub(super) fn parse(body: &[u8], cuts: &[(&str, Truncate)]) -> Result<EmbedRequest, RequestError> {
    let (mut fields, texts) = body::without(body, "texts")?;
    let model = fields.string("model")?.unwrap_or_default();
    let mut inputs = texts.as_deref().map(|raw| body::texts(raw, "texts")).transpose()?.unwrap_or_default();
    let images = fields.strings("images")?.into_iter().enumerate();
    inputs.extend(images.map(|(at, image)| Input::Other {
        path: format!("images[{at}]"),
        fetched: !image.starts_with("data:"),
    }));
    for mixed in fields.objects("inputs")?.unwrap_or_default() {
        inputs.push(contents(mixed)?);
    }
    if inputs.is_empty() {
        return Err(fields.error("texts", "is missing, and so are images and inputs"));
    }
    let purpose = fields.string(PURPOSE)?.map(|name| {
        let value = match name.as_str() {
            "search_document" => Purpose::Document,
            "search_query" => Purpose::Query,
            "classification" => Purpose::Classification,
            "clustering" => Purpose::Clustering,
            _ => Purpose::Other(name),
        };
        Named { field: PURPOSE, value }
    });
    let dimensions = fields.uint("output_dimension")?;
    let truncate = match fields.string(TRUNCATE)?.as_deref() {
        None => None,
        Some("NONE") => Some(Truncate::Never),
        Some("START") => Some(Truncate::Start),
        Some("END") => Some(Truncate::End),
        Some(name) => {
            let known = cuts.iter().find(|(known, _)| *known == name).map(|(_, cut)| *cut);
            Some(known.ok_or_else(|| fields.error(TRUNCATE, "must be NONE, START or END"))?)
        }
    };
    let types = fields.strings(TYPES)?;
    let spelled = !types.is_empty();
    let encoding = |(at, kind): (usize, String)| match kind.as_str() {
        "float" => Encoding::Float,
        "base64" => Encoding::Base64,
        _ => Encoding::Other(format!("{TYPES}[{at}]"), kind),
    };
    let mut encodings: Vec<Encoding> = types.into_iter().enumerate().map(encoding).collect();
    if encodings.is_empty() {
        encodings.push(Encoding::Float);
    }
    let truncate = truncate.map(|value| Named { field: TRUNCATE, value });
    let extras = fields.rest()?;
    Ok(EmbedRequest {
        purpose,
        dimensions,
        truncate,
        encodings,
        spelled,
        extras,
        ..EmbedRequest::of(model, inputs)
    })
}

/// The vectors of an answer: in a spelling that is read here, where it has one.
pub(super) fn by_kind(all: &ByKind<'_>) -> Result<Vec<Vector>, ResponseError> {
    let broken = |error: serde_json::Error| ResponseError(error.to_string());
    let of = |kind: &str| all.get(kind).map(|raw| raw.get());
    match (of("float").or(of("float_")), of("base64")) {
        (Some(numbers), _) => {
            let vectors: Vec<Vec<f32>> = serde_json::from_str(numbers).map_err(broken)?;
            vectors.into_iter().map(Vector::of).collect()
        }
        (None, Some(texts)) => {
            let texts: Vec<Cow<'_, str>> = serde_json::from_str(texts).map_err(broken)?;
            texts.iter().map(|text| Vector::of_base64(text)).collect()
        }
        (None, None) => {
            let any = all.values().next().ok_or_else(|| invalid("embeddings is empty"))?;
            let vectors: Vec<IgnoredAny> = serde_json::from_str(any.get()).map_err(broken)?;
            Ok(vectors.iter().map(|_| Vector::Unread).collect())
        }
    }
}

/// The texts of a request, as Cohere repeats them.
pub(super) fn texts_of(request: &EmbedRequest) -> Vec<&str> {
    request
        .inputs
        .iter()
        .filter_map(|input| if let Input::Text(text) = input { Some(text.as_str()) } else { None })
        .collect()
}

/// The vectors in the spellings that the client asked for.
pub(super) fn write_by_kind(request: &EmbedRequest, vectors: &[Vector], out: &mut Vec<u8>) {
    let mut kinds = Vec::new();
    out.push(b'{');
    for encoding in &request.encodings {
        let (name, base64) = match encoding {
            Encoding::Float => ("float", false),
            Encoding::Base64 => ("base64", true),
            Encoding::Other(..) => continue,
        };
        if kinds.contains(&name) {
            continue;
        }
        let comma = if kinds.is_empty() { "" } else { "," };
        out.extend_from_slice(format!(r#"{comma}"{name}":"#).as_bytes());
        write_list(vectors, out, |_, vector, out| {
            let write = if base64 { Vector::write_base64 } else { Vector::write_numbers };
            write(vector, out);
        });
        kinds.push(name);
    }
    out.push(b'}');
}

/// One of `inputs`: text alone is text, anything else passes to Cohere only.
fn contents(mut input: Fields) -> Result<Input, RequestError> {
    let path = input.at("content");
    let mut parts = input.objects("content")?.ok_or_else(|| input.error("content", "is missing"))?;
    let address = |part: &Fields| {
        let image = part.peek("image_url");
        let url = image.map(|image| image.get("url").unwrap_or(image)).and_then(Value::as_str);
        url.is_some_and(|url| !url.starts_with("data:"))
    };
    let fetched = parts.iter().any(address);
    match parts.as_mut_slice() {
        [] => Err(RequestError { path, message: "is empty".to_owned() }),
        // What stands beside a text may be what the provider takes.
        [one] if !fetched && one.peek("type").and_then(Value::as_str) == Some("text") => {
            Ok(Input::Text(one.required_string("text")?))
        }
        _ => Ok(Input::Other { path, fetched }),
    }
}

/// Cohere wants to know what vectors are for.
pub(super) fn purpose<'r>(asked: Option<&'r Named<Purpose>>, dropped: &mut Vec<Dropped>) -> &'r str {
    const DEFAULT: &str = "search_document";
    let Some(Named { field, value }) = asked else {
        dropped.push(Dropped::new(PURPOSE, "the provider wants one, and search_document was sent"));
        return DEFAULT;
    };
    match value {
        Purpose::Document => DEFAULT,
        Purpose::Query => "search_query",
        Purpose::Classification => "classification",
        Purpose::Clustering => "clustering",
        Purpose::QuestionAnswering | Purpose::FactVerification | Purpose::CodeQuery => {
            dropped.push(Dropped::new(*field, "Cohere has no such purpose, and search_query was sent"));
            "search_query"
        }
        Purpose::Similarity | Purpose::Other(_) => {
            dropped.push(Dropped::new(*field, "Cohere has no such purpose, and search_document was sent"));
            DEFAULT
        }
    }
}
