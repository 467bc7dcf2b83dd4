//! What is put on record is read as it was written.

use time::macros::datetime;

use super::*;

#[tokio::test]
async fn a_run_is_read_as_it_was_written() {
    let stage = stage();
    let new = NewRun { created: datetime!(2026-01-31 23:59:59.999_999 UTC), ..new_run("default") };
    let run = accepted(&stage.store, new.clone()).await;
    stage.store.started(&run, at(1)).await.expect("started");
    let error = json!({"code": "agent_failed", "message": "exit 7", "hints": [], "details": {}});
    let report = json!({"output": "ünï", "usage": {"input_tokens": 1}});
    let ended = RunEnd {
        exit_code: 1,
        error: Some(error.clone()),
        report: Some(report.clone()),
        ..end(RunStatus::Failed)
    };
    stage.store.finish(&run, ended).await.expect("ended");
    let row = stage.store.run("default", &run).await.expect("read").expect("there");
    let expected = RunRow {
        run: run.clone(),
        workspace: new.workspace,
        agent: new.agent,
        version: new.version,
        digest: new.digest,
        caller: new.caller,
        token: new.token,
        member: new.member,
        instance: new.instance,
        status: RunStatus::Failed,
        created: new.created,
        started: Some(at(1)),
        finished: Some(at(9)),
        exit_code: Some(1),
        error: Some(error),
        report: Some(report),
        request: Value::Null,
    };
    assert_eq!(row, expected);
    assert_eq!(stage.store.run("other", &run).await.expect("read"), None, "another workspace's");
}

#[tokio::test]
async fn a_run_whose_turn_has_come_is_running_from_the_start() {
    let stage = stage();
    let run = accepted(&stage.store, NewRun { started: Some(at(1)), ..new_run("default") }).await;
    let row = stage.store.run("default", &run).await.expect("read").expect("there");
    assert_eq!((row.status, row.started), (RunStatus::Running, Some(at(1))));
}

#[tokio::test]
async fn long_documents_lie_in_files_that_blobs_do_not_reach() {
    let stage = stage();
    let long = json!("y".repeat(documents::INLINE));
    let run = accepted(&stage.store, NewRun { request: long.clone(), ..new_run("default") }).await;
    let row = stage.store.run("default", &run).await.expect("read").expect("there");
    assert_eq!((row.request, row.report), (long, None));
    let report = json!({"output": "z".repeat(100_000)});
    let ended = RunEnd { report: Some(report.clone()), ..end(RunStatus::Succeeded) };
    stage.store.finish(&run, ended).await.expect("ended");
    let row = stage.store.run("default", &run).await.expect("read").expect("there");
    assert_eq!((row.request, row.report), (Value::Null, Some(report.clone())));
    let digest = Digest::of(report.to_string().as_bytes());
    let hex = digest.to_hex();
    let file = stage.folder.path().join("documents").join(&hex[..2]).join(&hex);
    assert!(file.exists());
    assert_eq!(stage.store.blobs().get(&digest).await.expect("read"), None);
    fs::write(&file, "{}").expect("damaged");
    assert_eq!(stage.store.run("default", &run).await.expect_err("it is damaged").code(), "blob_damaged");
    fs::remove_file(file).expect("removed");
    let failure = stage.store.run("default", &run).await.expect_err("it is missing");
    assert_eq!(failure.code(), "blob_damaged");
    assert!(failure.message().contains("missing"), "{failure}");
}

