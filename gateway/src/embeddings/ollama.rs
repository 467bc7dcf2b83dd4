//! Ollama's own `POST /api/embed`.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{EmbedRequest, EmbedResponse, EmbedWire, Named, Truncate, Vector, Written, body, write_list};
use crate::dialect::{RequestError, ResponseError};
use crate::ir::Dropped;

pub(super) struct Ollama;

const TRUNCATE: &str = "truncate";

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default, borrow)]
    model: Option<Cow<'a, str>>,
    embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
}

impl EmbedWire for Ollama {
    fn parse_request(&self, body: &[u8], _: bool) -> Result<EmbedRequest, RequestError> {
        let (mut fields, input) = body::without(body, "input")?;
        let inputs = body::inputs(input.as_deref(), false)?;
        let model = fields.string("model")?.unwrap_or_default();
        let dimensions = fields.uint("dimensions")?;
        let truncate = fields
            .boolean(TRUNCATE)?
            .map(|cut| Named { field: TRUNCATE, value: if cut { Truncate::End } else { Truncate::Never } });
        let extras = fields.rest()?;
        Ok(EmbedRequest { dimensions, truncate, extras, ..EmbedRequest::of(model, inputs) })
    }

    fn write_request(&self, request: &EmbedRequest, model: &str) -> Result<Written, RequestError> {
        let texts = request.texts()?;
        let mut dropped = request.lost_extras();
        let mut body = json!({ "model": model, "input": texts });
        if let Some(dimensions) = request.dimensions {
            body["dimensions"] = json!(dimensions);
        }
        match &request.truncate {
            Some(Named { value: Truncate::Never, .. }) => body[TRUNCATE] = json!(false),
            Some(Named { value: Truncate::End, .. }) => body[TRUNCATE] = json!(true),
            Some(Named { value: Truncate::Start, field }) => {
                dropped.push(Dropped::new(*field, "Ollama cuts at the end only, and refuses instead"));
                body[TRUNCATE] = json!(false);
            }
            // Ollama cuts what is too long unless it is told not to; clients of other dialects expect an error.
            None => body[TRUNCATE] = json!(false),
        }
        if let Some(purpose) = &request.purpose {
            dropped.push(Dropped::new(purpose.field, "Ollama's dialect does not say what vectors are for"));
        }
        if request.user.is_some() {
            dropped.push(Dropped::new("user", "Ollama's dialect has no such field"));
        }
        Ok(Written::whole(Bytes::from(body.to_string()), dropped))
    }

    fn parse_response(&self, body: &[u8]) -> Result<EmbedResponse, ResponseError> {
        let answer: Answer<'_> = serde_json::from_slice(body).map_err(|e| ResponseError(e.to_string()))?;
        Ok(EmbedResponse {
            model: answer.model.map(Cow::into_owned).unwrap_or_default(),
            vectors: answer.embeddings.into_iter().map(Vector::of).collect::<Result<_, _>>()?,
            input_tokens: answer.prompt_eval_count,
            ..EmbedResponse::default()
        })
    }

    fn write_response(&self, _: &EmbedRequest, response: &EmbedResponse) -> Vec<u8> {
        let mut out = format!(r#"{{"model":{},"embeddings":"#, json!(response.model)).into_bytes();
        write_list(&response.vectors, &mut out, |_, vector, out| vector.write_numbers(out));
        let tokens = response.input_tokens.unwrap_or(0);
        out.extend_from_slice(
            format!(r#","total_duration":0,"load_duration":0,"prompt_eval_count":{tokens}}}"#).as_bytes(),
        );
        out
    }
}
