//! How the events of a stream are framed on the wire: where one ends, what it is called, and what it holds.
//!
//! Dialects differ in this as well as in what they say. What splits bytes into frames is here, and knows no dialect; a
//! dialect says which [`Framing`] it has and reads the data of each [`Frame`], which is JSON (or a terminator) in all of
//! them.

pub mod event_stream;
pub mod ndjson;
pub mod sse;

use bytes::Bytes;
use http::HeaderValue;

/// A way to put events on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// A JSON text on each line.
    Ndjson,
    /// AWS's binary messages.
    EventStream,
}

impl Framing {
    /// The media type, without parameters: what is asked for.
    pub const fn media_type(self) -> &'static str {
        match self {
            Framing::Sse => "text/event-stream",
            Framing::Ndjson => "application/x-ndjson",
            Framing::EventStream => "application/vnd.amazon.eventstream",
        }
    }

    /// The value of `Content-Type` for a stream that is written here.
    pub const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Framing::Sse => "text/event-stream; charset=utf-8",
            Framing::Ndjson | Framing::EventStream => self.media_type(),
        })
    }

    /// Whether a `Content-Type` says that a body is framed so.
    pub fn is_named_by(self, content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(self.media_type())
    }

    /// What reads a stream with frames of at most `limit` bytes each.
    pub fn splitter(self, limit: usize) -> Splitter {
        match self {
            Framing::Sse => Splitter::Sse(sse::Parser::new(limit)),
            Framing::Ndjson => Splitter::Ndjson(ndjson::Parser::new(limit)),
            Framing::EventStream => Splitter::EventStream(event_stream::Parser::new(limit)),
        }
    }

    /// A frame with this content, `json` being one line. Where lines have no names, the name is left out.
    pub fn frame(self, name: &str, json: &str) -> Frame {
        match self {
            Framing::Sse => sse::event(name, json.to_owned()),
            Framing::Ndjson => ndjson::line(json.to_owned()),
            Framing::EventStream => event_stream::event(name, json),
        }
    }

    /// A frame of the gateway's own, which the dialect does not know, told apart by its name from all of the dialect's.
    pub(crate) fn own_frame(self, name: &str, json: &str) -> Frame {
        match self {
            Framing::Sse | Framing::EventStream => self.frame(name, json),
            Framing::Ndjson => ndjson::line(format!(r#"{{"{name}":{json}}}"#)),
        }
    }
}

/// One frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// How it is framed.
    pub framing: Framing,
    /// The name of the event; empty when it has none.
    pub name: String,
    /// What it holds, see the framing's module; `None` for what holds nothing (comments, keep-alives).
    pub data: Option<String>,
    /// The bytes of the frame as received, for passing it on unchanged.
    pub raw: Bytes,
}

impl Frame {
    /// What a stream without a terminator ends with: nothing at all.
    pub(crate) fn nothing(framing: Framing) -> Frame {
        Frame { framing, name: String::new(), data: None, raw: Bytes::new() }
    }

    /// Puts other data in place of its own. Everything else about it stays, but for how its lines end.
    pub(crate) fn replace_data(&mut self, data: String) {
        self.raw = match self.framing {
            Framing::Sse => sse::with_data(&self.raw, &data),
            Framing::Ndjson => ndjson::line(data.clone()).raw,
            Framing::EventStream => event_stream::with_data(&self.raw, &self.name, &data),
        };
        self.data = Some(data);
    }
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// One frame is larger than the cap, or says that it will be.
    #[error("an event of the stream is larger than {limit} bytes")]
    TooLarge {
        /// The cap in bytes.
        limit: usize,
    },
    /// The text of a frame is not UTF-8.
    #[error("an event of the stream is not UTF-8")]
    NotUtf8,
    /// The checksum of a binary frame does not match its bytes.
    #[error("the checksum of an event's {0} does not match")]
    Checksum(Checked),
    /// A binary frame is not laid out as it has to be.
    #[error("an event of the stream is malformed: {0}")]
    Malformed(&'static str),
}

/// Which part of a binary frame a checksum is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The lengths in front.
    Prelude,
    /// All of it.
    Message,
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Checked::Prelude => "prelude",
            Checked::Message => "message",
        })
    }
}

/// Splits the bytes of a stream into frames, however they arrive.
#[derive(Debug)]
pub enum Splitter {
    /// Server-sent events.
    Sse(sse::Parser),
    /// Lines.
    Ndjson(ndjson::Parser),
    /// Binary messages.
    EventStream(event_stream::Parser),
}

impl Splitter {
    /// How the frames are framed.
    pub fn framing(&self) -> Framing {
        match self {
            Splitter::Sse(_) => Framing::Sse,
            Splitter::Ndjson(_) => Framing::Ndjson,
            Splitter::EventStream(_) => Framing::EventStream,
        }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        match self {
            Splitter::Sse(parser) => parser.push(bytes),
            Splitter::Ndjson(parser) => parser.push(bytes),
            Splitter::EventStream(parser) => parser.push(bytes),
        }
    }

    /// The next whole frame, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// What comes next is no frame: the stream cannot be read on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        match self {
            Splitter::Sse(parser) => parser.next_event(),
            Splitter::Ndjson(parser) => parser.next_line(),
            Splitter::EventStream(parser) => parser.next_message(),
        }
    }

    /// Whether bytes of an unfinished frame are left: at the end of a stream they are to be thrown away.
    pub fn has_rest(&self) -> bool {
        match self {
            Splitter::Sse(parser) => parser.has_rest(),
            Splitter::Ndjson(parser) => parser.has_rest(),
            Splitter::EventStream(parser) => parser.has_rest(),
        }
    }
}

#[cfg(test)]
mod tests;
