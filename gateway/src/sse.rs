//! Server-sent events, read incrementally (WHATWG HTML, 9.2.6 "Interpreting an event stream").
//!
//! Works on bytes: a multi-byte character split over chunks is whole again before it is looked at.

use bytes::{Bytes, BytesMut};

/// One dispatched event, or a block of comments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; empty when there was none.
    pub name: String,
    /// The `data` fields joined by line feeds; `None` for a block that had no data (comments, keep-alives).
    pub data: Option<String>,
    /// The bytes of the block as received, its blank line included, for passing it on unchanged.
    pub raw: Bytes,
}

impl Event {
    /// An event with data of one line; without a name when that is empty.
    pub(crate) fn new(name: &str, data: String) -> Event {
        let named = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
        let raw = format!("{named}data: {data}\n\n").into();
        Event { name: name.to_owned(), data: Some(data), raw }
    }

    /// Puts other data in place of its own. Everything else about it stays, but for how its lines end.
    pub(crate) fn replace_data(&mut self, data: String) {
        let text = String::from_utf8_lossy(&self.raw);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut raw = String::with_capacity(text.len() + data.len());
        let mut fresh = data.split('\n').map(|line| format!("data: {line}\n")).collect::<String>();
        for line in lines(text) {
            if line.split(':').next() == Some("data") {
                // All of it stands where its first line stood.
                raw.push_str(&std::mem::take(&mut fresh));
            } else {
                raw.push_str(line);
                raw.push('\n');
            }
        }
        raw.push('\n');
        (self.data, self.raw) = (Some(data), raw.into());
    }
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// One event is larger than the cap.
    #[error("an event of the stream is larger than {limit} bytes")]
    TooLarge {
        /// The cap in bytes.
        limit: usize,
    },
    /// The bytes of an event are not UTF-8.
    #[error("an event of the stream is not UTF-8")]
    NotUtf8,
}

/// An incremental parser with a cap on the size of one event.
#[derive(Debug)]
pub struct Parser {
    buffer: BytesMut,
    /// Up to here no end of block was found.
    scanned: usize,
    /// Whether the line that `scanned` stands in is empty so far.
    line_empty: bool,
    limit: usize,
    first: bool,
}

impl Parser {
    /// A parser that refuses events larger than `limit` bytes.
    pub fn new(limit: usize) -> Parser {
        Parser { buffer: BytesMut::new(), scanned: 0, line_empty: true, limit, first: true }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// The event is too large or not UTF-8.
    pub fn next_event(&mut self) -> Result<Option<Event>, SseError> {
        loop {
            let Some(end) = self.find_block_end() else {
                if self.buffer.len() > self.limit {
                    return Err(SseError::TooLarge { limit: self.limit });
                }
                return Ok(None);
            };
            if end > self.limit {
                return Err(SseError::TooLarge { limit: self.limit });
            }
            let raw = self.buffer.split_to(end).freeze();
            self.scanned = 0;
            self.line_empty = true;
            let first = std::mem::replace(&mut self.first, false);
            if raw.iter().all(|b| matches!(b, b'\r' | b'\n')) {
                // Surplus blank lines dispatch nothing.
                continue;
            }
            return parse_block(raw, first).map(Some);
        }
    }

    /// Whether bytes of an unfinished event are left: at the end of a stream they are to be thrown away.
    pub fn has_rest(&self) -> bool {
        self.buffer.iter().any(|b| !matches!(b, b'\r' | b'\n'))
    }

    /// Where the first block ends: just after the blank line. A lone CR at the very end of the buffer may be half
    /// of a CRLF; as the end of a blank line it dispatches at once, and the LF that may follow is taken as a
    /// surplus blank line, so that no event waits for the next one.
    fn find_block_end(&mut self) -> Option<usize> {
        let bytes = &self.buffer[..];
        let mut at = self.scanned;
        while at < bytes.len() {
            let width = match bytes[at] {
                b'\r' => match bytes.get(at + 1) {
                    Some(b'\n') => 2,
                    Some(_) => 1,
                    None if self.line_empty => 1,
                    None => break,
                },
                b'\n' => 1,
                _ => {
                    self.line_empty = false;
                    at += 1;
                    continue;
                }
            };
            at += width;
            if self.line_empty {
                self.scanned = at;
                return Some(at);
            }
            self.line_empty = true;
        }
        self.scanned = at;
        None
    }
}

fn parse_block(raw: Bytes, first: bool) -> Result<Event, SseError> {
    let text = std::str::from_utf8(&raw).map_err(|_| SseError::NotUtf8)?;
    let text = if first { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
    let mut name = String::new();
    let mut data: Option<String> = None;
    for line in lines(text) {
        let (field, value) = match line.split_once(':') {
            Some((field, value)) => (field, value.strip_prefix(' ').unwrap_or(value)),
            None => (line, ""),
        };
        match field {
            "event" => value.clone_into(&mut name),
            "data" => match &mut data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => data = Some(value.to_owned()),
            },
            // Comments have an empty field name; `id` and `retry` mean nothing to these dialects.
            _ => {}
        }
    }
    Ok(Event { name, data, raw })
}

/// Lines ended by CR, LF or CRLF; a CRLF yields one line, and empty lines are of no interest here.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\r', '\n']).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests;
