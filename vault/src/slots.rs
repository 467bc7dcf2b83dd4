//! Who can open the vault: key slots in one authenticated header.
//!
//! A slot wraps the *ring key*; the ring key seals the *ring*, the numbered root keys that everything
//! else is derived from. So a slot can be added or replaced without touching the others, and a new root
//! (a new *term*) can be added without asking for the other slots' passphrases.
//!
//! ```text
//! version 1 ‖ vault id 16 ‖ count 1 ‖ slot… ‖ length 4 ‖ sealed ring ‖ mac 32
//! slot: kind 1 ‖ slot id 16 ‖ length 2 ‖ parameters ‖ length 2 ‖ sealed ring key
//! ring: count 2 ‖ (term 4 ‖ kind 1 ‖ key 32)…
//! ```
//!
//! Integers are big-endian. The MAC, under a key derived from the ring key, covers all that comes before
//! it. Slots of kinds that this version does not know are kept as they are and not tried. The header is a
//! row like any other to the root in the head, so an old header does not come back unnoticed.

use zeroize::Zeroizing;

use crate::VaultError;
use crate::crypto::{self, HASH_LEN, Key, Label};
use crate::error::Tampering;
use crate::row::{VaultId, length_prefixed, unknown};

const VERSION: u8 = 1;
const KIND_FILE: u8 = 1;
const KIND_ROOT: u8 = 1;
const RING_ENTRY_LEN: usize = 4 + 1 + 32;

/// Identifies a slot: 16 random bytes.
pub(crate) type SlotId = [u8; 16];

/// What a slot of the kind "file" is opened with: the content of the key file.
pub(crate) struct SlotKey {
    /// The vault that the key is for.
    pub(crate) vault: VaultId,
    /// The slot that the key is for.
    pub(crate) slot: SlotId,
    /// The key.
    pub(crate) key: Key,
}

impl SlotKey {
    /// A fresh key for a fresh vault.
    pub(crate) fn random() -> Result<SlotKey, VaultError> {
        let mut vault = [0; 16];
        crypto::fill_random(&mut vault)?;
        SlotKey::for_vault(vault)
    }

    /// A fresh key for a fresh slot of a vault.
    pub(crate) fn for_vault(vault: VaultId) -> Result<SlotKey, VaultError> {
        let mut slot = [0; 16];
        crypto::fill_random(&mut slot)?;
        Ok(SlotKey { vault, slot, key: Key::random()? })
    }
}

/// The numbered root keys, oldest first. Never empty.
pub(crate) struct Ring(Vec<(u32, Key)>);

impl Ring {
    /// A ring with a fresh first term.
    pub(crate) fn first_term() -> Result<Ring, VaultError> {
        Ok(Ring::of_first_term(Key::random()?))
    }

    /// A ring whose first term has this root key.
    pub(crate) fn of_first_term(root: Key) -> Ring {
        Ring(vec![(1, root)])
    }

    /// The term that new rows are sealed under.
    pub(crate) fn newest(&self) -> (u32, &Key) {
        let (term, key) = self.0.last().expect("a ring is never empty");
        (*term, key)
    }

