//! The last batch, whole, in one entry of sled's.
//!
//! A batch of sled's is two writes to the disk, one after the other; an entry is one. So a batch is made durable as
//! this entry, and its rows are put in their places behind it, where they become durable with the next one. sled
//! comes back from a crash with what was written up to some moment: this entry without some of its rows, never rows
//! without their entry, and no later entry without all of them. Opening puts them in their places again.
//!
//! ```text
//! version 1 ‖ SHA-256 of the rest 32 ‖ (length of key 2 ‖ key ‖ 0, or 1 ‖ length of row 4 ‖ row)*
//! ```
//!
//! Integers are big-endian. Damage must not be copied into rows that are whole; for that the digest is enough. It
//! needs no authentication of its own: its rows have it, and an older entry brings back an older head.

use crate::VaultError;
use crate::crypto::{HASH_LEN, sha256};
use crate::error::Tampering;
use crate::row::unknown;
use crate::store::Batch;

/// Where it is kept. No row's piece has an empty key.
pub(super) const KEY: &[u8] = b"";
/// The longest, in bytes: with the leaf of the tree that it is in, it stays far below the size that sled would keep
/// in a file of its own.
const LONGEST: usize = 16 * 1024;
const VERSION: u8 = 1;
const HEADER_LEN: usize = 1 + HASH_LEN;
const REMOVED: u8 = 0;
const PUT: u8 = 1;

/// `batch` as an entry; `None`: it is too long for one.
pub(super) fn encode(batch: &Batch) -> Option<Vec<u8>> {
    let length = |(key, row): &(Vec<u8>, Option<Vec<u8>>)| 7 + key.len() + row.as_ref().map_or(0, Vec::len);
    let length = HEADER_LEN + batch.changes.iter().map(length).sum::<usize>();
    if length > LONGEST {
        return None;
    }
    let mut entry = Vec::with_capacity(length);
    entry.push(VERSION);
    entry.extend_from_slice(&[0; HASH_LEN]);
    for (key, row) in &batch.changes {
        entry.extend_from_slice(&u16::try_from(key.len()).ok()?.to_be_bytes());
        entry.extend_from_slice(key);
        match row {
            None => entry.push(REMOVED),
            Some(row) => {
                entry.push(PUT);
                entry.extend_from_slice(&u32::try_from(row.len()).ok()?.to_be_bytes());
                entry.extend_from_slice(row);
            }
        }
    }
    let digest = sha256(&[&entry[HEADER_LEN..]]);
    entry[1..HEADER_LEN].copy_from_slice(&digest);
    Some(entry)
}

/// The batch in an entry.
pub(super) fn decode(entry: &[u8]) -> Result<Batch, VaultError> {
    let (&version, rest) = entry.split_first().ok_or(Tampering::Engine)?;
    if version != VERSION {
        return Err(unknown("the store's last change", version, VERSION));
    }
    let (digest, mut rest) = rest.split_first_chunk::<HASH_LEN>().ok_or(Tampering::Engine)?;
    if *digest != sha256(&[rest]) {
        return Err(Tampering::Engine.into());
    }
    let mut batch = Batch::default();
    while !rest.is_empty() {
        let change = change(&mut rest).ok_or(Tampering::Engine)?;
        batch.changes.push(change);
    }
    Ok(batch)
}

fn change(rest: &mut &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let length = u16::from_be_bytes(*rest.split_off(..2)?.first_chunk()?);
    let key = rest.split_off(..usize::from(length))?.to_vec();
    match *rest.split_off_first()? {
        REMOVED => Some((key, None)),
        PUT => {
            let length = u32::from_be_bytes(*rest.split_off(..4)?.first_chunk()?);
            Some((key, Some(rest.split_off(..usize::try_from(length).ok()?)?.to_vec())))
        }
        _ => None,
    }
}

/// Whatever the bytes are, they are an error or a batch; and so they are as what a digest covers, where an accepted
/// batch is the one that they are the entry of.
#[cfg(any(test, fuzzing))]
pub(crate) fn try_bytes(bytes: &[u8]) {
    let _ = decode(bytes);
    let covered = [&[VERSION][..], &sha256(&[bytes]), bytes].concat();
    if let Ok(batch) = decode(&covered) {
        assert!(encode(&batch).is_none_or(|entry| entry == covered));
    }
}

/// What a digest covers.
#[cfg(any(test, fuzzing))]
pub(crate) fn seed() -> Vec<u8> {
    b"\x00\x02ab\x01\x00\x00\x00\x03row\x00\x01c\x00".to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one() -> (Batch, Vec<u8>) {
        let mut batch = Batch::default();
        batch.put(b"ab".to_vec(), b"row".to_vec());
        batch.remove(b"c".to_vec());
        let content = seed();
        let entry = [&[1][..], &sha256(&[&content]), &content].concat();
        (batch, entry)
    }

    #[test]
    fn the_format_stands_still() {
        let (batch, entry) = one();
        assert_eq!(encode(&batch).unwrap(), entry);
    }

    #[test]
    fn any_damage_is_found() {
        let (_, entry) = one();
        for position in 0..entry.len() {
            for bit in 0..8 {
                let mut damaged = entry.clone();
                damaged[position] ^= 1 << bit;
                assert!(decode(&damaged).is_err(), "byte {position}, bit {bit}");
            }
        }
        for length in 0..entry.len() {
            assert!(decode(&entry[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn a_version_of_later_is_named() {
        let error = decode(b"\x02").err().unwrap().to_string();
        assert!(error.contains("the store's last change"), "{error}");
    }

    #[test]
    fn what_is_too_long_is_no_entry() {
        let with = |length| {
            let mut batch = Batch::default();
            batch.put(b"key".to_vec(), vec![0; length]);
            encode(&batch)
        };
        let most = LONGEST - HEADER_LEN - 7 - 3;
        assert_eq!(with(most).unwrap().len(), LONGEST);
        assert!(with(most + 1).is_none());
    }

    proptest! {
        #[test]
        fn every_batch_comes_back(
            changes in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..40), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))),
                0..20,
            )
        ) {
            let entry = encode(&Batch { changes: changes.clone() }).unwrap();
            prop_assert_eq!(decode(&entry).unwrap().changes, changes);
        }

    }
}
