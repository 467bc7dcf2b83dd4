//! Putting a streamed chat completion together, event by event.

use serde::Deserialize;

use super::tool::{Calls, Piece, ToolCall};
use crate::error::{ErrorBody, ErrorDetail};
use crate::sse::Event;
use crate::{Error, Result};

/// The data of the event that ends every stream of this dialect.
const DONE: &str = "[DONE]";

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completion {
    /// The answer's text; often empty when there are tool calls.
    pub text: String,
    /// The tools that the model wants called before it answers.
    pub tool_calls: Vec<ToolCall>,
    /// The model that answered, in its provider's words; empty when the stream did not say.
    pub model: String,
    /// Why it stopped: `stop`, `length`, `tool_calls`, `content_filter`; `None` when the provider did not say.
    pub finish_reason: Option<String>,
    /// What the call cost, when the provider said.
    pub usage: Option<Usage>,
}

/// Tokens of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Tokens read.
    #[serde(rename = "prompt_tokens")]
    pub input_tokens: u64,
    /// Tokens written.
    #[serde(rename = "completion_tokens")]
    pub output_tokens: u64,
}

/// A completion in the making.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    completion: Completion,
    calls: Calls,
    done: bool,
}

impl Assembly {
    /// Takes one event and returns the text that it adds, which may be none.
    pub(super) fn push(&mut self, event: &Event) -> Result<Option<String>> {
        if self.done {
            return Ok(None);
        }
        if event.data == DONE {
            self.done = true;
            return Ok(None);
        }
        let chunk = match serde_json::from_str(&event.data) {
            Ok(Frame::Chunk(chunk)) => chunk,
            Ok(Frame::Error(ErrorBody { error })) => return Err(error.into_error(None)),
            Err(error) => return Err(Error::Protocol(format!("an event of the stream: {error}"))),
        };
        if let Some(model) = chunk.model.filter(|model| !model.is_empty()) {
            self.completion.model = model;
        }
        if chunk.usage.is_some() {
            self.completion.usage = chunk.usage;
        }
        // Chunks that carry only usage have no choice; more than one is never asked for.
        let Some(choice) = chunk.choices.into_iter().find(|choice| choice.index == 0) else {
            return Ok(None);
        };
        if choice.finish_reason.is_some() {
            self.completion.finish_reason = choice.finish_reason;
        }
        let Delta { content, tool_calls } = choice.delta.unwrap_or_default();
        for piece in tool_calls.into_iter().flatten() {
            self.calls.push(piece)?;
        }
        let text = content.filter(|text| !text.is_empty());
        if let Some(text) = &text {
            self.completion.text.push_str(text);
        }
        Ok(text)
    }

    /// Whether the terminator was seen.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The whole answer; [`Error::Truncated`] when the terminator was not seen.
    pub(super) fn finish(self) -> Result<Completion> {
        if !self.done {
            return Err(Error::Truncated);
        }
        Ok(Completion { tool_calls: self.calls.finish(), ..self.completion })
    }
}

/// What the data of an event is.
#[derive(Deserialize)]
#[serde(from = "RawFrame")]
enum Frame {
    Chunk(Chunk),
    Error(ErrorBody),
}

/// `error` first: an error event may carry the fields of a chunk beside it.
#[derive(Deserialize)]
struct RawFrame {
    error: Option<ErrorDetail>,
    #[serde(flatten)]
    chunk: Chunk,
}

impl From<RawFrame> for Frame {
    fn from(raw: RawFrame) -> Frame {
        match raw.error {
            Some(error) => Frame::Error(ErrorBody { error }),
            None => Frame::Chunk(raw.chunk),
        }
    }
}

#[derive(Deserialize)]
struct Chunk {
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    tool_calls: Option<Vec<Piece>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Parser;

    const STREAM: &str = concat!(
        "data: {\"id\":\"c1\",\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
        ": keep-alive\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"other\"}},{\"index\":0,\"delta\":{\"content\":\"lo\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7}}\n\n",
        "data: [DONE]\n\n",
    );

    fn assemble(stream: &str) -> (Vec<String>, Result<Completion>) {
        let (mut parser, mut assembly, mut deltas) = (Parser::default(), Assembly::default(), Vec::new());
        for event in parser.push(stream.as_bytes()) {
            match assembly.push(&event) {
                Ok(text) => deltas.extend(text),
                Err(error) => return (deltas, Err(error)),
            }
        }
        (deltas, assembly.finish())
    }

    #[test]
    fn deltas_come_as_they_arrive_and_add_up() {
        let (deltas, completion) = assemble(STREAM);
        assert_eq!(deltas, ["Hel", "lo"]);
        assert_eq!(
            completion,
            Ok(Completion {
                text: "Hello".into(),
                tool_calls: Vec::new(),
                model: "gpt-4o-mini-2024-07-18".into(),
                finish_reason: Some("stop".into()),
                usage: Some(Usage { input_tokens: 5, output_tokens: 2 }),
            })
        );
    }

    #[test]
    fn tool_calls_are_put_together_and_add_no_text() {
        let stream = concat!(
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":null,\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"find\",\"arguments\":\"\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"q\\\":1}\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
            "data: [DONE]\n\n",
        );
        let (deltas, completion) = assemble(stream);
        assert!(deltas.is_empty());
        let completion = completion.unwrap();
        let call = ToolCall { id: "c1".into(), name: "find".into(), arguments: "{\"q\":1}".into() };
        assert_eq!(completion.tool_calls, [call]);
        assert_eq!(completion.finish_reason.as_deref(), Some("tool_calls"));
    }

    #[test]
    fn a_stream_cut_anywhere_is_truncated() {
        for cut in 0..STREAM.len() - 1 {
            let (_, completion) = assemble(&STREAM[..cut]);
            assert_eq!(completion, Err(Error::Truncated), "cut at byte {cut}");
        }
    }

    #[test]
    fn an_error_inside_the_stream_is_the_models_failure() {
        let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\ndata: {\"error\":{\"message\":\"Overloaded\",\"type\":\"overloaded_error\"}}\n\n";
        let (deltas, completion) = assemble(stream);
        assert_eq!(deltas, ["Hel"]);
        assert_eq!(
            completion,
            Err(Error::Provider {
                status: None,
                kind: Some("overloaded_error".into()),
                message: "Overloaded".into()
            })
        );
        // Beside the fields of a chunk as well, and as bare text.
        let beside = "data: {\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}],\"error\":\"gone\"}\n\n";
        assert!(matches!(assemble(beside).1, Err(Error::Provider { message, .. }) if message == "gone"));
    }

    #[test]
    fn nonsense_is_a_protocol_error_and_what_follows_done_is_ignored() {
        assert!(matches!(assemble("data: {not json\n\n").1, Err(Error::Protocol(_))));
        assert!(matches!(assemble("data: 7\n\n").1, Err(Error::Protocol(_))));
        let (deltas, completion) =
            assemble("data: [DONE]\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n");
        assert!(deltas.is_empty());
        assert_eq!(completion, Ok(Completion::default()));
    }
}
