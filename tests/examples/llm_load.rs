//! Both ends of a throughput measurement of an LLM gateway.
//!
//! `llm_load upstream` plays a provider on loopback that answers every request at once with the same chat completion;
//! it prints its address and ends with its standard input.
//!
//! `llm_load run URL SECONDS CONNECTIONS [HEADER:VALUE]…` posts one small chat completion after another to URL on each
//! of so many kept connections, and prints a line of JSON with what came of it.
//!
//! It speaks just enough HTTP/1.1, so that what is measured is the gateway and not this.

use std::io::{Error, Read as _, Result, Write as _};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"Keys stay with their owner."},"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":9,"completion_tokens":6,"total_tokens":15}}"#;
const QUESTION: &str =
    r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Who keeps the keys?"}],"max_tokens":50}"#;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = match arguments.as_slice() {
        [mode] if mode == "upstream" => return runtime.block_on(upstream()),
        [mode, url, seconds, connections, headers @ ..] if mode == "run" => {
            let seconds: f64 = seconds.parse().map_err(Error::other)?;
            let connections: usize = connections.parse().map_err(Error::other)?;
            runtime.block_on(load(url, Duration::from_secs_f64(seconds), connections, headers))?
        }
        _ => {
            return Err(Error::other(
                "llm_load upstream | llm_load run URL SECONDS CONNECTIONS [HEADER:VALUE]…",
            ));
        }
    };
    writeln!(std::io::stdout(), "{said}")
}

async fn upstream() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let over = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let serving = async {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = answer.clone();
            connections.spawn(async move {
                let mut connection = Connection { stream, read: Vec::new() };
                // A caller that goes away ends its connection and nothing else.
                while connection.message().await.is_ok() {
                    if connection.stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        served = serving => served,
        _ = over => Ok(()),
    }
}

async fn load(
    url: &str,
    time: Duration,
    connections: usize,
    headers: &[String],
) -> Result<serde_json::Value> {
    let rest = url.strip_prefix("http://").ok_or_else(|| Error::other("the URL must begin with http://"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut request = format!("POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n");
    for header in headers {
        let (name, value) = header.split_once(':').ok_or_else(|| Error::other("a header is NAME:VALUE"))?;
        request.push_str(&format!("{name}: {}\r\n", value.trim()));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n{QUESTION}", QUESTION.len()));

    let began = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        let request = request.clone();
        all.spawn(async move {
            let mut connection = Connection { stream, read: Vec::new() };
            let mut times = Vec::new();
            while began.elapsed() < time {
                let sent = Instant::now();
                connection.stream.write_all(request.as_bytes()).await?;
                let answer = connection.message().await?;
                if !answer.starts_with(b"HTTP/1.1 200 ") {
                    return Err(Error::other(String::from_utf8_lossy(&answer).into_owned()));
                }
                times.push(sent.elapsed());
            }
            Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(joined) = all.join_next().await {
        times.extend(joined.map_err(Error::other)??);
    }
    let seconds = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let quantile = |share: f64| {
        let at = (times.len() as f64 * share) as usize;
        times.get(at.min(times.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    Ok(json!({
        "requests": times.len(), "seconds": seconds, "per_second": times.len() as f64 / seconds,
        "p50_ms": quantile(0.5), "p99_ms": quantile(0.99),
    }))
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// The next whole message, taken off the connection.
    async fn message(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(length) = length(&self.read)? {
                let rest = self.read.split_off(length);
                return Ok(std::mem::replace(&mut self.read, rest));
            }
            self.read.reserve(16 << 10);
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(Error::other("the connection was closed"));
            }
        }
    }
}

/// How long the first message is; none when it is not all there yet.
fn length(read: &[u8]) -> Result<Option<usize>> {
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if let Some(length) = field("content-length:") {
        let whole = end + length.parse::<usize>().map_err(Error::other)?;
        return Ok((read.len() >= whole).then_some(whole));
    }
    if field("transfer-encoding:").is_some() {
        // No pipelining, and no such bytes in the body: the last chunk is where the text ends.
        return Ok(read.ends_with(b"\r\n0\r\n\r\n").then_some(read.len()));
    }
    Ok(Some(end))
}
