//! The anchor: the last head's generation and link, in a file beside the store.
//!
//! Without it a store that went back to an earlier, complete state looks sound. That takes no attacker:
//! one flipped bit in sled's log, and sled takes everything behind it for a torn write and drops it.
//!
//! ```text
//! slot at 0 and at 4096: version 1 ‖ term 4 ‖ generation 8 ‖ link 32 ‖ mac 32; or zeros
//! ```
//!
//! Integers are big-endian. Even and odd generations take turns, so a torn write leaves the slot of the
//! generation before. A batch is made durable first and anchored then; a crash between the two leaves the
//! store one generation ahead, which is accepted when its head names the anchored one as the previous.
//!
//! The file is no stronger than where it lies: who brings back both an old store and its old anchor is
//! not found out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::VaultError;
use crate::crypto::{self, HASH_LEN, Hash, Key, Label};
use crate::error::Tampering;
use crate::head::Head;
use crate::row::{VaultId, length_prefixed, unknown};
use crate::slots::Ring;

const VERSION: u8 = 1;
const SCHEMA: &[u8] = b"orch.vault.anchor/1";
const BODY_LEN: usize = 1 + 4 + 8 + HASH_LEN;
const SLOT_LEN: usize = BODY_LEN + HASH_LEN;
/// Beyond any vault's changes, and far below where the numbers end.
const HIGHEST_CLAIM: u64 = 1 << 48;
/// In a sector of its own, so that writing one slot cannot tear the other.
const SECOND_SLOT: u64 = 4096;

/// Which head was the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its generation.
    pub(crate) generation: u64,
    /// Its [`link`](crate::head::link).
    pub(crate) link: Hash,
}

/// The anchor's file. Two slots of fixed size, overwritten in place.
pub(crate) struct Anchor(File);

impl Anchor {
    /// The anchor in `file`, which was checked.
    pub(crate) fn new(file: File) -> Anchor {
        Anchor(file)
    }

    /// Whether it was ever written. Needs no key, for a store that lost even its slot header.
    pub(crate) fn is_blank(&self) -> Result<bool, VaultError> {
        Ok(self.slots()?.iter().all(is_blank))
    }

    /// The newest mark. A slot that is not authentic is passed over while the other one is.
    pub(crate) fn read(&self, vault: &VaultId, ring: &Ring) -> Result<Option<Mark>, VaultError> {
        let slots = self.slots()?;
        let mut newest: Option<Mark> = None;
        let mut refused = None;
        for slot in slots.iter().filter(|slot| !is_blank(slot)) {
            match decode(slot, vault, ring) {
                Ok(mark) if newest.is_none_or(|newest| newest.generation < mark.generation) => {
                    newest = Some(mark);
                }
                Ok(_) => {}
                Err(error) => refused = Some(error),
            }
        }
        match (newest, refused) {
            (None, Some(error)) => Err(error),
            (newest, _) => Ok(newest),
        }
    }

    /// The highest generation that a slot claims, whoever wrote it. For what only has to be later: the key of
    /// the term that a mark was written under may be gone with its vault. A forged claim costs a part of the
    /// numbers, and never all of them.
    pub(crate) fn claimed_generation(&self) -> Result<u64, VaultError> {
        let claimed = |slot: &[u8; SLOT_LEN]| {
            let [_, _, _, _, _, generation @ ..] = slot;
            generation.first_chunk().map_or(0, |generation| u64::from_be_bytes(*generation))
        };
        let highest = self.slots()?.iter().map(claimed).max().unwrap_or(0);
        Ok(highest.min(HIGHEST_CLAIM))
    }

    /// Writes a mark, durably.
    pub(crate) fn write(&self, mark: Mark, vault: &VaultId, ring: &Ring) -> io::Result<()> {
        let slot = encode(mark, vault, ring);
        self.0.write_all_at(&slot, if mark.generation.is_multiple_of(2) { 0 } else { SECOND_SLOT })?;
        self.0.sync_data()
    }