#[tokio::test]
async fn usage_adds_up_by_what_is_asked() {
    let stage = stage();
    let run = RunId::random();
    let of_run = |model: &str, time| CallRow {
        run: Some(run.clone()),
        agent: Some("acme/writer".to_owned()),
        time,
        ..call("default", model, Some(100))
    };
    let day = datetime!(2026-01-31 12:00 UTC);
    for row in [
        of_run("a", day),
        of_run("b", day + time::Duration::DAY),
        CallRow { time: day, ..call("default", "a", Some(11)) },
        CallRow { time: day, provider: "local".to_owned(), ..call("default", "free", None) },
        CallRow { time: day, ..call("other", "a", Some(1)) },
    ] {
        stage.store.record_call(&row);
    }
    stage.store.flush().await.expect("flushed");
    let add_up = async |by| {
        let query = UsageQuery { only_of: None, since: None, until: None, by };
        let rows = stage.store.usage("default", &query).await.expect("added up");
        rows.into_iter().map(|row| (row.key, row.runs, row.calls, row.cost_micro_usd)).collect::<Vec<_>>()
    };
    let row = |key: &str, runs, calls, cost| (key.to_owned(), runs, calls, cost);
    assert_eq!(add_up(UsageBy::Total).await, [row("", 1, 4, None)]);
    assert_eq!(
        add_up(UsageBy::Day).await,
        [row("2026-01-31", 1, 3, None), row("2026-02-01", 1, 1, Some(100))]
    );
    assert_eq!(add_up(UsageBy::Agent).await, [row("", 0, 2, None), row("acme/writer", 1, 2, Some(200))]);
    assert_eq!(
        add_up(UsageBy::Model).await,
        [row("local/free", 0, 1, None), row("openai/a", 1, 2, Some(111)), row("openai/b", 1, 1, Some(100))]
    );
    assert_eq!(add_up(UsageBy::Provider).await, [row("local", 0, 1, None), row("openai", 1, 3, Some(211))]);
    let query = UsageQuery {
        only_of: None,
        since: Some(day),
        until: Some(day + time::Duration::DAY),
        by: UsageBy::Model,
    };
    let rows = stage.store.usage("default", &query).await.expect("added up");
    let keys: Vec<_> = rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["local/free", "openai/a"], "from `since` on, before `until`");
    assert_eq!((rows[1].input_tokens, rows[1].output_tokens), (20, 10));
    let none =
        stage.store.usage("nobody", &UsageQuery { by: UsageBy::Total, ..query }).await.expect("added up");
    assert_eq!((none[0].calls, none[0].cost_micro_usd), (0, Some(0)));
}

#[tokio::test]
async fn calls_of_a_run_are_stored_while_it_goes_on_and_counted_once() {
    let stage = stage();
    let [run, cut_off] =
        [accepted(&stage.store, new_run("default")).await, accepted(&stage.store, new_run("default")).await];
    let calls = |run: &RunId, models: &[&str]| -> Vec<CallRow> {
        models
            .iter()
            .map(|model| CallRow { run: Some(run.clone()), ..call("default", model, Some(1)) })
            .collect()
    };
    let total = async || {
        let query = UsageQuery { only_of: None, since: None, until: None, by: UsageBy::Total };
        stage.store.usage("default", &query).await.expect("added up")[0].calls
    };
    stage.store.record_calls(0, calls(&run, &["a", "a"]));
    stage.store.record_calls(2, calls(&run, &["b"]));
    stage.store.record_calls(0, calls(&cut_off, &["x"]));
    stage.store.flush().await.expect("flushed");
    assert_eq!(total().await, 4);
    // The end brings all of them: those of before, and one that nobody stored yet.
    let all = calls(&run, &["a", "a", "b", "c"]);
    stage
        .store
        .finish(&run, RunEnd { calls: all.clone(), ..end(RunStatus::Succeeded) })
        .await
        .expect("ended");
    assert_eq!(total().await, 5);
    assert_eq!(stage.store.calls(&run).await.expect("read"), all);
    // A run that nobody ended keeps what was stored of it.
    assert_eq!(stage.store.calls(&cut_off).await.expect("read"), calls(&cut_off, &["x"]));
    assert_eq!(stage.store.calls(&RunId::random()).await.expect("read"), []);
}

#[tokio::test]
async fn counts_that_cannot_be_true_do_not_spoil_sums() {
    let stage = stage();
    for _ in 0..3 {
        stage.store.record_call(&CallRow {
            input_tokens: u64::MAX,
            output_tokens: i64::MAX as u64,
            ..call("default", "a", Some(u64::MAX))
        });
    }
    stage.store.flush().await.expect("flushed");
    let query = UsageQuery { only_of: None, since: None, until: None, by: UsageBy::Total };
    let rows = stage.store.usage("default", &query).await.expect("added up");
    assert_eq!((rows[0].input_tokens, rows[0].cost_micro_usd), (3 * COUNT_LIMIT, Some(3 * COUNT_LIMIT)));
}

