//! Finding a secret in what a host answers, in any spelling and over any chunking, and taking it out.
//!
//! A secret has a few *forms*: itself, its hex digits, its base64 at each of the three alignments that it can have
//! inside longer data. Each character of a form may be written as itself, percent-encoded, or JSON-escaped, in any
//! mixture, because encoders differ in which characters they escape. A match is decided by walking a form and the text
//! side by side, so memory stays a small multiple of the secret, nothing is precomputed from it that could not be
//! wiped, and text is held back only while its end really is the beginning of a form.

use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

/// What stands where a secret stood. Legal inside headers, JSON strings and event-stream lines.
pub const SCRUBBED: &str = "[secret removed by orch]";

/// A shorter secret would turn up by chance, and removing it would tell the guest that it did.
const SHORTEST: usize = 16;

/// Finds one secret. Not `Debug`, and wiped when dropped.
pub struct Scrubber {
    forms: Vec<Form>,
    /// The value in lower case.
    folded: Zeroizing<Vec<u8>>,
    /// No text of fewer bytes holds a form.
    shortest: usize,
    /// Whether a byte can begin a form. Most text is passed over by this alone.
    begins: [bool; 256],
    /// The bytes that can, a handful.
    beginnings: Vec<u8>,
}

/// Bytes that are looked at together for the beginning of a form.
const BLOCK: usize = 32;

impl Scrubber {
    /// For a value of at least 16 bytes; `None` for a shorter one.
    #[must_use]
    pub fn new(value: &[u8]) -> Option<Self> {
        if value.len() < SHORTEST {
            return None;
        }
        let mut forms = vec![
            Form { text: Zeroizing::new(value.to_vec()), fold: Fold::Exact },
            Form {
                text: Zeroizing::new(data_encoding::HEXLOWER.encode(value).into_bytes()),
                fold: Fold::Case,
            },
        ];
        forms.extend((0..3).map(|before| Form { text: base64_at(value, before), fold: Fold::Base64 }));
        // JSON escapes characters, not bytes: beyond ASCII that is another text.
        if let Ok(text) = std::str::from_utf8(value)
            && !text.is_ascii()
        {
            forms.push(Form { text: json_ascii(text), fold: Fold::Case });
        }
        let mut begins = [false; 256];
        for byte in 0..=u8::MAX {
            begins[usize::from(byte)] =
                matches!(byte, b'%' | b'\\') || forms.iter().any(|form| form.accepts_plain(0, byte));
        }
        let beginnings = (0..=u8::MAX).filter(|byte| begins[usize::from(*byte)]).collect();
        let shortest = forms.iter().map(|form| form.text.len()).min().unwrap_or_default();
        let folded = Zeroizing::new(value.to_ascii_lowercase());
        Some(Self { forms, folded, shortest, begins, beginnings })
    }

    /// The text without the secret; `None` when it is not in there.
    #[must_use]
    pub fn clean(&self, text: &[u8]) -> Option<Vec<u8>> {
        // A character of a form takes a byte at least.
        if text.len() < self.shortest {
            return None;
        }
        let mut out = Zeroizing::new(Vec::new());
        let scan = self.scan(text, true, &mut out);
        scan.found.then(|| {
            out.extend_from_slice(&text[scan.copied..]);
            std::mem::take(&mut *out)
        })
    }

    /// Whether the secret is in `text` once both are in lower case: HTTP field names arrive folded.
    pub(crate) fn holds_folded(&self, text: &[u8]) -> bool {
        self.clean(text).is_some() || text.windows(self.folded.len()).any(|window| window == &self.folded[..])
    }

    /// Whether it is for the same value.
    pub(crate) fn finds_the_same(&self, other: &Self) -> bool {
        self.forms.first().map(|form| &form.text) == other.forms.first().map(|form| &form.text)
    }

    /// Where the first byte is that can begin a form.
    fn beginning(&self, text: &[u8]) -> Option<usize> {
        let begins = |byte: &u8| self.begins[usize::from(*byte)];
        let mut blocks = text.chunks_exact(BLOCK);
        for (index, block) in blocks.by_ref().enumerate() {
            // Without a branch inside, so that the compiler compares a whole block at once.
            let mut found = [false; BLOCK];
            for beginning in &self.beginnings {
                for (found, byte) in found.iter_mut().zip(block) {
                    *found |= byte == beginning;
                }
            }
            if found != [false; BLOCK] {
                return block.iter().position(begins).map(|at| index * BLOCK + at);
            }
        }
        let rest = blocks.remainder();
        rest.iter().position(begins).map(|at| text.len() - rest.len() + at)
    }