    fn slots(&self) -> Result<[[u8; SLOT_LEN]; 2], VaultError> {
        let mut slots = [[0; SLOT_LEN]; 2];
        for (slot, offset) in slots.iter_mut().zip([0, SECOND_SLOT]) {
            match self.0.read_exact_at(slot, offset) {
                Ok(()) => {}
                // Not written yet, or cut off.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => *slot = [0; SLOT_LEN],
                Err(error) => return Err(VaultError::storage("reading the anchor", error)),
            }
        }
        Ok(slots)
    }
}

/// Whether a store with this head (and its link) is the anchored one. `true`: it is one ahead, and the
/// anchor has to follow.
pub(crate) fn compare(anchored: Option<Mark>, head: &Head, link: &Hash) -> Result<bool, Tampering> {
    // A store whose first batch was written, and its anchor was not, follows a head that never was.
    let anchored = anchored.unwrap_or(Mark { generation: 0, link: [0; HASH_LEN] });
    if head.generation < anchored.generation {
        return Err(Tampering::RolledBack);
    }
    if head.generation == anchored.generation && crypto::same(link, &anchored.link) {
        return Ok(false);
    }
    if head.generation == anchored.generation + 1 && crypto::same(&head.previous, &anchored.link) {
        return Ok(true);
    }
    Err(Tampering::Anchor)
}

fn encode(mark: Mark, vault: &VaultId, ring: &Ring) -> Vec<u8> {
    let (term, root) = ring.newest();
    let mut slot = Vec::with_capacity(SLOT_LEN);
    slot.push(VERSION);
    slot.extend_from_slice(&term.to_be_bytes());
    slot.extend_from_slice(&mark.generation.to_be_bytes());
    slot.extend_from_slice(&mark.link);
    let mac = slot_mac(root, vault, &slot);
    slot.extend_from_slice(&mac);
    slot
}

fn decode(slot: &[u8; SLOT_LEN], vault: &VaultId, ring: &Ring) -> Result<Mark, VaultError> {
    let [version, a, b, c, d, rest @ ..] = slot;
    if *version != VERSION {
        return Err(unknown("the anchor", *version, VERSION));
    }
    let (body, mac) = slot.split_at(BODY_LEN);
    let root = ring.root(u32::from_be_bytes([*a, *b, *c, *d])).ok_or(Tampering::Anchor)?;
    if !crypto::same(mac, &slot_mac(root, vault, body)) {
        return Err(Tampering::Anchor.into());
    }
    let (generation, rest) = rest.split_first_chunk().ok_or(Tampering::Anchor)?;
    let link = rest.first_chunk().ok_or(Tampering::Anchor)?;
    Ok(Mark { generation: u64::from_be_bytes(*generation), link: *link })
}

fn slot_mac(root: &Key, vault: &VaultId, body: &[u8]) -> Hash {
    crypto::mac(&crypto::derive(root, vault, Label::Anchor), &[&length_prefixed(&[SCHEMA, vault]), body])
}