#[tokio::test]
async fn tokens_are_found_by_hash_and_revoked_once() {
    let stage = stage();
    let token = TokenRow {
        id: "tok_a".to_owned(),
        workspace: "default".to_owned(),
        name: "laptop".to_owned(),
        hash: [7; 32],
        scopes: vec!["run".to_owned(), "llm".to_owned()],
        created: at(0),
        expires: Some(at(100)),
        revoked: None,
        last_used: None,
    };
    stage.store.add_token(token.clone()).await.expect("added");
    for again in
        [TokenRow { hash: [8; 32], ..token.clone() }, TokenRow { id: "tok_b".to_owned(), ..token.clone() }]
    {
        assert_eq!(stage.store.add_token(again).await.expect_err("taken").code(), "conflict");
    }
    assert_eq!(stage.store.token([7; 32]).await.expect("read"), Some(token.clone()));
    assert_eq!(stage.store.token([9; 32]).await.expect("read"), None);
    stage.store.token_used("tok_a", at(5));
    stage.store.token_used("tok_a", at(3));
    assert!(!stage.store.revoke_token("other", "tok_a", at(6)).await.expect("asked"), "not theirs");
    assert!(stage.store.revoke_token("default", "tok_a", at(6)).await.expect("asked"));
    assert!(!stage.store.revoke_token("default", "tok_a", at(7)).await.expect("asked"));
    let expected = TokenRow { revoked: Some(at(6)), last_used: Some(at(5)), ..token };
    assert_eq!(stage.store.tokens().await.expect("read"), [expected]);
}

fn agent(content: &[u8]) -> AgentRow {
    AgentRow {
        digest: Digest::of(content),
        name: "acme/writer".parse().expect("a name"),
        version: semver::Version::new(1, 0, 0),
        manifest: "name: acme/writer\n".to_owned(),
        format: orch_manifests::Format::Yaml,
        module: Digest::of(b"module"),
        bare: false,
    }
}

fn version(number: &str, content: &[u8]) -> VersionRow {
    VersionRow {
        name: "acme/writer".parse().expect("a name"),
        version: number.parse().expect("a version"),
        digest: Digest::of(content),
        description: Some(format!("what {number} does")),
        size: 17,
        published: at(0),
        publisher: "tok_1".to_owned(),
        workspace: "default".to_owned(),
    }
}

#[tokio::test]
async fn an_organisation_belongs_to_who_published_in_it_first() {
    let stage = stage();
    for content in [&b"one"[..], b"two"] {
        stage.store.put_agent(agent(content)).await.expect("stored");
    }
    assert_eq!(stage.store.publish(version("1.0.0", b"one")).await.expect("published"), Published::New);
    let theirs = |name: &str, number: &str| VersionRow {
        name: name.parse().expect("a name"),
        workspace: "others".to_owned(),
        ..version(number, b"two")
    };
    for name in ["acme/writer", "acme/another"] {
        let published = stage.store.publish(theirs(name, "9.0.0")).await.expect("answered");
        assert_eq!(published, Published::Foreign, "{name}");
    }
    for name in ["acme-two/writer", "acm/e"] {
        let published = stage.store.publish(theirs(name, "1.0.0")).await.expect("answered");
        assert_eq!(published, Published::New, "{name}");
    }
}

#[tokio::test]
async fn content_is_stored_once_and_read_as_it_was_written() {
    let stage = stage();
    let bare = AgentRow { bare: true, format: orch_manifests::Format::Json, ..agent(b"two") };
    for row in [agent(b"one"), bare.clone(), agent(b"one")] {
        stage.store.put_agent(row).await.expect("stored");
    }
    assert_eq!(stage.store.agent(&Digest::of(b"one")).await.expect("read"), Some(agent(b"one")));
    assert_eq!(stage.store.agent(&bare.digest).await.expect("read"), Some(bare));
    assert_eq!(stage.store.agent(&Digest::of(b"three")).await.expect("read"), None);
}

