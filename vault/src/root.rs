//! One hash over all rows, cheap to update.
//!
//! A Merkle tree of depth two. A row's *leaf* is SHA-256 of its key and its bytes. The first byte of
//! SHA-256(key) puts the row into one of 256 *buckets*; a bucket's hash is SHA-256 of its leaves, sorted by
//! key; the root is SHA-256 of the number of rows and the 256 bucket hashes. Every input begins with its
//! own tag, and what varies in length is preceded by its length, so no leaf can be taken for a bucket and
//! no two sets of rows share an encoding: two stores with the same root have the same rows, or SHA-256 has
//! a collision.
//!
//! A change costs one leaf, one bucket (1/256 of the rows) and 8 KiB of bucket hashes, whatever the size of the
//! values. Sums or XORs of row hashes would be cheaper still, but a plain sum of hashes is not collision
//! resistant and a keyed one needs an argument; this needs none. Nothing of the tree is stored but the
//! root, in the head; opening the vault reads every row once and builds it again.
//!
//! Audit records are not rows here: the head holds the end of their chain.

use std::collections::BTreeMap;

use crate::crypto::{Hash, sha256};

const BUCKETS: usize = 256;

/// The leaves of all rows, and the bucket hashes over them.
pub(crate) struct RowsRoot {
    buckets: Vec<Bucket>,
    rows: u64,
}

#[derive(Clone)]
struct Bucket {
    leaves: BTreeMap<Box<[u8]>, Hash>,
    hash: Hash,
}

impl RowsRoot {
    /// The tree of no rows.
    pub(crate) fn new() -> RowsRoot {
        let empty = Bucket { hash: bucket_hash(&BTreeMap::new()), leaves: BTreeMap::new() };
        RowsRoot { buckets: vec![empty; BUCKETS], rows: 0 }
    }

    /// The tree of `rows`.
    pub(crate) fn build(rows: impl IntoIterator<Item = (Box<[u8]>, Hash)>) -> RowsRoot {
        let mut root = RowsRoot::new();
        for (key, leaf) in rows {
            let bucket = root.bucket_mut(&key);
            let replaced = bucket.leaves.insert(key, leaf);
            root.rows += u64::from(replaced.is_none());
        }
        for bucket in root.buckets.iter_mut().filter(|bucket| !bucket.leaves.is_empty()) {
            bucket.hash = bucket_hash(&bucket.leaves);
        }
        root
    }

    /// Puts the row `bytes` at `key`.
    pub(crate) fn put(&mut self, key: &[u8], bytes: &[u8]) {
        let bucket = self.bucket_mut(key);
        let replaced = bucket.leaves.insert(key.into(), leaf(key, bytes));
        bucket.hash = bucket_hash(&bucket.leaves);
        self.rows += u64::from(replaced.is_none());
    }

    /// Takes the row at `key` away.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        let bucket = self.bucket_mut(key);
        let removed = bucket.leaves.remove(key);
        bucket.hash = bucket_hash(&bucket.leaves);
        self.rows -= u64::from(removed.is_some());
    }

    /// Whether the row at `key` has exactly these bytes, or, with `None`, is not there.
    pub(crate) fn holds(&self, key: &[u8], bytes: Option<&[u8]>) -> bool {
        let known = self.buckets.get(bucket_of(key)).and_then(|bucket| bucket.leaves.get(key));
        known.copied() == bytes.map(|bytes| leaf(key, bytes))
    }

    /// The keys that begin with `prefix`, in no particular order.
    pub(crate) fn keys<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let keys = self.buckets.iter().flat_map(|bucket| bucket.leaves.keys());
        keys.map(|key| &**key).filter(move |key| key.starts_with(prefix))
    }

    /// The root.
    pub(crate) fn hash(&self) -> Hash {
        let count = self.rows.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![b"orch.vault.root/1", &count];
        parts.extend(self.buckets.iter().map(|bucket| bucket.hash.as_slice()));
        sha256(&parts)
    }

    fn bucket_mut(&mut self, key: &[u8]) -> &mut Bucket {
        self.buckets.get_mut(bucket_of(key)).expect("a byte is below 256")
    }
}

/// The leaf of a row.
pub(crate) fn leaf(key: &[u8], bytes: &[u8]) -> Hash {
    let length = (key.len() as u64).to_be_bytes();
    sha256(&[b"orch.vault.leaf/1", &length, key, bytes])
}

fn bucket_of(key: &[u8]) -> usize {
    let [first, ..] = sha256(&[key]);
    usize::from(first)
}

fn bucket_hash(leaves: &BTreeMap<Box<[u8]>, Hash>) -> Hash {
    // A leaf covers its key, so the leaves in the keys' order say it all; they have one length each.
    let mut parts: Vec<&[u8]> = vec![b"orch.vault.bucket/1"];
    parts.extend(leaves.values().map(Hash::as_slice));
    sha256(&parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::golden;

    fn built(rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> RowsRoot {
        RowsRoot::build(rows.iter().map(|(key, bytes)| (key.as_slice().into(), leaf(key, bytes))))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn updating_and_building_agree(
            steps in proptest::collection::vec((0u8..12, proptest::option::of(0u8..4)), 0..60)
        ) {
            let mut rows = BTreeMap::new();
            let mut root = RowsRoot::new();
            for (key, value) in steps {
                let key = vec![key];
                match value {
                    Some(value) => {
                        root.put(&key, &[value]);
                        rows.insert(key.clone(), vec![value]);
                    }
                    None => {
                        root.remove(&key);
                        rows.remove(&key);
                    }
                }
                prop_assert!(root.holds(&key, rows.get(&key).map(Vec::as_slice)));
                prop_assert_eq!(root.hash(), built(&rows).hash());
            }
        }

        #[test]
        fn different_rows_have_different_roots(
            a in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 0..3), proptest::collection::vec(any::<u8>(), 0..3), 0..6),
            b in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 0..3), proptest::collection::vec(any::<u8>(), 0..3), 0..6),
        ) {
            prop_assert_eq!(a == b, built(&a).hash() == built(&b).hash());
        }
    }

    #[test]
    fn the_format_stands_still() {
        let mut root = RowsRoot::new();
        root.put(b"k", b"header");
        root.put(b"m\x01", b"meta");
        assert_eq!(root.hash().as_slice(), golden::hex(golden::ROOT));
    }

    #[test]
    fn a_byte_does_not_move_between_key_and_row() {
        let mut one = RowsRoot::new();
        one.put(b"ab", b"c");
        let mut other = RowsRoot::new();
        other.put(b"a", b"bc");
        assert_ne!(one.hash(), other.hash());
    }
}
