//! The spellings of one secret, and whether a text begins with one.

use zeroize::Zeroizing;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
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

/// A secret in one encoding, whose characters may each be escaped.
pub(super) struct Form {
    pub(super) text: Zeroizing<Vec<u8>>,
    fold: Fold,
}

impl Form {
    /// Every form of `value` that is looked for, itself first.
    pub(super) fn all_of(value: &[u8]) -> Vec<Self> {
        let hex = Zeroizing::new(data_encoding::HEXLOWER.encode(value).into_bytes());
        let mut forms = vec![
            Self { text: Zeroizing::new(value.to_vec()), fold: Fold::Exact },
            Self { text: hex, fold: Fold::Case },
        ];
        forms.extend((0..3).map(|before| Self { text: base64_at(value, before), fold: Fold::Base64 }));
        // JSON escapes characters, not bytes: beyond ASCII that is another text.
        if let Ok(text) = std::str::from_utf8(value)
            && !text.is_ascii()
        {
            forms.push(Self { text: json_ascii(text), fold: Fold::Case });
        }
        forms
    }

    /// Whether `byte` stands for the character at `index`, once nothing about it is escaped.
    pub(super) fn accepts(&self, index: usize, byte: u8) -> bool {
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
    pub(super) fn accepts_plain(&self, index: usize, byte: u8) -> bool {
        self.accepts(index, byte) || (byte == b'+' && self.accepts(index, b' '))
    }

    /// The bytes that stand for the character at `index` as themselves, in order; with a few more that
    /// [`Form::accepts_plain`] is to refuse.
    fn near(&self, index: usize) -> [u8; 6] {
        let character = self.text[index];
        let mut near = [
            character,
            character.to_ascii_uppercase(),
            character.to_ascii_lowercase(),
            // The second alphabet of base64, and what a space is in a form.
            b'-',
            b'_',
            b'+',
        ];
        near.sort_unstable();
        near
    }

    /// The bytes that [`Form::accepts_plain`] takes at `index`, in order; some twice.
    pub(super) fn plain(&self, index: usize) -> impl Iterator<Item = u8> {
        self.near(index).into_iter().filter(move |byte| self.accepts_plain(index, *byte))
    }

    /// The bytes that [`Form::accepts`] takes at `index`, in order; some twice.
    pub(super) fn bytes(&self, index: usize) -> impl Iterator<Item = u8> {
        self.near(index).into_iter().filter(move |byte| self.accepts(index, *byte))
    }

    pub(super) fn match_at(&self, text: &[u8]) -> Match {
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

pub(super) enum Escape {
    /// This byte, written in so many.
    Byte(u8, usize),
    Begun,
    No,
}

/// What can follow a backslash in an escape, as [`unescape`] reads it.
pub(super) const ESCAPED: [u8; 11] = *b"bfnrt\"\\/'uU";

/// How often a percent sign may be encoded again. A URL in the query of a URL makes it once, as in redirects to a page
/// that leads back.
const ENCODED_AGAIN: usize = 2;

/// Each byte that a text's leading escape can stand for: `%252F` is a percent sign, and a slash that was encoded twice.
pub(super) fn escapes(text: &[u8]) -> impl Iterator<Item = Escape> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_a_character_is_all_that_stands_for_it() {
        for value in [
            &b"sk-Key_With+All/Kinds %of bytes"[..],
            "schlüssel-Ü-0123456789".as_bytes(),
            &[0, 255, b'-', b'_', 17],
        ] {
            for form in Form::all_of(value) {
                for index in 0..form.text.len() {
                    let of = |accepts: &dyn Fn(u8) -> bool| {
                        (0..=u8::MAX).filter(|byte| accepts(*byte)).collect::<Vec<_>>()
                    };
                    let distinct = |mut bytes: Vec<u8>| {
                        bytes.dedup();
                        bytes
                    };
                    let plain = distinct(form.plain(index).collect());
                    assert_eq!(plain, of(&|byte| form.accepts_plain(index, byte)), "{:?} {index}", form.text);
                    let bytes = distinct(form.bytes(index).collect());
                    assert_eq!(bytes, of(&|byte| form.accepts(index, byte)), "{:?} {index}", form.text);
                }
            }
        }
    }

    #[test]
    fn what_may_follow_a_backslash_is_listed() {
        let follows = |byte: &u8| !matches!(unescape(&[b'\\', *byte]), Escape::No);
        let mut listed = ESCAPED.to_vec();
        listed.sort_unstable();
        assert_eq!((0..=u8::MAX).filter(follows).collect::<Vec<_>>(), listed);
    }
}
