//! Requests of clients.
//!
//! Google's JSON has two spellings of every field (`generationConfig` and `generation_config`), and a list of one may
//! be written without its brackets. All of them are understood here: a bound that is not seen would not hold.

mod content;

use serde_json::{Map, Value};

use super::super::RequestError;
use super::schema::from_gemini;
use crate::fields::{Fields, elements, whole};
use crate::ir::{ChatRequest, Form, ReasoningWish, ResponseFormat, Sampling, Tool, ToolChoice};

pub(super) fn parse(body: &[u8]) -> Result<ChatRequest, RequestError> {
    let mut f = camel(Fields::parse(body)?)?;
    let contents = list(&mut f, "contents")?;
    if contents.is_empty() {
        return Err(f.error("contents", "is missing or empty"));
    }
    let system = match f.object("systemInstruction")? {
        Some(instruction) => content::system(camel(instruction)?)?,
        None => Vec::new(),
    };
    let model = f.string("model")?.unwrap_or_default();
    let mut request = ChatRequest {
        model: model.strip_prefix("models/").unwrap_or(&model).to_owned(),
        system,
        messages: content::messages(contents)?,
        answers: 1,
        include_usage: true,
        ..ChatRequest::default()
    };
    for tool in list(&mut f, "tools")? {
        request.tools.extend(tools(camel(tool)?)?);
    }
    let mut extras = Map::new();
    if let Some(config) = f.object("toolConfig")? {
        request.tool_choice = tool_config(camel(config)?, &mut extras)?;
    }
    if let Some(config) = f.object("generationConfig")? {
        generation_config(camel(config)?, &mut request, &mut extras)?;
    }
    extras.extend(f.rest()?);
    request.extras = extras;
    Ok(request)
}

/// One message of Google's with its fields in camel case.
fn camel(f: Fields) -> Result<Fields, RequestError> {
    f.renamed(camel_case)
}

/// `max_output_tokens` as `maxOutputTokens`; a name without underscores stays.
pub(super) fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    if out.is_empty() {
        return name.to_owned();
    }
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

/// The objects of a list, or the only one of it.
fn list(f: &mut Fields, key: &'static str) -> Result<Vec<Fields>, RequestError> {
    let path = f.at(key);
    match f.value(key) {
        None => Ok(Vec::new()),
        Some(only @ Value::Object(_)) => Ok(vec![Fields::of(only, path)?]),
        Some(other) => elements(other, &path),
    }
}

/// One entry of `tools` may hold functions and several tools of the provider's.
fn tools(mut f: Fields) -> Result<Vec<Tool>, RequestError> {
    let mut tools = Vec::new();
    for declaration in list(&mut f, "functionDeclarations")? {
        tools.push(function(camel(declaration)?)?);
    }
    for (kind, value) in f.rest()? {
        let raw = Value::Object(Map::from_iter([(kind.clone(), value)]));
        tools.push(Tool::Provider { kind, raw });
    }
    Ok(tools)
}

fn function(mut f: Fields) -> Result<Tool, RequestError> {
    let own = f.object("parameters")?.map(|schema| from_gemini(&Value::Object(schema.untouched())));
    let standard = f.value("parametersJsonSchema");
    Ok(Tool::Function {
        name: f.required_string("name")?,
        description: f.string("description")?,
        parameters: standard.or(own),
        strict: None,
        form: Form::Plain,
        extras: f.rest()?,
    })
}

