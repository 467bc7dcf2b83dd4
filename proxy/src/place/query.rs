//! A secret as the value of one parameter of the query.
//!
//! A query is read as forms write it (WHATWG URL, section 5.1): parameters stand between `&`, a name ends at the first
//! `=`. Names are compared once percent-decoded (RFC 3986, section 2.1); a plus may be itself or a space, because hosts
//! read it either way and both readings count as the name.

use std::ops::Range;

use bytes::Bytes;
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};

use crate::{AuthorizeError, Placeholder};

/// The longest path with query that `http` can hold.
const LONGEST: usize = u16::MAX as usize - 1;

/// Puts `value`, percent-encoded, where `placeholder` is the whole value of the one parameter called `name`.
///
/// All bytes but the unreserved ones (RFC 3986, section 2.3) are encoded, so a value can hold any byte and neither end
/// its parameter nor begin another. Path, other parameters and their order stay as they are, byte for byte.
///
/// # Errors
/// [`AuthorizeError::NotThere`] when no parameter has that name, or its value is anything but the placeholder;
/// [`AuthorizeError::Repeated`] when several have it; [`AuthorizeError::BadValue`] when the value is empty or too long.
/// The parts are then unchanged.
pub fn swap_in_query(
    parts: &mut Parts,
    name: &str,
    placeholder: &Placeholder,
    value: &[u8],
) -> Result<(), AuthorizeError> {
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let at = the_one(query, name, placeholder)?;
    let (before, after) = (&query[..at.start], &query[at.end..]);
    let length = path.len() + 1 + before.len() + encoded_length(value) + after.len();
    if value.is_empty() || length > LONGEST {
        return Err(AuthorizeError::BadValue);
    }
    // Large enough from the start, and the URI takes it over: no copy is left behind.
    let mut target = Vec::with_capacity(length);
    for text in [path, "?", before] {
        target.extend_from_slice(text.as_bytes());
    }
    encode(value, &mut target);
    target.extend_from_slice(after.as_bytes());
    let mut uri = parts.uri.clone().into_parts();
    let target = PathAndQuery::from_maybe_shared(Bytes::from(target));
    uri.path_and_query = Some(target.map_err(|_| AuthorizeError::BadValue)?);
    parts.uri = Uri::from_parts(uri).map_err(|_| AuthorizeError::BadValue)?;
    Ok(())
}

/// Where the placeholder stands as the value of the one parameter called `name`.
fn the_one(query: &str, name: &str, placeholder: &Placeholder) -> Result<Range<usize>, AuthorizeError> {
    let mut named = parameters(query).filter(|parameter| parameter.is_called(name));
    let Parameter { value, value_at, .. } = named.next().ok_or(AuthorizeError::NotThere)?;
    if named.next().is_some() {
        return Err(AuthorizeError::Repeated);
    }
    if value != placeholder.as_str() {
        return Err(AuthorizeError::NotThere);
    }
    Ok(value_at..value_at + value.len())
}

/// Whether a parameter called `name` is `placeholder` and nothing else; there may be others of that name.
pub(super) fn holds(query: &str, name: &str, placeholder: &Placeholder) -> bool {
    parameters(query).any(|parameter| parameter.value == placeholder.as_str() && parameter.is_called(name))
}

struct Parameter<'a> {
    name: &'a str,
    value: &'a str,
    /// Where in the query the value begins.
    value_at: usize,
}

fn parameters(query: &str) -> impl Iterator<Item = Parameter<'_>> {
    let mut at = 0;
    query.split('&').map(move |text| {
        let begin = at;
        at += text.len() + 1;
        // Without a `=` all of it is the name.
        let (name, value) = text.split_once('=').unwrap_or((text, &text[text.len()..]));
        Parameter { name, value, value_at: begin + text.len() - value.len() }
    })
}

impl Parameter<'_> {
    fn is_called(&self, name: &str) -> bool {
        let (mut written, mut wanted) = (self.name.as_bytes(), name.as_bytes());
        while let [first, rest @ ..] = written {
            let Some((want, wants)) = wanted.split_first() else { return false };
            let (byte, rest) = escaped(written).unwrap_or((*first, rest));
            let space = *first == b'+' && *want == b' ';
            if byte != *want && !space {
                return false;
            }
            (written, wanted) = (rest, wants);
        }
        wanted.is_empty()
    }
}

/// The byte that a text's leading `%XX` stands for, and what follows.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let [b'%', high, low, rest @ ..] = text else { return None };
    let mut byte = [0];
    data_encoding::HEXLOWER_PERMISSIVE.decode_mut(&[*high, *low], &mut byte).ok()?;
    Some((byte[0], rest))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn encoded_length(value: &[u8]) -> usize {
    value.iter().map(|byte| if is_unreserved(*byte) { 1 } else { 3 }).sum()
}

