//! Embeddings: what all dialects that have them meet in, and the dialects themselves.
//!
//! As with chat, the same dialect in and out passes the bytes, and another one is written anew from [`EmbedRequest`].
//! Vectors are numbers of single precision here, which is what every provider computes them in.

mod answer;
mod bedrock;
mod body;
mod cohere;
mod gemini;
mod needs;
mod ollama;
mod openai;
mod several;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use data_encoding::BASE64;
use orch_manifests::{Dialect, ServerTool};
use serde_json::{Map, Value};

use crate::dialect::{RequestError, ResponseError};
use crate::ir::Dropped;
use crate::reach::Need;

pub(crate) use answer::Expected;
pub(crate) use bedrock::{TOKENS_HEADER, input_tokens};
pub(crate) use needs::{at_fault, lack, prepare};

/// The dialect's embeddings; `None` for dialects that have none.
pub(crate) fn wire(dialect: Dialect) -> Option<&'static dyn EmbedWire> {
    match dialect {
        Dialect::OpenAiChat => Some(&openai::OpenAi),
        Dialect::GeminiGenerateContent => Some(&gemini::Gemini),
        Dialect::CohereChat => Some(&cohere::Cohere),
        Dialect::OllamaChat => Some(&ollama::Ollama),
        Dialect::BedrockConverse => Some(&bedrock::Invoke),
        // Anthropic has none, and responses are answers.
        Dialect::OpenAiResponses | Dialect::AnthropicMessages => None,
    }
}

/// Reads a client's body. `alone`: whether its path takes one input.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn parse(dialect: Dialect, body: &[u8], alone: bool) -> Result<EmbedRequest, RequestError> {
    let none = || RequestError { path: String::new(), message: format!("{dialect} has no embeddings") };
    wire(dialect).ok_or_else(none)?.parse_request(body, alone)
}

/// One wire format of embeddings; pure.
pub(crate) trait EmbedWire: Sync {
    /// Reads a client's body. `alone`: whether the path takes one input (Gemini).
    fn parse_request(&self, body: &[u8], alone: bool) -> Result<EmbedRequest, RequestError>;

    /// Writes a body for a provider's `model`; more than one where it takes fewer inputs at once.
    ///
    /// # Errors
    /// Something of the request means nothing to a provider of this dialect, and is no request without it.
    fn write_request(&self, request: &EmbedRequest, model: &str) -> Result<Written, RequestError>;

    /// Reads a provider's answer.
    fn parse_response(&self, body: &[u8]) -> Result<EmbedResponse, ResponseError>;

    /// Writes an answer for the client whose request this was.
    fn write_response(&self, request: &EmbedRequest, response: &EmbedResponse) -> Vec<u8>;
}

/// A request for embeddings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EmbedRequest {
    /// As the client names it; empty when it names none.
    pub(crate) model: String,
    /// What gets a vector each. One at least.
    pub(crate) inputs: Vec<Input>,
    /// Whether the client asked for one vector and not for a list of them (Gemini, and Titan at Bedrock).
    pub(crate) alone: bool,
    /// Whether it named the spellings that it wants (Cohere's models at Bedrock answer otherwise where none is named).
    pub(crate) spelled: bool,
    /// Numbers of a vector.
    pub(crate) dimensions: Option<u64>,
    /// How the client wants to have them. One at least.
    pub(crate) encodings: Vec<Encoding>,
    /// What the vectors are for.
    pub(crate) purpose: Option<Named<Purpose>>,
    /// What happens to inputs that are too long.
    pub(crate) truncate: Option<Named<Truncate>>,
    /// Whom the client asks for.
    pub(crate) user: Option<String>,
    /// All else, by its path: fields of the dialect's own, which no other one has.
    pub(crate) extras: Map<String, Value>,
    /// A field that differs between the inputs, where only a dialect that has one for each can say that.
    pub(crate) mixed: Option<String>,
}

/// A value, and the field that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named<T> {
    pub(crate) field: &'static str,
    pub(crate) value: T,
}

/// What gets a vector.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Input {
    Text(String),
    /// As ids of a tokenizer, which are one maker's own.
    Tokens(Vec<u32>),
    /// An image, sound or a document.
    Other {
        /// The path at which it stands.
        path: String,
        /// Whether the provider would fetch it, or take it from what the account has stored.
        fetched: bool,
    },
}