    /// Looks through `text` and writes what may go on to `out`, but only once something has to be taken out: as long
    /// as nothing was found, `text[..safe]` may go on as it is.
    fn scan(&self, text: &[u8], at_end: bool, out: &mut Vec<u8>) -> Scan {
        let mut scan = Scan { found: false, copied: 0, safe: text.len() };
        let mut at = 0;
        while let Some(step) = self.beginning(&text[at..]) {
            at += step;
            match self.match_at(&text[at..]) {
                Match::Whole(length) => {
                    out.extend_from_slice(&text[scan.copied..at]);
                    out.extend_from_slice(SCRUBBED.as_bytes());
                    at += length;
                    scan.found = true;
                    scan.copied = at;
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
    /// Up to here the text was copied or replaced; nothing was copied while nothing was found.
    copied: usize,
    /// From here on the text may be the beginning of a form.
    safe: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    /// The text begins with a form of this many bytes.
    Whole(usize),
    /// The text ended inside what may become a form.
    Begun,
    No,
}

/// Which bytes count as the same.
#[derive(Clone, Copy)]
enum Fold {
    Exact,
    /// Letters in either case: the digits of hex.
    Case,
    /// The two alphabets of base64.
    Base64,
}

struct Form {
    text: Zeroizing<Vec<u8>>,
    fold: Fold,
}

impl Form {
    fn accepts(&self, index: usize, byte: u8) -> bool {
        let folded = match self.fold {
            Fold::Exact => byte,
            Fold::Case => byte.to_ascii_lowercase(),
            Fold::Base64 => match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => other,
            },
        };
        self.text[index] == folded
    }

    /// As itself; a space also as plus, as form encoding writes it.
    fn accepts_plain(&self, index: usize, byte: u8) -> bool {
        self.accepts(index, byte) || (byte == b'+' && self.accepts(index, b' '))
    }

    fn match_at(&self, text: &[u8]) -> Match {
        let mut at = 0;
        for index in 0..self.text.len() {
            match text.get(at) {
                None => return Match::Begun,
                // Both the escape and the character itself may fit here: walk on with all possibilities.
                Some(b'%' | b'\\') => return self.match_escaped(text, index, at),
                Some(byte) if self.accepts_plain(index, *byte) => at += 1,
                Some(_) => return Match::No,
            }
        }
        Match::Whole(at)
    }

    fn match_escaped(&self, text: &[u8], from: usize, at: usize) -> Match {
        // Nearly every escape in a text has nothing to do with the secret.
        if !self.accepts(from, text[at]) {
            let mut begun = false;
            let fits = escapes(&text[at..]).any(|escape| match escape {
                Escape::Byte(byte, _) => self.accepts(from, byte),
                Escape::Begun => std::mem::replace(&mut begun, true),
                Escape::No => false,
            });
            if !fits {
                return if begun { Match::Begun } else { Match::No };
            }
        }
        // Positions in `text` at which the next character of the form could begin. Only a secret full of percent signs
        // or backslashes makes it more than two.
        let mut now = vec![at];
        let mut next = Vec::with_capacity(2);
        let mut begun = false;
        for index in from..self.text.len() {
            for at in now.drain(..) {
                let Some(&byte) = text.get(at) else {
                    begun = true;
                    continue;
                };
                if self.accepts_plain(index, byte) {
                    next.push(at + 1);
                }
                for escape in escapes(&text[at..]) {
                    match escape {
                        Escape::Byte(byte, length) if self.accepts(index, byte) => next.push(at + length),
                        Escape::Begun => begun = true,
                        Escape::Byte(..) | Escape::No => {}
                    }
                }
            }
            next.sort_unstable();
            next.dedup();
            std::mem::swap(&mut now, &mut next);
            if now.is_empty() {
                return if begun { Match::Begun } else { Match::No };
            }
        }
        // The longest way to read it leaves the least behind.
        now.last().map_or(Match::No, |end| Match::Whole(*end))
    }
}

enum Escape {
    /// This byte, written in so many.
    Byte(u8, usize),
    Begun,
    No,
}

/// How often a percent sign may be encoded again. A URL in the query of a URL makes it once, as in redirects to a page
/// that leads back.
const ENCODED_AGAIN: usize = 2;

/// Each byte that a text's leading escape can stand for: `%252F` is a percent sign, and a slash that was encoded twice.
fn escapes(text: &[u8]) -> impl Iterator<Item = Escape> {
    let again = |escape: &Escape| match *escape {
        Escape::Byte(b'%', length) => Some(hex_digits(text, length)),
        _ => None,
    };
    std::iter::successors(Some(unescape(text)), again).take(1 + ENCODED_AGAIN)
}

/// The byte that two hex digits from `at` on stand for.
fn hex_digits(text: &[u8], at: usize) -> Escape {
    let mut value = 0u8;
    for index in at..at + 2 {
        let Some(byte) = text.get(index) else { return Escape::Begun };
        let Some(digit) = char::from(*byte).to_digit(16) else { return Escape::No };
        // A hex digit is below 16.
        value = value << 4 | digit as u8;
    }
    Escape::Byte(value, at + 2)
}

/// Reads one percent-encoding (RFC 3986) or JSON escape (RFC 8259) of a byte.
fn unescape(text: &[u8]) -> Escape {
    match text {
        [b'%', ..] => hex_digits(text, 1),
        [b'\\', b'u' | b'U', rest @ ..] => match rest {
            [b'0', b'0', ..] => hex_digits(text, 4),
            [] | [b'0'] => Escape::Begun,
            _ => Escape::No,
        },
        [b'\\', escaped, ..] => {
            let byte = match escaped {
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'"' | b'\\' | b'/' | b'\'' => *escaped,
                _ => return Escape::No,
            };
            Escape::Byte(byte, 2)
        }
        [b'\\'] => Escape::Begun,
        _ => Escape::No,
    }
}

/// The base64 digits that depend on nothing but `value` when `before` other bytes stand in front of it in the same
/// group of three.
fn base64_at(value: &[u8], before: usize) -> Zeroizing<Vec<u8>> {
    let mut padded = Zeroizing::new(vec![0u8; before]);
    padded.extend_from_slice(value);
    let digits = Zeroizing::new(data_encoding::BASE64_NOPAD.encode(&padded).into_bytes());
    let first = (before * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    Zeroizing::new(digits[first..end].to_vec())
}

/// As a JSON encoder that keeps to ASCII writes it, in lower case.
fn json_ascii(text: &str) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(String::new());
    let mut units = [0; 2];
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c.to_ascii_lowercase());
        } else {
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Zeroizing::new(out.as_bytes().to_vec())
}

/// A stream of chunks on its way through one or more scrubbers.
pub(crate) struct ScrubStream {
    stages: Vec<Stage>,
}

struct Stage {
    scrubber: Arc<Scrubber>,
    /// The end of what was pushed, while it may be the beginning of a form.
    held: Zeroizing<Vec<u8>>,
}

impl ScrubStream {
    pub(crate) fn new(scrubbers: &[Arc<Scrubber>]) -> Self {
        let stage = |scrubber: &Arc<Scrubber>| Stage {
            scrubber: Arc::clone(scrubber),
            held: Zeroizing::new(Vec::new()),
        };
        Self { stages: scrubbers.iter().map(stage).collect() }
    }

    /// What may go on now that `chunk` has arrived; may be empty.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Bytes {
        self.stages.iter_mut().fold(chunk, |chunk, stage| stage.push(&chunk, false))
    }

    /// What is left at the end.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.stages.iter_mut().fold(Bytes::new(), |chunk, stage| stage.push(&chunk, true))
    }
}

impl Stage {
    fn push(&mut self, chunk: &Bytes, at_end: bool) -> Bytes {
        let mut joined = Zeroizing::new(std::mem::take(&mut *self.held));
        let text: &[u8] = if joined.is_empty() {
            chunk
        } else {
            joined.extend_from_slice(chunk);
            &joined
        };
        let mut out = Vec::new();
        let scan = self.scrubber.scan(text, at_end, &mut out);
        if scan.safe < text.len() {
            self.held = Zeroizing::new(text[scan.safe..].to_vec());
        }
        if scan.found {
            out.extend_from_slice(&text[scan.copied..scan.safe]);
            Bytes::from(out)
        } else if joined.is_empty() {
            chunk.slice(..scan.safe)
        } else {
            Bytes::copy_from_slice(&joined[..scan.safe])
        }
    }
}

#[cfg(test)]
mod tests;