fn encode(value: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value {
        if is_unreserved(*byte) {
            out.push(*byte);
        } else {
            out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn swap(target: &str, name: &str, value: &[u8]) -> Result<String, AuthorizeError> {
        let (mut parts, ()) = Request::builder().uri(target).body(()).unwrap().into_parts();
        let result = swap_in_query(&mut parts, name, &Placeholder::of("orch_ph_x"), value);
        if result.is_err() {
            assert_eq!(parts.uri, target, "an error leaves the parts alone");
        }
        result.map(|()| parts.uri.to_string())
    }

    #[test]
    fn the_value_stands_where_the_placeholder_stood_and_nothing_else_moves() {
        for (target, expected) in [
            ("/?key=orch_ph_x", "/?key=v"),
            ("/a/b?key=orch_ph_x", "/a/b?key=v"),
            ("/?a=1&key=orch_ph_x&b=%2f", "/?a=1&key=v&b=%2f"),
            ("/?&&key=orch_ph_x&", "/?&&key=v&"),
            ("/?a==&key=orch_ph_x&a", "/?a==&key=v&a"),
            ("/?%6bey=orch_ph_x", "/?%6bey=v"),
            ("/?%6B%65%79=orch_ph_x", "/?%6B%65%79=v"),
            (
                "/?Key=a&key=orch_ph_x&keys=b&ke=c&key%20=d&%2565=e",
                "/?Key=a&key=v&keys=b&ke=c&key%20=d&%2565=e",
            ),
            // In another parameter it stays what it is.
            ("/?a=orch_ph_x&key=orch_ph_x", "/?a=orch_ph_x&key=v"),
            ("https://h.example/p?key=orch_ph_x", "https://h.example/p?key=v"),
        ] {
            assert_eq!(swap(target, "key", b"v").unwrap(), expected, "{target}");
        }
        assert_eq!(swap("/?a+b=orch_ph_x", "a b", b"v").unwrap(), "/?a+b=v");
        assert_eq!(swap("/?a%20b=orch_ph_x", "a b", b"v").unwrap(), "/?a%20b=v");
        assert_eq!(swap("/?a+b=orch_ph_x", "a+b", b"v").unwrap(), "/?a+b=v");
        assert_eq!(swap("/?a%2bb=orch_ph_x", "a+b", b"v").unwrap(), "/?a%2bb=v");
        assert_eq!(swap("/?schl%C3%BCssel=orch_ph_x", "schlüssel", b"v").unwrap(), "/?schl%C3%BCssel=v");
    }

    #[test]
    fn every_byte_but_the_unreserved_is_encoded() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let swapped = swap("/?key=orch_ph_x&z=1", "key", &all).unwrap();
        let value = swapped.strip_prefix("/?key=").unwrap().strip_suffix("&z=1").unwrap();
        let expected: String = all
            .iter()
            .map(|byte| match char::from(*byte) {
                c @ ('a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~') => c.to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect();
        assert_eq!(value, expected);
        for breaking in [&b"a&key=b"[..], b"a#b", b"a\r\nx: y", b"a b", b"%41", b"\0"] {
            let swapped = swap("/?key=orch_ph_x", "key", breaking).unwrap();
            assert_eq!(swapped.bytes().filter(|b| b"&#\r\n =\0".contains(b)).count(), 1, "{swapped}");
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        for target in [
            "/?key=orch_ph_x&key=orch_ph_x",
            "/?key=orch_ph_x&key=other",
            "/?key=other&key=orch_ph_x",
            "/?key=orch_ph_x&key",
            "/?key&key=orch_ph_x",
            "/?key=orch_ph_x&key=",
            "/?key=orch_ph_x&%6bey=other",
            "/?k%65y=orch_ph_x&k%45y=a&ke%79=b",
        ] {
            assert_eq!(swap(target, "key", b"v").err(), Some(AuthorizeError::Repeated), "{target}");
        }
        assert_eq!(swap("/?a+b=orch_ph_x&a%20b=c", "a b", b"v").err(), Some(AuthorizeError::Repeated));
    }

    #[test]
    fn other_shapes_are_left_alone() {
        for target in [
            "/",
            "/?",
            "/?key",
            "/?key=",
            "/?orch_ph_x",
            "/?orch_ph_x=key",
            "/?key=xorch_ph_x",
            "/?key=orch_ph_xx",
            "/?key=orch_ph_x;a=1",
            "/?a=1;key=orch_ph_x",
            "/?key==orch_ph_x",
            "/?key=+orch_ph_x",
            "/?key=%6frch_ph_x",
            "/?key=orch_ph&_x",
            "/?KEY=orch_ph_x",
            "/?key%00=orch_ph_x",
            "/?k%2565y=orch_ph_x",
            "/?key%=orch_ph_x",
            "/?key[]=orch_ph_x",
            "/?=orch_ph_x",
            "/key=orch_ph_x",
            "/key=orch_ph_x?a=key=orch_ph_x",
        ] {
            assert_eq!(swap(target, "key", b"v").err(), Some(AuthorizeError::NotThere), "{target}");
            let uri: Uri = target.parse().unwrap();
            assert!(
                !holds(uri.query().unwrap_or_default(), "key", &Placeholder::of("orch_ph_x")),
                "{target}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_value_is_refused() {
        assert_eq!(swap("/?key=orch_ph_x", "key", b"").err(), Some(AuthorizeError::BadValue));
        let longest = LONGEST - "/?key=".len();
        assert!(swap("/?key=orch_ph_x", "key", &vec![b'x'; longest]).is_ok());
        assert_eq!(
            swap("/?key=orch_ph_x", "key", &vec![b'x'; longest + 1]).err(),
            Some(AuthorizeError::BadValue)
        );
    }
}
