//! Wire formats, one module each, all pure: bytes in, [`crate::ir`] out, and back.
//!
//! A dialect is used from both ends. Toward clients the gateway (and the simulated provider) uses
//! [`Wire::parse_request`], [`Wire::write_response`], [`Wire::stream_writer`] and [`Wire::write_error`]; toward
//! providers it uses the other halves.

pub mod anthropic;
pub mod bedrock;
mod blocks;
pub(crate) mod calls;
pub mod cohere;
pub(crate) mod documents;
mod effort;
mod emit;
pub mod gemini;
pub(crate) mod names;
pub mod ollama;
pub mod openai_chat;
pub mod openai_responses;
pub(crate) mod paths;
mod plain;
pub(crate) mod quirks;
mod schemas;
pub(crate) mod signatures;
mod template;

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;

use orch_manifests::{Dialect, ReasoningField};
use serde_json::{Map, Value, json};

use self::anthropic::generation::Generation;
use crate::bounded;
use crate::frames::{Frame, Framing};
use crate::ir::{
    ApiError, ChatRequest, ChatResponse, Dropped, Image, ImageSource, Part, StreamEvent, Tool, ToolChoice,
    Usage,
};

/// The module for a dialect.
pub fn wire(dialect: Dialect) -> &'static dyn Wire {
    match dialect {
        Dialect::OpenAiChat => &openai_chat::OpenAiChat,
        Dialect::OpenAiResponses => &openai_responses::OpenAiResponses,
        Dialect::AnthropicMessages => &anthropic::Anthropic,
        Dialect::GeminiGenerateContent => &gemini::Gemini,
        Dialect::BedrockConverse => &bedrock::Bedrock,
        Dialect::CohereChat => &cohere::Cohere,
        Dialect::OllamaChat => &ollama::Ollama,
    }
}

/// One wire format.
pub trait Wire: Send + Sync {
    /// Reads a client's request body.
    fn parse_request(&self, body: &[u8]) -> Result<ChatRequest, RequestError>;

    /// Writes a request body for a provider that speaks this dialect.
    ///
    /// The model is `request.model`: the caller has put the candidate's there.
    fn write_request(&self, request: &ChatRequest, style: &Style) -> Written;

    /// Reads a provider's whole answer (a success body, not an error).
    fn parse_response(&self, body: &[u8]) -> Result<ChatResponse, ResponseError> {
        let document = bounded::answer(body).map_err(|e| ResponseError(format!("not readable JSON: {e}")))?;
        self.read_response(document)
    }

    /// Reads a provider's whole answer that was parsed already.
    fn read_response(&self, document: Value) -> Result<ChatResponse, ResponseError>;

    /// Writes a whole answer for a client.
    fn write_response(&self, response: &ChatResponse) -> Vec<u8>;

    /// Writes an error for a client: its status and JSON body.
    fn write_error(&self, error: &ApiError) -> (StatusCode, Vec<u8>);

    /// How the events of streams are framed.
    fn framing(&self) -> Framing {
        Framing::Sse
    }

    /// Reads a provider's stream.
    fn stream_parser(&self) -> Box<dyn StreamParser>;

    /// Reads the stream of a provider that may leave out the terminator, once the answer has finished.
    fn lenient_stream_parser(&self) -> Box<dyn StreamParser> {
        self.stream_parser()
    }

    /// Writes a client's stream. `include_usage`: whether the client asked for a usage event.
    fn stream_writer(&self, include_usage: bool) -> Box<dyn StreamWriter>;

    /// Writes a whole answer to this request, whose functions the client may know in forms of its dialect's own.
    fn write_answer(&self, response: &ChatResponse, _request: &ChatRequest) -> Vec<u8> {
        self.write_response(response)
    }

    /// Writes the stream of an answer to this request.
    fn answer_writer(&self, request: &ChatRequest) -> Box<dyn StreamWriter> {
        self.stream_writer(request.include_usage)
    }
}

/// Reads the events of one provider stream.
pub trait StreamParser: Send {
    /// What one frame means, in order; unknown kinds of events mean nothing.
    ///
    /// # Errors
    /// The event is not what the dialect says: the stream cannot be trusted from here on.
    fn read(&mut self, frame: &Frame) -> Result<Vec<StreamEvent>, ResponseError> {
        match frame.data.as_deref() {
            None | Some("") => Ok(Vec::new()),
            Some(data) => match self.text_alone(data) {
                Some(alone) => Ok(alone.into_events()),
                None => self.read_data(data, bounded::event(data).as_ref()),
            },
        }
    }

    /// The piece of the answer's text that data says, where it says nothing else: what [`StreamParser::read_data`] would hear
    /// in it, without a tree of it. `None` leaves it to that. Nothing that is heard later depends on whether this was called; it
    /// may keep what makes the next such piece quicker to read.
    fn text_alone(&mut self, _data: &str) -> Option<TextAlone> {
        None
    }