fn tool_config(mut f: Fields, extras: &mut Map<String, Value>) -> Result<Option<ToolChoice>, RequestError> {
    let mut choice = None;
    if let Some(calling) = f.object("functionCallingConfig")? {
        let mut calling = camel(calling)?;
        let names = calling.strings("allowedFunctionNames")?;
        let mode = calling.string("mode")?.unwrap_or_default();
        choice = match (mode.to_ascii_uppercase().as_str(), names.as_slice()) {
            ("" | "MODE_UNSPECIFIED", []) => None,
            ("" | "MODE_UNSPECIFIED" | "AUTO", _) => Some(ToolChoice::Auto),
            ("NONE", _) => Some(ToolChoice::None),
            ("ANY", [only]) => Some(ToolChoice::Named(only.clone())),
            ("ANY", _) => Some(ToolChoice::Required),
            ("VALIDATED", _) => {
                extras.insert("toolConfig.functionCallingConfig.mode".into(), mode.into());
                Some(ToolChoice::Auto)
            }
            _ => return Err(calling.error("mode", format!("{mode:?} is not AUTO, ANY, NONE or VALIDATED"))),
        };
        if !names.is_empty() && !matches!(choice, Some(ToolChoice::Named(_) | ToolChoice::None)) {
            extras.insert("toolConfig.functionCallingConfig.allowedFunctionNames".into(), names.into());
        }
        keep("toolConfig.functionCallingConfig", calling, extras)?;
    }
    keep("toolConfig", f, extras)?;
    Ok(choice)
}

fn generation_config(
    mut f: Fields,
    request: &mut ChatRequest,
    extras: &mut Map<String, Value>,
) -> Result<(), RequestError> {
    request.answers = f.uint("candidateCount")?.unwrap_or(1);
    if request.answers == 0 {
        return Err(f.error("candidateCount", "must be at least 1"));
    }
    request.max_tokens = f.uint("maxOutputTokens")?;
    if request.max_tokens == Some(0) {
        return Err(f.error("maxOutputTokens", "must be at least 1"));
    }
    request.stop = f.strings("stopSequences")?;
    request.sampling = Sampling {
        temperature: f.number("temperature")?,
        top_p: f.number("topP")?,
        top_k: f.uint("topK")?,
        frequency_penalty: f.number("frequencyPenalty")?,
        presence_penalty: f.number("presencePenalty")?,
        seed: f.int("seed")?,
    };
    request.format = format(&mut f)?;
    if let Some(config) = f.object("thinkingConfig")? {
        let mut thinking = camel(config)?;
        request.reasoning = reasoning(&mut thinking)?;
        keep("generationConfig.thinkingConfig", thinking, extras)?;
    }
    keep("generationConfig", f, extras)?;
    Ok(())
}

fn format(f: &mut Fields) -> Result<Option<ResponseFormat>, RequestError> {
    let own = f.value("responseSchema").map(|schema| from_gemini(&schema));
    let schema = f.value("responseJsonSchema").or(own);
    let kind = f.string("responseMimeType")?;
    match (kind.as_deref(), schema) {
        (None | Some("application/json"), Some(schema)) => Ok(Some(ResponseFormat::JsonSchema {
            name: String::new(),
            description: None,
            schema,
            // Of what OpenAI's strict mode demands of a schema, Google demands nothing.
            strict: Some(false),
        })),
        (Some("application/json"), None) => Ok(Some(ResponseFormat::JsonObject)),
        (None | Some("" | "text/plain"), _) => Ok(None),
        (Some(other), schema) => {
            // One word out of an enum, and whatever comes.
            f.restore("responseMimeType", other.into());
            if let Some(schema) = schema {
                f.restore("responseSchema", schema);
            }
            Ok(None)
        }
    }
}

fn reasoning(f: &mut Fields) -> Result<Option<ReasoningWish>, RequestError> {
    if let Some(level) = f.string("thinkingLevel")? {
        let level = level.to_ascii_lowercase();
        return Ok((level != "thinking_level_unspecified").then_some(ReasoningWish::Effort(level)));
    }
    let Some(budget) = f.value("thinkingBudget") else { return Ok(None) };
    match (budget.as_i64(), whole(&budget)) {
        // The model decides, as it does without being told.
        (Some(-1), _) => Ok(None),
        (_, Some(0)) => Ok(Some(ReasoningWish::Off)),
        (_, Some(budget)) => Ok(Some(ReasoningWish::Budget(budget))),
        _ => Err(f.error("thinkingBudget", "must be a whole number from -1")),
    }
}

/// Keeps what is left of a configuration under its path.
fn keep(path: &str, rest: Fields, extras: &mut Map<String, Value>) -> Result<(), RequestError> {
    extras.extend(rest.rest()?.into_iter().map(|(key, value)| (format!("{path}.{key}"), value)));
    Ok(())
}
