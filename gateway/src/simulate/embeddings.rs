//! Embeddings as providers write them, over vectors that mean something: each word of a text points somewhere, so that texts
//! with the same words are close to each other.

use data_encoding::BASE64;
use http::{StatusCode, Uri};
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use super::chat::Ids;
use super::cohere::uuid;
use super::failure::Reject;
use super::reply::Reply;
use super::served::Wire;
use super::{bedrock, text, tokens};

/// Numbers of a vector at most.
const MOST: u64 = 4096;

/// What Gemini calls the numbers of a vector.
const DIMENSIONALITY: &str = "outputDimensionality";

/// A request, as far as it decides the answer.
pub(super) struct Embed {
    pub(super) model: String,
    pub(super) texts: Vec<String>,
    pub(super) dimensions: usize,
    pub(super) base64: bool,
    /// Whether one vector is asked for, and no list.
    pub(super) alone: bool,
    /// Whether the answer says how its vectors are spelled (Bedrock).
    pub(super) by_type: bool,
}

/// Checks a request as the provider does.
pub(super) fn parse(wire: Wire, uri: &Uri, body: &Value) -> Result<Embed, Reject> {
    let fields = body.as_object().ok_or_else(|| Reject::bad("the body must be an object"))?;
    match wire {
        Wire::GeminiEmbeddings => gemini(uri, fields),
        Wire::CohereEmbeddings => cohere(fields),
        Wire::BedrockEmbeddings => bedrock::vectors::parse(uri, fields),
        _ => openai(wire, fields),
    }
}

fn openai(wire: Wire, fields: &Map<String, Value>) -> Result<Embed, Reject> {
    let model = model(fields)?;
    let texts = match fields.get("input") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) if items.iter().all(Value::is_u64) && !items.is_empty() => vec![ids(items)],
        Some(Value::Array(items)) if !items.is_empty() => {
            let text = |item: &Value| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Array(items) if items.iter().all(Value::is_u64) => Ok(ids(items)),
                _ => Err(Reject::bad("'$.input' is invalid.").at("input")),
            };
            items.iter().map(text).collect::<Result<_, _>>()?
        }
        _ => return Err(Reject::bad("'$.input' is invalid.").at("input")),
    };
    let usual = if wire == Wire::OllamaEmbeddings { 768 } else { 1536 };
    let base64 = match fields.get("encoding_format").and_then(Value::as_str) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Reject::bad("encoding_format must be float or base64").at("encoding_format")),
    };
    let dimensions = dimensions(fields, "dimensions", usual)?;
    Ok(Embed { model, texts, dimensions, base64, alone: false, by_type: false })
}

fn cohere(fields: &Map<String, Value>) -> Result<Embed, Reject> {
    let model = model(fields)?;
    if !fields.get("input_type").is_some_and(Value::is_string) {
        return Err(Reject::bad(
            "invalid request: valid input_type must be provided with the provided model",
        ));
    }
    let texts: Option<Vec<String>> = fields
        .get("texts")
        .and_then(Value::as_array)
        .and_then(|texts| texts.iter().map(|text| text.as_str().map(str::to_owned)).collect());
    let texts = texts.filter(|texts| !texts.is_empty());
    let texts = texts.ok_or_else(|| Reject::bad("invalid request: at least one text is required"))?;
    if texts.len() > 96 {
        return Err(Reject::bad("invalid request: total number of texts must be at most 96"));
    }
    Ok(Embed {
        model,
        texts,
        dimensions: dimensions(fields, "output_dimension", 1536)?,
        base64: false,
        alone: false,
        by_type: true,
    })
}

fn gemini(uri: &Uri, fields: &Map<String, Value>) -> Result<Embed, Reject> {
    let path = uri.path();
    let (model, method) = path.rsplit('/').next().and_then(|last| last.split_once(':')).unwrap_or_default();
    let alone = method == "embedContent";
    let one = |one: &Value| {
        let named = one.get("model").and_then(Value::as_str);
        if named.is_some_and(|named| named != format!("models/{model}")) || (named.is_none() && !alone) {
            return Err(Reject::bad("The model in each request must match the model of the path."));
        }
        let parts = one.pointer("/content/parts").and_then(Value::as_array);
        let text =
            parts.and_then(|parts| parts.first()).and_then(|part| part.get("text")).and_then(Value::as_str);
        let text = text.ok_or_else(|| Reject::bad("content is not set"))?;
        // Where Google has it now, and where it had it first.
        let config = one.get("embedContentConfig").filter(|config| config.get(DIMENSIONALITY).is_some());
        let fields = config.unwrap_or(one).as_object().cloned().unwrap_or_default();
        Ok((text.to_owned(), dimensions(&fields, DIMENSIONALITY, 3072)?))
    };
    let all: Vec<(String, usize)> = if alone {
        vec![one(&Value::Object(fields.clone()))?]
    } else {
        let requests =
            fields.get("requests").and_then(Value::as_array).filter(|requests| !requests.is_empty());
        let requests = requests.ok_or_else(|| Reject::bad("at least one request is required"))?;
        if requests.len() > 100 {
            return Err(Reject::bad(
                "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch",
            ));
        }
        requests.iter().map(one).collect::<Result<_, _>>()?
    };
    let dimensions = all.first().map_or(3072, |(_, dimensions)| *dimensions);
    let texts = all.into_iter().map(|(text, _)| text).collect();
    Ok(Embed { model: model.to_owned(), texts, dimensions, base64: false, alone, by_type: false })
}

