//! Opens streamed model replies and reads a byte of them once in a long while, without end.
//!
//! In between it asks others: what somebody does not read must not stand in the way of what somebody else wants.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use orch_sdk::http::{Request, Response};
use orch_sdk::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    /// How many replies to open and not to read.
    streams: usize,
    /// How many whole replies to read once all of them are open.
    others: usize,
    /// How long to wait between two bytes, in milliseconds.
    every_ms: u64,
}

impl Default for Input {
    fn default() -> Input {
        Input { streams: 1, others: 0, every_ms: 60_000 }
    }
}

fn main() -> ExitCode {
    orch_sdk::run(|input: Option<Input>| drip(input.unwrap_or_default()))
}

async fn drip(input: Input) -> Result<Value> {
    let mut open = Vec::new();
    for _ in 0..input.streams {
        let mut reply = ask(true).await?;
        reply.read(1).await?;
        open.push(reply);
    }
    eprintln!("{} replies are open", open.len());
    for _ in 0..input.others {
        let reply = ask(false).await?;
        let status = reply.status();
        eprintln!("another reply: {status}, {} bytes", reply.bytes().await?.len());
    }
    eprintln!("dripping");
    loop {
        sleep(Duration::from_millis(input.every_ms));
        for reply in &mut open {
            reply.read(1).await?;
        }
    }
}

async fn ask(stream: bool) -> Result<Response> {
    let base = std::env::var("ORCH_LLM_URL").map_err(|_| Error::Env("ORCH_LLM_URL".into()))?;
    let messages = json!([{ "role": "user", "content": "Go on for ever." }]);
    let body = json!({ "model": "default", "messages": messages, "stream": stream });
    let reply = Request::post(format!("{base}/chat/completions")).json(&body)?.send().await?;
    match reply.status() {
        200 => Ok(reply),
        status => Err(Error::Agent(format!("a reply begins with {status}"))),
    }
}
