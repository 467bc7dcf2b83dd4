//! Server-sent events, read incrementally (WHATWG HTML, 9.2.6 "Interpreting an event stream").
//!
//! Works on bytes: a multi-byte character split over chunks is whole again before it is looked at. A frame is a dispatched
//! event or a block of comments; its name is the `event` field, its data the `data` fields joined by line feeds, its bytes
//! are the block's, with the blank line.

use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memchr2_iter};

use super::{Frame, FrameError, Framing};

/// An event with data of one line; without a name when that is empty.
pub fn event(name: &str, data: String) -> Frame {
    let named = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
    let raw = format!("{named}data: {data}\n\n").into();
    Frame { framing: Framing::Sse, name: name.to_owned(), data: Some(data), raw }
}

/// The bytes of an event with other data in place of its own.
pub(super) fn with_data(raw: &[u8], data: &str) -> Bytes {
    let text = String::from_utf8_lossy(raw);
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
    raw.into()
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
    pub fn next_event(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let Some(end) = self.find_block_end() else {
                if self.buffer.len() > self.limit {
                    return Err(FrameError::TooLarge { limit: self.limit });
                }
                return Ok(None);
            };
            if end > self.limit {
                return Err(FrameError::TooLarge { limit: self.limit });
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
            let line = memchr2(b'\r', b'\n', &bytes[at..]).unwrap_or(bytes.len() - at);
            self.line_empty &= line == 0;
            at += line;
            let width = match bytes.get(at) {
                Some(b'\r') => match bytes.get(at + 1) {
                    Some(b'\n') => 2,
                    Some(_) => 1,
                    None if self.line_empty => 1,
                    None => break,
                },
                Some(_) => 1,
                None => break,
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

fn parse_block(raw: Bytes, first: bool) -> Result<Frame, FrameError> {
    let text = std::str::from_utf8(&raw).map_err(|_| FrameError::NotUtf8)?;
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
    Ok(Frame { framing: Framing::Sse, name, data, raw })
}

/// Lines ended by CR, LF or CRLF; a CRLF yields one line, and empty lines are of no interest here.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let ends = memchr2_iter(b'\r', b'\n', text.as_bytes()).chain(std::iter::once(text.len()));
    let mut begin = 0;
    let lines = ends.map(move |end| &text[std::mem::replace(&mut begin, end + 1)..end]);
    lines.filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests;
