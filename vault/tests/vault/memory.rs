//! What of a value is left in the memory of a process that has used it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use orch_vault::{ExpectedVersion, Secret, SecretMeta, Vault};

use crate::support::*;

const LENGTH: usize = 40;
/// The canary is only ever spelled with this over it, so that looking for it does not find the looking.
const MASK: u8 = 0x5a;
const MASKED: [u8; LENGTH] = {
    let mut masked = [0; LENGTH];
    let text = b"canary-of-memory-Zq7-0123456789-abcdefgh";
    let mut at = 0;
    while at < LENGTH {
        masked[at] = text[at] ^ MASK;
        at += 1;
    }
    masked
};

fn canary() -> Secret {
    Secret::new(MASKED.iter().map(|byte| byte ^ MASK).collect())
}

/// Where the canary is, and whether a core dump would have it.
fn sightings() -> Vec<(usize, bool)> {
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut found = Vec::new();
    let mut region: Option<(usize, usize)> = None;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some((from, to)) = first.split_once('-')
            && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        {
            let readable = words.next().is_some_and(|access| access.starts_with("rw"));
            region = readable.then_some((from, to));
        }
        if let (Some(flags), Some((from, to))) = (line.strip_prefix("VmFlags:"), region) {
            let dumped = !flags.split_whitespace().any(|flag| flag == "dd");
            let mut content = vec![0; to - from];
            if memory.read_exact_at(&mut content, from as u64).is_ok() {
                for (offset, window) in content.windows(LENGTH).enumerate() {
                    if window.iter().zip(MASKED).all(|(byte, masked)| byte ^ MASK == masked) {
                        found.push((from + offset, dumped));
                    }
                }
            }
            // The copy that was searched must not be found in the next region.
            content.fill(0);
        }
    }
    found
}

fn store(vault: &mut Vault) {
    vault.set(&name("CANARY"), canary(), SecretMeta::default(), ExpectedVersion::Any).unwrap();
}

/// The child's part: alone in its process, where no other test's threads come by.
#[test]
fn child_looks_for_the_canary() {
    let Some(location) = child_location() else { return };
    assert_eq!(sightings(), [], "before there was any");
    let mut vault = Vault::open(&location, orch_vault::OpenMode::Create).unwrap();
    store(&mut vault);
    assert_eq!(sightings(), [], "after it was stored");
    let (value, _) = vault.open_secret(&name("CANARY")).unwrap().unwrap();
    let held = sightings();
    assert_eq!(held.len(), 1, "while it is used, in one place: {held:?}");
    assert!(!held[0].1, "and in none that a core dump would have");
    drop(value);
    assert_eq!(sightings(), [], "after it was used");
    println!("looked for the canary");
}

#[cfg(target_os = "linux")]
#[test]
fn a_value_is_in_memory_only_while_it_is_used() {
    let home = Home::new();
    let looked = child("memory::child_looks_for_the_canary", &home.path()).output().unwrap();
    let said =
        String::from_utf8_lossy(&looked.stdout).into_owned() + &String::from_utf8_lossy(&looked.stderr);
    assert!(looked.status.success() && said.contains("looked for the canary"), "{said}");
}
