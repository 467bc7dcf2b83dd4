//! Finding a secret in what a host answers, in any spelling and over any chunking, and taking it out.
//!
//! A secret has a few *forms*: itself, its hex digits, its base64 at each of the three alignments that it can have
//! inside longer data. Each character of a form may be written as itself, percent-encoded, or JSON-escaped, in any
//! mixture, because encoders differ in which characters they escape. A match is decided by walking a form and the text
//! side by side, so memory stays a small multiple of the secret, nothing is precomputed from it that could not be
//! wiped, and text is held back only while its end really is the beginning of a form.

mod event;
mod form;
mod search;
mod sought;

use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use event::EventEnds;
use form::{Form, Match};
use search::Search;

pub use sought::Sought;

/// What stands where a secret stood. Legal inside headers, JSON strings and event-stream lines.
pub const SCRUBBED: &str = "[secret removed by orch]";

/// A shorter secret would turn up by chance, and removing it would tell the guest that it did.
const SHORTEST: usize = 16;

/// Finds one secret. Not `Debug`, and wiped when dropped, but for the first few characters of each form, which speed the
/// search up.
pub struct Scrubber {
    forms: Vec<Form>,
    /// The value in lower case.
    folded: Zeroizing<Vec<u8>>,
    /// No text of fewer bytes holds a form.
    shortest: usize,
    /// Whether a form may go over the end of a line.
    spans_lines: bool,
    search: Search,
}

impl Scrubber {
    /// For a value of at least 16 bytes; `None` for a shorter one.
    #[must_use]
    pub fn new(value: &[u8]) -> Option<Self> {
        if value.len() < SHORTEST {
            return None;
        }
        let forms = Form::all_of(value);
        let shortest = forms.iter().map(|form| form.text.len()).min().unwrap_or_default();
        let folded = Zeroizing::new(value.to_ascii_lowercase());
        let spans_lines = value.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
        let search = Search::new(&forms);
        Some(Self { forms, folded, shortest, spans_lines, search })
    }

    /// The text without the secret; `None` when it is not in there.
    #[must_use]
    pub fn clean(&self, text: &[u8]) -> Option<Vec<u8>> {
        // A character of a form takes a byte at least.
        if text.len() < self.shortest {
            return None;
        }
        let mut out = Zeroizing::new(Vec::new());
        let scan = self.scan(text, 0, true, &mut out);
        scan.found.then(|| {
            out.extend_from_slice(&text[scan.copied..]);
            std::mem::take(&mut *out)
        })
    }

    /// Whether it is not in `text`, and `text` does not end in what may be its beginning either.
    fn lets_through(&self, text: &[u8]) -> bool {
        let scan = self.scan(text, 0, false, &mut Vec::new());
        !scan.found && scan.safe == text.len()
    }

    /// Whether the secret is in `text` once both are in lower case: HTTP field names arrive folded.
    pub(crate) fn holds_folded(&self, text: &[u8]) -> bool {
        self.clean(text).is_some() || text.windows(self.folded.len()).any(|window| window == &self.folded[..])
    }

    /// Whether it is for the same value.
    pub(crate) fn finds_the_same(&self, other: &Self) -> bool {
        self.forms.first().map(|form| &form.text) == other.forms.first().map(|form| &form.text)
    }

    /// Looks through `text`, whose first `sent` bytes went on before, and writes what may go on to `out`, but only once
    /// something has to be taken out: as long as nothing was found, `text[sent..safe]` may go on as it is.
    fn scan(&self, text: &[u8], sent: usize, at_end: bool, out: &mut Vec<u8>) -> Scan {
        let mut scan = Scan { found: false, copied: sent, safe: text.len() };
        let mut candidates = self.search.candidates(text);
        let mut at = 0;
        while let Some(next) = candidates.next_from(at) {
            at = next;
            match self.match_at(&text[at..]) {
                Match::Whole(length) => {
                    // Of a form whose beginning was sent only the rest is there to be replaced.
                    out.extend_from_slice(text.get(scan.copied..at).unwrap_or_default());
                    out.extend_from_slice(SCRUBBED.as_bytes());
                    at += length;
                    scan.found = true;
                    scan.copied = at.max(scan.copied);
                }
                Match::Begun if !at_end => {
                    scan.safe = at;
                    return scan;
                }
                Match::Begun | Match::No => at += 1,
            }
        }
        scan
    }

