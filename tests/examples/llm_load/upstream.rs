//! A provider that is never the bottleneck.

use std::io::{Read as _, Result, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::connection::Connection;

const OPENAI: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"Keys stay with their owner."},"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":9,"completion_tokens":6,"total_tokens":15}}"#;
const ANTHROPIC: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"Keys stay with their owner."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":6}}"#;

/// The events of a stream, before, at and after its pieces of text.
struct Events {
    first: &'static str,
    piece: &'static str,
    last: &'static str,
}

const OPENAI_EVENTS: Events = Events {
    first: "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
    piece: "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" piece\"},\"finish_reason\":null}]}\n\n",
    last: "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o-mini\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":20,\"total_tokens\":29}}\n\ndata: [DONE]\n\n",
};
const ANTHROPIC_EVENTS: Events = Events {
    first: "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    piece: "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" piece\"}}\n\n",
    last: "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":20}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
};

/// Until standard input ends.
pub(crate) async fn serve(chunks: u32, gap: Duration) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let answers = Arc::new([
        Answers::of(OPENAI, &OPENAI_EVENTS, chunks),
        Answers::of(ANTHROPIC, &ANTHROPIC_EVENTS, chunks),
    ]);
    let over = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let serving = async {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            let (connection, answers) = (Connection::of(stream)?, answers.clone());
            // A caller that goes away ends its connection and nothing else.
            connections.spawn(async move { answer(connection, &answers, gap).await.ok() });
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        served = serving => served,
        _ = over => Ok(()),
    }
}

async fn answer(mut connection: Connection, answers: &[Answers; 2], gap: Duration) -> Result<()> {
    loop {
        let asked = connection.message().await?;
        let [openai, anthropic] = answers;
        let line = asked.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let answers = if holds(line, b"/messages") { anthropic } else { openai };
        if !holds(&asked, b"\"stream\":true") {
            connection.write(&answers.whole).await?;
        } else if gap.is_zero() {
            connection.write(&answers.stream.concat()).await?;
        } else {
            let mut due = Instant::now();
            for part in &answers.stream {
                connection.write(part).await?;
                due += gap;
                sleep_until(due).await;
            }
        }
    }
}

fn holds(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// What is written.
struct Answers {
    whole: Vec<u8>,
    /// In parts that are written one after another.
    stream: Vec<Vec<u8>>,
}

impl Answers {
    fn of(whole: &str, events: &Events, chunks: u32) -> Self {
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut stream = vec![format!("{head}{}", chunk(events.first)).into_bytes()];
        stream.extend((0..chunks).map(|_| chunk(events.piece).into_bytes()));
        stream.push(format!("{}0\r\n\r\n", chunk(events.last)).into_bytes());
        let whole = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{whole}",
            whole.len()
        );
        Self { whole: whole.into_bytes(), stream }
    }
}
