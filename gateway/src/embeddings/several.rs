//! Requests for more inputs than a provider takes at once: they become several, of which each has some of the inputs.

use bytes::Bytes;

use super::{More, Written};
use crate::dialect::RequestError;
use crate::ir::Dropped;

/// Requests that one request of a client may become: at a tenth of a second each they are still answered in time.
const MOST_REQUESTS: usize = 256;

/// Whether so many texts fit into the requests that may be made of one.
///
/// # Errors
/// They do not.
pub(super) fn check(texts: &[&str], at_once: usize) -> Result<(), RequestError> {
    if texts.len().div_ceil(at_once) <= MOST_REQUESTS {
        return Ok(());
    }
    let message = format!(
        "holds {} texts; the model takes {at_once} in a request, and {MOST_REQUESTS} requests are made of one at \
         most: send {} of them, or fewer",
        texts.len(),
        at_once * MOST_REQUESTS
    );
    Err(RequestError { path: "input".to_owned(), message })
}

/// The bodies for texts that were checked. `body` writes the one for some of them.
pub(super) fn written(
    texts: &[&str],
    at_once: usize,
    dropped: Vec<Dropped>,
    body: impl Fn(&[&str]) -> Bytes,
) -> Written {
    let mut parts = texts.chunks(at_once);
    let first = body(parts.next().unwrap_or_default());
    let more = parts.map(|some| More { body: body(some), inputs: some.len() }).collect();
    Written { body: first, more, dropped }
}
