//! What is inside the sealed rows of a secret.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::error::Tampering;
use crate::meta::{LARGEST_META, LARGEST_VALUE, is_scrubbable, mask_of};
use crate::row::unknown;
use crate::{
    AuditEvent, Grant, GrantId, GrantTerms, GrantUse, MetaError, Secret, SecretName, SecretSummary, Spent,
    ValuePlace, VaultError, Version,
};

/// The format byte in front of the metadata's JSON.
const META_VERSION: u8 = 2;
/// The format before, without grants: hosts, one header and agents stood beside each other.
const META_VERSION_1: u8 = 1;
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
    created: i64,
    updated: i64,
    mask: Option<String>,
    pub(super) fingerprint: String,
    scrubbable: bool,
    pub(super) never_in_header: bool,
    pub(super) expires: Option<i64>,
    pub(super) grants: Vec<Grant>,
    /// Its owner said by grants for whom it is: when none is left, it is for nobody.
    pub(super) bound: bool,
    /// The id of the next grant.
    next_grant: u32,
    runs: u64,
    last_used: Option<i64>,
}

/// The format before.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredMeta1 {
    name: SecretName,
    version: u64,
    removed: bool,
    created: i64,
    updated: i64,
    mask: Option<String>,
    fingerprint: String,
    scrubbable: bool,
    hosts: Vec<String>,
    header: Option<String>,
    never_in_header: bool,
    agents: Vec<String>,
    expires: Option<i64>,
}

impl From<StoredMeta1> for StoredMeta {
    fn from(old: StoredMeta1) -> StoredMeta {
        let place = old.header.map(ValuePlace::Header);
        let grant = |(id, host): (u32, String)| {
            let (place, agents) = (place.clone(), old.agents.clone());
            let terms = GrantTerms { host: Some(host), place, agents, ..GrantTerms::default() };
            Grant { id: GrantId(id), terms, used: GrantUse::default() }
        };
        let grants: Vec<Grant> = (1..).zip(old.hosts).map(grant).collect();
        StoredMeta {
            name: old.name,
            version: old.version,
            removed: old.removed,
            created: old.created,
            updated: old.updated,
            mask: old.mask,
            fingerprint: old.fingerprint,
            scrubbable: old.scrubbable,
            never_in_header: old.never_in_header,
            expires: old.expires,
            next_grant: grants.last().map_or(1, |last| last.id.0 + 1),
            bound: !grants.is_empty(),
            grants,
            runs: 0,
            last_used: None,
        }
    }
}

impl StoredMeta {
    /// Of a value that is set now, after what was there before under this name.
    pub(super) fn new(
        name: &SecretName,
        value: &Secret,
        fingerprint: String,
        before: Option<StoredMeta>,
        now: i64,
    ) -> StoredMeta {
        let version = before.as_ref().map_or(0, |before| before.version) + 1;
        let next_grant = before.as_ref().map_or(1, |before| before.next_grant);
        let current = before.filter(|before| !before.removed);
        let created = current.as_ref().map_or(now, |current| current.created);
        let bound = current.as_ref().is_some_and(|current| current.bound);
        let (runs, last_used) =
            current.as_ref().map_or((0, None), |current| (current.runs, current.last_used));
        StoredMeta {
            name: name.clone(),
            version,
            removed: false,
            created,
            updated: now,
            mask: value.expose(mask_of),
            fingerprint,
            scrubbable: value.expose(is_scrubbable),
            never_in_header: false,
            expires: None,
            grants: current.map(|current| current.grants).unwrap_or_default(),
            next_grant,
            bound,
            runs,
            last_used,
        }
    }

    /// Adds a grant.
    pub(super) fn grant(&mut self, terms: GrantTerms) -> GrantId {
        let id = GrantId(self.next_grant);
        self.next_grant = self.next_grant.saturating_add(1);
        self.bound = true;
        self.grants.push(Grant { id, terms, used: GrantUse::default() });
        id
    }

    /// What is left of it after a removal: name, version, times, and which grants there were.
    pub(super) fn into_tombstone(self, now: i64) -> StoredMeta {
        StoredMeta {
            removed: true,
            updated: now,
            mask: None,
            fingerprint: String::new(),
            expires: None,
            grants: Vec::new(),
            bound: false,
            runs: 0,
            last_used: None,
            ..self
        }
    }

