//! The head: what the whole store should look like, in one MACed row that every batch writes.
//!
//! ```text
//! version 1 ‖ term 4 ‖ generation 8 ‖ root 32 ‖ audit records 8 ‖ audit tip 32 ‖ previous head 32 ‖ mac 32
//! ```
//!
//! Integers are big-endian. The MAC is under the head key of the term and covers the vault's id as well.

use crate::VaultError;
use crate::crypto::{self, HASH_LEN, Hash, Key, Label};
use crate::error::Tampering;
use crate::row::{VaultId, length_prefixed, unknown};
use crate::slots::Ring;

const VERSION: u8 = 1;
const SCHEMA: &[u8] = b"orch.vault.head/1";
const BODY_LEN: usize = 1 + 4 + 8 + HASH_LEN + 8 + HASH_LEN + HASH_LEN;

/// The state of the store after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// How many batches there were; the first is 1.
    pub(crate) generation: u64,
    /// The root over all rows.
    pub(crate) root: Hash,
    /// How many audit records there are.
    pub(crate) audit_records: u64,
    /// The chain value of the last of them.
    pub(crate) audit_tip: Hash,
    /// [`link`] of the head before this one; zeros in the first.
    pub(crate) previous: Hash,
}

impl Head {
    /// The row, MACed under the newest term.
    pub(crate) fn encode(&self, vault: &VaultId, ring: &Ring) -> Vec<u8> {
        let (term, root) = ring.newest();
        let mut row = Vec::with_capacity(BODY_LEN + HASH_LEN);
        row.push(VERSION);
        row.extend_from_slice(&term.to_be_bytes());
        row.extend_from_slice(&self.generation.to_be_bytes());
        row.extend_from_slice(&self.root);
        row.extend_from_slice(&self.audit_records.to_be_bytes());
        row.extend_from_slice(&self.audit_tip);
        row.extend_from_slice(&self.previous);
        let mac = head_mac(root, vault, &row);
        row.extend_from_slice(&mac);
        row
    }

    /// The head in `row`, if its MAC is right.
    pub(crate) fn decode(row: &[u8], vault: &VaultId, ring: &Ring) -> Result<Head, VaultError> {
        if let Some(&version) = row.first()
            && version != VERSION
        {
            return Err(unknown("the head", version, VERSION));
        }
        let (body, mac) = row.split_last_chunk::<HASH_LEN>().ok_or(Tampering::Head)?;
        let body: &[u8; BODY_LEN] = body.try_into().map_err(|_| Tampering::Head)?;
        let mut rest = body.as_slice();
        let [_, term @ ..] = *take::<5>(&mut rest);
        let (newest, root) = ring.newest();
        // A new term comes with a new head, so a head under an old one was not written by whoever has the new one.
        if u32::from_be_bytes(term) != newest {
            return Err(Tampering::Head.into());
        }
        if !crypto::same(mac, &head_mac(root, vault, body)) {
            return Err(Tampering::Head.into());
        }
        Ok(Head {
            generation: u64::from_be_bytes(*take(&mut rest)),
            root: *take(&mut rest),
            audit_records: u64::from_be_bytes(*take(&mut rest)),
            audit_tip: *take(&mut rest),
            previous: *take(&mut rest),
        })
    }
}

/// What the next head says about this one.
pub(crate) fn link(row: &[u8]) -> Hash {
    crypto::sha256(&[b"orch.vault.head.link/1", row])
}

fn head_mac(root: &Key, vault: &VaultId, body: &[u8]) -> Hash {
    crypto::mac(&crypto::derive(root, vault, Label::Head), &[&length_prefixed(&[SCHEMA, vault]), body])
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> &'a [u8; N] {
    let (field, after) = rest.split_first_chunk().expect("the fields add up to BODY_LEN");
    *rest = after;
    field
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::golden;

    const VAULT: VaultId = [7; 16];

    fn head() -> Head {
        Head { generation: 3, root: [1; 32], audit_records: 9, audit_tip: [2; 32], previous: [3; 32] }
    }

    fn kind(outcome: Result<Head, VaultError>) -> String {
        format!("{:?}", outcome.map_err(|error| error.kind()).unwrap_err())
    }

    #[test]
    fn the_format_stands_still() {
        let expected =
            Head { generation: 5, root: [1; 32], audit_records: 9, audit_tip: [2; 32], previous: [3; 32] };
        let row = golden::hex(golden::HEAD);
        assert_eq!(Head::decode(&row, &golden::VAULT, &golden::ring()).unwrap(), expected);
        assert_eq!(expected.encode(&golden::VAULT, &golden::ring()), row);
    }

    #[test]
    fn every_byte_and_every_length_counts() {
        let ring = Ring::first_term().unwrap();
        let row = head().encode(&VAULT, &ring);
        assert_eq!(Head::decode(&row, &VAULT, &ring).unwrap(), head());
        for position in 0..row.len() {
            for bit in [1, 0x80] {
                let mut altered = row.clone();
                altered[position] ^= bit;
                let expected = if position == 0 { "Format" } else { "Tampered" };
                assert_eq!(kind(Head::decode(&altered, &VAULT, &ring)), expected, "byte {position}");
            }
        }
        for length in 0..row.len() {
            assert_eq!(kind(Head::decode(&row[..length], &VAULT, &ring)), "Tampered", "length {length}");
        }
        let longer = [row.as_slice(), &[0]].concat();
        assert_eq!(kind(Head::decode(&longer, &VAULT, &ring)), "Tampered");
    }

    #[test]
    fn another_vault_and_another_key() {
        let ring = Ring::first_term().unwrap();
        let row = head().encode(&VAULT, &ring);
        assert_eq!(kind(Head::decode(&row, &[8; 16], &ring)), "Tampered");
        assert_eq!(kind(Head::decode(&row, &VAULT, &Ring::first_term().unwrap())), "Tampered");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        /// Whatever the bytes are, they are an error or what was written; never a panic.
        #[test]
        fn no_bytes_break_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..200) {
            let ring = golden::ring();
            prop_assert!(Head::decode(&bytes, &golden::VAULT, &ring).is_err());
            let good = golden::hex(golden::HEAD);
            let spliced = [&good[..cut.min(good.len())], &bytes].concat();
            prop_assert!(spliced == good || Head::decode(&spliced, &golden::VAULT, &ring).is_err());
        }
    }
}
