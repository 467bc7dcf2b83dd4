//! What an honest provider of each dialect would say, and what its clients send.

use bytes::Bytes;
use orch_gateway::dialect::wire;
use orch_gateway::frames::{Frame, Framing};
use orch_gateway::ir::{ChatResponse, Part, StopReason, StreamEvent, Usage};
use orch_manifests::Dialect;
use serde_json::{Value, json};

use super::server::OLLAMA;

/// The model whose provider speaks a dialect, as it is asked for.
pub(crate) fn model(spoken: Dialect) -> &'static str {
    match spoken {
        Dialect::OpenAiChat => "gpt-4o-mini",
        Dialect::OpenAiResponses => "openai-responses/gpt-4o-mini",
        Dialect::AnthropicMessages => "claude-3-haiku",
        Dialect::GeminiGenerateContent => "gemini-2.5-flash",
        Dialect::BedrockConverse => "aws/amazon.nova-lite-v1:0",
        Dialect::CohereChat => "command-r7b-12-2024",
        Dialect::OllamaChat => "ollama/llama3.2",
    }
}

/// Where that provider is.
pub(crate) fn host(spoken: Dialect) -> &'static str {
    match spoken {
        Dialect::OpenAiChat | Dialect::OpenAiResponses => "api.openai.com",
        Dialect::AnthropicMessages => "api.anthropic.com",
        Dialect::GeminiGenerateContent => "generativelanguage.googleapis.com",
        Dialect::BedrockConverse => "bedrock-runtime.us-east-1.amazonaws.com",
        Dialect::CohereChat => "api.cohere.com",
        Dialect::OllamaChat => OLLAMA,
    }
}

/// What a provider says in a dialect.
pub(crate) struct Speech {
    pub(crate) dialect: Dialect,
    /// A whole answer.
    pub(crate) whole: Vec<u8>,
    /// The frames of a stream.
    pub(crate) frames: Vec<Frame>,
    /// The text of the whole answer.
    pub(crate) text: &'static str,
    /// That of the stream.
    pub(crate) streamed: String,
}

impl Speech {
    pub(crate) fn new(dialect: Dialect) -> Speech {
        let text = "Grüße aus Bern";
        let answer = ChatResponse {
            id: "x-1".into(),
            model: "m-1".into(),
            created: 1_700_000_000,
            content: vec![Part::text(text)],
            stop: StopReason::Stop,
            stop_sequence: None,
            usage: Some(Usage { input: 20, output: 7, ..Usage::default() }),
        };
        let whole = wire(dialect).write_response(&answer);
        let frames = frames(wire(dialect).framing(), fixture(dialect));
        let streamed = said(dialect, &frames).0;
        assert!(streamed.contains("Grüße"), "{dialect}: {streamed}");
        Speech { dialect, whole, frames, text, streamed }
    }

    pub(crate) fn framing(&self) -> Framing {
        wire(self.dialect).framing()
    }

    /// The media type of an answer.
    pub(crate) fn kind(&self, stream: bool) -> &'static str {
        if stream { self.framing().media_type() } else { "application/json" }
    }

    /// All of an answer.
    pub(crate) fn all(&self, stream: bool) -> Bytes {
        if stream { join(&self.frames) } else { self.whole.clone().into() }
    }

    /// So many of the frames that something was said.
    pub(crate) fn committed(&self) -> usize {
        let mut parser = wire(self.dialect).stream_parser();
        let said = |frame: &Frame| parser.read(frame).unwrap().iter().any(StreamEvent::commits);
        1 + self.frames.iter().position(said).unwrap()
    }

    /// An answer with other text in place of "Grüße", which is spelled as JSON has it.
    pub(crate) fn saying(&self, stream: bool, text: &[u8]) -> Bytes {
        self.replaced(stream, "Grüße".as_bytes(), text)
    }

    /// An answer with other bytes in place of some that stand in it.
    pub(crate) fn replaced(&self, stream: bool, old: &[u8], new: &[u8]) -> Bytes {
        let change = |bytes: &[u8]| {
            let at = bytes.windows(old.len()).position(|window| window == old)?;
            Some([&bytes[..at], new, &bytes[at + old.len()..]].concat())
        };
        if !stream {
            return change(&self.whole).expect("it stands in there").into();
        }
        let mut all = Vec::new();
        let mut changed = false;
        for frame in &self.frames {
            match (self.framing(), change(&frame.raw)) {
                (_, None) => all.extend_from_slice(&frame.raw),
                (Framing::EventStream, Some(_)) => {
                    changed = true;
                    let data = frame.data.as_ref().unwrap();
                    let payload = &data[data.find(':').unwrap() + 1..data.len() - 1];
                    all.extend(binary(&frame.name, &change(payload.as_bytes()).unwrap()));
                }
                (_, Some(raw)) => {
                    changed = true;
                    all.extend(raw);
                }
            }
        }
        assert!(changed, "it stands in there");
        all.into()
    }
}

