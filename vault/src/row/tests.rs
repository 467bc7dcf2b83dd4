use proptest::prelude::*;

use super::*;
use crate::ErrorKind;
use crate::golden::{self, VAULT};

fn name() -> SecretName {
    "OPENAI_API_KEY".parse().unwrap()
}

fn kind(outcome: Result<Zeroizing<Vec<u8>>, VaultError>) -> Option<ErrorKind> {
    outcome.err().map(|error| error.kind())
}

#[test]
fn the_format_stands_still() {
    let name = name();
    let place = Place::value(&VAULT, "default", &name, 3);
    let row = open(&golden::ring(), &place, &golden::hex(golden::ROW)).unwrap();
    assert_eq!(row.as_slice(), b"plain text of the row");
}

#[test]
fn every_byte_and_every_length_counts() {
    let (ring, name) = (golden::ring(), name());
    let place = Place::value(&VAULT, "default", &name, 3);
    let row = seal(&ring, &place, b"sixteen and more").unwrap();
    assert_eq!(open(&ring, &place, &row).unwrap().as_slice(), b"sixteen and more");
    for position in 0..row.len() {
        for bit in 0..8 {
            let mut altered = row.clone();
            altered[position] ^= 1 << bit;
            let expected = if position < 2 { ErrorKind::Format } else { ErrorKind::Tampered };
            assert_eq!(kind(open(&ring, &place, &altered)), Some(expected), "byte {position}, bit {bit}");
        }
    }
    for length in 0..row.len() {
        assert!(open(&ring, &place, &row[..length]).is_err(), "length {length}");
    }
    assert!(open(&ring, &place, &[row.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn unknown_versions_and_ciphers_are_named() {
    let (ring, name) = (golden::ring(), name());
    let place = Place::value(&VAULT, "default", &name, 3);
    let row = golden::hex(golden::ROW);
    for (position, text) in [
        (0, "a row has format 2, and this version of orch knows formats up to 1"),
        (1, "a row's cipher has format 2, and this version of orch knows formats up to 1"),
    ] {
        let mut later = row.clone();
        later[position] = 2;
        assert_eq!(open(&ring, &place, &later).unwrap_err().to_string(), text);
    }
}

#[test]
fn a_row_opens_in_its_own_place_only() {
    let (ring, name) = (golden::ring(), name());
    let other: SecretName = "OTHER".parse().unwrap();
    let place = Place::value(&VAULT, "default", &name, 3);
    let row = seal(&ring, &place, b"text").unwrap();
    for elsewhere in [
        Place { vault: &[0; 16], ..place },
        Place { workspace: "other", ..place },
        Place { workspace: "", ..place },
        Place { kind: RowKind::Meta, ..place },
        Place { kind: RowKind::Audit, ..place },
        Place { name: other.as_str().as_bytes(), ..place },
        Place { version: 2, ..place },
        Place { version: 4, ..place },
    ] {
        assert_eq!(kind(open(&ring, &elsewhere, &row)), Some(ErrorKind::Tampered), "{elsewhere:?}");
    }
    assert_eq!(kind(open(&Ring::first_term().unwrap(), &place, &row)), Some(ErrorKind::Tampered));
}

#[test]
fn fields_do_not_run_into_each_other() {
    assert_ne!(length_prefixed(&[b"ab", b"c"]), length_prefixed(&[b"a", b"bc"]));
    assert_ne!(length_prefixed(&[b"", b"a"]), length_prefixed(&[b"a", b""]));
    assert_ne!(length_prefixed(&[b"a"]), length_prefixed(&[b"a", b""]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever the bytes are, they are an error or what was written; never a panic.
    #[test]
    fn no_bytes_break_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..200) {
        let ring = golden::ring();
        let name = "OPENAI_API_KEY".parse().unwrap();
        let place = Place::value(&VAULT, "default", &name, 3);
        prop_assert!(open(&ring, &place, &bytes).is_err());
        let good = golden::hex(golden::ROW);
        let spliced = [&good[..cut.min(good.len())], &bytes].concat();
        prop_assert!(spliced == good || open(&ring, &place, &spliced).is_err());
    }
}
