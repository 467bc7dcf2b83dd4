//! One function for each parser of stored bytes, which takes any bytes and must not panic. The fuzz targets
//! (`vault/fuzz`) call them, and so do the property tests below, so that neither is left behind.
//!
//! What is sealed or MACed is met twice: from outside, where nothing but what was written may pass, and from inside,
//! behind the seal, where somebody with the key, or a later version, may have written anything.
//!
//! There is no feature for this: `--cfg fuzzing` is what fuzzers set, and nothing else does.

use std::fs::File;
use std::io::Write;

use rustix::fs::MemfdFlags;
use zeroize::Zeroizing;

use crate::anchor::Anchor;
use crate::audit::{self, Tip};
use crate::crypto::{self, Key, Label};
use crate::golden::{self, VAULT};
use crate::head::Head;
use crate::passphrase::Derivation;
use crate::row::{self, Place};
use crate::slots::{Header, Ring, SlotId};
use crate::{AuditEvent, Keychain, KeychainError, keychain, keyfile};

/// A parser, and bytes that it accepts.
pub struct Target {
    /// Its name, that of its fuzz target.
    pub name: &'static str,
    /// Tries the bytes.
    pub try_bytes: fn(&[u8]),
    /// Bytes as they are written.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "row", try_bytes: row, seeds: || vec![golden::hex(golden::ROW)] },
    Target { name: "head", try_bytes: head, seeds: || vec![golden::hex(golden::HEAD)] },
    Target { name: "anchor", try_bytes: anchor, seeds: anchor_seeds },
    Target { name: "audit", try_bytes: audit, seeds: || vec![golden::hex(golden::AUDIT)] },
    Target { name: "audit_content", try_bytes: audit_content, seeds: audit_content_seeds },
    Target { name: "slots", try_bytes: slots, seeds: slot_seeds },
    Target { name: "slots_content", try_bytes: slots_content, seeds: slots_content_seeds },
    Target { name: "ring", try_bytes: ring, seeds: || vec![golden::ring().encode().to_vec()] },
    Target { name: "derivation", try_bytes: derivation, seeds: derivation_seeds },
    Target { name: "key_file", try_bytes: key_file, seeds: || vec![golden::hex(golden::KEY_FILE)] },
    Target { name: "keychain_entry", try_bytes: keychain_entry, seeds: keychain_seeds },
    Target { name: "backup", try_bytes: backup, seeds: || vec![crate::backup::fuzzing::file_seed()] },
    Target { name: "backup_content", try_bytes: backup_content, seeds: backup_seeds },
    Target { name: "meta", try_bytes: meta, seeds: crate::vault::fuzzing::meta_seeds },
    Target { name: "last_batch", try_bytes: last_batch, seeds: || vec![crate::store::last::seed()] },
    Target { name: "value", try_bytes: value, seeds: || vec![crate::vault::fuzzing::value_seed()] },
];

/// A sealed row.
pub fn row(data: &[u8]) {
    let Ok(name) = "OPENAI_API_KEY".parse() else { return };
    let opened = row::open(&golden::ring(), &Place::value(&VAULT, "default", &name, 3), data);
    assert!(opened.is_err() || data == golden::hex(golden::ROW));
}

/// The head.
pub fn head(data: &[u8]) {
    let head = Head::decode(data, &VAULT, &golden::ring());
    assert!(head.is_err() || data == golden::hex(golden::HEAD));
}

/// The anchor's file.
pub fn anchor(data: &[u8]) {
    let anchor = Anchor::new(file_with(data));
    let _ = anchor.is_blank();
    if let Ok(Some(mark)) = anchor.read(&VAULT, &golden::ring()) {
        assert_eq!((mark.generation, mark.link), (5, [4; 32]));
    }
}

fn anchor_seeds() -> Vec<Vec<u8>> {
    let slot = golden::hex(golden::ANCHOR);
    let second = [vec![0; 4096], slot.clone()].concat();
    vec![slot, second]
}

/// An audit record.
pub fn audit(data: &[u8]) {
    let _ = audit::claimed_previous(data);
    let read = audit::read(&VAULT, &golden::ring(), Tip::EMPTY, data);
    assert!(read.is_err() || data == golden::hex(golden::AUDIT));
}

/// What is sealed in an audit record.
pub fn audit_content(data: &[u8]) {
    let ring = golden::ring();
    let Ok((sealed, _)) = audit::seal(&VAULT, &ring, Tip::EMPTY, data) else { return };
    let Ok((record, _)) = audit::read(&VAULT, &ring, Tip::EMPTY, &sealed) else { return };
    if record.event == AuditEvent::Unknown {
        return;
    }
    let content = (record.time, record.workspace.as_str(), record.event.clone());
    let again = audit::append(&VAULT, &ring, Tip::EMPTY, content);
    let again = again.and_then(|(again, _)| audit::read(&VAULT, &ring, Tip::EMPTY, &again));
    assert_eq!(again.ok().map(|(again, _)| again), Some(record));
}

fn audit_content_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"time":1700000000,"workspace":"default","event":{"event":"removed","secret":"A","version":2}}"#,
        r#"{"time":1,"workspace":"w","event":{"event":"use_planned","run":"r","secret":"A","host":"h"}}"#,
        r#"{"time":1,"workspace":"w","event":{"event":"secret_granted","secret":"A","grant":1,"terms":{"host":"h","runs":2}}}"#,
        r#"{"time":1,"workspace":"","event":{"event":"from_the_future","term":2}}"#,
    ]
    .map(|json| [b"\x01", json.as_bytes()].concat())
    .into()
}

