//! Killed at any moment, an acknowledged change is there.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use orch_vault::{AuditEvent, OpenMode, Vault};

use crate::support::*;

fn counter(number: u64) -> String {
    format!("the counter says {number:020}")
}

/// The child's part: count in the vault, and say each number once it is durable.
#[test]
fn child_counts() {
    let Some(location) = child_location() else { return };
    let mut vault = Vault::open(&location, OpenMode::Create).unwrap();
    let mut number = vault.version(&name("COUNTER")).unwrap().map_or(0, |version| version.get());
    loop {
        number += 1;
        let version = set(&mut vault, "COUNTER", counter(number).as_bytes());
        assert_eq!(version.get(), number);
        println!("acknowledged {number}");
        if std::io::stdout().flush().is_err() {
            return;
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let home = Home::new();
    let mut before = 0;
    for trial in 0..trials_wanted() {
        let mut child = child("crash::child_counts", &home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = before;
        let number_in =
            |line: &str| line.split("acknowledged ").nth(1).and_then(|number| number.parse().ok());
        // Kill it at another count in each trial, then take in what it still said.
        let enough = before + 3 + trial * 7 % 31;
        while acknowledged < enough {
            let line = lines.next().expect("the child counts on").unwrap();
            acknowledged = number_in(&line).unwrap_or(acknowledged);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            acknowledged = number_in(&line).unwrap_or(acknowledged);
        }

        let vault = home.open();
        let (value, version) = get(&vault, "COUNTER").unwrap();
        assert_eq!(String::from_utf8(value).unwrap(), counter(version));
        assert!(
            version == acknowledged || version == acknowledged + 1,
            "{acknowledged} acknowledged, {version} there"
        );
        let audit = vault.audit().unwrap();
        let sets = audit.iter().filter(|record| matches!(record.event, AuditEvent::Set { .. })).count();
        assert_eq!(u64::try_from(sets).unwrap(), version);
        before = version;
    }
    assert!(before > trials_wanted() * 3);
}
