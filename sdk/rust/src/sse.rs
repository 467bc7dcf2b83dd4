//! Server-sent events, as model streams use them (WHATWG HTML, section 9.2.6).

/// One event: its `event:` field, empty when there was none, and its `data:` lines joined by newlines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's type; empty means the default, `message`.
    pub name: String,
    /// The payload.
    pub data: String,
}

/// An incremental parser: bytes in as they arrive, whole events out.
///
/// Lines end in LF, CRLF or CR; comments, `id:` and `retry:` are skipped; an event that the stream's end cuts off
/// is dropped, as the standard wants, so what comes out is never half of what was sent.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    name: String,
    data: Option<String>,
    /// The last byte was a CR that ended a line: a LF right after it belongs to it.
    after_cr: bool,
    past_first_line: bool,
}

impl Parser {
    /// Takes the next bytes of the stream and returns the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            let lf_of_crlf = byte == b'\n' && std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if lf_of_crlf => {}
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    events.extend(self.end_line());
                }
                _ => {
                    self.after_cr = false;
                    self.line.push(byte);
                }
            }
        }
        events
    }

    fn end_line(&mut self) -> Option<Event> {
        let bytes = std::mem::take(&mut self.line);
        // Lines are cut at ASCII bytes, so a character is never split here, whatever the chunks were.
        let text = String::from_utf8_lossy(&bytes);
        let first = !std::mem::replace(&mut self.past_first_line, true);
        let line = if first { text.strip_prefix('\u{feff}').unwrap_or(&text) } else { &text };
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return self.data.take().map(|data| Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (field, &mut self.data) {
            ("event", _) => value.clone_into(&mut self.name),
            ("data", Some(data)) => {
                data.push('\n');
                data.push_str(value);
            }
            ("data", None) => self.data = Some(value.to_owned()),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(stream: &[u8]) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        parser.push(stream).into_iter().map(|event| (event.name, event.data)).collect()
    }

    fn pairs(events: &[(&str, &str)]) -> Vec<(String, String)> {
        events.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect()
    }

    #[test]
    fn every_form_of_line_and_field_is_read() {
        for (stream, expected) in [
            ("data: a\n\ndata: b\n\n", &[("", "a"), ("", "b")][..]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", &[("", "a"), ("", "b")]),
            ("data: a\r\rdata: b\r\r", &[("", "a"), ("", "b")]),
            ("data:a\n\n", &[("", "a")]),
            ("data:  a\n\n", &[("", " a")]),
            ("data: a\ndata: b\ndata\n\n", &[("", "a\nb\n")]),
            ("event: ping\ndata: {}\n\n", &[("ping", "{}")]),
            (": keep-alive\n\nid: 1\nretry: 5\ndata: a\n\n", &[("", "a")]),
            // An event without data is not dispatched, and its name does not leak into the next one.
            ("event: ping\n\ndata: a\n\n", &[("", "a")]),
            ("data\n\n", &[("", "")]),
            ("\u{feff}data: a\n\n", &[("", "a")]),
            ("data: \u{feff}a\n\n", &[("", "\u{feff}a")]),
            ("databases: a\nDATA: b\n\n", &[]),
            ("data: cut off", &[]),
            ("data: cut off\n", &[]),
            ("data: a: b\n\n", &[("", "a: b")]),
        ] {
            assert_eq!(parse(stream.as_bytes()), pairs(expected), "{stream:?}");
        }
    }

    #[test]
    fn chunks_may_be_cut_anywhere() {
        let stream = "event: delta\r\ndata: {\"text\":\"größe 🦀\"}\r\n\r\n: ping\r\rdata: b\ndata: c\r\n\ndata: [DONE]\n\n".as_bytes();
        let whole = parse(stream);
        assert_eq!(whole, pairs(&[("delta", "{\"text\":\"größe 🦀\"}"), ("", "b\nc"), ("", "[DONE]")]));
        for cut in 0..=stream.len() {
            let mut parser = Parser::default();
            let mut events = parser.push(&stream[..cut]);
            events.extend(parser.push(&stream[cut..]));
            let events: Vec<_> = events.into_iter().map(|event| (event.name, event.data)).collect();
            assert_eq!(events, whole, "cut at byte {cut}");
        }
        let mut parser = Parser::default();
        let bytewise: usize = stream.iter().map(|byte| parser.push(&[*byte]).len()).sum();
        assert_eq!(bytewise, 3);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        assert_eq!(parse(b"data: a\xffb\n\n"), pairs(&[("", "a\u{fffd}b")]));
    }
}
