//! A reply before it is sent, and the pace at which it is sent.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use super::scenario::{Rule, ScriptedBody};
use crate::frames::Framing;

/// A response body; it ends with [`Cut`] when the scenario drops the connection.
pub(super) type ReplyBody = UnsyncBoxBody<Bytes, Cut>;

/// The connection is dropped here on purpose.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the scenario drops the connection here")
    }
}

impl std::error::Error for Cut {}

/// A whole reply.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Sent at once, with its length.
    Whole(Bytes),
    /// Sent event by event, of unknown length.
    Stream(Vec<Event>),
}

/// One event of a stream, or one line.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) bytes: Bytes,
    /// Whether it carries a piece of the answer, as opposed to the life cycle around it.
    pub(super) content: bool,
}

/// How a reply is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    pub(super) delay: Duration,
    pub(super) pause: Duration,
    pub(super) cut: Option<u32>,
}

impl Pace {
    pub(super) fn of(rule: &Rule) -> Pace {
        Pace { delay: rule.delay, pause: rule.pause, cut: rule.cut }
    }
}

impl Event {
    /// `data: …`, with an `event:` line where the dialect has one.
    pub(super) fn sse(name: Option<&str>, data: &str, content: bool) -> Event {
        let text = match name {
            Some(name) => format!("event: {name}\ndata: {data}\n\n"),
            None => format!("data: {data}\n\n"),
        };
        Event { bytes: Bytes::from(text), content }
    }

    /// A line of JSON.
    pub(super) fn line(value: &Value, content: bool) -> Event {
        Event { bytes: Bytes::from(format!("{value}\n")), content }
    }
}

impl Reply {
    pub(super) fn json(status: StatusCode, value: &Value) -> Reply {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Reply { status, headers, content: Content::Whole(Bytes::from(value.to_string())) }
    }

    pub(super) fn text(status: StatusCode, text: String) -> Reply {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, plain)]);
        Reply { status, headers, content: Content::Whole(Bytes::from(text)) }
    }

    pub(super) fn events(events: Vec<Event>) -> Reply {
        Reply::framed(Framing::Sse, events)
    }

    /// A stream in another framing.
    pub(super) fn framed(framing: Framing, events: Vec<Event>) -> Reply {
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, framing.content_type()),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ]);
        Reply { status: StatusCode::OK, headers, content: Content::Stream(events) }
    }

    pub(super) fn lines(lines: Vec<Event>) -> Reply {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))]);
        Reply { status: StatusCode::OK, headers, content: Content::Stream(lines) }
    }

    pub(super) fn scripted(
        status: StatusCode,
        headers: &[(HeaderName, HeaderValue)],
        body: &ScriptedBody,
    ) -> Reply {
        let mut reply = match body {
            ScriptedBody::Text(text) => Reply::text(status, text.clone()),
            ScriptedBody::Json(value) => Reply::json(status, value),
        };
        reply.set(headers);
        reply
    }

    /// Adds a header, replacing one of the same name.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    pub(super) fn set(&mut self, headers: &[(HeaderName, HeaderValue)]) {
        for (name, value) in headers {
            self.headers.insert(name.clone(), value.clone());
        }
    }

    /// Waits for the first byte's delay, then hands out the response whose body keeps the pace.
    pub(super) async fn send(self, pace: Pace) -> Response<ReplyBody> {
        pause(pace.delay).await;
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        let (steps, length) = match self.content {
            Content::Whole(bytes) => whole(bytes, pace),
            Content::Stream(events) => (events_in_steps(events, pace), None),
        };
        if let Some(length) = length {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        response.map(|()| body(steps))
    }
}

/// One thing that a body does.
enum Step {
    Wait(Duration),
    Send(Bytes),
    Drop,
}

/// A reply with a length; a cut sends half of it and stops, so that the promised length is never reached.
fn whole(bytes: Bytes, pace: Pace) -> (Vec<Step>, Option<usize>) {
    let length = bytes.len();
    let steps = if pace.cut.is_some() {
        vec![Step::Send(bytes.slice(..length / 2)), Step::Drop]
    } else {
        vec![Step::Send(bytes)]
    };
    (steps, Some(length))
}

fn events_in_steps(events: Vec<Event>, pace: Pace) -> Vec<Step> {
    let mut steps = Vec::with_capacity(events.len() * 2);
    let kept = pace.cut.map_or(events.len(), |pieces| cut_at(&events, pieces));
    for (index, event) in events.into_iter().take(kept).enumerate() {
        if index > 0 && event.content && !pace.pause.is_zero() {
            steps.push(Step::Wait(pace.pause));
        }
        steps.push(Step::Send(event.bytes));
    }
    if pace.cut.is_some() {
        steps.push(Step::Drop);
    }
    steps
}

/// How many events are sent when the connection drops after `pieces` pieces of content: up to that piece, or up to
/// the last one of a shorter answer, so that a cut answer never looks complete.
pub(super) fn cut_at(events: &[Event], pieces: u32) -> usize {
    let contents = || events.iter().enumerate().filter(|(_, event)| event.content).map(|(index, _)| index);
    match pieces.checked_sub(1) {
        None => contents().next().unwrap_or(1.min(events.len())),
        Some(skip) => {
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            contents().nth(skip).or_else(|| contents().last()).map_or(1.min(events.len()), |index| index + 1)
        }
    }
}

fn body(steps: Vec<Step>) -> ReplyBody {
    let frames = stream::unfold(steps.into_iter(), |mut steps| async move {
        loop {
            match steps.next()? {
                Step::Wait(wait) => pause(wait).await,
                Step::Send(bytes) => return Some((Ok(Frame::data(bytes)), steps)),
                Step::Drop => {
                    // The connection writes what it holds when the body is pending, and drops it when the body fails:
                    // without a turn in between, the pieces before the cut would be lost with it.
                    tokio::task::yield_now().await;
                    return Some((Err(Cut), Vec::new().into_iter()));
                }
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

async fn pause(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pattern: &str) -> Vec<Event> {
        pattern.chars().map(|c| Event { bytes: Bytes::new(), content: c == 'c' }).collect()
    }

    #[test]
    fn a_cut_keeps_the_pieces_asked_for_and_never_the_end() {
        let rows = [
            ("lccccl", 2, 3),
            ("lccccl", 4, 5),
            ("lccccl", 9, 5),
            ("lccccl", 0, 1),
            ("lcl", 1, 2),
            ("ll", 2, 1),
            ("", 1, 0),
        ];
        for (pattern, pieces, kept) in rows {
            assert_eq!(cut_at(&events(pattern), pieces), kept, "{pattern} cut after {pieces}");
        }
    }
}
