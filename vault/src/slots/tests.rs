use proptest::prelude::*;

use super::*;
use crate::golden;
use crate::{ErrorKind, VaultError};

/// The ring, as somebody gets it who has one file slot's key.
fn open(header: &[u8], key: &SlotKey) -> Result<Ring, VaultError> {
    let header = Header::parse(header)?;
    let slot = header
        .slots
        .iter()
        .filter(|slot| slot.kind == SlotKind::File)
        .find(|slot| slot.id == key.slot && header.vault == key.vault)
        .ok_or_else(|| VaultError::WrongKey { path: "key".into() })?;
    header.open(&slot.unwrap(&header.vault, &key.key).ok_or(Tampering::Slots)?)
}

fn create(keys: &[&SlotKey], ring: &Ring) -> Vec<u8> {
    let ring_key = Key::random().unwrap();
    let slot = |key: &&SlotKey| {
        Slot::wrap(&key.vault, (SlotKind::File, key.slot), vec![], &key.key, &ring_key).unwrap()
    };
    let slots: Vec<Slot> = keys.iter().map(slot).collect();
    encode(&keys[0].vault, &slots, &ring_key, ring).unwrap()
}

fn outcome(header: &[u8], slot: &SlotKey) -> Option<ErrorKind> {
    open(header, slot).err().map(|error| error.kind())
}

#[test]
fn the_format_stands_still() {
    for header in [golden::SLOTS, golden::SLOTS_WITH_UNKNOWN_KIND] {
        let ring = open(&golden::hex(header), &golden::slot()).unwrap();
        assert_eq!(ring.newest().0, 1);
        assert_eq!(ring.newest().1.bytes(), golden::ring().newest().1.bytes());
    }
}

#[test]
fn kinds_have_the_numbers_that_they_had() {
    for (number, kind, word) in [
        (1, SlotKind::File, "file"),
        (2, SlotKind::Passphrase, "passphrase"),
        (3, SlotKind::SystemdCredential, "systemd-credential"),
        (4, SlotKind::Keychain, "keychain"),
        (9, SlotKind::Unknown(9), "unknown"),
    ] {
        assert_eq!((SlotKind::of(number), kind.number(), kind.as_str()), (kind, number, word));
    }
}

#[test]
fn every_slot_opens_and_each_is_written_as_it_was_read() {
    let first = SlotKey::random().unwrap();
    let second = SlotKey::for_vault(first.vault).unwrap();
    let ring = Ring::first_term().unwrap();
    let header = create(&[&first, &second], &ring);
    for key in [&first, &second] {
        assert_eq!(open(&header, key).unwrap().newest().1.bytes(), ring.newest().1.bytes());
    }
    // What this version does not know is kept.
    let known = Header::parse(&golden::hex(golden::SLOTS_WITH_UNKNOWN_KIND)).unwrap();
    let ring_key = Key::from_slice(&[0x22; 32]).unwrap();
    let again = encode(&known.vault, &known.slots, &ring_key, &golden::ring()).unwrap();
    let again = Header::parse(&again).unwrap();
    let unknown = again.slots.iter().find(|slot| slot.kind == SlotKind::Unknown(9)).unwrap();
    assert_eq!((unknown.parameters.as_slice(), unknown.wrapped.as_slice()), (&b"abc"[..], &b"zz"[..]));
}

#[test]
fn a_slot_opens_as_its_own_kind_with_its_own_parameters_only() {
    let key = SlotKey::random().unwrap();
    let ring_key = Key::random().unwrap();
    let wrap = |kind| Slot::wrap(&key.vault, (kind, key.slot), vec![1], &key.key, &ring_key).unwrap();
    let slot = wrap(SlotKind::Keychain);
    assert!(slot.unwrap(&key.vault, &key.key).is_some());
    assert!(slot.unwrap(&[0; 16], &key.key).is_none());
    assert!(Slot { kind: SlotKind::File, ..slot.clone() }.unwrap(&key.vault, &key.key).is_none());
    assert!(Slot { parameters: vec![2], ..slot.clone() }.unwrap(&key.vault, &key.key).is_none());
    assert!(Slot { id: SlotId([0; 16]), ..slot }.unwrap(&key.vault, &key.key).is_none());
}

#[test]
fn every_byte_and_every_length_counts() {
    let slot = SlotKey::random().unwrap();
    let other = SlotKey::for_vault(slot.vault).unwrap();
    let header = create(&[&slot, &other], &Ring::first_term().unwrap());
    assert_eq!(outcome(&header, &slot), None);
    for position in 0..header.len() {
        for bit in [1, 0x80] {
            let mut altered = header.clone();
            altered[position] ^= bit;
            assert!(outcome(&altered, &slot).is_some(), "byte {position}");
        }
    }
    for length in 0..header.len() {
        assert!(outcome(&header[..length], &slot).is_some(), "length {length}");
    }
    assert_eq!(outcome(&[header.as_slice(), &[0]].concat(), &slot), Some(ErrorKind::Tampered));
}

#[test]
fn unknown_versions_and_wrong_keys_are_told_apart() {
    let header = golden::hex(golden::SLOTS);
    let mut later = header.clone();
    later[0] = 2;
    assert_eq!(outcome(&later, &golden::slot()), Some(ErrorKind::Format));
    assert_eq!(outcome(&header, &SlotKey::random().unwrap()), Some(ErrorKind::Key));
    assert_eq!(outcome(&header, &SlotKey { slot: SlotId([0; 16]), ..golden::slot() }), Some(ErrorKind::Key));
    let forged = SlotKey { key: Key::random().unwrap(), ..golden::slot() };
    assert_eq!(outcome(&header, &forged), Some(ErrorKind::Tampered));
}

#[test]
fn more_slots_of_a_kind_than_a_rekeying_has_are_not_looked_at() {
    let (key, ring_key, ring) =
        (SlotKey::random().unwrap(), Key::random().unwrap(), Ring::first_term().unwrap());
    let header = |kinds: &[SlotKind]| {
        let slot = |kind: &SlotKind| {
            Slot::wrap(&key.vault, (*kind, SlotId::random().unwrap()), vec![], &key.key, &ring_key).unwrap()
        };
        let slots: Vec<Slot> = kinds.iter().map(slot).collect();
        Header::parse(&encode(&key.vault, &slots, &ring_key, &ring).unwrap()).err().map(|error| error.kind())
    };
    for kind in [SlotKind::File, SlotKind::Passphrase, SlotKind::SystemdCredential, SlotKind::Keychain] {
        assert_eq!(header(&[kind, SlotKind::Unknown(9), kind]), None);
        assert_eq!(header(&[kind, kind, SlotKind::Unknown(9), kind]), Some(ErrorKind::Tampered));
    }
    // What cannot be tried costs nothing.
    assert_eq!(header(&[SlotKind::Unknown(9); 200]), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever the bytes are, they are an error or what was written; never a panic.
    #[test]
    fn no_bytes_break_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..400) {
        prop_assert!(open(&bytes, &golden::slot()).is_err());
        let _ = Ring::decode(&bytes);
        let good = golden::hex(golden::SLOTS);
        let spliced = [&good[..cut.min(good.len())], &bytes].concat();
        prop_assert!(spliced == good || open(&spliced, &golden::slot()).is_err());
    }
}
