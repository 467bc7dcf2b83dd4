//! AWS's binary event stream (`application/vnd.amazon.eventstream`), read and written incrementally.
//!
//! A message is, in big-endian numbers: its whole length, the length of its headers, a CRC-32 of these eight bytes, the
//! headers, the payload, and a CRC-32 of all before. Both checksums are verified, the first before the lengths are
//! believed.
//!
//! A payload does not say what it is; the header `:event-type` does. A frame's data therefore is the payload under that
//! name, `{"contentBlockDelta":{…}}`, as the streams are modelled: a union of their events. An exception becomes
//! `{"error":{"code":"throttlingException","message":…}}`, with whatever else its payload tells, and so does an error
//! without a payload.

mod message;

use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::{Checked, Frame, FrameError, Framing};

pub use message::{HeaderValue, Message};

/// Bytes in front of the headers: two lengths and their checksum.
const PRELUDE: usize = 12;

/// What a payload is.
const JSON: &str = "application/json";

/// Bytes of the checksum at the end.
const CHECKSUM: usize = 4;

/// An event of this type with this payload, which is JSON.
pub fn event(name: &str, payload: &str) -> Frame {
    let message = Message::json(":event-type", "event", name, payload);
    let data = Some(under(name, payload));
    Frame { framing: Framing::EventStream, name: name.to_owned(), data, raw: message.to_bytes() }
}

/// Appends the bytes of an event of this type with this payload, which is JSON.
pub(crate) fn write_event(name: &str, payload: &[u8], out: &mut Vec<u8>) {
    message::write(
        &[(":event-type", name), (":content-type", JSON), (":message-type", "event")],
        payload,
        out,
    );
}

/// An exception of this type with this payload, which is JSON.
pub fn exception(name: &str, payload: &str) -> Frame {
    let message = Message::json(":exception-type", "exception", name, payload);
    let data = Some(failed(name, payload.as_bytes()));
    Frame { framing: Framing::EventStream, name: name.to_owned(), data, raw: message.to_bytes() }
}

/// The bytes of an event with the payload that `data` holds under its name, and the headers that it had. What was no
/// event becomes an exception of that name.
pub(super) fn with_data(raw: &[u8], name: &str, data: &str) -> Bytes {
    let message = Message::parse(raw);
    let kind = message.as_ref().ok().and_then(|message| message.header(":message-type"));
    if matches!(kind, Some(HeaderValue::String(kind)) if kind != "event") {
        return exception(name, payload_of("error", data)).raw;
    }
    let payload = payload_of(name, data);
    match message {
        Ok(message) => Message { payload: Bytes::copy_from_slice(payload.as_bytes()), ..message }.to_bytes(),
        Err(_) => event(name, payload).raw,
    }
}

/// An incremental parser with a cap on the size of one message.
#[derive(Debug)]
pub struct Parser {
    buffer: BytesMut,
    limit: usize,
}

impl Parser {
    /// A parser that refuses messages of more than `limit` bytes.
    pub fn new(limit: usize) -> Parser {
        Parser { buffer: BytesMut::new(), limit }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// A message that is too large, whose checksums do not match, or that is not laid out as it has to be.
    pub fn next_message(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(length) = length_of(&self.buffer, self.limit)? else { return Ok(None) };
        if self.buffer.len() < length {
            return Ok(None);
        }
        let raw = self.buffer.split_to(length).freeze();
        frame(&Message::parse(&raw)?, raw).map(Some)
    }

    /// Whether bytes of an unfinished message are left.
    pub fn has_rest(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// The length of the message that `bytes` begin with, once its prelude is there.
fn length_of(bytes: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    let Some(mut prelude) = bytes.get(..PRELUDE) else { return Ok(None) };
    let sum = crc32fast::hash(&prelude[..8]);
    let (total, headers) = (prelude.get_u32(), prelude.get_u32());
    if prelude.get_u32() != sum {
        return Err(FrameError::Checksum(Checked::Prelude));
    }
    let (total, headers) = (to_usize(total), to_usize(headers));
    if total > limit {
        return Err(FrameError::TooLarge { limit });
    }
    if total < PRELUDE + CHECKSUM || headers > total - PRELUDE - CHECKSUM {
        return Err(FrameError::Malformed("its lengths contradict each other"));
    }
    Ok(Some(total))
}

/// A length that does not fit is larger than any limit.
fn to_usize(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn frame(message: &Message, raw: Bytes) -> Result<Frame, FrameError> {
    let text = |name: &str| match message.header(name) {
        Some(HeaderValue::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(FrameError::Malformed("a header that names it is no text")),
        None => Ok(None),
    };
    let named = |header| text(header)?.ok_or(FrameError::Malformed("it does not say what it is"));
    let (name, data) = match text(":message-type")?.as_deref() {
        // Events are the usual kind: some who write them leave it out.
        Some("event") | None => {
            let name = named(":event-type")?;
            let payload = std::str::from_utf8(&message.payload).map_err(|_| FrameError::NotUtf8)?;
            let data = under(&name, if payload.is_empty() { "{}" } else { payload });
            (name, data)
        }
        Some("exception") => {
            let name = named(":exception-type")?;
            let data = failed(&name, &message.payload);
            (name, data)
        }
        Some("error") => {
            let name = text(":error-code")?.unwrap_or_default();
            let said = json!({ "message": text(":error-message")?.unwrap_or_default() });
            let data = failed(&name, said.to_string().as_bytes());
            (name, data)
        }
        Some(_) => return Err(FrameError::Malformed("it is of an unknown kind")),
    };
    Ok(Frame { framing: Framing::EventStream, name, data: Some(data), raw })
}

/// A payload under its name.
fn under(name: &str, payload: &str) -> String {
    format!("{{{}:{payload}}}", Value::from(name))
}

/// The payload in data that came of [`under`].
fn payload_of<'d>(name: &str, data: &'d str) -> &'d str {
    let front = format!("{{{}:", Value::from(name));
    data.strip_prefix(front.as_str()).and_then(|rest| rest.strip_suffix('}')).unwrap_or(data)
}

/// The data of an exception.
fn failed(name: &str, payload: &[u8]) -> String {
    let mut error = match serde_json::from_slice(payload) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::from_iter([("message".to_owned(), String::from_utf8_lossy(payload).into())]),
    };
    // Some services write it in upper case.
    if let Some(message) = error.remove("Message") {
        error.entry("message").or_insert(message);
    }
    error.insert("code".to_owned(), name.into());
    json!({ "error": error }).to_string()
}

#[cfg(test)]
mod tests;