/// How a vector is spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// An array of numbers.
    Float,
    /// The bytes of the numbers, single precision, little endian.
    Base64,
    /// In fewer bits than that, which a provider computes (Cohere): the field, and its value.
    Other(String, String),
}

/// What vectors are for. Providers compute others for questions than for what answers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Document,
    Query,
    Classification,
    Clustering,
    Similarity,
    QuestionAnswering,
    FactVerification,
    CodeQuery,
    /// One that only its provider knows.
    Other(String),
}

/// What happens to inputs that are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truncate {
    /// They are refused.
    Never,
    Start,
    End,
}

/// A body, and what it does not carry.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) body: Bytes,
    /// For the inputs that are not in it.
    pub(crate) more: Vec<More>,
    pub(crate) dropped: Vec<Dropped>,
}

/// One of several bodies, and how many of the inputs are in it.
#[derive(Debug)]
pub(crate) struct More {
    pub(crate) body: Bytes,
    pub(crate) inputs: usize,
}

impl Written {
    /// One body for all of the inputs.
    fn whole(body: Bytes, dropped: Vec<Dropped>) -> Written {
        Written { body, more: Vec::new(), dropped }
    }
}

/// A provider's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EmbedResponse {
    pub(crate) id: String,
    /// As the provider says; empty where it does not.
    pub(crate) model: String,
    /// In the order of the inputs.
    pub(crate) vectors: Vec<Vector>,
    /// How they are spelled, each way once, where nothing beside a vector says so: in OpenAI's dialect.
    pub(crate) spelled: Vec<Encoding>,
    /// What the provider counted.
    pub(crate) input_tokens: Option<u64>,
    /// Whether the count is none, but a bound from above.
    pub(crate) estimated: bool,
}

/// One vector.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Vector {
    Numbers(Vec<f32>),
    /// In a spelling that passes and that nothing here reads.
    Unread,
}

impl EmbedResponse {
    /// Whether each vector is spelled as this request's client reads it. Compatible providers spell numbers whatever they
    /// are asked for, and a client that asked for bytes takes those for bytes. What only the provider itself knows passes.
    pub(crate) fn is_spelled_for(&self, request: &EmbedRequest) -> bool {
        let known = |spelled: &Encoding| {
            request.encodings.iter().any(|asked| asked == spelled || matches!(asked, Encoding::Other(..)))
        };
        self.spelled.iter().all(known)
    }
}

impl EmbedRequest {
    /// A request of these inputs and nothing else.
    fn of(model: String, inputs: Vec<Input>) -> EmbedRequest {
        EmbedRequest {
            model,
            inputs,
            alone: false,
            spelled: false,
            dimensions: None,
            encodings: vec![Encoding::Float],
            purpose: None,
            truncate: None,
            user: None,
            extras: Map::new(),
            mixed: None,
        }
    }

    /// Input tokens at most: each stands for a byte at least. `context`: the most of one input, where it is known.
    pub(crate) fn worst_input(&self, context: Option<u64>) -> u64 {
        let tokens = self.inputs.iter().map(|input| {
            let tokens = match input {
                // Beginning and end, and what a purpose puts before it.
                Input::Text(text) => text.len() as u64 + 64,
                Input::Tokens(tokens) => tokens.len() as u64 + 64,
                Input::Other { .. } => return context.unwrap_or(ANY_CONTEXT),
            };
            // What is longer is cut or refused.
            context.map_or(tokens, |context| tokens.min(context))
        });
        tokens.fold(0, u64::saturating_add)
    }

    /// Bytes of the inputs, which an answer may repeat (Cohere), in whatever spelling.
    fn repeated_bytes(&self) -> usize {
        let texts =
            self.inputs.iter().map(|input| if let Input::Text(text) = input { text.len() } else { 0 });
        texts.fold(0, |sum, bytes| sum.saturating_add(bytes.saturating_mul(6)))
    }

