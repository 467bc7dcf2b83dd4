//! The bounds of what is taken from whoever is not known yet.

use std::time::Duration;

/// What a server takes. The defaults are for a machine that serves a team; together they bound what strangers can
/// make it hold to roughly 300 MB.
#[derive(Debug, Clone)]
pub struct Limits {
    /// TCP connections at once.
    pub connections: usize,
    /// TCP connections of one peer at once: an IPv4 address, or an IPv6 network of 64 bits.
    pub connections_per_peer: usize,
    /// Connections to the unix socket at once. They have places of their own, so that strangers cannot lock the owner
    /// out.
    pub connections_of_owner: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time from the connection to its first whole request head.
    pub head: Duration,
    /// Time without a request, from the end of one to the whole head of the next, while nobody known has asked
    /// anything on the connection: a stranger keeps no place that others of the same address need.
    pub stranger: Duration,
    /// The same on a connection of somebody known.
    pub idle: Duration,
    /// Time that a peer may leave what was sent to it unread.
    pub unread: Duration,
    /// Time for what is under way on a connection that is being closed.
    pub goodbye: Duration,
    /// Header fields of a request.
    pub headers: usize,
    /// Bytes of a request's target and header fields.
    pub head_bytes: usize,
    /// HTTP/2 requests at once on one connection.
    pub streams: u32,
    /// Bytes that an HTTP/2 peer may send for one request before somebody reads them; four times as many for all of
    /// a connection.
    pub stream_window: u32,
    /// HTTP/2 requests that a peer may reset before they are looked at, and errors that it may cause, before its
    /// connection is closed.
    pub resets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_peer: 256,
            connections_of_owner: 256,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            stranger: Duration::from_secs(2),
            idle: Duration::from_secs(75),
            unread: Duration::from_secs(30),
            goodbye: Duration::from_secs(2),
            headers: 64,
            head_bytes: 16 << 10,
            streams: 64,
            stream_window: 64 << 10,
            resets: 20,
        }
    }
}
