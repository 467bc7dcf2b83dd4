//! The dialects against recorded shapes, and against each other.

mod bedrock;
mod chunks;
mod claude;
mod clients;
mod cohere;
mod gemini;
mod ollama;
mod plain;
mod requests;
mod responses;
mod streams;
mod thinking;
mod wholes;

use orch_manifests::Dialect;

use super::{StreamParser, Wire, wire};
use crate::ir::StreamEvent;

const ALL: [Dialect; Dialect::ALL.len()] = Dialect::ALL;

fn openai() -> &'static dyn Wire {
    wire(Dialect::OpenAiChat)
}

fn responses() -> &'static dyn Wire {
    wire(Dialect::OpenAiResponses)
}

fn anthropic() -> &'static dyn Wire {
    wire(Dialect::AnthropicMessages)
}

fn gemini() -> &'static dyn Wire {
    wire(Dialect::GeminiGenerateContent)
}

fn bedrock() -> &'static dyn Wire {
    wire(Dialect::BedrockConverse)
}

fn cohere() -> &'static dyn Wire {
    wire(Dialect::CohereChat)
}

fn ollama() -> &'static dyn Wire {
    wire(Dialect::OllamaChat)
}

/// Every event of a stream that arrives in these chunks.
fn events<'a>(wire: &dyn Wire, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<StreamEvent> {
    let mut splitter = wire.framing().splitter(1 << 20);
    let mut parser: Box<dyn StreamParser> = wire.stream_parser();
    let mut all = Vec::new();
    for chunk in chunks {
        splitter.push(chunk);
        while let Some(event) = splitter.next_frame().expect("the stream is well formed") {
            all.extend(parser.read(&event).expect("the events are well formed"));
        }
    }
    if !splitter.has_rest() {
        all.extend(parser.end());
    }
    all
}

/// The events as a stream for a client.
fn written(wire: &dyn Wire, events: &[StreamEvent]) -> Vec<u8> {
    let mut writer = wire.stream_writer(true);
    let mut out = Vec::new();
    events.iter().for_each(|event| writer.write(event, &mut out));
    out
}
