//! The ring: the numbered root keys that everything else is derived from.

use zeroize::Zeroizing;

use crate::VaultError;
use crate::crypto::Key;
use crate::error::Tampering;
use crate::row::unknown;

const KIND_ROOT: u8 = 1;
const RING_ENTRY_LEN: usize = 4 + 1 + 32;

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

    /// The same terms.
    pub(crate) fn copied(&self) -> Ring {
        Ring(self.0.iter().map(|(term, key)| (*term, key.copied())).collect())
    }

    /// The same terms and a fresh one after them.
    pub(crate) fn with_new_term(&self) -> Result<Ring, VaultError> {
        let Ring(mut terms) = self.copied();
        let next = self.newest().0.checked_add(1).ok_or(Tampering::Slots)?;
        terms.push((next, Key::random()?));
        Ok(Ring(terms))
    }

    /// The term that new rows are sealed under.
    pub(crate) fn newest(&self) -> (u32, &Key) {
        let (term, key) = self.0.last().expect("a ring is never empty");
        (*term, key)
    }

    /// The first root. What has to stay the same under every term, such as where a row is kept, comes from it.
    pub(crate) fn oldest(&self) -> &Key {
        let (_, key) = self.0.first().expect("a ring is never empty");
        key
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_new_term_leaves_the_others_as_they_are() {
        let ring = Ring::first_term().unwrap();
        let longer = ring.with_new_term().unwrap();
        assert_eq!((ring.newest().0, longer.newest().0), (1, 2));
        assert_eq!(longer.oldest().bytes(), ring.oldest().bytes());
        assert_eq!(longer.root(1).unwrap().bytes(), ring.root(1).unwrap().bytes());
        assert_ne!(longer.newest().1.bytes(), ring.newest().1.bytes());
    }

    #[test]
    fn rings_that_make_no_sense() {
        let entry = |term: u32, kind: u8| [&term.to_be_bytes()[..], &[kind], &[7; 32]].concat();
        let ring =
            |count: u16, entries: &[Vec<u8>]| [count.to_be_bytes().to_vec(), entries.concat()].concat();
        let kind = |bytes: &[u8]| Ring::decode(bytes).err().map(|error| error.kind());
        let two = Ring::decode(&ring(2, &[entry(1, 1), entry(4, 1)])).unwrap();
        assert_eq!((two.newest().0, two.root(1).is_some(), two.root(2).is_some()), (4, true, false));
        assert_eq!(two.encode().as_slice(), ring(2, &[entry(1, 1), entry(4, 1)]));
        assert!(Ring::decode(&ring(1, &[entry(u32::MAX, 1)])).unwrap().with_new_term().is_err(), "terms end");
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
}
