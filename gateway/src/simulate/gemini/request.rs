//! Requests for generated content, checked as the provider checks them.

use http::Uri;
use serde_json::{Map, Value};

use super::schema::check_schema;
use crate::simulate::chat::{Ask, Choice, Format, Tool};
use crate::simulate::failure::Reject;

mod content;

use content::contents;

/// The fields of each message that the provider knows; it refuses others.
const REQUEST: &[&str] = &[
    "cachedContent",
    "contents",
    "generationConfig",
    "labels",
    "safetySettings",
    "serviceTier",
    "systemInstruction",
    "toolConfig",
    "tools",
];
/// What may stand around it.
const ENVELOPE: &[&str] = &["model", "project", "request", "user_prompt_id"];
const CONTENT: &[&str] = &["parts", "role"];
const TOOL: &[&str] = &[
    "codeExecution",
    "computerUse",
    "functionDeclarations",
    "googleSearch",
    "googleSearchRetrieval",
    "urlContext",
];
const DECLARATION: &[&str] = &[
    "behavior",
    "description",
    "name",
    "parameters",
    "parametersJsonSchema",
    "response",
    "responseJsonSchema",
];
const CONFIG: &[&str] = &[
    "candidateCount",
    "enableEnhancedCivicAnswers",
    "frequencyPenalty",
    "imageConfig",
    "logprobs",
    "maxOutputTokens",
    "mediaResolution",
    "presencePenalty",
    "responseJsonSchema",
    "responseLogprobs",
    "responseMimeType",
    "responseModalities",
    "responseSchema",
    "seed",
    "speechConfig",
    "stopSequences",
    "temperature",
    "thinkingConfig",
    "topK",
    "topP",
];

pub(in crate::simulate) fn parse(uri: &Uri, body: &Value) -> Result<Ask, Reject> {
    let (model, method) = uri
        .path()
        .rsplit('/')
        .next()
        .and_then(|last| last.rsplit_once(':'))
        .ok_or_else(|| Reject::bad("the path names no model and method"))?;
    read(model, method, uri, body)
}

/// The same inside of Code Assist's envelope, which names the model, and the project that is billed.
pub(in crate::simulate) fn parse_enveloped(uri: &Uri, body: &Value) -> Result<Ask, Reject> {
    let (_, method) = uri.path().rsplit_once(':').ok_or_else(|| Reject::bad("the path names no method"))?;
    let fields = message(body, ENVELOPE, "")?;
    let named = |name: &str| fields.get(name).map(|value| value.as_str().unwrap_or_default());
    if named("project").is_some_and(str::is_empty) {
        return Err(Reject::bad("* project: has to be the name of a project"));
    }
    let model = named("model").filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| Reject::bad("* model: must not be empty"))?;
    let request = fields.get("request").ok_or_else(|| Reject::bad("* request: must not be empty"))?;
    read(model, method, uri, request)
}

fn read(model: &str, method: &str, uri: &Uri, body: &Value) -> Result<Ask, Reject> {
    let query = uri.query().unwrap_or_default();
    if query.split('&').any(|pair| pair.starts_with("key=")) {
        return Err(Reject::bad("the simulation takes no key in the address"));
    }
    let fields = message(body, REQUEST, "")?;
    let tools = tools(fields)?;
    let config = match fields.get("generationConfig") {
        None => &Map::new(),
        Some(config) => message(config, CONFIG, " at 'generation_config'")?,
    };
    range(config, "temperature", 0.0, 2.0)?;
    range(config, "topP", 0.0, 1.0)?;
    Ok(Ask {
        model: model.to_owned(),
        system: system(fields)?,
        turns: contents(fields, model)?,
        choice: choice(fields, &tools)?,
        tools,
        parallel: true,
        max_tokens: positive(config, "maxOutputTokens", "max_output_tokens")?,
        stops: stops(config)?,
        format: format(config)?,
        stream: method == "streamGenerateContent",
        include_usage: query.split('&').any(|pair| pair == "alt=sse"),
        alternatives: 1,
        input_tokens: 0,
    })
}

/// An object with known fields only.
fn message<'a>(value: &'a Value, known: &[&str], place: &str) -> Result<&'a Map<String, Value>, Reject> {
    let fields = value
        .as_object()
        .ok_or_else(|| Reject::bad(format!("Invalid JSON payload received. Not an object{place}.")))?;
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(fields),
        Some(name) => Err(Reject::bad(format!(
            "Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field."
        ))),
    }
}

fn system(fields: &Map<String, Value>) -> Result<String, Reject> {
    let Some(instruction) = fields.get("systemInstruction") else { return Ok(String::new()) };
    let content = message(instruction, CONTENT, " at 'system_instruction'")?;
    let parts = content.get("parts").and_then(Value::as_array).into_iter().flatten();
    let texts: Vec<&str> = parts.filter_map(|part| part.get("text")?.as_str()).collect();
    Ok(texts.join("\n\n"))
}

