//! JSON for requests, keys included.

use bytes::Bytes;
use orch_server::Failure;
use orch_vault::Secret;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

/// A secret on its way to the server: the one place of the command line where one is written out.
pub(crate) struct Revealed<'a>(&'a Secret);

impl<'a> Revealed<'a> {
    /// The secret as text; none when it is not text, which no JSON can carry.
    pub(crate) fn new(secret: &'a Secret) -> Option<Self> {
        secret.expose(|bytes| std::str::from_utf8(bytes).is_ok()).then_some(Self(secret))
    }
}

impl Serialize for Revealed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.expose(|bytes| match std::str::from_utf8(bytes) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Err(serde::ser::Error::custom("a secret is not UTF-8")),
        })
    }
}

/// JSON for a request, in memory that is cleared when its last user is gone: it may hold secrets.
///
/// # Errors
/// When the value cannot be written, which only a defect can cause.
pub(crate) fn json(value: &impl Serialize) -> Result<Bytes, Failure> {
    let failed = |e: serde_json::Error| Failure::defect(format!("a request cannot be written as JSON: {e}"));
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value).map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *bytes, value).map_err(failed)?;
    Ok(Bytes::from_owner(bytes))
}

/// Counts what is written.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_as_text_or_not_at_all() {
        let secret = Secret::new("a\"b".as_bytes().to_vec());
        let bytes = json(&[Revealed::new(&secret).expect("text")]).expect("written");
        assert_eq!(&bytes[..], br#"["a\"b"]"#);
        assert!(Revealed::new(&Secret::new(vec![0xff])).is_none());
    }
}
