use proptest::prelude::*;

use super::*;
use crate::ErrorKind;
use crate::golden::{self, VAULT};

fn key() -> Key {
    Key::from_slice(&[7; 32]).unwrap()
}

fn rows(size: usize) -> Rows {
    vec![(b"a".to_vec(), vec![1; size]), (b"b".to_vec(), Vec::new()), (b"ba".to_vec(), vec![2; 9])]
}

fn sealed(rows: &Rows) -> Vec<u8> {
    let plain = encode(&VAULT, &golden::ring(), rows);
    seal_with(&Derivation::fresh().unwrap(), &key(), &plain).unwrap()
}

fn opened(backup: &[u8]) -> Result<Rows, VaultError> {
    Ok(open_with(&key(), &Header::read(backup)?)?.rows)
}

#[test]
fn what_is_sealed_is_opened_at_every_size_around_a_chunk() {
    let around = encode(&VAULT, &golden::ring(), &rows(0)).len();
    for size in [0, 1, CHUNK_LEN - around - 1, CHUNK_LEN - around, CHUNK_LEN - around + 1, 3 * CHUNK_LEN] {
        assert_eq!(opened(&sealed(&rows(size))).unwrap(), rows(size), "{size}");
    }
}

#[test]
fn a_passphrase_opens_it_and_another_one_does_not() {
    let right = Secret::new(b"correct horse battery".to_vec());
    let backup = seal(&right, &VAULT, &golden::ring(), &rows(3)).unwrap();
    let content = open(&right, &backup).unwrap();
    assert_eq!((content.vault, content.rows), (VAULT, rows(3)));
    assert_eq!(content.ring.encode(), golden::ring().encode());
    let wrong = open(&Secret::new(b"correct horse batterz".to_vec()), &backup).err().unwrap();
    assert!(matches!(wrong, VaultError::WrongBackupPassphrase));
    let weak = seal(&Secret::new(b"short".to_vec()), &VAULT, &golden::ring(), &rows(3)).err().unwrap();
    assert_eq!(weak.kind(), ErrorKind::Slots);
}

#[test]
fn every_byte_and_every_length_counts() {
    let backup = sealed(&rows(40));
    for position in 0..backup.len() {
        let mut altered = backup.clone();
        altered[position] ^= 1;
        assert!(opened(&altered).is_err(), "byte {position}");
    }
    for length in 0..backup.len() {
        assert!(opened(&backup[..length]).is_err(), "length {length}");
    }
    assert!(opened(&[backup.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn chunks_do_not_move() {
    let backup = sealed(&rows(3 * CHUNK_LEN));
    let other = sealed(&rows(3 * CHUNK_LEN));
    let begin = backup.len() - Header::read(&backup).unwrap().chunks.len();
    let sealed_len = CHUNK_LEN + SEAL_OVERHEAD;
    let chunk = |from: &[u8], number: usize| {
        let start = begin + number * sealed_len;
        from[start..from.len().min(start + sealed_len)].to_vec()
    };
    let put = |chunks: &[Vec<u8>]| [&backup[..begin], &chunks.concat()].concat();
    let whole: Vec<Vec<u8>> = (0..4).map(|number| chunk(&backup, number)).collect();
    assert!(opened(&put(&whole)).is_ok());
    for order in [&[1, 0, 2, 3][..], &[0, 2, 1, 3], &[0, 1, 2], &[0, 1, 3], &[0, 1, 2, 2, 3], &[3], &[]] {
        let chunks: Vec<Vec<u8>> = order.iter().map(|number| whole[*number].clone()).collect();
        assert!(opened(&put(&chunks)).is_err(), "{order:?}");
    }
    // Of another backup, under the same key.
    for number in 0..4 {
        let mut mixed = whole.clone();
        mixed[number] = chunk(&other, number);
        assert!(opened(&put(&mixed)).is_err(), "{number}");
    }
}

#[test]
fn formats_from_the_future_are_named_and_hostile_costs_refused() {
    let backup = sealed(&rows(1));
    let altered = |position: usize, byte: u8| {
        let mut altered = backup.clone();
        altered[position] = byte;
        Header::read(&altered).err().map(|error| error.kind())
    };
    assert_eq!(altered(8, 2), Some(ErrorKind::Format));
    assert_eq!(altered(11, 9), Some(ErrorKind::Format));
    assert_eq!(altered(12, 0xff), Some(ErrorKind::Tampered));
    let mut plain = encode(&VAULT, &golden::ring(), &rows(1));
    plain[0] = 2;
    assert_eq!(decode(&plain).err().map(|error| error.kind()), Some(ErrorKind::Format));
    let twice = vec![(b"a".to_vec(), vec![1]), (b"a".to_vec(), vec![2])];
    assert!(decode(&encode(&VAULT, &golden::ring(), &twice)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_break_the_parsers(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Header::read(&bytes);
        let _ = Header::read(&[MAGIC.as_slice(), &[VERSION], &bytes].concat());
        let _ = decode(&bytes);
        let _ = decode(&[&[CONTENT_VERSION][..], &VAULT, &bytes].concat());
    }

    #[test]
    fn what_is_encoded_is_decoded(
        rows in proptest::collection::btree_map(
            proptest::collection::vec(any::<u8>(), 1..40), proptest::collection::vec(any::<u8>(), 0..90), 0..12)
    ) {
        let rows: Rows = rows.into_iter().collect();
        let plain = encode(&VAULT, &golden::ring(), &rows);
        prop_assert_eq!(&decode(&plain).unwrap().rows, &rows);
        // A shorter one is another one or none.
        for length in 0..plain.len() {
            if let Ok(content) = decode(&plain[..length]) {
                prop_assert!(content.rows.len() < rows.len());
            }
        }
    }
}

#[test]
fn what_could_not_be_read_again_is_not_sealed() {
    for (plain, fits) in [(0, true), (LARGEST / 2, true), (LARGEST - 1024, false), (LARGEST, false)] {
        assert_eq!(check_size(plain).is_ok(), fits, "{plain}");
    }
    // What fits by this count does so once it is sealed.
    let key = Key::random().unwrap();
    for length in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, 3 * CHUNK_LEN + 5] {
        let sealed = seal_with(&Derivation::fresh().unwrap(), &key, &vec![7; length]).unwrap().len() as u64;
        let counted = 1024 + (length + (length / CHUNK_LEN + 1) * SEAL_OVERHEAD) as u64;
        assert!((sealed..sealed + 1024).contains(&counted), "{length}: {sealed}, {counted}");
    }
}