fn is_blank(slot: &[u8; SLOT_LEN]) -> bool {
    slot.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::golden::{self, VAULT};

    fn anchor() -> Anchor {
        Anchor(tempfile::tempfile().unwrap())
    }

    fn mark(generation: u64) -> Mark {
        Mark { generation, link: [u8::try_from(generation).unwrap(); 32] }
    }

    fn written(marks: impl IntoIterator<Item = u64>) -> Anchor {
        let anchor = anchor();
        for generation in marks {
            anchor.write(mark(generation), &VAULT, &golden::ring()).unwrap();
        }
        anchor
    }

    fn read(anchor: &Anchor) -> Result<Option<Mark>, VaultError> {
        anchor.read(&VAULT, &golden::ring())
    }

    #[test]
    fn the_format_stands_still() {
        let mark = Mark { generation: 5, link: [4; 32] };
        let slot = golden::hex(golden::ANCHOR);
        assert_eq!(encode(mark, &VAULT, &golden::ring()), slot);
        assert_eq!(decode(slot.as_slice().try_into().unwrap(), &VAULT, &golden::ring()).unwrap(), mark);
    }

    #[test]
    fn the_newest_mark_counts() {
        assert!(anchor().is_blank().unwrap());
        assert_eq!(read(&anchor()).unwrap(), None);
        for last in 1..5 {
            let anchor = written(1..=last);
            assert!(!anchor.is_blank().unwrap());
            assert_eq!(read(&anchor).unwrap(), Some(mark(last)));
        }
    }

    #[test]
    fn a_damaged_slot_leaves_the_generation_before_and_two_leave_nothing() {
        for position in 0..SLOT_LEN {
            let anchor = written([6, 7]);
            let spoil = |slot: usize| {
                let offset = [0, SECOND_SLOT][slot] + position as u64;
                let byte = anchor.slots().unwrap()[slot][position] ^ 4;
                anchor.0.write_all_at(&[byte], offset).unwrap();
            };
            spoil(1);
            assert_eq!(read(&anchor).unwrap(), Some(mark(6)), "byte {position}");
            spoil(0);
            assert!(read(&anchor).is_err(), "byte {position}");
        }
    }

    #[test]
    fn what_is_claimed_needs_no_key_and_does_not_exhaust_the_numbers() {
        assert_eq!(anchor().claimed_generation().unwrap(), 0);
        assert_eq!(written([6, 7, 8]).claimed_generation().unwrap(), 8);
        let forged = anchor();
        forged.0.write_all_at(&[0xff; SLOT_LEN], 0).unwrap();
        assert_eq!(forged.claimed_generation().unwrap(), HIGHEST_CLAIM);
    }

    #[test]
    fn another_vaults_and_another_keys_marks() {
        let anchor = written([6, 7]);
        assert!(anchor.read(&[0; 16], &golden::ring()).is_err());
        assert!(anchor.read(&VAULT, &Ring::first_term().unwrap()).is_err());
    }

    #[test]
    fn heads_row_by_row() {
        let (link, other) = ([1; 32], [2; 32]);
        let head = |generation, previous| Head {
            generation,
            root: [0; 32],
            audit_records: 0,
            audit_tip: [0; 32],
            previous,
        };
        let at = |generation, link| Some(Mark { generation, link });
        for (anchored, head, expected) in [
            (at(5, link), head(5, other), Ok(false)),
            (at(5, other), head(5, other), Err(Tampering::Anchor)),
            (at(5, other), head(6, other), Ok(true)),
            (at(5, link), head(6, other), Err(Tampering::Anchor)),
            (at(5, other), head(7, other), Err(Tampering::Anchor)),
            (at(5, link), head(4, other), Err(Tampering::RolledBack)),
            (at(5, link), head(1, [0; 32]), Err(Tampering::RolledBack)),
            (None, head(1, [0; 32]), Ok(true)),
            (None, head(1, other), Err(Tampering::Anchor)),
            (None, head(2, other), Err(Tampering::Anchor)),
        ] {
            assert_eq!(compare(anchored, &head, &link), expected, "{anchored:?} {head:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        /// Whatever the bytes are, they are an error or what was written; never a panic.
        #[test]
        fn no_bytes_break_the_parser(bytes in proptest::collection::vec(any::<u8>(), 1..300), offset in prop_oneof![0_u64..100, 4000_u64..4300]) {
            let anchor = written([6, 7]);
            anchor.0.write_all_at(&bytes, offset).unwrap();
            // One of the two slots, both of them, or neither is what it was; what is read is a mark that was written.
            if let Ok(Some(found)) = read(&anchor) {
                prop_assert!([mark(6), mark(7)].contains(&found));
            }
        }
    }
}