    /// What data says that is not empty, and what came of parsing it.
    ///
    /// # Errors
    /// As [`StreamParser::read`].
    fn read_data(
        &mut self,
        data: &str,
        parsed: Result<&Value, &serde_json::Error>,
    ) -> Result<Vec<StreamEvent>, ResponseError>;

    /// What the end of the stream means, after its last event. Most dialects have a terminator, without which the end
    /// means nothing.
    fn end(&mut self) -> Vec<StreamEvent> {
        Vec::new()
    }
}

/// A piece of an answer's text, and the counts of the answer so far where its dialect says them with every piece.
#[derive(Debug)]
pub struct TextAlone {
    /// Not empty.
    pub text: String,
    /// All of them whole numbers that can be.
    pub usage: Option<Usage>,
}

impl TextAlone {
    /// As a parser says it.
    pub fn into_events(self) -> Vec<StreamEvent> {
        let text = StreamEvent::Text(self.text);
        match self.usage {
            Some(usage) => vec![StreamEvent::Usage(usage), text],
            None => vec![text],
        }
    }
}

impl From<String> for TextAlone {
    fn from(text: String) -> TextAlone {
        TextAlone { text, usage: None }
    }
}

/// Writes the events of one client stream, as bytes in the dialect's framing.
pub trait StreamWriter: Send {
    /// Appends the bytes for one event. May hold pieces back until a later event when the dialect wants another
    /// order; [`StreamEvent::End`] and [`StreamEvent::Error`] leave nothing held.
    fn write(&mut self, event: &StreamEvent, out: &mut Vec<u8>);

    /// The client has had so many events already, which passed as the provider sent them: for dialects that number
    /// them.
    fn begun(&mut self, _events: u64) {}
}

/// What a provider wants differently from the plain dialect; from the catalog's quirks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// `max_completion_tokens` in place of `max_tokens` (OpenAI's reasoning models refuse the latter).
    pub max_completion_tokens: bool,
    /// The provider rejects `stream_options`.
    pub no_stream_options: bool,
    /// The provider knows `json_object` but not `json_schema`.
    pub no_json_schema: bool,
    /// The field of a message in which the provider takes its thoughts back, unsigned.
    pub reasoning: Option<ReasoningField>,
    /// Whether the model thinks before it answers, where that is known.
    pub thinks: Option<bool>,
    /// Whether the provider takes files, where its dialect is one of OpenAI's.
    pub files: bool,
    /// Whether a conversation that goes on is to be cached without the client's asking, where the dialect wants to be asked.
    pub caches: bool,
}

/// A request body and what it could not carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// JSON.
    pub body: Bytes,
    /// For the receipt.
    pub dropped: Vec<Dropped>,
}

/// A client's request that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct RequestError {
    /// Path of the field at fault, e.g. `messages[2].content[0].image_url.url`; empty for the whole body.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// A provider's answer that is not what its dialect says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider's answer is not valid: {0}")]
pub struct ResponseError(pub String);

/// The status for an error: its own, or the dialect's for its class.
fn status_of(error: &ApiError, usual: u16) -> StatusCode {
    let status = error.status.unwrap_or(usual);
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Where a request goes on from what its provider has kept, so that it can be carried to no other, and so that it does not
/// say how long its input is. `None` when all of it is in the request.
pub(crate) fn kept_by_provider(client: Dialect, request: &ChatRequest) -> Option<String> {
    match client {
        Dialect::OpenAiResponses => openai_responses::kept(request),
        Dialect::GeminiGenerateContent => gemini::kept(request),
        Dialect::OpenAiChat
        | Dialect::AnthropicMessages
        | Dialect::BedrockConverse
        | Dialect::CohereChat
        | Dialect::OllamaChat => None,
    }
}

/// What the request's schema is that this model takes in no form, and its provider refuses.
pub(crate) fn unsayable(spoken: Dialect, model: &str, schema: &Value) -> Option<&'static str> {
    let is_claudes = match spoken {
        Dialect::AnthropicMessages => true,
        Dialect::BedrockConverse => bedrock::is_anthropics(model),
        // Whoever has the models of others may have a way of its own to keep them to a schema.
        Dialect::OpenAiChat
        | Dialect::OpenAiResponses
        | Dialect::GeminiGenerateContent
        | Dialect::CohereChat
        | Dialect::OllamaChat => false,
    };
    if is_claudes { anthropic::schema::unsayable(schema) } else { None }
}

/// Whether this model keeps to a schema while it may call functions, so that it can be asked for both.
pub(crate) fn calls_beside_json(spoken: Dialect, model: &str) -> bool {
    spoken != Dialect::GeminiGenerateContent || gemini::calls_beside_json(model)
}

/// A schema for a model of which the provider speaks a dialect of OpenAI's: Claude wants its own form there as well.
fn schema_for<'s>(model: &str, schema: &'s Value, dropped: &mut Vec<Dropped>) -> Cow<'s, Value> {
    match Generation::of(model) {
        Some(_) => Cow::Owned(anthropic::schema::to_claude(schema, dropped)),
        None => Cow::Borrowed(schema),
    }
}

