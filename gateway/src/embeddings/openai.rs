//! `POST /v1/embeddings`, OpenAI's and that of whoever is compatible with it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    EmbedRequest, EmbedResponse, EmbedWire, Encoding, Named, Purpose, Vector, Written, body, invalid,
    write_list,
};
use crate::dialect::{RequestError, ResponseError};
use crate::ir::Dropped;

pub(super) struct OpenAi;

/// What compatible providers call a purpose. OpenAI itself has none.
const PURPOSE: &str = "input_type";

#[derive(Serialize)]
struct Request<'r> {
    model: &'r str,
    input: Vec<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'r str>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default, borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Vec<Item<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(default)]
    index: Option<usize>,
    #[serde(borrow)]
    embedding: Spelled<'a>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
}

/// A vector in either spelling.
enum Spelled<'a> {
    Numbers(Vec<f32>),
    Base64(Cow<'a, str>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Spelled<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = Spelled<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("numbers, or base64 text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Spelled::Base64(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Spelled::Base64(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut numbers = Vec::new();
                while let Some(number) = seq.next_element()? {
                    numbers.push(number);
                }
                Ok(Spelled::Numbers(numbers))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl EmbedWire for OpenAi {
    fn parse_request(&self, body: &[u8], _: bool) -> Result<EmbedRequest, RequestError> {
        let (mut fields, input) = body::without(body, "input")?;
        let inputs = body::inputs(input.as_deref(), true)?;
        let model = fields.string("model")?.unwrap_or_default();
        let dimensions = fields.uint("dimensions")?;
        if dimensions == Some(0) {
            return Err(fields.error("dimensions", "must be 1 at least"));
        }
        let encoding = match fields.string("encoding_format")?.as_deref() {
            None | Some("float") => Encoding::Float,
            Some("base64") => Encoding::Base64,
            Some(other) => Encoding::Other("encoding_format".to_owned(), other.to_owned()),
        };
        let user = fields.string("user")?;
        let purpose = fields.string(PURPOSE)?.map(|name| {
            let value = match name.as_str() {
                "query" | "search_query" => Purpose::Query,
                "document" | "passage" | "search_document" => Purpose::Document,
                "classification" => Purpose::Classification,
                "clustering" => Purpose::Clustering,
                _ => Purpose::Other(name),
            };
            Named { field: PURPOSE, value }
        });
        let extras = fields.rest()?;
        let request = EmbedRequest::of(model, inputs);
        Ok(EmbedRequest { dimensions, encodings: vec![encoding], user, purpose, extras, ..request })
    }

    fn write_request(&self, request: &EmbedRequest, model: &str) -> Result<Written, RequestError> {
        let input = request.texts()?;
        let mut dropped = request.lost_extras();
        if let Some(purpose) = &request.purpose {
            dropped.push(Dropped::new(purpose.field, "OpenAI's dialect does not say what vectors are for"));
        }
        if let Some(truncate) = &request.truncate {
            dropped.push(Dropped::new(truncate.field, "OpenAI's dialect refuses inputs that are too long"));
        }
        let (dimensions, user) = (request.dimensions, request.user.as_deref());
        let body = serde_json::to_vec(&Request { model, input, dimensions, user });
        Ok(Written::whole(body.map(Bytes::from).unwrap_or_default(), dropped))
    }

    fn parse_response(&self, body: &[u8]) -> Result<EmbedResponse, ResponseError> {
        let answer: Answer<'_> = serde_json::from_slice(body).map_err(|e| ResponseError(e.to_string()))?;
        let count = answer.data.len();
        let mut vectors: Vec<Option<Vector>> = (0..count).map(|_| None).collect();
        let mut spelled = Vec::new();
        for (at, item) in answer.data.into_iter().enumerate() {
            let place = vectors.get_mut(item.index.unwrap_or(at));
            let place = place
                .filter(|place| place.is_none())
                .ok_or_else(|| invalid("data[].index is in disorder"))?;
            let (vector, way) = match item.embedding {
                Spelled::Numbers(numbers) => (Vector::of(numbers)?, Encoding::Float),
                Spelled::Base64(text) => (Vector::of_base64(&text)?, Encoding::Base64),
            };
            *place = Some(vector);
            if !spelled.contains(&way) {
                spelled.push(way);
            }
        }
        let usage = answer.usage.and_then(|usage| usage.prompt_tokens.or(usage.total_tokens));
        Ok(EmbedResponse {
            model: answer.model.map(Cow::into_owned).unwrap_or_default(),
            vectors: vectors.into_iter().flatten().collect(),
            spelled,
            input_tokens: usage,
            ..EmbedResponse::default()
        })
    }

    fn write_response(&self, request: &EmbedRequest, response: &EmbedResponse) -> Vec<u8> {
        let mut out = br#"{"object":"list","data":"#.to_vec();
        let base64 = request.encodings.contains(&Encoding::Base64);
        write_list(&response.vectors, &mut out, |at, vector, out| {
            out.extend_from_slice(format!(r#"{{"object":"embedding","index":{at},"embedding":"#).as_bytes());
            let write = if base64 { Vector::write_base64 } else { Vector::write_numbers };
            write(vector, out);
            out.push(b'}');
        });
        let tokens = response.input_tokens.unwrap_or(0);
        let mut usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
        if response.estimated {
            usage["estimated"] = json!(true);
        }
        out.extend_from_slice(format!(r#","model":{},"usage":{usage}}}"#, json!(response.model)).as_bytes());
        out
    }
}
