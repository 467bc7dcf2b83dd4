//! Gemini's `MODEL:embedContent` and `MODEL:batchEmbedContents`.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{
    EmbedRequest, EmbedResponse, EmbedWire, Input, Named, Purpose, Truncate, Vector, Written, invalid,
    several, write_list,
};
use crate::dialect::{RequestError, ResponseError};
use crate::edit::Document;
use crate::fields::Fields;
use crate::ir::Dropped;

pub(super) struct Gemini;

const PURPOSE: &str = "taskType";
const DIMENSIONS: &str = "outputDimensionality";
const TRUNCATE: &str = "autoTruncate";

/// Texts of one list at most.
const AT_ONCE: usize = 100;

/// Where Google has all of that now. It had it beside the content first, and still takes it there.
const CONFIG: &str = "embedContentConfig";
const PURPOSE_WITHIN: &str = "embedContentConfig.taskType";
const TRUNCATE_WITHIN: &str = "embedContentConfig.autoTruncate";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    embedding: Option<Values>,
    #[serde(default)]
    embeddings: Option<Vec<Values>>,
    #[serde(default)]
    usage_metadata: Option<Usage>,
}

#[derive(Deserialize)]
struct Values {
    values: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    #[serde(default)]
    prompt_token_count: Option<u64>,
}

