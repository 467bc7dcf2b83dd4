//! Connections, kept and shared. Two requests share one only when they come from the same workspace under the same
//! policy, by the same maker, on the same route, to the same origin; and every request is judged by policy on its own
//! before it gets here.

mod key;
mod origin;

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use orch_manifests::{RunId, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::dial::{Dialled, Dialler, Route, Stream};
use crate::download::describe;
use crate::http2::{Shared, Slot};
use crate::tenancy::Tenancy;
use crate::{Caps, EgressError, PoolLimits, http1, http2};
pub(crate) use key::Key;
use origin::{Idle, Origin, Protocol, Step};

/// How long a connection that was just given back may take to be ready again before it is given up.
const SETTLE: Duration = Duration::from_millis(100);

/// How often idle connections are looked at while one may be idle. Nobody else notices that the peer closed one.
const REAPS: u32 = 4;

/// What a request goes out on.
pub(crate) enum Connection {
    /// All of a connection; whether it served somebody before.
    Http1(http1::Connection, bool),
    /// A place on one.
    Http2(Slot),
}

/// Every connection of a proxy that is not in exclusive use, and the owner of all their tasks.
pub(crate) struct Pool {
    limits: PoolLimits,
    caps: Caps,
    kept: Mutex<Kept>,
    /// The number of the next connection. 0 is none's, so that all are at or above it.
    opened: AtomicU64,
    reaping: AtomicBool,
    /// Aborted when the pool is dropped.
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Kept {
    origins: HashMap<Key, Origin>,
    /// Idle HTTP/1.1 connections of all origins.
    idle: usize,
}

impl Kept {
    fn origin(&mut self, key: &Key, limits: &PoolLimits) -> &mut Origin {
        // Nearly always there, and then its key need not be cloned.
        if !self.origins.contains_key(key) {
            self.origins.insert(key.clone(), Origin::new(limits.streams_per_connection));
        }
        self.origins.get_mut(key).expect("it was put there")
    }

    /// The tenancy that has most of what is counted, if any has some.
    fn richest(&self, count: impl Fn(&Origin) -> usize) -> Option<Tenancy> {
        let mut counts: HashMap<Tenancy, usize> = HashMap::new();
        for (key, origin) in &self.origins {
            *counts.entry(key.tenancy).or_default() += count(origin);
        }
        counts.into_iter().filter(|(_, count)| *count > 0).max_by_key(|(_, count)| *count).map(|(who, _)| who)
    }

    /// Takes out the idle HTTP/1.1 connection that was not used for the longest time, of the tenancy that has most of
    /// them: one that talks to many hosts does not push out another's.
    fn make_room(&mut self) -> Option<Idle> {
        let most = self.richest(|origin| origin.idle.len())?;
        let of_it = self.origins.iter_mut().filter(|(key, _)| key.tenancy == most).map(|(_, origin)| origin);
        // Within an origin the oldest comes first.
        let oldest = of_it
            .filter(|origin| !origin.idle.is_empty())
            .min_by_key(|origin| origin.idle.first().map(|idle| idle.since))?;
        self.idle -= 1;
        Some(oldest.idle.remove(0))
    }
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits, caps: Caps) -> Arc<Self> {
        Arc::new(Self {
            limits,
            caps,
            kept: Mutex::default(),
            opened: AtomicU64::new(1),
            reaping: AtomicBool::new(false),
            tasks: Mutex::default(),
        })
    }

    /// Only connections that are opened after this are at or above it.
    pub(crate) fn now(&self) -> u64 {
        self.opened.load(Ordering::Acquire)
    }

    /// A connection that was opened no earlier than `oldest`: a kept one, a place on a shared one, or a new one. Of
    /// several requests that need a new one at the same time, only one dials until it is known what the origin speaks.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        key: &Key,
        oldest: u64,
        dialler: &Dialler,
        route: &Route,
        run: &RunId,
    ) -> Result<Connection, EgressError> {
        loop {
            let (step, changed) = self.step(key, oldest);
            match step {
                Step::Http2(slot) => return Ok(Connection::Http2(slot)),
                Step::Http1(idle) => {
                    if let Some(connection) = self.still_good(idle).await {
                        return Ok(Connection::Http1(connection, true));
                    }
                }
                Step::Dial => {
                    let count = Counted { pool: self, key, of: |origin| &mut origin.dialling };
                    // Apart, since it is long and rare: whoever waits for a connection that is kept carries no room for it.
                    let dialled = Box::pin(dialler.dial(route, key.tenancy, run)).await?;
                    let connection = Box::pin(self.adopt(key, dialled)).await?;
                    drop(count);
                    return Ok(connection);
                }
                Step::Wait => {
                    let _count = Counted { pool: self, key, of: |origin| &mut origin.waiting };
                    if let Some(changed) = changed {
                        changed.await;
                    }
                }
            }
        }
    }

    fn step(&self, key: &Key, oldest: u64) -> (Step, Option<OwnedNotified>) {
        let mut kept = self.kept();
        let origin = kept.origin(key, &self.limits);
        if key.scheme == Scheme::Http {
            origin.speaks = Some(Protocol::Http1);
        }
        let step = origin.step(oldest);
        let mut changed = None;
        match step {
            Step::Http2(_) => {}
            Step::Http1(_) => kept.idle -= 1,
            Step::Dial => origin.dialling += 1,
            Step::Wait => {
                origin.waiting += 1;
                // Made under the lock, so that no change is missed.
                changed = Some(Arc::clone(&origin.changed).notified_owned());
            }
        }
        (step, changed)
    }

    async fn still_good(&self, idle: Idle) -> Option<http1::Connection> {
        let Idle { mut connection, since } = idle;
        if since.elapsed() > self.limits.idle_for || !connection.is_open() {
            return None;
        }
        let ready = connection.sender.is_ready()
            || matches!(timeout(SETTLE, poll_fn(|cx| connection.poll_ready(cx))).await, Ok(Ok(())));
        ready.then_some(connection)
    }

    /// Starts HTTP on a new connection, which is shared from then on if it can be.
    async fn adopt(self: &Arc<Self>, key: &Key, dialled: Dialled) -> Result<Connection, EgressError> {
        let Dialled { stream, address } = dialled;
        let broken = |what| EgressError::Protocol { host: key.host.to_string(), what };
        let shareable = stream.speaks_http2();
        match stream {
            Stream::Tls(stream) if shareable => {
                let changed = self.learned(key, Protocol::Http2);
                let (sender, status, drive) = http2::handshake(stream, &self.caps, &self.limits, changed)
                    .await
                    .map_err(|error| broken(http2::describe(&error)))?;
                let (id, task) = (self.next_id(), self.spawn(drive));
                let cap = self.limits.streams_per_connection;
                let shared = Shared::new((id, address), sender, status, cap, task);
                let slot = shared.first_slot();
                self.share(key, shared);
                slot.map(Connection::Http2).ok_or_else(|| broken("the connection was closed".to_owned()))
            }
            Stream::Tls(stream) => self.adopt_http1(key, *stream, address).await,
            Stream::Plain(stream) => self.adopt_http1(key, stream, address).await,
        }
    }

    /// Starts HTTP/1.1 on a new connection, which is the caller's until it is given back.
    pub(crate) async fn adopt_http1<S>(
        self: &Arc<Self>,
        key: &Key,
        stream: S,
        address: IpAddr,
    ) -> Result<Connection, EgressError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.learned(key, Protocol::Http1);
        let (sender, driver) = http1::handshake(stream, &self.caps)
            .await
            .map_err(|error| EgressError::Protocol { host: key.host.to_string(), what: describe(&error) })?;
        let (id, driver) = (self.next_id(), Arc::new(driver));
        Ok(Connection::Http1(http1::Connection { id, sender, address, driver }, false))
    }

    /// Remembers what an origin speaks; gives back how those who wait for it are told.
    fn learned(&self, key: &Key, protocol: Protocol) -> Arc<Notify> {
        let mut kept = self.kept();
        let origin = kept.origin(key, &self.limits);
        origin.speaks = Some(protocol);
        origin.touched = Instant::now();
        Arc::clone(&origin.changed)
    }

    fn share(self: &Arc<Self>, key: &Key, shared: Arc<Shared>) {
        let mut kept = self.kept();
        let count: usize = kept.origins.values().map(|origin| origin.shared.len()).sum();
        if count >= self.limits.idle_total {
            let idle = |origin: &Origin| origin.shared.iter().filter(|s| s.idle_since().is_some()).count();
            if let Some(most) = kept.richest(idle) {
                for (_, origin) in kept.origins.iter_mut().filter(|(key, _)| key.tenancy == most) {
                    origin.shared.retain(|shared| shared.idle_since().is_none());
                }
            }
        }
        kept.origin(key, &self.limits).shared.push(shared);
        drop(kept);
        self.reap_from_now_on();
    }

    /// Keeps an HTTP/1.1 connection whose exchange is over on both sides.
    pub(crate) fn give_back(self: &Arc<Self>, key: &Key, connection: http1::Connection) {
        if connection.sender.is_closed() {
            return;
        }
        if self.limits.idle_total == 0 {
            return;
        }
        let mut kept = self.kept();
        let one_too_many = (kept.idle >= self.limits.idle_total).then(|| kept.make_room()).flatten();
        kept.idle += 1;
        let since = Instant::now();
        let origin = kept.origin(key, &self.limits);
        origin.touched = since;
        origin.idle.push(Idle { connection, since });
        if origin.idle.len() > self.limits.idle_per_origin {
            origin.idle.remove(0);
            kept.idle -= 1;
        }
        drop(kept);
        // Closing it takes locks of its own.
        drop(one_too_many);
        self.reap_from_now_on();
    }

    /// Runs something for as long as the pool is there, or until it is aborted.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    fn next_id(&self) -> u64 {
        self.opened.fetch_add(1, Ordering::AcqRel)
    }

    /// Connections that nobody asks for again are closed all the same.
    fn reap_from_now_on(self: &Arc<Self>) {
        if !self.reaping.swap(true, Ordering::AcqRel) {
            self.spawn(reap(Arc::downgrade(self), self.limits.idle_for / REAPS));
        }
    }

    fn drop_stale(&self) {
        let mut kept = self.kept();
        kept.origins.retain(|_, origin| origin.tidy(self.limits.idle_for));
        kept.idle = kept.origins.values().map(|origin| origin.idle.len()).sum();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request in a count of its origin, until dropped; then those who wait look again.
struct Counted<'a> {
    pool: &'a Pool,
    key: &'a Key,
    of: fn(&mut Origin) -> &mut usize,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut kept = self.pool.kept();
        if let Some(origin) = kept.origins.get_mut(self.key) {
            let count = (self.of)(origin);
            *count = count.saturating_sub(1);
            origin.changed.notify_waiters();
            if origin.is_blank() {
                kept.origins.remove(self.key);
            }
        }
    }
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
