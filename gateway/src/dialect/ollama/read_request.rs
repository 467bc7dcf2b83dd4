//! Requests of clients.

mod message;

use serde_json::{Map, Value};

use super::super::RequestError;
use crate::fields::{Fields, wrong};
use crate::ir::{ChatRequest, Form, ReasoningWish, ResponseFormat, Sampling, Tool};

pub(super) fn parse(body: &[u8]) -> Result<ChatRequest, RequestError> {
    let mut f = Fields::parse(body)?;
    let messages = f.objects("messages")?.ok_or_else(|| f.error("messages", "is missing"))?;
    if messages.is_empty() {
        // Ollama loads or unloads the model then, which is no chat.
        return Err(f.error("messages", "must not be empty"));
    }
    let mut extras = Map::new();
    let mut request = ChatRequest {
        model: f.string("model")?.unwrap_or_default(),
        messages: message::read(messages)?,
        tools: f.objects("tools")?.unwrap_or_default().into_iter().map(tool).collect::<Result<_, _>>()?,
        // Whoever does not say otherwise gets a stream.
        stream: f.boolean("stream")?.unwrap_or(true),
        include_usage: true,
        format: format(&mut f)?,
        reasoning: think(&mut f)?,
        answers: 1,
        ..ChatRequest::default()
    };
    if let Some(wanted) = f.object("options")? {
        options(wanted, &mut request, &mut extras)?;
    }
    extras.extend(f.rest()?);
    request.extras = extras;
    Ok(request)
}

/// What there is no place for stays under its path.
fn options(
    mut f: Fields,
    request: &mut ChatRequest,
    extras: &mut Map<String, Value>,
) -> Result<(), RequestError> {
    // Zero and below: until the model stops, or until the context is full.
    request.max_tokens = match f.peek("num_predict").and_then(Value::as_i64) {
        Some(number) if number <= 0 => {
            f.value("num_predict");
            None
        }
        _ => f.uint("num_predict")?.filter(|most| *most > 0),
    };
    request.sampling = Sampling {
        temperature: f.number("temperature")?,
        top_p: f.number("top_p")?,
        top_k: f.uint("top_k")?,
        frequency_penalty: f.number("frequency_penalty")?,
        presence_penalty: f.number("presence_penalty")?,
        seed: f.int("seed")?,
    };
    request.stop = f.strings("stop")?;
    extras.extend(f.rest()?.into_iter().map(|(key, value)| (format!("options.{key}"), value)));
    Ok(())
}

fn tool(mut f: Fields) -> Result<Tool, RequestError> {
    let kind = f.string("type")?.unwrap_or_else(|| "function".to_owned());
    if kind != "function" {
        f.restore("type", Value::String(kind.clone()));
        return Ok(Tool::Provider { kind, raw: Value::Object(f.rest()?) });
    }
    let mut function = f.required_object("function")?;
    Ok(Tool::Function {
        name: function.required_string("name")?,
        description: function.string("description")?,
        parameters: function.object("parameters")?.map(|schema| Value::Object(schema.untouched())),
        strict: None,
        form: Form::Plain,
        extras: f.rest()?,
    })
}

fn format(f: &mut Fields) -> Result<Option<ResponseFormat>, RequestError> {
    match f.value("format") {
        None => Ok(None),
        Some(Value::String(word)) => match word.as_str() {
            "" => Ok(None),
            "json" => Ok(Some(ResponseFormat::JsonObject)),
            other => Err(f.error("format", format!("{other:?} is not json or a schema"))),
        },
        Some(schema @ Value::Object(_)) => Ok(Some(ResponseFormat::JsonSchema {
            name: String::new(),
            description: None,
            schema,
            // Of what OpenAI's strict mode demands of a schema, Ollama demands nothing.
            strict: Some(false),
        })),
        Some(other) => Err(wrong(f.at("format"), "\"json\" or a schema", &other)),
    }
}

fn think(f: &mut Fields) -> Result<Option<ReasoningWish>, RequestError> {
    match f.value("think") {
        None => Ok(None),
        Some(Value::Bool(false)) => Ok(Some(ReasoningWish::Off)),
        Some(on @ Value::Bool(true)) => {
            // Without saying how much: no other dialect has that wish.
            f.restore("think", on);
            Ok(None)
        }
        Some(Value::String(level)) => Ok(Some(ReasoningWish::Effort(level))),
        Some(other) => Err(wrong(f.at("think"), "true, false or a level", &other)),
    }
}
