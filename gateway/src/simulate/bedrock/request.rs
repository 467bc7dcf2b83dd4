//! Requests for Converse, checked as the provider checks them.

use http::Uri;
use serde_json::{Map, Value};

use crate::dialect::bedrock::path;
use crate::simulate::chat::{Ask, Choice, Format, Role, Tool, Turn};
use crate::simulate::failure::Reject;

/// The fields of a request that the provider knows; it refuses others.
const REQUEST: &[&str] = &[
    "additionalModelRequestFields",
    "additionalModelResponseFieldPaths",
    "guardrailConfig",
    "inferenceConfig",
    "messages",
    "outputConfig",
    "performanceConfig",
    "promptVariables",
    "requestMetadata",
    "serviceTier",
    "system",
    "toolConfig",
];

pub(in crate::simulate) fn parse(uri: &Uri, body: &Value) -> Result<Ask, Reject> {
    let operation = path::operation(uri.path()).ok_or_else(|| Reject::bad("the path names no model"))?;
    let fields = body.as_object().ok_or_else(|| Reject::bad("Unexpected field type"))?;
    if let Some(name) = fields.keys().find(|name| !REQUEST.contains(&name.as_str())) {
        return Err(invalid(&format!("{name}: extraneous key [{name}] is not permitted")));
    }
    let config = object(fields, "inferenceConfig")?;
    let tool_config = object(fields, "toolConfig")?;
    let tools = tools(&tool_config)?;
    range(&config, "temperature")?;
    range(&config, "topP")?;
    Ok(Ask {
        model: operation.model,
        system: texts(list(fields, "system")).join("\n\n"),
        turns: turns(fields, !tools.is_empty())?,
        choice: choice(&tool_config, &tools)?,
        tools,
        parallel: true,
        max_tokens: positive(&config)?,
        stops: list(&config, "stopSequences").filter_map(Value::as_str).map(str::to_owned).collect(),
        format: format(fields)?,
        stream: operation.stream == Some(true),
        include_usage: true,
        alternatives: 1,
        input_tokens: 0,
    })
}

fn invalid(what: &str) -> Reject {
    Reject::bad(format!("Malformed input request: #: {what}, please reformat your input and try again."))
}

fn object(fields: &Map<String, Value>, name: &str) -> Result<Map<String, Value>, Reject> {
    match fields.get(name) {
        None => Ok(Map::new()),
        Some(Value::Object(inner)) => Ok(inner.clone()),
        Some(_) => Err(invalid(&format!("{name}: is not an object"))),
    }
}

fn list<'v>(fields: &'v Map<String, Value>, name: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    fields.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn texts<'v>(blocks: impl Iterator<Item = &'v Value>) -> Vec<&'v str> {
    blocks.filter_map(|block| block.get("text")?.as_str()).collect()
}

fn range(config: &Map<String, Value>, name: &str) -> Result<(), Reject> {
    match config.get(name).map(Value::as_f64) {
        Some(number) if number.is_none_or(|number| !(0.0..=1.0).contains(&number)) => {
            Err(invalid(&format!("{name}: is not greater or equal to 0 and less or equal to 1")))
        }
        _ => Ok(()),
    }
}

fn positive(config: &Map<String, Value>) -> Result<Option<u64>, Reject> {
    match config.get("maxTokens") {
        None => Ok(None),
        Some(most) => match most.as_u64().filter(|most| *most > 0) {
            Some(most) => Ok(Some(most)),
            None => Err(invalid("maxTokens: is not greater or equal to 1")),
        },
    }
}

fn turns(fields: &Map<String, Value>, has_tools: bool) -> Result<Vec<Turn>, Reject> {
    let mut turns = Vec::new();
    let mut before = None;
    // Ids of the calls that the message before made, all of which this one has to answer.
    let mut open: Vec<&str> = Vec::new();
    for (at, message) in list(fields, "messages").enumerate() {
        let role = match message.get("role").and_then(Value::as_str) {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            _ => return Err(invalid(&format!("messages.{at}.role: is not user or assistant"))),
        };
        if before == Some(role) || (before.is_none() && role != Role::User) {
            return Err(Reject::bad(
                "A conversation must alternate between user and assistant roles. Make sure the conversation alternates \
                 between user and assistant roles and try again.",
            ));
        }
        before = Some(role);
        let blocks = message.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if blocks.is_empty() {
            let what = format!(
                "The content field in the Message object at messages.{at} is empty. Add a ContentBlock object to the content field and try again."
            );
            return Err(Reject::bad(what));
        }
        let mut answered = Vec::new();
        let mut called = Vec::new();
        for (block_at, block) in blocks.iter().enumerate() {
            let place = format!("messages.{at}.content.{block_at}");
            turns.extend(turn(block, role, &place)?);
            answered.extend(block.pointer("/toolResult/toolUseId").and_then(Value::as_str));
            called.extend(block.pointer("/toolUse/toolUseId").and_then(Value::as_str));
        }
        let unanswered = open.iter().any(|id| !answered.contains(id));
        if unanswered || answered.iter().any(|id| !open.contains(id)) {
            return Err(Reject::bad(format!(
                "The number of toolResult blocks at messages.{at}.content exceeds or falls short of the number of toolUse blocks of previous turn."
            )));
        }
        if !(has_tools || called.is_empty() && answered.is_empty()) {
            return Err(Reject::bad(
                "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
            ));
        }
        open = called;
    }
    match turns.is_empty() {
        true => Err(Reject::bad(
            "A conversation must start with a user message. Try again with a conversation that starts with a user message.",
        )),
        false => Ok(turns),
    }
}

