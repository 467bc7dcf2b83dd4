//! What each operation does when nobody interferes.

use orch_vault::{
    AuditEvent, Depth, ErrorKind, ExpectedVersion, GrantId, GrantTerms, Layers, MetaError, OpenMode,
    PlannedUse, Secret, SecretMeta, Source, ValueError, ValuePlace, Vault, VaultError, Wanted, resolve_keys,
};
use time::OffsetDateTime;

use crate::support::*;

#[test]
fn what_was_set_is_there_after_reopening() {
    let home = Home::new();
    let mut vault = home.open();
    assert!(vault.exists());
    assert_eq!(set(&mut vault, "A", CANARY).get(), 1);
    assert_eq!(set(&mut vault, "A", b"another-value-of-it").get(), 2);
    assert_eq!(set(&mut vault, "B", CANARY).get(), 1);
    let mut vault = vault;
    for round in 0..2 {
        if round == 1 {
            drop(vault);
            vault = home.open();
        }
        assert_eq!(get(&vault, "A"), Some((b"another-value-of-it".to_vec(), 2)));
        assert_eq!(get(&vault, "B"), Some((CANARY.to_vec(), 1)));
        assert_eq!(get(&vault, "C"), None);
        assert!(vault.contains(&name("A")).unwrap() && !vault.contains(&name("C")).unwrap());
    }
}

#[test]
fn values_of_every_size_come_back() {
    let home = Home::new();
    let mut vault = home.open();
    let value =
        |length: usize| (0..length).map(|at| b'!' + u8::try_from(at % 90).unwrap()).collect::<Vec<u8>>();
    let lengths = [16, 59, 60, 61, 4000, 4096, 8200, 65_535, 65_536];
    for length in lengths {
        set(&mut vault, &format!("A{length}"), &value(length));
    }
    drop(vault);
    let vault = home.open();
    for length in lengths {
        assert_eq!(get(&vault, &format!("A{length}")).unwrap().0, value(length));
    }
}

#[test]
fn listing_shows_what_it_should_and_no_value() {
    let home = Home::new();
    let mut vault =
        Vault::open_with_clock(&home.location("default"), OpenMode::Create, Box::new(At(1000))).unwrap();
    let terms = GrantTerms {
        host: Some("*.example.com".into()),
        place: Some(ValuePlace::Header("authorization".into())),
        agents: vec!["acme/summarizer".into()],
        ..GrantTerms::default()
    };
    let meta = SecretMeta {
        grants: Some(vec![terms.clone()]),
        expires: Some(OffsetDateTime::from_unix_timestamp(5000).unwrap()),
        ..SecretMeta::default()
    };
    let put = |vault: &mut Vault, secret: &str, value: &[u8], meta: &SecretMeta| {
        vault.set(&name(secret), Secret::new(value.to_vec()), meta.clone(), ExpectedVersion::Any).unwrap()
    };
    put(&mut vault, "B", CANARY, &meta);
    put(&mut vault, "A", b"short", &SecretMeta { scrubbable: false, ..SecretMeta::default() });
    drop(vault);
    let mut vault =
        Vault::open_with_clock(&home.location("default"), OpenMode::Create, Box::new(At(2000))).unwrap();
    put(&mut vault, "B", b"0123456789abcdefWXYZ", &meta);

    let list = vault.list().unwrap();
    let [a, b] = list.as_slice() else { panic!("{list:?}") };
    assert_eq!((a.name.as_str(), a.version.get(), a.mask.as_deref()), ("A", 1, None));
    assert!(!a.scrubbable);
    assert_eq!((b.name.as_str(), b.version.get(), b.mask.as_deref()), ("B", 2, Some("WXYZ")));
    assert_eq!((b.created.unix_timestamp(), b.updated.unix_timestamp()), (1000, 2000));
    let [grant] = b.grants.as_slice() else { panic!("{b:?}") };
    // What was said anew took the place of what was said before, under a number of its own.
    assert_eq!((grant.id.get(), &grant.terms, b.expires), (2, &terms, meta.expires));
    assert_ne!(a.fingerprint, b.fingerprint);
    assert!(!format!("{list:?}").contains("short") && !format!("{list:?}").contains("0123456789abcdef"));
    let (_, opened) = vault.open_secret(&name("B")).unwrap().unwrap();
    assert_eq!(opened, *b);
}

#[test]
fn the_fingerprint_tells_a_changed_value_from_the_same_one() {
    let home = Home::with(&["A"]);
    let mut vault = home.open();
    let fingerprint = |vault: &Vault| vault.list().unwrap().remove(0).fingerprint;
    let first = fingerprint(&vault);
    set(&mut vault, "A", value_of("A").as_bytes());
    assert_eq!(fingerprint(&vault), first);
    set(&mut vault, "A", CANARY);
    assert_ne!(fingerprint(&vault), first);
    // The same value in another vault has another one.
    let other = Home::with(&["A"]);
    assert_ne!(fingerprint(&other.open()), first);
}

