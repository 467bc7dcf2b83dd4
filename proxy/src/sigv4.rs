//! AWS Signature Version 4: a request signed with a secret that does not travel with it.
//!
//! What is signed is the request as it goes out: its method, its canonical path (escaped once more, as every service but S3
//! has it), its query, its host, type and AWS's own fields, and the digest of its body. The bytes of the secret go into
//! one HMAC and nowhere else.

use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use ring::digest::{SHA256, digest};
use ring::hmac::{HMAC_SHA256, Key, sign as hmac};
use time::OffsetDateTime;
use time::macros::format_description;
use zeroize::Zeroizing;

use crate::AuthorizeError;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who signs, and for what.
pub struct Signer<'a> {
    /// Names the secret; it travels.
    pub access_key_id: &'a str,
    /// Does not.
    pub secret_access_key: &'a [u8],
    /// Goes with temporary secrets; it travels.
    pub session_token: Option<&'a str>,
    /// The region of the host.
    pub region: &'a str,
    /// The service's name in signatures.
    pub service: &'a str,
}

impl Signer<'_> {
    /// Signs a request at this time: its head, which is in origin form and has its final `Host`, and the SHA-256 of its
    /// body. `Authorization` and AWS's fields for date and token are set, whatever they were.
    ///
    /// # Errors
    /// [`AuthorizeError::BadValue`] when a part of the key has bytes that no header can carry.
    pub fn sign(&self, parts: &mut Parts, body: &[u8; 32], at: OffsetDateTime) -> Result<(), AuthorizeError> {
        let stamp = stamp(at);
        parts.headers.remove(&TOKEN);
        if let Some(token) = self.session_token {
            parts.headers.insert(TOKEN, sensitive(token)?);
        }
        parts.headers.insert(DATE, sensitive(&stamp)?);
        let fields = parts.headers.iter().filter(|(name, _)| is_signed(name));
        let fields = fields.map(|(name, value)| (name.as_str(), value.as_bytes()));
        let canonical = Canonical::new(
            parts.method.as_str(),
            parts.uri.path(),
            parts.uri.query().unwrap_or_default(),
            fields,
            body,
        );
        let authorization = self.authorization(&canonical, &stamp);
        parts.headers.insert(header::AUTHORIZATION, sensitive(&authorization)?);
        Ok(())
    }

    fn authorization(&self, canonical: &Canonical, stamp: &str) -> String {
        let day = &stamp[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let request = hex(digest(&SHA256, canonical.text.as_bytes()).as_ref());
        let signature = self.signature(day, &format!("{ALGORITHM}\n{stamp}\n{scope}\n{request}"));
        let Canonical { signed, .. } = canonical;
        let id = self.access_key_id;
        format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}")
    }

    fn signature(&self, day: &str, text: &str) -> String {
        let first = Zeroizing::new([b"AWS4", self.secret_access_key].concat());
        let mut key = Key::new(HMAC_SHA256, &first);
        for step in [day, self.region, self.service, "aws4_request"] {
            key = Key::new(HMAC_SHA256, hmac(&key, step.as_bytes()).as_ref());
        }
        hex(hmac(&key, text.as_bytes()).as_ref())
    }
}

/// Fields that nobody between here and the host changes.
fn is_signed(name: &HeaderName) -> bool {
    [header::HOST, header::CONTENT_TYPE].contains(name) || name.as_str().starts_with("x-amz-")
}

/// A request in the one spelling that both sides sign.
struct Canonical {
    text: String,
    /// The names of the fields in it.
    signed: String,
}

impl Canonical {
    fn new<'f>(
        method: &str,
        path: &str,
        query: &str,
        fields: impl Iterator<Item = (&'f str, &'f [u8])>,
        body: &[u8; 32],
    ) -> Canonical {
        let mut fields: Vec<(String, String)> = fields
            .map(|(name, value)| (name.to_ascii_lowercase(), plain(&String::from_utf8_lossy(value))))
            .collect();
        // Values of one name stay in their order.
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        fields.dedup_by(|(name, value), (kept, all)| {
            let same = name == kept;
            if same {
                all.push(',');
                all.push_str(value);
            }
            same
        });
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        let signed = names.join(";");
        let lines: String = fields.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let path = escaped(path.as_bytes(), b"/");
        let (query, body) = (canonical_query(query), hex(body));
        Canonical { text: format!("{method}\n{path}\n{query}\n{lines}\n{signed}\n{body}"), signed }
    }
}

/// A value without blanks around it, and with one where it has several.
fn plain(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Parameters in the order of their names and then values, all escaped in the same way.
fn canonical_query(query: &str) -> String {
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    let mut parameters: Vec<(String, String)> = parameters
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .map(|(name, value)| (escaped(&unescaped(name), b""), escaped(&unescaped(value), b"")))
        .collect();
    parameters.sort();
    parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encodes what is not unreserved (RFC 3986, section 2.3) and not in `kept`.
fn escaped(bytes: &[u8], kept: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(b) || kept.contains(b) => {
                out.push(char::from(*b));
            }
            b => {
                out.push('%');
                out.push_str(&data_encoding::HEXUPPER.encode(&[*b]));
            }
        }
    }
    out
}

/// What percent-encoded text stands for; a `%` that begins no escape stands for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    while let Some((first, rest)) = bytes.split_first() {
        let escape = rest.get(..2).filter(|_| *first == b'%');
        let decoded = escape.and_then(|two| data_encoding::HEXLOWER_PERMISSIVE.decode(two).ok());
        match decoded {
            Some(byte) => {
                out.extend_from_slice(&byte);
                bytes = &rest[2..];
            }
            None => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    out
}

fn stamp(at: OffsetDateTime) -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    // A date whose parts are all numbers can always be written.
    at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}

fn sensitive(text: &str) -> Result<HeaderValue, AuthorizeError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| AuthorizeError::BadValue)?;
    value.set_sensitive(true);
    Ok(value)
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests;