#[tokio::test]
async fn a_version_is_published_once() {
    let stage = stage();
    for content in [b"one", b"two"] {
        stage.store.put_agent(agent(content)).await.expect("stored");
    }
    let publish = async |row| stage.store.publish(row).await.expect("answered");
    assert_eq!(publish(version("1.0.0", b"one")).await, Published::New);
    assert_eq!(publish(version("1.0.0", b"one")).await, Published::Same);
    assert_eq!(publish(version("1.0.0", b"two")).await, Published::Other(Digest::of(b"one")));
    let failure = stage.store.publish(version("2.0.0", b"nothing")).await.expect_err("no content");
    assert_eq!(failure.code(), "defect");
    for number in ["1.10.0", "1.9.0", "2.0.0-rc.1"] {
        publish(version(number, b"two")).await;
    }
    let versions = stage.store.versions(&"acme/writer".parse().expect("a name")).await.expect("read");
    let numbers: Vec<_> = versions.iter().map(|row| row.version.to_string()).collect();
    assert_eq!(numbers, ["2.0.0-rc.1", "1.10.0", "1.9.0", "1.0.0"], "by meaning, not by letters");
    assert_eq!(versions[3], version("1.0.0", b"one"));
    let agents = stage.store.agents().await.expect("read");
    assert_eq!(agents.len(), 1);
    assert_eq!((agents[0].latest.to_string().as_str(), agents[0].versions), ("1.10.0", 4));
    assert_eq!(agents[0].description.as_deref(), Some("what 1.10.0 does"));
}

#[tokio::test]
async fn of_two_who_publish_the_same_version_one_is_first() {
    let stage = stage();
    let other = Store::open(stage.folder.path()).expect("opened once more");
    for content in [b"one", b"two"] {
        stage.store.put_agent(agent(content)).await.expect("stored");
    }
    let (one, two) =
        tokio::join!(stage.store.publish(version("1.0.0", b"one")), other.publish(version("1.0.0", b"two")));
    let outcomes = [one.expect("answered"), two.expect("answered")];
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Published::New).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Published::Other(_))).count(), 1);
}

#[tokio::test]
async fn a_grant_holds_for_one_content_in_one_workspace() {
    let stage = stage();
    let grant = |content: &[u8], capabilities: &[&str]| GrantRow {
        workspace: "default".to_owned(),
        agent: "acme/writer".parse().expect("a name"),
        digest: Digest::of(content),
        capabilities: capabilities.iter().map(|text| (*text).to_owned()).collect(),
        granted_at: at(0),
        granted_by: "tok_1".to_owned(),
    };
    let other_agent = GrantRow { agent: "acme/other".parse().expect("a name"), ..grant(b"three", &["x"]) };
    let other_workspace = GrantRow { workspace: "other".to_owned(), ..grant(b"one", &["y"]) };
    for row in [grant(b"one", &["a", "b"]), grant(b"two", &["c"]), other_agent.clone(), other_workspace] {
        stage.store.put_grant(row).await.expect("granted");
    }
    let name = "acme/writer".parse().expect("a name");
    let of = async || stage.store.grants_of("default", &name).await.expect("read");
    assert_eq!(of().await, [grant(b"two", &["c"]), grant(b"one", &["a", "b"])]);
    // The list is replaced, and the grant is the newest now, whatever the clock says.
    let narrower = GrantRow { granted_at: at(-1000), ..grant(b"one", &["a"]) };
    stage.store.put_grant(narrower.clone()).await.expect("granted");
    assert_eq!(of().await, [narrower.clone(), grant(b"two", &["c"])]);
    let all = stage.store.grants("default").await.expect("read");
    assert_eq!(all, [narrower, other_agent, grant(b"two", &["c"])]);
    assert!(stage.store.remove_grant("default", &Digest::of(b"one")).await.expect("asked"));
    assert!(!stage.store.remove_grant("default", &Digest::of(b"one")).await.expect("asked"));
    assert_eq!(stage.store.grants("other").await.expect("read").len(), 1);
}
