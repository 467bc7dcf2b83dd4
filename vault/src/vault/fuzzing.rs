//! What [`crate::fuzzing`] cannot reach: the content of a secret's rows.

use super::content::{self, StoredMeta};
use crate::{GrantTerms, Secret, ValuePlace};

/// Metadata is refused, or what it says can be written and read again.
pub(crate) fn meta(data: &[u8]) {
    let Ok(meta) = StoredMeta::decode(data) else { return };
    let Ok(again) = meta.encode() else { panic!("what was read can be written") };
    let Ok(read) = StoredMeta::decode(&again) else { panic!("what was written can be read") };
    assert_eq!(meta.into_summary().ok(), read.into_summary().ok());
}

/// A value is refused, or padded again to what says the same.
pub(crate) fn value(data: &[u8]) {
    let Ok(value) = content::unpad_value(data) else { return };
    let Ok(again) = content::unpad_value(&content::pad_value(&value)) else {
        panic!("what was padded can be read")
    };
    assert!(value.expose(|value| again.expose(|again| value == again)));
}

/// Metadata as it is written, and as it was by an earlier version.
pub(crate) fn meta_seeds() -> Vec<Vec<u8>> {
    let value = Secret::new(b"0123456789abcdef".to_vec());
    let Ok(name) = "OPENAI_API_KEY".parse() else { return Vec::new() };
    let mut meta = StoredMeta::new(&name, &value, "0123456789abcdef".to_owned(), None, 1);
    meta.grant(GrantTerms {
        host: Some("api.example.com".to_owned()),
        place: Some(ValuePlace::Header("authorization".to_owned())),
        agents: vec!["orch/summarizer".to_owned()],
        runs: Some(3),
        ..GrantTerms::default()
    });
    let before = br#"{"name":"A","version":3,"removed":false,"created":1,"updated":2,"mask":"cdef","fingerprint":"00","scrubbable":true,"hosts":["a.example"],"header":"x-token","never_in_header":false,"agents":["acme/x"],"expires":9}"#;
    let written = meta.encode().map(|plain| plain.to_vec());
    written.into_iter().chain([[&b"\x01"[..], before].concat()]).collect()
}

/// A value as it is written.
pub(crate) fn value_seed() -> Vec<u8> {
    content::pad_value(&Secret::new(b"0123456789abcdef".to_vec())).to_vec()
}