/// Text of an address without percent-encoding; `None` when it is broken.
pub(crate) fn unescaped(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(bytes.next())? << 4 | digit(bytes.next())?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// What a data URL of base64 text holds.
fn data_url(url: &str) -> Option<ImageSource> {
    let (head, data) = url.get(5..)?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?;
    Some(ImageSource::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
}

/// Answers that a stream may have at once. OpenAI gives 128 at most.
const MOST_ANSWERS: usize = 1 << 10;

/// A piece of an answer beside the first one. Nobody follows what it says: such answers never cross dialects.
fn of_another_answer() -> StreamEvent {
    StreamEvent::Opaque(json!({ "type": "answer" }))
}

/// Whether any field of a piece of an answer but its role holds something.
fn says_something(piece: &Value) -> bool {
    let tells = |value: &Value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(pieces) => !pieces.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    piece.as_object().is_some_and(|piece| piece.iter().any(|(key, value)| key != "role" && tells(value)))
}

/// Which of these kinds of notes an answer has beside its words, each with nothing but its kind: no other dialect has a place
/// for them.
fn notes(holder: &Value, kinds: &'static [&'static str]) -> impl Iterator<Item = Value> {
    let noted = kinds.iter().filter(move |kind| match holder.get(**kind) {
        Some(Value::Array(notes)) => !notes.is_empty(),
        Some(Value::Object(note)) => !note.is_empty(),
        _ => false,
    });
    noted.map(|kind| json!({ "type": kind }))
}

/// A picture in the form of OpenAI's chat completions, which others have taken over.
fn image_url(image: &Image) -> Value {
    let url = match &image.source {
        ImageSource::Url(url) => url.clone(),
        ImageSource::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
    };
    let mut inner = json!({ "url": url });
    if let Some(detail) = &image.detail {
        inner["detail"] = json!(detail);
    }
    json!({ "type": "image_url", "image_url": inner })
}

/// The name of a picture's type as it is registered. `image/jpg` is what many write, and what providers refuse.
fn media_type(name: &str) -> &str {
    if name.eq_ignore_ascii_case("image/jpg") { "image/jpeg" } else { name }
}

/// The id of a call in the letters that Anthropic and Bedrock take: of other providers some are `functions.name:0`. Calls
/// and results keep to each other, as what is the same before is the same behind.
fn plain_id(id: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if id.bytes().all(plain) {
        return Cow::Borrowed(id);
    }
    let written = id.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("_{byte:02x}"),
    });
    Cow::Owned(written.collect())
}

/// The parts of a message or of a result, each with its path in the client's request.
fn placed<'p>(parts: &'p [Part], path: &str) -> impl Iterator<Item = (String, &'p Part)> {
    parts.iter().enumerate().map(move |(j, part)| (format!("{path}.content[{j}]"), part))
}

/// Why thoughts and their signatures do not cross dialects.
const OF_ITS_PROVIDER: &str = "reasoning is signed by, and replayed to, its own provider only";

/// A schema of arguments that every provider takes: some refuse an object that does not say what is in it, which others write
/// of tools without arguments.
fn arguments_schema(parameters: Option<&Value>) -> Value {
    let Some(Value::Object(schema)) = parameters else {
        return json!({ "type": "object", "properties": {} });
    };
    let mut schema = schema.clone();
    if !schema.contains_key("type")
        && !["anyOf", "oneOf", "allOf", "$ref"].iter().any(|key| schema.contains_key(*key))
    {
        schema.insert("type".to_owned(), json!("object"));
    }
    if schema.get("type") == Some(&json!("object")) && !schema.contains_key("properties") {
        schema.insert("properties".to_owned(), json!({}));
    }
    Value::Object(schema)
}

/// Takes out a choice among tools of which none crosses dialects: a provider refuses one without them.
pub(crate) fn drop_empty_choice(request: &mut ChatRequest, dropped: &mut Vec<Dropped>) {
    let crosses = |wanted: Option<&str>| {
        request.tools.iter().any(
            |tool| matches!(tool, Tool::Function { name, .. } if wanted.is_none_or(|wanted| wanted == name)),
        )
    };
    let left = match &request.tool_choice {
        Some(ToolChoice::Named(wanted)) => crosses(Some(wanted)),
        Some(ToolChoice::Required) => crosses(None),
        Some(ToolChoice::Auto | ToolChoice::None) | None => true,
    };
    if !left {
        request.tool_choice = None;
        dropped.push(Dropped::new("tool_choice", "the tool that it asks for does not cross dialects"));
    }
}

/// The arguments of a tool call as an object; `None` when the model's text is not one.
fn tool_input(arguments: &str) -> Option<Value> {
    if arguments.trim().is_empty() {
        return Some(json!({}));
    }
    let object = |text: &[u8]| serde_json::from_slice::<Map<String, Value>>(text).map(Value::Object);
    bounded::mending(arguments.as_bytes(), object).ok()
}

#[cfg(test)]
mod tests;
