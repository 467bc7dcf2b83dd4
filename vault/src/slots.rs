//! Who can open the vault: key slots in one authenticated header.
//!
//! A slot wraps the *ring key*; the ring key seals the *ring*, the numbered root keys that everything
//! else is derived from. So a slot can be added or removed without touching the others or any row, and a
//! new root (a new *term*) is a new header, no more.
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

use std::fmt;

use data_encoding::HEXLOWER;

use crate::VaultError;
use crate::crypto::{self, HASH_LEN, Hash, Key, Label};
use crate::error::Tampering;
use crate::row::{VaultId, length_prefixed, unknown};

mod ring;

pub(crate) use ring::Ring;

const VERSION: u8 = 1;
/// How many slots of a kind there can be: one, and during a re-keying the one that takes its place. Each may cost
/// a key derivation, and whoever can write to the store chooses them before any of it is authenticated.
const MOST_OF_A_KIND: usize = 2;

/// Identifies a slot: 16 random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotId(pub(crate) [u8; 16]);

impl SlotId {
    pub(crate) fn random() -> Result<SlotId, VaultError> {
        let mut id = [0; 16];
        crypto::fill_random(&mut id)?;
        Ok(SlotId(id))
    }
}

/// As 32 hexadecimal digits.
impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// What opens a slot. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SlotKind {
    /// The key file.
    File,
    /// A passphrase.
    Passphrase,
    /// A credential that systemd hands to a service.
    SystemdCredential,
    /// An entry in the keychain of the operating system.
    Keychain,
    /// Of a later version of this program.
    Unknown(u8),
}

impl SlotKind {
    const fn number(self) -> u8 {
        match self {
            SlotKind::File => 1,
            SlotKind::Passphrase => 2,
            SlotKind::SystemdCredential => 3,
            SlotKind::Keychain => 4,
            SlotKind::Unknown(number) => number,
        }
    }

    const fn of(number: u8) -> SlotKind {
        match number {
            1 => SlotKind::File,
            2 => SlotKind::Passphrase,
            3 => SlotKind::SystemdCredential,
            4 => SlotKind::Keychain,
            other => SlotKind::Unknown(other),
        }
    }

    /// The word for it in configuration, commands and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            SlotKind::File => "file",
            SlotKind::Passphrase => "passphrase",
            SlotKind::SystemdCredential => "systemd-credential",
            SlotKind::Keychain => "keychain",
            SlotKind::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SlotKind::Unknown(number) => write!(f, "unknown ({number})"),
            known => f.write_str(known.as_str()),
        }
    }
}

/// What a slot that is opened by a random key is opened with: what is in the key file, and in its likes.
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
        Ok(SlotKey { vault, slot: SlotId::random()?, key: Key::random()? })
    }
}

/// One slot of a header.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) kind: SlotKind,
    pub(crate) id: SlotId,
    /// What its kind needs to be opened, such as the cost of deriving a key. Bound to the wrapped key.
    pub(crate) parameters: Vec<u8>,
    wrapped: Vec<u8>,
}

impl Slot {
    /// A slot that is opened by `key`.
    pub(crate) fn wrap(
        vault: &VaultId,
        (kind, id): (SlotKind, SlotId),
        parameters: Vec<u8>,
        key: &Key,
        ring_key: &Key,
    ) -> Result<Slot, VaultError> {
        let wrapped = crypto::seal(key, &slot_place(vault, kind, &id, &parameters), ring_key.bytes())?;
        Ok(Slot { kind, id, parameters, wrapped })
    }

    /// The ring key, when `key` is this slot's.
    pub(crate) fn unwrap(&self, vault: &VaultId, key: &Key) -> Option<Key> {
        let place = slot_place(vault, self.kind, &self.id, &self.parameters);
        Key::from_slice(&crypto::open(key, &place, &self.wrapped).ok()?)
    }
}

/// A header, parsed. Nothing in it is to be believed before [`Header::open`] has checked its MAC.
pub(crate) struct Header {
    pub(crate) vault: VaultId,
    pub(crate) slots: Vec<Slot>,
    sealed_ring: Vec<u8>,
    body: Vec<u8>,
    mac: Hash,
}

impl Header {
    /// Takes a header apart.
    pub(crate) fn parse(header: &[u8]) -> Result<Header, VaultError> {
        let (body, mac) = header.split_last_chunk::<HASH_LEN>().ok_or(Tampering::Slots)?;
        let mut rest = Reader(body);
        let version = rest.byte()?;
        if version != VERSION {
            return Err(unknown("the key slot header", version, VERSION));
        }
        let vault = *rest.chunk()?;
        let count = rest.byte()?;
        let mut slots = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let kind = SlotKind::of(rest.byte()?);
            let same = slots.iter().filter(|slot: &&Slot| slot.kind == kind).count();
            if same == MOST_OF_A_KIND && !matches!(kind, SlotKind::Unknown(_)) {
                return Err(Tampering::Slots.into());
            }
            slots.push(Slot {
                kind,
                id: SlotId(*rest.chunk()?),
                parameters: rest.short()?.to_vec(),
                wrapped: rest.short()?.to_vec(),
            });
        }
        let length = u32::from_be_bytes(*rest.chunk()?);
        if usize::try_from(length).ok() != Some(rest.0.len()) {
            return Err(Tampering::Slots.into());
        }
        Ok(Header { vault, slots, sealed_ring: rest.0.to_vec(), body: body.to_vec(), mac: *mac })
    }

    /// Checks that the header is as it was written, and opens the ring.
    pub(crate) fn open(&self, ring_key: &Key) -> Result<Ring, VaultError> {
        let expected = crypto::mac(&crypto::derive(ring_key, &self.vault, Label::Slots), &[&self.body]);
        if !crypto::same(&self.mac, &expected) {
            return Err(Tampering::Slots.into());
        }
        let ring = crypto::open(ring_key, &ring_place(&self.vault), &self.sealed_ring);
        Ring::decode(&ring.map_err(|_| Tampering::Slots)?)
    }
}

/// The header of a vault with these slots, which wrap `ring_key`, and this ring.
pub(crate) fn encode(
    vault: &VaultId,
    slots: &[Slot],
    ring_key: &Key,
    ring: &Ring,
) -> Result<Vec<u8>, VaultError> {
    let mut header = vec![VERSION];
    header.extend_from_slice(vault);
    header.push(u8::try_from(slots.len()).expect("one of a kind is made, and a header has 255"));
    for slot in slots {
        header.push(slot.kind.number());
        header.extend_from_slice(&slot.id.0);
        put_u16(&mut header, &slot.parameters);
        put_u16(&mut header, &slot.wrapped);
    }
    let ring = crypto::seal(ring_key, &ring_place(vault), &ring.encode())?;
    header.extend_from_slice(&u32::try_from(ring.len()).expect("a ring has few keys").to_be_bytes());
    header.extend_from_slice(&ring);
    let mac = crypto::mac(&crypto::derive(ring_key, vault, Label::Slots), &[&header]);
    header.extend_from_slice(&mac);
    Ok(header)
}

fn slot_place(vault: &VaultId, kind: SlotKind, slot: &SlotId, parameters: &[u8]) -> Vec<u8> {
    length_prefixed(&[b"orch.vault.slot/1", vault, &[kind.number()], &slot.0, parameters])
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
