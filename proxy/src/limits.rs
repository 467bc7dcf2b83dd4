//! What a grant bounds beside who may be reached: requests, bytes and times, for the run and for each host of it.
//!
//! Counts are exact: whatever is under way at once, not one request and not one byte more than a limit passes. A byte
//! counts as part of a body, as it was sent or received, before anything is taken out of it; heads are bounded by
//! [`crate::Caps`] and the number of requests.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::EgressError;

mod bucket;
mod meter;
mod patience;

use bucket::Bucket;
pub(crate) use meter::Meter;
pub use patience::Pace;
pub(crate) use patience::{Debt, Patience};

/// What a run may use of the network. The default bounds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of the run, over all hosts. Requests that were refused count as well, and so do the gateway's.
    pub run: Shares,
    /// Of each host that the run reaches, the provider's among them.
    pub host: Shares,
    /// Time from the last piece of the request that the upstream took to the head of the response, where it is shorter
    /// than the operator's.
    pub first_byte: Option<Duration>,
    /// Time between two pieces of a body, where it is shorter than the operator's.
    pub idle: Option<Duration>,
    /// Time of a whole exchange, where it is shorter than the operator's.
    pub exchange: Option<Duration>,
}

impl Limits {
    /// Bounds on how many requests there are in all, and how many at once.
    #[must_use]
    pub fn of(requests: u64, concurrent: u32) -> Self {
        Self { run: Shares { requests, concurrent, ..Shares::default() }, ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (run, host) = (Shares::default(), Shares::default());
        Self { run, host, first_byte: None, idle: None, exchange: None }
    }
}

/// What can be used up, by a run or at one host. The default bounds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Requests.
    pub requests: u64,
    /// Exchanges under way at once; one ends with its response's body.
    pub concurrent: u32,
    /// Bytes of request bodies.
    pub upload: u64,
    /// Bytes of response bodies.
    pub download: u64,
    /// How often requests may begin.
    pub rate: Option<Rate>,
}

impl Default for Shares {
    fn default() -> Self {
        Self { requests: u64::MAX, concurrent: u32::MAX, upload: u64::MAX, download: u64::MAX, rate: None }
    }
}

/// How often requests may begin: a bucket that holds `burst` of them and is filled with `requests` every `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests; none are let through where it is 0.
    pub requests: u32,
    /// In this time.
    pub per: Duration,
    /// As many at once, when there were none for a while; at least one.
    pub burst: u32,
}

/// A limit that was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limit reached: {name} ({used} of {limit})")]
pub struct LimitHit {
    /// Its name as the manifest spells it, below `limits`.
    pub name: &'static str,
    /// How much of it is used: requests, bytes, or milliseconds.
    pub used: u64,
    /// How much there is.
    pub limit: u64,
}

impl LimitHit {
    /// Whether there is nothing more to be had for as long as the run lives.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        use names::{HOST, RUN};
        [&RUN, &HOST].iter().any(|names| [names.requests, names.upload, names.download].contains(&self.name))
    }
}

/// Whether the limit of this name is looked at before anything is sent.
pub(crate) fn is_asked_first(name: &str) -> bool {
    use names::{HOST, RUN};
    [&RUN, &HOST].iter().any(|names| [names.requests, names.concurrent, names.rate].contains(&name))
}

impl From<LimitHit> for EgressError {
    fn from(LimitHit { name, used, limit }: LimitHit) -> Self {
        Self::Limit { name, used, limit }
    }
}

/// The first limit of each kind that was hit.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    lasting: OnceLock<LimitHit>,
    passing: OnceLock<LimitHit>,
}

impl Hits {
    /// Notes it, and gives it back.
    pub(crate) fn note(&self, hit: LimitHit) -> LimitHit {
        let of_its_kind = if hit.is_lasting() { &self.lasting } else { &self.passing };
        let _ = of_its_kind.set(hit);
        hit
    }

    /// The one that tells most about why a run failed.
    pub(crate) fn first(&self) -> Option<LimitHit> {
        self.lasting.get().or_else(|| self.passing.get()).copied()
    }
}

/// How much of its shares a run, or a host of it, has used.
#[derive(Debug)]
pub(crate) struct Usage {
    shares: Shares,
    names: &'static names::Names,
    requests: AtomicU64,
    running: AtomicU32,
    upload: AtomicU64,
    download: AtomicU64,
    bucket: Option<Mutex<Bucket>>,
    windows: Arc<Semaphore>,
}

