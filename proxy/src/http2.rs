//! HTTP/2 towards upstreams. One connection carries the exchanges of everybody who may share it, each as a stream of
//! its own: what ends one stream leaves the others alone.
//!
//! This speaks through `h2` itself. A run's end has to reset its streams while nobody polls them, a request may be
//! repeated only where the peer provably did not see it, and the pool has to know what the peer has room for; hyper's
//! client tells none of that.

mod answer;
mod connection;
mod driver;
mod pump;
mod replay;
mod stream;

pub(crate) use answer::Answer;
pub(crate) use connection::{Shared, Slot};
pub(crate) use driver::{Status, handshake};
pub(crate) use pump::Pump;
pub(crate) use stream::{Exchange, Reset, Unsent, open};

/// What one stream may have on the way to a reader that is slow. An answer moves at this much per round trip at best.
const STREAM_WINDOW: u32 = 1 << 20;

/// What of a request may wait inside `h2` for the connection to be writable.
const SEND_BUFFER: usize = 64 << 10;

/// An error in words, without what the peer wrote into a GOAWAY: it could echo a secret there.
pub(crate) fn describe(error: &h2::Error) -> String {
    match (error.get_io(), error.reason()) {
        (Some(io), _) if io.kind() == std::io::ErrorKind::BrokenPipe => {
            "the connection was closed".to_owned()
        }
        (Some(io), _) => format!("the connection broke: {}", io.kind()),
        (None, Some(reason)) => {
            let what = match (error.is_go_away(), error.is_remote()) {
                (true, true) => "it ended the connection",
                (true, false) => "the connection was given up",
                (false, true) => "it reset the stream",
                (false, false) => "the stream was reset",
            };
            format!("{what}: {}", reason.description())
        }
        (None, None) => "the message cannot be sent over HTTP/2".to_owned(),
    }
}

/// Whether the peer said that it did nothing with the stream (RFC 9113, section 8.7): it refused it, or it went away
/// and the stream was above the last one that it counted.
fn unprocessed(error: &h2::Error) -> bool {
    // `h2` gives a stream the peer's GOAWAY as its error only when the stream is above that mark, or was never sent.
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}