#[test]
fn compare_and_swap() {
    let home = Home::new();
    let mut vault = home.open();
    let mut attempt =
        |expected| vault.set(&name("A"), Secret::new(CANARY.to_vec()), SecretMeta::default(), expected);
    let one = attempt(ExpectedVersion::Absent).unwrap();
    let two = attempt(ExpectedVersion::Exactly(one)).unwrap();
    assert_eq!((one.get(), two.get()), (1, 2));
    for (expected, text) in [
        (ExpectedVersion::Absent, "A was changed by somebody else: none was expected, version 2 is there"),
        (
            ExpectedVersion::Exactly(one),
            "A was changed by somebody else: version 1 was expected, version 2 is there",
        ),
    ] {
        let error = attempt(expected).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Conflict, text));
    }
    assert_eq!(attempt(ExpectedVersion::Any).unwrap().get(), 3);
    vault.remove(&name("A")).unwrap();
    let error = vault
        .set(&name("A"), Secret::new(CANARY.to_vec()), SecretMeta::default(), ExpectedVersion::Exactly(two))
        .unwrap_err();
    assert_eq!(error.to_string(), "A was changed by somebody else: version 2 was expected, there is none");
}

#[test]
fn a_removed_secret_is_gone_and_its_versions_do_not_come_back() {
    let home = Home::with(&["A", "B"]);
    let mut vault = home.open();
    assert_eq!(vault.remove(&name("A")).unwrap().map(|version| version.get()), Some(1));
    assert_eq!(vault.remove(&name("A")).unwrap(), None);
    assert_eq!(vault.remove(&name("NEVER")).unwrap(), None);
    drop(vault);
    let mut vault = home.open();
    assert_eq!(get(&vault, "A"), None);
    assert!(!vault.contains(&name("A")).unwrap());
    assert_eq!(vault.list().unwrap().len(), 1);
    let absent = ExpectedVersion::Absent;
    let version = vault.set(&name("A"), Secret::new(CANARY.to_vec()), SecretMeta::default(), absent).unwrap();
    assert_eq!(version.get(), 2);
    assert_eq!(get(&vault, "A"), Some((CANARY.to_vec(), 2)));
}

#[test]
fn workspaces_do_not_see_each_other() {
    let home = Home::new();
    let open = |workspace: &str| Vault::open(&home.location(workspace), OpenMode::Create).unwrap();
    set(&mut open("one"), "A", b"the value in one");
    set(&mut open("two"), "A", b"the value in two");
    set(&mut open("two"), "B", CANARY);
    assert_eq!(get(&open("one"), "A"), Some((b"the value in one".to_vec(), 1)));
    assert_eq!(get(&open("two"), "A"), Some((b"the value in two".to_vec(), 1)));
    assert_eq!(open("one").list().unwrap().len(), 1);
    assert_eq!(open("two").list().unwrap().len(), 2);
    assert_eq!(get(&open("one"), "B"), None);
    open("one").remove(&name("A")).unwrap();
    assert!(open("two").contains(&name("A")).unwrap());
    for workspace in ["one", "two"] {
        assert_eq!(open(workspace).audit().unwrap().len(), 3);
    }
}

#[test]
fn an_expired_secret_is_listed_and_not_handed_out() {
    let home = Home::new();
    let at = |seconds| {
        Vault::open_with_clock(&home.location("default"), OpenMode::Create, Box::new(At(seconds))).unwrap()
    };
    let meta = SecretMeta {
        expires: Some(OffsetDateTime::from_unix_timestamp(2000).unwrap()),
        ..SecretMeta::default()
    };
    let set = |vault: &mut Vault| {
        vault.set(&name("A"), Secret::new(CANARY.to_vec()), meta.clone(), ExpectedVersion::Any).map(|_| ())
    };
    set(&mut at(1000)).unwrap();
    assert!(get(&at(1999), "A").is_some());
    for now in [2000, 3000] {
        let vault = at(now);
        let error = vault.open_secret(&name("A")).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Expired);
        assert_eq!(error.to_string(), "A expired 1970-01-01 0:33:20.0 +00:00:00");
        assert_eq!(vault.list().unwrap().len(), 1);
    }
    assert!(matches!(set(&mut at(2000)), Err(VaultError::Meta(MetaError::Expired(_)))));
    // A clock that went backwards: nothing breaks, and the audit log keeps its order.
    set(&mut at(500)).unwrap();
    let audit = at(500).audit().unwrap();
    let times: Vec<i64> = audit.iter().map(|record| record.time.unix_timestamp()).collect();
    assert_eq!(times, [1000, 1000, 500]);
}

