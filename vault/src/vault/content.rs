//! What is inside the sealed rows of a secret.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::error::Tampering;
use crate::meta::{LARGEST_VALUE, is_scrubbable, mask_of};
use crate::row::unknown;
use crate::{Secret, SecretMeta, SecretName, SecretSummary, VaultError, Version};

/// The format byte in front of the metadata's JSON.
const META_VERSION: u8 = 1;
/// Values are padded to a multiple of this, so that a row's size says little about its value's.
const PADDING: usize = 64;
const LENGTH_LEN: usize = 4;

/// A secret's metadata as it is sealed. A field that this version does not know is an error: it may well
/// be a restriction.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredMeta {
    pub(super) name: SecretName,
    pub(super) version: u64,
    /// A tombstone: the secret was removed at this version.
    pub(super) removed: bool,
    /// Seconds since 1970, like all times here.
    pub(super) created: i64,
    updated: i64,
    mask: Option<String>,
    pub(super) fingerprint: String,
    scrubbable: bool,
    pub(super) hosts: Vec<String>,
    header: Option<String>,
    never_in_header: bool,
    agents: Vec<String>,
    expires: Option<i64>,
}

impl StoredMeta {
    pub(super) fn new(
        name: &SecretName,
        version: u64,
        (created, updated): (i64, i64),
        fingerprint: String,
        value: &Secret,
        meta: SecretMeta,
    ) -> StoredMeta {
        StoredMeta {
            name: name.clone(),
            version,
            removed: false,
            created,
            updated,
            mask: value.expose(mask_of),
            fingerprint,
            scrubbable: value.expose(is_scrubbable),
            hosts: meta.hosts,
            header: meta.header,
            never_in_header: meta.never_in_header,
            agents: meta.agents,
            expires: meta.expires.map(OffsetDateTime::unix_timestamp),
        }
    }

    /// What is left of it after a removal: name, version, times.
    pub(super) fn into_tombstone(self, now: i64) -> StoredMeta {
        StoredMeta {
            removed: true,
            updated: now,
            mask: None,
            fingerprint: String::new(),
            hosts: Vec::new(),
            header: None,
            agents: Vec::new(),
            expires: None,
            ..self
        }
    }

    pub(super) fn into_summary(self) -> Result<SecretSummary, VaultError> {
        Ok(SecretSummary {
            name: self.name,
            version: Version(self.version),
            mask: self.mask,
            fingerprint: self.fingerprint,
            created: moment(self.created)?,
            updated: moment(self.updated)?,
            meta: SecretMeta {
                hosts: self.hosts,
                header: self.header,
                never_in_header: self.never_in_header,
                agents: self.agents,
                expires: self.expires.map(moment).transpose()?,
                scrubbable: self.scrubbable,
            },
        })
    }

    pub(super) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let mut out = Zeroizing::new(vec![META_VERSION]);
        serde_json::to_writer(&mut *out, self)
            .map_err(|error| VaultError::storage("writing metadata", error))?;
        Ok(out)
    }

    pub(super) fn decode(plain: &[u8]) -> Result<StoredMeta, VaultError> {
        let (&version, json) = plain.split_first().ok_or(Tampering::RowContent)?;
        if version != META_VERSION {
            return Err(unknown("a secret's metadata", version, META_VERSION));
        }
        serde_json::from_slice(json).map_err(|_| Tampering::RowContent.into())
    }
}

/// The value behind its length (four big-endian bytes), padded with zeros.
pub(super) fn pad_value(value: &Secret) -> Zeroizing<Vec<u8>> {
    value.expose(|value| {
        let length = u32::try_from(value.len()).expect("a value has at most 64 KiB");
        let padded = (LENGTH_LEN + value.len()).next_multiple_of(PADDING);
        let mut out = Zeroizing::new(Vec::with_capacity(padded));
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(value);
        out.resize(padded, 0);
        out
    })
}

/// Undoes [`pad_value`].
pub(super) fn unpad_value(plain: &[u8]) -> Result<Secret, VaultError> {
    let (length, rest) = plain.split_first_chunk::<LENGTH_LEN>().ok_or(Tampering::RowContent)?;
    let value = usize::try_from(u32::from_be_bytes(*length))
        .ok()
        .filter(|length| *length <= LARGEST_VALUE)
        .and_then(|length| rest.get(..length))
        .ok_or(Tampering::RowContent)?;
    Ok(Secret::new(value.to_vec()))
}

fn moment(seconds: i64) -> Result<OffsetDateTime, VaultError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Tampering::RowContent.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn padding_hides_and_returns_the_length() {
        for length in [1, 16, 59, 60, 61, 124, 125, LARGEST_VALUE] {
            let value = vec![b'v'; length];
            let padded = pad_value(&Secret::new(value.clone()));
            assert_eq!(padded.len() % PADDING, 0);
            assert!(unpad_value(&padded).unwrap().expose(|bytes| bytes == value));
        }
        assert_eq!(pad_value(&Secret::new(vec![1])).len(), pad_value(&Secret::new(vec![1; 60])).len());
    }

    #[test]
    fn content_that_makes_no_sense_is_an_error() {
        for plain in [&b""[..], b"\0\0\0", b"\0\0\0\x05four", b"\xff\xff\xff\xff", b"\x00\x01\x00\x01"] {
            assert_eq!(unpad_value(plain).err().map(|error| error.kind()), Some(ErrorKind::Tampered));
        }
        for (plain, kind) in [
            (&b""[..], ErrorKind::Tampered),
            (b"\x02{}", ErrorKind::Format),
            (b"\x01{}", ErrorKind::Tampered),
            (b"\x01", ErrorKind::Tampered),
        ] {
            assert_eq!(StoredMeta::decode(plain).err().map(|error| error.kind()), Some(kind));
        }
    }

    #[test]
    fn a_restriction_of_a_later_version_is_not_overlooked() {
        let value = Secret::new(b"0123456789abcdef".to_vec());
        let meta =
            StoredMeta::new(&"A".parse().unwrap(), 1, (0, 0), String::new(), &value, SecretMeta::default());
        let plain = meta.encode().unwrap();
        assert!(StoredMeta::decode(&plain).is_ok());
        let text = String::from_utf8(plain.to_vec())
            .unwrap()
            .replace(r#""version":1"#, r#""version":1,"methods":["GET"]"#);
        assert!(StoredMeta::decode(text.as_bytes()).is_err());
    }
}