fn tools(fields: &Map<String, Value>) -> Result<Vec<Tool>, Reject> {
    let mut tools: Vec<Tool> = Vec::new();
    for (index, tool) in fields.get("tools").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let tool = message(tool, TOOL, &format!(" at 'tools[{index}]'"))?;
        let declared = tool.get("functionDeclarations").and_then(Value::as_array).into_iter().flatten();
        for (at, declaration) in declared.enumerate() {
            let place = format!("tools[{index}].function_declarations[{at}]");
            let declaration = message(declaration, DECLARATION, &format!(" at '{place}'"))?;
            let name = declaration.get("name").and_then(Value::as_str).unwrap_or_default();
            let plain = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
            let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if !begins || name.len() > 64 || !name.chars().all(plain) {
                return Err(Reject::bad(format!(
                    "* GenerateContentRequest.{place}.name: Invalid function name. Must start with a letter or an \
                     underscore.\n"
                )));
            }
            if tools.iter().any(|tool| tool.name == name) {
                return Err(Reject::bad(format!("Duplicate function declaration found: {name}")));
            }
            let schema = match declaration.get("parameters") {
                None => {
                    declaration.get("parametersJsonSchema").cloned().unwrap_or_else(|| serde_json::json!({}))
                }
                Some(schema) => check_schema(schema, &format!("{place}.parameters"))?,
            };
            tools.push(Tool { name: name.to_owned(), schema });
        }
    }
    Ok(tools)
}

fn choice(fields: &Map<String, Value>, tools: &[Tool]) -> Result<Choice, Reject> {
    let Some(calling) = fields.get("toolConfig").and_then(|config| config.get("functionCallingConfig"))
    else {
        return Ok(Choice::Auto);
    };
    let calling =
        message(calling, &["allowedFunctionNames", "mode"], " at 'tool_config.function_calling_config'")?;
    if tools.is_empty() {
        return Err(Reject::bad("Function calling config is set without function_declarations."));
    }
    let allowed = calling.get("allowedFunctionNames").and_then(Value::as_array).into_iter().flatten();
    let allowed: Vec<&str> = allowed.filter_map(Value::as_str).collect();
    if let Some(unknown) = allowed.iter().find(|name| !tools.iter().any(|tool| tool.name == **name)) {
        return Err(Reject::bad(format!("allowed_function_names: {unknown} is not declared")));
    }
    match (calling.get("mode").and_then(Value::as_str), allowed.as_slice()) {
        (None | Some("AUTO"), []) => Ok(Choice::Auto),
        (Some("NONE"), []) => Ok(Choice::None),
        (Some("ANY" | "VALIDATED"), [name, ..]) => Ok(Choice::Named((*name).to_owned())),
        (Some("ANY"), []) => Ok(Choice::Any),
        (Some("VALIDATED"), []) => Ok(Choice::Auto),
        (None | Some("AUTO" | "NONE"), _) => Err(Reject::bad(
            "Function calling config allowed_function_names should be set only when mode is ANY or VALIDATED.",
        )),
        (Some(other), _) => Err(Reject::bad(format!(
            "Invalid value at 'tool_config.function_calling_config.mode' \
             (type.googleapis.com/google.ai.generativelanguage.v1beta.FunctionCallingConfig.Mode), \"{other}\""
        ))),
    }
}

fn stops(config: &Map<String, Value>) -> Result<Vec<String>, Reject> {
    let list = config.get("stopSequences").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if list.len() > 5 {
        return Err(Reject::bad("The maximum number of stop sequences is 5."));
    }
    Ok(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn format(config: &Map<String, Value>) -> Result<Format, Reject> {
    let json = config.get("responseMimeType").and_then(Value::as_str) == Some("application/json");
    let schema = match config.get("responseSchema") {
        Some(schema) => Some(check_schema(schema, "generation_config.response_schema")?),
        None => config.get("responseJsonSchema").cloned(),
    };
    match schema {
        Some(_) if !json => Err(Reject::bad(
            "Unable to submit request because a response schema needs the response mime type application/json.",
        )),
        Some(schema) => Ok(Format::Schema(schema)),
        None if json => Ok(Format::Json),
        None => Ok(Format::Text),
    }
}

fn range(config: &Map<String, Value>, name: &str, low: f64, high: f64) -> Result<(), Reject> {
    match config.get(name).map(|value| (value, value.as_f64())) {
        None => Ok(()),
        Some((_, Some(number))) if (low..=high).contains(&number) => Ok(()),
        Some((value, _)) => Err(Reject::bad(format!(
            "* GenerateContentRequest.generation_config.{name}: {name} must be in the range [{low:.1}, {high:.1}], and \
             is {value}.\n"
        ))),
    }
}

fn positive(config: &Map<String, Value>, name: &str, shown: &str) -> Result<Option<u64>, Reject> {
    match config.get(name).map(Value::as_u64) {
        None => Ok(None),
        Some(Some(number)) if number > 0 => Ok(Some(number)),
        Some(_) => Err(Reject::bad(format!(
            "* GenerateContentRequest.generation_config.{shown}: {shown} must be positive.\n"
        ))),
    }
}