#[test]
fn the_audit_log_says_what_happened() {
    let home = Home::new();
    let mut vault = home.open();
    let terms = GrantTerms { host: Some("h.example".into()), ..GrantTerms::default() };
    let meta = SecretMeta { grants: Some(vec![terms.clone()]), ..SecretMeta::default() };
    vault.set(&name("A"), Secret::new(CANARY.to_vec()), meta, ExpectedVersion::Any).unwrap();
    let planned = |run: &str, host: &str| PlannedUse {
        run: run.into(),
        secret: name("A"),
        host: host.into(),
        grant: None,
    };
    let uses = [planned("run_2", "b"), planned("run_1", "a"), planned("run_2", "b"), planned("run_2", "a")];
    vault.record_uses(&uses).unwrap();
    vault.record_uses(&[]).unwrap();
    vault.remove(&name("A")).unwrap();
    drop(vault);

    let vault = home.open();
    let fingerprint = match &vault.audit().unwrap()[1].event {
        AuditEvent::Set { fingerprint, .. } => fingerprint.clone(),
        other => panic!("{other:?}"),
    };
    let version = vault.audit().unwrap().iter().find_map(|record| match record.event {
        AuditEvent::Removed { version, .. } => Some(version),
        _ => None,
    });
    let version = version.unwrap();
    let used = |run: &str, host: &str| AuditEvent::UsePlanned {
        run: run.into(),
        secret: name("A"),
        host: host.into(),
        grant: None,
    };
    let expected = [
        AuditEvent::Created,
        AuditEvent::Set { secret: name("A"), version, fingerprint },
        AuditEvent::SecretGranted { secret: name("A"), grant: GrantId::new(1), terms },
        used("run_1", "a"),
        used("run_2", "a"),
        used("run_2", "b"),
        AuditEvent::Removed { secret: name("A"), version },
    ];
    let audit = vault.audit().unwrap();
    assert_eq!(audit.iter().map(|record| record.event.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(audit.iter().map(|record| record.sequence).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    assert!(!format!("{audit:?}").contains("canary"));
}

#[test]
fn without_a_store_the_vault_is_empty_and_nothing_is_created() {
    let home = Home::new();
    for mode in [OpenMode::ReadOnlyIfExists, OpenMode::WriteIfExists] {
        let mut vault = home.try_open(mode).unwrap();
        assert!(!vault.exists());
        assert_eq!((vault.list().unwrap().len(), vault.audit().unwrap().len()), (0, 0));
        assert_eq!(get(&vault, "A"), None);
        let refused =
            vault.set(&name("A"), Secret::new(CANARY.to_vec()), SecretMeta::default(), ExpectedVersion::Any);
        assert!(matches!(refused, Err(VaultError::ReadOnly)));
        assert!(matches!(vault.remove(&name("A")), Err(VaultError::ReadOnly)));
        let planned = PlannedUse { run: "run_1".into(), secret: name("A"), host: "h".into(), grant: None };
        assert!(matches!(vault.record_uses(&[planned]), Err(VaultError::ReadOnly)));
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_vault_opened_for_reading_records_uses_and_changes_no_secret() {
    let home = Home::with(&["A"]);
    let mut vault = home.try_open(OpenMode::ReadOnlyIfExists).unwrap();
    assert!(get(&vault, "A").is_some());
    let refused =
        vault.set(&name("A"), Secret::new(CANARY.to_vec()), SecretMeta::default(), ExpectedVersion::Any);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(vault.remove(&name("A")).unwrap_err().kind(), ErrorKind::Usage);
    vault
        .record_uses(&[PlannedUse { run: "run_1".into(), secret: name("A"), host: "h".into(), grant: None }])
        .unwrap();
    assert_eq!(vault.audit().unwrap().len(), 3);
    drop(vault);
    let mut vault = home.try_open(OpenMode::WriteIfExists).unwrap();
    assert_eq!(set(&mut vault, "A", CANARY).get(), 2);
}

#[test]
fn refused_input_changes_nothing() {
    let home = Home::with(&["A"]);
    let mut vault = home.open();
    let before = (vault.list().unwrap(), vault.audit().unwrap());
    let short =
        vault.set(&name("A"), Secret::new(b"short".to_vec()), SecretMeta::default(), ExpectedVersion::Any);
    assert!(matches!(short, Err(VaultError::Value(ValueError::Short(5)))));
    let place = Some(ValuePlace::Header("not a header".into()));
    let grants = Some(vec![GrantTerms { place, ..GrantTerms::default() }]);
    let meta = SecretMeta { grants, ..SecretMeta::default() };
    let header = vault.set(&name("A"), Secret::new(CANARY.to_vec()), meta, ExpectedVersion::Any);
    assert!(matches!(header, Err(VaultError::Meta(MetaError::Header))));
    let planned = PlannedUse { run: "run 1".into(), secret: name("A"), host: "h".into(), grant: None };
    assert!(matches!(vault.record_uses(&[planned]), Err(VaultError::Text { what: "the run's id" })));
    assert_eq!((vault.list().unwrap(), vault.audit().unwrap()), before);
    let workspace = Vault::open(&home.location("a b"), OpenMode::Create);
    assert!(matches!(workspace, Err(VaultError::Text { what: "the workspace" })));
}

#[test]
fn a_vault_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Vault>();
    shared::<VaultError>();
    shared::<Secret>();
}

#[test]
fn keys_are_resolved_from_a_real_vault() {
    let home = Home::with(&["OPENAI_API_KEY"]);
    let vault = home.open();
    let names = ["OPENAI_API_KEY".to_owned(), "not-a-secret-name".to_owned()];
    let wanted = [Wanted { provider: "openai", names: &names }];
    let none = |_: &str| None;
    let resolution = resolve_keys(&wanted, &[], &Layers::new(none, Some(&vault)), Depth::First).unwrap();
    let key = resolution.found.first().unwrap();
    assert_eq!((key.source, key.version), (Source::Vault, Some(1)));
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "from the environment".into());
    let resolution = resolve_keys(&wanted, &[], &Layers::new(env, Some(&vault)), Depth::All).unwrap();
    let key = resolution.found.first().unwrap();
    assert_eq!(
        (key.source, key.shadows.first().map(|shadow| shadow.source)),
        (Source::Env, Some(Source::Vault))
    );
}

#[test]
fn a_value_is_in_none_of_the_files() {
    let home = Home::new();
    let mut vault = Vault::open(&home.location("workspace-canary"), OpenMode::Create).unwrap();
    let host = Some("host-canary.example".into());
    let grants = Some(vec![GrantTerms { host, ..GrantTerms::default() }]);
    let meta = SecretMeta { grants, ..SecretMeta::default() };
    for round in 0..20 {
        let value = Secret::new(CANARY.to_vec());
        vault.set(&name(&format!("NAME_CANARY_{round}")), value, meta.clone(), ExpectedVersion::Any).unwrap();
    }
    vault
        .record_uses(&[PlannedUse {
            run: "run_canary".into(),
            secret: name("NAME_CANARY_0"),
            host: "h".into(),
            grant: None,
        }])
        .unwrap();
    drop(vault);
    let secrets: Vec<Vec<u8>> = encodings(CANARY)
        .into_iter()
        .chain([
            b"host-canary".to_vec(),
            b"NAME_CANARY".to_vec(),
            b"run_canary".to_vec(),
            b"workspace-canary".to_vec(),
        ])
        .collect();
    let files = files_under(&home.path());
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let content = std::fs::read(&file).unwrap();
        for secret in &secrets {
            let found = content.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} in {}", String::from_utf8_lossy(secret), file.display());
        }
    }
}

#[test]
fn what_happens_outside_is_on_record_in_order() {
    let home = Home::with(&["A"]);
    let run = || "run_1".to_owned();
    let events = vec![
        AuditEvent::Granted { agent: "acme/a".into(), digest: "sha256:00".into(), capabilities: 2 },
        AuditEvent::Denied { run: run(), host: String::new(), reason: "not_granted".into() },
        AuditEvent::OpenFailed { run: run(), reason: "secret_expired".into() },
        AuditEvent::UseCounted {
            run: run(),
            secret: name("A"),
            host: "h.example".into(),
            uses: 7,
            complete: true,
            grant: None,
            cost_micro_usd: 0,
        },
        AuditEvent::GrantRemoved { digest: "sha256:00".into() },
        AuditEvent::BudgetReleased { budget: "team".into(), by: "tok_1".into() },
    ];
    // A vault opened for reading takes them: they are about others.
    let mut vault = home.try_open(OpenMode::ReadOnlyIfExists).unwrap();
    vault.record(events.clone()).unwrap();
    let log = vault.audit().unwrap();
    let logged: Vec<_> = log[2..].iter().map(|record| record.event.clone()).collect();
    assert_eq!(logged, events);

    // All of them, or none.
    let bad = AuditEvent::Denied { run: "two words".into(), host: String::new(), reason: "x".into() };
    let error = vault.record(vec![events[0].clone(), bad]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(vault.audit().unwrap().len(), log.len());
    // From a time on: these were all written within one second or two.
    let later = log.last().unwrap().time + time::Duration::hours(1);
    assert_eq!(vault.audit_since(Some(later)).unwrap(), []);
    assert_eq!(vault.audit_since(Some(log[0].time)).unwrap().len(), log.len());
    drop(vault);
    let mut nothing = Home::new().try_open(OpenMode::ReadOnlyIfExists).unwrap();
    assert!(matches!(nothing.record(events), Err(VaultError::ReadOnly)));
}
