//! Many writers, one history.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use orch_vault::{AuditEvent, ErrorKind, ExpectedVersion, OpenMode, Secret, SecretMeta, Vault};

use crate::support::*;

const WRITERS: usize = 8;
/// Over all writers.
const OPERATIONS: usize = 1000;
const SECRETS: usize = 3;

/// The child's part: opens the vault for each operation, as a command does, and adds one to a counter by
/// compare-and-swap. Says what it was told.
#[test]
fn child_writes() {
    let Some(location) = child_location() else { return };
    for operation in 0..OPERATIONS / WRITERS {
        let secret = format!("COUNTER_{}", operation % SECRETS);
        loop {
            let mut vault = match Vault::open(&location, OpenMode::Create) {
                Ok(vault) => vault,
                // Others hold it one after another; two seconds may pass.
                Err(error) if error.kind() == ErrorKind::Locked => continue,
                Err(error) => panic!("{error}"),
            };
            let (count, expected) = match vault.open_secret(&name(&secret)).unwrap() {
                None => (0, ExpectedVersion::Absent),
                Some((value, found)) => (count_in(&value), ExpectedVersion::Exactly(found.version)),
            };
            let value = Secret::new(format!("the counter is {:020}", count + 1).into_bytes());
            match vault.set(&name(&secret), value, SecretMeta::default(), expected) {
                Ok(version) => {
                    println!("did {secret} {} {version}", count + 1);
                    break;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
    }
}

fn count_in(value: &Secret) -> u64 {
    value.expose(|value| std::str::from_utf8(value).unwrap().rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn eight_writers_and_one_linear_history() {
    let home = Home::in_memory();
    drop(home.open());
    let children: Vec<_> = (0..WRITERS)
        .map(|_| {
            let mut command = child("concurrency::child_writes", &home.path());
            command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
        })
        .collect();
    let mut told: BTreeMap<(String, u64), u64> = BTreeMap::new();
    for mut child in children {
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(("", words)) = line.split_once("did ").map(|(_, words)| ("", words)) else { continue };
            let [secret, count, version] = words.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let key = (secret.to_owned(), version.parse().unwrap());
            // No version was given twice.
            assert_eq!(told.insert(key, count.parse().unwrap()), None, "{line}");
        }
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(told.len(), OPERATIONS);
    // Each version says what it should: nothing was lost between a read and its write.
    assert!(told.iter().all(|((_, version), count)| version == count));

    let vault = home.open();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for record in vault.audit().unwrap() {
        if let AuditEvent::Set { secret, version, .. } = record.event {
            let before = last.insert(secret.to_string(), version.get()).unwrap_or(0);
            assert_eq!(version.get(), before + 1, "{secret}");
        }
    }
    assert_eq!(last.values().sum::<u64>(), OPERATIONS as u64);
    for (secret, version) in last {
        let (value, _) = vault.open_secret(&name(&secret)).unwrap().unwrap();
        assert_eq!(count_in(&value), version);
    }
    assert!(vault.verify().unwrap().is_sound());
}
