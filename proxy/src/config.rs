//! What an operator can set, with defaults that need no setting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use orch_manifests::HostName;
use rustls::pki_types::CertificateDer;

use crate::{Pace, UpstreamProxy};

/// How a [`crate::Proxy`] is set up. The default reaches public hosts whose certificates chain to the Mozilla roots,
/// and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Dial this address instead of resolving, for requests to exactly this name and port. Name, SNI, certificate,
    /// policy and bindings stay the name's. The address may be private or loopback, not metadata or link-local.
    pub connect_to: Vec<((HostName, u16), SocketAddr)>,
    /// Certificates that are trusted as roots besides Mozilla's.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Time bounds.
    pub timeouts: Timeouts,
    /// Size bounds.
    pub caps: Caps,
    /// How many connections are kept for later.
    pub pool: PoolLimits,
    /// A proxy on the way to origins that are reached by their name.
    pub upstream: Option<Arc<UpstreamProxy>>,
}

/// Time bounds of one exchange. The grant's deadline bounds all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution.
    pub dns: Duration,
    /// TCP connect, over all addresses of the name.
    pub connect: Duration,
    /// TLS handshake.
    pub tls: Duration,
    /// From the last piece of the request that the upstream took to the head of the response.
    pub first_byte: Duration,
    /// Between two pieces of a body, in either direction.
    pub idle: Duration,
    /// The whole exchange.
    pub total: Duration,
    /// How slowly a body of announced length may come, in either direction, without ever being idle.
    pub pace: Pace,
}

impl Default for Timeouts {
    /// 5 s, 10 s, 10 s, 300 s (a model may think that long before it answers), as many between two pieces (or once it has
    /// begun), 1800 s, and the default pace.
    fn default() -> Self {
        Self {
            dns: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            tls: Duration::from_secs(10),
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(300),
            total: Duration::from_secs(1800),
            pace: Pace::default(),
        }
    }
}

/// Size bounds of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Header fields, each way.
    pub header_count: usize,
    /// Bytes of all header fields together, each way.
    pub header_bytes: usize,
    /// Bytes of the request's path and query.
    pub url: usize,
    /// Bytes of a body that has to be buffered because a credential signs it.
    pub signed_body: usize,
}

impl Default for Caps {
    /// 100 fields, 64 KiB, 16 KiB, 32 MiB.
    fn default() -> Self {
        Self { header_count: 100, header_bytes: 64 << 10, url: 16 << 10, signed_body: 32 << 20 }
    }
}

/// Bounds of the connection pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Idle HTTP/1.1 connections kept for one origin on one route of one tenancy.
    pub idle_per_origin: usize,
    /// Idle connections kept altogether.
    pub idle_total: usize,
    /// How long one is kept.
    pub idle_for: Duration,
    /// Exchanges on one HTTP/2 connection at once; the peer may allow fewer.
    pub streams_per_connection: usize,
    /// How often an HTTP/2 connection with exchanges on it is asked for a sign of life.
    pub ping_every: Duration,
    /// How long it may take to give one before it counts as dead.
    pub ping_patience: Duration,
}

impl Default for PoolLimits {
    /// 16, 256, 60 s (shorter than the usual server's patience, so that a reused connection is rarely stale), 32, 30 s,
    /// 20 s.
    fn default() -> Self {
        Self {
            idle_per_origin: 16,
            idle_total: 256,
            idle_for: Duration::from_secs(60),
            streams_per_connection: 32,
            ping_every: Duration::from_secs(30),
            ping_patience: Duration::from_secs(20),
        }
    }
}
