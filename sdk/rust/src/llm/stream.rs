//! The streamed call itself.

use std::collections::VecDeque;

use super::completion::Assembly;
use super::{ChatRequest, Completion};
use crate::http::{Request, Response};
use crate::sse::Parser;
use crate::{Error, Result};

/// Sends a chat request to the gateway at `ORCH_LLM_URL` and returns its answer as a stream of text.
///
/// Fails with [`Error::Env`] outside of `orch`, with [`Error::Provider`] and the provider's own message when every
/// candidate of the plan failed, and with [`Error::Http`] when no answer came at all.
pub async fn chat(request: ChatRequest) -> Result<ChatStream> {
    let base = std::env::var("ORCH_LLM_URL").map_err(|_| Error::Env("ORCH_LLM_URL".into()))?;
    let url = format!("{}/chat/completions", base.trim_end_matches('/'));
    let response = Request::post(url).header("accept", "text/event-stream").json(&request)?.send().await?;
    let status = response.status();
    if !(200..300).contains(&status) {
        return Err(Error::from_answer(status, &response.bytes().await?));
    }
    let kind = response.header("content-type").unwrap_or_default().to_ascii_lowercase();
    if !kind.starts_with("text/event-stream") {
        return Err(Error::Protocol(format!("expected a stream of events, got {kind:?}")));
    }
    Ok(ChatStream {
        response,
        parser: Parser::default(),
        ready: VecDeque::new(),
        assembly: Assembly::default(),
    })
}

/// An answer while it is being written.
#[derive(Debug)]
pub struct ChatStream {
    response: Response,
    parser: Parser,
    ready: VecDeque<Result<String>>,
    assembly: Assembly,
}

impl ChatStream {
    /// Waits for the next piece of text, which is never empty; `None` when the answer is complete.
    ///
    /// Fails with [`Error::Truncated`] when the connection ends first, and with [`Error::Provider`] when the
    /// provider gives up half way.
    pub async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(text) = self.ready.pop_front() {
                return text.map(Some);
            }
            if self.assembly.is_done() {
                return Ok(None);
            }
            let bytes = self.response.chunk().await?.ok_or(Error::Truncated)?;
            for event in self.parser.push(&bytes) {
                // Text that came before an error is handed out before it.
                self.ready.extend(self.assembly.push(&event).transpose());
            }
        }
    }

    /// The whole answer, once [`ChatStream::next`] has returned `None`.
    ///
    /// Fails with [`Error::Truncated`] when it has not: half an answer is never passed off as one.
    pub fn into_completion(self) -> Result<Completion> {
        self.assembly.finish()
    }
}
