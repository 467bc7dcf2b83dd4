//! Bodies that are held in memory: bounded each, bounded in all, and not waited for forever.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use orch_proxy::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::failure::{Failure, Kind};

/// Bytes of all bodies at once.
const IN_ALL: usize = 512 << 20;
/// Room is counted in units of this many bytes.
const UNIT: usize = 4 << 10;
/// Room that is made at once for a body whose length was announced; the rest grows as it arrives.
const AT_ONCE: u64 = 1 << 20;
/// Time without any byte of a body.
const SILENCE: Duration = Duration::from_secs(15);
/// Time for a body, beside what its bytes take at [`SLOWEST`].
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes each second that a body has to arrive with.
const SLOWEST: u64 = 32 << 10;

/// The room for bodies.
pub(super) struct Buffers(Arc<Semaphore>);

/// A body in memory. It is cleared when this is dropped: it may hold keys.
pub(super) struct Buffered {
    bytes: Zeroizing<Vec<u8>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Buffered {
    /// Hands the bytes over, which are then counted, and cleared, no more.
    pub(super) fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes)
    }
}

impl std::ops::Deref for Buffered {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new(IN_ALL)
    }
}

impl Buffers {
    fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT)))
    }

    /// Reads a whole body of at most `limit` bytes.
    ///
    /// # Errors
    /// When it is larger, comes too slowly or not whole, or there is no room.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        limit: u64,
    ) -> Result<Buffered, Failure> {
        let announced = announced(headers);
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        let begun = Instant::now();
        let mut room = Room { of: &self.0, taken: None, units: 0 };
        let at_once = announced.unwrap_or(0).min(AT_ONCE);
        room.grow(at_once as usize)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(at_once as usize));
        while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(|_| too_slow())? {
            let frame = frame.map_err(|e| {
                Failure::usage("body_incomplete", format!("the request's body ended early: {e}"))
            })?;
            // Trailers say nothing here.
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() as u64 + data.len() as u64 > limit {
                return Err(too_large(limit));
            }
            room.grow(bytes.len() + data.len())?;
            append(&mut bytes, &data);
            if begun.elapsed() > PATIENCE + Duration::from_secs(bytes.len() as u64 / SLOWEST) {
                return Err(too_slow());
            }
        }
        Ok(Buffered { bytes, _room: room.taken })
    }
}

/// Adds to what is cleared when it is dropped. A `Vec` that grows by itself leaves what it held behind, uncleared: here it
/// moves to one of twice the size, and the old one is dropped.
fn append(bytes: &mut Zeroizing<Vec<u8>>, more: &[u8]) {
    let length = bytes.len() + more.len();
    if length > bytes.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(length.max(2 * bytes.capacity())));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(more);
}

/// What one body has taken of the room.
struct Room<'a> {
    of: &'a Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
    units: usize,
}

impl Room<'_> {
    /// Makes room for so many bytes in all.
    fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        let units = bytes.div_ceil(UNIT);
        let Some(more) = units.checked_sub(self.units).filter(|more| *more > 0) else { return Ok(()) };
        let full = || {
            Failure::new(Kind::Server, "busy", "the server holds as many request bodies as it can")
                .hint("try again in a moment")
        };
        let count = u32::try_from(more).map_err(|_| full())?;
        // Without waiting: bodies that wait for each other's room would wait forever.
        let permit = Arc::clone(self.of).try_acquire_many_owned(count).map_err(|_| full())?;
        match &mut self.taken {
            Some(taken) => taken.merge(permit),
            None => self.taken = Some(permit),
        }
        self.units = units;
        Ok(())
    }
}

/// The length that the head of a request announces.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(super) fn too_large(limit: u64) -> Failure {
    let limit = match limit {
        0..1_048_576 => format!("{} KiB", limit >> 10),
        _ => format!("{} MiB", limit >> 20),
    };
    Failure::usage("body_too_large", format!("the request's body is larger than {limit}"))
}

fn too_slow() -> Failure {
    Failure::new(Kind::Server, "request_timeout", "the request's body came too slowly")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use orch_proxy::{BodyError, empty, full};

    fn headers(length: &str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_LENGTH, length.parse().expect("a value"))])
    }

    /// Pieces of this many bytes, each after so much time.
    fn slowly(pieces: usize, bytes: usize, each: Duration) -> Body {
        let pieces = stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(each).await;
            Ok::<_, BodyError>(Frame::data(Bytes::from(vec![7; bytes])))
        });
        StreamBody::new(pieces).boxed_unsync()
    }

    async fn code(buffers: &Buffers, headers: HeaderMap, body: Body, limit: u64) -> String {
        match buffers.read(&headers, body, limit).await {
            Ok(bytes) => format!("{} bytes", bytes.len()),
            Err(failure) => failure.code().to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_whole_and_within_its_bounds_or_refused() {
        let buffers = Buffers::default();
        let none = HeaderMap::new;
        assert_eq!(code(&buffers, none(), empty(), 4).await, "0 bytes");
        assert_eq!(code(&buffers, none(), full("1234"), 4).await, "4 bytes");
        assert_eq!(code(&buffers, none(), full("12345"), 4).await, "body_too_large");
        assert_eq!(code(&buffers, headers("5"), empty(), 4).await, "body_too_large");
        let one = Duration::from_secs(1);
        assert_eq!(code(&buffers, none(), slowly(10, 2, 2 * one), 99).await, "20 bytes");
        assert_eq!(code(&buffers, none(), slowly(2, 2, 16 * one), 99).await, "request_timeout");
        assert_eq!(
            code(&buffers, none(), slowly(50, 1, one), 99).await,
            "request_timeout",
            "a byte each second"
        );
        assert_eq!(code(&buffers, none(), slowly(50, 64 << 10, one), 1 << 30).await, "3276800 bytes");
        let broken = stream::iter([Err(BodyError::Guest("gone".to_owned()))]);
        let broken = StreamBody::new(broken).boxed_unsync();
        assert_eq!(code(&buffers, none(), broken, 4).await, "body_incomplete");
    }

    #[test]
    fn what_grows_is_never_grown_in_place() {
        let mut bytes = Zeroizing::new(Vec::new());
        let mut expected = Vec::new();
        for piece in [&b"key"[..], b"", b" of nobody", &[7; 5000], b"!"] {
            let (before, room, at) = (bytes.len(), bytes.capacity(), bytes.as_ptr());
            append(&mut bytes, piece);
            expected.extend_from_slice(piece);
            assert_eq!(*bytes, expected);
            let fitted = before + piece.len() <= room;
            assert_eq!(fitted, bytes.capacity() == room, "room is made at once, or not at all");
            assert!(!fitted || at == bytes.as_ptr());
        }
    }

    #[tokio::test]
    async fn bodies_share_the_room_and_give_it_back() {
        let buffers = Buffers::new(4 * UNIT);
        let read = |bytes: usize| {
            let buffers = &buffers;
            async move { buffers.read(&HeaderMap::new(), full(vec![1; bytes]), 1 << 30).await }
        };
        let first = read(3 * UNIT).await.expect("room for three");
        assert_eq!(read(2 * UNIT).await.err().expect("no room").code(), "busy");
        let second = read(UNIT).await.expect("room for one");
        drop((first, second));
        assert_eq!(read(4 * UNIT).await.expect("all of it").into_vec().len(), 4 * UNIT);
        assert_eq!(buffers.0.available_permits(), 4);
        let announced = buffers.read(&headers("1000000"), empty(), 1 << 30).await;
        assert_eq!(announced.err().expect("no room").code(), "busy");
    }
}