/// Brotli windows of a run at once, each of up to 16 MiB.
pub(crate) const WINDOWS: usize = 8;

impl Usage {
    pub(crate) fn of_run(shares: Shares) -> Self {
        Self::new(shares, &names::RUN)
    }

    pub(crate) fn of_host(shares: Shares) -> Self {
        Self::new(shares, &names::HOST)
    }

    fn new(shares: Shares, names: &'static names::Names) -> Self {
        Self {
            shares,
            names,
            requests: AtomicU64::new(0),
            running: AtomicU32::new(0),
            upload: AtomicU64::new(0),
            download: AtomicU64::new(0),
            bucket: shares.rate.map(|rate| Mutex::new(Bucket::full(rate, Instant::now()))),
            windows: Arc::new(Semaphore::new(WINDOWS)),
        }
    }

    /// Room for one Brotli window until it is dropped; none when [`WINDOWS`] are in use.
    pub(crate) fn window(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.windows).try_acquire_owned().ok()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self, way: Way) -> u64 {
        self.counter(way).load(Ordering::Relaxed)
    }

    /// Takes one request and one place under way. The place is taken even when the request is not to be had, and has to
    /// be given back with [`Usage::leave`], unless it was the place that was missing.
    pub(crate) fn enter(&self) -> Result<(), Refused> {
        let concurrent = self.shares.concurrent;
        self.running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < concurrent).then_some(n + 1))
            .map_err(|used| {
                Refused::Outside(self.hit(self.names.concurrent, used.into(), concurrent.into()))
            })?;
        let limit = self.shares.requests;
        self.requests
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1))
            .map_err(|used| Refused::Inside(self.hit(self.names.requests, used, limit)))?;
        match (&self.bucket, self.shares.rate) {
            (Some(bucket), Some(rate)) => {
                let taken = bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
                let hit = || self.hit(self.names.rate, rate.requests.into(), rate.requests.into());
                if taken { Ok(()) } else { Err(Refused::Inside(hit())) }
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::AcqRel);
    }

    /// Takes as many of `wanted` bytes as are left.
    fn take(&self, way: Way, wanted: u64) -> u64 {
        let limit = self.limit(way);
        let mut granted = 0;
        // Always `Some`: the closure only looks at how many there are.
        let _ = self.counter(way).fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            granted = wanted.min(limit.saturating_sub(used));
            Some(used.saturating_add(granted))
        });
        granted
    }

    fn put_back(&self, way: Way, bytes: u64) {
        self.counter(way).fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Says that there is no room for this many bytes more, if so.
    fn check_room(&self, way: Way, bytes: u64) -> Result<(), LimitHit> {
        let (used, limit) = (self.bytes(way), self.limit(way));
        if bytes > limit.saturating_sub(used) { Err(self.hit(self.name(way), used, limit)) } else { Ok(()) }
    }

    fn all_used(&self, way: Way) -> LimitHit {
        let limit = self.limit(way);
        self.hit(self.name(way), limit, limit)
    }

    fn hit(&self, name: &'static str, used: u64, limit: u64) -> LimitHit {
        LimitHit { name, used, limit }
    }

    fn counter(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Up => &self.upload,
            Way::Down => &self.download,
        }
    }

    fn limit(&self, way: Way) -> u64 {
        match way {
            Way::Up => self.shares.upload,
            Way::Down => self.shares.download,
        }
    }

    fn name(&self, way: Way) -> &'static str {
        match way {
            Way::Up => self.names.upload,
            Way::Down => self.names.download,
        }
    }
}

/// Why a request does not get in.
#[derive(Debug)]
pub(crate) enum Refused {
    /// All places are taken.
    Outside(LimitHit),
    /// There was a place, which the request holds.
    Inside(LimitHit),
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Of a request.
    Up,
    /// Of a response.
    Down,
}

/// How limits are called.
mod names {
    #[derive(Debug)]
    pub(super) struct Names {
        pub(super) requests: &'static str,
        pub(super) concurrent: &'static str,
        pub(super) upload: &'static str,
        pub(super) download: &'static str,
        pub(super) rate: &'static str,
    }

    pub(super) static RUN: Names = Names {
        requests: "requests",
        concurrent: "concurrent",
        upload: "upload",
        download: "download",
        rate: "rate",
    };

    pub(super) static HOST: Names = Names {
        requests: "per_host.requests",
        concurrent: "per_host.concurrent",
        upload: "per_host.upload",
        download: "per_host.download",
        rate: "per_host.rate",
    };
}

#[cfg(test)]
mod tests;
