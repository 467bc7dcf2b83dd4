//! Compressed answers, unpacked before they are searched for a secret.
//!
//! Injected requests ask for `identity`. Servers that keep files compressed answer as they are all the same. A piece of
//! at most [`PIECE`] bytes is made at a time, when somebody reads it, so memory is bounded by the window of the coding
//! (32 KiB, for Brotli 16 MiB, of which a run has so many at once) whatever the answer unpacks to.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use http::{HeaderMap, HeaderValue, header};

use crate::BodyError;

/// Bytes that are unpacked at once at most.
const PIECE: usize = 32 << 10;

/// The base-two logarithm of the largest window of DEFLATE (RFC 1951).
const WINDOW_BITS: u8 = 15;

/// How many times its size a body may unpack to, beyond [`FREE`] bytes. Logs and tables stay below 100; DEFLATE can
/// reach 1032, and only for what is made to.
const RATIO: u64 = 256;

/// Bytes that any body may unpack to.
const FREE: u64 = 1 << 20;

/// Members of gzip data beyond one for each [`MEMBER`] bytes that come out. Each costs a new state, and may be of 20 bytes
/// that unpack to nothing.
const MEMBERS: u64 = 64;

/// Bytes that a member unpacks to on average, beyond the first [`MEMBERS`].
const MEMBER: u64 = 1024;

/// How an answer is compressed (RFC 9110, section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Brotli,
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
        }
    }
}

/// The coding of a response that has to be searched; `None` when it is not compressed.
///
/// # Errors
/// One that cannot be undone, or more than one.
pub(crate) fn coding_of(headers: &HeaderMap) -> Result<Option<Coding>, String> {
    let refused = |how: &str| {
        Err(format!(
            "it compressed an answer that has to be searched for a secret {how}, although identity was asked for"
        ))
    };
    let mut coding = None;
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    for name in lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')) {
        let name = name.trim_ascii();
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if name.is_empty() || is("identity") {
            continue;
        }
        if coding.is_some() {
            return refused("twice");
        }
        coding = Some(if is("gzip") || is("x-gzip") {
            Coding::Gzip
        } else if is("deflate") {
            Coding::Deflate
        } else if is("br") {
            Coding::Brotli
        } else {
            return refused("in a way other than gzip, deflate and br");
        });
    }
    Ok(coding)
}

/// Takes out of a head, or changes, what was said about the compressed body.
pub(crate) fn describe_decoded(headers: &mut HeaderMap) {
    for name in [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::ACCEPT_RANGES] {
        headers.remove(name);
    }
    for name in ["content-md5", "content-digest", "digest"] {
        headers.remove(name);
    }
    // The same content in other bytes (RFC 9110, section 8.8.1).
    if let Some(tag) = headers.get_mut(header::ETAG)
        && tag.as_bytes().starts_with(b"\"")
    {
        match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
            Ok(weak) => *tag = weak,
            Err(_) => drop(headers.remove(header::ETAG)),
        }
    }
}

/// A body that is being unpacked.
pub(crate) struct Decoder {
    coding: Coding,
    engine: Engine,
    /// What came and was not unpacked yet.
    input: Bytes,
    /// The last piece was full: there may be more of it without more input.
    more: bool,
    /// The compressed data is over; of gzip another member may follow.
    ended: bool,
    taken: u64,
    made: u64,
    /// Members that came after the first.
    members: u64,
}

enum Engine {
    /// Nothing has come yet.
    None,
    Zlib(Box<Decompress>),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
}

/// What one call of an engine did.
struct Step {
    taken: usize,
    ended: bool,
}

impl Decoder {
    pub(crate) fn new(coding: Coding) -> Self {
        Self {
            coding,
            engine: Engine::None,
            input: Bytes::new(),
            more: false,
            ended: false,
            taken: 0,
            made: 0,
            members: 0,
        }
    }

    /// Takes what came. All that came before has to be unpacked.
    pub(crate) fn feed(&mut self, input: Bytes) {
        debug_assert!(self.input.is_empty(), "what came before would be lost");
        self.input = input;
    }

