//! Requests of clients.

use serde_json::{Map, Value, json};

use super::super::{RequestError, data_url};
use crate::fields::{Fields, elements, wrong};
use crate::ir::{
    ChatRequest, Form, Image, ImageSource, Message, Part, ReasoningWish, ResponseFormat, Role, Sampling,
    Tool, ToolCall, ToolChoice, ToolResult,
};

/// Where Google's OpenAI-compatible endpoint has the signature of a tool call, below `extra_content`.
const SIGNATURE: &str = "/google/thought_signature";

pub(super) fn parse(body: &[u8]) -> Result<ChatRequest, RequestError> {
    let mut f = Fields::parse(body)?;
    if f.boolean("deferred")? == Some(true) {
        let message = "an answer that is fetched later (xAI) is made when the call is over, where nothing accounts for it and \
                       nothing here could fetch it; leave it out, or use \"stream\": true";
        return Err(f.error("deferred", message));
    }
    let messages = f.objects("messages")?.ok_or_else(|| f.error("messages", "is missing"))?;
    if messages.is_empty() {
        return Err(f.error("messages", "must not be empty"));
    }
    let messages = messages.into_iter().map(message).collect::<Result<_, _>>()?;
    let max_completion_tokens = f.uint("max_completion_tokens")?;
    let max_tokens = f.uint("max_tokens")?;
    for (name, bound) in [("max_completion_tokens", max_completion_tokens), ("max_tokens", max_tokens)] {
        // Ollama takes it for no bound at all, and nothing would be set aside for the answer.
        if bound == Some(0) {
            return Err(f.error(name, "must be at least 1"));
        }
    }
    let mut include_usage = false;
    if let Some(mut options) = f.object("stream_options")? {
        include_usage = options.boolean("include_usage")?.unwrap_or(false);
    }
    let answers = f.uint("n")?.unwrap_or(1);
    if answers == 0 {
        return Err(f.error("n", "must be at least 1"));
    }
    Ok(ChatRequest {
        model: f.string("model")?.unwrap_or_default(),
        system: Vec::new(),
        messages,
        tools: f.objects("tools")?.unwrap_or_default().into_iter().map(tool).collect::<Result<_, _>>()?,
        tool_choice: tool_choice(&mut f)?,
        parallel_tools: f.boolean("parallel_tool_calls")?,
        sampling: Sampling {
            temperature: f.number("temperature")?,
            top_p: f.number("top_p")?,
            top_k: None,
            frequency_penalty: f.number("frequency_penalty")?,
            presence_penalty: f.number("presence_penalty")?,
            seed: f.int("seed")?,
        },
        // The newer name wins, as it does at OpenAI.
        max_tokens: max_completion_tokens.or(max_tokens),
        stop: f.strings("stop")?,
        stream: f.boolean("stream")?.unwrap_or(false),
        include_usage,
        format: response_format(&mut f)?,
        reasoning: f.string("reasoning_effort")?.map(ReasoningWish::Effort),
        answers,
        user: f.string("user")?,
        tool_places: Vec::new(),
        extras: f.rest()?,
    })
}

fn message(mut f: Fields) -> Result<Message, RequestError> {
    let role = f.required_string("role")?;
    let mut content = Vec::new();
    let role = match role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => {
            for key in ["reasoning_content", "reasoning"] {
                if let Some(Value::String(text)) = f.peek(key).cloned() {
                    f.value(key);
                    content.push(Part::Reasoning { text, signature: None });
                    break;
                }
            }
            Role::Assistant
        }
        "tool" => {
            let result = ToolResult {
                call: f.required_string("tool_call_id")?,
                content: parts(&mut f)?,
                is_error: false,
                extras: Map::new(),
            };
            return Ok(Message {
                role: Role::User,
                content: vec![Part::ToolResult(result)],
                extras: f.rest()?,
            });
        }
        other => {
            return Err(
                f.error("role", format!("{other:?} is not system, developer, user, assistant or tool"))
            );
        }
    };
    content.extend(parts(&mut f)?);
    if role == Role::Assistant {
        if let Some(text) = f.string("refusal")? {
            content.push(Part::Refusal(text));
        }
        for call in f.objects("tool_calls")?.unwrap_or_default() {
            content.push(tool_call(call)?);
        }
    }
    Ok(Message { role, content, extras: f.rest()? })
}

fn parts(f: &mut Fields) -> Result<Vec<Part>, RequestError> {
    let path = f.at("content");
    match f.value("content") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(array @ Value::Array(_)) => elements(array, &path)?.into_iter().map(part).collect(),
        Some(other) => Err(wrong(path, "a string or an array of parts", &other)),
    }
}