    /// The first input that is no text.
    fn no_text(&self) -> Option<RequestError> {
        self.inputs.iter().enumerate().find_map(|(at, input)| match input {
            Input::Text(_) => None,
            Input::Tokens(_) => Some(RequestError {
                path: format!("input[{at}]"),
                message:
                    "token ids mean something to one maker's models only, and not to this one's; send text"
                        .to_owned(),
            }),
            Input::Other { path, .. } => Some(RequestError {
                path: path.clone(),
                message: "is no text, and the provider's dialect takes nothing else here".to_owned(),
            }),
        })
    }

    /// The first input that is neither text nor token ids.
    pub(crate) fn other_than_text(&self) -> Option<&str> {
        self.inputs.iter().find_map(|input| match input {
            Input::Other { path, .. } => Some(path.as_str()),
            Input::Text(_) | Input::Tokens(_) => None,
        })
    }

    /// The first input for which a provider would reach out, if any.
    pub(crate) fn needs(&self) -> Option<Need> {
        self.inputs.iter().find_map(|input| match input {
            // Which of the two it is, only the provider can tell.
            Input::Other { path, fetched: true } => Some(Need {
                path: path.clone(),
                kinds: [ServerTool::ImageUrl, ServerTool::Stored].into_iter().collect(),
                what: "fetch an address, or take what is stored in its account".to_owned(),
            }),
            _ => None,
        })
    }

    /// The texts of a request for a dialect that takes nothing else.
    ///
    /// # Errors
    /// One of its inputs is none, or inputs differ in something that other dialects say once for all of them, or the client
    /// wants the vectors in a form that only its own provider makes.
    fn texts(&self) -> Result<Vec<&str>, RequestError> {
        if let Some(path) = &self.mixed {
            let message =
                "differs between the inputs, and this provider takes one for all of them; send them apart";
            return Err(RequestError { path: path.clone(), message: message.to_owned() });
        }
        if let Some((path, kind)) = self.encodings.iter().find_map(|encoding| match encoding {
            Encoding::Other(path, kind) => Some((path, kind)),
            Encoding::Float | Encoding::Base64 => None,
        }) {
            let message = format!("{kind} is computed by providers that have it, and this one has not");
            return Err(RequestError { path: path.clone(), message });
        }
        if let Some(error) = self.no_text() {
            return Err(error);
        }
        let texts = self.inputs.iter().filter_map(|input| match input {
            Input::Text(text) => Some(text.as_str()),
            Input::Tokens(_) | Input::Other { .. } => None,
        });
        Ok(texts.collect())
    }

    /// The fields of the client's dialect that no other has.
    fn lost_extras(&self) -> Vec<Dropped> {
        let lost = |field: &String| Dropped::new(field.clone(), "the provider's dialect has no such field");
        self.extras.keys().map(lost).collect()
    }
}

/// Tokens of one input that is no text, where nothing is known of the model.
const ANY_CONTEXT: u64 = 1 << 17;

impl Vector {
    /// The numbers of base64 text.
    fn of_base64(text: &str) -> Result<Vector, ResponseError> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| invalid("a vector is no base64"))?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        match rest.is_empty() {
            true => Vector::of(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            false => Err(invalid("a vector's bytes are no whole numbers")),
        }
    }

    /// These numbers, of which each has to be one.
    fn of(numbers: Vec<f32>) -> Result<Vector, ResponseError> {
        match numbers.is_empty() || numbers.iter().any(|number| !number.is_finite()) {
            true => Err(invalid("a vector is empty, or holds what is no number")),
            false => Ok(Vector::Numbers(numbers)),
        }
    }

    /// As an array of numbers.
    fn write_numbers(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        out.push(b'[');
        if let Vector::Numbers(numbers) = self {
            for (at, number) in numbers.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                // Writing into memory does not fail. The shortest digits that stand for this number.
                let _ = write!(out, "{comma}{number:?}");
            }
        }
        out.push(b']');
    }

    /// As base64 in quotes.
    fn write_base64(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        if let Vector::Numbers(numbers) = self {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            out.extend_from_slice(BASE64.encode(&bytes).as_bytes());
        }
        out.push(b'"');
    }
}

/// A list with commas, each of whose items is written by `write`.
fn write_list<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(usize, &T, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(at, item, out);
    }
    out.push(b']');
}

fn invalid(message: &str) -> ResponseError {
    ResponseError(message.to_owned())
}

/// A JSON text of small values.
fn json(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