impl EmbedWire for Gemini {
    fn parse_request(&self, body: &[u8], alone: bool) -> Result<EmbedRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        if alone {
            let mut request = one(fields.renamed(camel)?)?;
            request.alone = true;
            return Ok(request);
        }
        let requests = fields.objects("requests")?.ok_or_else(|| fields.error("requests", "is missing"))?;
        let mut all: Option<EmbedRequest> = None;
        for (at, each) in requests.into_iter().enumerate() {
            let next = one(each.renamed(camel)?)?;
            match &mut all {
                None => all = Some(next),
                Some(all) => join(all, next, at)?,
            }
        }
        all.ok_or_else(|| fields.error("requests", "is empty"))
    }

    fn write_request(&self, request: &EmbedRequest, model: &str) -> Result<Written, RequestError> {
        let texts = request.texts()?;
        several::check(&texts, AT_ONCE)?;
        let mut dropped = request.lost_extras();
        let purpose = request.purpose.as_ref().and_then(|purpose| named(purpose, &mut dropped));
        if let Some(truncate) = &request.truncate {
            dropped.push(Dropped::new(truncate.field, "Gemini's dialect has no such field"));
        }
        if request.user.is_some() {
            dropped.push(Dropped::new("user", "Gemini's dialect has no such field"));
        }
        let model = format!("models/{model}");
        let one = |text: &str| {
            let mut one = json!({ "model": model, "content": { "parts": [{ "text": text }] } });
            if let Some(purpose) = purpose {
                one[PURPOSE] = json!(purpose);
            }
            if let Some(dimensions) = request.dimensions {
                one[DIMENSIONS] = json!(dimensions);
            }
            one
        };
        if let [text] = texts.as_slice() {
            return Ok(Written::whole(Bytes::from(one(text).to_string()), dropped));
        }
        // The last of several may have one text and goes to the same path as the others: it is a list as well.
        Ok(several::written(&texts, AT_ONCE, dropped, |some| {
            let requests: Vec<Value> = some.iter().map(|text| one(text)).collect();
            Bytes::from(json!({ "requests": requests }).to_string())
        }))
    }

    fn parse_response(&self, body: &[u8]) -> Result<EmbedResponse, ResponseError> {
        let answer: Answer = serde_json::from_slice(body).map_err(|e| ResponseError(e.to_string()))?;
        let all = match (answer.embedding, answer.embeddings) {
            (Some(one), None) => vec![one],
            (None, Some(all)) => all,
            _ => return Err(invalid("neither embedding nor embeddings is there, or both are")),
        };
        Ok(EmbedResponse {
            vectors: all.into_iter().map(|one| Vector::of(one.values)).collect::<Result<_, _>>()?,
            input_tokens: answer.usage_metadata.and_then(|usage| usage.prompt_token_count),
            ..EmbedResponse::default()
        })
    }

    fn write_response(&self, request: &EmbedRequest, response: &EmbedResponse) -> Vec<u8> {
        let values = |vector: &Vector, out: &mut Vec<u8>| {
            out.extend_from_slice(br#"{"values":"#);
            vector.write_numbers(out);
            out.push(b'}');
        };
        let mut out = Vec::new();
        if request.alone {
            out.extend_from_slice(br#"{"embedding":"#);
            if let Some(vector) = response.vectors.first() {
                values(vector, &mut out);
            }
        } else {
            out.extend_from_slice(br#"{"embeddings":"#);
            write_list(&response.vectors, &mut out, |_, vector, out| values(vector, out));
        }
        if let Some(tokens) = response.input_tokens.filter(|_| !response.estimated) {
            out.extend_from_slice(format!(r#","usageMetadata":{{"promptTokenCount":{tokens}}}"#).as_bytes());
        }
        out.push(b'}');
        out
    }
}

/// A client's body with another model in it: the path names the model, and so does each request of a list.
pub(super) fn rewritten(body: &[u8], alone: bool, model: &str) -> Result<Bytes, serde_json::Error> {
    let mut document = Document::parse(body)?;
    let model = format!("models/{model}");
    if alone {
        document.set("model", &model)?;
        return document.to_bytes();
    }
    let requests = document.take("requests");
    let list: Vec<&RawValue> =
        requests.first().map(|raw| serde_json::from_str(raw.get())).transpose()?.unwrap_or_default();
    let mut changed = Vec::with_capacity(list.len());
    for raw in list {
        let mut one = Document::parse(raw.get().as_bytes())?;
        one.set("model", &model)?;
        changed.push(one);
    }
    document.set("requests", &changed)?;
    document.to_bytes()
}

/// One request.
fn one(mut fields: Fields) -> Result<EmbedRequest, RequestError> {
    let model = fields.string("model")?.unwrap_or_default();
    let model = model.strip_prefix("models/").unwrap_or(&model).to_owned();
    let mut content = fields.required_object("content")?;
    let input = content_of(&mut content)?;
    let mut purpose = fields.string(PURPOSE)?.map(|name| (PURPOSE, name));
    let mut dimensions = fields.uint(DIMENSIONS)?;
    let (mut truncate, mut within) = (None, Map::new());
    if let Some(config) = fields.object(CONFIG)? {
        let mut config = config.renamed(camel)?;
        // Said in both places, the provider takes which one it likes.
        let said = [(PURPOSE, purpose.is_some()), (DIMENSIONS, dimensions.is_some())];
        if let Some((name, _)) = said.into_iter().find(|(name, said)| *said && config.peek(name).is_some()) {
            let message = "stands beside the content as well, and only one of them may be there";
            return Err(config.error(name, message));
        }
        purpose = purpose.or(config.string(PURPOSE)?.map(|name| (PURPOSE_WITHIN, name)));
        dimensions = dimensions.or(config.uint(DIMENSIONS)?);
        truncate = config.boolean(TRUNCATE)?.map(|cut| Named {
            field: TRUNCATE_WITHIN,
            value: if cut { Truncate::End } else { Truncate::Never },
        });
        within = config.rest()?;
    }
    let purpose = purpose.and_then(|(field, name)| known(name).map(|value| Named { field, value }));
    let mut extras = fields.rest()?;
    extras.extend(within.into_iter().map(|(name, value)| (format!("{CONFIG}.{name}"), value)));
    Ok(EmbedRequest { purpose, dimensions, truncate, extras, ..EmbedRequest::of(model, vec![input]) })
}

/// A text of one part is text; anything else passes to Gemini only.
fn content_of(content: &mut Fields) -> Result<Input, RequestError> {
    let path = content.at("parts");
    let mut parts = content.objects("parts")?.ok_or_else(|| content.error("parts", "is missing"))?;
    match parts.as_mut_slice() {
        [] => Err(RequestError { path, message: "is empty".to_owned() }),
        [one] if one.peek("text").is_some() => {
            // One of a union: with another beside it, the provider takes which one it likes.
            one.one()?;
            Ok(Input::Text(one.required_string("text")?))
        }
        parts => {
            let stored = |part: &Fields| part.peek("fileData").is_some() || part.peek("file_data").is_some();
            let fetched = parts.iter().any(stored);
            Ok(Input::Other { path, fetched })
        }
    }
}

/// Adds the request at this place of a list to those before it.
fn join(all: &mut EmbedRequest, next: EmbedRequest, at: usize) -> Result<(), RequestError> {
    if all.model != next.model {
        let path = format!("requests[{at}].model");
        return Err(RequestError { path, message: "differs from the first request's".to_owned() });
    }
    let differs = [
        (all.purpose != next.purpose, PURPOSE),
        (all.dimensions != next.dimensions, DIMENSIONS),
        (all.truncate != next.truncate, TRUNCATE),
    ];
    if let Some((_, field)) = differs.iter().find(|(differs, _)| *differs) {
        all.mixed.get_or_insert_with(|| format!("requests[{at}].{field}"));
    }
    all.extras.extend(next.extras);
    all.inputs.extend(next.inputs);
    Ok(())
}

/// Both spellings of the fields that are read.
fn camel(name: &str) -> String {
    match name {
        "task_type" => PURPOSE,
        "output_dimensionality" => DIMENSIONS,
        "auto_truncate" => TRUNCATE,
        "embed_content_config" => CONFIG,
        other => other,
    }
    .to_owned()
}

/// A purpose by Gemini's name; none where that says that there is none.
fn known(name: String) -> Option<Purpose> {
    Some(match name.as_str() {
        "TASK_TYPE_UNSPECIFIED" => return None,
        "RETRIEVAL_DOCUMENT" => Purpose::Document,
        "RETRIEVAL_QUERY" => Purpose::Query,
        "CLASSIFICATION" => Purpose::Classification,
        "CLUSTERING" => Purpose::Clustering,
        "SEMANTIC_SIMILARITY" => Purpose::Similarity,
        "QUESTION_ANSWERING" => Purpose::QuestionAnswering,
        "FACT_VERIFICATION" => Purpose::FactVerification,
        "CODE_RETRIEVAL_QUERY" => Purpose::CodeQuery,
        _ => Purpose::Other(name),
    })
}

/// Gemini's name of a purpose.
fn named(purpose: &Named<Purpose>, dropped: &mut Vec<Dropped>) -> Option<&'static str> {
    Some(match &purpose.value {
        Purpose::Document => "RETRIEVAL_DOCUMENT",
        Purpose::Query => "RETRIEVAL_QUERY",
        Purpose::Classification => "CLASSIFICATION",
        Purpose::Clustering => "CLUSTERING",
        Purpose::Similarity => "SEMANTIC_SIMILARITY",
        Purpose::QuestionAnswering => "QUESTION_ANSWERING",
        Purpose::FactVerification => "FACT_VERIFICATION",
        Purpose::CodeQuery => "CODE_RETRIEVAL_QUERY",
        Purpose::Other(_) => {
            dropped.push(Dropped::new(purpose.field, "Gemini has no such purpose"));
            return None;
        }
    })
}
