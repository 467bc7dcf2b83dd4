//! What keeps a connection going: reading and writing frames, watching what the peer allows, asking whether it lives.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Duration, sleep, timeout};

use super::{SEND_BUFFER, STREAM_WINDOW};
use crate::{Caps, PoolLimits};

/// Stands for the peer's limit until its SETTINGS arrive. Nobody allows exactly this many.
const UNKNOWN: usize = usize::MAX - 1;

/// Streams that were reset from here are remembered for as long as the peer may still send for them. Forgetting one
/// too early would make its frames an error, and many of those would end the connection for the others on it.
const REMEMBERED_RESETS: usize = 512;
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// What is known about a connection, shared between its driver and those who use it.
pub(crate) struct Status {
    /// Streams that the peer allows at once.
    limit: AtomicUsize,
    /// Streams that are taken.
    pub(super) open: AtomicUsize,
    over: AtomicBool,
    silent: AtomicBool,
    /// Told whenever there may be room now, or none any more.
    pub(super) changed: Arc<Notify>,
}

impl Status {
    /// What the peer allows; `None` as long as it has not said.
    pub(super) fn limit(&self) -> Option<usize> {
        Some(self.limit.load(Ordering::Acquire)).filter(|limit| *limit != UNKNOWN)
    }

    /// Whether new streams have to go elsewhere.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Those that are under way go on; new ones go elsewhere.
    pub(super) fn retire(&self) {
        if !self.over.swap(true, Ordering::AcqRel) {
            self.changed.notify_waiters();
        }
    }

    /// Whether the connection was given up because the peer gave no sign of life.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }

    fn allow(&self, limit: usize) {
        if self.limit.swap(limit, Ordering::AcqRel) != limit {
            self.changed.notify_waiters();
        }
    }
}

/// Starts HTTP/2 on a connection. The future drives it until it ends.
pub(crate) async fn handshake<S>(
    stream: S,
    caps: &Caps,
    limits: &PoolLimits,
    changed: Arc<Notify>,
) -> Result<(SendRequest<Bytes>, Arc<Status>, impl Future<Output = ()> + Send + use<S>), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let streams = u32::try_from(limits.streams_per_connection).unwrap_or(u32::MAX).max(1);
    // HTTP/2 counts 32 bytes for each field besides its texts, HTTP/1 four; the caps are checked again afterwards.
    let header_list = caps.header_bytes.saturating_add(28 * caps.header_count);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(UNKNOWN)
        .initial_window_size(STREAM_WINDOW)
        // As much as all streams together, so that one whose reader stands still does not stop the others.
        .initial_connection_window_size(STREAM_WINDOW.saturating_mul(streams).min((1 << 31) - 1))
        .max_header_list_size(u32::try_from(header_list).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_FOR);
    let (sender, mut connection) = builder.handshake(stream).await?;
    let status = Arc::new(Status {
        limit: AtomicUsize::new(UNKNOWN),
        open: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        silent: AtomicBool::new(false),
        changed,
    });
    let pings = connection.ping_pong();
    let (every, patience) = (limits.ping_every, limits.ping_patience);
    let driven = Arc::clone(&status);
    let drive = async move {
        let status = driven;
        let frames = poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            status.allow(connection.max_concurrent_send_streams());
            polled
        });
        tokio::select! {
            // Whatever ends it is reported by each stream that was under way.
            _ = frames => {}
            () = silence(pings, &status, every, patience) => status.silent.store(true, Ordering::Release),
        }
        status.retire();
    };
    Ok((sender, status, drive))
}

/// Resolves when the peer does not answer. A connection without streams is not asked: the pool drops it soon enough,
/// and many servers take pings without streams amiss.
async fn silence(pings: Option<PingPong>, status: &Status, every: Duration, patience: Duration) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    // Its SETTINGS are the first thing that a peer sends, and what others wait for.
    sleep(patience).await;
    if status.limit().is_none() {
        return;
    }
    loop {
        sleep(every).await;
        if status.open.load(Ordering::Acquire) == 0 {
            continue;
        }
        match timeout(patience, pings.ping(Ping::opaque())).await {
            Err(_) => return,
            Ok(Ok(_)) => {}
            // The connection is ending, which the other future sees.
            Ok(Err(_)) => return std::future::pending().await,
        }
    }
}