/// The slot header: taken apart, its slots tried, its MAC checked.
pub fn slots(data: &[u8]) {
    let Ok(header) = Header::parse(data) else { return };
    for slot in &header.slots {
        let _ = Derivation::decode(&slot.parameters);
        let _ = slot.unwrap(&header.vault, &golden::slot().key);
    }
    let genuine = [golden::SLOTS, golden::SLOTS_WITH_UNKNOWN_KIND].map(golden::hex);
    assert!(header.open(&ring_key()).is_err() || genuine.iter().any(|header| header == data));
}

fn slot_seeds() -> Vec<Vec<u8>> {
    vec![golden::hex(golden::SLOTS), golden::hex(golden::SLOTS_WITH_UNKNOWN_KIND)]
}

/// A header with a MAC that is right, whatever is in it.
pub fn slots_content(data: &[u8]) {
    let Some(vault) = data.get(1..17).and_then(|id| id.try_into().ok()) else { return };
    let mac = crypto::mac(&crypto::derive(&ring_key(), vault, Label::Slots), &[data]);
    if let Ok(header) = Header::parse(&[data, &mac].concat()) {
        let _ = header.open(&ring_key());
    }
}

fn slots_content_seeds() -> Vec<Vec<u8>> {
    let without_mac = |header: Vec<u8>| header.split_last_chunk::<32>().map(|(body, _)| body.to_vec());
    slot_seeds().into_iter().filter_map(without_mac).collect()
}

/// The key ring: there is one way to write it.
pub fn ring(data: &[u8]) {
    if let Ok(ring) = Ring::decode(data) {
        assert_eq!(ring.encode().as_slice(), data);
        let _ = ring.with_new_term();
    }
}

/// The parameters of a passphrase: they cost no more than what is allowed.
pub fn derivation(data: &[u8]) {
    if let Ok(derivation) = Derivation::decode(data) {
        assert_eq!(derivation.encode(), data);
        let number = |at: usize| {
            data.get(at..at + 4).and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)))
        };
        let cost = [1, 5, 9].map(number).map(Option::unwrap_or_default).map(u64::from);
        let [memory, passes, lanes] = cost;
        assert!(memory <= 1 << 20 && memory * passes <= 1 << 22 && lanes <= 16, "{cost:?}");
    }
}

fn derivation_seeds() -> Vec<Vec<u8>> {
    vec![[&[1, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4][..], &[9; 16]].concat()]
}

/// A key file, or a credential: there is one way to write a key, and it is never read further than it is long.
pub fn key_file(data: &[u8]) {
    let Ok(read) = keyfile::read_bounded(&file_with(data)) else { panic!("a file in memory can be read") };
    assert!(data.starts_with(&read));
    match (keyfile::decode(&read), keyfile::decode(data)) {
        (Ok(key), Ok(_)) => assert_eq!(keyfile::encode(&key).as_slice(), data),
        (Err(_), Err(_)) => {}
        _ => panic!("a file is taken for what it is not"),
    }
}

/// An entry of a keychain.
pub fn keychain_entry(data: &[u8]) {
    let _ = keychain::load(&Entry(data), &VAULT, &SlotId([0; 16]));
}

fn keychain_seeds() -> Vec<Vec<u8>> {
    vec![data_encoding::BASE64.encode(&golden::hex(golden::KEY_FILE)).into_bytes()]
}

/// A backup's file.
pub fn backup(data: &[u8]) {
    crate::backup::fuzzing::file(data);
}

/// What is inside a backup.
pub fn backup_content(data: &[u8]) {
    crate::backup::fuzzing::content(data);
}

fn backup_seeds() -> Vec<Vec<u8>> {
    vec![crate::backup::fuzzing::content_seed()]
}

/// A secret's metadata.
pub fn meta(data: &[u8]) {
    crate::vault::fuzzing::meta(data);
}

/// A secret's value.
pub fn value(data: &[u8]) {
    crate::vault::fuzzing::value(data);
}

/// The store's last batch.
pub fn last_batch(data: &[u8]) {
    crate::store::last::try_bytes(data);
}

fn ring_key() -> Key {
    Key::from_slice(&[0x22; 32]).expect("a key has 32 bytes")
}

/// A file in memory.
fn file_with(data: &[u8]) -> File {
    let file = rustix::fs::memfd_create("fuzzing", MemfdFlags::CLOEXEC).map(File::from);
    let mut file = file.expect("there is memory for a file");
    file.write_all(data)
        .and_then(|()| std::io::Seek::rewind(&mut file))
        .expect("there is memory for its content");
    file
}

/// A keychain with one entry.
struct Entry<'a>(&'a [u8]);

impl Keychain for Entry<'_> {
    fn set(&self, _: &str, _: &[u8]) -> Result<(), KeychainError> {
        Ok(())
    }

    fn get(&self, _: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeychainError> {
        Ok(Some(Zeroizing::new(self.0.to_vec())))
    }

    fn remove(&self, _: &str) -> Result<(), KeychainError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