fn model(fields: &Map<String, Value>) -> Result<String, Reject> {
    match fields.get("model") {
        Some(Value::String(model)) if !model.is_empty() => Ok(model.clone()),
        _ => Err(Reject::bad("you must provide a model parameter").at("model")),
    }
}

fn dimensions(fields: &Map<String, Value>, name: &str, usual: usize) -> Result<usize, Reject> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(usual),
        Some(value) => match value.as_u64() {
            Some(number @ 1..=MOST) => Ok(usize::try_from(number).unwrap_or(usual)),
            _ => Err(Reject::bad(format!("{name} must be from 1 to {MOST}")).at(name)),
        },
    }
}

/// Token ids as words.
fn ids(items: &[Value]) -> String {
    items.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")
}

/// The answer.
pub(super) fn write(wire: Wire, embed: &Embed, ids: &Ids) -> Reply {
    let count: u64 = embed.texts.iter().map(|text| tokens::count(text).max(1)).sum();
    let vectors: Vec<Vec<f32>> = embed.texts.iter().map(|text| vector(text, embed.dimensions)).collect();
    let body = match wire {
        Wire::BedrockEmbeddings => return bedrock::vectors::write(embed, &vectors, count, ids),
        Wire::GeminiEmbeddings if embed.alone => json!({ "embedding": { "values": vectors[0] } }),
        Wire::GeminiEmbeddings => {
            json!({ "embeddings": vectors.iter().map(|values| json!({ "values": values })).collect::<Vec<_>>() })
        }
        Wire::CohereEmbeddings => json!({
            "id": uuid(ids, "embeddings"), "embeddings": { "float": vectors }, "texts": embed.texts,
            "meta": { "api_version": { "version": "2" }, "billed_units": { "input_tokens": count } },
            "response_type": "embeddings_by_type",
        }),
        Wire::OllamaEmbeddings => json!({
            "model": embed.model, "embeddings": vectors, "total_duration": 14_143_917_u64,
            "load_duration": 1_019_500_u64, "prompt_eval_count": count,
        }),
        _ => {
            let spelled = |vector: &Vec<f32>| match embed.base64 {
                true => {
                    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                    json!(BASE64.encode(&bytes))
                }
                false => json!(vector),
            };
            let item =
                |(at, vector)| json!({ "object": "embedding", "index": at, "embedding": spelled(vector) });
            json!({
                "object": "list", "data": vectors.iter().enumerate().map(item).collect::<Vec<_>>(),
                "model": embed.model, "usage": { "prompt_tokens": count, "total_tokens": count },
            })
        }
    };
    Reply::json(StatusCode::OK, &body)
}

/// The direction of a text, of length one: the sum of those of its words.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f32; dimensions];
    for word in text::words(text) {
        let hash = digest(&SHA256, word.as_bytes());
        let (place, sign) = hash.as_ref().split_at(8);
        let place =
            place.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(256).wrapping_add(usize::from(*byte)));
        sum[place % dimensions] += if sign[0] % 2 == 0 { 1.0 } else { -1.0 };
    }
    let length = sum.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length == 0.0 {
        sum[0] = 1.0;
        return sum;
    }
    sum.into_iter().map(|number| number / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_the_same_words_are_close() {
        let near =
            |a: &str, b: &str| -> f32 { vector(a, 256).iter().zip(vector(b, 256)).map(|(a, b)| a * b).sum() };
        let question = "Where do the agents keep their keys?";
        assert!((near(question, question) - 1.0).abs() < 1e-5);
        assert!(
            near(question, "An agent keeps no key at all.") > near(question, "Rain is likely on Sunday.")
        );
        assert_eq!(vector("", 3), [1.0, 0.0, 0.0]);
    }
}
