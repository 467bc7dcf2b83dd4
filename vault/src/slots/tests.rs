use proptest::prelude::*;

use super::*;
use crate::ErrorKind;
use crate::golden;

fn outcome(header: &[u8], slot: &SlotKey) -> Option<ErrorKind> {
    match open(header, slot) {
        Ok(_) => None,
        Err(SlotsError::WrongKey) => Some(ErrorKind::Key),
        Err(SlotsError::Vault(error)) => Some(error.kind()),
    }
}

#[test]
fn the_format_stands_still() {
    for header in [golden::SLOTS, golden::SLOTS_WITH_UNKNOWN_KIND] {
        let ring = open(&golden::hex(header), &golden::slot()).ok().unwrap();
        assert_eq!(ring.newest().0, 1);
        assert_eq!(ring.newest().1.bytes(), golden::ring().newest().1.bytes());
    }
}

#[test]
fn every_byte_and_every_length_counts() {
    let slot = SlotKey::random().unwrap();
    let header = create(&slot, &Ring::first_term().unwrap()).unwrap();
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
    assert_eq!(outcome(&header, &SlotKey { slot: [0; 16], ..golden::slot() }), Some(ErrorKind::Key));
    let forged = SlotKey { key: Key::random().unwrap(), ..golden::slot() };
    assert_eq!(outcome(&header, &forged), Some(ErrorKind::Tampered));
}

#[test]
fn rings_that_make_no_sense() {
    let entry = |term: u32, kind: u8| [&term.to_be_bytes()[..], &[kind], &[7; 32]].concat();
    let ring = |count: u16, entries: &[Vec<u8>]| [count.to_be_bytes().to_vec(), entries.concat()].concat();
    let kind = |bytes: &[u8]| Ring::decode(bytes).err().map(|error| error.kind());
    let two = Ring::decode(&ring(2, &[entry(1, 1), entry(4, 1)])).unwrap();
    assert_eq!((two.newest().0, two.root(1).is_some(), two.root(2).is_some()), (4, true, false));
    assert_eq!(two.encode().as_slice(), ring(2, &[entry(1, 1), entry(4, 1)]));
    for (bytes, expected) in [
        (vec![], ErrorKind::Tampered),
        (ring(0, &[]), ErrorKind::Tampered),
        (ring(1, &[]), ErrorKind::Tampered),
        (ring(1, &[entry(1, 1), entry(2, 1)]), ErrorKind::Tampered),
        (ring(2, &[entry(2, 1), entry(1, 1)]), ErrorKind::Tampered),
        (ring(2, &[entry(1, 1), entry(1, 1)]), ErrorKind::Tampered),
        (ring(1, &[entry(1, 9)]), ErrorKind::Format),
    ] {
        assert_eq!(kind(&bytes), Some(expected), "{bytes:?}");
    }
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
