//! A provider on loopback that speaks HTTP/2 over TLS and streams one piece of a reply every few seconds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::{Request, Response};
use orch_tests::ca::Ca;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use crate::{Failed, KEY, Result};

/// Streams that one connection may have, as large providers allow it.
const STREAMS: u32 = 100;

/// How a reply is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) pieces: u32,
    pub(crate) every: Duration,
}

/// The provider, and what it has seen.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    _accepting: JoinSet<()>,
}

pub(crate) struct Seen {
    pace: Pace,
    /// Replies are written as fast as they can be.
    pub(crate) hurry: AtomicBool,
    pub(crate) connections: AtomicUsize,
    /// Replies that were begun; those that were written to their end; those that somebody broke off.
    pub(crate) begun: AtomicUsize,
    pub(crate) ended: AtomicUsize,
    pub(crate) broken: AtomicUsize,
}

impl Upstream {
    pub(crate) async fn start(ca: &Ca, name: &str, pace: Pace) -> Result<Self> {
        let mut tls = (*ca.server(&[name])).clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen {
            pace,
            hurry: AtomicBool::new(true),
            connections: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&seen);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, tls.clone(), Arc::clone(&shared)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, seen, _accepting: accepting })
    }
}

/// What breaks a connection breaks its replies, and those are counted.
async fn connection(stream: TcpStream, tls: TlsAcceptor, seen: Arc<Seen>) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = tls.accept(stream).await?;
    let mut connection =
        h2::server::Builder::new().max_concurrent_streams(STREAMS).handshake::<_, Bytes>(stream).await?;
    seen.connections.fetch_add(1, Ordering::Relaxed);
    let mut replies = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let seen = Arc::clone(&seen);
        replies.spawn(async move {
            let counted = match reply(request, respond, &seen).await {
                Ok(()) => &seen.ended,
                Err(_) => &seen.broken,
            };
            counted.fetch_add(1, Ordering::Relaxed);
        });
        while replies.try_join_next().is_some() {}
    }
    while replies.join_next().await.is_some() {}
    Ok(())
}

async fn reply(
    mut request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    seen: &Seen,
) -> Result<()> {
    let authorised =
        request.headers().get("authorization").is_some_and(|value| value == &format!("Bearer {KEY}"));
    let body = request.body_mut();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    if !authorised {
        respond.send_response(Response::builder().status(401).body(())?, true)?;
        return Err(Failed("a request without the key".into()));
    }
    let head = Response::builder().header("content-type", "text/event-stream").body(())?;
    let mut out = respond.send_response(head, false)?;
    say(&mut out, r#"{"role":"assistant","content":""}"#, "null")?;
    let number = seen.begun.fetch_add(1, Ordering::Relaxed);
    let Pace { pieces, every } = seen.pace;
    let hurry = seen.hurry.load(Ordering::Relaxed);
    // Replies that were asked for at the same moment are not written at the same moment.
    let spread = (number as f64 * 0.618_033_988_75).fract();
    let first = Instant::now() + every.mul_f64(spread);
    for piece in 0..pieces {
        if !hurry {
            sleep_until(first + every * piece).await;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        say(&mut out, &format!(r#"{{"content":"{now} "}}"#), "null")?;
    }
    say(&mut out, "{}", r#""stop""#)?;
    let usage = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}"#;
    out.send_data(format!("data: {usage}\n\ndata: [DONE]\n\n").into(), true)?;
    Ok(())
}

/// Writes one event of the reply.
fn say(out: &mut SendStream<Bytes>, delta: &str, reason: &str) -> Result<()> {
    let event = format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
         \"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\
         \"finish_reason\":{reason}}}]}}\n\n"
    );
    Ok(out.send_data(event.into(), false)?)
}
