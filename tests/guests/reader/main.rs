//! Reads one streamed model reply to its end, and reports how late each piece of it came.
//!
//! Each piece is the moment at which it was sent, in nanoseconds since 1970 and a space, by a provider on the same machine,
//! whose clock is the host's.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orch_sdk::llm::{ChatRequest, chat};
use orch_sdk::{Error, Result};
use serde::Serialize;

#[derive(Serialize)]
struct Output {
    /// From the moment at which a piece was sent until the agent had it, in microseconds, in their order.
    late_us: Vec<u64>,
}

fn main() -> ExitCode {
    orch_sdk::run(|_: Option<serde_json::Value>| read())
}

async fn read() -> Result<Output> {
    let mut reply = chat(ChatRequest::new().user("What time is it?")).await?;
    let mut late_us = Vec::new();
    while let Some(piece) = reply.next().await? {
        let now = since_1970(SystemTime::now());
        for sent in piece.split_ascii_whitespace() {
            let sent = sent.parse().map_err(|_| Error::Protocol(format!("{sent:?} is no time")))?;
            let late = now.saturating_sub(Duration::from_nanos(sent));
            late_us.push(late.as_micros().try_into().unwrap_or(u64::MAX));
        }
    }
    reply.into_completion()?;
    Ok(Output { late_us })
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}
