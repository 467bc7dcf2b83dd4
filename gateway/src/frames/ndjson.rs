//! Newline-delimited JSON, read incrementally: a JSON text on each line, every line ended by a line feed.
//!
//! A frame's data is its line without the end. The last line counts only once it has ended: of one that was cut, the
//! beginning may be JSON as well.

use bytes::BytesMut;

use super::{Frame, FrameError, Framing};

/// A line with this data, which is one line itself.
pub fn line(data: String) -> Frame {
    let raw = format!("{data}\n").into();
    Frame { framing: Framing::Ndjson, name: String::new(), data: Some(data), raw }
}

/// An incremental parser with a cap on the length of one line.
#[derive(Debug)]
pub struct Parser {
    buffer: BytesMut,
    /// Up to here there is no line feed.
    scanned: usize,
    limit: usize,
}

impl Parser {
    /// A parser that refuses lines of more than `limit` bytes, their ends included.
    pub fn new(limit: usize) -> Parser {
        Parser { buffer: BytesMut::new(), scanned: 0, limit }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line that is not blank, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// The line is too long or not UTF-8.
    pub fn next_line(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let found = memchr::memchr(b'\n', &self.buffer[self.scanned..]);
            let end = found.map(|at| self.scanned + at + 1);
            if end.unwrap_or(self.buffer.len()) > self.limit {
                return Err(FrameError::TooLarge { limit: self.limit });
            }
            let Some(end) = end else {
                self.scanned = self.buffer.len();
                return Ok(None);
            };
            let raw = self.buffer.split_to(end).freeze();
            self.scanned = 0;
            let text = std::str::from_utf8(&raw).map_err(|_| FrameError::NotUtf8)?;
            let text = text.trim_matches(is_blank);
            if !text.is_empty() {
                let data = Some(text.to_owned());
                return Ok(Some(Frame { framing: Framing::Ndjson, name: String::new(), data, raw }));
            }
        }
    }

    /// Whether a line has begun that has not ended.
    pub fn has_rest(&self) -> bool {
        self.buffer.iter().any(|byte| !is_blank(char::from(*byte)))
    }
}

/// What JSON lets stand around a value (RFC 8259, section 2).
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut parser = Parser::new(1 << 16);
        let mut all = Vec::new();
        for chunk in chunks {
            parser.push(chunk);
            while let Some(frame) = parser.next_line().unwrap() {
                all.push(frame.data.unwrap());
            }
        }
        all
    }

    #[test]
    fn the_corners_of_the_format() {
        let rows: &[(&str, &[&str])] = &[
            ("{\"a\":1}\n{\"b\":2}\n", &["{\"a\":1}", "{\"b\":2}"]),
            ("{\"a\":1}\r\n\r\n{\"b\":2}\r\n", &["{\"a\":1}", "{\"b\":2}"]),
            ("\n\n {} \n", &["{}"]),
            ("{\"a\":\"é世\"}\n", &["{\"a\":\"é世\"}"]),
            ("{\"a\":1}\n{\"done\":true}", &["{\"a\":1}"]),
            ("", &[]),
        ];
        for (text, wanted) in rows {
            assert_eq!(read([text.as_bytes()]), *wanted, "{text:?}");
            assert_eq!(read(text.as_bytes().chunks(1)), *wanted, "{text:?}, byte by byte");
        }
    }

    #[test]
    fn raw_bytes_are_whole_lines_and_an_unfinished_one_is_seen() {
        let mut parser = Parser::new(100);
        parser.push(b"{\"a\":1} \r\n{\"b\"");
        assert_eq!(parser.next_line().unwrap().unwrap().raw, "{\"a\":1} \r\n");
        assert_eq!(parser.next_line(), Ok(None));
        assert!(parser.has_rest());
        parser.push(b":2}\n \n");
        assert!(parser.next_line().unwrap().is_some());
        assert_eq!((parser.next_line(), parser.has_rest()), (Ok(None), false));
    }

    #[test]
    fn long_lines_are_refused_finished_or_not() {
        let limit = Err(FrameError::TooLarge { limit: 8 });
        for text in ["123456789", "12345678\n", "1\n12345678\n"] {
            let mut parser = Parser::new(8);
            parser.push(text.as_bytes());
            let last =
                std::iter::repeat_with(|| parser.next_line()).find(|read| !matches!(read, Ok(Some(_))));
            assert_eq!(last, Some(limit.clone()), "{text:?}");
        }
        let mut parser = Parser::new(8);
        parser.push(b"1234567\n1234567\n");
        assert!(parser.next_line().unwrap().is_some() && parser.next_line().unwrap().is_some());
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let mut parser = Parser::new(100);
        parser.push(b"{\"a\":\"\xff\"}\n");
        assert_eq!(parser.next_line(), Err(FrameError::NotUtf8));
    }

    proptest! {
        /// Where chunks begin and end changes nothing.
        #[test]
        fn chunking_is_invisible(
            lines in prop::collection::vec("[a-zé世 {}]{0,8}(\n|\r\n)", 0..24),
            cuts in prop::collection::vec(1usize..9, 1..40),
        ) {
            let text = lines.concat();
            let mut chunks = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            chunks.push(rest);
            prop_assert_eq!(read(chunks), read([text.as_bytes()]));
        }
    }
}