    /// Counts what is put on record of this secret: once for each run and grant. `counted` are those of this record.
    ///
    /// # Errors
    /// A grant that is gone or used up: then the use must not be.
    pub(super) fn count(
        &mut self,
        event: &AuditEvent,
        counted: &mut BTreeSet<(String, SecretName, Option<GrantId>)>,
        now: OffsetDateTime,
    ) -> Result<(), VaultError> {
        match event {
            AuditEvent::UsePlanned { run, secret, grant, .. } => {
                if let Some(id) = grant {
                    let grant = self.grants.iter_mut().find(|grant| grant.id == *id);
                    let missing = || VaultError::GrantMissing { name: secret.clone(), grant: *id };
                    let grant = grant.ok_or_else(missing)?;
                    let used_up = |why: Spent| VaultError::UsedUp { name: secret.clone(), grant: *id, why };
                    grant.live(now).map_err(used_up)?;
                    if counted.insert((run.clone(), secret.clone(), Some(*id))) {
                        grant.open(now).map_err(used_up)?;
                        grant.used.runs += 1;
                    }
                }
                if counted.insert((run.clone(), secret.clone(), None)) {
                    self.runs += 1;
                }
                self.last_used = Some(now.unix_timestamp());
            }
            AuditEvent::UseCounted { grant: Some(id), cost_micro_usd, .. } => {
                if let Some(grant) = self.grants.iter_mut().find(|grant| grant.id == *id) {
                    let cost = &mut grant.used.cost_micro_usd;
                    *cost = cost.saturating_add(*cost_micro_usd);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn into_summary(self) -> Result<SecretSummary, VaultError> {
        Ok(SecretSummary {
            name: self.name,
            version: Version(self.version),
            mask: self.mask,
            fingerprint: self.fingerprint,
            created: moment(self.created)?,
            updated: moment(self.updated)?,
            never_in_header: self.never_in_header,
            expires: self.expires.map(moment).transpose()?,
            scrubbable: self.scrubbable,
            grants: self.grants,
            bound: self.bound,
            runs: self.runs,
            last_used: self.last_used.map(moment).transpose()?,
        })
    }

    /// How long a value lives from when it was set.
    pub(super) fn life(&self) -> Option<i64> {
        self.expires.map(|expires| expires.saturating_sub(self.updated))
    }

    /// Whether it fits into a row.
    pub(super) fn check_size(&self) -> Result<(), VaultError> {
        let size = self.encode()?.len();
        if size > LARGEST_META { Err(MetaError::Large(size).into()) } else { Ok(()) }
    }

    pub(super) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let mut out = Zeroizing::new(vec![META_VERSION]);
        serde_json::to_writer(&mut *out, self)
            .map_err(|error| VaultError::storage("writing metadata", error))?;
        Ok(out)
    }

    pub(super) fn decode(plain: &[u8]) -> Result<StoredMeta, VaultError> {
        let (&version, json) = plain.split_first().ok_or(Tampering::RowContent)?;
        let decoded = match version {
            META_VERSION => serde_json::from_slice(json),
            META_VERSION_1 => serde_json::from_slice::<StoredMeta1>(json).map(StoredMeta::from),
            _ => return Err(unknown("a secret's metadata", version, META_VERSION)),
        };
        decoded.map_err(|_| Tampering::RowContent.into())
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
            (b"\x03{}", ErrorKind::Format),
            (b"\x02{}", ErrorKind::Tampered),
            (b"\x01{}", ErrorKind::Tampered),
            (b"\x01", ErrorKind::Tampered),
        ] {
            assert_eq!(StoredMeta::decode(plain).err().map(|error| error.kind()), Some(kind));
        }
    }

    #[test]
    fn a_restriction_of_a_later_version_is_not_overlooked() {
        let value = Secret::new(b"0123456789abcdef".to_vec());
        let meta = StoredMeta::new(&"A".parse().unwrap(), &value, String::new(), None, 0);
        let plain = meta.encode().unwrap();
        assert!(StoredMeta::decode(&plain).is_ok());
        let text = String::from_utf8(plain.to_vec())
            .unwrap()
            .replace(r#""version":1"#, r#""version":1,"methods":["GET"]"#);
        assert!(StoredMeta::decode(text.as_bytes()).is_err());
    }

    #[test]
    fn the_format_before_is_read() {
        let old = br#"{"name":"A","version":3,"removed":false,"created":1,"updated":2,"mask":"cdef",
            "fingerprint":"00","scrubbable":true,"hosts":["a.example","*.b.example"],"header":"x-token",
            "never_in_header":false,"agents":["acme/x"],"expires":9}"#;
        let meta =
            StoredMeta::decode(&[&[META_VERSION_1][..], old].concat()).unwrap().into_summary().unwrap();
        assert_eq!((meta.version.get(), meta.expires), (3, Some(moment(9).unwrap())));
        let terms = |host: &str| GrantTerms {
            host: Some(host.into()),
            place: Some(ValuePlace::Header("x-token".into())),
            agents: vec!["acme/x".into()],
            ..GrantTerms::default()
        };
        let grants: Vec<_> = meta.grants.iter().map(|grant| (grant.id.get(), grant.terms.clone())).collect();
        assert_eq!(grants, [(1, terms("a.example")), (2, terms("*.b.example"))]);
        let unknown = String::from_utf8(old.to_vec()).unwrap().replace("\"agents\"", "\"x\":1,\"agents\"");
        assert!(StoredMeta::decode(&[&[META_VERSION_1][..], unknown.as_bytes()].concat()).is_err());
    }
}
