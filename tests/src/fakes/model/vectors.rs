//! Embeddings, beside the doors at which one chats: numbers that follow from each text.

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::fakes::{stray_header, unknown_field, words};
use crate::reply::Reply;
use crate::upstream::Host;
use crate::wire::Received;

/// Whose way of asking it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `POST /v1/embeddings`.
    OpenAi,
    /// `POST /v1beta/models/MODEL:embedContent` and `:batchEmbedContents`.
    Gemini,
    /// `POST /v2/embed`.
    Cohere,
    /// `POST /api/embed`.
    Ollama,
}

/// A provider that has embeddings as well.
pub struct WithVectors<H> {
    others: H,
    form: Form,
    key: String,
    model: String,
}

/// `others`, and embeddings of `model` beside it, for whoever has `key`; Ollama asks for none.
pub fn with_vectors<H: Host>(others: H, form: Form, key: &str, model: &str) -> WithVectors<H> {
    WithVectors { others, form, key: key.to_owned(), model: model.to_owned() }
}

impl<H: Host> Host for WithVectors<H> {
    fn answer(&self, request: &Received) -> Reply {
        let google = format!("/v1beta/models/{}:", self.model);
        let method = request.path.strip_prefix(&google).filter(|_| self.form == Form::Gemini);
        let asked = match (self.form, request.path.as_str()) {
            (Form::OpenAi, "/v1/embeddings") => openai,
            (Form::Cohere, "/v2/embed") => cohere,
            (Form::Ollama, "/api/embed") => ollama,
            (Form::Gemini, _) if method == Some("embedContent") => one,
            (Form::Gemini, _) if method == Some("batchEmbedContents") => batch,
            _ => return self.others.answer(request),
        };
        match self.judged(request).and_then(|body| asked(&body)) {
            Ok(answer) => Reply::json(200, &answer),
            Err((status, why)) => {
                Reply::json(status, &json!({ "error": { "message": why }, "message": why }))
            }
        }
    }
}

type Refused = (u16, String);

impl<H> WithVectors<H> {
    fn judged(&self, request: &Received) -> Result<Value, Refused> {
        let bearer = format!("Bearer {}", self.key);
        let allowed = match self.form {
            Form::OpenAi | Form::Cohere => request.header("authorization") == Some(&bearer),
            Form::Gemini => request.header("x-goog-api-key") == Some(&self.key),
            Form::Ollama => request.header("authorization").is_none(),
        };
        if !allowed || request.method != "POST" || request.query.is_some() {
            return Err((401, "another key".into()));
        }
        if let Some(name) = stray_header(request) {
            return Err((400, format!("unexpected header {name}")));
        }
        let body: Value = serde_json::from_slice(&request.body).map_err(|e| (400, e.to_string()))?;
        if self.form != Form::Gemini && body["model"] != json!(self.model) {
            return Err((404, format!("no model {}", body["model"])));
        }
        Ok(body)
    }
}

fn known(body: &Value, fields: &[&str]) -> Result<(), Refused> {
    match unknown_field(body, fields) {
        None => Ok(()),
        Some(field) => Err((400, format!("unknown field {field}"))),
    }
}

/// The texts of a list, or the only one of it.
fn texts(list: &Value) -> Result<Vec<String>, Refused> {
    let all = list.as_array().cloned().unwrap_or_else(|| vec![list.clone()]);
    let texts: Option<Vec<String>> = all.iter().map(|text| text.as_str().map(str::to_owned)).collect();
    texts.filter(|texts| !texts.is_empty()).ok_or_else(|| (400, format!("these are no texts: {list}")))
}

/// Three numbers that single precision has exactly, or fewer.
fn vector(text: &str, dimensions: &Value) -> Vec<f64> {
    let length = u32::try_from(text.chars().count()).map_or(0.0, f64::from);
    let wanted = dimensions.as_u64().and_then(|wanted| usize::try_from(wanted).ok());
    [length / 8.0, 0.5, -0.25].into_iter().take(wanted.unwrap_or(3)).collect()
}