/// What a block says, as a turn of its own; `None` for what says nothing here.
fn turn(block: &Value, role: Role, place: &str) -> Result<Option<Turn>, Reject> {
    let kinds = block.as_object().filter(|kinds| kinds.len() == 1);
    let (kind, inner) = kinds
        .and_then(|kinds| kinds.iter().next())
        .ok_or_else(|| invalid(&format!("{place}: is no union of one member")))?;
    let text = match kind.as_str() {
        "text" => match inner.as_str().map(str::trim) {
            Some("") => {
                let what = format!(
                    "The text field in the ContentBlock object at {place} is blank. Add text to the text field, and try again."
                );
                return Err(Reject::bad(what));
            }
            Some(_) => inner.as_str().unwrap_or_default().to_owned(),
            None => return Err(invalid(&format!("{place}.text: is not a string"))),
        },
        "toolResult" => {
            let content = inner.get("content").and_then(Value::as_array);
            let pieces = content.into_iter().flatten().filter_map(|piece| match piece.get("json") {
                Some(document) => Some(document.to_string()),
                None => piece.get("text").and_then(Value::as_str).map(str::to_owned),
            });
            return Ok(Some(Turn { role: Role::Tool, text: pieces.collect::<Vec<_>>().join("\n") }));
        }
        "toolUse" if inner.get("input").is_some_and(Value::is_object) => inner["input"].to_string(),
        "toolUse" => return Err(invalid(&format!("{place}.toolUse.input: is not an object"))),
        "image" => {
            let data = inner.pointer("/source/bytes").and_then(Value::as_str).unwrap_or_default();
            let formats = ["png", "jpeg", "gif", "webp"];
            let known = inner.get("format").and_then(Value::as_str).is_some_and(|f| formats.contains(&f));
            if !known || data_encoding::BASE64.decode(data.as_bytes()).is_err() {
                return Err(invalid(&format!("{place}.image: is no image")));
            }
            return Ok(None);
        }
        "cachePoint" | "document" | "guardContent" | "reasoningContent" | "video" => return Ok(None),
        other => return Err(invalid(&format!("{place}: extraneous key [{other}] is not permitted"))),
    };
    Ok(Some(Turn { role, text }))
}

fn tools(config: &Map<String, Value>) -> Result<Vec<Tool>, Reject> {
    let mut tools = Vec::new();
    for (at, tool) in list(config, "tools").enumerate() {
        if tool.get("cachePoint").is_some() {
            continue;
        }
        let name = tool.pointer("/toolSpec/name").and_then(Value::as_str).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(invalid(&format!("toolConfig.tools.{at}.toolSpec.name: is no name")));
        }
        match tool.pointer("/toolSpec/inputSchema/json").filter(|schema| schema["type"] == "object") {
            Some(schema) => tools.push(Tool { name: name.to_owned(), schema: schema.clone() }),
            None => {
                let what = format!(
                    "The value at toolConfig.tools.{at}.toolSpec.inputSchema.json.type must be one of the following: object."
                );
                return Err(Reject::bad(what));
            }
        }
    }
    Ok(tools)
}

fn choice(config: &Map<String, Value>, tools: &[Tool]) -> Result<Choice, Reject> {
    let Some(choice) = config.get("toolChoice") else {
        return Ok(if tools.is_empty() { Choice::None } else { Choice::Auto });
    };
    if choice.get("any").is_some() {
        return Ok(Choice::Any);
    }
    match choice.pointer("/tool/name").and_then(Value::as_str) {
        Some(name) if tools.iter().any(|tool| tool.name == name) => Ok(Choice::Named(name.to_owned())),
        Some(name) => Err(invalid(&format!("toolConfig.toolChoice.tool.name: {name} is no tool"))),
        None => Ok(Choice::Auto),
    }
}

fn format(fields: &Map<String, Value>) -> Result<Format, Reject> {
    let Some(config) = fields.get("outputConfig") else { return Ok(Format::Text) };
    let text = config.pointer("/textFormat/structure/jsonSchema/schema").and_then(Value::as_str);
    let schema = text.and_then(|text| serde_json::from_str::<Value>(text).ok()).filter(Value::is_object);
    match schema {
        Some(schema) => Ok(Format::Schema(schema)),
        None => Err(invalid("outputConfig.textFormat.structure.jsonSchema.schema: is no JSON schema")),
    }
}
