//! Vectors at `/model/MODEL/invoke`: Amazon's Titan takes one text, and Cohere's models a list, each in a body of its own.

use http::{StatusCode, Uri};
use serde_json::{Map, Value, json};

use crate::dialect::bedrock::path;
use crate::simulate::chat::Ids;
use crate::simulate::cohere::uuid;
use crate::simulate::embeddings::Embed;
use crate::simulate::failure::Reject;
use crate::simulate::reply::Reply;

/// What a model takes, and refuses beside it.
struct Takes {
    fields: &'static [&'static str],
    /// The field in which fewer numbers are asked for, and how many there may be; the usual number is the last one.
    dimensions: Option<&'static str>,
    lengths: &'static [u64],
    truncates: &'static [&'static str],
}

const TITAN_V1: Takes = Takes { fields: &["inputText"], dimensions: None, lengths: &[1536], truncates: &[] };

const TITAN_V2: Takes = Takes {
    fields: &["inputText", "dimensions", "normalize", "embeddingTypes"],
    dimensions: Some("dimensions"),
    lengths: &[256, 512, 1024],
    truncates: &[],
};

const COHERE_V3: Takes = Takes {
    fields: &["texts", "images", "input_type", "truncate", "embedding_types"],
    dimensions: None,
    lengths: &[1024],
    truncates: &["NONE", "START", "END"],
};

const COHERE_V4: Takes = Takes {
    fields: &[
        "texts",
        "images",
        "inputs",
        "input_type",
        "truncate",
        "embedding_types",
        "output_dimension",
        "max_tokens",
    ],
    dimensions: Some("output_dimension"),
    lengths: &[256, 512, 1024, 1536],
    truncates: &["NONE", "LEFT", "RIGHT"],
};

/// Each by a part of its name.
const MODELS: [(&str, Takes); 5] = [
    ("titan-embed-text-v1", TITAN_V1),
    ("titan-embed-text-v2", TITAN_V2),
    ("cohere.embed-v4", COHERE_V4),
    ("cohere.embed-english-v3", COHERE_V3),
    ("cohere.embed-multilingual-v3", COHERE_V3),
];

/// Checks a request as the model's maker does.
pub(in crate::simulate) fn parse(uri: &Uri, fields: &Map<String, Value>) -> Result<Embed, Reject> {
    let operation = path::operation(uri.path()).ok_or_else(|| Reject::bad("the path names no model"))?;
    let model = operation.model;
    let (_, takes) = MODELS
        .iter()
        .find(|(part, _)| model.contains(part))
        .ok_or_else(|| Reject::bad("The provided model identifier is invalid."))?;
    let alone = takes.fields.contains(&"inputText");
    if let Some(name) = fields.keys().find(|name| !takes.fields.contains(&name.as_str())) {
        return Err(malformed(&format!("#: extraneous key [{name}] is not permitted")));
    }
    let texts = if alone { vec![text(fields.get("inputText"))?] } else { list(fields)? };
    let named = |field: &str| fields.get(field).and_then(Value::as_str);
    if !alone && named("input_type").is_none() {
        return Err(malformed("#: required key [input_type] not found"));
    }
    if let Some(cut) = fields.get("truncate")
        && !takes.truncates.iter().any(|known| cut == known)
    {
        return Err(malformed(&format!("#/truncate: {cut} is not a valid enum value")));
    }
    let usual = takes.lengths.last().copied().unwrap_or_default();
    let length = match takes.dimensions.and_then(|field| fields.get(field)) {
        None => usual,
        Some(wanted) => wanted
            .as_u64()
            .filter(|wanted| takes.lengths.contains(wanted))
            .ok_or_else(|| malformed(&format!("#: {wanted} is not a valid number of dimensions")))?,
    };
    let by_type = takes.fields.contains(&"embeddingTypes") || fields.contains_key("embedding_types");
    let dimensions = usize::try_from(length).unwrap_or(1);
    Ok(Embed { model, texts, dimensions, base64: false, alone, by_type })
}

/// The answer, and in its head how many tokens there were.
pub(in crate::simulate) fn write(embed: &Embed, vectors: &[Vec<f32>], count: u64, ids: &Ids) -> Reply {
    let body = match (embed.alone, embed.by_type) {
        (true, true) => json!({
            "embedding": vectors.first(), "embeddingsByType": { "float": vectors.first() }, "inputTextTokenCount": count,
        }),
        (true, false) => json!({ "embedding": vectors.first(), "inputTextTokenCount": count }),
        (false, true) => json!({
            "id": uuid(ids, "embeddings"), "embeddings": { "float": vectors }, "texts": embed.texts,
            "response_type": "embeddings_by_type",
        }),
        (false, false) => json!({
            "id": uuid(ids, "embeddings"), "embeddings": vectors, "texts": embed.texts,
            "response_type": "embeddings_floats",
        }),
    };
    Reply::json(StatusCode::OK, &body).with("x-amzn-bedrock-input-token-count", &count.to_string())
}

fn text(value: Option<&Value>) -> Result<String, Reject> {
    match value.and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        Some(_) => Err(malformed("expected minLength: 1, actual: 0")),
        None => Err(malformed("#: required key [inputText] not found")),
    }
}

fn list(fields: &Map<String, Value>) -> Result<Vec<String>, Reject> {
    let texts = fields.get("texts").and_then(Value::as_array);
    let texts = texts.ok_or_else(|| malformed("#: required key [texts] not found"))?;
    if texts.len() > 96 {
        return Err(malformed(&format!("#/texts: expected maximum item count: 96, found: {}", texts.len())));
    }
    let text = |text: &Value| text.as_str().map(str::to_owned);
    let texts: Option<Vec<String>> = texts.iter().map(text).collect();
    texts.filter(|texts| !texts.is_empty()).ok_or_else(|| malformed("#/texts/0: expected type: String"))
}

fn malformed(what: &str) -> Reject {
    Reject::bad(format!("Malformed input request: {what}, please reformat your input and try again."))
}
