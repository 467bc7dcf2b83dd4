//! What owners say about their secrets: granted, counted, used up, taken back; and values that are replaced.

use orch_vault::{
    AuditEvent, Entry, ErrorKind, ExpectedVersion, GrantId, GrantTerms, GrantUse, MetaError, OpenMode,
    PlannedUse, Rotation, Secret, SecretMeta, SecretSummary, Spent, ValueError, ValuePlace, Vault,
    VaultError,
};
use time::OffsetDateTime;

use crate::support::*;

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

fn open_at(home: &Home, seconds: i64) -> Vault {
    Vault::open_with_clock(&home.location("default"), OpenMode::Create, Box::new(At(seconds))).unwrap()
}

fn to(host: &str) -> GrantTerms {
    GrantTerms { host: Some(host.into()), ..GrantTerms::default() }
}

fn value(text: &[u8]) -> Secret {
    Secret::new(text.to_vec())
}

fn with_grants(vault: &mut Vault, secret: &str, grants: Vec<GrantTerms>) {
    let meta = SecretMeta { grants: Some(grants), ..SecretMeta::default() };
    vault.set(&name(secret), value(CANARY), meta, ExpectedVersion::Any).unwrap();
}

fn planned(run: &str, host: &str, grant: u32) -> PlannedUse {
    PlannedUse { run: run.into(), secret: name("A"), host: host.into(), grant: Some(GrantId::new(grant)) }
}

fn summary(vault: &Vault, secret: &str) -> SecretSummary {
    vault.summary(&name(secret)).unwrap().unwrap()
}

fn used(vault: &Vault, grant: u32) -> GrantUse {
    let grants = summary(vault, "A").grants;
    grants.iter().find(|one| one.id.get() == grant).unwrap().used
}