fn vectors(texts: &[String], dimensions: &Value) -> Vec<Vec<f64>> {
    texts.iter().map(|text| vector(text, dimensions)).collect()
}

fn tokens(texts: &[String]) -> u64 {
    texts.iter().map(|text| words(text)).sum()
}

fn openai(body: &Value) -> Result<Value, Refused> {
    known(body, &["dimensions", "encoding_format", "input", "model", "user"])?;
    let texts = texts(&body["input"])?;
    let in_base64 = body["encoding_format"] == "base64";
    let written = |(index, vector): (usize, Vec<f64>)| {
        #[expect(clippy::cast_possible_truncation, reason = "they are exact")]
        let bytes: Vec<u8> = vector.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect();
        let embedding = if in_base64 { json!(BASE64.encode(&bytes)) } else { json!(vector) };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    let data: Vec<Value> =
        vectors(&texts, &body["dimensions"]).into_iter().enumerate().map(written).collect();
    let usage = json!({ "prompt_tokens": tokens(&texts), "total_tokens": tokens(&texts) });
    Ok(json!({ "object": "list", "data": data, "model": body["model"], "usage": usage }))
}

fn content(body: &Value) -> Result<(String, Value), Refused> {
    known(body, &["content", "model", "outputDimensionality", "taskType", "title"])?;
    let parts = body["content"]["parts"].as_array().map_or(&[][..], Vec::as_slice);
    let [part] = parts else { return Err((400, "one part is one vector".into())) };
    let text = part["text"].as_str().ok_or_else(|| (400, format!("this is no text: {part}")))?;
    Ok((text.to_owned(), json!({ "values": vector(text, &body["outputDimensionality"]) })))
}

fn one(body: &Value) -> Result<Value, Refused> {
    let (text, embedding) = content(body)?;
    Ok(json!({ "embedding": embedding, "usageMetadata": { "promptTokenCount": words(&text) } }))
}

fn batch(body: &Value) -> Result<Value, Refused> {
    known(body, &["requests"])?;
    let requests = body["requests"].as_array().map_or(&[][..], Vec::as_slice);
    if requests.iter().any(|request| !request["model"].is_string()) {
        return Err((400, "each request names the model".into()));
    }
    let all: Vec<(String, Value)> = requests.iter().map(content).collect::<Result<_, _>>()?;
    let count: u64 = all.iter().map(|(text, _)| words(text)).sum();
    let embeddings: Vec<Value> = all.into_iter().map(|(_, embedding)| embedding).collect();
    Ok(json!({ "embeddings": embeddings, "usageMetadata": { "promptTokenCount": count } }))
}

fn cohere(body: &Value) -> Result<Value, Refused> {
    known(body, &["embedding_types", "input_type", "model", "output_dimension", "texts", "truncate"])?;
    let texts = texts(&body["texts"])?;
    if !body["input_type"].is_string() || body["embedding_types"] != json!(["float"]) {
        return Err((400, "input_type is required, and floats are what there is".into()));
    }
    let meta =
        json!({ "api_version": { "version": "2" }, "billed_units": { "input_tokens": tokens(&texts) } });
    Ok(json!({
        "id": "fake", "texts": texts, "embeddings": { "float": vectors(&texts, &body["output_dimension"]) },
        "meta": meta, "response_type": "embeddings_by_type",
    }))
}

fn ollama(body: &Value) -> Result<Value, Refused> {
    known(body, &["dimensions", "input", "keep_alive", "model", "options", "truncate"])?;
    let texts = texts(&body["input"])?;
    Ok(json!({
        "model": body["model"], "embeddings": vectors(&texts, &body["dimensions"]), "total_duration": 14_143_917,
        "load_duration": 1_019_500, "prompt_eval_count": tokens(&texts),
    }))
}