    /// The root key of `term`.
    pub(crate) fn root(&self, term: u32) -> Option<&Key> {
        self.0.iter().find(|(number, _)| *number == term).map(|(_, key)| key)
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        // The capacity is exact: growing would leave a copy of the keys behind.
        let mut out = Zeroizing::new(Vec::with_capacity(2 + self.0.len() * RING_ENTRY_LEN));
        let count = u16::try_from(self.0.len()).expect("terms are added by hand");
        out.extend_from_slice(&count.to_be_bytes());
        for (term, key) in &self.0 {
            out.extend_from_slice(&term.to_be_bytes());
            out.push(KIND_ROOT);
            out.extend_from_slice(key.bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Ring, VaultError> {
        let (count, entries) = bytes.split_first_chunk::<2>().ok_or(Tampering::Slots)?;
        let (entries, rest) = entries.as_chunks::<RING_ENTRY_LEN>();
        if !rest.is_empty() || entries.is_empty() || entries.len() != usize::from(u16::from_be_bytes(*count))
        {
            return Err(Tampering::Slots.into());
        }
        let mut ring: Vec<(u32, Key)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let [a, b, c, d, kind, key @ ..] = entry;
            if *kind != KIND_ROOT {
                return Err(unknown("an entry of the key ring", *kind, KIND_ROOT));
            }
            let term = u32::from_be_bytes([*a, *b, *c, *d]);
            if ring.last().is_some_and(|(last, _)| *last >= term) {
                return Err(Tampering::Slots.into());
            }
            ring.push((term, Key::from_slice(key).ok_or(Tampering::Slots)?));
        }
        Ok(Ring(ring))
    }
}

/// Why a header gave no ring.
#[derive(Debug)]
pub(crate) enum SlotsError {
    /// The key is for another vault, or no slot is for this key.
    WrongKey,
    /// Anything else.
    Vault(VaultError),
}

impl<E: Into<VaultError>> From<E> for SlotsError {
    fn from(error: E) -> SlotsError {
        SlotsError::Vault(error.into())
    }
}

/// The header of a vault with one slot, for `slot`, that holds `ring`.
pub(crate) fn create(slot: &SlotKey, ring: &Ring) -> Result<Vec<u8>, VaultError> {
    let ring_key = Key::random()?;
    let mut header = vec![VERSION];
    header.extend_from_slice(&slot.vault);
    header.push(1);
    header.push(KIND_FILE);
    header.extend_from_slice(&slot.slot);
    put_u16(&mut header, &[]);
    put_u16(
        &mut header,
        &crypto::seal(&slot.key, &slot_place(&slot.vault, &slot.slot, &[]), ring_key.bytes())?,
    );
    let ring = crypto::seal(&ring_key, &ring_place(&slot.vault), &ring.encode())?;
    header.extend_from_slice(&u32::try_from(ring.len()).expect("a ring has few keys").to_be_bytes());
    header.extend_from_slice(&ring);
    let mac = crypto::mac(&crypto::derive(&ring_key, &slot.vault, Label::Slots), &[&header]);
    header.extend_from_slice(&mac);
    Ok(header)
}

/// Opens the ring in `header` with `slot`.
pub(crate) fn open(header: &[u8], slot: &SlotKey) -> Result<Ring, SlotsError> {
    let (body, mac) = header.split_last_chunk::<HASH_LEN>().ok_or(Tampering::Slots)?;
    let mut rest = Reader(body);
    let version = rest.byte()?;
    if version != VERSION {
        return Err(unknown("the key slot header", version, VERSION).into());
    }
    let vault: VaultId = *rest.chunk()?;
    if vault != slot.vault {
        return Err(SlotsError::WrongKey);
    }
    let mut ring_key = None;
    for _ in 0..rest.byte()? {
        let kind = rest.byte()?;
        let id: SlotId = *rest.chunk()?;
        let parameters = rest.short()?;
        let wrapped = rest.short()?;
        if kind == KIND_FILE && id == slot.slot {
            let opened = crypto::open(&slot.key, &slot_place(&vault, &id, parameters), wrapped);
            ring_key = Key::from_slice(&opened.map_err(|_| Tampering::Slots)?);
        }
    }
    let ring_key = ring_key.ok_or(SlotsError::WrongKey)?;
    let length = u32::from_be_bytes(*rest.chunk()?);
    if usize::try_from(length).ok() != Some(rest.0.len()) {
        return Err(Tampering::Slots.into());
    }
    let expected = crypto::mac(&crypto::derive(&ring_key, &vault, Label::Slots), &[body]);
    if !crypto::same(mac, &expected) {
        return Err(Tampering::Slots.into());
    }
    let ring = crypto::open(&ring_key, &ring_place(&vault), rest.0).map_err(|_| Tampering::Slots)?;
    Ok(Ring::decode(&ring)?)
}

fn slot_place(vault: &VaultId, slot: &SlotId, parameters: &[u8]) -> Vec<u8> {
    length_prefixed(&[b"orch.vault.slot/1", vault, &[KIND_FILE], slot, parameters])
}

fn ring_place(vault: &VaultId) -> Vec<u8> {
    length_prefixed(&[b"orch.vault.ring/1", vault])
}

fn put_u16(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).expect("slots are small").to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Takes fields off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Tampering> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(Tampering::Slots)?;
        self.0 = rest;
        Ok(field)
    }

    fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], Tampering> {
        self.take(N)?.try_into().map_err(|_| Tampering::Slots)
    }

    fn byte(&mut self) -> Result<u8, Tampering> {
        Ok(u8::from_be_bytes(*self.chunk()?))
    }

    fn short(&mut self) -> Result<&'a [u8], Tampering> {
        let length = u16::from_be_bytes(*self.chunk()?);
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests;