/// A binary message with any payload, whose checksums hold.
pub(crate) fn binary(name: &str, payload: &[u8]) -> Bytes {
    use orch_gateway::frames::event_stream::{HeaderValue, Message};
    let header = |name: &str, value: &str| (name.to_owned(), HeaderValue::String(value.to_owned()));
    let headers = vec![
        header(":event-type", name),
        header(":content-type", "application/json"),
        header(":message-type", "event"),
    ];
    Message { headers, payload: Bytes::copy_from_slice(payload) }.to_bytes()
}

pub(crate) fn join(frames: &[Frame]) -> Bytes {
    frames.iter().flat_map(|frame| frame.raw.iter().copied()).collect()
}

pub(crate) fn fixture(dialect: Dialect) -> &'static [u8] {
    match dialect {
        Dialect::OpenAiChat => include_bytes!("../../../src/dialect/fixtures/openai_text.sse"),
        Dialect::OpenAiResponses => include_bytes!("../../../src/dialect/fixtures/openai_responses_text.sse"),
        Dialect::AnthropicMessages => include_bytes!("../../../src/dialect/fixtures/anthropic_text.sse"),
        Dialect::GeminiGenerateContent => include_bytes!("../../../src/dialect/fixtures/gemini_text.sse"),
        Dialect::BedrockConverse => include_bytes!("../../../src/dialect/fixtures/bedrock_text.eventstream"),
        Dialect::CohereChat => include_bytes!("../../../src/dialect/fixtures/cohere_text.sse"),
        Dialect::OllamaChat => include_bytes!("../../../src/dialect/fixtures/ollama_text.ndjson"),
    }
}

pub(crate) fn frames(framing: Framing, bytes: &[u8]) -> Vec<Frame> {
    let mut splitter = framing.splitter(1 << 24);
    splitter.push(bytes);
    std::iter::from_fn(|| splitter.next_frame().unwrap()).collect()
}

/// The text of a stream, and how it ended: with an error, at its end (how often), or not at all.
pub(crate) fn said(dialect: Dialect, frames: &[Frame]) -> (String, Vec<StreamEvent>) {
    let mut parser = wire(dialect).stream_parser();
    let mut events: Vec<_> = frames.iter().flat_map(|frame| parser.read(frame).unwrap()).collect();
    events.extend(parser.end());
    let text = events.iter().filter_map(|event| match event {
        StreamEvent::Text(text) => Some(text.as_str()),
        _ => None,
    });
    let text = text.collect();
    events.retain(|event| matches!(event, StreamEvent::End | StreamEvent::Error(_)));
    (text, events)
}

/// The path and body of a client's request.
pub(crate) fn ask(client: Dialect, model: &str, stream: bool) -> (String, Value) {
    let escaped = model.replace('/', "%2F");
    let messages = json!([{"role": "user", "content": "hello"}]);
    match client {
        Dialect::OpenAiChat => {
            ("/v1/chat/completions".into(), json!({"model": model, "stream": stream, "messages": messages}))
        }
        Dialect::OpenAiResponses => {
            ("/v1/responses".into(), json!({"model": model, "stream": stream, "input": "hello"}))
        }
        Dialect::AnthropicMessages => (
            "/v1/messages".into(),
            json!({"model": model, "stream": stream, "max_tokens": 100, "messages": messages}),
        ),
        Dialect::GeminiGenerateContent => {
            let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let body = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
            (format!("/v1beta/models/{escaped}:{method}"), body)
        }
        Dialect::BedrockConverse => {
            let method = if stream { "converse-stream" } else { "converse" };
            let body = json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}]});
            (format!("/model/{escaped}/{method}"), body)
        }
        Dialect::CohereChat => {
            ("/v2/chat".into(), json!({"model": model, "stream": stream, "messages": messages}))
        }
        Dialect::OllamaChat => {
            ("/api/chat".into(), json!({"model": model, "stream": stream, "messages": messages}))
        }
    }
}