    fn match_at(&self, text: &[u8]) -> Match {
        let mut begun = false;
        for form in &self.forms {
            match form.match_at(text) {
                Match::Whole(length) => return Match::Whole(length),
                Match::Begun => begun = true,
                Match::No => {}
            }
        }
        if begun { Match::Begun } else { Match::No }
    }
}

struct Scan {
    found: bool,
    /// Up to here the text was sent before, copied or replaced; nothing was copied while nothing was found.
    copied: usize,
    /// From here on the text may be the beginning of a form.
    safe: usize,
}

/// A stream of chunks on its way through one or more scrubbers.
pub struct ScrubStream {
    stages: Vec<Stage>,
}

struct Stage {
    scrubber: Arc<Scrubber>,
    /// The end of what was pushed, while it may be the beginning of a form.
    held: Zeroizing<Vec<u8>>,
    /// So much of that went on all the same.
    sent: usize,
    /// Where events end, for a secret that could hold one back.
    events: Option<EventEnds>,
}

impl ScrubStream {
    /// In a stream of `events` nothing is held back once an event is over, so a secret with an empty line in it is not
    /// found across two of them; else only the beginning of a form is held back, and no longer than it is one.
    #[must_use]
    pub fn new(scrubbers: &[Arc<Scrubber>], events: bool) -> Self {
        let stage = |scrubber: &Arc<Scrubber>| Stage {
            scrubber: Arc::clone(scrubber),
            held: Zeroizing::new(Vec::new()),
            sent: 0,
            // Without an end of line in it, no form goes on behind one.
            events: (events && scrubber.spans_lines).then(EventEnds::default),
        };
        Self { stages: scrubbers.iter().map(stage).collect() }
    }

    /// What may go on now that `chunk` has arrived; may be empty.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        self.stages.iter_mut().fold(chunk, |chunk, stage| stage.push(&chunk))
    }

    /// What is held back, if it is no more than `most` bytes. It goes on ahead of what decides about it, and is kept in
    /// mind: should a secret begin with it, then the rest of that one is replaced.
    pub fn release(&mut self, most: usize) -> Bytes {
        self.stages.iter_mut().fold(Bytes::new(), |chunk, stage| {
            let before = stage.push(&chunk);
            let released = stage.release(most);
            if released.is_empty() { before } else { [&before, released].concat().into() }
        })
    }

    /// Bytes that may be the beginning of a secret, by the secret that has most of them.
    #[must_use]
    pub fn held(&self) -> usize {
        self.stages.iter().map(|stage| stage.held.len()).max().unwrap_or_default()
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> Bytes {
        self.stages.iter_mut().fold(Bytes::new(), |chunk, stage| stage.pass(&chunk, true))
    }
}

impl Stage {
    fn push(&mut self, chunk: &Bytes) -> Bytes {
        match self.events.as_mut().and_then(|events| events.last_in(chunk)) {
            None => self.pass(chunk, false),
            Some(end) => {
                let over = self.pass(&chunk.slice(..end), true);
                let rest = self.pass(&chunk.slice(end..), false);
                if rest.is_empty() { over } else { [over, rest].concat().into() }
            }
        }
    }

    /// Lets through what holds no form and is not the beginning of one; `at_end` no text follows that could complete it.
    fn pass(&mut self, chunk: &Bytes, at_end: bool) -> Bytes {
        let mut joined = Zeroizing::new(std::mem::take(&mut *self.held));
        let text: &[u8] = if joined.is_empty() {
            chunk
        } else {
            joined.extend_from_slice(chunk);
            &joined
        };
        let mut out = Vec::new();
        let sent = std::mem::take(&mut self.sent);
        let scan = self.scrubber.scan(text, sent, at_end, &mut out);
        if scan.safe < text.len() {
            self.held = Zeroizing::new(text[scan.safe..].to_vec());
            self.sent = sent.saturating_sub(scan.safe);
        }
        if scan.found {
            out.extend_from_slice(&text[scan.copied..scan.safe]);
            Bytes::from(out)
        } else if joined.is_empty() {
            chunk.slice(..scan.safe)
        } else {
            Bytes::copy_from_slice(joined.get(sent..scan.safe).unwrap_or_default())
        }
    }

    /// What is held and was not sent, which is sent herewith.
    fn release(&mut self, most: usize) -> &[u8] {
        if self.held.len() > most {
            return &[];
        }
        let sent = std::mem::replace(&mut self.sent, self.held.len());
        &self.held[sent..]
    }
}

#[cfg(test)]
mod tests;
