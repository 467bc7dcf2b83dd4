//! A secret in a header: alone, after a scheme, or inside Basic credentials.

use http::request::Parts;
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::{AuthorizeError, Placeholder};

/// Puts `value` where `placeholder` stands in `header` and marks the header as sensitive.
///
/// Three shapes are swapped: the placeholder alone; after one scheme word and a space (`Bearer x`, `token x`); and
/// inside Basic credentials as the user, the password, or the whole (RFC 7617), which are decoded and encoded again.
///
/// # Errors
/// [`AuthorizeError::NotThere`], [`AuthorizeError::Repeated`], or [`AuthorizeError::BadValue`]; the parts are then
/// unchanged.
pub fn swap_in_header(
    parts: &mut Parts,
    header: &HeaderName,
    placeholder: &Placeholder,
    value: &[u8],
) -> Result<(), AuthorizeError> {
    let mut lines = parts.headers.get_all(header).iter();
    let line = lines.next().ok_or(AuthorizeError::NotThere)?;
    if lines.next().is_some() {
        return Err(AuthorizeError::Repeated);
    }
    let new = swapped(line.as_bytes(), placeholder.as_str().as_bytes(), value)?;
    let mut new = HeaderValue::from_bytes(&new).map_err(|_| AuthorizeError::BadValue)?;
    new.set_sensitive(true);
    parts.headers.insert(header, new);
    Ok(())
}

/// Whether `line` holds `placeholder` in a shape that [`swap_in_header`] swaps.
pub(crate) fn holds(line: &[u8], placeholder: &Placeholder) -> bool {
    swapped(line, placeholder.as_str().as_bytes(), b"x").is_ok()
}

fn swapped(line: &[u8], placeholder: &[u8], value: &[u8]) -> Result<Zeroizing<Vec<u8>>, AuthorizeError> {
    // HeaderValue refuses these too, but only in the raw shapes: inside Basic they would be hidden by base64.
    if value.is_empty() || value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(AuthorizeError::BadValue);
    }
    let mut new = Zeroizing::new(Vec::with_capacity(line.len() + 2 * value.len()));
    if line == placeholder {
        new.extend_from_slice(value);
        return Ok(new);
    }
    let space = line.iter().position(|b| *b == b' ').ok_or(AuthorizeError::NotThere)?;
    let (scheme, rest) = (&line[..space], &line[space + 1..]);
    if !is_token(scheme) {
        return Err(AuthorizeError::NotThere);
    }
    new.extend_from_slice(scheme);
    new.push(b' ');
    if rest == placeholder {
        new.extend_from_slice(value);
        return Ok(new);
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Err(AuthorizeError::NotThere);
    }
    let decoded = Zeroizing::new(data_encoding::BASE64.decode(rest).map_err(|_| AuthorizeError::NotThere)?);
    let mut pair = Zeroizing::new(Vec::with_capacity(decoded.len() + value.len()));
    match decoded.iter().position(|b| *b == b':') {
        Some(colon) if &decoded[colon + 1..] == placeholder => {
            pair.extend_from_slice(&decoded[..=colon]);
            pair.extend_from_slice(value);
        }
        Some(colon) if &decoded[..colon] == placeholder => {
            pair.extend_from_slice(value);
            pair.extend_from_slice(&decoded[colon..]);
        }
        None if decoded[..] == *placeholder => pair.extend_from_slice(value),
        _ => return Err(AuthorizeError::NotThere),
    }
    new.extend_from_slice(Zeroizing::new(data_encoding::BASE64.encode(&pair)).as_bytes());
    Ok(new)
}

/// RFC 9110, section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

#[cfg(test)]
mod tests {
    use http::{Request, header::AUTHORIZATION};

    use super::*;

    fn swap(line: &str, value: &[u8]) -> Result<Parts, AuthorizeError> {
        let placeholder = Placeholder::of("orch_ph_x");
        let (mut parts, ()) = Request::builder().header(AUTHORIZATION, line).body(()).unwrap().into_parts();
        swap_in_header(&mut parts, &AUTHORIZATION, &placeholder, value).map(|()| parts)
    }

    #[test]
    fn the_value_stands_where_the_placeholder_stood_and_is_sensitive() {
        for (line, expected) in [
            ("orch_ph_x", "secret"),
            ("Bearer orch_ph_x", "Bearer secret"),
            ("token orch_ph_x", "token secret"),
            ("Basic b3JjaF9waF94Og==", "Basic c2VjcmV0Og=="),
            ("basic dTpvcmNoX3BoX3g=", "basic dTpzZWNyZXQ="),
        ] {
            let parts = swap(line, b"secret").unwrap();
            assert_eq!(parts.headers[AUTHORIZATION], expected);
            assert!(parts.headers[AUTHORIZATION].is_sensitive());
            assert!(!format!("{:?}", parts.headers).contains("secret"));
        }
    }

    #[test]
    fn a_value_cannot_break_out_of_its_header() {
        for value in [&b"a\r\nx: y"[..], b"a\nb", b"a\rb", b"a\0b", b""] {
            for line in ["orch_ph_x", "Bearer orch_ph_x", "Basic dTpvcmNoX3BoX3g="] {
                assert_eq!(swap(line, value).err(), Some(AuthorizeError::BadValue), "{line}");
            }
        }
        assert_eq!(swap("orch_ph_x", b"a\x01b").err(), Some(AuthorizeError::BadValue));
    }

    #[test]
    fn other_shapes_are_left_alone() {
        for line in [
            "",
            "x",
            "orch_ph_xx",
            "Bearer orch_ph_x ",
            "Be(rer orch_ph_x",
            " orch_ph_x",
            "Basic !",
            "Basic dTpvcmNoX3Bo",
        ] {
            assert_eq!(swap(line, b"secret").err(), Some(AuthorizeError::NotThere), "{line}");
        }
    }
}