    /// The next piece; `None` when more has to come first.
    ///
    /// # Errors
    /// Data that breaks the coding, that goes on after its end, or that unpacks to too much.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        while !self.input.is_empty() || self.more {
            if self.ended {
                if self.coding != Coding::Gzip {
                    return Err(self.broken("goes on after its end"));
                }
                self.members += 1;
                if self.members > MEMBERS + self.made / MEMBER {
                    return Err(self.broken("is in too many small members"));
                }
                (self.engine, self.ended) = (Engine::None, false);
            }
            // Events come in pieces of a few hundred bytes, which need not hold on to a large one.
            let mut out = Vec::with_capacity(PIECE.min(1024 + 16 * self.input.len()));
            let Some(step) = self.step(&mut out) else { return Err(self.broken("is not valid")) };
            let stands_still = step.taken == 0 && out.is_empty() && !step.ended;
            if stands_still && !self.input.is_empty() {
                return Err(self.broken("is not valid"));
            }
            let _ = self.input.split_to(step.taken);
            self.taken += step.taken as u64;
            self.made += out.len() as u64;
            self.ended = step.ended;
            self.more = out.len() == out.capacity() && !step.ended;
            if self.made > FREE + RATIO * self.taken {
                return Err(self.broken("unpacks to more than 256 times its size"));
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
        Ok(None)
    }

    /// Whether what came was whole. A body of no bytes is.
    ///
    /// # Errors
    /// It was not.
    pub(crate) fn finish(&self) -> Result<(), BodyError> {
        if self.ended || (self.taken == 0 && self.input.is_empty()) {
            Ok(())
        } else {
            Err(self.broken("is not whole"))
        }
    }

    fn broken(&self, how: &str) -> BodyError {
        BodyError::Upstream(format!("its {} data {how}", self.coding.name()))
    }

    fn step(&mut self, out: &mut Vec<u8>) -> Option<Step> {
        if let (Engine::None, Some(first)) = (&self.engine, self.input.first()) {
            self.engine = Engine::new(self.coding, *first);
        }
        match &mut self.engine {
            Engine::None => Some(Step { taken: 0, ended: false }),
            Engine::Zlib(zlib) => {
                let before = zlib.total_in();
                let status = zlib.decompress_vec(&self.input, out, FlushDecompress::None).ok()?;
                // No more than there is.
                let taken = (zlib.total_in() - before) as usize;
                Some(Step { taken, ended: status == Status::StreamEnd })
            }
            Engine::Brotli(brotli) => {
                let (mut input_left, mut taken, mut made, mut total) = (self.input.len(), 0, 0, 0);
                out.resize(out.capacity(), 0);
                let mut room = out.len();
                let result = BrotliDecompressStream(
                    &mut input_left,
                    &mut taken,
                    &self.input,
                    &mut room,
                    &mut made,
                    out,
                    &mut total,
                    brotli,
                );
                out.truncate(made);
                match result {
                    BrotliResult::ResultFailure => None,
                    BrotliResult::ResultSuccess => Some(Step { taken, ended: true }),
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {
                        Some(Step { taken, ended: false })
                    }
                }
            }
        }
    }
}

impl Engine {
    /// For data of this coding that begins with `first`.
    fn new(coding: Coding, first: u8) -> Self {
        let zlib = |decompress| Self::Zlib(Box::new(decompress));
        match coding {
            Coding::Gzip => zlib(Decompress::new_gzip(WINDOW_BITS)),
            // Some servers leave out what RFC 9110 wants around it. No DEFLATE data begins as RFC 1950's header does,
            // with a method of 8, but for a stored block with odd padding, which nobody writes.
            Coding::Deflate => zlib(Decompress::new(first & 0x0f == 8)),
            Coding::Brotli => {
                let alloc = StandardAlloc::default;
                // No window of more than RFC 7932 has.
                Self::Brotli(Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())))
            }
        }
    }
}

#[cfg(test)]
mod tests;
