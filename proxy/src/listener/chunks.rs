//! Where a chunked body ends (RFC 9112, section 7.1). The parser behind this decodes it; this only follows, strictly.

/// Bytes that one size line may have, its extensions included.
const MAX_LINE: usize = 256;
/// Bytes that the trailer section may have.
const MAX_TRAILERS: usize = 16 << 10;

/// Follows a chunked body byte by byte.
#[derive(Debug)]
pub(crate) struct Chunks {
    at: At,
    /// Bytes of the line, or of the trailer section, so far.
    line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataReturn,
    DataEnd,
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastEnd,
    Over,
}

/// The body is not well-formed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl Chunks {
    pub(crate) fn new() -> Self {
        Self { at: SIZE, line: 0 }
    }

    /// Whether the body is over.
    pub(crate) fn over(&self) -> bool {
        self.at == At::Over
    }

    /// Follows what comes next, and says how many of these bytes belong to the body.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut taken = 0;
        while taken < bytes.len() && !self.over() {
            if let At::Data { left } = self.at {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - taken);
                taken += here;
                let left = left - here as u64;
                self.at = if left == 0 { At::DataReturn } else { At::Data { left } };
                continue;
            }
            self.step(bytes[taken])?;
            taken += 1;
        }
        Ok(taken)
    }

    fn step(&mut self, byte: u8) -> Result<(), Broken> {
        self.line += 1;
        let (at, most) = match self.at {
            At::Size { size, digits } => (after_digit(size, digits, byte)?, MAX_LINE),
            At::Extension { size } if byte == b'\r' => (At::SizeEnd { size }, MAX_LINE),
            At::Extension { size } if byte == b'\t' || (b' '..=b'~').contains(&byte) => {
                (At::Extension { size }, MAX_LINE)
            }
            At::SizeEnd { size } if byte == b'\n' => {
                self.line = 0;
                (if size == 0 { At::TrailerStart } else { At::Data { left: size } }, MAX_LINE)
            }
            At::DataReturn if byte == b'\r' => (At::DataEnd, MAX_LINE),
            At::DataEnd if byte == b'\n' => {
                self.line = 0;
                (SIZE, MAX_LINE)
            }
            At::TrailerStart if byte == b'\r' => (At::LastEnd, MAX_TRAILERS),
            At::TrailerStart if matches!(byte, b' ' | b'\t') => return Err(Broken),
            At::TrailerStart | At::Trailer if byte == b'\r' => (At::TrailerEnd, MAX_TRAILERS),
            At::TrailerStart | At::Trailer if byte == b'\n' || byte == 0 => return Err(Broken),
            At::TrailerStart | At::Trailer => (At::Trailer, MAX_TRAILERS),
            At::TrailerEnd if byte == b'\n' => (At::TrailerStart, MAX_TRAILERS),
            At::LastEnd if byte == b'\n' => (At::Over, MAX_TRAILERS),
            _ => return Err(Broken),
        };
        if self.line > most {
            return Err(Broken);
        }
        self.at = at;
        Ok(())
    }
}

const SIZE: At = At::Size { size: 0, digits: 0 };

fn after_digit(size: u64, digits: u8, byte: u8) -> Result<At, Broken> {
    match (byte, char::from(byte).to_digit(16)) {
        // Sixteen digits would be read as a negative number by somebody.
        (_, Some(digit)) if digits < 15 => {
            Ok(At::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
        }
        (b'\r', _) if digits > 0 => Ok(At::SizeEnd { size }),
        (b';', _) if digits > 0 => Ok(At::Extension { size }),
        _ => Err(Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(body: &[u8], step: usize) -> Result<Option<usize>, Broken> {
        let (mut chunks, mut at) = (Chunks::new(), 0);
        for piece in body.chunks(step) {
            at += chunks.follow(piece)?;
        }
        Ok(chunks.over().then_some(at))
    }

    #[test]
    fn the_end_is_found_however_the_body_is_split() {
        for body in [
            &b"0\r\n\r\n"[..],
            b"5\r\nhello\r\n0\r\n\r\n",
            b"5;name=\"value\"\r\nhello\r\n000A\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            b"3\r\n\r\n0\r\n0\r\nA: b\r\nC: d\r\n\r\n",
        ] {
            let followed = [body, b"GET http://b/ HTTP/1.1\r\n"].concat();
            for step in 1..followed.len() {
                assert_eq!(end(&followed, step), Ok(Some(body.len())), "{step}");
            }
            assert_eq!(end(&body[..body.len() - 1], 1), Ok(None));
        }
    }

    #[test]
    fn what_parsers_disagree_about_is_broken() {
        for body in [
            &b"\r\n"[..],
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"+5\r\n",
            b"-1\r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5;a\nb\r\nhello",
            b"0000000000000000\r\n",
            b"0\r\n X: folded\r\n\r\n",
            b"0\r\nX: y\n\r\n",
        ] {
            assert_eq!(end(body, 1), Err(Broken), "{:?}", String::from_utf8_lossy(body));
        }
        let long = [b"1;".as_slice(), &[b'x'; 300]].concat();
        assert_eq!(end(&long, 7), Err(Broken));
        let trailers = [b"0\r\n".as_slice(), &b"X: y\r\n".repeat(3000)].concat();
        assert_eq!(end(&trailers, 1000), Err(Broken));
    }
}
