//! Those who ask.

use std::io::{Error, Result};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::connection::Connection;

/// A question, ready to be sent.
pub(crate) struct Asked {
    host: String,
    request: Vec<u8>,
    stream: bool,
}

impl Asked {
    pub(crate) fn new(url: &str, headers: &[&str], stream: bool) -> Result<Self> {
        let rest =
            url.strip_prefix("http://").ok_or_else(|| Error::other("the URL must begin with http://"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let model = std::env::var("LLM_MODEL").unwrap_or_else(|_| "gpt-4o-mini".to_owned());
        let stream_field = if stream { r#","stream":true"# } else { "" };
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"Who keeps the keys?"}}],"max_tokens":50{stream_field}}}"#
        );
        let mut request =
            format!("POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n");
        for header in headers {
            let (name, value) =
                header.split_once(':').ok_or_else(|| Error::other("a header is NAME:VALUE"))?;
            request.push_str(&format!("{name}: {}\r\n", value.trim()));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        Ok(Self { host: host.to_owned(), request: request.into_bytes(), stream })
    }
}

/// How much is asked.
pub(crate) struct Load {
    /// Questions a second; as many as are answered when none is said.
    pub(crate) rate: Option<f64>,
    pub(crate) seconds: f64,
    pub(crate) connections: u32,
}

/// One question after another on each connection. Each has been answered once before the first counts.
pub(crate) async fn whole(asked: &Asked, load: &Load) -> Result<Value> {
    let mut connections = Vec::new();
    for _ in 0..load.connections {
        let mut connection = Connection::to(&asked.host).await?;
        once(&mut connection, &asked.request, asked.stream).await?;
        connections.push(connection);
    }
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(load.seconds);
    let mut all = JoinSet::new();
    let mut turns = Vec::new();
    for mut connection in connections {
        let (request, stream) = (asked.request.clone(), asked.stream);
        let (turn, mut due) = unbounded_channel();
        turns.push(turn);
        let paced = load.rate.is_some();
        all.spawn(async move {
            let mut times = Vec::new();
            loop {
                let from = match due.try_recv() {
                    // What is asked late because the answer before was late has waited since then.
                    Ok(due) => due,
                    Err(_) if !paced => Instant::now(),
                    // Whoever says whose turn it is may be late by itself.
                    Err(_) => match due.recv().await {
                        Some(_) => Instant::now(),
                        None => break,
                    },
                };
                if from >= until {
                    break;
                }
                once(&mut connection, &request, stream).await.map(|first| times.push(first - from))?;
            }
            Ok::<_, Error>(times)
        });
    }
    if let Some(rate) = load.rate {
        std::thread::spawn(move || pace(begun, until, rate, &turns));
    }
    let mut times = Vec::new();
    while let Some(joined) = all.join_next().await {
        times.extend(joined.map_err(Error::other)??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| {
        let at = (times.len() as f64 * share) as usize;
        times.get(at.min(times.len().saturating_sub(1))).map_or(0, Duration::as_micros)
    };
    Ok(json!({
        "requests": times.len(), "seconds": seconds, "per_second": times.len() as f64 / seconds,
        "p50_us": at(0.5), "p99_us": at(0.99),
    }))
}

/// Says whose turn it is, evenly. The runtime's timers are of milliseconds, so that with thousands of questions a second many
/// would be asked at once, which is another load.
fn pace(begun: Instant, until: Instant, rate: f64, turns: &[UnboundedSender<Instant>]) {
    for (number, turn) in (0_u32..).zip(turns.iter().cycle()) {
        let due = begun + Duration::from_secs_f64(f64::from(number) / rate);
        if due >= until {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A connection that broke has ended its task.
        _ = turn.send(due);
    }
}

/// Asks, reads all of the answer, and says when it was there: the first piece of its text where it is a stream.
async fn once(connection: &mut Connection, request: &[u8], stream: bool) -> Result<Instant> {
    connection.write(request).await?;
    let first = if stream {
        connection.until(b" piece").await?;
        Some(Instant::now())
    } else {
        None
    };
    let answer = connection.message().await?;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        return Err(Error::other(String::from_utf8_lossy(&answer).into_owned()));
    }
    Ok(first.unwrap_or_else(Instant::now))
}

/// So many streams at once, each on its own connection. Counted are those that end as they have to.
pub(crate) async fn streams(asked: &Asked, count: usize) -> Result<Value> {
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for number in 0..count {
        let (host, request) = (asked.host.clone(), asked.request.clone());
        // Not all in the same instant, which no client does: the accept queue is not what is measured.
        let due = begun + Duration::from_micros(200) * u32::try_from(number).map_err(Error::other)?;
        all.spawn(async move {
            sleep_until(due).await;
            let mut connection = Connection::to(&host).await?;
            connection.write(&request).await?;
            connection.until(b" piece").await?;
            let first = due.elapsed();
            let end = connection.drain().await?;
            let whole = [&b"[DONE]"[..], b"message_stop"]
                .iter()
                .any(|last| end.windows(last.len()).any(|w| w == *last));
            if whole { Ok(first) } else { Err(Error::other("a stream ended without its end")) }
        });
    }
    let mut firsts = Vec::new();
    let mut failed = Vec::new();
    while let Some(joined) = all.join_next().await {
        match joined.map_err(Error::other)? {
            Ok(first) => firsts.push(first),
            Err(error) => failed.push(error.to_string()),
        }
    }
    firsts.sort_unstable();
    let p99 = firsts.get(firsts.len() * 99 / 100).map_or(0, Duration::as_micros);
    failed.truncate(3);
    Ok(json!({
        "finished": firsts.len(), "asked": count, "failures": failed, "seconds": begun.elapsed().as_secs_f64(),
        "first_p99_us": p99,
    }))
}
