//! Server-sent events, as far as the contract uses them: id, event and data, with comments as signs of life.

use std::collections::VecDeque;
use std::time::Duration;

use http_body_util::BodyExt as _;
use orch_proxy::Body;

/// Longest event, in bytes: the last one holds the run's whole report.
const EVENT_LIMIT: usize = super::REPORT_LIMIT;
/// How long a stream may be silent. A server gives a sign of life every 15 s.
const SILENCE: Duration = Duration::from_secs(60);

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Where it stands in the stream, to go on from.
    pub(crate) id: Option<String>,
    /// What it is.
    pub(crate) kind: String,
    /// What it says.
    pub(crate) data: String,
}

/// Why a stream has no further event.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It broke off, and may be taken up where it did.
    Off(String),
    /// It holds what no stream of events does: the same would come again.
    Wrong(String),
}

/// Events as they arrive.
pub(crate) struct Events {
    body: Body,
    parser: Parser,
    ready: VecDeque<Event>,
}

impl Events {
    /// Reads the events of a response.
    pub(crate) fn new(body: Body) -> Self {
        Self { body, parser: Parser::default(), ready: VecDeque::new() }
    }

    /// The next event; none when the stream has ended. What was read stays when the future is dropped.
    ///
    /// # Errors
    /// Why the stream broke off.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Broken> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame())
                .await
                .map_err(|_| Broken::Off(format!("nothing came for {} s", SILENCE.as_secs())))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Broken::Off(error.to_string())),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.parser.push(bytes, &mut self.ready)?;
                    }
                }
            }
        }
    }
}

/// Cuts bytes into lines and lines into events (HTML, "Interpreting an event stream").
#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    /// Whether the last byte was a carriage return, so that a line feed behind it ends nothing more.
    after_return: bool,
    event: Event,
    has_data: bool,
}

impl Parser {
    fn push(&mut self, bytes: &[u8], into: &mut VecDeque<Event>) -> Result<(), Broken> {
        for &byte in bytes {
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    self.end_line(into);
                }
                _ => {
                    self.after_return = false;
                    self.line.push(byte);
                }
            }
        }
        if self.line.len() + self.event.data.len() > EVENT_LIMIT {
            return Err(Broken::Wrong(format!("an event of more than {} MiB", EVENT_LIMIT >> 20)));
        }
        Ok(())
    }

    fn end_line(&mut self, into: &mut VecDeque<Event>) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                into.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            // A comment, or a field that this client has no use for.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nid: 1\nevent: log\ndata: {\"text\":\"Grüße\"}\n\nid:2\r\nevent: end\r\ndata: a\r\ndata:b\r\n\r\nevent: x\n\nid: 3\ndata: cut";

    fn parse(pieces: &[&[u8]]) -> Vec<Event> {
        let (mut parser, mut ready) = (Parser::default(), VecDeque::new());
        for piece in pieces {
            parser.push(piece, &mut ready).expect("small");
        }
        ready.into()
    }

    fn event(id: &str, kind: &str, data: &str) -> Event {
        Event { id: Some(id.to_owned()), kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let expected = [event("1", "log", "{\"text\":\"Grüße\"}"), event("2", "end", "a\nb")];
        let bytes = STREAM.as_bytes();
        for cut in 0..=bytes.len() {
            assert_eq!(parse(&[&bytes[..cut], &bytes[cut..]]), expected, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(parse(&single), expected);
    }

    #[test]
    fn comments_and_half_events_are_no_events() {
        assert_eq!(parse(&[b": a sign of life\n\n:\n\n"]), []);
        assert_eq!(parse(&[b"data: not ended\n"]), []);
    }

    #[test]
    fn an_event_has_its_bounds_however_it_is_cut() {
        let piece = "x".repeat(EVENT_LIMIT / 4);
        for line in [format!("data: {piece}"), format!("data: {piece}\n")] {
            let (mut parser, mut ready) = (Parser::default(), VecDeque::new());
            let broken = (0..5).find_map(|_| parser.push(line.as_bytes(), &mut ready).err());
            assert!(matches!(broken, Some(Broken::Wrong(why)) if why.contains("64 MiB")));
        }
    }

    #[tokio::test]
    async fn a_stream_ends_or_says_why_it_broke() {
        let mut events = Events::new(orch_proxy::full("data: 1\n\ndata: 2\n\n"));
        assert_eq!(events.next().await.expect("read").expect("an event").data, "1");
        assert_eq!(events.next().await.expect("read").expect("an event").data, "2");
        assert_eq!(events.next().await.expect("read"), None);
    }
}
