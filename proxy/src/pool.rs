//! Connections kept for later. Two requests share one only when they come from the same workspace, by the same maker,
//! on the same route, to the same origin; and every request is judged by policy on its own before it gets here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use orch_manifests::{Host, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::dial::{Dialled, Route, Stream, Via};
use crate::upload::Upload;
use crate::{Caps, Maker, PoolLimits};

/// How long a connection that was just given back may take to be ready again before it is given up.
const SETTLE: Duration = Duration::from_millis(100);

/// What hyper may buffer of a message on each connection.
const BUFFER: usize = 256 << 10;

/// Who may share a connection with whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) workspace: String,
    /// Guests never share with the gateway: what one leaves behind on a connection, the other must not read.
    pub(crate) maker: Maker,
    pub(crate) via: Via,
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Key {
    pub(crate) fn new(workspace: &str, maker: Maker, route: &Route) -> Self {
        Self {
            workspace: workspace.to_owned(),
            maker,
            via: route.via,
            scheme: route.scheme,
            host: route.host.clone(),
            port: route.port,
        }
    }
}

/// A connection that can take a request. Dropping it closes it, whatever is under way on it.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Upload>,
    pub(crate) address: IpAddr,
    /// Ends the task that drives it.
    pub(crate) task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// Idle connections, and the owner of every connection's task.
pub(crate) struct Pool {
    limits: PoolLimits,
    idle: Mutex<HashMap<Key, Vec<Idle>>>,
    /// Aborted when the pool is dropped.
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    set: JoinSet<()>,
    reaping: bool,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Arc<Self> {
        Arc::new(Self { limits, idle: Mutex::default(), tasks: Mutex::default() })
    }

    /// Starts HTTP/1.1 on a new connection.
    pub(crate) async fn adopt(self: &Arc<Self>, dialled: Dialled, caps: &Caps) -> hyper::Result<Connection> {
        let Dialled { stream, address } = dialled;
        let (sender, task) = match stream {
            Stream::Plain(stream) => self.start(stream, caps).await?,
            Stream::Tls(stream) => self.start(stream, caps).await?,
        };
        Ok(Connection { sender, address, task })
    }

    async fn start<S>(
        self: &Arc<Self>,
        stream: S,
        caps: &Caps,
    ) -> hyper::Result<(SendRequest<Upload>, AbortHandle)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER.max(caps.header_bytes))
            .max_headers(caps.header_count)
            .max_header_size(caps.header_bytes)
            .handshake(TokioIo::new(stream))
            .await?;
        let drive = async move {
            // Whatever ends a connection early also ends the exchange on it, which reports it.
            let _ = connection.await;
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.set.try_join_next().is_some() {}
        Ok((sender, tasks.set.spawn(drive)))
    }

    /// A kept connection that is still good as far as can be known.
    pub(crate) async fn take(&self, key: &Key) -> Option<Connection> {
        loop {
            let Idle { mut connection, since } = self.pop(key)?;
            if since.elapsed() > self.limits.idle_for {
                continue;
            }
            if let Ok(Ok(())) = timeout(SETTLE, connection.sender.ready()).await {
                return Some(connection);
            }
        }
    }

    fn pop(&self, key: &Key) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(key)?;
        // The most recently used one is the least likely to have been closed by the other side.
        let newest = kept.pop();
        if kept.is_empty() {
            idle.remove(key);
        }
        newest
    }

    /// Keeps a connection whose exchange is over on both sides.
    pub(crate) fn give_back(self: &Arc<Self>, key: Key, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.values().map(Vec::len).sum::<usize>() >= self.limits.idle_total {
            return;
        }
        let kept = idle.entry(key).or_default();
        kept.push(Idle { connection, since: Instant::now() });
        if kept.len() > self.limits.idle_per_origin {
            kept.remove(0);
        }
        drop(idle);
        self.reap_from_now_on();
    }

    /// Connections that nobody asks for again are closed all the same.
    fn reap_from_now_on(self: &Arc<Self>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut tasks.reaping, true) {
            tasks.set.spawn(reap(Arc::downgrade(self), self.limits.idle_for));
        }
    }

    fn drop_stale(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, kept| {
            kept.retain(|one| {
                since_within(one.since, self.limits.idle_for) && !one.connection.sender.is_closed()
            });
            !kept.is_empty()
        });
    }
}

fn since_within(since: Instant, limit: Duration) -> bool {
    since.elapsed() <= limit
}

async fn reap(pool: Weak<Pool>, every: Duration) {
    // A period of zero would panic.
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(10)));
    loop {
        ticks.tick().await;
        match pool.upgrade() {
            Some(pool) => pool.drop_stale(),
            None => return,
        }
    }
}