#[test]
fn a_run_counts_once_per_grant_and_the_last_run_is_refused() {
    let home = Home::new();
    let mut vault = open_at(&home, 1000);
    let twice = GrantTerms { runs: Some(2), ..to("a.example") };
    with_grants(&mut vault, "A", vec![twice, to("b.example")]);
    // Two hosts of one pattern, or the same use said twice, are one run.
    vault.record_uses(&[planned("run_1", "x.a.example", 1), planned("run_1", "y.a.example", 1)]).unwrap();
    vault.record_uses(&[planned("run_2", "a.example", 1), planned("run_2", "b.example", 2)]).unwrap();
    assert_eq!((used(&vault, 1).runs, used(&vault, 2).runs), (2, 1));
    let found = summary(&vault, "A");
    assert_eq!((found.runs, found.last_used), (2, Some(at(1000))));

    let before = (vault.list().unwrap(), vault.audit().unwrap());
    // All of it or nothing: the other grant, and other runs of the same record, are not counted either.
    let refused = vault.record_uses(&[planned("run_3", "b.example", 2), planned("run_3", "a.example", 1)]);
    let error = refused.unwrap_err();
    assert!(matches!(&error, VaultError::UsedUp { why: Spent::Runs(2), .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::UsedUp);
    assert_eq!((vault.list().unwrap(), vault.audit().unwrap()), before);
    drop(vault);
    assert_eq!(used(&open_at(&home, 2000), 1).runs, 2);
}

#[test]
fn money_is_counted_when_it_was_spent_and_bounds_the_next_run() {
    let home = Home::new();
    let mut vault = home.open();
    with_grants(&mut vault, "A", vec![GrantTerms { cost_micro_usd: Some(1000), ..GrantTerms::default() }]);
    let spent = |run: &str, grant, cost_micro_usd| AuditEvent::UseCounted {
        run: run.into(),
        secret: name("A"),
        host: "h.example".into(),
        uses: 1,
        complete: true,
        grant,
        cost_micro_usd,
    };
    vault.record_uses(&[planned("run_1", "h.example", 1)]).unwrap();
    vault.record(vec![spent("run_1", Some(GrantId::new(1)), 600), spent("run_1", None, 5000)]).unwrap();
    assert_eq!(summary(&vault, "A").grants[0].money_left(), Some(400));
    vault.record_uses(&[planned("run_2", "h.example", 1)]).unwrap();
    // What a call cost is known afterwards: it may be more than what was left.
    vault.record(vec![spent("run_2", Some(GrantId::new(1)), 700)]).unwrap();
    assert_eq!(used(&vault, 1), GrantUse { runs: 2, cost_micro_usd: 1300 });
    let error = vault.record_uses(&[planned("run_3", "h.example", 1)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "grant 1 of A is used up: it was for 0.001 USD, and calls with it cost that much"
    );
    // It is told even of a grant and a secret that are gone by now.
    vault.remove_grant(&name("A"), GrantId::new(1)).unwrap();
    vault.record(vec![spent("run_2", Some(GrantId::new(1)), 1)]).unwrap();
    vault.remove(&name("A")).unwrap();
    vault.record(vec![spent("run_2", Some(GrantId::new(1)), u64::MAX)]).unwrap();
    assert!(vault.verify().unwrap().is_sound());
}

#[test]
fn what_is_gone_or_over_cannot_be_planned() {
    let home = Home::new();
    let mut vault = open_at(&home, 1000);
    with_grants(&mut vault, "A", vec![GrantTerms { expires: Some(at(1500)), ..to("a.example") }]);
    vault.record_uses(&[planned("run_1", "a.example", 1)]).unwrap();
    assert!(matches!(
        vault.record_uses(&[planned("run_1", "a.example", 2)]),
        Err(VaultError::GrantMissing { .. })
    ));
    drop(vault);
    let mut vault = open_at(&home, 1500);
    let over = vault.record_uses(&[planned("run_1", "a.example", 1)]).unwrap_err();
    assert!(matches!(over, VaultError::UsedUp { why: Spent::Expired(_), .. }), "{over}");
    vault.remove(&name("A")).unwrap();
    let gone = vault.record_uses(&[planned("run_1", "a.example", 1)]).unwrap_err();
    assert_eq!((gone.kind(), gone.to_string().as_str()), (ErrorKind::Missing, "the vault holds no A"));
}

#[test]
fn grants_come_and_go_one_by_one_under_numbers_that_are_never_reused() {
    let home = Home::new();
    let mut vault = home.open();
    let missing = vault.grant(&name("A"), to("a.example")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Missing);
    set(&mut vault, "A", CANARY);
    let full = GrantTerms {
        methods: vec!["GET".into()],
        paths: vec!["/repos/**".into()],
        place: Some(ValuePlace::Query("key".into())),
        account: vec!["GET:/v1/files/**".into()],
        agents: vec!["acme/x".into()],
        runs: Some(3),
        cost_micro_usd: None,
        expires: Some(at(4_000_000_000)),
        host: Some("b.example".into()),
    };
    let one = vault.grant(&name("A"), to("a.example")).unwrap();
    let two = vault.grant(&name("A"), full.clone()).unwrap();
    assert_eq!((one.get(), two.get()), (1, 2));
    vault.remove_grant(&name("A"), two).unwrap();
    assert!(matches!(vault.remove_grant(&name("A"), two), Err(VaultError::GrantMissing { .. })));
    assert_eq!(vault.grant(&name("A"), full.clone()).unwrap().get(), 3);
    drop(vault);
    let mut vault = home.open();
    let grants: Vec<_> =
        summary(&vault, "A").grants.into_iter().map(|one| (one.id.get(), one.terms)).collect();
    assert_eq!(grants, [(1, to("a.example")), (3, full)]);
    // A secret that was removed and set again is another one.
    vault.remove(&name("A")).unwrap();
    set(&mut vault, "A", CANARY);
    assert_eq!(summary(&vault, "A").grants, []);
    assert_eq!(vault.grant(&name("A"), to("a.example")).unwrap().get(), 4);
    let events: Vec<_> = vault.audit().unwrap().into_iter().map(|record| record.event).collect();
    let granted = events.iter().filter(|event| matches!(event, AuditEvent::SecretGranted { .. })).count();
    let removed =
        events.iter().filter(|event| matches!(event, AuditEvent::SecretGrantRemoved { .. })).count();
    assert_eq!((granted, removed), (4, 1));
}

#[test]
fn setting_again_keeps_the_grants_unless_new_ones_are_said() {
    let home = Home::new();
    let mut vault = home.open();
    with_grants(&mut vault, "A", vec![to("a.example")]);
    vault.record_uses(&[planned("run_1", "a.example", 1)]).unwrap();
    set(&mut vault, "A", b"another-value-of-it");
    assert_eq!(used(&vault, 1).runs, 1);
    with_grants(&mut vault, "A", Vec::new());
    assert_eq!(summary(&vault, "A").grants, []);
    // What goes into a header cannot become a value that never does.
    let header = GrantTerms { place: Some(ValuePlace::Header("x".into())), ..to("a.example") };
    with_grants(&mut vault, "A", vec![header]);
    let meta = SecretMeta { never_in_header: true, ..SecretMeta::default() };
    let refused =
        vault.set(&name("A"), value(b"line one\nline two"), meta, ExpectedVersion::Any).unwrap_err();
    assert!(matches!(refused, VaultError::Meta(MetaError::HeaderAndNever)));
}

#[test]
fn a_rotated_secret_keeps_what_its_owner_said() {
    let home = Home::new();
    let mut vault = open_at(&home, 1000);
    let rotation = |text: &[u8]| Rotation { value: value(text), expires: None, scrubbable: true };
    assert_eq!(vault.rotate(&name("A"), rotation(CANARY)).unwrap_err().kind(), ErrorKind::Missing);
    let meta =
        SecretMeta { grants: Some(vec![to("a.example")]), expires: Some(at(1600)), ..SecretMeta::default() };
    vault.set(&name("A"), value(CANARY), meta, ExpectedVersion::Any).unwrap();
    vault.record_uses(&[planned("run_1", "a.example", 1)]).unwrap();
    let before = summary(&vault, "A");
    drop(vault);

    // After its end, too: that is when most are rotated.
    let mut vault = open_at(&home, 2000);
    assert_eq!(vault.open_secret(&name("A")).map(|_| ()).unwrap_err().kind(), ErrorKind::Expired);
    let short = vault.rotate(&name("A"), rotation(b"short")).unwrap_err();
    assert!(matches!(short, VaultError::Value(ValueError::Short(5))));
    let after = vault.rotate(&name("A"), rotation(b"another-value-of-it")).unwrap();
    assert_eq!(after, summary(&vault, "A"));
    assert_eq!((after.version.get(), &after.grants, after.runs), (2, &before.grants, 1));
    // It lives as long again as the one before did.
    assert_eq!((after.created, after.updated, after.expires), (at(1000), at(2000), Some(at(2600))));
    assert_ne!(after.fingerprint, before.fingerprint);
    assert_eq!(get(&vault, "A"), Some((b"another-value-of-it".to_vec(), 2)));
    let said = Rotation { expires: Some(at(9000)), ..rotation(CANARY) };
    assert_eq!(vault.rotate(&name("A"), said).unwrap().expires, Some(at(9000)));
    let past = Rotation { expires: Some(at(2000)), ..rotation(CANARY) };
    assert!(matches!(vault.rotate(&name("A"), past), Err(VaultError::Meta(MetaError::Expired(_)))));
    assert!(vault.verify().unwrap().is_sound());
    let events: Vec<_> = vault.audit().unwrap().into_iter().map(|record| record.event).collect();
    assert!(matches!(events.last(), Some(AuditEvent::Rotated { version, .. }) if version.get() == 3));
}

#[test]
fn many_are_set_together_or_not_at_all() {
    let home = Home::with(&["A"]);
    let mut vault = home.open();
    let entry = |secret: &str, text: &[u8], expected| Entry {
        name: name(secret),
        value: value(text),
        meta: SecretMeta::default(),
        expected,
    };
    let before = (vault.list().unwrap(), vault.audit().unwrap());
    for (bad, kind) in [
        (entry("C", b"short", ExpectedVersion::Any), ErrorKind::Usage),
        (entry("A", CANARY, ExpectedVersion::Absent), ErrorKind::Conflict),
        // Twice in one batch: which of the two was meant is anybody's guess.
        (entry("B", CANARY, ExpectedVersion::Any), ErrorKind::Conflict),
    ] {
        let error = vault.set_all(vec![entry("B", CANARY, ExpectedVersion::Any), bad]).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!((vault.list().unwrap(), vault.audit().unwrap()), before);
    }
    let both = vec![entry("B", CANARY, ExpectedVersion::Absent), entry("A", CANARY, ExpectedVersion::Any)];
    let versions: Vec<u64> = vault.set_all(both).unwrap().iter().map(|version| version.get()).collect();
    assert_eq!(versions, [1, 2]);
    assert_eq!(vault.set_all(Vec::new()).unwrap(), []);
    drop(vault);
    let vault = home.open();
    assert_eq!(vault.list().unwrap().len(), 2);
    assert_eq!(vault.audit().unwrap().len(), before.1.len() + 2);
    assert!(vault.verify().unwrap().is_sound());
}

#[test]
fn grants_that_no_row_can_hold_are_refused() {
    let home = Home::new();
    let mut vault = home.open();
    let long = GrantTerms { agents: vec!["a/".to_owned() + &"b".repeat(200); 64], ..to("a.example") };
    let meta = SecretMeta { grants: Some(vec![long.clone(); 8]), ..SecretMeta::default() };
    let refused = vault.set(&name("A"), value(CANARY), meta, ExpectedVersion::Any).unwrap_err();
    assert!(matches!(refused, VaultError::Meta(MetaError::Large(_))), "{refused}");
    set(&mut vault, "A", CANARY);
    let mut added = 0;
    let refused = loop {
        match vault.grant(&name("A"), long.clone()) {
            Ok(_) => added += 1,
            Err(error) => break error,
        }
    };
    assert!(added > 2 && matches!(refused, VaultError::Meta(MetaError::Large(_))), "{added} {refused}");
    // There is still room for the counters.
    vault.record_uses(&[planned("run_1", "a.example", 1)]).unwrap();
    assert!(vault.verify().unwrap().is_sound());
}