fn part(mut f: Fields) -> Result<Part, RequestError> {
    let kind = f.required_string("type")?;
    match kind.as_str() {
        "text" => Ok(Part::Text { text: f.required_string("text")?, extras: f.rest()? }),
        "refusal" => Ok(Part::Refusal(f.required_string("refusal")?)),
        "image_url" => {
            // Mistral's clients write the address alone.
            if f.peek("image_url").is_some_and(Value::is_string) {
                let url = f.required_string("image_url")?;
                let source = image_source(url).ok_or_else(|| f.error("image_url", NO_DATA_URL))?;
                return Ok(Part::Image(Image { source, detail: None, extras: f.rest()? }));
            }
            let mut image = f.required_object("image_url")?;
            let url = image.required_string("url")?;
            let source = image_source(url).ok_or_else(|| image.error("url", NO_DATA_URL))?;
            let detail = image.string("detail")?;
            // Nothing else in it is of use here; in another letter case it may be to others.
            image.rest()?;
            Ok(Part::Image(Image { source, detail, extras: f.rest()? }))
        }
        _ => {
            f.restore("type", Value::String(kind));
            Ok(Part::Opaque(Value::Object(f.rest()?)))
        }
    }
}

const NO_DATA_URL: &str = "is a data URL, but not `data:TYPE;base64,…`";

/// Where the bytes of an image are that has this address; `None` for a data URL that holds none.
fn image_source(url: String) -> Option<ImageSource> {
    match url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        true => data_url(&url),
        false => Some(ImageSource::Url(url)),
    }
}

/// The signature in the field beside a tool call.
pub(in crate::dialect) fn signature_of(extra_content: &Value) -> Option<String> {
    extra_content.pointer(SIGNATURE).and_then(Value::as_str).map(str::to_owned)
}

fn tool_call(mut f: Fields) -> Result<Part, RequestError> {
    if let Some(kind) = f.peek("type").and_then(Value::as_str)
        && kind != "function"
    {
        return Ok(Part::Opaque(Value::Object(f.rest()?)));
    }
    let id = f.required_string("id")?;
    let signature = f.peek("extra_content").and_then(signature_of);
    let mut function = f.required_object("function")?;
    Ok(Part::ToolCall(ToolCall {
        id,
        name: function.required_string("name")?,
        arguments: function.string("arguments")?.unwrap_or_default(),
        signature,
    }))
}

fn tool(mut f: Fields) -> Result<Tool, RequestError> {
    let kind = f.required_string("type")?;
    if kind != "function" {
        f.restore("type", Value::String(kind.clone()));
        return Ok(Tool::Provider { kind, raw: Value::Object(f.rest()?) });
    }
    let mut function = f.required_object("function")?;
    let name = function.required_string("name")?;
    let description = function.string("description")?;
    let parameters = function.object("parameters")?.map(|schema| Value::Object(schema.untouched()));
    let strict = function.boolean("strict")?;
    let mut extras = f.rest()?;
    extras.extend(function.rest()?.into_iter().map(|(key, value)| (format!("function.{key}"), value)));
    Ok(Tool::Function { name, description, parameters, strict, form: Form::Plain, extras })
}

fn tool_choice(f: &mut Fields) -> Result<Option<ToolChoice>, RequestError> {
    match f.peek("tool_choice") {
        None => Ok(None),
        Some(Value::String(word)) => {
            let choice = match word.as_str() {
                "auto" => ToolChoice::Auto,
                "none" => ToolChoice::None,
                // The latter is Mistral's.
                "required" | "any" => ToolChoice::Required,
                other => {
                    return Err(f.error("tool_choice", format!("{other:?} is not auto, none or required")));
                }
            };
            f.value("tool_choice");
            Ok(Some(choice))
        }
        Some(Value::Object(choice)) => {
            if choice.get("type").and_then(Value::as_str) != Some("function") {
                // Allowed tools, custom tools: kept among the extras.
                return Ok(None);
            }
            let mut choice = f.required_object("tool_choice")?;
            let mut function = choice.required_object("function")?;
            Ok(Some(ToolChoice::Named(function.required_string("name")?)))
        }
        Some(other) => Err(wrong(f.at("tool_choice"), "a string or an object", other)),
    }
}

/// Kinds of some provider's own (a grammar, an expression) stay among the extras.
fn response_format(f: &mut Fields) -> Result<Option<ResponseFormat>, RequestError> {
    let Some(mut format) = f.object("response_format")? else { return Ok(None) };
    let kind = format.required_string("type")?;
    match kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(ResponseFormat::JsonObject)),
        "json_schema" => {
            let mut schema = format.required_object("json_schema")?;
            Ok(Some(ResponseFormat::JsonSchema {
                // Perplexity knows none.
                name: schema.string("name")?.unwrap_or_default(),
                description: schema.string("description")?,
                schema: schema.value("schema").unwrap_or_else(|| json!({})),
                // Without a word it is not.
                strict: Some(schema.boolean("strict")?.unwrap_or(false)),
            }))
        }
        _ => {
            format.restore("type", json!(kind));
            f.restore("response_format", Value::Object(format.rest()?));
            Ok(None)
        }
    }
}
