//! Where the events of a stream end (WHATWG HTML, section 9.2): at an empty line, lines ending in CR, LF or both.

/// Follows a stream of events over its chunks.
pub(super) struct EventEnds {
    /// Nothing stands in the line so far.
    line_is_empty: bool,
    /// The last byte was a CR: a LF that follows ends no other line.
    after_cr: bool,
    /// That CR ended an event.
    over: bool,
}

impl Default for EventEnds {
    fn default() -> Self {
        // What is empty from the start ends no event, but nothing is lost by taking it for one.
        Self { line_is_empty: true, after_cr: false, over: false }
    }
}

impl EventEnds {
    /// Takes the next chunk. Says where in it what follows the last event's end begins.
    pub(super) fn last_in(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut last = None;
        for (at, byte) in chunk.iter().enumerate() {
            match byte {
                b'\n' if self.after_cr => {
                    self.after_cr = false;
                    if self.over {
                        last = Some(at + 1);
                    }
                }
                b'\r' | b'\n' => {
                    self.after_cr = *byte == b'\r';
                    self.over = self.line_is_empty;
                    self.line_is_empty = true;
                    if self.over {
                        last = Some(at + 1);
                    }
                }
                _ => (self.line_is_empty, self.after_cr) = (false, false),
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_ends_an_event_however_lines_end() {
        for (text, end) in [
            ("data: a\n\nb", 9),
            ("data: a\r\rb", 9),
            ("data: a\r\n\r\nb", 11),
            ("data: a\n\r\nb", 10),
            ("data: a\r\n\nb", 10),
            ("data: a\n\ndata: b\n\n", 18),
        ] {
            assert_eq!(EventEnds::default().last_in(text.as_bytes()), Some(end), "{text:?}");
            // Byte by byte the same end is the last that is seen.
            let mut ends = EventEnds::default();
            let seen =
                (0..text.len()).filter(|at| ends.last_in(&text.as_bytes()[*at..=*at]).is_some()).last();
            assert_eq!(seen, Some(end - 1), "{text:?}");
        }
        for text in ["data: a\n", "data: a\r\ndata: b\r\n", "a"] {
            assert_eq!(EventEnds::default().last_in(text.as_bytes()), None, "{text:?}");
        }
    }
}
