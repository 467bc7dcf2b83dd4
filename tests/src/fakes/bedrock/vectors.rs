//! Vectors, in the words of each model's maker: Amazon's Titan takes one text, and Cohere's models take a list.

use serde_json::{Value, json};

use super::error;
use crate::fakes::{unknown_field, words};
use crate::reply::Reply;
use crate::wire::Received;

const TITAN: [&str; 4] = ["inputText", "dimensions", "normalize", "embeddingTypes"];
const COHERE: [&str; 8] = [
    "texts",
    "images",
    "input_type",
    "truncate",
    "embedding_types",
    "inputs",
    "output_dimension",
    "max_tokens",
];

/// The model of a request at `/model/MODEL/invoke`; `None` for one that goes elsewhere.
pub(super) fn model(request: &Received) -> Option<String> {
    let model = request.path.strip_prefix("/model/")?.strip_suffix("/invoke")?;
    Some(model.replace("%3A", ":"))
}

/// The answer of a model.
pub(super) fn answer(model: &str, request: &Received) -> Reply {
    let body = serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
    let answered = match model {
        _ if request.method != "POST" => Err("only POST".to_owned()),
        "amazon.titan-embed-text-v2:0" => titan(&body, &TITAN),
        "amazon.titan-embed-text-v1" => titan(&body, &TITAN[..1]),
        "cohere.embed-v4:0" => cohere(&body, &COHERE, &["NONE", "LEFT", "RIGHT"]),
        "cohere.embed-english-v3" | "cohere.embed-multilingual-v3" => {
            cohere(&body, &COHERE[..5], &["NONE", "START", "END"])
        }
        _ => Err("The provided model identifier is invalid.".to_owned()),
    };
    match answered {
        Ok((tokens, answer)) => Reply::json(200, &answer)
            .with_header("x-amzn-bedrock-input-token-count", &tokens.to_string())
            .with_header("x-amzn-bedrock-invocation-latency", "1"),
        Err(why) => error(400, "ValidationException", &format!("Malformed input request: {why}")),
    }
}

/// How many tokens there were, and the answer.
type Answered = Result<(u64, Value), String>;

fn titan(body: &Value, fields: &[&str]) -> Answered {
    known(body, fields)?;
    let text = body["inputText"].as_str().filter(|text| !text.is_empty()).ok_or("no inputText")?;
    let numbers = vector(text, &body["dimensions"], &[256, 512, 1024])?;
    let mut answer = json!({ "embedding": numbers, "inputTextTokenCount": words(text) });
    if fields.len() > 1 {
        answer["embeddingsByType"] = json!({ "float": numbers });
    }
    Ok((words(text), answer))
}

fn cohere(body: &Value, fields: &[&str], cuts: &[&str]) -> Answered {
    known(body, fields)?;
    let texts = body["texts"].as_array().filter(|texts| (1..=96).contains(&texts.len())).ok_or("no texts")?;
    let texts: Option<Vec<&str>> = texts.iter().map(Value::as_str).collect();
    let texts = texts.ok_or("a text is none")?;
    if !body["input_type"].is_string() {
        return Err("required key [input_type] not found".into());
    }
    let cut = &body["truncate"];
    if !cut.is_null() && !cuts.iter().any(|known| cut == known) {
        return Err(format!("#/truncate: {cut} is not a valid enum value"));
    }
    let of = |text: &&str| vector(text, &body["output_dimension"], &[256, 512, 1024, 1536]);
    let vectors: Vec<Vec<f64>> = texts.iter().map(of).collect::<Result<_, String>>()?;
    let tokens: u64 = texts.iter().map(|text| words(text)).sum();
    let (kind, embeddings) = match body["embedding_types"].is_null() {
        true => ("embeddings_floats", json!(vectors)),
        false => ("embeddings_by_type", json!({ "float": vectors })),
    };
    Ok((tokens, json!({ "id": "fake", "embeddings": embeddings, "texts": texts, "response_type": kind })))
}

fn known(body: &Value, fields: &[&str]) -> Result<(), String> {
    match unknown_field(body, fields) {
        None => Ok(()),
        Some(field) => Err(format!("extraneous key [{field}] is not permitted")),
    }
}

/// Three numbers that single precision has exactly, or as many as are asked for.
fn vector(text: &str, wanted: &Value, lengths: &[u64]) -> Result<Vec<f64>, String> {
    let first = u32::try_from(text.chars().count()).map_or(0.0, f64::from) / 8.0;
    let length = match wanted.as_u64() {
        None if wanted.is_null() => 3,
        Some(wanted) if lengths.contains(&wanted) => wanted,
        _ => return Err(format!("{wanted} is no number of dimensions")),
    };
    Ok((0..length).map(|at| if at == 0 { first } else { 0.5 }).collect())
}
